/**
 * What background work asks of Redis: one method, one bounded call. Nothing here is repeated when it fails: the work that asked begins its
 * step again.
 */
import { ContextError } from '../core/errors.js';
import { type ContextCommands, GRACE_MS, PUBLISH } from './ContextCommands.js';
import { contextKey, namespaceKey, parseContextKey, type ShardKeys, shardKeysPattern } from './keys.js';
import type { Deadline } from './RedisConnection.js';

export interface Damage {
  readonly id: string;
  /** What of it: `sha1`, `chunk d3`, `log 7-0 sum`, `checkpoint k seal`, … */
  readonly what: string;
}

export interface Scrubbed {
  /** Ids that were not finished, the first of them to be gone on with at `place`. */
  readonly left: readonly string[];
  readonly place: string;
  readonly checked: number;
  /** Bytes hashed. */
  readonly bytes: number;
  readonly quarantined: number;
  readonly damaged: readonly Damage[];
}

/** How often each was mended. */
export interface Fixes {
  /** Contexts that an index did not have. */
  readonly indexed: number;
  /** Index entries without a context. */
  readonly dropped: number;
  /** Expiries in the index, or behind it in Redis, that were not those of the context. */
  readonly expiries: number;
  /** Accounts that were not what `MEMORY USAGE` says. */
  readonly sizes: number;
  /** Logs without a context that would have stayed for ever. */
  readonly tombstones: number;
  /** Copies without a context, and what a script kept aside. */
  readonly leftovers: number;
  /** Intents of transactions that are over. */
  readonly intents: number;
  /** Contexts that Redis removed natively before a sweep did. */
  readonly expired: number;
  /** Totals of a shard that were not the sum of its accounts. */
  readonly totals: number;
}

export interface Reconciled {
  readonly fixed: Omit<Fixes, 'totals'>;
  readonly lost: readonly string[];
  readonly damaged: readonly string[];
}

export interface FoundKey {
  readonly shard: number;
  readonly kind: string;
  readonly id: string;
  readonly key: string;
}

type ScriptReply = readonly (string | number)[];

const FIXES = ['indexed', 'dropped', 'expiries', 'sizes', 'tombstones', 'leftovers', 'intents', 'expired'] as const;
const TOTALS = ['bytes', 'contexts', 'checkpoints', 'quarantined', 'quarantine'] as const;

export class MaintenanceCommands {
  readonly #commands: ContextCommands;

  constructor(commands: ContextCommands) {
    this.#commands = commands;
  }

  get shards(): readonly ShardKeys[] {
    return this.#commands.keys.shards;
  }

  get #connection() {
    return this.#commands.connection;
  }

  /** Whether every context of the namespace carries a seal. */
  async sealed(deadline: Deadline): Promise<boolean> {
    const { namespace } = this.#commands.keys;
    const word = await this.#connection.attempt(deadline, 'look at the namespace', (client) =>
      client.hget(namespaceKey(namespace), 'sealed'),
    );
    return word === '1';
  }

  async scrub(
    shard: ShardKeys,
    ids: readonly string[],
    { maxBytes, place, sealed }: { readonly maxBytes: number; readonly place: string; readonly sealed: boolean },
    deadline: Deadline,
  ): Promise<Scrubbed> {
    const keys = ids.map((id) => contextKey(shard, id));
    const reply = await this.#connection.runScript<ScriptReply>(deadline, 'scrub', keys, [maxBytes, place, sealed ? 1 : 0]);
    known(reply, 'SCRUBBED');
    const [, next, at, checked, bytes, quarantined, ...rest] = reply;
    const damaged: Damage[] = [];
    for (let index = 0; index + 1 < rest.length; index += 2)
      damaged.push({ id: String(rest[index]), what: String(rest[index + 1]) });
    return {
      left: Number(next) === 0 ? [] : ids.slice(Number(next) - 1),
      place: String(at),
      checked: Number(checked),
      bytes: Number(bytes),
      quarantined: Number(quarantined),
      damaged,
    };
  }

  async reconcile(shard: ShardKeys, ids: readonly string[], sealed: boolean, deadline: Deadline): Promise<Reconciled> {
    const { tombstoneMs, instanceId } = this.#commands.settings;
    const settings = `${tombstoneMs} ${GRACE_MS} ${PUBLISH} ${instanceId} ${this.#commands.protocol} ${sealed ? 1 : 0}`;
    const reply = await this.#connection.runScript<ScriptReply>(
      deadline,
      'reconcile',
      [shard.exp, shard.use, shard.size, shard.mem],
      [shard.tag, settings, ...ids],
    );
    known(reply, 'RECONCILED');
    const counts = FIXES.map((name, index) => [name, Number(reply[index + 1])] as const);
    const rest = reply.slice(FIXES.length + 1);
    const lost = rest.splice(0, 1 + Number(rest[0])).slice(1);
    return {
      fixed: Object.fromEntries(counts) as Omit<Fixes, 'totals'>,
      lost: lost.map(String),
      damaged: rest.slice(1).map(String),
    };
  }

  /** A page of an index; a cursor of '0' begins, and ends. One id may come twice. */
  async members(
    shard: ShardKeys,
    index: 'use' | 'size' | 'exp',
    cursor: string,
    count: number,
    deadline: Deadline,
  ): Promise<{ readonly cursor: string; readonly ids: readonly string[] }> {
    const [next, pairs] = await this.#connection.attempt(deadline, 'list an index', (client) =>
      client.zscan(shard[index], cursor, 'COUNT', count),
    );
    return { cursor: next, ids: pairs.filter((_, at) => at % 2 === 0) };
  }

  /** Those of the ids that the index by use does not have. */
  async unindexed(shard: ShardKeys, ids: readonly string[], deadline: Deadline): Promise<string[]> {
    if (ids.length === 0) return [];
    const scores = await this.#connection.attempt(deadline, 'list an index', (client) => client.zmscore(shard.use, ...ids));
    return ids.filter((_, index) => scores[index] === null);
  }

  /** A page of the keys of the namespace's contexts, out of all keys of the server. */
  async keys(
    cursor: string,
    count: number,
    deadline: Deadline,
  ): Promise<{ readonly cursor: string; readonly found: FoundKey[] }> {
    const { namespace, shards } = this.#commands.keys;
    const pattern = shardKeysPattern(namespace);
    const [next, keys] = await this.#connection.attempt(deadline, 'look through the keys', (client) =>
      client.scan(cursor, 'MATCH', pattern, 'COUNT', count),
    );
    const found = keys.flatMap((key): FoundKey[] => {
      const parsed = parseContextKey(namespace, key);
      return parsed === null || shards[parsed.shard] === undefined ? [] : [{ ...parsed, key }];
    });
    return { cursor: next, found };
  }

  /** Ids in an index, accounts included: how many a pass will look at. */
  async count(shard: ShardKeys, deadline: Deadline): Promise<number> {
    return this.#connection.attempt(deadline, 'count', (client) => client.zcard(shard.use));
  }

  /** The totals of a shard, in words as `lua/totals.lua` takes them. */
  async totalsOf(shard: ShardKeys, deadline: Deadline): Promise<readonly string[]> {
    const words = await this.#connection.attempt(deadline, 'read the accounts', (client) => client.hmget(shard.mem, ...TOTALS));
    return words.map((word) => word ?? '-');
  }

  /** The sum of some accounts, by rank. */
  async sumOf(shard: ShardKeys, from: number, to: number, deadline: Deadline): Promise<{ bytes: number; contexts: number }> {
    const list = await this.#connection.attempt(deadline, 'sum the accounts', (client) =>
      client.zrange(shard.size, String(from), String(to), 'WITHSCORES'),
    );
    const scores = list.filter((_, at) => at % 2 === 1).map(Number);
    return { bytes: scores.reduce((sum, score) => sum + score, 0), contexts: scores.length };
  }

  async totals(
    shard: ShardKeys,
    given: {
      readonly before: readonly string[];
      readonly outside: { readonly bytes: number; readonly contexts: number } | null;
      readonly sumHere: number;
      /** Keys; null: too many to be given. */
      readonly checkpoints: readonly string[] | null;
      readonly quarantined: readonly string[];
    },
    deadline: Deadline,
  ): Promise<{ readonly mended: number; readonly unsettled: number }> {
    const { before, outside, sumHere, checkpoints, quarantined } = given;
    const keys = checkpoints === null ? [] : [...checkpoints, ...quarantined];
    const reply = await this.#connection.runScript<ScriptReply>(
      deadline,
      'totals',
      [shard.size, shard.mem, ...keys],
      [before.join(' '), outside === null ? '-' : `${outside.bytes} ${outside.contexts}`, sumHere, checkpoints?.length ?? -1],
    );
    known(reply, 'TOTALS');
    return { mended: Number(reply[1]), unsettled: Number(reply[2]) };
  }

  /** Redis's time now, ms since the epoch, to within the round trip. */
  async now(deadline: Deadline): Promise<number> {
    await this.#connection.syncClock(deadline);
    return this.#connection.clock.latest(performance.now());
  }
}

function known(reply: ScriptReply, status: string): void {
  if (reply[0] === 'GARBLED')
    throw new ContextError(
      'CONNECTION',
      `${status}: the request was damaged on its way, and nothing was done: check the network path`,
    );
  if (reply[0] !== status) throw new ContextError('REDIS_ERROR', `unknown answer ${JSON.stringify(reply.slice(0, 3))}`);
}
