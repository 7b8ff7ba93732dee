/** What a watcher gets: every version once and in order, whoever wrote it, or one `reset` that says that some were skipped. */
import { expect } from 'chai';
import { applyPatch, type Patch } from '../../src/core/patch.js';
import { type Change, type ContextStore, isContextError, type JsonValue } from '../../src/index.js';
import { record, redisTime, refusal, untilReplica, useStores, Watched, watchFromNow } from '../helpers/stores.js';
import { waitFor } from '../helpers/waitFor.js';

const increment = (n: unknown): number => Number(n) + 1;

/** Numbers from `from` to `to`. */
const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, index) => from + index);

/** Applies every patch to the value before it: what comes out must be the value after it, to the byte. */
function expectPatchesLead(changes: readonly Change[], start: JsonValue | null): void {
  let value = start;
  for (const change of changes) {
    if (change.kind === 'patch' || change.kind === 'full') {
      const made = applyPatch(value, change.patch as Patch);
      expect(JSON.stringify(made), `by the patch of version ${change.version}`).to.equal(JSON.stringify(change.value));
    }
    value = change.value;
  }
}

describe('watch', () => {
  const stores = useStores();

  it('gives own and foreign writes in order, each version once, with value, patch, checksum and time', async () => {
    const [store, other] = await stores.pair();
    const redis = await stores.redis();
    const before = await redisTime(redis);
    await store.set('x', { list: [0], pad: 'p'.repeat(100) });
    const watched = new Watched(store.watch('x'));
    const foreign = await watchFromNow(other, 'x');
    await untilReplica(other, 'x');
    const results = [
      await store.update<{ list: number[] }>('x', (draft) => {
        draft.list.push(1);
      }),
      await other.patch('x', [{ op: 'add', path: '/list/0', value: -1 }]),
      await store.set('x', { list: ['new'], other: 'o'.repeat(60) }),
      // a patch can only be made from what is there
      (await foreign.version(4)) && (await other.set('x', { list: ['new'], other: 'o'.repeat(60), more: true })),
    ];
    for (const each of [watched, foreign]) {
      const changes = await each.count(4);
      expect(changes.map(({ id, version, checksum }) => ({ id, version, checksum }))).to.deep.equal(
        results.map(({ version, checksum }) => ({ id: 'x', version, checksum })),
      );
      expect(changes.map(({ kind }) => kind)).to.deep.equal(['patch', 'patch', 'full', 'patch']);
      expect(changes.map(({ value }) => (value as { list: unknown }).list)).to.deep.equal([[0, 1], [-1, 0, 1], ['new'], ['new']]);
      expect(changes[0]?.patch).to.deep.equal([{ op: 'add', path: '/list/1', value: 1 }]);
      expectPatchesLead(changes, { list: [0], pad: 'p'.repeat(100) });
      const after = await redisTime(redis);
      for (const { at } of changes) expect(at).to.be.within(before, after);
      expect(changes.map(({ at }) => at)).to.deep.equal(changes.map(({ at }) => at).toSorted((a, b) => a - b));
    }
  });

  it('sees what is written in the same tick after it, and nothing from before', async () => {
    const store = await stores.open();
    await store.set('x', 0);
    const watched = new Watched(store.watch('x'));
    await Promise.all(range(1, 20).map((n) => store.set('x', n)));
    await watched.version(21);
    expect(watched.versions).to.deep.equal(range(2, 21));
  });

  it('keeps the order under concurrent writers of several instances', async () => {
    const instances = await stores.openMany(3);
    const [first] = instances as [ContextStore];
    await first.set('x', { n: 0, pad: 'p'.repeat(200) });
    const all = instances.map((store) => new Watched(store.watch('x', { fromVersion: 1 })));
    await Promise.all(
      range(1, 60).map((n) =>
        (instances[n % 3] as ContextStore).update<{ n: number; by?: string }>('x', (draft) => {
          draft.n += 1;
          if (n % 7 === 0) draft.by = `${n}`.repeat(50);
        }),
      ),
    );
    for (const watched of all) {
      await watched.version(61);
      expect(watched.versions).to.deep.equal(range(2, 61));
      expect(watched.changes.map(({ value }) => (value as { n: number }).n)).to.deep.equal(range(1, 60));
      expectPatchesLead(watched.changes, { n: 0, pad: 'p'.repeat(200) });
    }
  });

  describe('of an absent context', () => {
    it('gives its creation, its end and its next life', async () => {
      const [store, other] = await stores.pair();
      const watchers = [new Watched(store.watch('x')), new Watched(other.watch('x'))];
      await waitFor(async () => (await other.stats()).replicas.live === 1, { what: 'the watcher to be ready' });
      expect(await other.get('x')).to.equal(null);
      await store.set('x', { a: 1 });
      await store.delete('x');
      await other.set('x', { a: 2 });
      await other.update<{ a: number }>('x', (draft) => {
        draft.a = 3;
      });
      for (const watched of watchers) {
        const changes = await watched.count(4);
        expect(watched.kinds).to.deep.equal(['full 1', 'deleted 2', 'full 3', 'full 4']);
        expect(changes.map(({ value }) => value)).to.deep.equal([{ a: 1 }, null, { a: 2 }, { a: 3 }]);
        expect(changes.map(({ patch }) => patch)).to.deep.equal([
          [{ op: 'replace', path: '', value: { a: 1 } }],
          null,
          [{ op: 'replace', path: '', value: { a: 2 } }],
          [{ op: 'replace', path: '/a', value: 3 }],
        ]);
        expect(changes[1]).to.include({ checksum: null });
      }
    });

    it('begins at a tombstone, and says nothing of what was before', async () => {
      const [store, other] = await stores.pair();
      await store.set('x', 1);
      await store.delete('x');
      const watched = await watchFromNow(other, 'x');
      await store.set('x', 3);
      await watched.version(3);
      expect(watched.kinds).to.deep.equal(['full 3']);
    });
  });

  describe('fromVersion', () => {
    it('replays what came after it, values and patches right, and goes on live', async () => {
      const [store, other] = await stores.pair();
      const states: JsonValue[] = [];
      let value = { n: 0, list: [] as number[], pad: 'p'.repeat(300) };
      await store.set('x', value);
      states.push(structuredClone(value));
      for (const n of range(1, 9)) {
        value = { ...value, n, list: n === 5 ? [] : [n, ...value.list] };
        await store.set('x', value);
        states.push(structuredClone(value));
      }
      for (const from of range(0, 10)) {
        const watched = new Watched((from % 2 === 0 ? store : other).watch('x', { fromVersion: from }));
        if (from < 10) await watched.version(10);
        expect(watched.versions, `from ${from}`).to.deep.equal(range(from + 1, 10));
        expect(watched.changes.map((change) => change.value)).to.deep.equal(states.slice(from));
        expectPatchesLead(watched.changes, states[from - 1] ?? null);
      }
      const live = new Watched(other.watch('x', { fromVersion: 8 }));
      await store.update<{ n: number }>('x', (draft) => {
        draft.n = 10;
      });
      await live.version(11);
      expect(live.versions).to.deep.equal([9, 10, 11]);
      expect((await store.stats()).checksumFailures).to.equal(0);
    });

    it('0 is the beginning, deletions included', async () => {
      const [store, other] = await stores.pair();
      await store.set('x', { a: 1 });
      await store.delete('x');
      await store.set('x', { a: 3 });
      await store.delete('x');
      const watched = new Watched(other.watch('x', { fromVersion: 0 }));
      await watched.count(4);
      expect(watched.kinds).to.deep.equal(['full 1', 'deleted 2', 'full 3', 'deleted 4']);
      await store.set('x', { a: 5 });
      await watched.version(5);
      expect(watched.kinds.at(-1)).to.equal('full 5');
    });

    for (const [delta, frames] of [
      ['on', { splice: 149, patch: 0, full: 0 }],
      ['off', { splice: 0, patch: 149, full: 0 }],
    ] as const)
      it(`resumes 60 versions back without a reset, although only deltas travelled (delta: ${delta})`, async () => {
        const [store, other] = await stores.pair({ delta });
        await store.set('x', { n: 1, pad: 'p'.repeat(2_000) });
        const live = new Watched(other.watch('x', { fromVersion: 1 }));
        await untilReplica(other, 'x');
        for (const n of range(2, 150)) {
          await store.update<{ n: number }>('x', (draft) => {
            draft.n = n;
          });
        }
        await live.version(150);
        expect(live.changes.every(({ kind }) => kind === 'patch')).to.equal(true);
        expect((await other.stats()).frames).to.include(frames);

        const fresh = await stores.open();
        for (const store of [fresh, other]) {
          for (const back of [60, 64]) {
            const resumed = new Watched(store.watch('x', { fromVersion: 150 - back }));
            await resumed.version(150);
            expect(resumed.versions).to.deep.equal(range(151 - back, 150));
            expect(resumed.changes.every(({ kind }) => kind === 'patch' || kind === 'full')).to.equal(true);
            expect(resumed.changes.map(({ value }) => (value as { n: number }).n)).to.deep.equal(range(151 - back, 150));
            expectPatchesLead(resumed.changes, { n: 150 - back, pad: 'p'.repeat(2_000) });
          }
        }
      });

    it('beyond the log is one reset with the present state, then changes as ever', async () => {
      const [store, other] = await stores.pair({ log: { keep: 1 } });
      for (const n of range(1, 120)) await store.set('x', { n, pad: 'p'.repeat(100) });
      const oldest = (await store.history('x')).at(-1)?.version ?? 0;
      expect(oldest).to.be.greaterThan(10);
      const watched = new Watched(other.watch('x', { fromVersion: 5 }));
      const [reset] = await watched.count(1);
      expect(reset).to.deep.include({ kind: 'reset', version: 120, value: { n: 120, pad: 'p'.repeat(100) } });
      expect(reset?.patch).to.deep.equal([{ op: 'replace', path: '', value: reset?.value }]);
      await store.update<{ n: number }>('x', (draft) => {
        draft.n = 121;
      });
      await watched.version(121);
      expect(watched.kinds).to.deep.equal(['reset 120', 'patch 121']);
    });

    it('ahead of the context is a reset as well: that version is another one there', async () => {
      const [store, other] = await stores.pair();
      await store.set('x', 1);
      const watched = new Watched(other.watch('x', { fromVersion: 7 }));
      await watched.count(1);
      expect(watched.kinds).to.deep.equal(['reset 1']);
      await store.set('x', 2);
      await watched.version(2);
    });

    it('refuses what is no version', async () => {
      const store = await stores.open();
      for (const fromVersion of [-1, 0.5, Number.NaN]) {
        await refusal('INVALID_ARGUMENT', () => store.watch('x', { fromVersion }));
      }
      for (const queue of [0, -1, 1.5]) await refusal('INVALID_ARGUMENT', () => store.watch('x', { queue }));
    });
  });

  it('computes the patch of a full change against the version before it', async () => {
    const [store, other] = await stores.pair();
    await store.set('x', { a: 1, b: 2, c: 3 });
    const watched = new Watched(other.watch('x', { fromVersion: 1 }));
    // a writer that does not know the document sends the whole of it
    const third = await stores.open();
    await third.set('x', { a: 1, b: 20, c: 3 });
    const change = await watched.version(2);
    expect(change.kind).to.equal('full');
    expect(change.patch).to.deep.equal([{ op: 'replace', path: '/b', value: 20 }]);
    expect(change.patch).to.equal(change.patch);
  });

  it('two watchers of one context are independent, and share one subscription', async () => {
    const [store, other] = [await stores.open({ memory: { local: 0 } }), await stores.open()];
    const redis = await stores.redis();
    await store.set('x', 0);
    const { channel } = other.keysOf('x');
    const listeners = async (): Promise<unknown> => (await redis.pubsub('NUMSUB', channel))[1];
    const iterator = other.watch('x');
    const first = new Watched(iterator);
    await other.has('none');
    const second = new Watched(other.watch('x', { fromVersion: 0 }));
    await store.set('x', 1);
    await Promise.all([first.version(2), second.version(2)]);
    expect([first.versions, second.versions]).to.deep.equal([[2], [1, 2]]);
    expect(Number(await listeners())).to.equal(1);
    await iterator.return?.();
    await store.set('x', 2);
    await second.version(3);
    expect(first.versions).to.deep.equal([2]);
  });

  describe('a slow consumer', () => {
    it('gets one reset for what did not fit its queue, and then goes on in order', async () => {
      const [store, other] = await stores.pair();
      const resyncs = record(other, 'context:resync');
      await store.set('x', 0);
      const watcher = other.watch('x', { fromVersion: 1, queue: 5 });
      const fast = new Watched(other.watch('x', { fromVersion: 1, queue: 1000 }));
      await store.set('x', 1);
      expect((await watcher.next()).value).to.include({ version: 2, kind: 'full' });
      for (const n of range(2, 30)) await store.set('x', n);
      await fast.version(31);
      const reset = (await watcher.next()).value as Change;
      expect(reset).to.include({ kind: 'reset', version: 31, value: 30 });
      await store.set('x', 31);
      expect((await watcher.next()).value).to.include({ kind: 'full', version: 32, value: 31 });
      await fast.version(32);
      expect(fast.versions).to.deep.equal(range(2, 32));
      expect(resyncs.filter(({ reason }) => reason === 'overflow')).to.have.lengthOf(1);
      expect(resyncs[0]).to.deep.include({ id: 'x', full: true });
    });

    it('whose queue just suffices loses nothing', async () => {
      const [store, other] = await stores.pair();
      await store.set('x', 0);
      const watcher = other.watch('x', { fromVersion: 1, queue: 10 });
      const fast = new Watched(other.watch('x', { fromVersion: 1 }));
      for (const n of range(1, 10)) await store.set('x', n);
      await fast.version(11);
      for (const version of range(2, 11)) expect((await watcher.next()).value).to.include({ kind: 'full', version });
    });

    it('that starts far back gets a reset where the replay does not fit', async () => {
      const [store, other] = await stores.pair();
      for (const n of range(1, 40)) await store.set('x', n);
      const watcher = other.watch('x', { fromVersion: 0, queue: 8 });
      await waitFor(async () => (await other.stats()).resyncs > 0, { what: 'the overflow' });
      expect((await watcher.next()).value).to.include({ kind: 'reset', version: 40, value: 40 });
      await store.set('x', 41);
      expect((await watcher.next()).value).to.include({ kind: 'full', version: 41 });
    });
  });

  describe('the end', () => {
    it('by the signal: the loop ends, also where it was aborted before', async () => {
      const [store, other] = await stores.pair();
      const redis = await stores.redis();
      const aborter = new AbortController();
      const watched = await watchFromNow(other, 'x', { signal: aborter.signal });
      await store.set('x', 1);
      await watched.version(1);
      aborter.abort();
      await watched.ended;
      await store.set('x', 2);
      expect(watched.versions).to.deep.equal([1]);
      const before = new Watched(other.watch('y', { signal: AbortSignal.abort() }));
      await before.ended;
      expect(before.changes).to.deep.equal([]);
      const { channel } = other.keysOf('y');
      expect(await redis.pubsub('NUMSUB', channel)).to.deep.equal([channel, 0]);
    });

    it('by break: the subscription goes with the last watcher where memory keeps no replica', async () => {
      const [store, other] = await stores.pair({ memory: { local: 0 } });
      const redis = await stores.redis();
      const { channel } = other.keysOf('x');
      const listeners = async (): Promise<number> => Number((await redis.pubsub('NUMSUB', channel))[1]);
      await store.set('x', 1);
      const still = await watchFromNow(other, 'x');
      const seen: number[] = [];
      const loop = (async () => {
        for await (const { version } of other.watch('x', { fromVersion: 0 })) {
          seen.push(version);
          if (version === 2) break;
        }
      })();
      await store.set('x', 2);
      await loop;
      await store.set('x', 3);
      await still.version(3);
      expect(seen).to.deep.equal([1, 2]);
      expect(await listeners()).to.equal(1);
      await other.close();
      await still.ended;
      await waitFor(async () => (await listeners()) === 0, { what: 'the subscription to end' });
    });

    it('by break, where memory keeps the replica: it answers on', async () => {
      const [store, other] = await stores.pair();
      await store.set('x', 1);
      for await (const change of other.watch('x', { fromVersion: 0 })) {
        expect(change.version).to.equal(1);
        await waitFor(async () => (await other.stats()).replicas.live === 1, { what: 'the replica to be live' });
        break;
      }
      await store.set('x', 2);
      await waitFor(async () => (await other.get('x'))?.version === 2, { what: 'version 2' });
      const { hits } = (await other.stats()).replicas;
      await other.get('x');
      expect((await other.stats()).replicas.hits).to.equal(hits + 1);
    });

    it('by close: every loop ends, what was queued can still be read, and a new watch is refused', async () => {
      const [store, other] = await stores.pair();
      await store.set('x', 1);
      const loops = [
        new Watched(other.watch('x')),
        new Watched(other.watch('y')),
        new Watched(other.watch('x', { fromVersion: 0 })),
      ];
      const slow = other.watch('x', { fromVersion: 0 });
      await loops[2]?.version(1);
      await waitFor(async () => (await other.stats()).replicas.live === 2, { what: 'both replicas to be live' });
      await store.set('x', 2);
      await loops[0]?.version(2);
      await other.close();
      await Promise.all(loops.map(({ ended }) => ended));
      expect(loops.map(({ versions }) => versions)).to.deep.equal([[2], [], [1, 2]]);
      const rest: number[] = [];
      for await (const { version } of slow) rest.push(version);
      expect(rest).to.deep.equal([1, 2]);
      await refusal('CLOSED', () => other.watch('x'));
    });

    it('a watch that ends before it is subscribed leaves the next one its subscription', async () => {
      const proxy = await stores.proxy();
      const other = await stores.open({ redis: proxy.url, memory: { local: 0 } });
      const store = await stores.open({ memory: { local: 0 } });
      const redis = await stores.redis();
      const { channel } = other.keysOf('x');
      const listeners = async (): Promise<number> => Number((await redis.pubsub('NUMSUB', channel))[1]);
      proxy.pause('down');
      const brief = other.watch('x');
      await waitFor(async () => (await listeners()) === 1, { what: 'the subscription' });
      // it has reached Redis, and its reply is not back yet
      await brief.return?.();
      await waitFor(async () => (await listeners()) === 0, { what: 'the subscription to end' });
      proxy.resume('down');
      // replies come in order: once this one is live, those before it have been taken in
      other.watch('y');
      await waitFor(async () => (await other.stats()).replicas.live === 1, { what: 'another watcher to be ready' });
      const watched = new Watched(other.watch('x'));
      await waitFor(async () => (await other.stats()).replicas.live === 2, { what: 'the watcher to be ready' });
      expect(await redis.pubsub('NUMSUB', channel)).to.deep.equal([channel, 1]);
      await store.set('x', 1);
      await watched.version(1);
    });
  });

  it('waits for Redis where it is away, and misses nothing', async () => {
    const proxy = await stores.proxy();
    const other = await stores.open({ redis: proxy.url });
    const store = await stores.open();
    await store.set('x', 0);
    const watched = await watchFromNow(other, 'x');
    await store.update('x', increment);
    await watched.version(2);
    proxy.refuse(true);
    proxy.cut();
    const late = new Watched(other.watch('y', { fromVersion: 0 }));
    for (const _ of range(3, 20)) await store.update('x', increment);
    await store.set('y', 'late');
    const error: unknown = await other.get('x', { timeout: 50 }).catch((reason: unknown) => reason);
    expect(isContextError(error) && error.code).to.equal('CONNECTION');
    proxy.refuse(false);
    await watched.version(20);
    await late.version(1);
    expect(watched.versions).to.deep.equal(range(2, 20));
  });
});
