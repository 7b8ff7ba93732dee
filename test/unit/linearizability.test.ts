import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import type { Operation } from '../helpers/history.js';
import { expectLinearizable, findViolation, type Model } from '../helpers/linearizability.js';
import {
  type ContextInput,
  type ContextOutput,
  contextModel,
  type RegisterInput,
  type RegisterOutput,
  registerModel,
  runContext,
  textModel,
} from '../helpers/linearizabilityModels.js';
import { parseRegisterLog, parseTextLog } from '../helpers/recordedHistories.js';

const FIXTURES = join(import.meta.dirname, '../fixtures/linearizability');
const text = (file: string): string => readFileSync(join(FIXTURES, file), 'utf8');

type Register = Operation<RegisterInput, RegisterOutput>;

/** By hand: who, from when to when, what, and what came of it. */
function operation<I, O>(
  process: string,
  [start, end]: readonly [number, number],
  input: I,
  output?: O,
  key = 'x',
): Operation<I, O> {
  return { process, key, input, start, end, ...(output === undefined ? {} : { output }) };
}
const read = (process: string, times: readonly [number, number], value: number | null, key?: string): Register =>
  operation(process, times, { do: 'read' }, value, key);
const write = (process: string, times: readonly [number, number], value: number, key?: string): Register =>
  operation(process, times, { do: 'write', value }, true, key);
const lostWrite = (process: string, start: number, value: number): Register =>
  operation(process, [start, Number.POSITIVE_INFINITY], { do: 'write', value });
const cas = (process: string, times: readonly [number, number], from: number, to: number, done: boolean): Register =>
  operation(process, times, { do: 'cas', from, to }, done);
const isLinearizable = (...history: Register[]): boolean => findViolation(registerModel, history) === null;

describe('the checker of linearizability', () => {
  describe('gives the verdicts of recorded histories', function () {
    this.timeout(60_000);
    const { jepsenEtcd, kv } = JSON.parse(text('expected.json')) as Record<'jepsenEtcd' | 'kv', Record<string, boolean>>;

    it('of 102 etcd registers', () => {
      const files = Object.entries(jepsenEtcd);
      expect(files).to.have.lengthOf(102);
      const verdicts = files.map(([file]) => [
        file,
        findViolation(registerModel, parseRegisterLog(text(`jepsen-etcd/${file}`))) === null,
      ]);
      expect(verdicts).to.deep.equal(files);
    });

    for (const [file, expected] of Object.entries(kv)) {
      it(`of the key-value store, ${file}: ${expected ? 'linearizable' : 'not'}`, () => {
        expect(findViolation(textModel, parseTextLog(text(`kv/${file}`))) === null).to.equal(expected);
      });
    }
  });

  describe('by hand', () => {
    it('accepts nothing at all, and what follows one after the other', () => {
      expect(isLinearizable()).to.equal(true);
      expect(isLinearizable(read('a', [0, 1], null), write('a', [2, 3], 1), read('b', [4, 5], 1))).to.equal(true);
    });

    it('lets a read see a write that overlaps it, or not', () => {
      expect(isLinearizable(write('a', [0, 10], 1), read('b', [2, 3], 1))).to.equal(true);
      expect(isLinearizable(write('a', [0, 10], 1), read('b', [2, 3], null))).to.equal(true);
      // an end and a beginning at the same time overlap
      expect(isLinearizable(write('a', [0, 2], 1), read('b', [2, 3], null))).to.equal(true);
    });

    it('refuses a stale read, and one that goes back', () => {
      expect(isLinearizable(write('a', [0, 1], 1), read('b', [2, 3], null))).to.equal(false);
      expect(isLinearizable(write('a', [0, 10], 1), read('b', [2, 3], 1), read('c', [4, 5], null))).to.equal(false);
    });

    it('refuses two compare-and-sets that both found the value, and one that missed it', () => {
      const before = write('a', [0, 1], 1);
      expect(isLinearizable(before, cas('b', [2, 9], 1, 2, true), cas('c', [3, 8], 1, 3, false))).to.equal(true);
      expect(isLinearizable(before, cas('b', [2, 9], 1, 2, true), cas('c', [3, 8], 1, 3, true))).to.equal(false);
      expect(isLinearizable(before, cas('b', [2, 9], 1, 2, false))).to.equal(false);
    });

    it('lets a write of unknown outcome happen at any later time, once, or never', () => {
      const lost = lostWrite('a', 0, 1);
      expect(isLinearizable(lost, read('b', [2, 3], null))).to.equal(true);
      expect(isLinearizable(lost, read('b', [2, 3], null), read('b', [4, 5], 1))).to.equal(true);
      expect(isLinearizable(lost, read('b', [2, 3], 1), read('b', [4, 5], null))).to.equal(false);
      const twice = [read('b', [2, 3], 1), write('b', [4, 5], 2), read('b', [6, 7], 1)];
      expect(isLinearizable(lost, ...twice)).to.equal(false);
      // and not before it was asked for
      expect(isLinearizable(read('b', [-3, -2], 1), lost)).to.equal(false);
    });

    it('looks at each key by itself', () => {
      const sound = [write('a', [0, 1], 1, 'x'), read('b', [2, 3], null, 'y')];
      expect(isLinearizable(...sound)).to.equal(true);
      expect(findViolation(registerModel, [...sound, read('b', [4, 5], null, 'x')])?.key).to.equal('x');
    });

    it('names what does not fit, the order before it, and what was open', () => {
      const stale = read('c', [8, 9], 1);
      const history = [write('a', [0, 1], 1), write('a', [2, 3], 2), cas('d', [1, 20], 7, 8, true), read('b', [4, 5], 2), stale];
      const violation = findViolation(registerModel, [...history, read('b', [10, 11], 2)]);
      expect(violation?.operation).to.equal(stale);
      expect(violation?.explanation.split('\n')).to.include.members([
        "  c: { do: 'read' } -> 1  [8 to 9]",
        "  b: { do: 'read' } -> 2  [4 to 5]  =>  2",
        "  d: { do: 'cas', from: 7, to: 8 } -> true  [1 to 20]  (not in that order)",
      ]);
      expect(() => expectLinearizable(registerModel, [...history])).to.throw('The history of x (5 operations)');
    });

    it('gives up with an error, not with a verdict', () => {
      expect(() => findViolation(registerModel, [write('a', [0, 1], 1), read('a', [2, 3], 1)], { maxSteps: 0 })).to.throw(
        'no verdict on x after 0 steps',
      );
    });
  });

  describe('of a context', () => {
    type Recorded = Operation<ContextInput, ContextOutput>;
    let clock = 0;
    /** One after the other. */
    const then = (input: ContextInput, output?: ContextOutput): Recorded => {
      clock += 2;
      return operation('a', output === undefined ? [clock, Number.POSITIVE_INFINITY] : [clock, clock + 1], input, output);
    };
    const isSound = (...history: Recorded[]): boolean => findViolation(contextModel, history) === null;

    it('accepts every kind of call', () => {
      const sound = isSound(
        then({ do: 'get' }, null),
        then({ do: 'patch', by: 'p' }, 'not found'),
        then({ do: 'set', by: 'a', ifVersion: 0 }, { version: 1 }),
        then({ do: 'set', by: 'b', ifVersion: 0 }, { conflict: 1 }),
        then({ do: 'update', by: 'c' }, { version: 2, value: { n: 1, by: 'c' } }),
        then({ do: 'patch', by: 'd' }, { version: 3 }),
        then({ do: 'get' }, { version: 3, value: { n: 1, by: 'd' } }),
        then({ do: 'delete', ifVersion: 2 }, { conflict: 3 }),
        then({ do: 'delete', ifVersion: 3 }, { version: 4 }),
        then({ do: 'delete' }, null),
        then({ do: 'set', by: 'e', ifVersion: 4 }, { conflict: 0 }),
        then({ do: 'update', by: 'f' }, { version: 5, value: { n: 1, by: 'f' } }),
      );
      expect(sound).to.equal(true);
    });

    const first = (): Recorded => then({ do: 'set', by: 'a' }, { version: 1 });
    const wrong: readonly (readonly [what: string, history: () => Recorded[]])[] = [
      ['a version that is given twice', () => [first(), then({ do: 'set', by: 'b' }, { version: 1 })]],
      ['a version that nobody wrote', () => [first(), then({ do: 'set', by: 'b' }, { version: 3 })]],
      ['a lost update', () => [first(), then({ do: 'update', by: 'b' }, { version: 2, value: { n: 0, by: 'b' } })]],
      ['ifVersion that does not hold', () => [first(), then({ do: 'set', by: 'b', ifVersion: 0 }, { version: 2 })]],
      ['a conflict that was none', () => [first(), then({ do: 'set', by: 'b', ifVersion: 1 }, { conflict: 1 })]],
      [
        'a delete that did not',
        () => [first(), then({ do: 'delete' }, { version: 2 }), then({ do: 'get' }, { version: 1, value: { n: 0, by: 'a' } })],
      ],
      ['versions that begin anew after a delete', () => [first(), then({ do: 'delete' }, { version: 2 }), first()]],
      [
        'a write of unknown outcome that was applied twice',
        () => [first(), then({ do: 'update', by: 'b' }), then({ do: 'get' }, { version: 3, value: { n: 2, by: 'b' } })],
      ],
    ];
    for (const [what, history] of wrong) {
      it(`refuses ${what}`, () => {
        expect(isSound(...history())).to.equal(false);
      });
    }

    it('lets a write of unknown outcome have happened, or be refused', () => {
      const begun = (): Recorded[] => [first(), then({ do: 'set', by: 'b', ifVersion: 1 })];
      const holds = (version: number, by: string): Recorded => then({ do: 'get' }, { version, value: { n: 0, by } });
      expect(isSound(...begun(), holds(2, 'b'))).to.equal(true);
      expect(isSound(...begun(), holds(1, 'a'), holds(2, 'b'))).to.equal(true);
      expect(isSound(...begun(), then({ do: 'set', by: 'c' }, { version: 2 }), holds(2, 'c'))).to.equal(true);
      expect(isSound(...begun(), then({ do: 'set', by: 'c' }, { version: 2 }), holds(3, 'b'))).to.equal(false);
    });
  });

  describe('on any history', () => {
    const input: fc.Arbitrary<RegisterInput> = fc.oneof(
      fc.constant({ do: 'read' } as const),
      fc.record({ do: fc.constant('write' as const), value: fc.integer({ min: 0, max: 3 }) }),
      fc.record({ do: fc.constant('cas' as const), from: fc.integer({ min: 0, max: 3 }), to: fc.integer({ min: 0, max: 3 }) }),
    );
    const answer = (state: number | null, asked: RegisterInput): RegisterOutput =>
      asked.do === 'read' ? state : asked.do === 'write' ? true : state === asked.from;
    const step = fc.record({
      input,
      before: fc.integer({ min: 0, max: 60 }),
      after: fc.integer({ min: 0, max: 60 }),
      lost: fc.integer({ min: 0, max: 9 }).map((dice) => dice === 0),
      key: fc.constantFrom('x', 'y'),
    });

    /** What happened one after the other, at 0, 10, 20 and so on, begun some time before and answered some time after. */
    const executed = fc.array(step, { maxLength: 60 }).map((steps) => {
      const states = new Map<string, number | null>();
      return steps.map(({ input, before, after, lost, key }, number): Register => {
        const state = states.get(key) ?? null;
        states.set(key, registerModel.step(state, input, undefined) ?? null);
        const output = lost && input.do !== 'read' ? undefined : answer(state, input);
        const end = output === undefined ? Number.POSITIVE_INFINITY : number * 10 + after;
        return operation(`p${number}`, [number * 10 - before, end], input, output, key);
      });
    });

    it('accepts what was executed in some order, whatever overlapped', () => {
      fc.assert(
        fc.property(executed, (history) => {
          expectLinearizable(registerModel, history);
        }),
        { numRuns: 500 },
      );
    });

    it('refuses it once one read has a value that nobody wrote', () => {
      fc.assert(
        fc.property(executed, fc.nat(), (history, which) => {
          const reads = history.filter(({ input, output }) => input.do === 'read' && output !== undefined);
          fc.pre(reads.length > 0);
          const altered = reads[which % reads.length];
          const changed = history.map((one) => (one === altered ? { ...one, output: 4 } : one));
          expect(findViolation(registerModel, changed)?.key).to.equal(altered?.key);
        }),
        { numRuns: 500 },
      );
    });

    /** Every subset of what is open, in every order. */
    function bruteForce<S, I, O>(model: Model<S, I, O>, history: readonly Operation<I, O>[], state = model.initial): boolean {
      if (history.every(({ output }) => output === undefined)) return true;
      return history.some((one) => {
        const others = history.filter((other) => other !== one);
        if (others.some((other) => other.end < one.start)) return false;
        const next = model.step(state, one.input, one.output);
        return next !== undefined && bruteForce(model, others, next);
      });
    }

    it('says what trying every order says', () => {
      const any = fc.record({
        input,
        start: fc.integer({ min: 0, max: 12 }),
        length: fc.integer({ min: 0, max: 8 }),
        output: fc.option(fc.oneof(fc.integer({ min: 0, max: 3 }), fc.boolean()), { nil: undefined, freq: 5 }),
      });
      const verdicts = { accepted: 0, refused: 0 };
      fc.assert(
        fc.property(fc.array(any, { maxLength: 6 }), (parts) => {
          const history = parts.map(({ input, start, length, output }, number): Register => {
            const fitting =
              output === undefined
                ? undefined
                : input.do === 'read'
                  ? Number(output)
                  : input.do === 'cas'
                    ? Boolean(output)
                    : true;
            return operation(
              `p${number}`,
              [start, fitting === undefined ? Number.POSITIVE_INFINITY : start + length],
              input,
              fitting,
            );
          });
          const expected = bruteForce(registerModel, history);
          verdicts[expected ? 'accepted' : 'refused'] += 1;
          expect(isLinearizable(...history)).to.equal(expected);
        }),
        { numRuns: 3000 },
      );
      expect(Math.min(verdicts.accepted, verdicts.refused)).to.be.above(300);
    });

    it('says it of contexts too, whose writes of unknown outcome are not tried everywhere', () => {
      const by = fc.constantFrom('set', 'update', 'patch');
      const ifVersion = fc.option(fc.integer({ min: 0, max: 3 }), { nil: undefined, freq: 2 });
      const one = fc.record({
        what: fc.oneof(by, fc.constantFrom('get', 'delete')),
        ifVersion,
        before: fc.integer({ min: 0, max: 30 }),
        after: fc.integer({ min: 0, max: 30 }),
        fate: fc.constantFrom('answered', 'answered', 'lost', 'lost and never happened', 'off by one'),
      });
      const verdicts = { accepted: 0, refused: 0 };
      fc.assert(
        fc.property(fc.array(one, { maxLength: 7 }), (steps) => {
          let state = contextModel.initial;
          const history = steps.map(({ what, ifVersion, before, after, fate }, number) => {
            const condition = ifVersion === undefined || what === 'update' || what === 'patch' ? {} : { ifVersion };
            const input = (
              what === 'get'
                ? { do: 'get' }
                : what === 'delete'
                  ? { do: 'delete', ...condition }
                  : { do: what, by: `${number}`, ...condition }
            ) as ContextInput;
            const [next, output] = runContext(state, input);
            if (fate !== 'lost and never happened') state = next;
            const told = fate === 'off by one' && output !== null && typeof output === 'object' && 'version' in output;
            const given = told ? { ...output, version: output.version + 1 } : fate.startsWith('lost') ? undefined : output;
            const end = given === undefined ? Number.POSITIVE_INFINITY : number * 10 + after;
            return operation(`p${number}`, [number * 10 - before, end], input, given);
          });
          const expected = bruteForce(contextModel, history);
          verdicts[expected ? 'accepted' : 'refused'] += 1;
          expect(findViolation(contextModel, history) === null).to.equal(expected);
        }),
        { numRuns: 2000 },
      );
      expect(Math.min(verdicts.accepted, verdicts.refused)).to.be.above(200);
    });
  });
});
