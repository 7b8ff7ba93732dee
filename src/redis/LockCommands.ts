/** What can be asked of Redis about locks: one method, one round trip (lua/lock.lua, extend.lua, unlock.lua, break.lua). */
import { ContextError } from '../core/errors.js';
import { type ContextCommands, PUBLISH } from './ContextCommands.js';
import { type Intent, parseIntent } from './commitRequest.js';
import { lockNodesKey } from './keys.js';
import type { Deadline } from './RedisConnection.js';
import { writeWithRetries } from './writeRetries.js';

export type LockMode = 'write' | 'read';

export interface LockRequest {
  readonly id: string;
  /** A word that only this attempt to lock has: asked again it gets the same answer. */
  readonly owner: string;
  readonly mode: LockMode;
  readonly ttlMs: number;
  /** How long a place among the first is kept while it is not asked again, and up to four times that behind them; 0: it does not wait. */
  readonly leaseMs: number;
}

/** Somebody who holds a context, or waits for it. Times are ms since the epoch by Redis's clock. */
export interface LockEntry {
  readonly mode: LockMode;
  /** The fencing token of a holder, the ticket of a waiter. */
  readonly number: number;
  readonly since: number;
  readonly until: number;
  readonly instance: string;
}

/** Why a lock was not granted. */
export interface Waiting {
  readonly status: 'waiting';
  /** From 1; where one does not wait, the place it would have had. */
  readonly place: number;
  readonly waiters: number;
  /** When who waits is to ask again: its lease ends, or it can change without anybody doing something. ms from now. */
  readonly againMs: number;
  readonly holders: number;
  /** The first holder; with token 0 the first waiter, where nobody holds it. */
  readonly first: { readonly mode: LockMode; readonly token: number; readonly ageMs: number; readonly instance: string };
}

export type LockAnswer =
  | { readonly status: 'granted'; readonly token: number; readonly intent: Intent | null }
  | Waiting
  | { readonly status: 'full'; readonly entries: number };

export interface LockBook {
  readonly id: string;
  readonly holders: readonly LockEntry[];
  /** In the order in which they get it. */
  readonly waiters: readonly LockEntry[];
}

/** Holders and waiters of one context at the most: each call reads all of them. */
export const MOST_ENTRIES = 1_000;

type ScriptReply = readonly [string, ...(string | number)[]];

const modeOf = (word: string | number | undefined): LockMode => (word === 'w' ? 'write' : 'read');

export class LockCommands {
  readonly #commands: ContextCommands;
  /** The highest token seen of each shard: no later one may be below, whatever a failover has lost. */
  readonly #floors = new Map<number, number>();

  constructor(commands: ContextCommands) {
    this.#commands = commands;
  }

  async lock(request: LockRequest, deadline: Deadline): Promise<LockAnswer> {
    const { id, owner, mode, ttlMs, leaseMs } = request;
    const { keys, settings } = this.#commands;
    const { book, context, mem, shard } = keys.lockKeysOf(id);
    const floor = this.#floors.get(shard) ?? 0;
    const head = `${owner} ${settings.instanceId} ${mode === 'write' ? 'w' : 'r'} ${ttlMs} ${leaseMs}`;
    const reply = await this.#run(id, 'lock', deadline, (till) =>
      this.#script(deadline, 'lock', [book, context, mem], [`${head} ${till} ${floor}`, `${PUBLISH} ${MOST_ENTRIES}`]),
    );
    const [status, first] = reply;
    if (status === 'GRANTED') {
      const token = Number(first);
      this.#floors.set(shard, Math.max(floor, this.#floors.get(shard) ?? 0, token));
      return { status: 'granted', token, intent: parseIntent(String(reply[4])) };
    }
    if (status === 'FULL') return { status: 'full', entries: Number(first) };
    if (status !== 'WAITING' && status !== 'HELD') throw unknown(id, reply);
    const [, place, waiters, again, now, holders, heldMode, token, since, instance] = reply;
    return {
      status: 'waiting',
      place: Number(place),
      waiters: Number(waiters),
      againMs: Number(again),
      holders: Number(holders),
      first: {
        mode: modeOf(heldMode),
        token: Number(token),
        ageMs: Math.max(0, Number(now) - Number(since)),
        instance: String(instance),
      },
    };
  }

  /** False: it is not held any more. */
  async extend(id: string, owner: string, token: number, ttlMs: number, deadline: Deadline): Promise<boolean> {
    const reply = await this.#run(id, 'extend the lock', deadline, (till) =>
      this.#script(deadline, 'extend', [this.#commands.keys.lockBookOf(id)], [`${owner} ${token} ${ttlMs} ${till}`]),
    );
    if (reply[0] !== 'EXTENDED' && reply[0] !== 'LOST') throw unknown(id, reply);
    return reply[0] === 'EXTENDED';
  }

  /** Lets an owner go, whether it holds the context or waits for it; false: it did neither. */
  async unlock(id: string, owner: string, deadline: Deadline): Promise<boolean> {
    const reply = await this.#run(id, 'unlock', deadline, () =>
      this.#script(deadline, 'unlock', [this.#commands.keys.lockBookOf(id)], [owner, PUBLISH]),
    );
    if (reply[0] !== 'RELEASED' && reply[0] !== 'LEFT' && reply[0] !== 'ABSENT') throw unknown(id, reply);
    return reply[0] !== 'ABSENT';
  }

  /** Takes a context from all that hold it; those are answered, and what is prepared on it and not settled. */
  async break(
    id: string,
    deadline: Deadline,
  ): Promise<{ readonly holders: readonly LockEntry[]; readonly intent: Intent | null }> {
    const { book, context } = this.#commands.keys.lockKeysOf(id);
    const reply = await this.#run(id, 'break the lock', deadline, () =>
      this.#script(deadline, 'break', [book, context], [PUBLISH]),
    );
    if (reply[0] !== 'BROKEN') throw unknown(id, reply);
    const holders = Array.from({ length: Number(reply[2]) }, (_, index) => {
      const [mode, token, since, until, instance] = reply.slice(3 + 5 * index);
      return {
        mode: modeOf(mode),
        number: Number(token),
        since: Number(since),
        until: Number(until),
        instance: String(instance),
      };
    });
    return { holders, intent: parseIntent(String(reply[1])) };
  }

  /** A page of the lock books of all shards, out of all keys of the server; a cursor of '0' begins, and ends. One may come twice. */
  async page(
    cursor: string,
    count: number,
    deadline: Deadline,
  ): Promise<{ readonly cursor: string; readonly books: readonly LockBook[] }> {
    const { pattern, idOf } = this.#commands.keys.lockBooks();
    const [next, found] = await this.#commands.asked(deadline, 'look for locks', (client) =>
      client.scan(cursor, 'MATCH', pattern, 'COUNT', count),
    );
    return {
      cursor: next,
      books: await this.books(
        found.flatMap((key) => idOf(key) ?? []),
        deadline,
      ),
    };
  }

  /** The lock books of some contexts, without what has ended; an empty one where there is none. */
  async books(ids: readonly string[], deadline: Deadline): Promise<readonly LockBook[]> {
    if (ids.length === 0) return [];
    const { connection, keys } = this.#commands;
    const hashes = await this.#commands.asked(deadline, 'read the locks', (client) =>
      Promise.all(ids.map((id) => client.hgetall(keys.lockBookOf(id)))),
    );
    const now = connection.clock.latest(performance.now());
    return ids.map((id, index) => bookOf(id, hashes[index] ?? {}, now));
  }

  /**
   * What is known of the namespace's lock nodes: whether this is the first to ask, and the longest time to live that any of its instances
   * may give a lock, this one included.
   */
  async nodes(
    maxTtlMs: number,
    names: string,
    deadline: Deadline,
  ): Promise<{ readonly first: boolean; readonly maxTtlMs: number }> {
    const key = lockNodesKey(this.#commands.keys.namespace);
    const reply = await this.#run('lock nodes', 'look at', deadline, () =>
      this.#script(deadline, 'nodes', [key], [String(maxTtlMs), names]),
    );
    if (reply[0] !== 'NODES') throw unknown('lock nodes', reply);
    return { first: reply[1] === 1, maxTtlMs: Number(reply[2]) };
  }

  /** Redis's time now, ms since the epoch. */
  async now(deadline: Deadline): Promise<number> {
    const { connection } = this.#commands;
    await connection.syncClock(deadline);
    return connection.clock.latest(performance.now());
  }

  #script(
    deadline: Deadline,
    name: 'lock' | 'extend' | 'unlock' | 'break' | 'nodes',
    keys: readonly string[],
    args: readonly string[],
  ): Promise<ScriptReply> {
    return this.#commands.connection.runScript<ScriptReply>(deadline, name, keys, args);
  }

  /** Each of them does no harm when it is done twice: a lost reply is simply asked for again. `till`: when an attempt comes too late, ms by Redis's clock. */
  async #run(id: string, doing: string, deadline: Deadline, send: (till: string) => Promise<ScriptReply>): Promise<ScriptReply> {
    const reply = await writeWithRetries(this.#commands.connection, deadline, { id, doing }, (attempt) =>
      send(attempt.slice(0, attempt.indexOf(' '))),
    );
    return reply as ScriptReply;
  }
}

function bookOf(id: string, fields: Readonly<Record<string, string>>, now: number): LockBook {
  const entries = Object.entries(fields).flatMap(([field, value]) => {
    const [, kind, number] = /^([hq]):(\d+)$/.exec(field) ?? [];
    const [, mode, until, since, instance = ''] = /^([rw]) (\d+) (\d+) (\S+) \S+$/.exec(value) ?? [];
    if (kind === undefined || mode === undefined || Number(until) <= now) return [];
    return [{ kind, mode: modeOf(mode), number: Number(number), since: Number(since), until: Number(until), instance }];
  });
  const list = (wanted: string): LockEntry[] =>
    entries
      .filter(({ kind }) => kind === wanted)
      .map(({ kind: _, ...entry }) => entry)
      .sort((a, b) => a.number - b.number);
  return { id, holders: list('h'), waiters: list('q') };
}

function unknown(id: string, reply: ScriptReply): ContextError {
  if (reply[0] === 'GARBLED')
    return new ContextError(
      'CONNECTION',
      `${id}: the request that reached Redis is not the one that was sent, three times in a row; nothing was done: check the network path`,
      { id },
    );
  return new ContextError('REDIS_ERROR', `${id}: unknown answer ${JSON.stringify(reply)}`, { id });
}
