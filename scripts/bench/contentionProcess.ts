/** One of the processes of the contention benchmark, with its share of the writers. */
import { Redis } from 'ioredis';
import type { ContextStore } from '../../src/index.js';
import { serve } from '../../test/helpers/child.js';
import type { Conversation } from '../../test/helpers/random.js';
import type { ContentionRequest, ContentionResult } from './contention.js';
import { openStore, replicate } from './lib/stores.js';

let store: ContextStore | undefined;
let clients: Redis[] = [];

serve(async (message) => {
  const request = message as ContentionRequest;
  if (request.do === 'open') {
    store = await openStore(request.url, request.namespace);
    clients = Array.from({ length: request.writers }, () => new Redis(request.url));
    await replicate(store, request.ids);
    return;
  }
  if (store === undefined) throw new Error('ask it to open first');
  if (request.do === 'close') {
    await Promise.all([store.close(), ...clients.map((client) => client.quit())]);
    return;
  }
  const { ids, startAt, ms } = request;
  await new Promise((resolve) => setTimeout(resolve, startAt - Date.now()));
  const end = performance.now() + ms;
  const conflictsBefore = (await store.stats()).conflicts;
  const results = await Promise.all(
    ids.map((id, writer) => (request.how === 'update' ? updates(store, id, end) : watched(clients[writer], id, end))),
  );
  const result: ContentionResult = {
    commits: results.reduce((sum, { commits }) => sum + commits, 0),
    conflicts:
      request.how === 'update'
        ? (await store.stats()).conflicts - conflictsBefore
        : results.reduce((sum, { conflicts }) => sum + conflicts, 0),
    least: Math.min(...results.map(({ commits }) => commits)),
  };
  return result;
});

interface Count {
  commits: number;
  conflicts: number;
}

async function updates(from: ContextStore | undefined, id: string, end: number): Promise<Count> {
  const count = { commits: 0, conflicts: 0 };
  while (performance.now() < end) {
    await from?.update<Conversation>(
      id,
      (draft) => {
        draft.state.step += 1;
      },
      { timeout: '60s', attempts: 10_000 },
    );
    count.commits += 1;
  }
  return count;
}

/** The same without a store: optimistic locking as the Redis manual shows it. */
async function watched(client: Redis | undefined, id: string, end: number): Promise<Count> {
  const count = { commits: 0, conflicts: 0 };
  if (client === undefined) return count;
  while (performance.now() < end) {
    for (;;) {
      await client.watch(id);
      const doc = JSON.parse((await client.get(id)) ?? '') as Conversation;
      doc.state.step += 1;
      const done = await client.multi().set(id, JSON.stringify(doc)).exec();
      if (done !== null) break;
      count.conflicts += 1;
    }
    count.commits += 1;
  }
  return count;
}
