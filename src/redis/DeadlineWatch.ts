/**
 * Many deadlines with one timer. A timer of its own for each command costs as much as the rest of its bookkeeping; this looks at all that
 * are outstanding every few milliseconds, and only while there are any.
 */

/** A deadline is noticed at most this much late, ms. */
const LOOK_EVERY_MS = 10;

export interface Watched {
  /** Monotonic time, ms. */
  readonly at: number;
  readonly passed: () => void;
}

export class DeadlineWatch {
  readonly #pending = new Set<Watched>();
  #timer: NodeJS.Timeout | null = null;

  /** Calls `passed` once when `at` (`performance.now()`) has passed, unless it is deleted before. */
  add(at: number, passed: () => void): Watched {
    const watched = { at, passed };
    this.#pending.add(watched);
    this.#timer ??= setTimeout(this.#look, LOOK_EVERY_MS);
    return watched;
  }

  delete(watched: Watched): void {
    this.#pending.delete(watched);
  }

  readonly #look = (): void => {
    const now = performance.now();
    for (const watched of this.#pending) {
      if (watched.at > now) continue;
      this.#pending.delete(watched);
      watched.passed();
    }
    this.#timer = this.#pending.size > 0 ? setTimeout(this.#look, LOOK_EVERY_MS) : null;
  };
}
