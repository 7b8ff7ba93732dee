/**
 * A lock in the hands of its holder. What it goes by is a deadline of its own on the monotonic clock, counted from **before** the request
 * that took or extended the lock was sent, less what clocks may drift and a margin: at that time no server can have let go of it yet.
 * A process that was stopped may notice too late all the same; its writes carry a fencing token, which Redis refuses then.
 */
import { ContextError } from '../core/errors.js';
import { onAbort } from '../redis/abortFan.js';
import type { LockCommands } from '../redis/LockCommands.js';
import type { Deadline } from '../redis/RedisConnection.js';
import type { Lock, LockMode } from './types.js';

/** The part of a lock that lies on independent nodes. */
export interface NodeLock {
  /** Null: they cannot be reached, which may pass; false: a majority does not have it any more. */
  extend(ttlMs: number): Promise<boolean | null>;
  release(): Promise<void>;
}

/** What is held of one id. */
export interface Held {
  readonly id: string;
  readonly owner: string;
  readonly token: number;
  /** Monotonic time until which it is certainly held in the lock book. */
  bookUntil: number;
  /** The same on a majority of the nodes, where there are any. */
  nodes: { readonly lock: NodeLock; until: number } | null;
}

export interface HandleParts {
  readonly commands: LockCommands;
  /** For a call that makes sense until this monotonic time, at the most as long as any other. */
  readonly deadline: (untilAt: number) => Deadline;
  /** How long one attempt of a call may take, ms. */
  readonly attemptTimeoutMs: number;
  readonly checkTtl: (ttl: number | string) => number;
  /** Told once, when it is neither held nor being released any more. */
  readonly ended: (handle: LockHandle) => void;
  /** Told of a release that failed and that nobody waits for. */
  readonly unreleased: (handle: LockHandle, error: unknown) => void;
  readonly background: (work: Promise<unknown>) => void;
}

/** Clocks of two machines may run this much apart, as a share of the time to live (Redis docs, "Distributed Locks"), and 2 ms. */
const DRIFT = 0.01;
const DRIFT_MS = 2;
/** For timers that come late. */
const MARGIN = 0.05;
const MARGIN_MIN_MS = 5;
const MARGIN_MAX_MS = 500;
/** After an extension that did not come through, the next is tried after this share of the time to live. */
const AGAIN = 0.1;

/** Until when a lock is certainly held that was asked for at `sentAt`. */
export const certainUntil = (sentAt: number, ttlMs: number): number =>
  sentAt + ttlMs - (ttlMs * DRIFT + DRIFT_MS) - Math.min(MARGIN_MAX_MS, Math.max(MARGIN_MIN_MS, ttlMs * MARGIN));

const untilOf = ({ bookUntil, nodes }: Held): number => Math.min(bookUntil, nodes?.until ?? Number.POSITIVE_INFINITY);

export class LockHandle implements Lock {
  readonly ids: readonly string[];
  readonly mode: LockMode;
  readonly #parts: HandleParts;
  readonly #outer: LockHandle | null;
  /** Those that lie within this one, and are held or being taken. */
  readonly #inner = new Set<LockHandle>();
  readonly #held: Held[] = [];
  /** Made when somebody asks for the signal: most who hold a lock for a moment do not. */
  #controller: AbortController | null = null;
  /** Why it is not held any more, where that is not a release. */
  #ended: ContextError | null = null;
  #ttlMs: number;
  #state: 'held' | 'releasing' | 'released' | 'lost' = 'held';
  #deadlineTimer: NodeJS.Timeout | undefined;
  #extensionTimer: NodeJS.Timeout | undefined;
  #extending: Promise<unknown> = Promise.resolve();
  #released: Promise<void> | null = null;
  #offOuter = (): void => {};

  constructor(ids: readonly string[], mode: LockMode, ttlMs: number, outer: LockHandle | null, parts: HandleParts) {
    this.ids = ids;
    this.mode = mode;
    this.#ttlMs = ttlMs;
    this.#outer = outer;
    if (outer !== null) outer.#inner.add(this);
    this.#parts = parts;
    this.#offOuter = onAbort(outer?.signal, () => this.#lose(outer?.signal.reason as ContextError));
  }

  /** What was just taken is extended from now on, also while others are still waited for. */
  add(held: Held): void {
    this.#held.push(held);
    this.#watch();
    if (this.#extensionTimer === undefined) this.#extendIn(this.#ttlMs / 3);
  }

  get fencingToken(): number {
    return this.#tokenOf(this.ids[0] ?? '') ?? 0;
  }

  get fencingTokens(): ReadonlyMap<string, number> {
    return new Map(this.ids.map((id) => [id, this.#tokenOf(id) ?? 0]));
  }

  get signal(): AbortSignal {
    if (this.#controller === null) {
      this.#controller = new AbortController();
      if (this.#ended !== null) this.#controller.abort(this.#ended);
    }
    return this.#controller.signal;
  }

  /** With what the signal was aborted; null: it was not. */
  get ended(): ContextError | null {
    return this.#ended;
  }

  get remainingMs(): number {
    const outer = this.#outer?.remainingMs ?? Number.POSITIVE_INFINITY;
    return this.#state === 'held' ? Math.max(0, Math.min(outer, this.#until - performance.now())) : 0;
  }

  /** The nodes have agreed as well. */
  addNodes(held: Held, lock: NodeLock, sentAt: number): void {
    held.nodes = { lock, until: certainUntil(sentAt, this.#ttlMs) };
    this.#watch();
  }

  /** In which mode it covers an id; null: it does not. */
  covers(id: string): LockMode | null {
    return this.#held.some((held) => held.id === id) ? this.mode : (this.#outer?.covers(id) ?? null);
  }

  /** All ids of the outermost lock around it and of all that lie within that, held or asked for: one holder, as others see it. */
  get family(): readonly string[] {
    return this.#outer?.family ?? this.#tree();
  }

  #tree(): string[] {
    return [...this.ids, ...[...this.#inner].flatMap((inner) => inner.#tree())];
  }

  /** It is over. */
  #leave(): void {
    if (this.#outer !== null) this.#outer.#inner.delete(this);
    this.#parts.ended(this);
  }

  /** Known to who made it. */
  get parts(): HandleParts {
    return this.#parts;
  }

  /**
   * The token that a write to `id` under this lock must carry.
   *
   * @throws ContextError `INVALID_ARGUMENT` where the lock does not allow that write, `FENCED` where it is over
   */
  fenceOf(id: string): number {
    const held = this.#held.find((each) => each.id === id);
    if (held === undefined && this.#outer?.covers(id)) {
      this.#check(id);
      return this.#outer.fenceOf(id);
    }
    if (held === undefined) {
      const message = `${id} is not covered by the lock that was given, which is on ${this.ids.join(', ')}`;
      throw new ContextError('INVALID_ARGUMENT', message, { id });
    }
    if (this.mode === 'read') {
      throw new ContextError('INVALID_ARGUMENT', `${id}: a read lock does not cover writes; take it with mode 'write'`, { id });
    }
    this.#check(id);
    return held.token;
  }

  /** @throws ContextError `LOCK_LOST`, `CLOSED`: why it is not held */
  checkHeld(): void {
    if (this.#state === 'held' && performance.now() >= this.#until) this.#lose(this.#tooLate());
    if (this.#state === 'lost') throw this.#ended;
    if (this.#state !== 'held') throw this.#over();
    this.#outer?.checkHeld();
  }

  async extend(ttl?: number | string): Promise<void> {
    if (ttl !== undefined) this.#ttlMs = this.#parts.checkTtl(ttl);
    this.checkHeld();
    const failed = await this.#extend();
    this.checkHeld();
    if (failed !== null) throw failed;
  }

  release(): Promise<void> {
    this.#released ??= this.#release();
    return this.#released;
  }

  /** A release that fails does not take the place of what the block gave, or threw. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.release().catch((error: unknown) => this.#parts.unreleased(this, error));
  }

  /** Ends it because its store does. */
  close(): Promise<void> {
    const reason = new ContextError('CLOSED', `the lock on ${this.ids.join(', ')} is over: its store was closed`);
    const released = this.release();
    this.#abort(reason);
    return released;
  }

  get #until(): number {
    return this.#held.reduce((least, held) => Math.min(least, untilOf(held)), Number.POSITIVE_INFINITY);
  }

  #tokenOf(id: string): number | undefined {
    return this.#held.find((held) => held.id === id)?.token ?? this.#outer?.fencingTokens.get(id);
  }

  #check(id: string): void {
    try {
      this.checkHeld();
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new ContextError('FENCED', `${id}: nothing was written: ${why}`, { id, cause: error });
    }
  }

  /** Ends it when its time is over. A timer may come late; whoever asks before it does compares times. */
  #watch(): void {
    clearTimeout(this.#deadlineTimer);
    if (this.#held.length === 0) return;
    this.#deadlineTimer = setTimeout(
      () => {
        if (this.#state !== 'held') return;
        if (performance.now() >= this.#until) this.#lose(this.#tooLate());
        else this.#watch();
      },
      Math.max(0, Math.ceil(this.#until - performance.now())),
    );
  }

  #extendIn(ms: number): void {
    this.#extensionTimer = setTimeout(() => {
      if (this.#state !== 'held') return;
      void this.#extend().then((failed) => {
        if (this.#state === 'held') this.#extendIn(failed === null ? this.#ttlMs / 3 : this.#ttlMs * AGAIN);
      });
    }, ms);
  }

  /** One extension after the other. The error of what did not come through, if any; it need not be the end. */
  #extend(): Promise<unknown> {
    const extension = this.#extending.then(async () => {
      const failures = await Promise.all([...this.#held].map((held) => this.#extendOne(held)));
      if (this.#state === 'held') this.#watch();
      return failures.find((failure) => failure !== null) ?? null;
    });
    this.#extending = extension;
    return extension;
  }

  async #extendOne(held: Held): Promise<unknown> {
    if (this.#state !== 'held') return null;
    const { commands, deadline } = this.#parts;
    const ttlMs = this.#ttlMs;
    const { id, owner, token, nodes } = held;
    const sentAt = performance.now();
    const until = certainUntil(sentAt, ttlMs);
    const gone = (why: string): void => this.#lose(new ContextError('LOCK_LOST', `${id}: the lock is lost: ${why}`, { id }));
    const outcomes = await Promise.allSettled([
      commands.extend(id, owner, token, ttlMs, deadline(held.bookUntil)).then((extended) => {
        if (extended) held.bookUntil = Math.max(held.bookUntil, until);
        else gone('it was broken, or its time was over');
      }),
      nodes?.lock.extend(ttlMs).then((extended) => {
        if (extended === true) nodes.until = Math.max(nodes.until, until);
        else if (extended === false) gone('most of the lock nodes do not have it any more');
        else throw new ContextError('LOCK_QUORUM', `${id}: too few lock nodes answered to extend the lock`, { id });
      }),
    ]);
    return outcomes.find((outcome) => outcome.status === 'rejected')?.reason ?? null;
  }

  #lose(reason: ContextError): void {
    if (this.#state !== 'held') return;
    this.#state = 'lost';
    this.#clear();
    this.#abort(reason);
    // whoever waits for it need not wait for the end of what is left on some server
    this.#parts.background(this.#letGo());
    this.#leave();
  }

  #abort(reason: ContextError): void {
    this.#ended ??= reason;
    this.#controller?.abort(reason);
  }

  async #release(): Promise<void> {
    if (this.#state !== 'held') return;
    this.#state = 'releasing';
    this.#clear();
    try {
      const failed = await this.#letGo();
      if (failed !== undefined) throw failed;
    } finally {
      this.#state = 'released';
      this.#leave();
    }
  }

  /** The nodes first: who is woken by the data server finds them free. @returns the first error */
  async #letGo(): Promise<unknown> {
    const { commands, deadline, attemptTimeoutMs } = this.#parts;
    const outcomes = await Promise.allSettled(
      this.#held.map(async (held) => {
        await held.nodes?.lock.release();
        // what could not be released ends by its time to live
        await commands.unlock(held.id, held.owner, deadline(Math.max(untilOf(held), performance.now() + attemptTimeoutMs)));
      }),
    );
    return outcomes.find((outcome) => outcome.status === 'rejected')?.reason;
  }

  #clear(): void {
    this.#offOuter();
    clearTimeout(this.#deadlineTimer);
    clearTimeout(this.#extensionTimer);
  }

  #tooLate(): ContextError {
    return new ContextError(
      'LOCK_LOST',
      `${this.ids.join(', ')}: the lock is lost: it was not extended within its time to live of ${this.#ttlMs} ms`,
    );
  }

  #over(): ContextError {
    return new ContextError('LOCK_LOST', `${this.ids.join(', ')}: the lock was released`);
  }
}
