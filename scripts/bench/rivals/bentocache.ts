/**
 * bentocache with memory, Redis and bus. Its memory layer keeps strings and parses them at every read. With `serialize: false` it hands
 * out the very object that it holds; but then 1.6.1 cannot read a second time what it once took from Redis, so that is compared only
 * where nothing comes from there.
 */
import { BentoCache, bentostore } from 'bentocache';
import { memoryDriver } from 'bentocache/drivers/memory';
import { redisBusDriver, redisDriver } from 'bentocache/drivers/redis';
import { Redis } from 'ioredis';
import type { Conversation } from '../../../test/helpers/random.js';
import { waitFor } from '../../../test/helpers/waitFor.js';
import { edited } from '../lib/payloads.js';
import type { Subject } from '../subjects/Subject.js';

const STORE = 'bench';

export async function openBentocache(url: string, namespace: string, serialize: boolean): Promise<Subject> {
  const { hostname, port } = new URL(url);
  const connection = { host: hostname, port: Number(port), enableAutoPipelining: true };
  const redis = new Redis(url);
  const listeners = async (): Promise<number> => Number((await redis.pubsub('NUMSUB', `bentocache.notifications:${STORE}`))[1]);
  const before = await listeners();
  const bento = new BentoCache({
    default: STORE,
    prefix: namespace,
    ttl: null,
    stores: {
      [STORE]: bentostore()
        .useL1Layer(memoryDriver({ maxItems: 10_000, serialize }))
        .useL2Layer(redisDriver({ connection }))
        .useBus(redisBusDriver({ connection })),
    },
  });
  // its bus is made at the first use; it does not say when that listens, and fails where it is closed before
  await bento.get({ key: 'absent' });
  await waitFor(async () => (await listeners()) > before, { what: 'the bus of bentocache' });
  await redis.quit();
  const subject: Subject = {
    get: (id) => bento.get({ key: id }),
    valueOf: (read) => read,
    set: (id, doc) => bento.set({ key: id, value: doc }),
    edit: async (id, number) => bento.set({ key: id, value: edited((await bento.get({ key: id })) as Conversation, number) }),
    // the bus only says that a key has changed: the value is there after the read that follows
    onChange: async (id, held) => {
      bento.on('bus:message:received', ({ message }) => {
        if (!message.keys.includes(id)) return;
        queueMicrotask(() => void bento.get({ key: id }).then((doc) => held(doc as Conversation)));
      });
      await subject.get(id);
    },
    warm: async (ids) => {
      for (const id of ids) await bento.get({ key: id });
    },
    close: () => bento.disconnectAll(),
  };
  return subject;
}
