import { expect } from 'chai';
import { Redis } from 'ioredis';
import { answerCheck, guardOf, sealOf } from '../../src/core/seal.js';
import { type ContextKeys, Keys, type ShardKeys, shardKeysPattern } from '../../src/redis/keys.js';
import { scriptSource } from '../../src/redis/scripts.js';
import { uniqueNamespace } from './namespace.js';
import { sharedServer } from './RedisServer.js';
import { waitFor } from './waitFor.js';
import {
  type CommitOptions,
  commitArguments,
  type DeleteOptions,
  deleteArguments,
  FAR_MS,
  GRACE_MS,
  operation,
  TOMBSTONE_MS,
} from './writeArguments.js';

export type { Attempt, CommitOptions, DeleteOptions } from './writeArguments.js';
export { FAR_MS, GRACE_MS, operation, TOMBSTONE_MS } from './writeArguments.js';

/** A reply, its bytes read as UTF-8. */
export type Reply = (string | number | null)[];

/** A published message, `text` its bytes as latin1: every byte one character, so that nothing is lost in a comparison. */
export interface Published {
  readonly channel: string;
  readonly text: string;
}

export interface TouchOptions {
  /** Makes it a fit: what the instance saw as the expiry, or nothing ('-'), or a hold. */
  readonly expected?: number | '-' | 'hold';
  readonly op?: string;
  readonly by?: string;
  readonly till?: number;
  readonly fence?: number;
  readonly tombstone?: number;
  readonly grace?: number;
  readonly protocol?: 1 | 2;
  /** Whether a missing seal is damage. */
  readonly sealed?: 0 | 1;
}

export interface LogEntry {
  readonly entry: string;
  readonly [field: string]: string;
}

type Raw = Buffer | string | number | null | Raw[];

const text = (raw: Raw): string | number | null => (Buffer.isBuffer(raw) ? raw.toString() : (raw as string | number | null));

const isGuarded = (source: string): boolean => source.includes('local function arrived(');

/**
 * One namespace, of one shard unless more are asked for, and the scripts in it called as they are: no store, no retries. It has one connection for calls and one
 * that hears every channel of the namespace.
 */
export class LuaNamespace {
  readonly redis: Redis;
  readonly shard: ShardKeys;
  readonly keys: Keys;
  readonly #ear: Redis;
  readonly #loaded = new Map<string, Promise<string>>();
  #heard: Published[] = [];
  /** Holders that were put into lock books from here. */
  #holds: [book: string, field: string][] = [];
  #stoppedAt: number | null = null;

  private constructor(url: string, shards: number) {
    this.redis = new Redis(url, { retryStrategy: null });
    this.#ear = new Redis(url, { retryStrategy: null });
    this.keys = new Keys(uniqueNamespace('lua'), shards);
    this.shard = this.keys.shardOf('');
  }

  /** On the shared server, or on another one. What is called for a shard and not for a context is called for the one of the id ''. */
  static async open(url?: string, shards = 1): Promise<LuaNamespace> {
    const opened = new LuaNamespace(url ?? (await sharedServer()).url, shards);
    opened.#ear.on('pmessageBuffer', (_pattern: Buffer, channel: Buffer, message: Buffer) => {
      opened.#heard.push({ channel: channel.toString(), text: message.toString('latin1') });
    });
    await opened.#ear.psubscribe(shardKeysPattern(opened.keys.namespace));
    return opened;
  }

  close(): void {
    this.redis.disconnect();
    this.#ear.disconnect();
  }

  of(id: string): ContextKeys {
    return this.keys.of(id);
  }

  async commit(id: string, document: string | Buffer, options: CommitOptions = {}): Promise<Reply> {
    const { fence = 0 } = options;
    if (fence > 0 && !options.unheld) await this.hold(id, fence);
    const { args, guarded } = commitArguments(this.of(id), id, document, options);
    return this.run('commit', [...this.#writeKeys(id), this.of(id).old], args, options.prelude, guarded);
  }

  async delete(id: string, options: DeleteOptions = {}): Promise<Reply> {
    const { fence = 0 } = options;
    if (fence > 0 && !options.unheld) await this.hold(id, fence);
    return this.run('delete', this.#writeKeys(id), deleteArguments(this.of(id), id, options));
  }

  /** Gives a context a holder, as a lock with this token would have; one that it has stays. */
  async hold(id: string, token: number, mode: 'w' | 'r' = 'w', until = FAR_MS): Promise<void> {
    const [book, field] = [this.keys.lockBookOf(id), `h:${token}`];
    const added = await this.redis.hsetnx(book, field, `${mode} ${until} 1 tester ${token}`);
    if (added === 1) this.#holds.push([book, field]);
  }

  touch(id: string, ttl: number | 'none', options: TouchOptions = {}): Promise<Reply> {
    const { op = operation(), by = 'tester', till = FAR_MS, tombstone = TOMBSTONE_MS, grace = GRACE_MS } = options;
    const header = `${op} ${by} ${ttl} ${till} ${options.fence ?? 0}${options.expected === undefined ? '' : ` ${options.expected}`}`;
    return this.run('touch', this.#writeKeys(id), [
      header,
      `${tombstone} ${grace} PUBLISH ${options.protocol ?? 2} ${options.sealed ?? 0}`,
      id,
      this.of(id).channel,
    ]);
  }

  /** `expire` from the beginning of the index, told without the rank where it ended and how late each was. */
  async expire(limit = 100, sealed: 0 | 1 = 0): Promise<Reply> {
    const [status, more, next, rank, damaged, ...rest] = await this.expireFrom(0, limit, sealed);
    if (status !== 'EXPIRED') return [status, more, next, rank, damaged, ...rest].filter((word) => word !== undefined) as Reply;
    const told = rest.splice(0, Number(damaged));
    return [status, more, next, damaged, ...told, ...rest.filter((_, index) => index % 3 !== 2)] as Reply;
  }

  /** The whole answer. */
  expireFrom(rank: number, limit = 100, sealed: 0 | 1 = 0, prelude = ''): Promise<Reply> {
    const { exp, use, size, mem, skip, tag } = this.shard;
    const settings = `${TOMBSTONE_MS} PUBLISH sweeper 2 ${sealed}`;
    return this.run('expire', [exp, use, size, mem, skip], [tag, `${limit} ${rank}`, settings], prelude);
  }

  versions(...ids: string[]): Promise<Reply> {
    const keys = ids.map((id) => this.of(id).context);
    return this.run('versions', keys, []);
  }

  /**
   * @param prelude - Lua that stands before the script's first statement
   * @param guarded - the arguments that its guard covers, where those are not all
   */
  async run(
    name: string,
    keys: readonly string[],
    args: readonly (string | number | Buffer)[],
    prelude = '',
    guarded: readonly (string | number | Buffer)[] = args,
  ): Promise<Reply> {
    const before = this.#stoppedAt === null ? prelude : `${prelude}\n${stoppedClock(this.#stoppedAt)}`;
    const source = scriptSource(name);
    const salt = isGuarded(source) ? operation() : null;
    const sent = salt === null ? args : [...args, guardOf(salt, [...keys, ...guarded])];
    const reply =
      before === ''
        ? ((await this.runRaw(name, keys, sent)) as Raw[]).map(text)
        : await this.runSource(withPrelude(source, before), keys, sent);
    if (salt !== null) expect(reply.pop(), `the check of ${reply[0]}`).to.equal(answerCheck(salt, reply as (string | number)[]));
    return reply;
  }

  /** As the client does it: EVALSHA, for scripts that write nothing EVALSHA_RO. Strings come as bytes. Nothing is added and nothing checked. */
  async runRaw(name: string, keys: readonly string[], args: readonly (string | number | Buffer)[]): Promise<Raw> {
    const source = scriptSource(name);
    const loaded = this.#loaded.get(name) ?? (this.redis.script('LOAD', source) as Promise<string>);
    this.#loaded.set(name, loaded);
    const command = source.startsWith('#!lua flags=no-writes') ? 'EVALSHA_RO' : 'EVALSHA';
    return (await this.redis.callBuffer(command, await loaded, keys.length, ...keys, ...args)) as unknown as Raw;
  }

  async runSource(source: string, keys: readonly string[], args: readonly (string | number | Buffer)[]): Promise<Reply> {
    return ((await this.redis.callBuffer('EVAL', source, keys.length, ...keys, ...args)) as unknown as Raw[]).map(text);
  }

  /** For the scripts that are called meanwhile it is `at`, ms since the epoch. */
  async when<T>(at: number, call: () => Promise<T>): Promise<T> {
    this.#stoppedAt = at;
    try {
      return await call();
    } finally {
      this.#stoppedAt = null;
    }
  }

  /** Redis's clock, ms. */
  async now(): Promise<number> {
    const [seconds, micros] = await this.redis.time();
    return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000);
  }

  /** Comes back when Redis's clock has passed `at`. */
  async passed(at: number): Promise<void> {
    await waitFor(async () => (await this.now()) > at, { what: `Redis's clock to pass ${at}`, everyMs: 1 });
  }

  /** Moves a context's expiry to `ago` ms before now, in the field (under its seal) and the index, as if the time had passed. */
  async makeExpired(id: string, ago = 5): Promise<number> {
    const exp = (await this.now()) - ago;
    await this.redis.hset(this.of(id).context, 'exp', exp);
    await this.seal(id);
    await this.redis.zadd(this.shard.exp, exp, id);
    return exp;
  }

  /** Seals what is stored now, where it was sealed before. */
  async seal(id: string): Promise<void> {
    const { v = '', crc = '', sha = '', len = '', at = '', exp = null, seal } = await this.redis.hgetall(this.of(id).context);
    if (seal !== undefined) await this.redis.hset(this.of(id).context, 'seal', sealOf(id, { v, crc, sha, len, at, exp }));
  }

  /** The fields of a context but for its document, which `document` gives as bytes. */
  async fields(id: string): Promise<Record<string, string>> {
    const { data: _, ...fields } = await this.redis.hgetall(this.of(id).context);
    return fields;
  }

  document(id: string): Promise<Buffer | null> {
    return this.redis.hgetBuffer(this.of(id).context, 'data');
  }

  /** All entries, oldest first; `entry` is the entry's id, values are read as latin1. */
  async log(id: string): Promise<LogEntry[]> {
    const entries = await this.redis.xrangeBuffer(this.of(id).log, '-', '+');
    return entries.map(([entry, fields]) => {
      const words = fields.map((field) => field.toString('latin1'));
      const pairs = words.flatMap((word, index) => (index % 2 === 0 ? [[word, words[index + 1] ?? '']] : []));
      return { entry: entry.toString(), ...Object.fromEntries(pairs) };
    });
  }

  /** `bytes` and `contexts` as numbers. */
  async accounts(): Promise<Record<string, number>> {
    const mem = await this.redis.hgetall(this.shard.mem);
    return Object.fromEntries(Object.entries(mem).map(([name, value]) => [name, Number(value)]));
  }

  /** The ids of an index, in the order of their scores. */
  async ids(index: string): Promise<string[]> {
    return this.redis.zrange(index, '0', '-1');
  }

  /** The scores of an index by id. */
  async scores(index: string): Promise<Record<string, number>> {
    const list = await this.redis.zrange(index, '0', '-1', 'WITHSCORES');
    return Object.fromEntries(list.flatMap((id, at) => (at % 2 === 0 ? [[id, Number(list[at + 1])]] : [])));
  }

  /** Real bytes of some keys; a missing one has none. */
  async memory(...keys: string[]): Promise<number> {
    const used = await Promise.all(keys.map((key) => this.redis.memory('USAGE', key, 'SAMPLES', '0')));
    return used.reduce<number>((sum, bytes) => sum + Number(bytes ?? 0), 0);
  }

  /** When Redis itself would remove a key, ms since the epoch; -1 never, -2 there is none. */
  async nativeExpiry(key: string): Promise<number> {
    return Number(await this.redis.pexpiretime(key));
  }

  /** What was published since the last call, in order; everything that a finished command published is in it. */
  async published(): Promise<Published[]> {
    const marker = `${this.shard.tag}:marker`;
    const word = operation();
    await this.redis.publish(marker, word);
    const end = (): number => this.#heard.findIndex((message) => message.channel === marker && message.text === word);
    await waitFor(() => end() >= 0, { what: 'the marker that follows what was published', everyMs: 1 });
    return this.#heard.splice(0, end() + 1).slice(0, -1);
  }

  /** What a call answers that must neither write nor publish. */
  async refused(call: () => Promise<Reply>): Promise<Reply> {
    await this.published();
    const before = await this.snapshot();
    this.#holds = [];
    const reply = await call();
    for (const [book, field] of this.#holds) await this.redis.hdel(book, field);
    expect(await this.snapshot(), `what a refusal (${reply[0]}) left in Redis`).to.deep.equal(before);
    expect(await this.published(), `what a refusal (${reply[0]}) published`).to.deep.equal([]);
    return reply;
  }

  /** Every key of the namespace, with its content and its native expiry, in an order that does not depend on how Redis keeps it. */
  async snapshot(): Promise<Record<string, unknown>> {
    const found: Record<string, unknown> = {};
    for (const key of (await this.#allKeys()).sort()) {
      const [content, expiry] = await Promise.all([this.#content(key), this.nativeExpiry(key)]);
      found[key] = { content, expiry };
    }
    return found;
  }

  #writeKeys(id: string): string[] {
    const { context, log, exp, use, size, mem } = this.of(id);
    return [context, log, exp, use, size, mem];
  }

  async #allKeys(): Promise<string[]> {
    const keys = new Set<string>();
    let cursor = '0';
    do {
      const [next, page] = await this.redis.scan(cursor, 'MATCH', shardKeysPattern(this.keys.namespace), 'COUNT', 1000);
      for (const key of page) keys.add(key);
      cursor = next;
    } while (cursor !== '0');
    return [...keys];
  }

  async #content(key: string): Promise<unknown> {
    const type = await this.redis.type(key);
    switch (type) {
      case 'hash': {
        const fields = Object.entries(await this.redis.hgetallBuffer(key));
        return fields.map(([name, value]) => [name, value.toString('latin1')]).sort();
      }
      case 'zset':
        return this.scores(key);
      case 'stream': {
        // with the id it gave last, below which it takes nothing
        const [info, entries] = await Promise.all([this.redis.xinfo('STREAM', key), this.redis.xrangeBuffer(key, '-', '+')]);
        const last = Object.fromEntries(pairsOf(info))['last-generated-id'];
        return [last, entries.map(([id, fields]) => [id.toString(), fields.map((field) => field.toString('latin1'))])];
      }
      case 'string':
        return this.redis.get(key);
      default:
        throw new Error(`${key} is a ${type}: nothing here makes one`);
    }
  }
}

/** RESP3 gives a map, RESP2 a list. */
function pairsOf(info: unknown): [string, unknown][] {
  if (!Array.isArray(info)) return Object.entries(info as Record<string, unknown>);
  return info.flatMap((name, index): [string, unknown][] => (index % 2 === 0 ? [[String(name), info[index + 1]]] : []));
}

/** Shadows `redis` so that its clock stands. */
function stoppedClock(at: number): string {
  const time = `{ '${Math.floor(at / 1000)}', '${Math.round((at % 1000) * 1000)}' }`;
  return `local running = redis
local redis = setmetatable({
  call = function(...)
    if (...) == 'TIME' then return ${time} end
    return running.call(...)
  end,
}, { __index = running })`;
}

/** Puts Lua after the `#!lua` line. */
function withPrelude(source: string, prelude: string): string {
  const end = source.indexOf('\n') + 1;
  if (!source.startsWith('#!lua')) throw new Error('a script that writes begins with a #!lua line');
  return `${source.slice(0, end)}${prelude.trimEnd()}\n${source.slice(end)}`;
}
