/**
 * Gives contexts the time to live that their use asks for (option `ttl.predict`, off by default; docs/PREDICTIVE_TTL.md).
 *
 * It watches which contexts this process uses, keeps a histogram of each one's access intervals, and says in Redis until when it needs them.
 * Redis keeps what each instance needs beside the context, and one script makes the expiry of it: the latest that any needs. So another
 * instance's ignorance never brings the expiry of a context near that this one uses.
 *
 * A read pays for one look into a map: accesses are collected, and dealt with once a tick, away from the reads. It refuses to touch a
 * context without an expiry, to go below `min` or beyond `max`, and to ask for one context more often than every `min`. A call
 * that fails is counted and made again at a later tick; no caller ever sees it.
 */
import { randomBytes } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { AccessHistogram } from '../core/AccessHistogram.js';
import { isContextError } from '../core/errors.js';
import type { RedisClock } from '../core/RedisClock.js';
import { decideTtl, HEADROOM, type TtlBounds, type TtlDecision } from '../core/ttlDecision.js';
import type { ContextCommands } from '../redis/ContextCommands.js';
import type { ReplicaSet } from '../replica/ReplicaSet.js';
import type { Logger } from './types.js';

export interface PredictOptions extends TtlBounds {
  readonly halfLifeMs: number;
}

/** What it needs of the store. Expiries are ms by Redis's clock: null where there is none, {@link ABSENT} where there is no context. */
export interface TtlPort {
  readonly clock: RedisClock;
  /** As this process's replica has it; undefined without one. */
  expiresAt(id: string): number | null | undefined;
  watched(id: string): boolean;
  /** See `ContextCommands.fit`. */
  fit(
    id: string,
    needMs: number,
    expected: number | 'hold' | null,
    signal: AbortSignal,
  ): Promise<{ readonly expiresAt: number | null } | null>;
}

/** Monotonic time, ms, and a timer; the function it gives back stops that. */
export interface Ticker {
  now(): number;
  after(ms: number, run: () => void): () => void;
}

export interface TtlCounters {
  /** Accesses dealt with: of one context at most one a tick. */
  observed: number;
  /** Expiries put further away, and nearer. */
  extended: number;
  shortened: number;
  /** Calls that left the expiry: only what this instance needs had to be said, or another one needs the context longer. */
  kept: number;
  /** Calls that failed; they are made again. */
  failed: number;
}

interface Tracked {
  readonly histogram: AccessHistogram;
  /** Until when Redis knows that it is needed here, ms by Redis's clock. */
  heldUntil: number;
  /** The expiry that is known, ms by Redis's clock. */
  expiresAt: number | null | undefined;
  /** Monotonic times before which it is not asked for, and not asked to be shortened. */
  callAt: number;
  shortenAt: number;
  shortenWaitMs: number;
  calling: boolean;
}

export const ABSENT = 0;
/** Contexts whose use is remembered, about 1 KB each; the least recently used is forgotten first. */
const TRACKED = 10_000;
/** Accesses collected before they are dealt with, even within a tick: some 2 ms of work. */
const COLLECTED = 2_000;
/** Calls on their way at one time; the others wait for the next tick. */
const CALLS = 32;
const TICK_MOST_MS = 1_000;

const SYSTEM: Ticker = {
  now: () => performance.now(),
  after: (ms, run) => {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
};

export class PredictiveTtl {
  readonly counters: TtlCounters = { observed: 0, extended: 0, shortened: 0, kept: 0, failed: 0 };
  /** Accesses within this are one, ms: a tenth of `min`, a second at most. */
  readonly tickMs: number;
  readonly #options: PredictOptions;
  readonly #port: TtlPort;
  readonly #logger: Logger;
  readonly #ticker: Ticker;
  readonly #tracked: LRUCache<string, Tracked>;
  /** Used since the last tick, with the expiry that a read found. */
  #used = new Map<string, number | null | undefined>();
  /** What is still to be asked for. */
  #waiting = new Set<string>();
  readonly #calls = new Set<Promise<void>>();
  #stopTimer: (() => void) | null = null;
  readonly #ending = new AbortController();
  #healthy = true;
  #closed = false;

  constructor(options: PredictOptions, port: TtlPort, logger: Logger, ticker: Ticker = SYSTEM, most: number = TRACKED) {
    this.#options = options;
    this.#port = port;
    this.#logger = logger;
    this.#ticker = ticker;
    this.#tracked = new LRUCache({ max: most });
    this.tickMs = Math.max(1, Math.min(TICK_MOST_MS, Math.floor(options.minMs / 10)));
  }

  get tracked(): number {
    return this.#tracked.size;
  }

  /** A replica answered, or a write was made: its expiry is looked up at the tick. */
  used(id: string): void {
    if (this.#used.has(id)) return;
    this.#collect(id, undefined);
  }

  /** A read in Redis found it with this expiry (null: none), or found nothing ({@link ABSENT}). */
  found(id: string, expiresAt: number | null): void {
    this.#collect(id, expiresAt);
  }

  /** It was deleted here: what comes under its id is another context. */
  forget(id: string): void {
    this.#used.delete(id);
    this.#waiting.delete(id);
    this.#tracked.delete(id);
  }

  /** Nothing begins after it; it resolves when the calls on their way have ended. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#stopTimer?.();
    this.#stopTimer = null;
    this.#used.clear();
    this.#waiting.clear();
    this.#ending.abort();
    await Promise.all(this.#calls);
  }

  #collect(id: string, expiresAt: number | null | undefined): void {
    if (this.#closed) return;
    this.#used.set(id, expiresAt);
    if (this.#used.size >= COLLECTED) this.#tick();
    else this.#arm();
  }

  #arm(): void {
    if (this.#closed) return;
    this.#stopTimer ??= this.#ticker.after(this.tickMs, () => {
      this.#stopTimer = null;
      this.#tick();
    });
  }

  #tick(): void {
    const now = this.#ticker.now();
    const [used, waiting] = [this.#used, this.#waiting];
    this.#used = new Map();
    this.#waiting = new Set();
    for (const [id, reported] of used) {
      waiting.delete(id);
      const tracked = this.#observe(id, reported, now);
      if (tracked !== undefined) this.#decide(id, tracked, now);
    }
    for (const id of waiting) {
      const tracked = this.#tracked.peek(id);
      if (tracked !== undefined) this.#decide(id, tracked, now);
    }
    if (this.#waiting.size > 0) this.#arm();
  }

  #observe(id: string, reported: number | null | undefined, now: number): Tracked | undefined {
    const expiresAt = reported === undefined ? this.#port.expiresAt(id) : reported;
    this.counters.observed += 1;
    if (expiresAt === null) {
      this.#tracked.delete(id);
      return undefined;
    }
    let tracked = this.#tracked.get(id);
    if (tracked === undefined) {
      // ids that lead nowhere are not worth remembering
      if (expiresAt === ABSENT) return undefined;
      tracked = {
        histogram: new AccessHistogram(this.#options.halfLifeMs, now),
        heldUntil: 0,
        expiresAt,
        callAt: 0,
        shortenAt: 0,
        shortenWaitMs: this.#options.minMs,
        calling: false,
      };
      this.#tracked.set(id, tracked);
    }
    // A read that found nothing is an access as well: without it only intervals that the expiry let live would ever be
    // seen, and predictions would shrink without end.
    tracked.histogram.access(now);
    if (expiresAt === ABSENT) tracked.heldUntil = 0;
    tracked.expiresAt = expiresAt;
    return tracked;
  }

  #decide(id: string, tracked: Tracked, now: number): void {
    if (tracked.calling || this.#calls.size >= CALLS || now < tracked.callAt) {
      this.#waiting.add(id);
      this.#arm();
      return;
    }
    const { clock } = this.#port;
    const replicated = this.#port.expiresAt(id);
    const expiresAt = replicated === undefined ? tracked.expiresAt : replicated;
    if (!expiresAt || !clock.known) return;
    const redisNow = clock.latest(now);
    const decision = decideTtl(tracked.histogram, this.#options, {
      now,
      remainingMs: Math.floor(expiresAt - redisNow),
      heldMs: tracked.heldUntil - redisNow,
      mayShorten: now >= tracked.shortenAt && !this.#port.watched(id),
    });
    if (decision === null) return;
    tracked.calling = true;
    const call = this.#call(id, tracked, decision, expiresAt, now).finally(() => {
      tracked.calling = false;
      this.#calls.delete(call);
    });
    this.#calls.add(call);
  }

  async #call(id: string, tracked: Tracked, decision: TtlDecision, known: number, now: number): Promise<void> {
    const { minMs, maxMs } = this.#options;
    const shorten = decision.kind === 'fit' && decision.shorten;
    const neededUntil = this.#port.clock.earliest(now) + decision.needMs;
    try {
      const expected = decision.kind === 'hold' ? 'hold' : shorten ? known : null;
      const result = await this.#port.fit(id, decision.needMs, expected, this.#ending.signal);
      this.#healthy = true;
      tracked.callAt = this.#ticker.now() + minMs * (HEADROOM - 1);
      tracked.heldUntil = result === null ? 0 : decision.kind === 'hold' ? (result.expiresAt ?? 0) : neededUntil;
      tracked.expiresAt = result === null ? ABSENT : result.expiresAt;
      const expiresAt = result?.expiresAt ?? known;
      if (expiresAt > known) this.counters.extended += 1;
      else if (expiresAt < known) this.counters.shortened += 1;
      else this.counters.kept += 1;
      if (!shorten) return;
      // somebody needs it longer: asked again after ever longer pauses
      const refused = expiresAt >= known;
      tracked.shortenAt = refused ? this.#ticker.now() + tracked.shortenWaitMs : 0;
      tracked.shortenWaitMs = refused ? Math.min(maxMs, 2 * tracked.shortenWaitMs) : minMs;
    } catch (error) {
      this.#failed(id, tracked, error);
    }
  }

  #failed(id: string, tracked: Tracked, error: unknown): void {
    if (this.#closed) return;
    this.counters.failed += 1;
    // the access that asked for it may have been the last: it is asked again without another one
    tracked.callAt = this.#ticker.now() + this.tickMs;
    this.#waiting.add(id);
    this.#arm();
    const fields = {
      id,
      code: isContextError(error) ? error.code : undefined,
      error: error instanceof Error ? error.message : String(error),
    };
    // the first one says it; while nothing succeeds the others would only repeat it
    this.#logger[this.#healthy ? 'warn' : 'debug'](
      fields,
      'the expiry of a context could not be predicted in Redis; it is tried again',
    );
    this.#healthy = false;
  }
}

/** The predictions of a store, on what it has. */
export function predictiveTtl(
  predict: PredictOptions,
  commands: ContextCommands,
  replicas: ReplicaSet,
  settings: { readonly timeoutMs: number },
  logger: Logger,
): PredictiveTtl {
  const { connection } = commands;
  const prefix = randomBytes(6).toString('base64url');
  let operations = 0;
  const port: TtlPort = {
    clock: connection.clock,
    expiresAt: (id) => {
      const state = replicas.lastKnown(id);
      return state?.value === undefined ? (state === undefined ? undefined : ABSENT) : state.expiresAt;
    },
    watched: (id) => replicas.watching(id),
    fit: async (id, needMs, expected, signal) => {
      operations += 1;
      const operation = `${prefix}.${operations.toString(36)}`;
      const result = await commands.fit(id, operation, needMs, expected, connection.deadline(settings.timeoutMs, signal));
      if (result !== null) replicas.touched(id, result.version, result.expiresAt);
      return result;
    },
  };
  return new PredictiveTtl(predict, port, logger);
}
