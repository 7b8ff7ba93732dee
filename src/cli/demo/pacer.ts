import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Gives out turns evenly, `perSecond` of them at most (0: no limit). Those who wait are served in the order in which they asked,
 * so that contexts that each ask again after a write take turns.
 */
export function createPacer(perSecond: number): (signal: AbortSignal) => Promise<void> {
  if (perSecond === 0) {
    return async (signal) => signal.throwIfAborted();
  }
  const everyMs = 1000 / perSecond;
  let nextAt = performance.now();
  return async (signal) => {
    const at = Math.max(nextAt, performance.now());
    nextAt = at + everyMs;
    await sleep(at - performance.now(), undefined, { signal });
  };
}
