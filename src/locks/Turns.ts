/**
 * Waiting for a context's turn, first come first served by the data server. A waiter has a ticket in the lock book, which it renews, and is
 * told through pub/sub when its turn has come. What is published can be lost: each renewal asks whether the turn is there as well, and so
 * does a timer at the time when the present holder's time to live ends.
 */
import { ContextError, isContextError } from '../core/errors.js';
import { onAbort } from '../redis/abortFan.js';
import type { Intent } from '../redis/commitRequest.js';
import type { LockCommands, LockMode, Waiting } from '../redis/LockCommands.js';
import type { Deadline } from '../redis/RedisConnection.js';
import type { Subscriptions } from '../redis/Subscriptions.js';

/** A waiter among the first that does not ask again for this long has lost its place, ms; further behind it may take longer (lua/lock.lua). */
const LEASE_MS = 2_400;

export interface Turn {
  readonly token: number;
  /** Monotonic time before the request was sent that was granted. */
  readonly sentAt: number;
  /** A transaction that was prepared under an earlier lock, and is not settled. */
  readonly intent: Intent | null;
}

export interface TurnRequest {
  readonly id: string;
  readonly owner: string;
  readonly mode: LockMode;
  readonly ttlMs: number;
  /** Monotonic time; it is asked once at least. */
  readonly giveUpAt: number;
  readonly signal: AbortSignal;
  readonly deadline: () => Deadline;
}

export class Turns {
  readonly #commands: LockCommands;
  readonly #subscriptions: Subscriptions;
  readonly #channelOf: (id: string) => string;
  readonly #waiting = new Map<string, () => void>();
  readonly #channels = new Set<string>();
  readonly #attemptTimeoutMs: number;

  constructor(commands: LockCommands, subscriptions: Subscriptions, channelOf: (id: string) => string, attemptTimeoutMs: number) {
    this.#attemptTimeoutMs = attemptTimeoutMs;
    this.#commands = commands;
    this.#subscriptions = subscriptions;
    this.#channelOf = channelOf;
  }

  /**
   * The turn, or who was in the way when the time was over. Whoever is not given it must `unlock` the owner, so that its place goes.
   *
   * @throws ContextError `LIMIT_EXCEEDED`, `ABORTED`, and those of the connection
   */
  async take(request: TurnRequest, waits: boolean): Promise<Turn | Waiting> {
    const { id, owner, mode, ttlMs, giveUpAt, signal } = request;
    let woken = (): void => {};
    /** Set by a wake-up that comes while it asks. */
    let again = false;
    let offAbort = (): void => {};
    let last: (Waiting & { readonly heardAt: number }) | null = null;
    this.#waiting.set(owner, () => {
      again = true;
      woken();
    });
    try {
      for (;;) {
        again = false;
        const sentAt = performance.now();
        const leaseMs = waits ? LEASE_MS : 0;
        const asked = await this.#commands
          .lock({ id, owner, mode, ttlMs, leaseMs }, request.deadline())
          .catch((error: unknown) => {
            // its time was over before an answer could be expected: what was heard before stands
            const overtaken = performance.now() >= giveUpAt && sentAt + this.#attemptTimeoutMs > giveUpAt;
            if (last === null || !overtaken || !isContextError(error) || error.code !== 'TIMEOUT') throw error;
            return last;
          });
        if (asked.status === 'granted') return { token: asked.token, sentAt, intent: asked.intent };
        if (asked.status === 'full') {
          const message = `${id}: ${asked.entries} hold it or wait for it, and no more may: try again later`;
          throw new ContextError('LIMIT_EXCEEDED', message, { id, found: asked.entries });
        }
        const now = performance.now();
        if (asked === last) return aged(last, now);
        if (!waits || now >= giveUpAt) return asked;
        last = { ...asked, heardAt: now };
        this.#listen(id);
        const until = Math.min(giveUpAt, now + asked.againMs + 1);
        await new Promise<void>((resolve) => {
          const timer = setTimeout(() => woken(), until - now);
          woken = () => {
            clearTimeout(timer);
            resolve();
          };
          offAbort = onAbort(signal, () => woken());
          if (again) woken();
        });
        offAbort();
        const later = performance.now();
        if (later >= giveUpAt && !again) return aged(last, later);
      }
    } finally {
      this.#waiting.delete(owner);
    }
  }

  /** Messages may have been lost: all that wait ask again. */
  wakeAll(): void {
    for (const wake of [...this.#waiting.values()]) wake();
  }

  /** Listens for the turns of a shard, once; what was published before that is asked for. */
  #listen(id: string): void {
    const channel = this.#channelOf(id);
    if (this.#channels.has(channel)) return;
    this.#channels.add(channel);
    this.#subscriptions
      .subscribe(channel, (message) => this.#waiting.get(message.toString())?.())
      // the subscription comes with the next connection then
      .catch(() => {})
      .finally(() => this.wakeAll());
  }
}

/** What was heard a while ago. */
const aged = (heard: Waiting & { readonly heardAt: number }, now: number): Waiting => ({
  ...heard,
  first: { ...heard.first, ageMs: heard.first.ageMs + (now - heard.heardAt) },
});
