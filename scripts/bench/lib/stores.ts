/** Stores as the benchmarks open them: defaults, but for what the benchmark is about. */
import type { ContextStore, StoreOptions } from '../../../src/index.js';
import { waitFor } from '../../../test/helpers/waitFor.js';
import { built } from './built.js';

export async function openStore(url: string, namespace: string, options: StoreOptions = {}): Promise<ContextStore> {
  const { ContextStore: Store } = await built();
  return Store.connect({ redis: url, namespace, workers: 'off', logger: false, ...options });
}

/** Every read and every commit goes to Redis. */
export const withoutReplicas = (url: string, namespace: string): Promise<ContextStore> =>
  openStore(url, namespace, { memory: { local: 0 } });

/** Until each of the contexts is answered from this process's memory. */
export async function replicate(store: ContextStore, ids: readonly string[]): Promise<void> {
  await waitFor(
    async () => {
      const { misses } = (await store.stats()).replicas;
      for (const id of ids) await store.get(id);
      return (await store.stats()).replicas.misses === misses;
    },
    { what: `${ids.length} replicas`, limitMs: 30_000, everyMs: 20 },
  );
}
