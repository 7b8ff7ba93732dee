/** The switch `delta`: in shadow everything is tried and counted and nothing of it is sent; whoever has it set otherwise has the same bytes. */
import { expect } from 'chai';
import type { ContextStore } from '../../src/index.js';
import { seededRng } from '../helpers/random.js';
import { record, untilReplica, useStores } from '../helpers/stores.js';
import { bytesOf, expectEverywhere, Follower, prose, replicaAt, type Talk, talk } from './deltaSupport.js';

describe('delta: shadow', () => {
  const stores = useStores();
  const EDITS = 12;

  /** The same small changes of a document by a store with this switch, with what they cost. */
  async function changes(delta: 'on' | 'off' | 'shadow', bytes: number) {
    const id = `x-${delta}`;
    const proxy = await stores.proxy();
    const [store, redis] = [await stores.open({ redis: proxy.url, delta }), await stores.redis()];
    const value = talk(bytes);
    await store.set(id, value);
    await untilReplica(store, id);
    const follower = await Follower.start(stores, store, id);
    const before = (await store.stats()).delta;
    proxy.resetCounters();
    for (let n = 1; n <= EDITS; n += 1) {
      value.n = n;
      await store.update<Talk>(id, (draft) => {
        draft.n = n;
      });
    }
    const sent = proxy.bytesUp;
    await expectEverywhere(value, EDITS + 1, { redis, id, stores: [store, await stores.open()], follower });
    const { delta: after } = await store.stats();
    const kinds = follower.kinds.map((kind) => kind.split(' ')[0]);
    const log = (await store.history(id)).map(({ kind }) => kind);
    return { before, after, kinds, received: follower.bytes, sent, log, documents: EDITS * bytesOf(value).length };
  }

  for (const [name, bytes] of [
    ['small', 4_000],
    ['large', 100_000],
  ] as const) {
    it(`counts exactly what "on" sends for a ${name} document, and sends the document`, async () => {
      const on = await changes('on', bytes);
      const off = await changes('off', bytes);
      const shadow = await changes('shadow', bytes);

      expect(shadow.after).to.include({ mode: 'shadow', shadowed: EDITS, shadowMismatches: 0, spliced: 0, splicedBytes: 0 });
      expect(shadow.after.whole).to.equal(shadow.before.whole + EDITS);
      expect(Math.abs(shadow.after.documentBytes - shadow.documents)).to.be.lessThan(EDITS * 2);
      expect(off.after).to.include({ mode: 'off', shadowed: 0, shadowBytes: 0, spliced: 0 });
      expect(on.after).to.include({ mode: 'on', shadowed: 0, shadowBytes: 0, spliced: EDITS });

      // neither on the channel nor in the log is there a delta
      expect([shadow.kinds, on.kinds]).to.deep.equal([Array(EDITS).fill('full'), Array(EDITS).fill('splice')]);
      expect(off.kinds).to.not.include('splice');
      expect(new Set(shadow.log)).to.deep.equal(new Set(['full']));
      expect(off.log).to.not.include('splice');

      // the figure is what it is for: what would be sent, and how much less that is
      expect(shadow.after.shadowBytes).to.equal(on.after.splicedBytes).and.to.be.greaterThan(0);
      expect(shadow.after.shadowBytes).to.be.lessThan(shadow.after.documentBytes / 10);
      expect(on.sent).to.be.lessThan(shadow.sent / 3);
      expect(shadow.sent).to.be.greaterThan(shadow.documents);
      expect(shadow.received).to.be.greaterThan(shadow.documents);
      expect(on.received).to.be.lessThan(shadow.received / 10);
    });
  }

  it('counts only what could be a splice: no first version, no deletion, nothing that is set without a base', async () => {
    const store = await stores.open({ delta: 'shadow' });
    await store.set('x', talk(4_000));
    await store.set('x', talk(5_000));
    await store.delete('x');
    expect((await store.stats()).delta).to.include({ shadowed: 0, shadowBytes: 0 });
  });

  for (const bytes of [3_000, 60_000]) {
    it(`instances with on, off and shadow agree to the byte, 90 commits in turn at ${bytes} bytes`, async () => {
      const modes = ['on', 'off', 'shadow'] as const;
      const all = await Promise.all(modes.map((delta) => stores.open({ delta })));
      const [first] = all as [ContextStore, ...ContextStore[]];
      const redis = await stores.redis();
      const corrupt = all.map((store) => record(store, 'context:corrupt'));
      const rng = seededRng(bytes);
      const value = talk(bytes);
      await first.set('x', value);
      for (const store of all) await untilReplica(store, 'x');
      const follower = await Follower.start(stores, first, 'x');
      for (let version = 2; version <= 91; version += 1) {
        const writer = all[version % 3] as ContextStore;
        const place = rng.int(0, value.turns.length);
        const kind = rng.pick(['change', 'insert', 'cut', 'number', 'move'] as const);
        const edit = (talk: Talk): void => {
          talk.n = version;
          const turn = talk.turns[place];
          if (kind === 'insert' || turn === undefined) talk.turns.splice(place, 0, { text: prose(version, 700) });
          else if (kind === 'change') turn.text = `${version}${turn.text.slice(3)}é`;
          else if (kind === 'cut') talk.turns.splice(place, 1);
          else if (kind === 'move') talk.turns.unshift(...talk.turns.splice(place, 1));
        };
        edit(value);
        await writer.update<Talk>('x', edit);
        const expected = bytesOf(value);
        for (const store of all) expect((await replicaAt(store, 'x', version)).equals(expected)).to.equal(true);
      }
      await expectEverywhere(value, 91, { redis, id: 'x', stores: [...all, await stores.open()], follower });
      expect(corrupt.flat()).to.deep.equal([]);
      const [on, off, shadow] = await Promise.all(all.map((store) => store.stats()));
      for (const stats of [on, off, shadow]) expect(stats).to.include({ resyncs: 0, checksumFailures: 0, conflicts: 0 });
      expect(on?.delta.spliced).to.be.greaterThan(20);
      expect(off?.delta).to.include({ spliced: 0, shadowed: 0 });
      expect(shadow?.delta).to.include({ spliced: 0, shadowed: 30, shadowMismatches: 0 });
      expect(new Set(follower.kinds.map((kind) => kind.split(' ')[0]))).to.include.all.keys('splice', 'patch');
    });
  }
});
