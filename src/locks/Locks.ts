/** The locks of a store: takes several in one order, waits, gives handles out, and lets go of all of them when the store is closed. */
import { randomBytes } from 'node:crypto';
import { ContextError, isContextError } from '../core/errors.js';
import { formatDuration, parseDuration } from '../core/units.js';
import { onAbort } from '../redis/abortFan.js';
import type { ContextCommands } from '../redis/ContextCommands.js';
import type { Intent } from '../redis/commitRequest.js';
import { type LockBook, LockCommands, type LockEntry, type Waiting } from '../redis/LockCommands.js';
import type { Deadline } from '../redis/RedisConnection.js';
import type { Subscriptions } from '../redis/Subscriptions.js';
import { certainUntil, type HandleParts, type Held, LockHandle, type NodeLock } from './LockHandle.js';
import { Turns } from './Turns.js';
import type { Lock, LockInfo, LockMode, LockOptions, LockSettings, TryLockOptions } from './types.js';

/** A lock of this number of contexts takes as many round trips. */
const MOST_IDS = 100;
const LEAST_TTL_MS = 100;
const LONGEST_WAIT_MS = 2 ** 31 - 1;
/** Keys looked at in one step of a list, of all the server has: some 0.3 ms of Redis. */
const SCAN = 1_000;

export interface LocksParts {
  readonly commands: ContextCommands;
  readonly subscriptions: Subscriptions;
  readonly settings: LockSettings;
  readonly timeoutMs: number;
  readonly warn: (fields: object, message: string) => void;
  readonly nodes: ((commands: LockCommands) => LockNodes) | null;
}

/** Independent servers of which a majority must agree. */
export interface LockNodes {
  /** @throws ContextError `LOCK_TIMEOUT`: somebody else holds it there until `giveUpAt`; `LOCK_QUORUM`, `ABORTED` */
  take(request: NodeRequest): Promise<{ readonly lock: NodeLock; readonly sentAt: number }>;
  close(): Promise<void>;
}

export interface NodeRequest {
  readonly id: string;
  readonly mode: LockMode;
  readonly ttlMs: number;
  /** Monotonic time; they are asked once at least. */
  readonly giveUpAt: number;
  readonly signal: AbortSignal;
}

interface Taking {
  readonly ttlMs: number;
  readonly mode: LockMode;
  readonly waits: boolean;
  readonly giveUpAt: number;
  readonly signal: AbortSignal | undefined;
  readonly within: LockHandle | null;
}

export class Locks {
  readonly #parts: LocksParts;
  readonly #commands: LockCommands;
  readonly #turns: Turns;
  readonly #handles = new Set<LockHandle>();
  readonly #background = new Set<Promise<unknown>>();
  readonly #closing = new AbortController();
  readonly #ownerPrefix = randomBytes(9).toString('base64url');
  #owners = 0;
  readonly #handleParts: HandleParts;
  readonly #nodes: LockNodes | null;

  constructor(parts: LocksParts) {
    const { commands, subscriptions, settings, timeoutMs } = parts;
    const { keys, connection } = commands;
    const { instanceId } = commands.settings;
    this.#parts = parts;
    this.#commands = new LockCommands(commands);
    const wakeOf = (id: string): string => keys.wake(keys.shardOf(id), instanceId);
    this.#turns = new Turns(this.#commands, subscriptions, wakeOf, connection.attemptTimeoutMs);
    this.#nodes = parts.nodes?.(this.#commands) ?? null;
    this.#handleParts = {
      commands: this.#commands,
      deadline: (untilAt) => this.#deadline(Math.min(untilAt - performance.now(), timeoutMs)),
      attemptTimeoutMs: connection.attemptTimeoutMs,
      checkTtl: (ttl) => checkTtl(ttl, settings.maxTtlMs),
      ended: (handle) => this.#handles.delete(handle),
      unreleased: (handle, error) => this.#unreleased(handle, error),
      background: (work) => this.#track(work),
    };
  }

  async lock<T>(ids: string | readonly string[], fn: (lock: Lock) => Promise<T> | T, options: LockOptions): Promise<T> {
    const { settings } = this.#parts;
    const waitMs = options.wait === undefined ? settings.waitMs : parseDuration(options.wait, 'wait');
    if (waitMs > LONGEST_WAIT_MS)
      throw new ContextError('INVALID_ARGUMENT', `wait is ${waitMs} ms; at most ${LONGEST_WAIT_MS} are allowed`, {
        limit: 'wait',
      });
    const handle = await this.#take(
      ids,
      { ...this.#taking(options), waits: waitMs > 0, giveUpAt: performance.now() + waitMs },
      waitMs,
    );
    try {
      return await fn(handle);
    } finally {
      await handle[Symbol.asyncDispose]();
    }
  }

  async tryLock(ids: string | readonly string[], options: TryLockOptions): Promise<Lock | null> {
    try {
      return await this.#take(ids, { ...this.#taking(options), waits: false, giveUpAt: performance.now() }, 0);
    } catch (error) {
      if (isContextError(error) && error.code === 'LOCK_TIMEOUT') return null;
      throw error;
    }
  }

  /** The token for a write; 0 without a lock. @throws ContextError `INVALID_ARGUMENT`, `FENCED` */
  fenceOf(lock: Lock | undefined, id: string): number {
    return lock === undefined ? 0 : this.#own(lock, 'lock').fenceOf(id);
  }

  /** @throws ContextError `INVALID_ARGUMENT` where it is no lock of this store, `FENCED` where it is over */
  checkHeld(lock: Lock): void {
    this.#own(lock, 'lock').checkHeld();
  }

  /** Who holds and who waits, by id: of some, or of all. */
  async list(ids: readonly string[] | null, signal: AbortSignal | undefined): Promise<LockInfo[]> {
    const found = new Map<string, LockBook>();
    if (ids !== null) {
      for (const book of await this.#commands.books(ids, this.#deadline(this.#parts.timeoutMs, signal))) found.set(book.id, book);
    }
    let cursor = ids === null ? '0' : null;
    while (cursor !== null) {
      const page = await this.#commands.page(cursor, SCAN, this.#deadline(this.#parts.timeoutMs, signal));
      for (const book of page.books) found.set(book.id, book);
      cursor = page.cursor === '0' ? null : page.cursor;
    }
    for (const [id, { holders, waiters }] of found) if (holders.length + waiters.length === 0) found.delete(id);
    if (found.size === 0) return [];
    const now = await this.#commands.now(this.#deadline(this.#parts.timeoutMs, signal));
    return [...found.values()].map((book) => infoOf(book, now)).sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  /** Takes a context from all that hold it; they are answered. What they have prepared is taken back before: nobody fences a decision. */
  async break(id: string, deadline: Deadline): Promise<LockInfo['holders']> {
    const { holders: broken, intent } = await this.#commands.break(id, deadline);
    if (intent !== null) await this.#parts.commands.intents?.ended(id, intent, deadline);
    return broken.length === 0 ? [] : infoOf({ id, holders: broken, waiters: [] }, await this.#commands.now(deadline)).holders;
  }

  /** What was published may have been lost. */
  wakeAll(): void {
    this.#turns.wakeAll();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#turns.wakeAll();
    await Promise.allSettled([...this.#handles].map((handle) => handle.close()));
    while (this.#background.size > 0) await Promise.allSettled([...this.#background]);
    await this.#nodes?.close();
  }

  #taking(options: LockOptions): Omit<Taking, 'waits' | 'giveUpAt'> {
    const { ttlMs, maxTtlMs } = this.#parts.settings;
    const { ttl, mode = 'write', signal, within } = options;
    if (mode !== 'write' && mode !== 'read')
      throw new ContextError('INVALID_ARGUMENT', `mode is ${JSON.stringify(mode)}; it must be 'write' or 'read'`);
    return {
      ttlMs: ttl === undefined ? ttlMs : checkTtl(ttl, maxTtlMs),
      mode,
      signal,
      within: within === undefined ? null : this.#own(within, 'within'),
    };
  }

  #take(given: string | readonly string[], taking: Taking, waitMs: number): Promise<LockHandle> {
    const ids = [...new Set(typeof given === 'string' ? [given] : given)];
    const missing = this.#missing(ids, taking);
    const handle = new LockHandle(ids, taking.mode, taking.ttlMs, taking.within, this.#handleParts);
    this.#handles.add(handle);
    const taken = this.#takeAll(missing, handle, taking, waitMs);
    this.#track(taken);
    return taken;
  }

  async #takeAll(ids: readonly string[], handle: LockHandle, taking: Taking, waitMs: number): Promise<LockHandle> {
    // the usual lock of one context has nothing to lose while it waits, and no signal of its caller: it needs none of its own
    const simple = ids.length === 1 && this.#nodes === null && taking.signal === undefined && taking.within === null;
    const ending = simple ? this.#closing : new AbortController();
    const given = simple ? [] : [this.#closing.signal, handle.signal, taking.signal];
    const offs = given.map((signal) => onAbort(signal, () => ending.abort()));
    try {
      for (const id of ids) {
        this.#checkGoing(handle, taking.signal);
        await this.#takeOne(id, handle, taking, ending.signal, waitMs);
      }
      this.#checkGoing(handle, taking.signal);
      return handle;
    } catch (error) {
      this.#track(handle.release());
      this.#checkGoing(handle, taking.signal);
      throw error;
    } finally {
      for (const off of offs) off();
    }
  }

  async #takeOne(id: string, handle: LockHandle, taking: Taking, signal: AbortSignal, waitMs: number): Promise<void> {
    const { mode, ttlMs, giveUpAt, waits } = taking;
    const { timeoutMs } = this.#parts;
    this.#owners += 1;
    const owner = `${this.#ownerPrefix}.${this.#owners.toString(36)}`;
    const startedAt = performance.now();
    // an outage is bridged for as long as any other call would, and for as long as is waited
    const deadline = (): Deadline => this.#deadline(Math.max(giveUpAt, startedAt + timeoutMs) - performance.now(), signal);
    let held: Held;
    let intent: Intent | null;
    try {
      const turn = await this.#turns.take({ id, owner, mode, ttlMs, giveUpAt, signal, deadline }, waits);
      if ('status' in turn) throw this.#timedOut(id, turn, waitMs);
      held = { id, owner, token: turn.token, bookUntil: certainUntil(turn.sentAt, ttlMs), nodes: null };
      handle.add(held);
      intent = turn.intent;
    } catch (error) {
      this.#track(this.#commands.unlock(id, owner, this.#deadline(timeoutMs)));
      throw error;
    }
    if (intent !== null) await this.#settled(id, intent, taking, deadline(), waitMs);
    if (this.#nodes === null) return;
    const { lock, sentAt } = await this.#nodes.take({ id, mode, ttlMs, giveUpAt, signal });
    handle.addNodes(held, lock, sentAt);
  }

  /** What an earlier holder has prepared is decided before anybody reads under this lock. */
  async #settled(id: string, intent: Intent, { giveUpAt }: Taking, deadline: Deadline, waitMs: number): Promise<void> {
    try {
      await this.#parts.commands.intents?.settled(id, intent, deadline, giveUpAt);
    } catch (error) {
      if (!isContextError(error) || error.code !== 'LOCKED') throw error;
      const { namespace } = this.#parts.commands.keys;
      const within = waitMs === 0 ? '' : ` within ${formatDuration(waitMs)}`;
      const until = new Date(intent.deadline).toISOString();
      const message = `${id}: not locked${within}: transaction ${intent.txn} is about to change it and is not decided, until ${until} at the latest`;
      throw new ContextError('LOCK_TIMEOUT', message, { namespace, id, cause: error });
    }
  }

  /** Those ids that are not held yet, in the one order in which everybody takes them: by shard, then by id. */
  #missing(ids: readonly string[], { within, mode }: Taking): readonly string[] {
    if (ids.length === 0) throw new ContextError('INVALID_ARGUMENT', 'no id to lock was given');
    if (ids.length > MOST_IDS) {
      throw new ContextError('LIMIT_EXCEEDED', `a lock covers at most ${MOST_IDS} contexts, not ${ids.length}`, {
        limit: 'lock',
        found: ids.length,
      });
    }
    const order = (a: string, b: string): number => this.#shard(a) - this.#shard(b) || (a < b ? -1 : a > b ? 1 : 0);
    if (within === null) return [...ids].sort(order);
    within.checkHeld();
    const missing = ids.filter((id) => within.covers(id) === null).sort(order);
    for (const id of ids) {
      if (mode === 'write' && within.covers(id) === 'read') {
        const message = `${id} is held by a read lock, which does not become a write lock: two readers that both want that would wait for ever; take it with mode 'write' from the start`;
        throw new ContextError('INVALID_ARGUMENT', message, { id });
      }
    }
    // inner locks beside each other count as well: they wait for others while all of them are held
    const last = [...within.family].sort(order).at(-1);
    const early = last === undefined ? undefined : missing.find((id) => order(id, last) < 0);
    if (early !== undefined) {
      const message = `${early} comes before ${last}, which this lock or another one within the same outer lock covers, in the order in which locks are taken (by shard, then by id): somebody who takes both in that order would wait for this, and this for them; take all of them at once`;
      throw new ContextError('INVALID_ARGUMENT', message, { id: early });
    }
    return missing;
  }

  #shard(id: string): number {
    return this.#parts.commands.keys.shardOf(id).shard;
  }

  #own(lock: Lock, name: string): LockHandle {
    if (lock instanceof LockHandle && lock.parts === this.#handleParts) return lock;
    throw new ContextError('INVALID_ARGUMENT', `${name} is not a lock of this store: pass on what lock or tryLock gave`);
  }

  /** @throws ContextError `CLOSED`, `ABORTED`, `LOCK_LOST` */
  #checkGoing(handle: LockHandle, signal: AbortSignal | undefined): void {
    const what = handle.ids.join(', ');
    if (this.#closing.signal.aborted)
      throw new ContextError('CLOSED', `lock ${what}: the store is closed; open another with ContextStore.connect`);
    if (signal?.aborted === true)
      throw new ContextError('ABORTED', `lock ${what}: the signal was aborted`, { cause: signal.reason });
    if (handle.ended !== null) throw handle.ended;
  }

  #timedOut(id: string, waiting: Waiting, waitMs: number): ContextError {
    const { first, place, waiters, holders } = waiting;
    const { namespace } = this.#parts.commands.keys;
    const mine = first.instance === this.#parts.commands.settings.instanceId;
    const who = mine ? 'this very instance (pass its lock as `within` where the caller holds it)' : first.instance;
    const more = holders > 1 ? ` and ${holders - 1} more` : '';
    const held =
      first.token === 0
        ? `${who} has waited for it for ${formatDuration(first.ageMs)}`
        : `${who}${more} holds it for ${formatDuration(first.ageMs)} (${first.mode}, fencing token ${first.token})`;
    const [within, queue] =
      waitMs === 0 ? ['', ''] : [` within ${formatDuration(waitMs)}`, `, place ${place} of ${waiters} that wait`];
    const holder =
      first.token === 0 ? {} : { holder: { instance: first.instance, mode: first.mode, token: first.token, ageMs: first.ageMs } };
    return new ContextError('LOCK_TIMEOUT', `${id}: not locked${within}: ${held}${queue}`, {
      namespace,
      id,
      place,
      waiters,
      ...holder,
    });
  }

  #unreleased({ ids, fencingToken }: LockHandle, error: unknown): void {
    this.#parts.warn({ ids, fencingToken, error: messageOf(error) }, 'a lock could not be released: it ends by its time to live');
  }

  #deadline(ms: number, signal?: AbortSignal): Deadline {
    return this.#parts.commands.connection.deadline(Math.max(0, Math.min(ms, LONGEST_WAIT_MS)), signal);
  }

  /** What is still under way when the store is closed is waited for. */
  #track(work: Promise<unknown>): void {
    const tracked: Promise<unknown> = work.catch(() => {}).finally(() => this.#background.delete(tracked));
    this.#background.add(tracked);
  }
}

function checkTtl(ttl: number | string, maxTtlMs: number): number {
  const ms = parseDuration(ttl, 'ttl');
  if (ms >= LEAST_TTL_MS && ms <= maxTtlMs) return ms;
  throw new ContextError(
    'INVALID_ARGUMENT',
    `ttl is ${ms} ms; it must lie between ${LEAST_TTL_MS} and ${maxTtlMs} (locks.maxTtl)`,
    {
      limit: 'locks.maxTtl',
      expected: maxTtlMs,
      found: ms,
    },
  );
}

function infoOf({ id, holders, waiters }: LockBook, now: number): LockInfo {
  const party = ({ mode, instance, since }: LockEntry) => ({
    mode,
    instance,
    since,
    ageMs: Math.max(0, Math.round(now - since)),
  });
  return {
    id,
    holders: holders.map((entry) => ({
      ...party(entry),
      token: entry.number,
      ttlLeftMs: Math.max(0, Math.round(entry.until - now)),
    })),
    waiters: waiters.map(party),
  };
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
