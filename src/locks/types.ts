import type { LockMode } from '../redis/LockCommands.js';

export type { LockMode };

/** A lock that is held, until it is released, its time is over, or it is lost. */
export interface Lock extends AsyncDisposable {
  /** What it covers, in the order in which they were given. */
  readonly ids: readonly string[];
  readonly mode: LockMode;
  /** That of the first id. Rises with every lock that is given on a context, for ever (Kleppmann, 2016). */
  readonly fencingToken: number;
  readonly fencingTokens: ReadonlyMap<string, number>;
  /** Aborted, with a `LOCK_LOST`, before the time to live can have passed anywhere without having been extended. */
  readonly signal: AbortSignal;
  /** How long it is certainly still held if no extension comes through from now on, ms; 0 once it is not. */
  readonly remainingMs: number;
  /**
   * Gives it this much time from now, and from then on whenever it is extended by itself; never less than it has.
   *
   * @throws ContextError `LOCK_LOST`, `INVALID_ARGUMENT`, and those of the connection
   */
  extend(ttl?: number | string): Promise<void>;
  /**
   * Lets go of it; a second time does nothing. At the end of an `await using` block a release that fails is logged instead.
   *
   * @throws ContextError those of the connection: it ends by its time to live then
   */
  release(): Promise<void>;
}

export interface TryLockOptions {
  /**
   * After this long without an extension it is free again, whatever became of who holds it. It is extended by itself every third of it.
   * @defaultValue the store's `locks.ttl`
   */
  readonly ttl?: number | string;
  /** `write`: alone; `read`: beside other readers. @defaultValue 'write' */
  readonly mode?: LockMode;
  readonly signal?: AbortSignal;
}

export interface LockOptions extends TryLockOptions {
  /** How long is waited for all of it at the most; 0: not at all. @defaultValue the store's `locks.wait` */
  readonly wait?: number | string;
  /**
   * A lock that the caller holds already: what it covers is not taken again. Everything else must come, in the order of
   * locks, after all that is covered by it, by what lies around it and by other locks within that.
   */
  readonly within?: Lock;
}

/** Somebody who holds a context, or waits for it. */
export interface LockParty {
  readonly mode: LockMode;
  readonly instance: string;
  /** Since when, ms since the epoch. */
  readonly since: number;
  readonly ageMs: number;
}

export interface LockInfo {
  readonly id: string;
  readonly holders: readonly (LockParty & {
    readonly token: number;
    /** What is left of its time to live unless it is extended, ms. */
    readonly ttlLeftMs: number;
  })[];
  /** In the order in which they get it. */
  readonly waiters: readonly LockParty[];
}

export interface LocksOptions {
  /** Only these. */
  readonly ids?: readonly string[];
  readonly signal?: AbortSignal;
}

export interface LockSettings {
  readonly ttlMs: number;
  readonly waitMs: number;
  readonly maxTtlMs: number;
}
