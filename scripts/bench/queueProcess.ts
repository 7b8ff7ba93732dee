/** A process beside the one that measures: it works on the queues of a namespace, writes as others do, or scrubs. */
import type { Workers } from '../../queues/Workers.js';
import type { ContextStore, StoreOptions } from '../../src/index.js';
import { serve } from '../../test/helpers/child.js';
import { built, builtQueues } from './lib/built.js';
import { documents } from './lib/payloads.js';

export type QueueCommand =
  | { readonly do: 'open'; readonly options: StoreOptions }
  | { readonly do: 'work' | 'close' }
  /** One write after the other until the next command. */
  | { readonly do: 'load'; readonly bytes: number }
  | { readonly do: 'scrub'; readonly rate: number; readonly forMs?: number };

export interface ScrubTime {
  readonly seconds: number;
  readonly bytes: number;
  readonly checked: number;
  readonly total: number;
}

const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
let store: ContextStore | undefined;
let workers: Workers | undefined;
let loading = false;

async function load(bytes: number): Promise<void> {
  const docs = documents(bytes, 16);
  loading = true;
  for (let n = 0; loading; n += 1) await store?.set(`load-${n % 64}`, docs[n % 16]);
}

async function scrub(rate: number, forMs: number | undefined): Promise<ScrubTime> {
  if (store === undefined) throw new Error('nothing is open');
  const { scrubPass } = await builtQueues();
  const stop = new AbortController();
  const timer = forMs === undefined ? undefined : setTimeout(() => stop.abort(), forMs);
  const begun = performance.now();
  const { bytes, checked, total, damaged } = await scrubPass(store.maintenance, {
    signal: stop.signal,
    rate,
    heal: async () => false,
  });
  clearTimeout(timer);
  if (damaged > 0) throw new Error(`${damaged} contexts are damaged`);
  return { seconds: (performance.now() - begun) / 1000, bytes, checked, total };
}

serve(async (message) => {
  const command = message as QueueCommand;
  loading = false;
  switch (command.do) {
    case 'open': {
      const { ContextStore: Store } = await built();
      store = await Store.connect({ logger: false, workers: 'external', ...command.options });
      return undefined;
    }
    case 'work': {
      if (store === undefined) throw new Error('nothing is open');
      const { Workers } = await builtQueues();
      workers = await Workers.start(store.maintenance, { logger: quiet });
      return undefined;
    }
    case 'load':
      load(command.bytes).catch((error: unknown) => process.stderr.write(`${String(error)}\n`));
      return undefined;
    case 'scrub':
      return scrub(command.rate, command.forMs);
    case 'close':
      await workers?.close();
      await store?.close();
      return undefined;
  }
});
