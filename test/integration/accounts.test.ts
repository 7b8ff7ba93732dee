/** The accounts of real bytes are what Redis itself says that contexts and their logs take. */
import { expect } from 'chai';
import type { Redis } from 'ioredis';
import type { ContextStore } from '../../src/index.js';
import { redisTime, useStores } from '../helpers/stores.js';
import { waitFor } from '../helpers/waitFor.js';

describe('accounts', () => {
  const stores = useStores();

  /** `MEMORY USAGE` of contexts and their logs, id by id. */
  async function measured(redis: Redis, store: ContextStore, ids: readonly string[]): Promise<Map<string, number>> {
    const sizes = new Map<string, number>();
    for (const id of ids) {
      const { context, log } = store.keysOf(id);
      const [ofContext, ofLog] = [
        await redis.memory('USAGE', context, 'SAMPLES', 0),
        await redis.memory('USAGE', log, 'SAMPLES', 0),
      ];
      sizes.set(id, Number(ofContext ?? 0) + Number(ofLog ?? 0));
    }
    return sizes;
  }

  it('equal the sums of MEMORY USAGE over every kind of commit, by context and by shard', async () => {
    const store = await stores.open({ shards: 3, heartbeat: '50ms' });
    const redis = await stores.redis();
    const ids = Array.from({ length: 30 }, (_, index) => `x-${index}`);
    await Promise.all(
      ids.map((id, index) => store.set(id, { n: 0, pad: 'p'.repeat(index * 97) }, index % 3 === 0 ? { ttl: '1h' } : {})),
    );
    const check = async (present: readonly string[], what: string): Promise<void> => {
      const sizes = await measured(redis, store, present);
      const items = (await store.list({ limit: 1000 })).items.map(({ id, memoryBytes }) => [id, memoryBytes] as const);
      expect(Object.fromEntries(items), what).to.deep.equal(Object.fromEntries(sizes));
      const { shards } = await store.stats();
      const sum = (values: Iterable<number>): number => [...values].reduce((total, value) => total + value, 0);
      expect(sum(shards.map(({ bytes }) => bytes)), what).to.equal(sum(sizes.values()));
      expect(sum(shards.map(({ contexts }) => contexts)), what).to.equal(present.length);
      for (const { shard, bytes, contexts } of shards) {
        const inShard = present.filter((id) => store.keysOf(id).context.includes(`:${shard}}`));
        expect(contexts, `${what}, shard ${shard}`).to.equal(inShard.length);
        expect(bytes, `${what}, shard ${shard}`).to.equal(sum(inShard.map((id) => sizes.get(id) ?? 0)));
      }
    };
    await check(ids, 'after set');
    for (let round = 0; round < 5; round += 1) {
      await Promise.all(
        ids.map((id, index) =>
          index % 2 === 0
            ? store.patch(id, [{ op: 'replace', path: '/n', value: round }])
            : store.update<{ pad: string }>(id, (draft) => {
                draft.pad += 'more'.repeat(round * 20);
              }),
        ),
      );
    }
    await check(ids, 'after patch and update');
    await Promise.all(ids.slice(0, 10).map((id) => store.set(id, 'small')));
    await check(ids, 'after they have shrunk');
    await Promise.all(ids.slice(0, 5).map((id) => store.delete(id)));
    await check(ids.slice(5), 'after delete');
    await Promise.all(ids.slice(5, 10).map((id) => store.set(id, 'brief', { ttl: 100 })));
    await waitFor(async () => (await store.stats()).shards.reduce((sum, { contexts }) => sum + contexts, 0) === 20, {
      what: 'the sweep',
    });
    await check(ids.slice(10), 'after expiry');
    await Promise.all(ids.slice(0, 10).map((id) => store.set(id, { back: true })));
    await check(ids, 'after they were made again');
  });

  it('count what a touch adds', async () => {
    const store = await stores.open();
    const redis = await stores.redis();
    await store.set('x', { pad: 'p'.repeat(100) });
    await store.touch('x', '1h');
    const [size] = (await measured(redis, store, ['x'])).values();
    expect((await store.stats()).shards[0]?.bytes).to.equal(size);
    await store.touch('x', 'none');
    const [after] = (await measured(redis, store, ['x'])).values();
    expect((await store.stats()).shards[0]?.bytes).to.equal(after);
  });

  it('a log is bounded in entries and in bytes', async () => {
    const store = await stores.open({ log: { keep: 8, bytes: '8kb' } });
    const redis = await stores.redis();
    const { log } = store.keysOf('x');
    for (let n = 0; n < 100; n += 1) await store.set('x', { n, pad: 'p'.repeat(500) });
    expect(await redis.xlen(log)).to.be.within(1, 8 + 32);
    expect(Number(await redis.memory('USAGE', log, 'SAMPLES', 0))).to.be.at.most(8 * 1024);
    for (let n = 0; n < 20; n += 1) await store.set('x', { n, pad: `${n}`.repeat(3_000) });
    expect(Number(await redis.memory('USAGE', log, 'SAMPLES', 0))).to.be.at.most(2 * 6_100);
  });

  it('stats tell what this instance did', async () => {
    const [store, other] = await stores.pair();
    const redis = await stores.redis();
    await store.set('x', { n: 0, pad: 'p'.repeat(100) });
    await other.set('y', 1);
    await store.update<{ n: number }>('x', (draft) => {
      draft.n = 1;
    });
    await store.delete('y');
    const stats = await store.stats();
    expect(stats).to.deep.include({
      namespace: stores.namespace,
      instanceId: store.instanceId,
      commits: 3,
      conflicts: 0,
      resyncs: 0,
      checksumFailures: 0,
      connection: { commands: 'up', subscriptions: 'up' },
    });
    expect((await other.stats()).commits).to.equal(1);
    expect(stats.shards).to.have.lengthOf(1);
    expect(stats.shards[0]?.indexBytes).to.be.greaterThan(0);
    expect(stats.shards[0]?.contexts).to.equal(1);
    const [newest] = await store.history('x');
    expect(newest).to.deep.include({ version: 2, kind: 'splice', by: store.instanceId, bytes: 116 });
    expect(newest?.at).to.be.at.most(await redisTime(redis));
    expect(newest?.patch).to.deep.equal([{ op: 'replace', path: '/n', value: 1 }]);
    expect(newest?.operation).to.match(/^\S+$/);
    expect(await store.history('x', { limit: 1 })).to.have.lengthOf(1);
    expect(await store.history('none')).to.deep.equal([]);
  });
});
