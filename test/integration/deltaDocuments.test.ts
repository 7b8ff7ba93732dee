/** Whatever a document becomes, it is exact to the byte: in Redis, for who reads it, and for who has only the frames. */
import { expect } from 'chai';
import type { JsonValue } from '../../src/index.js';
import { record, untilReplica, useStores } from '../helpers/stores.js';
import { bytesOf, expectEverywhere, Follower, prose, replicaAt, storedForm, type Talk, talk } from './deltaSupport.js';

describe('documents by deltas', () => {
  const stores = useStores();

  for (const [name, bytes, form] of [
    ['small', 4_000, 'whole'],
    ['large', 100_000, 'chunked'],
  ] as const) {
    it(`who joins late reads a ${name} document once, and has splices from then on`, async () => {
      const [writer, late] = await stores.pair();
      const redis = await stores.redis();
      const value = talk(bytes);
      await writer.set('x', value);
      const change = async (n: number): Promise<void> => {
        value.n = n;
        await writer.update<Talk>('x', (draft) => {
          draft.n = n;
        });
      };
      for (const n of [1, 2, 3]) await change(n);
      const follower = await Follower.start(stores, writer, 'x');
      await untilReplica(late, 'x');
      expect((await late.get('x'))?.version).to.equal(4);
      for (const n of [4, 5, 6]) await change(n);
      const stored = await expectEverywhere(value, 7, { redis, id: 'x', stores: [writer, late], follower });
      expect(stored.form).to.equal(form);
      expect((await replicaAt(late, 'x', 7)).equals(bytesOf(value))).to.equal(true);
      expect(follower.kinds).to.deep.equal(['splice', 'splice', 'splice']);
      const { frames, resyncs } = await late.stats();
      expect(frames).to.deep.include({ splice: 3, patch: 0, full: 0 });
      expect(resyncs).to.equal(0);
    });
  }

  for (const [name, empty] of [
    ['{}', {}],
    ['[]', []],
    ['null', null],
    ['""', ''],
    ['0', 0],
  ] as readonly (readonly [string, JsonValue])[]) {
    it(`${name} grows to a small and a large document, and is empty again`, async () => {
      const [writer, reader] = await stores.pair();
      const redis = await stores.redis();
      const follower = await Follower.start(stores, writer, 'x');
      const steps: JsonValue[] = [empty, { a: 1 }, empty, talk(2_000), empty, talk(80_000), empty, empty, [empty], empty].map(
        (value) => value as JsonValue,
      );
      let version = 0;
      for (const way of ['set', 'patch'] as const) {
        for (const value of steps) {
          if (way === 'set') await writer.set('x', value);
          else await writer.patch('x', [{ op: 'replace', path: '', value }]);
          version += 1;
          const stored = await expectEverywhere(value, version, { redis, id: 'x', stores: [reader], follower });
          expect(stored.form).to.equal(stored.bytes.length > 32_768 ? 'chunked' : 'whole');
          if (version === 3) await untilReplica(reader, 'x');
          if (version > 3) expect((await replicaAt(reader, 'x', version)).equals(stored.bytes)).to.equal(true);
        }
      }
      expect((await reader.stats()).checksumFailures).to.equal(0);
      expect((await reader.stats()).resyncs).to.equal(0);
    });
  }

  it('a document that is replaced by another one of its size travels whole, and compressed', async () => {
    const [writer, reader] = await stores.pair();
    const redis = await stores.redis();
    const other = { other: Array.from({ length: 200 }, (_, index) => prose(1_000 + index, 100).repeat(5)) };
    await writer.set('x', talk(100_000));
    await untilReplica(writer, 'x');
    await untilReplica(reader, 'x');
    const follower = await Follower.start(stores, writer, 'x');
    const committed = record(writer, 'context:committed');
    await writer.set('x', other);
    await expectEverywhere(other, 2, { redis, id: 'x', stores: [writer, reader], follower });
    expect((await replicaAt(reader, 'x', 2)).equals(bytesOf(other))).to.equal(true);
    expect(committed).to.have.lengthOf(1);
    expect(committed[0]?.frameBytes).to.be.at.most(committed[0]?.bytes ?? 0);
    expect(follower.kinds.join()).to.be.oneOf(['full br', 'splice br']);
    expect(follower.bytes).to.be.lessThan(bytesOf(other).length / 2);
    // and what follows is a splice again
    await writer.patch('x', [{ op: 'replace', path: '/other/100', value: 'short' }]);
    const next = { other: other.other.with(100, 'short') };
    await expectEverywhere(next, 3, { redis, id: 'x', stores: [reader], follower });
    expect(committed[1]).to.deep.include({ kind: 'splice', version: 3 });
    expect((await reader.stats()).frames.splice).to.be.at.least(1);
  });

  it('a large document that is deleted leaves nothing, and its next life begins whole and goes on in splices', async () => {
    const [writer, reader] = await stores.pair();
    const redis = await stores.redis();
    const follower = await Follower.start(stores, writer, 'x');
    const value = talk(90_000);
    await writer.set('x', value);
    await untilReplica(reader, 'x');
    await writer.patch('x', [{ op: 'replace', path: '/n', value: 2 }]);
    await writer.delete('x');
    expect(await storedForm(redis, writer, 'x')).to.equal(null);
    await follower.version(3);
    expect(follower.client.document).to.equal(null);
    expect(await reader.get('x', { fresh: true })).to.equal(null);
    const left = await redis.keys(`*${stores.namespace}*:x`);
    expect(left).to.deep.equal([writer.keysOf('x').log]);

    const next = talk(60_000);
    await writer.update('x', () => next, { initial: {} });
    expect((await expectEverywhere(next, 4, { redis, id: 'x', stores: [reader], follower })).form).to.equal('chunked');
    await reader.patch('x', [{ op: 'replace', path: '/n', value: 5 }]);
    await expectEverywhere({ ...next, n: 5 }, 5, { redis, id: 'x', stores: [writer, reader], follower });
    expect(follower.kinds).to.deep.equal(['full', 'splice', 'deleted', 'full', 'splice']);
  });

  it('8 MiB: created, changed a little, read by another, followed by a splice', async function () {
    this.timeout(60_000);
    const options = { limits: { contextBytes: '8mb' }, timeout: '20s', attemptTimeout: '10s', memory: { local: '256mb' } };
    const [writer, reader] = await stores.pair(options);
    const redis = await stores.redis();
    const most = 8 * 1024 * 1024;
    const value = { n: 10, turns: talk(most - 50_000).turns, pad: '' };
    value.pad = 'p'.repeat(most - bytesOf(value).length);
    await writer.set('x', value);
    await untilReplica(writer, 'x');
    await untilReplica(reader, 'x');
    const follower = await Follower.start(stores, writer, 'x');
    const committed = record(writer, 'context:committed');
    await writer.update<Talk>('x', (draft) => {
      draft.n = 11;
      draft.turns[8_000] = { text: `${draft.turns[8_000]?.text.slice(0, -1)}!` };
    });
    value.n = 11;
    value.turns[8_000] = { text: `${value.turns[8_000]?.text.slice(0, -1)}!` };
    const stored = await expectEverywhere(value, 2, { redis, id: 'x', stores: [reader], follower });
    expect(stored.bytes.length).to.equal(most);
    expect(stored.chunks.length).to.be.within(300, 600);
    expect((await replicaAt(reader, 'x', 2)).equals(stored.bytes)).to.equal(true);
    expect(follower.kinds).to.deep.equal(['splice']);
    expect(follower.bytes).to.be.lessThan(300);
    expect(committed[0]).to.deep.include({ kind: 'splice', bytes: most });
    expect((await reader.stats()).frames).to.deep.include({ splice: 1, full: 0, documentBytes: most });
  });

  for (const bytes of [600, 60_000]) {
    it(`only the order of keys changes, at ${bytes} bytes`, async () => {
      const [writer, reader] = await stores.pair();
      const redis = await stores.redis();
      const members = Object.fromEntries(talk(bytes).turns.map(({ text }, index) => [`key-${index}`, text]));
      const reversed = (value: object): object => Object.fromEntries(Object.entries(value).reverse());
      let value: object = { ...members, inner: { a: 1, b: 2, c: 3 } };
      await writer.set('x', value);
      await untilReplica(reader, 'x');
      const follower = await Follower.start(stores, writer, 'x');
      const steps: (() => object)[] = [
        () => ({ ...value, inner: { c: 3, b: 2, a: 1 } }),
        () => ({ inner: 0, ...value }),
        () => reversed(value),
      ];
      for (const [index, step] of steps.entries()) {
        value = step();
        if (index === 1) await writer.set('x', value);
        else await writer.update('x', () => value);
        const stored = await expectEverywhere(value, index + 2, { redis, id: 'x', stores: [reader], follower });
        expect((await replicaAt(reader, 'x', index + 2)).equals(stored.bytes)).to.equal(true);
      }
      expect((await reader.stats()).frames).to.deep.include({ patch: 0, full: 0 });
    });
  }

  it('text beyond ASCII is cut between chunks at any byte, and edited at any character', async () => {
    const [writer, reader] = await stores.pair();
    const redis = await stores.redis();
    const value = { text: Array.from({ length: 400 }, (_, index) => `${index}東京🙂é\u2028`.repeat(6)) };
    await writer.set('x', value);
    await untilReplica(reader, 'x');
    const follower = await Follower.start(stores, writer, 'x');
    let version = 1;
    for (let index = 3; index < 400; index += 41) {
      const line = value.text[index] ?? '';
      value.text[index] = index % 2 === 0 ? line.replace('🙂', '🙃') : line.replaceAll('é', 'è').replace('京', '');
      await writer.patch('x', [{ op: 'replace', path: `/text/${index}`, value: value.text[index] }]);
      version += 1;
      const stored = await expectEverywhere(value, version, { redis, id: 'x', stores: [reader], follower });
      expect((await replicaAt(reader, 'x', version)).equals(stored.bytes)).to.equal(true);
    }
    expect(new Set(follower.kinds)).to.deep.equal(new Set(['splice']));
  });

  it('a document that grows and shrinks changes its form within one commit, each time exact for everybody', async () => {
    const [writer, other] = await stores.pair();
    const redis = await stores.redis();
    const follower = await Follower.start(stores, writer, 'x');
    let value = talk(20_000);
    await writer.set('x', value);
    await untilReplica(other, 'x');
    await untilReplica(writer, 'x');
    // in chunks above 32 KB, one field again at 16 KB or less
    const steps = [
      ['whole', 30_000],
      ['chunked', 40_000],
      ['chunked', 120_000],
      ['chunked', 30_000],
      ['chunked', 18_000],
      ['whole', 12_000],
      ['whole', 32_000],
      ['chunked', 34_000],
      ['whole', 600],
      ['chunked', 300_000],
      ['whole', 0],
    ] as const;
    const forms: string[] = [];
    let version = 1;
    for (const [form, bytes] of steps) {
      const { turns } = talk(bytes);
      value = { n: version, turns: bytes === 0 ? [] : turns };
      const [from, to] = version % 2 === 0 ? [other, writer] : [writer, other];
      await replicaAt(from, 'x', version);
      const wanted = value;
      await from.update<Talk>('x', (draft) => {
        draft.n = wanted.n;
        draft.turns.splice(wanted.turns.length);
        draft.turns.push(...wanted.turns.slice(draft.turns.length));
      });
      version += 1;
      const stored = await expectEverywhere(value, version, { redis, id: 'x', stores: [to, from], follower });
      forms.push(`${stored.form} ${bytes}`);
      expect(`${stored.form} ${bytes}`).to.equal(`${form} ${bytes}`);
      for (const store of [writer, other]) {
        expect((await replicaAt(store, 'x', version)).equals(stored.bytes)).to.equal(true);
      }
    }
    expect(forms).to.have.lengthOf(steps.length);
    for (const store of [writer, other]) {
      const { delta, resyncs, checksumFailures } = await store.stats();
      expect({ mismatches: delta.baseMismatches, resyncs, checksumFailures }).to.deep.equal({
        mismatches: 0,
        resyncs: 0,
        checksumFailures: 0,
      });
    }
  });
});
