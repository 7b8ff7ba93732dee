/** Expiry: by Redis's clock and no other, at once, for every reader. */
import { expect } from 'chai';
import type { ContextStore } from '../../src/index.js';
import { record, redisTime, refusal, untilRedisTime, untilReplica, useStores, Watched, watchFromNow } from '../helpers/stores.js';
import { waitFor } from '../helpers/waitFor.js';

/** Long enough for a replica to be made before, ms. */
const TTL = 400;

describe('expiry', () => {
  const stores = useStores();
  const realNow = Date.now;

  afterEach('give the process its clock back', () => {
    Date.now = realNow;
  });

  /** What every door says of a context that is no more; none of them may write. */
  async function expectAbsent(store: ContextStore, id: string): Promise<void> {
    const answers = await Promise.all([
      store.get(id),
      store.get(id, { fresh: true }),
      store.has(id),
      store.getMany([id, id]),
      store.getMany([id], { fresh: true }),
      store.list(),
      store.list({ prefix: id }),
      store.touch(id, '1h'),
      store.delete(id),
    ]);
    const found = answers.map((answer) =>
      answer !== null && typeof answer === 'object' && 'items' in answer ? answer.items : answer,
    );
    expect(found, store.instanceId).to.deep.equal([null, null, false, [null, null], [null], [], [], null, null]);
    await refusal('NOT_FOUND', () => store.update(id, () => 1));
    await refusal('NOT_FOUND', () => store.patch(id, []));
    await refusal('CONFLICT', () => store.set(id, 1, { ifVersion: 1 }));
  }

  it('makes a context absent at once for every reader, before anything has removed it', async () => {
    const [store, reader] = await stores.pair();
    const plain = await stores.open({ memory: { local: 0 } });
    const redis = await stores.redis();
    await store.set('x', { a: 1 }, { ttl: TTL });
    await untilReplica(reader, 'x');
    await untilReplica(store, 'x');
    const expiresAt = (await reader.get('x'))?.expiresAt ?? 0;
    const { hits } = (await reader.stats()).replicas;
    expect((await reader.get('x'))?.value).to.deep.equal({ a: 1 });
    expect((await reader.stats()).replicas.hits).to.equal(hits + 1);

    await untilRedisTime(redis, expiresAt);
    for (const each of [reader, plain, store]) await expectAbsent(each, 'x');
    expect(await redis.exists(store.keysOf('x').context)).to.equal(1);
  });

  it('never shows it once Redis’s clock has reached it, nor hides it before: asked without a pause', async () => {
    const [store, reader] = await stores.pair();
    const redis = await stores.redis();
    await store.set('x', 1, { ttl: TTL });
    await untilReplica(reader, 'x');
    const expiresAt = (await store.get('x', { fresh: true }))?.expiresAt ?? 0;
    let early = 0;
    for (let after = 0; after < 20; ) {
      const before = await redisTime(redis);
      const answers = await Promise.all([reader.get('x'), reader.get('x', { fresh: true }), reader.has('x')]);
      const there = answers.map((answer) => answer !== null && answer !== false);
      if (before >= expiresAt) {
        after += 1;
        expect(there, `${before - expiresAt} ms after`).to.deep.equal([false, false, false]);
      } else if ((await redisTime(redis)) < expiresAt) {
        early += 1;
        expect(there, `${expiresAt - before} ms before`).to.deep.equal([true, true, true]);
      }
    }
    expect(early).to.be.greaterThan(10);
  });

  it('is exact also where the client knows Redis’s clock badly: then Redis itself is asked', async () => {
    const proxy = await stores.proxy();
    // what it knows of the clock it has learnt over a slow connection
    proxy.delay(150);
    const far = await stores.open({ redis: proxy.url, memory: { local: 0 } });
    proxy.delay(0);
    const near = await stores.open({ memory: { local: 0 } });
    const redis = await stores.redis();
    await near.set('x', 1, { ttl: TTL });
    const expiresAt = Number((await near.get('x'))?.expiresAt);
    // near its end it cannot tell by itself, and is right all the same
    await untilRedisTime(redis, expiresAt - 50);
    const before = await far.get('x');
    if ((await redisTime(redis)) < expiresAt) expect(before?.value).to.equal(1);
    await untilRedisTime(redis, expiresAt);
    expect(await far.get('x')).to.equal(null);
    expect(await far.getMany(['x'])).to.deep.equal([null]);
    expect(await far.list()).to.deep.equal({ items: [], cursor: null });
    expect(await far.has('x')).to.equal(false);
  });

  for (const offset of [300_000, -300_000]) {
    it(`does not care about this process’s clock: wrong by ${offset / 60_000} minutes`, async () => {
      let asked = 0;
      Date.now = () => {
        asked += 1;
        return realNow() + offset;
      };
      const [store, reader] = await stores.pair({ heartbeat: '40ms' });
      const redis = await stores.redis();
      const expired = record(reader, 'context:expired');
      const from = await redisTime(redis);
      await store.set('x', 1, { ttl: TTL });
      await store.set('long', 1, { ttl: '4m' });
      await store.set('short', 1);
      await untilReplica(reader, 'x');
      await untilReplica(reader, 'long');
      await store.touch('short', TTL);
      const context = await reader.get('x');
      expect(context?.updatedAt).to.be.within(from, await redisTime(redis));
      expect(context?.expiresAt).to.equal(Number(context?.updatedAt) + TTL);
      expect(await reader.has('short')).to.equal(true);
      await untilRedisTime(redis, Number(context?.expiresAt));
      expect(await reader.get('x')).to.equal(null);
      expect((await reader.get('long'))?.value).to.equal(1);
      expect((await reader.get('long', { fresh: true }))?.value).to.equal(1);
      expect((await store.list({ prefix: 'long' })).items).to.have.lengthOf(1);
      const told = await waitFor(() => expired.find(({ id }) => id === 'x'), { what: 'the event' });
      expect(told).to.include({ version: 1 });
      expect(told.at).to.be.within(Number(context?.expiresAt), (await redisTime(redis)) + 5);
      expect((await store.set('x', 2)).version).to.equal(2);
      expect((await store.get('x'))?.updatedAt).to.be.at.most((await redisTime(redis)) + 1);
      // the stub was in force
      expect(Date.now() - realNow()).to.be.closeTo(offset, 1_000);
      expect(asked).to.be.greaterThan(0);
    });
  }

  it('a touch by one instance lengthens or shortens it for the replica of another', async () => {
    const [store, reader] = await stores.pair();
    const redis = await stores.redis();
    await store.set('x', 1, { ttl: TTL });
    await store.set('y', 1, { ttl: '1h' });
    const watched = await watchFromNow(reader, 'x');
    await untilReplica(reader, 'x');
    await untilReplica(reader, 'y');
    const first = (await reader.get('x'))?.expiresAt ?? 0;
    const longer = await store.touch('x', '1h');
    const shorter = await store.touch('y', TTL);
    for (const [id, touched] of [
      ['x', longer],
      ['y', shorter],
    ] as const) {
      await waitFor(async () => (await reader.get(id))?.expiresAt === touched?.expiresAt, { what: `the new expiry of ${id}` });
    }
    await untilRedisTime(redis, Math.max(first, Number(shorter?.expiresAt)));
    const { hits } = (await reader.stats()).replicas;
    expect(await reader.get('x')).to.include({ value: 1, version: 1 });
    expect((await reader.stats()).replicas.hits).to.equal(hits + 1);
    expect(await reader.get('y')).to.equal(null);
    await store.touch('x', 'none');
    await waitFor(async () => (await reader.get('x'))?.expiresAt === null, { what: 'the expiry to be gone' });
    expect(watched.changes).to.deep.equal([]);
  });

  it('is told once by an event in every instance that follows it, and as a change to watchers', async () => {
    const [sweeper, reader] = [await stores.open({ heartbeat: '50ms' }), await stores.open()];
    const redis = await stores.redis();
    const events = [record(sweeper, 'context:expired'), record(reader, 'context:expired')];
    await sweeper.set('x', { a: 1 }, { ttl: TTL });
    const watchers = [new Watched(sweeper.watch('x', { fromVersion: 0 })), new Watched(reader.watch('x', { fromVersion: 0 }))];
    const { expiresAt } = (await sweeper.get('x')) ?? {};
    for (const watched of watchers) {
      const change = (await watched.count(2))[1];
      expect(watched.kinds).to.deep.equal(['full 1', 'expired 1']);
      expect(change).to.include({ value: null, patch: null, checksum: null });
      expect(change?.at).to.be.within(Number(expiresAt), await redisTime(redis));
    }
    await waitFor(() => events.every(({ length }) => length > 0), { what: 'the events' });
    for (const told of events) {
      expect(told).to.have.lengthOf(1);
      expect(told[0]).to.include({ id: 'x', version: 1 });
      expect(told[0]?.at).to.be.within(Number(expiresAt), await redisTime(redis));
    }
    expect(await redis.exists(sweeper.keysOf('x').context)).to.equal(0);
    const [shard] = (await sweeper.stats()).shards;
    expect(shard).to.include({ contexts: 0, bytes: 0 });
    expect((await sweeper.history('x')).map(({ kind, version }) => `${kind} ${version}`)).to.deep.equal(['expired 1', 'full 1']);
  });

  it('a write over an expired context goes on with its versions; the end of the old one is seen before it', async () => {
    const [store, reader] = await stores.pair();
    const redis = await stores.redis();
    const expired = [record(store, 'context:expired'), record(reader, 'context:expired')];
    await store.set('x', { old: true }, { ttl: TTL });
    const watchers = [new Watched(store.watch('x', { fromVersion: 0 })), new Watched(reader.watch('x', { fromVersion: 0 }))];
    for (const each of [store, reader]) await untilReplica(each, 'x');
    await untilRedisTime(redis, (await store.get('x', { fresh: true }))?.expiresAt ?? 0);

    expect(await store.set('x', { new: true }, { ifVersion: 0 })).to.include({ version: 2 });
    expect(await store.get('x')).to.deep.include({ version: 2, value: { new: true }, expiresAt: null });
    for (const watched of watchers) {
      await watched.version(2);
      expect(watched.kinds).to.deep.equal(['full 1', 'expired 1', 'full 2']);
      expect(watched.last?.patch).to.deep.equal([{ op: 'replace', path: '', value: { new: true } }]);
    }
    for (const told of expired) {
      await waitFor(() => told.length > 0, { what: 'the event' });
      expect(told.map(({ id, version }) => [id, version])).to.deep.equal([['x', 1]]);
    }
    const later = new Watched(reader.watch('x', { fromVersion: 1 }));
    await later.version(2);
    expect(later.kinds).to.deep.equal(['expired 1', 'full 2']);
    const [shard] = (await store.stats()).shards;
    expect(shard).to.include({ contexts: 1 });
  });

  it('an update begins anew with `initial`, and a ttl that is kept is not that of the dead', async () => {
    const store = await stores.open();
    const redis = await stores.redis();
    await store.set('x', ['old'], { ttl: TTL });
    await untilReplica(store, 'x');
    await untilRedisTime(redis, (await store.get('x'))?.expiresAt ?? 0);
    const { version, value } = await store.update<string[]>(
      'x',
      (draft) => {
        draft.push('new');
      },
      { initial: [] },
    );
    expect({ version, value }).to.deep.equal({ version: 2, value: ['new'] });
    expect((await store.get('x', { fresh: true }))?.expiresAt).to.equal(null);
  });

  it('thousands that are due are swept in batches by whoever is there', async () => {
    const [store] = [await stores.open({ heartbeat: '50ms' }), await stores.open({ heartbeat: '50ms' })];
    await Promise.all(Array.from({ length: 1_500 }, (_, index) => store.set(`x-${index}`, index, { ttl: 100 + (index % 50) })));
    await store.set('stays', 1);
    await waitFor(async () => (await store.stats()).shards[0]?.contexts === 1, { what: 'the sweep' });
    expect((await store.list()).items.map(({ id }) => id)).to.deep.equal(['stays']);
  });
});
