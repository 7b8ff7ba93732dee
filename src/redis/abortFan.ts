/** Many calls may share one AbortSignal: it gets one listener, whatever their number, and each call its own place behind it. */
const fans = new WeakMap<AbortSignal, Set<() => void>>();

/** Calls `aborted` once when the signal is aborted, at once where it is already; the result takes it back. */
export function onAbort(signal: AbortSignal | undefined, aborted: () => void): () => void {
  if (signal === undefined) return NOTHING;
  if (signal.aborted) {
    aborted();
    return NOTHING;
  }
  let fan = fans.get(signal);
  if (fan === undefined) {
    const calls = new Set<() => void>();
    const fire = (): void => {
      for (const call of [...calls]) call();
    };
    signal.addEventListener('abort', fire, { once: true });
    fans.set(signal, calls);
    fan = calls;
  }
  const calls = fan;
  const call = (): void => aborted();
  calls.add(call);
  return () => {
    calls.delete(call);
  };
}

const NOTHING = (): void => {};

/** Waits, but not past an abort; the next step notices that. */
export function restUnlessAborted(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    let offAbort = NOTHING;
    const timer = setTimeout(() => {
      offAbort();
      resolve();
    }, ms);
    offAbort = onAbort(signal, () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
