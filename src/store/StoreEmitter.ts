/** The store's events, typed. A listener that throws is logged; it never disturbs the store or the other listeners. */
import type { Logger, StoreEventName, StoreEvents } from './types.js';

type Listener = (event: never) => void;

export class StoreEmitter {
  readonly #listeners = new Map<StoreEventName, Set<Listener>>();
  readonly #logger: Logger;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  on<N extends StoreEventName>(name: N, listener: (event: StoreEvents[N]) => void): () => void {
    let set = this.#listeners.get(name);
    if (set === undefined) {
      set = new Set();
      this.#listeners.set(name, set);
    }
    const listeners = set;
    listeners.add(listener as Listener);
    return () => {
      listeners.delete(listener as Listener);
    };
  }

  emit<N extends StoreEventName>(name: N, event: StoreEvents[N]): void {
    const set = this.#listeners.get(name);
    if (set === undefined) return;
    for (const listener of [...set]) {
      try {
        const returned: unknown = (listener as (event: StoreEvents[N]) => unknown)(event);
        if (returned instanceof Promise) returned.catch((error: unknown) => this.#failed(name, error));
      } catch (error) {
        this.#failed(name, error);
      }
    }
  }

  #failed(name: StoreEventName, error: unknown): void {
    this.#logger.error(
      { event: name, error: error instanceof Error ? error.message : String(error) },
      'an event listener failed',
    );
  }
}
