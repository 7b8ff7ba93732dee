/** Instances ask each other for a document that Redis has lost, and wait for each other as long as there is somebody to wait for. */
import { expect } from 'chai';
import type { Redis } from 'ioredis';
import type { ContextStore } from '../../src/index.js';
import { forgetCopies, record, untilReplica, useStores } from '../helpers/stores.js';
import { waitFor } from '../helpers/waitFor.js';
import { prose } from './deltaSupport.js';

/** Well below the second that is waited for an instance which does not answer. */
const AT_ONCE_MS = 700;
const VALUE = { text: prose(3, 20_000) };

describe('the question to other instances', function () {
  this.timeout(30_000);
  const stores = useStores();

  /** A context that its own instance has forgotten, and that nothing in Redis can be rebuilt from. */
  async function damaged(): Promise<{ asking: ContextStore; redis: Redis }> {
    const writer = await stores.open();
    await writer.set('x', VALUE);
    const redis = await stores.redis();
    const checkpoint = writer.keysOf('x').context.replace('}:c:', '}:k:');
    await waitFor(async () => (await redis.exists(checkpoint)) === 1, { what: 'the checkpoint' });
    await writer.close();
    return { asking: await stores.open(), redis };
  }
  async function damage(redis: Redis, store: ContextStore): Promise<void> {
    await forgetCopies(redis, store, 'x');
    await redis.hset(store.keysOf('x').context, 'data', '"damaged"');
  }
  /** What has become of it by the end of the limit, and in what order with what else happened. */
  function repairing(store: ContextStore, order: string[] = []): { end(limitMs?: number): Promise<string> } {
    let outcome = '';
    const running = store.repair('x', { timeout: '20s' }).then((result) => {
      order.push('repaired');
      outcome = `${result.outcome} ${result.source}`;
    });
    return {
      end: async (limitMs = AT_ONCE_MS) => {
        await waitFor(() => outcome !== '', { what: 'the end of the repair', limitMs });
        await running;
        return outcome;
      },
    };
  }

  it('is not waited for where nobody else listens', async () => {
    const { asking, redis } = await damaged();
    await damage(redis, asking);
    expect(await repairing(asking).end()).to.equal('quarantined null');
  });

  it('ends as soon as all have said that they have none', async () => {
    const { asking, redis } = await damaged();
    const others = await stores.openMany(4);
    await damage(redis, asking);
    expect(await redis.pubsub('NUMSUB', `{lc:${stores.namespace}}:peers`)).to.deep.include(1 + others.length);
    expect(await repairing(asking).end()).to.equal('quarantined null');
  });

  it('waits for one that is slow: it may be the only one that has it', async () => {
    const { asking, redis } = await damaged();
    const proxy = await stores.proxy();
    const slow = await stores.open({ redis: proxy.url });
    await stores.openMany(2);
    await untilReplica(slow, 'x');
    const told = record(asking, 'context:repaired');
    await damage(redis, asking);
    // the question takes so long, and the answer as well
    proxy.delay(300);
    expect(await repairing(asking).end(10_000)).to.equal('repaired peer');
    expect(told.map(({ source }) => source)).to.deep.equal(['peer']);
    expect((await asking.get('x', { fresh: true }))?.value).to.deep.equal(VALUE);
  });

  it('goes on without one that listens and never answers', async () => {
    const { asking, redis } = await damaged();
    const mute = redis.duplicate();
    const order: string[] = [];
    mute.on('message', () => order.push('asked'));
    await mute.subscribe(`{lc:${stores.namespace}}:peers`);
    try {
      await damage(redis, asking);
      expect(await repairing(asking, order).end(5_000)).to.equal('quarantined null');
      expect(order).to.deep.equal(['asked', 'repaired']);
    } finally {
      mute.disconnect();
    }
  });

  it('is answered with many documents, one after the other', async () => {
    const { asking, redis } = await damaged();
    const near = await stores.open();
    const ids = Array.from({ length: 12 }, (_, n) => `many${n}`);
    for (const [n, id] of ids.entries()) await near.set(id, { n, text: prose(n, 60_000) });
    for (const id of ids) await untilReplica(near, id);
    const checkpoint = (id: string): string => near.keysOf(id).context.replace('}:c:', '}:k:');
    await waitFor(async () => (await redis.exists(...ids.map(checkpoint))) === ids.length, { what: 'the checkpoints' });
    for (const id of ids) {
      await forgetCopies(redis, near, id);
      await redis.hset(near.keysOf(id).context, 'crc', '7', 'sha', '8', 'data', '"damaged"');
    }
    const results = await Promise.all(ids.map((id) => asking.repair(id, { timeout: '20s' })));
    expect(results.map(({ outcome, source }) => `${outcome} ${source}`)).to.deep.equal(ids.map(() => 'repaired peer'));
    for (const [n, id] of ids.entries())
      expect((await asking.get(id, { fresh: true }))?.value).to.deep.equal({ n, text: prose(n, 60_000) });
  });
});
