/** The subscriber whose processor time is measured: a process of its own that does nothing else. */
import { Redis } from 'ioredis';
import type { Change, ContextStore } from '../../../src/index.js';
import { serve } from '../../../test/helpers/child.js';
import { waitFor } from '../../../test/helpers/waitFor.js';
import { openStore, replicate } from '../lib/stores.js';
import type { SubscriberRequest, Usage } from './subscriberCpu.js';

let store: ContextStore | undefined;
let changes = 0;
let last: Change | undefined;

serve(async (message) => {
  const request = message as SubscriberRequest;
  switch (request.do) {
    case 'open': {
      const { url, namespace, id, patches } = request;
      store = await openStore(url, namespace, { limits: { contextBytes: '8mb' } });
      const watched = store.watch(id);
      void (async () => {
        for await (const change of watched) {
          if (patches && change.patch === null) throw new Error(`version ${change.version} has no patch`);
          changes += 1;
          last = change;
        }
      })();
      return replicate(store, [id]);
    }
    case 'listen': {
      // ioredis alone: what any subscriber pays for a message
      const subscriber = new Redis(request.url);
      subscriber.on('message', () => {
        changes += 1;
      });
      await subscriber.subscribe(request.channel);
      return;
    }
    case 'usage': {
      const { user, system } = process.cpuUsage();
      return { cpuMs: (user + system) / 1000, atMs: performance.now(), changes } satisfies Usage;
    }
    case 'reach':
      await waitFor(() => last?.version === request.version, { what: `version ${request.version}`, limitMs: 30_000 });
      return JSON.stringify(last?.value);
    case 'close':
      return store?.close();
  }
});
