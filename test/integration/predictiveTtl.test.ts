/** Option `ttl.predict`: expiries that follow how contexts are used, in one instance and in several. */
import { expect } from 'chai';
import type { Redis } from 'ioredis';
import type { ContextStore, StoreOptions } from '../../src/index.js';
import { redisTime, untilRedisTime, untilReplica, useStores } from '../helpers/stores.js';
import { waitFor } from '../helpers/waitFor.js';

const MIN = 1000;
const HOUR = 3_600_000;
/** Ready after the second tick: a tick is a tenth of `min`. */
const PREDICT: StoreOptions = { ttl: { predict: { min: MIN, max: '1h', keep: 0.5, observations: 1 } } };
/** Never ready: it uses what it reads, and cannot say how. */
const UNSURE: StoreOptions = { ttl: { predict: { min: MIN, max: '1h', observations: 10_000 } } };

describe('predicted times to live', () => {
  const stores = useStores();

  const counters = async (store: ContextStore) => {
    const { ttl } = await store.stats();
    if (ttl === null) throw new Error('predictions are off');
    return ttl;
  };
  const expiry = async (redis: Redis, store: ContextStore, id = 'x'): Promise<number> =>
    Number(await redis.hget(store.keysOf(id).context, 'exp'));
  const needs = async (redis: Redis, store: ContextStore, id = 'x'): Promise<string | null> =>
    redis.hget(store.keysOf(id).context, 'need');
  /** Reads with all of them, as often as this looks, until the condition holds. */
  const reading = (using: readonly ContextStore[], what: string, condition: () => Promise<boolean>, id = 'x') =>
    waitFor(
      async () => {
        await Promise.all(using.map((store) => store.get(id)));
        return condition();
      },
      { what, limitMs: 10_000 },
    );

  it('are off by default: the same reads that let another store predict leave no trace', async () => {
    const [plain, predicting] = [await stores.open(), await stores.open({ ...PREDICT, namespace: `${stores.namespace}-on` })];
    const redis = await stores.redis();
    for (const store of [plain, predicting]) await store.set('x', 1, { ttl: HOUR });
    await untilReplica(plain, 'x');
    const before = await redis.hgetall(plain.keysOf('x').context);
    const monitor = await redis.monitor();
    const commands: string[] = [];
    monitor.on('monitor', (_: string, args: string[]) => commands.push(args.join(' ')));
    try {
      await reading([plain, predicting], 'a prediction', async () => (await counters(predicting)).shortened > 0);
      const marker = plain.keysOf('marker').context;
      await redis.get(marker);
      await waitFor(() => commands.some((command) => command.endsWith(marker)), { what: 'the marker' });
    } finally {
      monitor.disconnect();
    }
    const about = (store: ContextStore): string[] => commands.filter((command) => command.includes(store.keysOf('x').context));
    expect(about(plain)).to.deep.equal([]);
    expect(about(predicting)).not.to.deep.equal([]);
    expect(await redis.hgetall(plain.keysOf('x').context)).to.deep.equal(before);
    expect((await plain.stats()).ttl).to.equal(null);
  });

  it('extend what is used beyond the expiry that was written, and let it end afterwards', async () => {
    const [store, looker] = [await stores.open(PREDICT), await stores.open({ memory: { local: 0 } })];
    const redis = await stores.redis();
    await store.set('x', 1, { ttl: 1500 });
    const written = await expiry(redis, store);
    await reading([store], 'a second past the expiry', async () => {
      expect(await store.get('x'), 'while it is used').not.to.equal(null);
      return (await redisTime(redis)) > written + 1000;
    });
    const { extended, observed } = await counters(store);
    expect(extended).to.be.within(1, 4);
    expect(observed).to.be.greaterThan(extended);
    const last = await expiry(redis, store);
    expect(last - (await redisTime(redis))).to.be.at.most(2 * MIN);
    await untilRedisTime(redis, last + 1);
    await waitFor(async () => (await looker.get('x')) === null, { what: 'its end' });
  });

  it('shorten what is used often, never below min', async () => {
    const store = await stores.open(PREDICT);
    const redis = await stores.redis();
    await store.set('x', 1, { ttl: HOUR });
    const written = await expiry(redis, store);
    let before = await redisTime(redis);
    let after = before;
    await reading([store], 'an earlier expiry', async () => {
      const exp = await expiry(redis, store);
      after = await redisTime(redis);
      if (exp === written) before = after;
      return exp < written;
    });
    expect(await expiry(redis, store)).to.be.within(before + MIN, after + 2 * MIN);
    expect((await store.get('x'))?.expiresAt).to.equal(await expiry(redis, store));
    expect((await counters(store)).shortened).to.equal(1);
    expect((await store.verify('x'))?.ok).to.equal(true);
  });

  it('give no expiry to what has none', async () => {
    const store = await stores.open(PREDICT);
    const redis = await stores.redis();
    await store.set('eternal', 1);
    await store.set('x', 1, { ttl: HOUR });
    await reading([store], 'a prediction', async () => {
      await store.get('eternal');
      return (await counters(store)).shortened > 0;
    });
    expect((await store.get('eternal', { fresh: true }))?.expiresAt).to.equal(null);
    expect(await redis.hexists(store.keysOf('eternal').context, 'exp')).to.equal(0);
    expect(await needs(redis, store, 'eternal')).to.equal(null);
  });

  it('know of uses that Redis answers and of commits, too', async () => {
    const store = await stores.open({ ...PREDICT, memory: { local: 0 } });
    await store.set('x', { n: 0 }, { ttl: HOUR });
    await reading([store], 'a prediction', async () => (await counters(store)).shortened > 0);
    await store.set('y', { n: 0 }, { ttl: HOUR });
    const { shortened } = await counters(store);
    await waitFor(
      async () => {
        await store.update<{ n: number }>('y', (draft) => {
          draft.n += 1;
        });
        await store.has('y');
        return (await counters(store)).shortened > shortened;
      },
      { what: 'a prediction from updates', limitMs: 10_000 },
    );
  });

  describe('of two instances', () => {
    it('never shorten what the other one uses and does not know yet', async () => {
      const [sure, unsure] = [await stores.open(PREDICT), await stores.open(UNSURE)];
      const redis = await stores.redis();
      await sure.set('x', 1, { ttl: HOUR });
      const written = await expiry(redis, sure);
      await reading([unsure], 'its word', async () => (await needs(redis, sure))?.includes(unsure.instanceId) ?? false);
      // from here on the other one is silent; its word stands
      await reading([sure], 'two tries', async () => (await counters(sure)).kept >= 2);
      expect(await expiry(redis, sure)).to.equal(written);
      expect((await counters(sure)).shortened).to.equal(0);
    });

    it('never shorten what a third one, without predictions, has a replica of', async () => {
      const [sure, plain] = [await stores.open(PREDICT), await stores.open()];
      const redis = await stores.redis();
      await sure.set('x', 1, { ttl: HOUR });
      const written = await expiry(redis, sure);
      await untilReplica(plain, 'x');
      await reading([sure], 'a replica and two tries', async () => (await counters(sure)).kept >= 2);
      expect(await expiry(redis, sure)).to.equal(written);
      await plain.close();
      await reading([sure], 'a try after it has gone', async () => (await counters(sure)).shortened === 1);
    });

    it('shorten together, to what the one needs that needs it longer', async () => {
      const [often, seldom] = [
        await stores.open(PREDICT),
        await stores.open({ ttl: { predict: { min: '5m', max: '1h', keep: 0.5, observations: 1 } } }),
      ];
      const redis = await stores.redis();
      await often.set('x', 1, { ttl: HOUR });
      const written = await expiry(redis, often);
      await reading([often, seldom], 'an earlier expiry', async () => (await expiry(redis, often)) < written);
      const exp = await expiry(redis, often);
      await reading([often], 'another try', async () => (await counters(often)).kept >= 2);
      expect(exp - (await redisTime(redis))).to.be.within(5 * 60_000, 10 * 60_000);
      expect(await expiry(redis, often)).to.be.at.least(exp);
    });
  });

  it('end with the store, although a call is on its way', async () => {
    const proxy = await stores.proxy();
    const store = await stores.open({ ...PREDICT, redis: `redis://127.0.0.1:${proxy.port}` });
    await store.set('x', 1, { ttl: HOUR });
    await untilReplica(store, 'x');
    proxy.pause('down');
    const sent = proxy.bytesUp;
    await waitFor(
      async () => {
        await store.get('x');
        return proxy.bytesUp > sent;
      },
      { what: 'a call that gets no answer' },
    );
    await store.close();
  });
});
