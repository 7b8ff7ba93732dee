/**
 * What can be asked of Redis about contexts: one method, one round trip. Replies become typed values here; nothing above this layer
 * knows a key, a field or a status word. What a reply means for a caller is decided above.
 */

import type { Redis } from 'ioredis';
import { ContextError, isContextError } from '../core/errors.js';
import { type ContextKeys, contextKey, type Keys, type ShardKeys } from './keys.js';
import type { Argument, Deadline, RedisConnection } from './RedisConnection.js';
import { writeWithRetries } from './writeRetries.js';

/** A context as it is stored; `data` is not verified yet. */
export interface StoredContext {
  readonly data: Buffer;
  readonly version: number;
  readonly crc: string;
  readonly length: number;
  readonly at: number;
  readonly expiresAt: number | null;
}

export interface CommitRequest {
  readonly id: string;
  readonly operation: string;
  readonly data: string | Buffer;
  readonly length: number;
  readonly crc: string;
  readonly sha1: string;
  /** A JSON Patch and what it was computed from. */
  readonly patch: { readonly text: string; readonly baseVersion: number; readonly baseCrc: string } | null;
  readonly ifVersion: number | null;
  readonly ifCrc: string | null;
  readonly ttl: number | 'keep' | 'none';
}

export interface RemoveRequest {
  readonly id: string;
  readonly operation: string;
  readonly ifVersion: number | null;
}

export interface Conflict {
  readonly status: 'conflict';
  readonly version: number;
}

export interface Committed {
  readonly status: 'committed';
  readonly version: number;
  readonly at: number;
  readonly kind: 'patch' | 'full';
  readonly frameBytes: number;
  readonly expiresAt: number | null;
  readonly memoryBytes: number;
  /** An earlier attempt had done it: what else a commit answers is not known any more. */
  readonly repeated: boolean;
}

export type Removed =
  | { readonly status: 'deleted'; readonly version: number; readonly at: number }
  | { readonly status: 'absent' };

/** An entry of the delta log. */
export interface LogEntry {
  readonly kind: 'patch' | 'full' | 'deleted' | 'expired';
  readonly version: number;
  readonly frame: Buffer;
  readonly baseCrc: string;
  readonly crc: string;
  readonly sha1: string;
  readonly length: number;
  readonly at: number;
  readonly expiresAt: number | null;
  readonly operation: string;
  readonly by: string;
}

/** What a list shows of a context. */
export interface Summary {
  readonly id: string;
  readonly version: number;
  readonly checksum: string;
  readonly bytes: number;
  readonly memoryBytes: number;
  readonly updatedAt: number;
  readonly expiresAt: number | null;
}

export interface VersionFacts {
  readonly version: number;
  readonly crc: string;
  readonly expiresAt: number | null;
}

export interface Settings {
  readonly instanceId: string;
  readonly logKeep: number;
  readonly logBytes: number;
  readonly tombstoneMs: number;
}

/** Pause before a question is asked a third time, ms. */
const ASK_AGAIN_MS = 20;
/** The log holds a whole document at least every so many versions, so that what it keeps can be replayed. */
const KEYFRAME_EVERY = 64;
/** Redis itself removes an expired context this long after its time, if nobody has: a net behind the sweep, ms. */
const GRACE_MS = 60_000;
const PUBLISH = 'PUBLISH';
const READ_FIELDS = ['data', 'v', 'crc', 'len', 'at', 'exp'] as const;

type ScriptReply = readonly [string, ...(string | number | null)[]];

const optional = (word: Buffer | string | number | null | undefined): number | null =>
  word === null || word === undefined || word === '' || word === '-' || Number(word) === 0 ? null : Number(word);

const checksumOf = (word: string | null | undefined): string => (word === undefined || word === null || word === '-' ? '' : word);

function storedContext(fields: readonly (Buffer | null | undefined)[]): StoredContext | null {
  const [data, version, crc, length, at, exp] = fields;
  if (!version && !data) return null;
  return {
    data: data ?? Buffer.alloc(0),
    version: Number(version ?? Number.NaN),
    crc: crc?.toString() ?? '',
    length: Number(length ?? Number.NaN),
    at: Number(at ?? Number.NaN),
    expiresAt: optional(exp?.toString()),
  };
}

export class ContextCommands {
  readonly connection: RedisConnection;
  readonly keys: Keys;
  readonly settings: Settings;
  readonly #commitSettings: string;

  constructor(connection: RedisConnection, keys: Keys, settings: Settings) {
    this.connection = connection;
    this.keys = keys;
    this.settings = settings;
    const { logKeep, logBytes, tombstoneMs } = settings;
    this.#commitSettings = `${logKeep} ${logBytes} ${KEYFRAME_EVERY} ${tombstoneMs} ${GRACE_MS} ${PUBLISH}`;
  }

  /** @throws ContextError `CHECKSUM`, `WRITE_CORRUPT`, `FENCED`, `LOCKED`, `OUTCOME_UNKNOWN` and those of the connection */
  async commit(request: CommitRequest, deadline: Deadline): Promise<Committed | Conflict> {
    const { id, patch } = request;
    const keys = this.keys.of(id);
    const head = `${request.operation} ${this.settings.instanceId} ${request.ifVersion ?? '-'} ${request.ifCrc || '-'} ${
      patch === null ? '0 -' : `${patch.baseVersion} ${patch.baseCrc}`
    } ${request.sha1} ${request.crc} ${request.length} ${request.ttl}`;
    const reply = await writeWithRetries(this.connection, deadline, { id, doing: 'commit' }, (attempt) =>
      this.connection.runScript<ScriptReply>(
        deadline,
        'commit',
        [...writeKeys(keys), keys.old],
        [request.data, patch?.text ?? '', `${head} ${attempt} 0 ${this.#commitSettings}`, id, keys.channel],
      ),
    );
    const [status, version] = reply;
    if (status === 'COMMITTED') {
      return {
        status: 'committed',
        version: Number(version),
        at: Number(reply[2]),
        kind: reply[3] === 'patch' ? 'patch' : 'full',
        frameBytes: Number(reply[4]),
        expiresAt: optional(reply[5]),
        memoryBytes: Number(reply[6]),
        repeated: false,
      };
    }
    if (status === 'APPLIED') {
      const at = Number(reply[2]);
      const expiresAt = typeof request.ttl === 'number' ? at + request.ttl : null;
      return {
        status: 'committed',
        version: Number(version),
        at,
        kind: 'full',
        frameBytes: 0,
        expiresAt,
        memoryBytes: 0,
        repeated: true,
      };
    }
    return this.#refused(reply, id);
  }

  async remove(request: RemoveRequest, deadline: Deadline): Promise<Removed | Conflict> {
    const { id } = request;
    const keys = this.keys.of(id);
    const head = `${request.operation} ${this.settings.instanceId} ${request.ifVersion ?? '-'} -`;
    const reply = await writeWithRetries(this.connection, deadline, { id, doing: 'delete' }, (attempt) =>
      this.connection.runScript<ScriptReply>(deadline, 'delete', writeKeys(keys), [
        `${head} ${attempt} 0`,
        `${this.settings.tombstoneMs} ${PUBLISH}`,
        id,
        keys.channel,
      ]),
    );
    if (reply[0] === 'DELETED' || reply[0] === 'APPLIED')
      return { status: 'deleted', version: Number(reply[1]), at: Number(reply[2]) };
    if (reply[0] === 'ABSENT') return { status: 'absent' };
    return this.#refused(reply, id);
  }

  /** Touching twice does no harm: a lost reply is simply asked for again. */
  async touch(
    id: string,
    operation: string,
    ttl: number | 'none',
    deadline: Deadline,
  ): Promise<{ version: number; expiresAt: number | null } | null> {
    const keys = this.keys.of(id);
    const { tombstoneMs, instanceId } = this.settings;
    const reply = await writeWithRetries(this.connection, deadline, { id, doing: 'touch' }, (attempt) =>
      this.connection.runScript<ScriptReply>(deadline, 'touch', writeKeys(keys), [
        `${operation} ${instanceId} ${ttl} ${attempt.slice(0, attempt.indexOf(' '))}`,
        `${tombstoneMs} ${GRACE_MS} ${PUBLISH}`,
        id,
        keys.channel,
      ]),
    );
    return reply[0] === 'TOUCHED' ? { version: Number(reply[1]), expiresAt: optional(reply[2]) } : null;
  }

  /** A question changes nothing: it is asked again until its time is over when the connection is lost or Redis is busy. */
  async #ask<T>(deadline: Deadline, ask: () => Promise<T>): Promise<T> {
    for (let tries = 0; ; tries += 1) {
      try {
        return await ask();
      } catch (error) {
        const again =
          isContextError(error) && (error.code === 'CONNECTION' || error.code === 'TIMEOUT' || error.code === 'REDIS_BUSY');
        if (!again || performance.now() >= deadline.at || deadline.signal?.aborted === true) throw error;
        if (tries > 0) await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN_MS));
        await this.connection.ready(deadline, 'read');
      }
    }
  }

  #asked<T>(deadline: Deadline, doing: string, run: (client: Redis) => Promise<T>): Promise<T> {
    return this.#ask(deadline, () => this.connection.attempt(deadline, doing, run));
  }

  /** The fields of a context; the caller judges its expiry. */
  async read(id: string, deadline: Deadline): Promise<StoredContext | null> {
    const key = contextKey(this.keys.shardOf(id), id);
    return storedContext(await this.#asked(deadline, 'read', (client) => client.hmgetBuffer(key, ...READ_FIELDS)));
  }

  /** Several in one round trip, in the order of the ids. */
  async readMany(ids: readonly string[], deadline: Deadline): Promise<(StoredContext | null)[]> {
    const rows = await this.#asked(deadline, 'read', (client) =>
      Promise.all(ids.map((id) => client.hmgetBuffer(contextKey(this.keys.shardOf(id), id), ...READ_FIELDS))),
    );
    return rows.map(storedContext);
  }

  /** A read whose expiry Redis judges by its own clock. */
  async readJudged(id: string, deadline: Deadline): Promise<StoredContext | null> {
    const keys = [contextKey(this.keys.shardOf(id), id)];
    const [status, ...fields] = await this.connection.runScriptForBytes(deadline, 'read', keys, []);
    return status?.toString() === 'FOUND' ? storedContext(fields) : null;
  }

  /** Whether it exists, and what it is at: no document travels. */
  async versions(shard: ShardKeys, ids: readonly string[], deadline: Deadline): Promise<(VersionFacts | null)[]> {
    const sentAt = performance.now();
    const keys = ids.map((id) => contextKey(shard, id));
    const reply = await this.#ask(deadline, () => this.connection.runScript<ScriptReply>(deadline, 'versions', keys, []));
    this.connection.clock.observe(sentAt, performance.now(), Number(reply[1]));
    return ids.map((_, index) => {
      const at = 2 + 3 * index;
      const version = reply[at];
      if (version === '' || version === undefined) return null;
      return { version: Number(version), crc: String(reply[at + 1]), expiresAt: optional(reply[at + 2]) };
    });
  }

  async versionOf(id: string, deadline: Deadline): Promise<VersionFacts | null> {
    const [facts] = await this.versions(this.keys.shardOf(id), [id], deadline);
    return facts ?? null;
  }

  /** Log entries after `after`, oldest first; `after` 0 is from the beginning. */
  async logAfter(id: string, after: number, limit: number, deadline: Deadline): Promise<LogEntry[]> {
    const { log } = this.keys.of(id);
    const start = after === 0 ? '-' : `(${after}-0`;
    return (await this.#asked(deadline, 'read the log', (client) => client.xrangeBuffer(log, start, '+', 'COUNT', limit))).map(
      logEntry,
    );
  }

  /** The newest log entries, newest first. */
  async logTail(id: string, limit: number, deadline: Deadline): Promise<LogEntry[]> {
    const { log } = this.keys.of(id);
    return (await this.#asked(deadline, 'read the log', (client) => client.xrevrangeBuffer(log, '+', '-', 'COUNT', limit))).map(
      logEntry,
    );
  }

  /** A page of a shard's ids in no order; a cursor of '0' begins, and ends. */
  async scan(
    shard: ShardKeys,
    cursor: string,
    prefix: string,
    count: number,
    deadline: Deadline,
  ): Promise<{ cursor: string; ids: string[] }> {
    const match = `${prefix.replace(/[\\*?[\]^-]/g, '\\$&')}*`;
    const [next, pairs] = await this.#asked(deadline, 'list', (client) =>
      client.zscan(shard.use, cursor, 'MATCH', match, 'COUNT', count),
    );
    return { cursor: next, ids: pairs.filter((_, index) => index % 2 === 0) };
  }

  /** Everything of contexts but their bytes, with their accounted memory; those that are gone or expired are left out. */
  async summaries(shard: ShardKeys, ids: readonly string[], deadline: Deadline): Promise<Summary[]> {
    if (ids.length === 0) return [];
    const [sizes, rows] = await this.#asked(deadline, 'list', (client) =>
      Promise.all([
        client.zmscore(shard.size, ...ids),
        Promise.all(ids.map((id) => client.hmget(contextKey(shard, id), 'v', 'crc', 'len', 'at', 'exp'))),
      ]),
    );
    const now = performance.now();
    const verdicts = rows.map(([, , , , exp]) => {
      const expiresAt = optional(exp);
      return expiresAt === null ? 'live' : this.connection.clock.judge(expiresAt, now);
    });
    // so near to their expiry that only Redis's own clock can tell
    const unsure = ids.filter((_, index) => verdicts[index] === 'unknown');
    const facts = unsure.length === 0 ? [] : await this.versions(shard, unsure, deadline);
    const gone = new Set(unsure.filter((_, index) => facts[index] === null));
    return ids.flatMap((id, index) => {
      const [version, checksum, bytes, at, exp] = rows[index] ?? [];
      const expiresAt = optional(exp);
      if (!version || verdicts[index] === 'expired' || gone.has(id)) return [];
      const memoryBytes = Number(sizes[index] ?? 0);
      return [
        {
          id,
          version: Number(version),
          checksum: checksum ?? '',
          bytes: Number(bytes),
          memoryBytes,
          updatedAt: Number(at),
          expiresAt,
        },
      ];
    });
  }

  /** All fields of a context as they are. */
  async raw(id: string, deadline: Deadline): Promise<Record<string, Buffer> | null> {
    const key = contextKey(this.keys.shardOf(id), id);
    const fields = await this.#asked(deadline, 'read', (client) => client.hgetallBuffer(key));
    return Object.keys(fields).length === 0 ? null : fields;
  }

  /** Takes up to `limit` expired contexts out of a shard. */
  async expire(
    shard: ShardKeys,
    limit: number,
    deadline: Deadline,
  ): Promise<{ more: boolean; nextAt: number | null; expired: { id: string; version: number }[] }> {
    const { tombstoneMs, instanceId } = this.settings;
    const args: Argument[] = [shard.tag, limit, `${tombstoneMs} ${PUBLISH} ${instanceId}`];
    const reply = await this.connection.runScript<ScriptReply>(
      deadline,
      'expire',
      [shard.exp, shard.use, shard.size, shard.mem],
      args,
    );
    const expired: { id: string; version: number }[] = [];
    for (let index = 3; index + 1 < reply.length; index += 2)
      expired.push({ id: String(reply[index]), version: Number(reply[index + 1]) });
    return { more: Number(reply[1]) === 1, nextAt: optional(reply[2]), expired };
  }

  /** The accounts of a shard, and what its own indexes take. */
  async accounts(shard: ShardKeys, deadline: Deadline): Promise<{ contexts: number; bytes: number; indexBytes: number }> {
    return this.#asked(deadline, 'read the accounts', async (client) => {
      const [mem, ...indexes] = await Promise.all([
        client.hmget(shard.mem, 'contexts', 'bytes'),
        ...[shard.exp, shard.use, shard.size, shard.mem].map((key) => client.memory('USAGE', key)),
      ]);
      const indexBytes = indexes.reduce<number>((sum, used) => sum + Number(used ?? 0), 0);
      return { contexts: Number(mem[0] ?? 0), bytes: Number(mem[1] ?? 0), indexBytes };
    });
  }

  #refused(reply: ScriptReply, id: string): Conflict {
    const [status, first, second] = reply;
    const { namespace } = this.keys;
    const { shard } = this.keys.shardOf(id);
    const where = { namespace, shard, id };
    switch (status) {
      case 'CONFLICT':
        return { status: 'conflict', version: Number(first) };
      case 'FENCED':
        throw new ContextError(
          'FENCED',
          `${id}: the lock was lost, a newer one (fencing token ${first}) has written; take the lock again`,
          where,
        );
      case 'LOCKED':
        throw new ContextError(
          'LOCKED',
          `${id}: transaction ${first} holds it until ${new Date(Number(second)).toISOString()}; try again then`,
          where,
        );
      case 'UNCERTAIN': {
        const message = `${id}: the connection broke during the write and the log no longer reaches back to it: read the context (version ${first} or later) to see whether it was applied`;
        throw new ContextError('OUTCOME_UNKNOWN', message, where);
      }
      case 'CHECKSUM': {
        const message = `${id}: the document that reached Redis is not the one that was sent (SHA-1 ${first}, ${second} bytes), three times in a row; nothing was written: check the network path`;
        throw new ContextError('CHECKSUM', message, where);
      }
      case 'WRITE_CORRUPT':
        throw new ContextError(
          'WRITE_CORRUPT',
          `${id}: Redis gave back other bytes than were written; the old ones are back: check its memory`,
          where,
        );
      default:
        throw new ContextError('REDIS_ERROR', `${id}: unknown answer ${JSON.stringify(reply)}`, where);
    }
  }
}

const writeKeys = (keys: ContextKeys): string[] => [keys.context, keys.log, keys.exp, keys.use, keys.size, keys.mem];

function logEntry([entryId, fields]: [Buffer, Buffer[]]): LogEntry {
  const entry = new Map<string, Buffer>();
  for (let index = 0; index + 1 < fields.length; index += 2)
    entry.set(String(fields[index]), fields[index + 1] ?? Buffer.alloc(0));
  const text = (name: string): string => entry.get(name)?.toString() ?? '';
  return {
    kind: text('kind') as LogEntry['kind'],
    version: Number.parseInt(entryId.toString(), 10),
    frame: entry.get('frame') ?? Buffer.alloc(0),
    baseCrc: checksumOf(text('base')),
    crc: checksumOf(text('crc')),
    sha1: checksumOf(text('sha')),
    length: Number(text('len')),
    at: Number(text('at')),
    expiresAt: optional(text('exp')),
    operation: text('op'),
    by: text('by'),
  };
}
