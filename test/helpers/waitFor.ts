import { inspect } from 'node:util';

export interface WaitOptions {
  /** What is waited for, as the end of the sentence "waited 15000 ms for …". */
  readonly what: string;
  /** @defaultValue 15000 */
  readonly limitMs?: number;
  /** Pause between two looks, ms. @defaultValue 5 */
  readonly everyMs?: number;
}

type Truthy<T> = Exclude<T, false | 0 | 0n | '' | null | undefined>;

const EXPIRED = Symbol('expired');

/**
 * Looks at `condition` until it gives something truthy, and returns that. A condition that throws counts as not yet; one that
 * hangs does not outlast the limit. Past the limit it throws with `what` and the last value or error.
 */
export async function waitFor<T>(condition: () => T | Promise<T>, options: WaitOptions): Promise<Truthy<T>> {
  const { what, limitMs = 15_000, everyMs = 5 } = options;
  const deadline = performance.now() + limitMs;
  let last = 'the condition never answered';
  let cause: unknown;
  for (;;) {
    try {
      const value = await within(condition, deadline - performance.now());
      if (value === EXPIRED) break;
      if (value) return value as Truthy<T>;
      last = `last value: ${inspect(value, { depth: 4, breakLength: 120 })}`;
      cause = undefined;
    } catch (error) {
      last = `last error: ${error instanceof Error ? error.message : inspect(error)}`;
      cause = error;
    }
    const left = deadline - performance.now();
    if (left <= 0) break;
    await new Promise((resolve) => setTimeout(resolve, Math.min(everyMs, left)));
  }
  throw new Error(`waited ${limitMs} ms for ${what}; ${last}`, cause === undefined ? undefined : { cause });
}

async function within<T>(condition: () => T | Promise<T>, ms: number): Promise<T | typeof EXPIRED> {
  let timer: NodeJS.Timeout | undefined;
  const expiry = new Promise<typeof EXPIRED>((resolve) => {
    timer = setTimeout(resolve, Math.max(ms, 0), EXPIRED);
  });
  try {
    // `async` so that a synchronous throw takes the same way as a rejection
    return await Promise.race([(async () => condition())(), expiry]);
  } finally {
    clearTimeout(timer);
  }
}
