import { expect } from 'chai';
import type { Redis } from 'ioredis';
import { ContextStore } from '../../src/index.js';
import { Keys } from '../../src/redis/keys.js';
import { sharedServer } from '../helpers/RedisServer.js';
import { SteppingProxy } from '../helpers/SteppingProxy.js';
import { RecordingLogger, refusal, useStores } from '../helpers/stores.js';
import { waitFor } from '../helpers/waitFor.js';

const SHARDS = 2;

describe('records of transactions that are damaged', () => {
  const stores = useStores();
  let keys: Keys;
  let redis: Redis;
  beforeEach(async () => {
    keys = new Keys(stores.namespace, SHARDS);
    redis = await stores.redis();
  });

  const options = () => ({ shards: SHARDS, transactions: { recoverAfter: 300 } });
  /** So many ids of a shard. */
  const idsOf = (shard: number, count: number): string[] =>
    Array.from({ length: 100 }, (_, n) => `id-${n}`)
      .filter((id) => keys.shardOf(id).shard === shard)
      .slice(0, count);

  /** A coordinator that is gone before a script of its transaction is called the first time. */
  async function gone(ids: readonly string[], script: 'decide' | 'finish'): Promise<void> {
    const proxy = await SteppingProxy.start(Number(new URL((await sharedServer()).url).port));
    const store = await ContextStore.connect({
      redis: proxy.url,
      namespace: stores.namespace,
      workers: 'off',
      logger: false,
      timeout: '1s',
      ...options(),
    });
    proxy.stopAt({ hold: (call) => call.script === script && call.nth === 1 });
    const ended = store
      .transaction((tx) => {
        for (const id of ids) tx.set(id, 'after');
      })
      .catch(() => {});
    await waitFor(() => proxy.stopped, { what: `the call of ${script}` });
    await proxy.close();
    await store.close();
    await ended;
  }

  const intentOf = (id: string): Promise<string | null> => redis.hget(keys.of(id).context, 'intent');
  const recordIn = async (shard: number): Promise<string> => {
    const found = await redis.zrange(keys.shards[shard]?.txn ?? '', '0', '0');
    return `${keys.shards[shard]?.tag}:t:${found[0]}`;
  };

  for (const [what, field, damage] of [
    ['the document', 'a1', (text: string) => text.replace('after', 'aftes')],
    ['the header', 'a3', (text: string) => text.replace(' full ', ' fulm ')],
    ['the list of members', 'members', (text: string) => text.replace('commit', 'commiu')],
  ] as const) {
    it(`${what}: readers are told, others are not held up, and the context can be written anew`, async () => {
      const logger = new RecordingLogger();
      const store = await stores.open({ ...options(), logger });
      const [[bad, held], [there, other]] = [idsOf(0, 2), idsOf(1, 2)] as [[string, string], [string, string]];
      for (const id of [bad, held, there, other]) await store.set(id, 'before');
      await gone([bad, there], 'finish');
      const record = await recordIn(0);
      const before = (await redis.hget(record, field)) ?? '';
      expect(damage(before)).to.not.equal(before);
      await redis.hset(record, field, damage(before));
      await gone([held, other], 'decide');
      await store.set('expired', 1, { ttl: 1 });
      await waitFor(
        async () => {
          await store.maintenance.sweep();
          return (await intentOf(held)) === null && (await intentOf(other)) === null && (await intentOf(there)) === null;
        },
        { what: 'the sweep to end what it can' },
      );
      expect(await redis.exists(keys.of('expired').context)).to.equal(0);
      expect((await store.get(there, { fresh: true }))?.value).to.equal('after');
      expect((await store.get(held, { fresh: true }))?.value).to.equal('before');
      const error = await refusal('CORRUPT', () => store.get(bad, { fresh: true }));
      expect(error.message).to.contain('write the context anew');
      expect((await store.set(bad, 'anew')).version).to.equal(2);
      expect((await store.get(bad, { fresh: true }))?.value).to.equal('anew');
      if (field === 'members') return;
      // once nobody needs it, it goes
      await store.maintenance.sweep();
      await waitFor(async () => (await redis.zcard(keys.shards[0]?.txn ?? '')) === 0, { what: 'the record to be let go of' });
      expect(logger.at('error').length).to.be.at.least(1);
    });
  }
});
