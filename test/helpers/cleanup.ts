/**
 * What the helpers started and somebody has to end: servers, proxies, child processes. Under mocha a root `after` hook ends what
 * is left, in scripts {@link endAll} does, and whatever way the process ends, an exit hook kills the rest. A SIGKILL of this
 * process is the one case nothing here can cover.
 */

export interface Resource {
  /** Ends it in order; called again, it does nothing. */
  end(): Promise<void>;
  /** Ends it at once and synchronously: the process is about to exit. */
  endNow(): void;
}

const live = new Set<Resource>();
let hooked = false;

/** Has `resource` ended with this process, unless the returned function is called because it ended before. */
export function track(resource: Resource): () => void {
  hook();
  live.add(resource);
  return () => {
    live.delete(resource);
  };
}

/** Ends everything that is still there, the youngest first, and throws what failed on the way. */
export async function endAll(): Promise<void> {
  const failures: unknown[] = [];
  for (const resource of [...live].reverse()) {
    try {
      await resource.end();
    } catch (error) {
      failures.push(error);
      resource.endNow();
    }
    live.delete(resource);
  }
  if (failures.length > 0) throw new AggregateError(failures, 'test resources did not end in order');
}

function endAllNow(): void {
  for (const resource of [...live].reverse()) {
    try {
      resource.endNow();
    } catch {
      // the others have to end all the same
    }
  }
  live.clear();
}

function hook(): void {
  if (hooked) return;
  hooked = true;
  process.once('exit', endAllNow);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      // Somebody else listens: they decide how to end, and the exit hook follows.
      if (process.listenerCount(signal) > 0) return;
      endAllNow();
      process.kill(process.pid, signal);
    });
  }
}

// mocha binds what is said at the top level of a module to the root suite. Outside mocha there is no `after`.
if ('after' in globalThis) {
  after('end what the helpers started', async function () {
    this.timeout(30_000);
    await endAll();
  });
}
