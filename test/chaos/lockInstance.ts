/** A process that takes locks: under load, keeping a record of when it held one, or one by one as it is told. */
import { ContextStore, isContextError, type Lock, type StoreOptions } from '../../src/index.js';
import { serve } from '../helpers/child.js';

/** From when to when a lock was held and not known to be lost, by the clock that all processes of the machine share, ns. */
export interface Interval {
  readonly from: bigint;
  readonly to: bigint;
  readonly token: number;
  readonly lost: boolean;
}

export interface LockReport {
  readonly intervals: readonly Interval[];
  /** Increments that were acknowledged, that may have been applied, and that were refused because the lock was lost. */
  readonly acknowledged: number;
  readonly unknown: number;
  readonly fenced: number;
  /** How often each error was thrown. */
  readonly errors: Readonly<Record<string, number>>;
}

export type LockCommand =
  | { readonly do: 'open'; readonly options: StoreOptions }
  | { readonly do: 'load'; readonly id: string; readonly ttl: number; readonly loops: number }
  | { readonly do: 'report' }
  | { readonly do: 'hold'; readonly id: string; readonly ttl: number }
  | { readonly do: 'write'; readonly id: string; readonly value: unknown }
  /** Its monotonic clock stands still from now on, as that of a machine that is suspended does. */
  | { readonly do: 'stop the clock' }
  | { readonly do: 'lost' }
  | { readonly do: 'close' };

let store: ContextStore;
let held: Lock | null = null;
let running = false;
let loads: Promise<unknown>[] = [];
const intervals: Interval[] = [];
const errors: Record<string, number> = {};
let [acknowledged, unknown, fenced] = [0, 0, 0];

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

function failed(error: unknown): void {
  const name = isContextError(error) ? error.code : String(error);
  errors[name] = (errors[name] ?? 0) + 1;
}

/** Adds one to a counter by reading and writing it: only the lock, and the fence behind it, keep others out meanwhile. */
async function work(lock: Lock, id: string): Promise<void> {
  const from = process.hrtime.bigint();
  let to: bigint | null = null;
  lock.signal.addEventListener('abort', () => {
    to ??= process.hrtime.bigint();
  });
  try {
    const before = (await store.get<number>(id, { fresh: true }))?.value ?? 0;
    await pause(Math.random() * 30);
    if (Math.random() < 0.1) await pause(Math.random() * 1_500);
    try {
      await store.set(id, before + 1, { lock });
      acknowledged += 1;
    } catch (error) {
      if (!isContextError(error)) throw error;
      if (error.code === 'FENCED') fenced += 1;
      else if (error.message.includes('may or may not') || error.code === 'OUTCOME_UNKNOWN') unknown += 1;
      failed(error);
    }
  } finally {
    const lost = to !== null;
    intervals.push({ from, to: to ?? process.hrtime.bigint(), token: lock.fencingToken, lost });
  }
}

async function load({ id, ttl }: LockCommand & { do: 'load' }): Promise<void> {
  while (running) {
    await store.lock(id, (lock) => work(lock, id), { ttl, wait: 3_000 }).catch(failed);
    await pause(Math.random() * 5);
  }
}

serve(async (message) => {
  const command = message as LockCommand;
  switch (command.do) {
    case 'open':
      store = await ContextStore.connect({ logger: false, workers: 'off', ...command.options });
      return store.instanceId;
    case 'load':
      running = true;
      loads = Array.from({ length: command.loops }, () => load(command));
      return undefined;
    case 'report': {
      running = false;
      await Promise.all(loads);
      return { intervals, acknowledged, unknown, fenced, errors } satisfies LockReport;
    }
    case 'hold':
      held = await store.tryLock(command.id, { ttl: command.ttl });
      return held?.fencingToken ?? null;
    case 'write':
      if (held === null) throw new Error('nothing is held');
      return (await store.set(command.id, command.value, { lock: held })).version;
    case 'stop the clock': {
      const stoppedAt = performance.now();
      performance.now = () => stoppedAt;
      return undefined;
    }
    case 'lost':
      return held?.signal.aborted === true;
    case 'close':
      await store.close();
      return undefined;
  }
});
