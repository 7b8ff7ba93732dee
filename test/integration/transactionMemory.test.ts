import { expect } from 'chai';
import type { Redis } from 'ioredis';
import { ContextStore } from '../../src/index.js';
import { Keys } from '../../src/redis/keys.js';
import { RedisServer } from '../helpers/RedisServer.js';
import { SteppingProxy } from '../helpers/SteppingProxy.js';
import { refusal, useStores } from '../helpers/stores.js';
import { waitFor } from '../helpers/waitFor.js';

const SHARDS = 4;
const IDS = ['a', 'b', 'c', 'd'];

describe('transactions in a Redis without memory left', () => {
  let server: RedisServer;
  let redis: Redis;
  before(async () => {
    server = await RedisServer.start();
    redis = server.client();
  });
  after(() => server.stop());
  const stores = useStores(() => server);
  afterEach(() => redis.config('SET', 'maxmemory', '0'));

  const write = (store: ContextStore, value: number): Promise<void> =>
    store.transaction((tx) => {
      for (const id of IDS) tx.set(id, value);
    });
  const left = async (): Promise<unknown[]> => {
    const keys = new Keys(stores.namespace, SHARDS);
    const intents = await Promise.all(IDS.map((id) => redis.hget(keys.of(id).context, 'intent')));
    const open = await Promise.all(keys.shards.map(({ txn }) => redis.zrange(txn, '0', '-1')));
    return [...intents.filter((intent) => intent !== null), ...open.flat()];
  };

  for (const shards of [1, SHARDS])
    it(`are refused in their first phase, and leave nothing, over ${shards} shard${shards === 1 ? '' : 's'}`, async () => {
      const store = await stores.open({ shards });
      await write(store, 1);
      await redis.config('SET', 'maxmemory', '1');
      expect((await refusal('REDIS_MEMORY', () => write(store, 2))).retryable).to.equal(true);
      const read = await store.getMany(IDS, { fresh: true });
      expect(read.map((context) => context?.value)).to.deep.equal([1, 1, 1, 1]);
      await redis.config('SET', 'maxmemory', '0');
      await waitFor(async () => (await left()).length === 0, { what: 'nothing to be left of it' });
      await write(store, 3);
    });

  it('are applied all the same once they are decided', async () => {
    const proxy = await SteppingProxy.start(server.port);
    const options = { namespace: stores.namespace, shards: SHARDS, workers: 'off', logger: false } as const;
    const coordinator = await ContextStore.connect({ ...options, redis: proxy.url, timeout: '1s' });
    const store = await stores.open({ shards: SHARDS });
    await write(store, 1);
    proxy.stopAt({ hold: ({ script, nth }) => script === 'finish' && nth === 1 });
    const ended = write(coordinator, 2).catch(() => {});
    await waitFor(() => proxy.stopped, { what: 'the second phase' });
    await redis.config('SET', 'maxmemory', '1');
    const read = await store.getMany(IDS, { fresh: true });
    expect(read.map((context) => context?.value)).to.deep.equal([2, 2, 2, 2]);
    await proxy.close();
    await coordinator.close();
    await ended;
  });
});
