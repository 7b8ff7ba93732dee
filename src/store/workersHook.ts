/**
 * Where the background queues are hung in: they stand above the store, which must not know them. `src/index.ts` fills it; without that a
 * store does its sweeping by its own heartbeat, as with `workers: 'off'`.
 */
import type { Maintenance } from './Maintenance.js';
import type { Logger } from './types.js';

export interface RunningWorkers {
  /** Ends them: a running batch ends, nothing stays locked. Never takes longer than its limit, and never rejects. */
  close(): Promise<void>;
}

/** @param signal - the store is closed: a start that is under way ends, whatever Redis does */
type Start = (maintenance: Maintenance, logger: Logger, signal: AbortSignal) => Promise<RunningWorkers>;

let start: Start | null = null;

export function onInlineWorkers(given: Start): void {
  start = given;
}

/** The workers of one store: started behind its back, so that `connect` does not wait for them, and ended with it. */
export class InlineWorkers {
  #running: Promise<RunningWorkers | null> = Promise.resolve(null);
  readonly #closing = new AbortController();
  #up = false;

  get up(): boolean {
    return this.#up;
  }

  begin(maintenance: Maintenance, logger: Logger): void {
    if (start === null) return;
    this.#running = start(maintenance, logger, this.#closing.signal).then(
      (workers) => {
        this.#up = !this.#closing.signal.aborted;
        return workers;
      },
      (error: unknown) => {
        const why = error instanceof Error ? error.message : String(error);
        logger.error(
          { namespace: maintenance.namespace, error: why },
          "the background queues could not be started, so this instance sweeps by its heartbeat and nothing is scrubbed: grant the rights in docs/QUEUES.md, or set workers to 'external' or 'off'",
        );
        return null;
      },
    );
  }

  async close(): Promise<void> {
    this.#up = false;
    this.#closing.abort();
    await (await this.#running)?.close();
  }
}
