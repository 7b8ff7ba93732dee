import type { Context } from '../../../src/index.js';
import type { Conversation } from '../../../test/helpers/random.js';
import { edit } from '../lib/payloads.js';
import { openStore, replicate } from '../lib/stores.js';
import type { OpenSubject } from './Subject.js';

export const openOurs: OpenSubject = async (url, namespace) => {
  const store = await openStore(url, namespace);
  return {
    get: (id) => store.get(id),
    valueOf: (read) => (read as Context | null)?.value,
    set: (id, doc) => store.set(id, doc),
    edit: (id, number) => store.update<Conversation>(id, (draft) => edit(draft, number)),
    onChange: async (id, held) => {
      const changes = store.watch(id);
      void (async () => {
        for await (const change of changes) held(change.value as unknown as Conversation);
      })();
      await replicate(store, [id]);
    },
    warm: (ids) => replicate(store, ids),
    close: () => store.close(),
  };
};
