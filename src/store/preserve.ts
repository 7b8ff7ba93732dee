/**
 * Snapshots of a set of contexts: read as of one moment, kept, and written back all or nothing. Reading: all documents are read and verified, then one
 * transaction without writes finds out whether all have the versions still that were read; so there was a moment, between the last read and that
 * question, at which they were all so (backward validation: Kung and Robinson, 1981).
 */
import { ContextError, isContextError } from '../core/errors.js';
import { checkId } from '../core/names.js';
import { timeToLive } from '../core/timeToLive.js';
import { BackupCommands } from '../redis/BackupCommands.js';
import type { ContextCommands } from '../redis/ContextCommands.js';
import type { Deadline } from '../redis/RedisConnection.js';
import { SnapshotCommands } from '../redis/SnapshotCommands.js';
import { bytesOf } from '../redis/storedContext.js';
import { pauseAfterConflict } from '../redis/writeRetries.js';
import type { ContextReader } from '../replica/ContextReader.js';
import { type SnapshotMember, Snapshots, tooLarge, tooMany } from '../transactions/Snapshots.js';
import { MOST_BYTES, MOST_CONTEXTS } from '../transactions/Transaction.js';
import type {
  PreserveOptions,
  PreserveResult,
  RestoreSnapshotOptions,
  RestoreSnapshotResult,
  SnapshotSummary,
} from './backupTypes.js';
import { listContexts } from './listing.js';

const DEFAULT_TTL = '7d';
/** How often contexts are read again that others write meanwhile. */
const READS = 64;
/** Bytes of documents in one round trip, but for a single one that is larger. */
const BATCH_BYTES = 2 * 1024 * 1024;

/** What a snapshot writes back. */
export type Restored =
  | { readonly id: string; readonly bytes: Buffer; readonly ttl: number | 'none' }
  | { readonly id: string; readonly bytes: null };

interface Parts {
  readonly commands: ContextCommands;
  readonly reader: ContextReader;
  readonly idBytes: number;
  /** Finds out whether these versions are all there at one moment; 0: there is none. @throws ContextError `CONFLICT` */
  readonly together: (versions: ReadonlyMap<string, number>, deadline: Deadline) => Promise<void>;
  /** Writes and deletes all of these, or none; under a lock where one was asked for. */
  readonly writeTogether: (changes: readonly Restored[], deadline: Deadline) => Promise<void>;
  /** Time of one step. */
  readonly deadline: () => Deadline;
}

export class Preservation {
  readonly #parts: Parts;
  readonly #snapshots: Snapshots;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#snapshots = new Snapshots(new SnapshotCommands(parts.commands));
  }

  async preserve(
    name: string,
    what: readonly string[] | { readonly prefix: string },
    options: PreserveOptions,
  ): Promise<PreserveResult> {
    checkId(name, this.#parts.idBytes);
    const { ttl = DEFAULT_TTL, replace = false } = options;
    const ttlMs = ttl === 'none' ? null : timeToLive(ttl);
    const prefix = 'prefix' in what ? what.prefix : null;
    const ids = 'prefix' in what ? await this.#withPrefix(what.prefix) : [...new Set(what)];
    for (const id of ids) checkId(id, this.#parts.idBytes);
    if (ids.length > MOST_CONTEXTS) throw tooMany(ids.length);
    if (ids.length === 0)
      throw new ContextError('NOT_FOUND', 'there is nothing to preserve: no ids were given, or no context has this prefix');
    const members = await this.#read(ids, prefix);
    const written = await this.#snapshots.write(name, members, { prefix, ttlMs, replace }, this.#parts.deadline);
    const absent = members.filter(({ document }) => document === null).map(({ id }) => id);
    return { ...written, absent };
  }

  /** @throws ContextError `NOT_FOUND`, `CORRUPT`, `CONFLICT`, `LIMIT_EXCEEDED`, `FENCED` */
  async restore(name: string, options: RestoreSnapshotOptions): Promise<RestoreSnapshotResult> {
    checkId(name, this.#parts.idBytes);
    const { commands, deadline } = this.#parts;
    const ttl = options.ttl === undefined ? null : options.ttl === 'none' ? 'none' : timeToLive(options.ttl);
    const snapshot = await this.#snapshots.read(name, deadline);
    if (snapshot === null) throw new ContextError('NOT_FOUND', `there is no snapshot ${JSON.stringify(name)} (any more)`);
    await commands.connection.syncClock(deadline());
    const now = performance.now();
    const { clock } = commands.connection;
    const left = (expiresAt: number): number => Math.round(expiresAt - (clock.earliest(now) + clock.latest(now)) / 2);
    const changes = snapshot.members.map(({ id, document }): Restored => {
      if (document === null) return { id, bytes: null };
      const { bytes, expiresAt } = document;
      if (ttl !== null || expiresAt === null) return { id, bytes, ttl: ttl ?? 'none' };
      const life = left(expiresAt);
      // its time is over: it would not be there any more
      return life > 0 ? { id, bytes, ttl: life } : { id, bytes: null };
    });
    const since = snapshot.prefix === null ? [] : await this.#createdSince(snapshot.prefix, snapshot.members, options);
    if (options.keepNew !== true) changes.push(...since.map((id): Restored => ({ id, bytes: null })));
    if (options.dryRun !== true) await this.#parts.writeTogether(changes, deadline());
    const written = new Set(changes.flatMap(({ id, bytes }) => (bytes === null ? [] : [id])));
    const ids = (keep: (member: SnapshotMember) => boolean): string[] => snapshot.members.filter(keep).map(({ id }) => id);
    return {
      name,
      at: snapshot.at,
      restored: ids(({ id }) => written.has(id)),
      deleted: ids(({ document }) => document === null),
      expired: ids(({ id, document }) => document !== null && !written.has(id)),
      createdSince: since,
    };
  }

  async list(): Promise<readonly SnapshotSummary[]> {
    return this.#snapshots.list(this.#parts.deadline);
  }

  async drop(name: string): Promise<boolean> {
    checkId(name, this.#parts.idBytes);
    return this.#snapshots.drop(name, this.#parts.deadline);
  }

  /** What there is under the prefix of a snapshot, and not in it. @throws ContextError `LIMIT_EXCEEDED` where not all of that can be deleted with it */
  async #createdSince(
    prefix: string,
    members: readonly SnapshotMember[],
    { keepNew = false }: RestoreSnapshotOptions,
  ): Promise<string[]> {
    const known = new Set(members.map(({ id }) => id));
    const since = (await this.#withPrefix(prefix)).filter((id) => !known.has(id));
    const found = known.size + since.length;
    if (keepNew || found <= MOST_CONTEXTS) return since;
    throw new ContextError(
      'LIMIT_EXCEEDED',
      `the snapshot has ${known.size} contexts, and ${since.length} were created under ${JSON.stringify(prefix)} since: together at most ` +
        `${MOST_CONTEXTS} can be restored and deleted as one; delete some of them before, or leave them with keepNew (--keep-new)`,
      { limit: 'snapshot.contexts', expected: MOST_CONTEXTS, found },
    );
  }

  async #withPrefix(prefix: string): Promise<string[]> {
    const ids = new Set<string>();
    let cursor: string | null = null;
    do {
      const page: Awaited<ReturnType<typeof listContexts>> = await listContexts(
        this.#parts.commands,
        { prefix, limit: 1_000, ...(cursor === null ? {} : { cursor }) },
        this.#parts.deadline(),
      );
      for (const { id } of page.items) ids.add(id);
      cursor = page.cursor;
    } while (cursor !== null);
    return [...ids].sort();
  }

  /** All of them as they were at one moment, and with a prefix none is missing that was there then and still is. */
  async #read(given: readonly string[], prefix: string | null): Promise<SnapshotMember[]> {
    let ids = given;
    for (let reads = 1; ; reads += 1) {
      const members = await this.#readOnce(ids);
      try {
        const versions = new Map(members.map(({ id, document }) => [id, document?.version ?? 0]));
        await this.#parts.together(versions, this.#parts.deadline());
      } catch (error) {
        if (!isContextError(error) || error.code !== 'CONFLICT' || reads === READS) throw error;
        await pauseAfterConflict(reads, this.#parts.deadline());
        continue;
      }
      if (prefix === null) return members;
      // what came after the first look and was not in it would be deleted by a restore
      const more = (await this.#withPrefix(prefix)).filter((id) => !ids.includes(id));
      if (more.length === 0) return members;
      ids = [...ids, ...more];
      if (ids.length > MOST_CONTEXTS) throw tooMany(ids.length);
      if (reads === READS)
        throw new ContextError('CONFLICT', `contexts are created under ${JSON.stringify(prefix)} all the time: try again`);
    }
  }

  async #readOnce(ids: readonly string[]): Promise<SnapshotMember[]> {
    const { commands, reader, deadline } = this.#parts;
    const lengths = await new BackupCommands(commands).lengths(ids, deadline());
    const total = lengths.reduce((sum, length) => sum + length, 0);
    if (total > MOST_BYTES) throw tooLarge(total);
    const members: SnapshotMember[] = [];
    for (let from = 0; from < ids.length; ) {
      let [to, bytes] = [from, 0];
      while (to < ids.length && (to === from || bytes + (lengths[to] ?? 0) <= BATCH_BYTES)) {
        bytes += lengths[to] ?? 0;
        to += 1;
      }
      const batch = ids.slice(from, to);
      const found = await reader.readStored(batch, deadline());
      for (const [index, id] of batch.entries()) {
        const stored = found[index] ?? null;
        if (stored instanceof ContextError) throw stored;
        const document =
          stored === null ? null : { version: stored.version, expiresAt: stored.expiresAt, bytes: bytesOf(stored) };
        members.push({ id, document });
      }
      from = to;
    }
    return members;
  }
}
