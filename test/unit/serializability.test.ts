import { expect } from 'chai';
import fc from 'fast-check';
import { components, shortestCycle } from '../helpers/cycles.js';
import {
  type Anomaly,
  bankInvariant,
  expectSerializable,
  findAnomaly,
  type Transaction,
  type VersionOf,
} from '../helpers/serializability.js';

/** `'x1 y2'`: context x at version 1, y at version 2. With `x1@T2`: the version tells that T2 wrote it. */
const versions = (text: string): (VersionOf & { writer?: string })[] =>
  text
    .split(' ')
    .filter(Boolean)
    .map((one) => {
      const [, id = '', version, writer] = /^([a-z])(\d+)(?:@(.*))?$/.exec(one) ?? [];
      return { id, version: Number(version), ...(writer === undefined ? {} : { writer }) };
    });

/** All of them at the same time, where nothing else is said. */
const transaction = (id: string, reads: string, writes: string, more: Partial<Transaction> = {}): Transaction => ({
  id,
  reads: versions(reads),
  writes: versions(writes),
  status: 'committed',
  start: 0,
  end: 100,
  ...more,
});
const kindsOf = (anomaly: Anomaly | null): string[] => (anomaly?.cycle ?? []).map(({ kind }) => kind);

describe('the checker of serializability', () => {
  describe('by hand', () => {
    it('accepts nothing at all, and transactions one after the other', () => {
      expect(findAnomaly([])).to.equal(null);
      const fine = [
        transaction('T1', 'x0 y0', 'x1 y1', { end: 1 }),
        transaction('T2', 'x1 y1', 'x2', { start: 2, end: 3 }),
        transaction('T3', 'x2 y1', 'y2', { start: 4, end: 5 }),
        transaction('T4', 'x2 y2', '', { start: 6, end: 7 }),
      ];
      expectSerializable(fine, { realTime: true });
      expectSerializable(fine.toReversed(), { realTime: true });
    });

    it('accepts a read of the past that nothing contradicts, but not where time counts', () => {
      const history = [transaction('T1', 'x0', 'x1', { end: 1 }), transaction('T2', 'x0', '', { start: 2, end: 3 })];
      expect(findAnomaly(history)).to.equal(null);
      const anomaly = findAnomaly(history, { realTime: true });
      expect(anomaly?.kind).to.equal('G-single-realtime');
      expect(kindsOf(anomaly)).to.deep.equal(['rw', 'rt']);
    });

    const anomalies: readonly (readonly [name: string, kind: Anomaly['kind'], cycle: string, history: readonly Transaction[]])[] =
      [
        ['writes that cross', 'G0', 'ww ww', [transaction('T1', '', 'x1 y2'), transaction('T2', '', 'x2 y1')]],
        ['information that goes in a circle', 'G1c', 'wr wr', [transaction('T1', 'y1', 'x1'), transaction('T2', 'x1', 'y1')]],
        ['a lost update', 'G-single', 'rw ww', [transaction('T1', 'x0', 'x1'), transaction('T2', 'x0', 'x2')]],
        ['a read skew', 'G-single', 'rw wr', [transaction('T1', 'x0 y1', ''), transaction('T2', 'x0 y0', 'x1 y1')]],
        ['a read that does not repeat', 'G-single', 'rw wr', [transaction('T1', 'x0 x1', ''), transaction('T2', 'x0', 'x1')]],
        ['a write skew', 'G2', 'rw rw', [transaction('T1', 'x0 y0', 'x1'), transaction('T2', 'x0 y0', 'y1')]],
        [
          'two readers that saw two writers in another order',
          'G2',
          'rw wr rw wr',
          [
            transaction('T1', '', 'x1'),
            transaction('T2', '', 'y1'),
            transaction('T3', 'x1 y0', ''),
            transaction('T4', 'x0 y1', ''),
          ],
        ],
      ];
    for (const [name, kind, cycle, history] of anomalies) {
      it(`names ${name}: ${kind}`, () => {
        const anomaly = findAnomaly([transaction('other', 'z0', 'z1'), ...history]);
        expect(anomaly?.kind).to.equal(kind);
        expect(kindsOf(anomaly).sort()).to.deep.equal(cycle.split(' ').sort());
        // each edge goes on where the one before it ended
        const edges = anomaly?.cycle ?? [];
        expect(edges.map(({ to }) => to)).to.deep.equal(edges.map((_, at) => edges[(at + 1) % edges.length]?.from));
        expect(kindsOf(findAnomaly(history.slice(1))), 'without the first').to.deep.equal([]);
      });
    }

    it('writes the cycle down', () => {
      const history = [transaction('T1', 'x0', 'x1'), transaction('T2', 'x0', 'x2')];
      expect(() => expectSerializable(history)).to.throw(
        [
          'G-single: no order of these transactions is one in which each ran alone:',
          '  rw  T2 read x 0, before T1 wrote x 1',
          '  ww  T1 wrote x 1, and T2 after it x 2',
        ].join('\n'),
      );
    });

    it('names the worst', () => {
      const skew = [transaction('T1', 'x0 y0', 'x1'), transaction('T2', 'x0 y0', 'y1')];
      expect(findAnomaly([...skew, transaction('T3', '', 'a1 b2'), transaction('T4', '', 'a2 b1')])?.kind).to.equal('G0');
    });

    it('refuses what was read of an aborted one, what nobody wrote, and two writers of a version', () => {
      const aborted = transaction('T1', '', '', { status: 'aborted' });
      expect(findAnomaly([aborted, transaction('T2', 'x1@T1', '')])?.kind).to.equal('G1a');
      expect(findAnomaly([transaction('T2', 'x1', '')])?.kind).to.equal('no writer');
      expect(findAnomaly([transaction('T1', '', 'x1'), transaction('T2', '', 'x1')])?.kind).to.equal('two writers');
      expect(() => findAnomaly([transaction('T1', '', ''), transaction('T1', '', '')])).to.throw('the same id');
    });

    it('takes what is unknown for committed once somebody has seen it, and for open until then', () => {
      const lost = transaction('T1', '', '', { status: 'unknown', end: 1 });
      const seen = (reads: string, start = 10): Transaction => transaction('T2', reads, '', { start, end: start + 1 });
      expect(findAnomaly([lost, seen('x0 y0')], { realTime: true })).to.equal(null);
      expect(findAnomaly([lost, seen('x1@T1 y1@T1')], { realTime: true })).to.equal(null);
      // it may have happened after its caller gave up
      expect(findAnomaly([lost, seen('x0'), { ...seen('x1@T1', 20), id: 'T3' }], { realTime: true })).to.equal(null);
      const mixed = [lost, seen('x1@T1 y0'), { ...seen('y1@T1'), id: 'T3' }];
      expect(findAnomaly(mixed)?.kind).to.equal('G-single');
      // without a name anybody of unknown outcome may have written it
      expect(findAnomaly([lost, seen('x1')])).to.equal(null);
    });

    it('the sum of a bank is the same for every reader, and no account is missing', () => {
      const expected = { accounts: 2, total: 10 };
      expect(bankInvariant([{ transaction: 'T1', balances: { a: 3, b: 7 } }], expected)).to.deep.equal([]);
      const bad = [
        { transaction: 'T2', balances: { a: 3, b: 8 } },
        { transaction: 'T3', balances: { a: 10 } },
      ];
      expect(bankInvariant(bad, expected)).to.deep.equal([
        'T2 read 2 of 2 accounts with 11 of 10',
        'T3 read 1 of 2 accounts with 10 of 10',
      ]);
    });
  });

  describe('on any history', () => {
    const ids = ['x', 'y', 'z'];
    const step = fc.record({
      reads: fc.subarray(ids),
      writes: fc.subarray(ids),
      before: fc.integer({ min: 0, max: 100 }),
      after: fc.integer({ min: 0, max: 100 }),
    });

    it('accepts what was executed in some order, whatever overlapped', () => {
      fc.assert(
        fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
          const current = new Map(ids.map((id) => [id, 0]));
          const history = steps.map(({ reads, writes, before, after }, number): Transaction => {
            const read = reads.map((id) => ({ id, version: current.get(id) ?? 0 }));
            for (const id of writes) current.set(id, (current.get(id) ?? 0) + 1);
            const wrote = writes.map((id) => ({ id, version: current.get(id) ?? 0 }));
            return {
              id: `T${number}`,
              reads: read,
              writes: wrote,
              status: 'committed',
              start: number * 10 - before,
              end: number * 10 + after,
            };
          });
          expectSerializable(history);
          expectSerializable(history, { realTime: true });
        }),
        { numRuns: 300 },
      );
    });

    /** Every order. */
    function bruteForce(
      left: readonly Transaction[],
      realTime: boolean,
      current: ReadonlyMap<string, number> = new Map(),
    ): boolean {
      if (left.length === 0) return true;
      return left.some((one) => {
        const others = left.filter((other) => other !== one);
        if (realTime && others.some(({ end }) => end < one.start)) return false;
        if (one.reads.some(({ id, version }) => (current.get(id) ?? 0) !== version)) return false;
        if (one.writes.some(({ id, version }) => (current.get(id) ?? 0) + 1 !== version)) return false;
        return bruteForce(
          others,
          realTime,
          new Map([...current, ...one.writes.map(({ id, version }) => [id, version] as const)]),
        );
      });
    }

    it('says what trying every order says', () => {
      const one = fc.record({
        reads: fc.array(fc.record({ id: fc.constantFrom('x', 'y'), back: fc.nat({ max: 4 }) }), { maxLength: 2 }),
        writes: fc.subarray(['x', 'y']),
        turns: fc.record({ x: fc.nat({ max: 9 }), y: fc.nat({ max: 9 }) }),
        start: fc.nat({ max: 20 }),
        length: fc.nat({ max: 15 }),
      });
      const verdicts = { accepted: 0, refused: 0 };
      fc.assert(
        fc.property(fc.array(one, { maxLength: 5 }), fc.boolean(), (parts, realTime) => {
          /** Writers of a context in the order of their turns have its versions 1, 2, … */
          const order = (id: 'x' | 'y') =>
            parts.filter(({ writes }) => writes.includes(id)).sort((a, b) => a.turns[id] - b.turns[id]);
          const made = { x: order('x'), y: order('y') };
          const history = parts.map((part, number): Transaction => {
            const reads = part.reads.map(({ id, back }) => ({ id, version: back % (made[id as 'x' | 'y'].length + 1) }));
            const writes = part.writes.map((id) => ({ id, version: made[id as 'x' | 'y'].indexOf(part) + 1 }));
            // its own write is not what it read
            const fair = reads.filter(({ id, version }) => !writes.some((own) => own.id === id && own.version === version));
            return {
              id: `T${number}`,
              reads: fair,
              writes,
              status: 'committed',
              start: part.start,
              end: part.start + part.length,
            };
          });
          const expected = bruteForce(history, realTime);
          verdicts[expected ? 'accepted' : 'refused'] += 1;
          expect(findAnomaly(history, { realTime }) === null).to.equal(expected);
        }),
        { numRuns: 3000 },
      );
      expect(Math.min(verdicts.accepted, verdicts.refused)).to.be.above(300);
    });

    it('finds components of large graphs without running out of stack, and a short cycle in them', () => {
      const long = Array.from({ length: 50_000 }, (_, node) => [(node + 1) % 50_000]);
      expect(components(long)).to.have.lengthOf(1);
      long[10]?.push(8);
      long[49_999] = [];
      expect(components(long)).to.deep.equal([[8, 9, 10]]);
      expect(shortestCycle(long)).to.have.lengthOf(4);
    });
  });
});
