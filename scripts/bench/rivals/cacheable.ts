/**
 * cacheable with memory, Redis and its sync by messages, which carry the whole value. Its memory layer clones at every read and write,
 * unless `useClone` is false: then it hands out the very object that it holds.
 */
import { createKeyv as createKeyvRedis } from '@keyv/redis';
import { RedisMessageProvider } from '@qified/redis';
import { Cacheable, createKeyv } from 'cacheable';
import type { Conversation } from '../../../test/helpers/random.js';
import { edited } from '../lib/payloads.js';
import type { Subject } from '../subjects/Subject.js';

export async function openCacheable(url: string, namespace: string, useClone: boolean): Promise<Subject> {
  const primary = createKeyv({ useClone, lruSize: 10_000 });
  const cache = new Cacheable({
    primary,
    secondary: createKeyvRedis(url),
    namespace,
    sync: { qified: new RedisMessageProvider({ uri: url }) },
  });
  // it swallows errors otherwise, and would be measured at doing nothing
  cache.on('error', (error) => {
    throw error;
  });
  const subject: Subject = {
    get: (id) => cache.get(id),
    valueOf: (read) => read,
    set: (id, doc) => cache.set(id, doc),
    edit: async (id, number) => cache.set(id, edited((await cache.get(id)) as Conversation, number)),
    onChange: async (id, held) => {
      primary.hooks.addHandler('postSet', ({ value }) => held(value.value as Conversation));
      await subject.get(id);
    },
    warm: async (ids) => {
      for (const id of ids) await cache.get(id);
    },
    close: () => cache.disconnect(),
  };
  return subject;
}
