/**
 * What can be asked of Redis about contexts: one method, one round trip. Replies become typed values here; nothing above this layer
 * knows a key, a field or a status word. What a reply means for a caller is decided above.
 */

import type { Redis } from 'ioredis';
import { LRUCache } from 'lru-cache';
import { ContextError, isContextError } from '../core/errors.js';
import {
  type BaseMismatch,
  type CommitRequest,
  type Committed,
  type Conflict,
  commitArguments,
  commitHeader,
  type FieldsDamaged,
  guardedArguments,
  type Intent,
  type Intents,
  parseIntent,
  type RemoveRequest,
} from './commitRequest.js';
import { type ContextKeys, contextKey, type Keys, type ShardKeys } from './keys.js';
import { type LogEntry, logEntry } from './logEntries.js';
import type { Argument, Deadline, RedisConnection } from './RedisConnection.js';
import {
  chunkRanges,
  isChunked,
  type Layout,
  named,
  READ_FIELDS,
  type StoredContext,
  storedOrIntended,
} from './storedContext.js';
import { writeWithRetries } from './writeRetries.js';

export type Removed =
  | { readonly status: 'deleted'; readonly version: number; readonly at: number }
  | { readonly status: 'absent' };

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
  /** It is not there, although its log says that it should be: damage. */
  readonly lost?: true;
}

/** Real bytes but for the numbers of contexts. */
export interface ShardAccounts {
  readonly contexts: number;
  readonly bytes: number;
  readonly checkpointBytes: number;
  readonly quarantined: number;
  readonly quarantineBytes: number;
  readonly indexBytes: number;
}

/** What a round of the sweep has done. */
export interface Expired {
  /** Whether others are due. */
  readonly more: boolean;
  /** The earliest expiry that was not passed over, ms. */
  readonly nextAt: number | null;
  /** Where to go on: what lies before it is damaged. */
  readonly rank: number;
  /** `lateMs`: how long ago it had expired, by Redis's clock. */
  readonly expired: readonly { readonly id: string; readonly version: number; readonly lateMs: number }[];
  /** Told once a minute. */
  readonly damaged: readonly string[];
}

export interface CatchUp {
  readonly facts: VersionFacts | null;
  readonly entries: readonly LogEntry[] | null;
}

export interface Settings {
  readonly instanceId: string;
  readonly logKeep: number;
  readonly logBytes: number;
  readonly tombstoneMs: number;
}

/** Pause before a question is asked a third time, ms. */
const ASK_AGAIN_MS = 20;
/** Expired contexts looked at in one script call, which ends before that where 2 ms are over. */
const EXPIRE_BATCH = 100;
/** The log holds a whole document at least every so many versions, so that what it keeps can be replayed. */
const KEYFRAME_EVERY = 64;
/** Redis itself removes an expired context this long after its time, if nobody has: a net behind the sweep, ms. */
export const GRACE_MS = 60_000;
export const PUBLISH = 'PUBLISH';
/** How often a context is read again that is not found although it is there. */
const MOST_DENIALS = 3;
/** Contexts that are read as of one moment, and how often that is tried; then each is read by itself. */
const MOST_TOGETHER = 100;
const TOGETHER_TRIES = 8;
/** Contexts that are remembered to be stored in chunks, so that reading one again takes one round trip. */
const REMEMBERED = 10_000;

type ScriptReply = readonly [string, ...(string | number | null)[]];

const optional = (word: Buffer | string | number | null | undefined): number | null =>
  word === null || word === undefined || word === '' || word === '-' || Number(word) === 0 ? null : Number(word);

const LOST: VersionFacts = { version: 0, crc: '', expiresAt: null, lost: true };
/** Stands for a context that should be there: it has no version, which every check finds. */
const LOST_CONTEXT: StoredContext = {
  chunks: [],
  found: 0,
  version: Number.NaN,
  crc: '',
  length: Number.NaN,
  at: Number.NaN,
  expiresAt: null,
  facts: { v: '', crc: '', sha: '', len: '', at: '', exp: null },
  seal: '',
  quarantined: '',
  intent: '',
  placeholder: false,
};
/** Stands for a context whose chunks have still to be asked for. */
const CHUNKED = Symbol('chunked');
/** Version, CRC-32 and intent as they stand a moment after a read. */
type After = readonly (string | null)[];

export class ContextCommands {
  readonly connection: RedisConnection;
  readonly keys: Keys;
  readonly settings: Settings;
  /** Protocol in which is written: what the namespace's format allows. Every protocol is read. */
  protocol: 1 | 2 = 2;
  /** Whether every context and log entry of the namespace carries a seal, so that a missing one is damage. */
  sealed = false;
  /** Who ends transactions that stand in the way. */
  intents: Intents | null = null;
  readonly #commitSettings: string;
  readonly #chunked = new LRUCache<string, true>({ max: REMEMBERED });

  constructor(connection: RedisConnection, keys: Keys, settings: Settings) {
    this.connection = connection;
    this.keys = keys;
    this.settings = settings;
    const { logKeep, logBytes, tombstoneMs } = settings;
    this.#commitSettings = `${logKeep} ${logBytes} ${KEYFRAME_EVERY} ${tombstoneMs} ${GRACE_MS} ${PUBLISH}`;
  }

  /** @throws ContextError `CHECKSUM`, `WRITE_CORRUPT`, `FENCED`, `LOCKED`, `OUTCOME_UNKNOWN` and those of the connection */
  async commit(request: CommitRequest, deadline: Deadline): Promise<Committed | Conflict | BaseMismatch | FieldsDamaged> {
    const { id } = request;
    const keys = this.keys.of(id);
    const reply = await this.#unheld(id, deadline, () =>
      writeWithRetries(this.connection, deadline, { id, doing: 'commit' }, (attempt) => {
        const { args, guarded } = this.commitWords(request, attempt);
        return this.connection.runScript<ScriptReply>(deadline, 'commit', [...writeKeys(keys), keys.old], args, guarded);
      }),
    );
    const [status, version] = reply;
    if (status === 'COMMITTED') {
      if (request.storage.form === 'plan') this.#chunked.set(id, true);
      return {
        status: 'committed',
        version: Number(version),
        at: Number(reply[2]),
        kind: reply[3] as Committed['kind'],
        frameBytes: Number(reply[4]),
        expiresAt: optional(reply[5]),
        memoryBytes: Number(reply[6]),
        checkpointDue: Number(reply[7]) === 1,
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
        checkpointDue: false,
        repeated: true,
      };
    }
    if (status === 'BASE_MISMATCH')
      return { status: 'baseMismatch', version: Number(version), damaged: reply[3] === '-' ? null : String(reply[3]) };
    if (status === 'DAMAGED') return { status: 'damaged' };
    return this.#refused(reply, id);
  }

  /** What the script is sent for a commit, and what of it the guard covers. @param attempt - the words `till previousTill firstSent` */
  commitWords(request: CommitRequest, attempt: string): { readonly args: Argument[]; readonly guarded: Argument[] } {
    const { payload, fence } = request;
    const head = commitHeader(request, this.settings.instanceId);
    const tail = `${fence} ${payload.kind} ${payload.encoding} ${this.#commitSettings} ${this.#mode}`;
    const args = commitArguments(request, `${head} ${attempt} ${tail}`, this.keys.of(request.id).channel);
    return { args, guarded: guardedArguments(args, payload.kind) };
  }

  /** The same of a deletion; the guard covers all. */
  removeWords({ id, operation, ifVersion, fence }: RemoveRequest, attempt: string): Argument[] {
    const { instanceId, tombstoneMs } = this.settings;
    const header = `${operation} ${instanceId} ${ifVersion ?? '-'} - ${attempt} ${fence}`;
    return [header, `${tombstoneMs} ${PUBLISH} ${this.#mode}`, id, this.keys.of(id).channel];
  }

  /** Runs a write again once the transaction that holds its context is settled. */
  async #unheld(id: string, deadline: Deadline, run: () => Promise<ScriptReply>): Promise<ScriptReply> {
    for (;;) {
      const reply = await run();
      if (reply[0] !== 'LOCKED' || this.intents === null) return reply;
      await this.intents.settled(id, intentIn(reply, 1), deadline);
    }
  }

  /** The last words of the scripts' settings: protocol, and whether a missing seal is damage. */
  get #mode(): string {
    return `${this.protocol} ${this.sealed ? 1 : 0}`;
  }

  async remove(request: RemoveRequest, deadline: Deadline): Promise<Removed | Conflict | FieldsDamaged> {
    const { id } = request;
    const keys = this.keys.of(id);
    const reply = await this.#unheld(id, deadline, () =>
      writeWithRetries(this.connection, deadline, { id, doing: 'delete' }, (attempt) =>
        this.connection.runScript<ScriptReply>(deadline, 'delete', writeKeys(keys), this.removeWords(request, attempt)),
      ),
    );
    if (reply[0] === 'DELETED' || reply[0] === 'APPLIED')
      return { status: 'deleted', version: Number(reply[1]), at: Number(reply[2]) };
    if (reply[0] === 'ABSENT') return { status: 'absent' };
    if (reply[0] === 'DAMAGED') return { status: 'damaged' };
    return this.#refused(reply, id);
  }

  /** Touching twice does no harm: a lost reply is simply asked for again. */
  async touch(
    id: string,
    operation: string,
    ttl: number | 'none',
    fence: number,
    deadline: Deadline,
  ): Promise<{ version: number; expiresAt: number | null } | FieldsDamaged | null> {
    const keys = this.keys.of(id);
    const { tombstoneMs, instanceId } = this.settings;
    let unheard = false;
    const reply = await this.#unheld(id, deadline, () =>
      writeWithRetries(this.connection, deadline, { id, doing: 'touch' }, (attempt) => {
        const [till, previousTill] = attempt.split(' ');
        unheard = previousTill !== '0';
        return this.connection.runScript<ScriptReply>(deadline, 'touch', writeKeys(keys), [
          `${operation} ${instanceId} ${ttl} ${till} ${fence}`,
          `${tombstoneMs} ${GRACE_MS} ${PUBLISH} ${this.#mode}`,
          id,
          keys.channel,
        ]);
      }),
    );
    if (reply[0] === 'DAMAGED') return { status: 'damaged' };
    if (reply[0] === 'FENCED' && unheard) {
      const message = `${id}: the lock under which its expiry was set is lost, and the connection broke before that: read the context to see whether it was done while the lock held`;
      throw new ContextError('OUTCOME_UNKNOWN', message, { namespace: this.keys.namespace, id, found: Number(reply[1]) });
    }
    if (reply[0] === 'FENCED') this.#refused(reply, id);
    return reply[0] === 'TOUCHED' ? { version: Number(reply[1]), expiresAt: optional(reply[2]) } : null;
  }

  /**
   * Says that this instance needs a context for `needMs` from now, and gives it the expiry that all instances which predict need together
   * (lua/include/fit.lua): a later one; or, where its expiry is `expected`, an earlier one. `hold`: it needs it for as long as was written. Null where there is none.
   */
  async fit(
    id: string,
    operation: string,
    needMs: number,
    expected: number | 'hold' | null,
    deadline: Deadline,
  ): Promise<{ version: number; expiresAt: number | null } | null> {
    const keys = this.keys.of(id);
    const { tombstoneMs, instanceId } = this.settings;
    const reply = await writeWithRetries(this.connection, deadline, { id, doing: 'predict the expiry' }, (attempt) =>
      this.connection.runScript<ScriptReply>(deadline, 'touch', writeKeys(keys), [
        `${operation} ${instanceId} ${needMs} ${attempt.slice(0, attempt.indexOf(' '))} 0 ${expected ?? '-'}`,
        `${tombstoneMs} ${GRACE_MS} ${PUBLISH} ${this.#mode}`,
        id,
        keys.channel,
      ]),
    );
    // what is damaged is left to the reads, which mend it
    return reply[0] === 'TOUCHED' || reply[0] === 'KEPT' ? { version: Number(reply[1]), expiresAt: optional(reply[2]) } : null;
  }

  /** A question changes nothing: it is asked again until its time is over when the connection is lost or Redis is busy. */
  async ask<T>(deadline: Deadline, ask: () => Promise<T>): Promise<T> {
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

  asked<T>(deadline: Deadline, doing: string, run: (client: Redis) => Promise<T>): Promise<T> {
    return this.ask(deadline, () => this.connection.attempt(deadline, doing, run));
  }

  /**
   * The fields of a context; the caller judges its expiry. One round trip; a second where it was not known to be stored in chunks, and where
   * nothing is found: a key that was damaged on its way finds nothing either, so that is asked again by a script with a guard.
   */
  async read(id: string, deadline: Deadline): Promise<StoredContext | null> {
    for (let tries = 0; ; tries += 1) {
      const read = await this.#read(id, deadline);
      if (await this.#overtaken(id, read, deadline)) continue;
      const found = read === null || read.placeholder ? null : read;
      if (found !== null || tries === MOST_DENIALS) return found;
      const facts = await this.versionOf(id, deadline);
      if (facts === null) return null;
      if (facts.lost === true) return LOST_CONTEXT;
    }
  }

  /** What was read beside an intent may have been decided to be something else before: a reader never sees part of a transaction. */
  async #overtaken(id: string, stored: Pick<StoredContext, 'intent'> | null, deadline: Deadline): Promise<boolean> {
    const intent = stored === null || stored.intent === '' ? null : parseIntent(stored.intent);
    return intent !== null && this.intents !== null && (await this.intents.overtaken(id, intent, deadline));
  }

  async #read(id: string, deadline: Deadline): Promise<StoredContext | null> {
    const key = contextKey(this.keys.shardOf(id), id);
    if (!this.#chunked.has(id)) {
      const fields = named(await this.asked(deadline, 'read', (client) => client.hmgetBuffer(key, ...READ_FIELDS)));
      if (!isChunked(fields)) return storedOrIntended(fields);
    }
    return this.#whole(id, await this.asked(deadline, 'read', (client) => client.hgetallBuffer(key)));
  }

  /**
   * Several, as {@link read}, in the order of the ids; up to {@link MOST_TOGETHER} of them as of one moment, where that comes within a few tries: what
   * they are at is asked once more behind the last of them, in the same round trip. What has not changed from its own reading on until then was all there
   * at one time; where one has, or was overtaken by a transaction, all are read again.
   */
  async readMany(ids: readonly string[], deadline: Deadline): Promise<(StoredContext | null)[]> {
    const together = ids.length > 1 && ids.length <= MOST_TOGETHER;
    for (let tries = 0; ; tries += 1) {
      const found = await this.#readMany(ids, together, deadline);
      const judged = await Promise.all(
        found.map(({ stored, after }, index) => this.#judged(ids[index] as string, stored, after, deadline)),
      );
      if (!judged.includes('again')) return judged as (StoredContext | null)[];
      if (tries === TOGETHER_TRIES)
        return Promise.all(judged.map((one, index) => (one === 'again' ? this.read(ids[index] as string, deadline) : one)));
    }
  }

  /** What was read, or that it is not that any more. Those that are asked in one tick share a pipeline. */
  async #judged(
    id: string,
    stored: StoredContext | null,
    after: After | null,
    deadline: Deadline,
  ): Promise<StoredContext | null | 'again'> {
    if (await this.#overtaken(id, stored, deadline)) return 'again';
    if (after !== null) {
      const [v = null, crc = null, intent = null] = after;
      if ((v ?? '') !== (stored?.facts.v ?? '') || (v !== null && crc !== stored?.crc)) return 'again';
      // one that has come since may have been decided, and be seen elsewhere
      if (intent !== null && intent !== stored?.intent && (await this.#overtaken(id, { intent }, deadline))) return 'again';
    }
    if (stored !== null && !stored.placeholder) return stored;
    const facts = await this.versionOf(id, deadline);
    if (facts === null) return null;
    return facts.lost === true ? LOST_CONTEXT : 'again';
  }

  /** @param again - asks behind the last of them what each is at */
  async #readMany(
    ids: readonly string[],
    again: boolean,
    deadline: Deadline,
  ): Promise<{ readonly stored: StoredContext | null; readonly after: After | null }[]> {
    const keys = ids.map((id) => contextKey(this.keys.shardOf(id), id));
    const ask = (client: Redis, index: number) => {
      const [id, key] = [ids[index] as string, keys[index] as string];
      return this.#chunked.has(id)
        ? client.hgetallBuffer(key).then((fields) => this.#whole(id, fields))
        : client.hmgetBuffer(key, ...READ_FIELDS).then((reply) => {
            const fields = named(reply);
            return isChunked(fields) ? CHUNKED : storedOrIntended(fields);
          });
    };
    for (;;) {
      const [first, after] = await this.asked(deadline, 'read', (client) =>
        Promise.all([
          Promise.all(ids.map((_, index) => ask(client, index))),
          again ? Promise.all(keys.map((key) => client.hmget(key, 'v', 'crc', 'intent'))) : null,
        ]),
      );
      const left = ids.flatMap((_, index) => (first[index] === CHUNKED ? [index] : []));
      if (left.length > 0 && again) {
        for (const index of left) this.#chunked.set(ids[index] as string, true);
        continue;
      }
      const second =
        left.length === 0
          ? []
          : await this.asked(deadline, 'read', (client) =>
              Promise.all(
                left.map(async (index) => {
                  const id = ids[index] as string;
                  return [index, this.#whole(id, await client.hgetallBuffer(keys[index] as string))] as const;
                }),
              ),
            );
      const chunked = new Map(second);
      return first.map((stored, index) => ({
        stored: stored === CHUNKED ? (chunked.get(index) ?? null) : stored,
        after: (after?.[index] as After | undefined) ?? null,
      }));
    }
  }

  #whole(id: string, fields: Record<string, Buffer>): StoredContext | null {
    if (isChunked(fields)) this.#chunked.set(id, true);
    else this.#chunked.delete(id);
    return storedOrIntended(fields);
  }

  /** How the stored document is cut: the ranges of its chunks, in its order; null where there is none. */
  async layout(id: string, deadline: Deadline): Promise<Layout | null> {
    const key = contextKey(this.keys.shardOf(id), id);
    const [version, crc, length, manifest] = await this.asked(deadline, 'read the layout', (client) =>
      client.hmget(key, 'v', 'crc', 'len', 'chunks'),
    );
    if (!version || !crc) return null;
    return {
      version: Number(version),
      crc,
      chunks: manifest ? chunkRanges(manifest) : [{ name: 'data', from: 0, to: Number(length) }],
    };
  }

  /** Whether it exists, and what it is at: no document travels. */
  async versions(shard: ShardKeys, ids: readonly string[], deadline: Deadline): Promise<(VersionFacts | null)[]> {
    const sentAt = performance.now();
    const keys = ids.map((id) => contextKey(shard, id));
    const reply = await this.ask(deadline, async () =>
      arrivedWhole(await this.connection.runScript<ScriptReply>(deadline, 'versions', keys, [])),
    );
    this.connection.clock.observe(sentAt, performance.now(), Number(reply[1]));
    return ids.map((_, index) => {
      const at = 2 + 3 * index;
      const version = reply[at];
      if (version === '' || version === undefined) return reply[at + 1] === 'lost' ? LOST : null;
      return { version: Number(version), crc: String(reply[at + 1]), expiresAt: optional(reply[at + 2]) };
    });
  }

  async versionOf(id: string, deadline: Deadline): Promise<VersionFacts | null> {
    const [facts] = await this.versions(this.keys.shardOf(id), [id], deadline);
    return facts ?? null;
  }

  /** {@link versionOf} for who must not see part of a transaction. */
  async presentVersion(id: string, deadline: Deadline): Promise<VersionFacts | null> {
    const key = contextKey(this.keys.shardOf(id), id);
    for (;;) {
      // the intent first: where there is none, nobody can have seen what comes after the version
      const [field, facts] = await Promise.all([
        this.asked(deadline, 'read', (client) => client.hget(key, 'intent')),
        this.versionOf(id, deadline),
      ]);
      const intent = field ? parseIntent(field) : null;
      if (intent === null || this.intents === null || !(await this.intents.overtaken(id, intent, deadline))) return facts;
    }
  }

  /** Log entries after `after`, oldest first; `after` 0 is from the beginning. */
  async logAfter(id: string, after: number, limit: number, deadline: Deadline): Promise<LogEntry[]> {
    const { log } = this.keys.of(id);
    const start = after === 0 ? '-' : `(${after}-0`;
    const found = await this.asked(deadline, 'read the log', (client) => client.xrangeBuffer(log, start, '+', 'COUNT', limit));
    return this.#steps(id, found);
  }

  /**
   * What a context is at, and what its log has after a version, of one moment and in one round trip. `entries` is null where they would be
   * more than the document, unless `all` are asked for.
   */
  async catchUp(id: string, after: number, limit: number, all: boolean, deadline: Deadline): Promise<CatchUp> {
    const { context, log } = this.keys.of(id);
    const sentAt = performance.now();
    const [status, now, version, crc, exp, ...entries] = await this.ask(deadline, async () =>
      arrivedWhole(
        await this.connection.runScriptForBytes(deadline, 'catchup', [context, log], [after, limit, all ? 'all' : 'smaller'], 5),
      ),
    );
    this.connection.clock.observe(sentAt, performance.now(), Number(now));
    const facts =
      version === null || version === undefined || version.length === 0
        ? null
        : { version: Number(version), crc: String(crc), expiresAt: optional(exp) };
    const found = entries as unknown as [Buffer, Buffer[]][];
    return { facts, entries: status?.toString() === 'WHOLE' ? null : this.#steps(id, found) };
  }

  /** The newest log entries, newest first. */
  async logTail(id: string, limit: number, deadline: Deadline): Promise<LogEntry[]> {
    const { log } = this.keys.of(id);
    const found = await this.asked(deadline, 'read the log', (client) => client.xrevrangeBuffer(log, '+', '-', 'COUNT', limit));
    return this.#entries(id, found);
  }

  #entries(id: string, found: [Buffer, Buffer[]][]): LogEntry[] {
    return found.map((entry) => logEntry(id, entry, this.sealed));
  }

  /** Without those that say that a version was repaired: they lead nowhere. */
  #steps(id: string, found: [Buffer, Buffer[]][]): LogEntry[] {
    return this.#entries(id, found).filter(({ kind }) => kind !== 'repaired');
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
    const [next, pairs] = await this.asked(deadline, 'list', (client) =>
      client.zscan(shard.use, cursor, 'MATCH', match, 'COUNT', count),
    );
    return { cursor: next, ids: pairs.filter((_, index) => index % 2 === 0) };
  }

  /** Everything of contexts but their bytes, with their accounted memory; those that are gone or expired are left out. */
  async summaries(shard: ShardKeys, ids: readonly string[], deadline: Deadline): Promise<Summary[]> {
    if (ids.length === 0) return [];
    const [sizes, rows] = await this.asked(deadline, 'list', (client) =>
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
    const fields = await this.asked(deadline, 'read', (client) => client.hgetallBuffer(key));
    return Object.keys(fields).length === 0 ? null : fields;
  }

  /**
   * Takes expired contexts out of a shard, {@link EXPIRE_BATCH} at most and no more than 2 ms allow; `damaged` are those whose expiry cannot
   * be believed. `rank` is 0, or where the call before ended.
   */
  async expire(shard: ShardKeys, rank: number, deadline: Deadline): Promise<Expired> {
    const { tombstoneMs, instanceId } = this.settings;
    const args: Argument[] = [shard.tag, `${EXPIRE_BATCH} ${rank}`, `${tombstoneMs} ${PUBLISH} ${instanceId} ${this.#mode}`];
    const reply = arrivedWhole(
      await this.connection.runScript<ScriptReply>(
        deadline,
        'expire',
        [shard.exp, shard.use, shard.size, shard.mem, shard.skip],
        args,
      ),
    );
    const from = 5 + Number(reply[4]);
    const damaged = reply.slice(5, from).map(String);
    const expired: { id: string; version: number; lateMs: number }[] = [];
    for (let index = from; index + 2 < reply.length; index += 3)
      expired.push({ id: String(reply[index]), version: Number(reply[index + 1]), lateMs: Number(reply[index + 2]) });
    return { more: Number(reply[1]) === 1, nextAt: optional(reply[2]), rank: Number(reply[3]), expired, damaged };
  }

  /** Sends a message to instances of the namespace; how many connections have got it, this store's own included. */
  publish(channel: string, message: Buffer | string, deadline: Deadline): Promise<number> {
    return this.asked(deadline, 'ask other instances', (client) => client.publish(channel, message));
  }

  /** A context was repaired: a sweep that passes it over need not wait any more. */
  async notSkipped(id: string, deadline: Deadline): Promise<void> {
    await this.connection.attempt(deadline, 'tell the sweep', (client) => client.zrem(this.keys.shardOf(id).skip, id));
  }

  /** The accounts of a shard, and what its own indexes take. */
  async accounts(shard: ShardKeys, deadline: Deadline): Promise<ShardAccounts> {
    return this.asked(deadline, 'read the accounts', async (client) => {
      const [mem, ...indexes] = await Promise.all([
        client.hmget(shard.mem, 'contexts', 'bytes', 'checkpoints', 'quarantined', 'quarantine'),
        ...[shard.exp, shard.use, shard.size, shard.mem, shard.skip].map((key) => client.memory('USAGE', key)),
      ]);
      const indexBytes = indexes.reduce<number>((sum, used) => sum + Number(used ?? 0), 0);
      const [contexts = 0, bytes = 0, checkpointBytes = 0, quarantined = 0, quarantineBytes = 0] = mem.map(Number);
      return { contexts, bytes, checkpointBytes, quarantined, quarantineBytes, indexBytes };
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
          `${id}: the lock under which this was written is lost (the newest fencing token is ${first}); nothing was written: take the lock again, and read before you write`,
          { ...where, found: Number(first) },
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
      case 'GARBLED': {
        const message = `${id}: the request that reached Redis is not the one that was sent, three times in a row; nothing was written: check the network path`;
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

/** A question that was damaged on its way was not answered: it is asked again. */
export function arrivedWhole<T extends readonly unknown[]>(reply: T): T {
  if (String(reply[0]) === 'GARBLED')
    throw new ContextError('CONNECTION', 'the question was damaged on its way: check the network path');
  return reply;
}

/** The intent in the words of a refusal, from the one that names the transaction. */
export const intentIn = (reply: readonly (string | number | null)[], at: number): Intent => ({
  txn: String(reply[at]),
  deadline: Number(reply[at + 1]),
  part: Number(reply[at + 2]),
  home: Number(reply[at + 3]),
});

const writeKeys = (keys: ContextKeys): string[] => [keys.context, keys.log, keys.exp, keys.use, keys.size, keys.mem];
