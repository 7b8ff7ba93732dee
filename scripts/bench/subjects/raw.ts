/** Pub/sub by hand: the whole document is published and parsed. Nothing is stored, checked or caught up. */
import { Redis } from 'ioredis';
import type { Conversation } from '../../../test/helpers/random.js';
import { edited } from '../lib/payloads.js';
import type { OpenSubject } from './Subject.js';

export const openRaw: OpenSubject = async (url, namespace) => {
  const publisher = new Redis(url, { enableAutoPipelining: true });
  const subscriber = new Redis(url);
  const held = new Map<string, Conversation>();
  const channelOf = (id: string): string => `${namespace}:${id}`;
  return {
    get: (id) => Promise.resolve(held.get(id)),
    valueOf: (read) => read,
    set: (id, doc) => {
      held.set(id, doc);
      return publisher.publish(channelOf(id), JSON.stringify(doc));
    },
    edit: (id, number) => {
      const doc = edited(held.get(id) as Conversation, number);
      held.set(id, doc);
      return publisher.publish(channelOf(id), JSON.stringify(doc));
    },
    onChange: async (id, tell) => {
      subscriber.on('message', (_channel, text: string) => {
        const doc = JSON.parse(text) as Conversation;
        held.set(id, doc);
        tell(doc);
      });
      await subscriber.subscribe(channelOf(id));
    },
    warm: () => Promise.resolve(),
    close: async () => {
      await Promise.all([publisher.quit(), subscriber.quit()]);
    },
  };
};
