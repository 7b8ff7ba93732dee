import type { Change, Context } from '../core/context.js';
import { ContextError } from '../core/errors.js';
import type { JsonValue } from '../core/json.js';
import { checkId } from '../core/names.js';
import { parseDuration } from '../core/units.js';
import type { Integrity } from '../integrity/Integrity.js';
import type { Locks } from '../locks/Locks.js';
import type { ContextCommands } from '../redis/ContextCommands.js';
import { type Deadline, RedisConnection } from '../redis/RedisConnection.js';
import type { Subscriptions } from '../redis/Subscriptions.js';
import {
  checkEvictionPolicy,
  checkRights,
  checkVersion,
  loadScripts,
  markSealed,
  type NamespaceFacts,
  openNamespace,
  serverFacts,
  upgradeNamespace,
} from '../redis/serverChecks.js';
import { bytesOf } from '../redis/storedContext.js';
import type { ContextReader } from '../replica/ContextReader.js';
import type { ReplicaSet } from '../replica/ReplicaSet.js';
import type { TransactionRun } from '../transactions/AtomicContextPreserver.js';
import type { Transaction } from '../transactions/Transaction.js';
import type {
  ExportOptions,
  ExportSource,
  ImportOptions,
  ImportResult,
  PreserveOptions,
  PreserveResult,
  RestoreSnapshotOptions,
  RestoreSnapshotResult,
  SnapshotSummary,
} from './backupTypes.js';
import { type ContextWriter, DEFAULT_ATTEMPTS } from './ContextWriter.js';
import { type CallName, checkCallOptions } from './callOptions.js';
import { type DiagnosisReport, diagnose } from './diagnose.js';
import type { ExportPoint } from './ExportPoint.js';
import { exportContexts, pointToResume } from './exportContexts.js';
import type { Heartbeat } from './Heartbeat.js';
import { importContexts } from './importContexts.js';
import { historyOf, patchesOf, verifyContext } from './inspection.js';
import { listContexts } from './listing.js';
import { makeLogger } from './logging.js';
import type { Maintenance } from './Maintenance.js';
import { type ResolvedOptions, resolveOptions, type StoreOptions } from './options.js';
import { ABSENT, type PredictiveTtl } from './PredictiveTtl.js';
import { Preservation } from './preserve.js';
import { listQuarantined, restoreContext } from './quarantine.js';
import { StoreEmitter } from './StoreEmitter.js';
import { storeParts } from './storeParts.js';
import { traced } from './tracing.js';
import { heldRun, lockedRun, type StoreTransactions } from './transactions.js';
import type {
  CallOptions,
  DeleteOptions,
  Duration,
  HistoryEntry,
  ListOptions,
  ListPage,
  Lock,
  LockInfo,
  LockOptions,
  LocksOptions,
  Logger,
  QuarantinedContext,
  ReadOptions,
  RepairResult,
  RestoreSource,
  SealOptions,
  SealResult,
  StoreEventName,
  StoreEvents,
  StoreStats,
  TouchOptions,
  TransactionOptions,
  TryLockOptions,
  UpdateOptions,
  UpdateResult,
  VerifyResult,
  WatchOptions,
  WriteOptions,
  WriteResult,
} from './types.js';
import { InlineWorkers } from './workersHook.js';

/** A transaction that is not tried again. */
const ONCE = { attempts: 1, locked: null } as const;
/** How often several are read again where a replica was further than what was read. */
const AHEAD_TRIES = 4;
/** Most ids in one `getMany`. */
const MANY = 1_000;
const DEFAULT_QUEUE = 256;
const HISTORY_LIMIT = 1_000;
/** Events that are logged as they are; the others have a line of their own. */
const LOGGED = ['context:committed', 'context:conflict', 'context:expired'] as const;

/** The keys of a context, for `redis-cli`. */
export interface ContextKeyNames {
  readonly context: string;
  readonly log: string;
  readonly channel: string;
}

export class ContextStore {
  readonly namespace: string;
  readonly instanceId: string;
  /** What background work asks of the store; see docs/QUEUES.md. */
  readonly maintenance: Maintenance;
  readonly #workers = new InlineWorkers();
  readonly #options: ResolvedOptions;
  readonly #connection: RedisConnection;
  readonly #commands: ContextCommands;
  readonly #reader: ContextReader;
  readonly #replicas: ReplicaSet;
  readonly #subscriptions: Subscriptions;
  readonly #writer: ContextWriter;
  readonly #integrity: Integrity;
  readonly #locks: Locks;
  readonly #emitter: StoreEmitter;
  readonly #heartbeat: Heartbeat;
  readonly #ttl: PredictiveTtl | null;
  readonly #transactions: StoreTransactions;
  #closing: Promise<void> | null = null;

  private constructor(
    options: ResolvedOptions,
    connection: RedisConnection,
    emitter: StoreEmitter,
    logger: Logger,
    facts: NamespaceFacts,
  ) {
    this.namespace = options.namespace;
    this.instanceId = options.instanceId;
    this.#options = options;
    this.#connection = connection;
    this.#emitter = emitter;
    const parts = storeParts(options, connection, emitter, logger, facts, () => this.#workers.up);
    this.#commands = parts.commands;
    this.#reader = parts.reader;
    this.#replicas = parts.replicas;
    this.#subscriptions = parts.subscriptions;
    this.#writer = parts.writer;
    this.#integrity = parts.integrity;
    this.#locks = parts.locks;
    this.#heartbeat = parts.heartbeat;
    this.#ttl = parts.ttl;
    this.#transactions = parts.transactions;
    this.maintenance = parts.maintenance;
  }

  /**
   * Connects, checks the server, and opens the namespace (creating it where it is new).
   *
   * @throws ContextError `INVALID_OPTION`, `CONNECTION`, `AUTH`, `UNSUPPORTED_SERVER`, `EVICTION_POLICY`, `NO_PERMISSION`,
   * `NAMESPACE_MISMATCH`, `TIMEOUT`; nothing is left open then.
   * @example const store = await ContextStore.connect({ redis: 'redis://localhost:6379', namespace: 'agents' });
   */
  static async connect(given: StoreOptions = {}): Promise<ContextStore> {
    const options = resolveOptions(given);
    const logger = makeLogger(options.logger);
    const emitter = new StoreEmitter(logger);
    for (const name of LOGGED) emitter.on(name, (event) => logger.debug({ ...event, namespace: options.namespace }, name));
    const { namespace, attemptTimeoutMs } = options;
    const connection = new RedisConnection(
      { target: options.redis, attemptTimeoutMs, clientName: `lukhas-context:${namespace}:${options.instanceId}` },
      {
        up: (name) => {
          logger.info({ connection: name, namespace }, 'connected to Redis');
          emitter.emit('connection:up', { connection: name });
        },
        down: (name, reason) => {
          logger.warn({ connection: name, namespace, reason }, 'the connection to Redis was lost');
          emitter.emit('connection:down', { connection: name, reason });
        },
      },
    );
    try {
      const deadline = connection.deadline(options.connectTimeoutMs);
      await connection.open(deadline);
      const facts = await serverFacts(connection, deadline);
      checkVersion(facts);
      if (options.evictionPolicy === 'refuse') checkEvictionPolicy(facts);
      else if (facts.evictionPolicy !== 'noeviction') {
        logger.warn({ policy: facts.evictionPolicy }, 'Redis may evict parts of contexts: set maxmemory-policy to noeviction');
      }
      await checkRights(connection, namespace, deadline);
      const opened = await openNamespace(connection, namespace, options.shards, deadline);
      await loadScripts(connection, deadline);
      const store = new ContextStore(options, connection, emitter, logger, opened);
      await store.#integrity.open(store.#subscriptions, (id) => store.#replicas.lastKnown(id));
      store.#heartbeat.start();
      if (options.workers === 'inline') store.#workers.begin(store.maintenance, logger);
      return store;
    } catch (error) {
      await connection.close();
      throw error;
    }
  }

  /** What a server lacks, check by check; never throws for a bad server. */
  static diagnose(given: StoreOptions = {}): Promise<DiagnosisReport> {
    return diagnose(resolveOptions(given));
  }

  /**
   * The context, or null. From this process's memory where a replica is in good health; otherwise one round trip, verified.
   *
   * @throws ContextError `CORRUPT`, `INVALID_ID`, and those of the connection
   */
  get<T = JsonValue>(id: string, options?: ReadOptions): Promise<Context<T> | null> {
    if (options === undefined && this.#closing === null) {
      const answer = this.#replicas.answer(id);
      if (answer !== undefined) this.#ttl?.used(id);
      if (answer !== undefined) return (this.#options.copyValues ? answer.then(copy) : answer) as Promise<Context<T> | null>;
    }
    return this.#read(id, options) as Promise<Context<T> | null>;
  }

  /**
   * Several contexts in the order of the ids, null where there is none; what replicas cannot answer comes in one round trip. With `fresh: true`
   * up to 100 are as of one moment, unless they change all the while; a transaction promises that.
   */
  async getMany(ids: readonly string[], options: Omit<ReadOptions, 'allowStale'> = {}): Promise<(Context | null)[]> {
    if (ids.length > MANY) {
      throw new ContextError('LIMIT_EXCEEDED', `getMany takes at most ${MANY} ids, not ${ids.length}: call it several times`, {
        limit: 'getMany',
        found: ids.length,
      });
    }
    for (const id of ids) checkId(id, this.#options.idBytes);
    const deadline = this.#deadline('getMany', options);
    const answers = ids.map((id) => (options.fresh === true ? undefined : this.#replicas.answer(id)));
    const asked = ids.filter((_, index) => answers[index] === undefined);
    const found = asked.length === 0 ? new Map<string, Context | null>() : await this.#readTogether(asked, deadline);
    if (this.#ttl !== null) for (const id of ids) this.#used(id, found.get(id));
    return Promise.all(ids.map(async (id, index) => this.#out((await answers[index]) ?? found.get(id) ?? null)));
  }

  /** From Redis, as of one moment where that is possible; a replica that is further already is answered by only if that is of the same moment. */
  async #readTogether(ids: readonly string[], deadline: Deadline): Promise<Map<string, Context | null>> {
    for (let tries = 0; ; tries += 1) {
      const states = await traced('getMany', this.namespace, undefined, () => this.#reader.readMany(ids, deadline));
      const found = new Map(ids.map((id, index) => [id, this.#replicas.seen(id, states[index] ?? null)]));
      const ahead = ids.some((id, index) => (found.get(id)?.version ?? 0) !== (states[index]?.version ?? 0));
      if (!ahead || ids.length === 1 || tries === AHEAD_TRIES) return found;
    }
  }

  async has(id: string, options: CallOptions = {}): Promise<boolean> {
    checkId(id, this.#options.idBytes);
    const deadline = this.#deadline('has', options);
    const answer = this.#replicas.answer(id);
    if (answer !== undefined) this.#ttl?.used(id);
    if (answer !== undefined) return (await answer) !== null;
    const facts = await this.#commands.presentVersion(id, deadline);
    this.#used(id, facts);
    return facts !== null;
  }

  /**
   * Writes a whole document; without `ttl` it does not expire.
   *
   * @throws ContextError `INVALID_VALUE` with the JSON pointer of what JSON cannot hold, `LIMIT_EXCEEDED`, `CONFLICT`, `TIMEOUT`
   * (its message says whether the write may have been applied), …
   * @example await store.set('user-42', { turns: [] }, { ttl: '1h' });
   */
  set(id: string, value: unknown, options: WriteOptions = {}): Promise<WriteResult> {
    return this.#write('set', id, options, (deadline) => this.#writer.set(id, value, options, deadline));
  }

  /**
   * Changes a context by a function that gets a draft of it: change the draft, or return a new value. It is committed only onto the
   * version it was made from; on a conflict the function runs again on the newer one, so it should have no other effects.
   *
   * @throws ContextError `NOT_FOUND` without `initial`, `CONFLICT` after `attempts` runs, and as `set`
   * @example await store.update('user-42', (draft) => { draft.turns.push('hi'); });
   */
  async update<T = unknown>(id: string, change: (draft: T) => unknown, options: UpdateOptions = {}): Promise<UpdateResult> {
    const result = await this.#write('update', id, options, (deadline) =>
      this.#writer.update(id, change as (draft: unknown) => unknown, options, deadline),
    );
    return this.#options.copyValues ? { ...result, value: copyValue(result.value) } : result;
  }

  /**
   * Applies a JSON Patch (RFC 6902), all of it or nothing, run again on a conflict unless `ifVersion` is given.
   *
   * @throws ContextError `INVALID_PATCH`, `PATCH_FAILED` with the index of the operation, `NOT_FOUND`, and as `set`
   */
  async patch(id: string, patch: unknown, options: WriteOptions = {}): Promise<WriteResult> {
    const { version, checksum } = await this.#write('patch', id, options, (deadline) =>
      this.#writer.patch(id, patch, options, deadline),
    );
    return { version, checksum };
  }

  /** Removes a context; null where there was none. `version` is that of its tombstone. */
  delete(id: string, options: DeleteOptions = {}): Promise<{ version: number } | null> {
    return this.#write('delete', id, options, async (deadline) => {
      const deleted = await this.#writer.delete(id, options, deadline);
      this.#ttl?.forget(id);
      return deleted;
    });
  }

  /**
   * Gives a context another expiry, counted from now, without a new version; null where there is none. That can end a context: with `lock` it is
   * done only while the lock holds.
   *
   * @throws ContextError `FENCED`, `INVALID_ARGUMENT`, `LOCKED`, those of the connection
   */
  touch(
    id: string,
    ttl: Duration | 'none',
    options: TouchOptions = {},
  ): Promise<{ version: number; expiresAt: number | null } | null> {
    return this.#write('touch', id, options, (deadline) => this.#writer.touch(id, ttl, options, deadline));
  }

  /**
   * Reads and writes several contexts as one: what the function stages is written together, or not at all, and only if nothing that it has read
   * has changed meanwhile; else it runs again, so it should have no other effects. What it returns is what comes back. It may write nothing:
   * what it has read is then of one moment. Up to 100 contexts and 32 MiB.
   *
   * In one shard that takes one round trip, over several three; no context is held for longer than `transactions.recoverAfter` whatever becomes
   * of this process (docs/TRANSACTIONS.md).
   *
   * @throws ContextError `CONFLICT` after `attempts` runs, or where an expected version is not there; `OUTCOME_UNKNOWN` where the connection
   * broke at the decision; `LIMIT_EXCEEDED`, `NOT_FOUND`, `PATCH_FAILED`, `TIMEOUT`, …; and what the function throws, nothing being written then
   * @example
   * await store.transaction(async (tx) => {
   *   const from = await tx.get('account-1');
   *   tx.patch('account-1', [{ op: 'replace', path: '/balance', value: from.value.balance - 10 }]);
   *   tx.delete('reservation-7');
   * });
   */
  async transaction<T>(run: (tx: Transaction) => T | Promise<T>, options: TransactionOptions = {}): Promise<T> {
    const deadline = this.#deadline('transaction', options);
    const attempts = options.attempts ?? DEFAULT_ATTEMPTS;
    if (!(Number.isSafeInteger(attempts) && attempts >= 1))
      throw new ContextError('INVALID_ARGUMENT', `attempts is ${String(attempts)}; it must be a whole number of at least 1`);
    const locked = this.#locked(options, deadline);
    return traced('transaction', this.namespace, undefined, () =>
      this.#transactions.preserver.run(run, { attempts, locked }, deadline),
    );
  }

  /** What a transaction runs under, by its option `lock`. */
  #locked({ lock = false }: Pick<TransactionOptions, 'lock'>, deadline: Deadline): TransactionRun['locked'] {
    if (lock === false) return null;
    return lock === true ? lockedRun(this.#locks, deadline) : heldRun(this.#locks, lock);
  }

  /**
   * Runs a function while one or several contexts are locked, and gives back what it returned, even where the lock was lost or could not be
   * released. Waiters are served first come, first served; several ids are taken in one order, so that two who want the same do not wait for
   * each other. The lock is extended by itself; `lock.signal` is aborted before it can be over. Writes that are given the handle
   * (`{ lock }`) are refused by Redis (`FENCED`) as soon as the lock is over, whatever the holder believes: that is what keeps data right.
   * The promises with and without `locks.nodes`: docs/LOCKS.md (Redlock by S. Sanfilippo; fencing tokens after M. Kleppmann, 2016).
   *
   * @throws ContextError `LOCK_TIMEOUT` where somebody else holds it, or a transaction is not decided, for longer than `wait`, `LOCK_QUORUM` where too few lock nodes answer,
   * `ABORTED`, `INVALID_ARGUMENT`, `LIMIT_EXCEEDED`, those of the connection, and whatever the function throws
   * @example await store.lock('user-42', async (lock) => { await store.set('user-42', await work(lock.signal), { lock }); }, { ttl: '10s' });
   */
  async lock<T>(ids: string | readonly string[], fn: (lock: Lock) => Promise<T> | T, options: LockOptions = {}): Promise<T> {
    this.#checkLock('lock', ids, options);
    return this.#locks.lock(ids, fn, options);
  }

  /**
   * A lock that is free now, or null: where somebody else holds or waits for one of the contexts, or a transaction is about to change it that
   * is not decided. It is extended by itself until it is released: by `release`, `await using`, or `close`.
   *
   * @throws ContextError as {@link lock}, but for `LOCK_TIMEOUT`
   */
  async tryLock(ids: string | readonly string[], options: TryLockOptions = {}): Promise<Lock | null> {
    this.#checkLock('tryLock', ids, options);
    return this.#locks.tryLock(ids, options);
  }

  /**
   * Who holds locks in the namespace and who waits for them, by id; without `ids` it looks through all keys of the server once, a
   * thousand at a time. Read locks have several holders.
   */
  async locks(options: LocksOptions = {}): Promise<readonly LockInfo[]> {
    const { ids, signal } = options;
    for (const id of ids ?? []) checkId(id, this.#options.idBytes);
    checkCallOptions('locks', options);
    this.#connection.check(this.#connection.deadline(this.#options.timeoutMs, signal), 'locks');
    return this.#locks.list(ids ?? null, signal);
  }

  /**
   * Takes a context from all that hold it, for holders that hang: what they write with their tokens is refused (`FENCED`) from then on, and
   * the next waiter gets it. A transaction that is prepared on the context and not yet decided is taken back before this answers: what is
   * read then stands. With `locks.nodes` the next waiter gets it when the holder has noticed, or its time to live is over there.
   *
   * @returns who held it
   */
  async breakLock(id: string, options: CallOptions = {}): Promise<LockInfo['holders']> {
    checkId(id, this.#options.idBytes);
    return this.#locks.break(id, this.#deadline('breakLock', options));
  }

  /** A page of the namespace, in no order. An id that is there all the while is listed; one may come twice while others change. */
  async list(options: ListOptions = {}): Promise<ListPage> {
    return traced('list', this.namespace, undefined, () =>
      listContexts(this.#commands, options, this.#deadline('list', options)),
    );
  }

  /**
   * The changes of a context from now on, or after `fromVersion`: in order, each version once. A gap is filled from the delta log;
   * where that does not reach, one `reset` with the present state stands for what was skipped. Ends with `return` (leaving the loop),
   * the signal, or `close`.
   *
   * @example for await (const change of store.watch('user-42')) console.log(change.version, change.patch);
   */
  watch(id: string, options: WatchOptions = {}): AsyncIterableIterator<Change> {
    checkId(id, this.#options.idBytes);
    checkCallOptions('watch', options);
    const { fromVersion, queue = DEFAULT_QUEUE, signal } = options;
    if (fromVersion !== undefined && !(Number.isSafeInteger(fromVersion) && fromVersion >= 0)) {
      throw new ContextError('INVALID_ARGUMENT', `fromVersion is ${String(fromVersion)}; it must be a whole number`);
    }
    if (!(Number.isSafeInteger(queue) && queue >= 1)) {
      throw new ContextError('INVALID_ARGUMENT', `queue is ${String(queue)}; it must be a whole number of at least 1`);
    }
    if (this.#closing !== null) throw new ContextError('CLOSED', 'the store is closed; open another with ContextStore.connect');
    return this.#replicas.watch(id, fromVersion, queue, signal);
  }

  /** The delta log of a context, newest first. */
  async history(id: string, options: CallOptions & { readonly limit?: number } = {}): Promise<readonly HistoryEntry[]> {
    checkId(id, this.#options.idBytes);
    const limit = options.limit ?? HISTORY_LIMIT;
    if (!(Number.isSafeInteger(limit) && limit >= 1 && limit <= HISTORY_LIMIT)) {
      throw new ContextError(
        'INVALID_ARGUMENT',
        `limit is ${String(limit)}; it must be a whole number between 1 and ${HISTORY_LIMIT}`,
      );
    }
    const deadline = this.#deadline('history', options);
    const entries = await this.#commands.logTail(id, limit, deadline);
    if (!entries.some(({ kind }) => kind === 'splice')) return historyOf(entries, new Map());
    const [log, checkpoints] = await Promise.all([
      this.#commands.logAfter(id, 0, HISTORY_LIMIT, deadline),
      this.#reader.checkpoints(id, deadline),
    ]);
    return historyOf(entries, patchesOf(log, checkpoints));
  }

  /**
   * One frame of protocol 2 (docs/DELTA_PROTOCOL.md) that leads from a version somebody has to the present one, for who carries changes on
   * to others: several versions in one splice where that is smaller than the document, else the document, compressed where that pays.
   * It is made once for all who have the same version. Null where `known` is the present; `version` 0 and checksum '' are nothing. A frame
   * whose version is not above `known.version` (other than `expired`) says to start over with it: versions were lost, or have begun anew.
   *
   * @throws ContextError as {@link get}
   */
  async frameSince(
    id: string,
    known: { readonly version: number; readonly checksum: string },
    options: CallOptions = {},
  ): Promise<Buffer | null> {
    checkId(id, this.#options.idBytes);
    const { version, checksum } = known;
    if (!(Number.isSafeInteger(version) && version >= 0 && /^([0-9a-f]{8})?$/.test(checksum)))
      throw new ContextError(
        'INVALID_ARGUMENT',
        'known is a version and the checksum of its document, 8 hex digits, or 0 and an empty one',
      );
    return this.#replicas.frameSince(id, { version, checksum }, this.#deadline('frameSince', options));
  }

  /** Checks length, SHA-1, CRC-32, JSON and log of what is stored; null where there is no context. */
  async verify(id: string, options: CallOptions = {}): Promise<VerifyResult | null> {
    checkId(id, this.#options.idBytes);
    return verifyContext(this.#integrity.copies, id, this.#deadline('verify', options));
  }

  /**
   * Looks at all that is stored of a context, log and checkpoints included, and repairs what is damaged: from what is stored itself, the
   * checkpoint and the log, a replica of another instance, or one of Redis. Where nobody has a good copy the damaged bytes go to quarantine.
   */
  async repair(id: string, options: CallOptions = {}): Promise<RepairResult> {
    checkId(id, this.#options.idBytes);
    return this.#integrity.repair(id, 'scrub', this.#deadline('repair', options));
  }

  /**
   * Writes an earlier version of a context anew, or one from quarantine, or a value given by hand; what was in quarantine is let go of then.
   *
   * @throws ContextError `NOT_FOUND` where there is no such version any more, or nothing in quarantine that is JSON
   */
  async restore(id: string, from: RestoreSource, options: CallOptions = {}): Promise<WriteResult> {
    checkId(id, this.#options.idBytes);
    const deadline = this.#deadline('restore', options);
    return restoreContext(
      { commands: this.#commands, copies: this.#integrity.copies, reader: this.#reader, writer: this.#writer },
      id,
      from,
      deadline,
    );
  }

  /** What is in quarantine, in no order. */
  async quarantined(options: CallOptions = {}): Promise<readonly QuarantinedContext[]> {
    return listQuarantined(this.#commands, this.#integrity.copies, this.#deadline('quarantined', options));
  }

  /** Lets go of what is in quarantine of a context; false where nothing is. */
  async dropQuarantined(id: string, options: CallOptions = {}): Promise<boolean> {
    checkId(id, this.#options.idBytes);
    return this.#integrity.copies.dropQuarantined(id, this.#deadline('dropQuarantined', options));
  }

  /**
   * All contexts as an export (docs/BACKUP.md): NDJSON, a line a chunk, verified before they are given out, each line with its checksum. Each context
   * is consistent in itself; together they are not of one moment. What reads slowly is waited for.
   *
   * @throws ContextError those of the connection; a damaged context that nobody has a good copy of is told by `damaged`, and left out
   * @example await pipeline(store.export(), createWriteStream('agents.ndjson'));
   */
  export(options: ExportOptions = {}): AsyncGenerator<Buffer, void, undefined> {
    checkCallOptions('export', options);
    const deadline = this.#steps('export', options);
    return exportContexts({ commands: this.#commands, reader: this.#reader, deadline }, options);
  }

  /** Where an export that was interrupted can be gone on with (option `resume` of {@link export}); null: from the beginning. */
  async exportPoint(interrupted: ExportSource, options: CallOptions = {}): Promise<ExportPoint | null> {
    checkCallOptions('exportPoint', options);
    return pointToResume({ commands: this.#commands, deadline: this.#steps('exportPoint', options) }, interrupted);
  }

  /**
   * Writes what an export holds, to the byte, with the expiries that it says; versions go on from those that are here. Contexts that are here
   * already are not written again: after an interruption, run it again. A line is verified before any of it is written; `verifyExport` looks at a whole
   * export before anything is.
   *
   * @throws ContextError `CORRUPT` with the number of a damaged line, or where the trailer is missing; `CONFLICT` with `ifExists: 'fail'`;
   * `LIMIT_EXCEEDED` with the id of a document that is too large; and as `set`
   * @example await store.import(createReadStream('agents.ndjson'), { ifExists: 'newer' });
   */
  async import(source: ExportSource, options: ImportOptions = {}): Promise<ImportResult> {
    checkCallOptions('import', options);
    const { contextBytes, idBytes } = this.#options;
    return importContexts(
      {
        commands: this.#commands,
        writer: this.#writer,
        sound: (id) => this.maintenance.sound(id),
        limits: { contextBytes, idBytes },
        // the signal ends it between two writes: what is under way is not left in doubt
        deadline: this.#steps('import', options.timeout === undefined ? {} : { timeout: options.timeout }),
      },
      source,
      options,
    );
  }

  /**
   * Keeps a snapshot of contexts as they are at one moment, under a name and with a time to live of its own: of these ids (what does not exist is remembered as
   * such), or of those with a prefix, which includes that there are no others. Up to 100 contexts and 32 MiB of documents.
   *
   * @throws ContextError `CONFLICT` where there is one of this name and `replace` was not given, or where the contexts change all the time; `CORRUPT`,
   * `LIMIT_EXCEEDED`, `NOT_FOUND` where there is nothing to preserve
   * @example await store.preserve('before-the-trip', { prefix: 'session-42/' }, { ttl: '7d' });
   */
  async preserve(
    name: string,
    what: readonly string[] | { readonly prefix: string },
    options: PreserveOptions = {},
  ): Promise<PreserveResult> {
    return this.#preservation('preserve', options).preserve(name, what, options);
  }

  /**
   * Writes all contexts of a snapshot back, to the byte, or none of them; those that did not exist when it was made are deleted, and so is, unless `keepNew`
   * is given, what was created since under the prefix that it was made of. They get new versions, and the expiries that they had, as points in time, unless
   * `ttl` is given. `dryRun` finds out what would be done; `lock` is as for {@link transaction}.
   *
   * @throws ContextError `NOT_FOUND`, `CORRUPT` where anything of the snapshot is damaged; `LIMIT_EXCEEDED` where it and what was created since are more than
   * 100 contexts; and as {@link transaction}
   * @example await store.restoreSnapshot('before-the-trip');
   */
  async restoreSnapshot(name: string, options: RestoreSnapshotOptions = {}): Promise<RestoreSnapshotResult> {
    return this.#preservation('restoreSnapshot', options).restore(name, options);
  }

  /** All snapshots, by name. */
  async snapshots(options: CallOptions = {}): Promise<readonly SnapshotSummary[]> {
    return this.#preservation('snapshots', options).list();
  }

  /** Lets go of a snapshot; false where there is none of this name. */
  async dropSnapshot(name: string, options: CallOptions = {}): Promise<boolean> {
    return this.#preservation('dropSnapshot', options).drop(name);
  }

  #preservation(call: CallName, options: CallOptions & Pick<RestoreSnapshotOptions, 'lock'>): Preservation {
    checkCallOptions(call, options);
    const { preserver } = this.#transactions;
    return new Preservation({
      commands: this.#commands,
      reader: this.#reader,
      idBytes: this.#options.idBytes,
      together: (versions, deadline) =>
        preserver.run((tx) => versions.forEach((version, id) => void tx.expect(id, version)), ONCE, deadline),
      writeTogether: (changes, deadline) =>
        preserver.run(
          (tx) => {
            for (const change of changes) {
              if (change.bytes === null) tx.delete(change.id);
              else tx.setBytes(change.id, change.bytes, { ttl: change.ttl });
            }
          },
          { attempts: DEFAULT_ATTEMPTS, locked: this.#locked(options, deadline) },
          deadline,
        ),
      deadline: this.#steps(call, options),
    });
  }

  /** The stored bytes as they are, unverified; null where there are none. */
  async rawBytes(id: string, options: CallOptions = {}): Promise<Buffer | null> {
    checkId(id, this.#options.idBytes);
    const stored = await this.#commands.read(id, this.#deadline('rawBytes', options));
    return stored === null ? null : bytesOf(stored);
  }

  /**
   * Lets all instances of the namespace write the newest protocol. Call it once no instance of an older version runs any more: those cannot
   * read it, and refuse the namespace when they connect. Other instances notice at their next heartbeat.
   *
   * @returns the protocols before and after, equal where there was nothing to do
   */
  async upgrade(options: CallOptions = {}): Promise<{ readonly from: number; readonly to: number }> {
    const { from, to } = await upgradeNamespace(this.#connection, this.namespace, this.#deadline('upgrade', options));
    this.#commands.protocol = to;
    return { from, to };
  }

  /**
   * Seals what was written before {@link upgrade}: every context gets its seal, and a log that begins there. From then on a missing seal is damage
   * in the whole namespace. It may run as long as it takes, and be begun again; nothing is done where all is sealed.
   *
   * @returns contexts that were looked at, and those that could not be sealed: `repair` tells why. Only where there are none is the namespace marked
   */
  async seal(options: SealOptions = {}): Promise<SealResult> {
    const { signal, progress, timeout } = options;
    const call = { ...(signal === undefined ? {} : { signal }), ...(timeout === undefined ? {} : { timeout }) };
    const failed: string[] = [];
    let looked = 0;
    if (this.#commands.sealed) return { looked, failed };
    let cursor: string | undefined;
    do {
      const page = await this.list({ limit: 1_000, ...call, ...(cursor === undefined ? {} : { cursor }) });
      for (const { id } of page.items) {
        if (!(await this.#integrity.seal(id, this.#deadline('seal', call)))) failed.push(id);
        looked += 1;
        progress?.(looked);
      }
      cursor = page.cursor ?? undefined;
    } while (cursor !== undefined);
    if (failed.length === 0) {
      await markSealed(this.#connection, this.namespace, this.#deadline('seal', call));
      this.#commands.sealed = true;
    }
    return { looked, failed };
  }

  /** What `redis-cli` calls it. */
  keysOf(id: string): ContextKeyNames {
    const { context, log, channel } = this.#commands.keys.of(id);
    return { context, log, channel };
  }

  async stats(options: CallOptions = {}): Promise<StoreStats> {
    const deadline = this.#deadline('stats', options);
    const shards = await Promise.all(
      this.#commands.keys.shards.map(async (shard) => ({
        shard: shard.shard,
        ...(await this.#commands.accounts(shard, deadline)),
      })),
    );
    const { hits, misses, spliceFrames, patchFrames, fullFrames, frameBytes, documentBytes, resyncs, checksumFailures } =
      this.#replicas.counters;
    return {
      namespace: this.namespace,
      instanceId: this.instanceId,
      shards,
      replicas: { ...this.#replicas.size, hits, misses },
      frames: { splice: spliceFrames, patch: patchFrames, full: fullFrames, bytes: frameBytes, documentBytes },
      integrity: { ...this.#integrity.counters, checkpoints: { ...this.#integrity.checkpointer.counters } },
      delta: {
        mode: this.#options.delta,
        protocol: this.#commands.protocol,
        ...this.#writer.delta,
        squash: this.#replicas.squashCounters,
      },
      ttl: this.#ttl === null ? null : { tracked: this.#ttl.tracked, ...this.#ttl.counters },
      transactions: this.#transactions.stats(),
      ...this.#writer.counters,
      resyncs,
      checksumFailures,
      connection: {
        commands: this.#connection.commandsUp ? 'up' : 'down',
        subscriptions: this.#subscriptions.up ? 'up' : 'down',
      },
    };
  }

  /** Listens to an event; the function it gives back ends that. */
  on<N extends StoreEventName>(name: N, listener: (event: StoreEvents[N]) => void): () => void {
    return this.#emitter.on(name, listener);
  }

  /** Ends background work, watchers, heartbeat and connections. Calls after it fail with `CLOSED`; calling it again waits for the same end. */
  close(): Promise<void> {
    this.#closing ??= (async () => {
      this.#heartbeat.stop();
      await this.#workers.close();
      await this.#locks.close();
      const predicted = this.#ttl?.close();
      await this.#integrity.close();
      this.#replicas.close();
      await this.#connection.close();
      await this.#transactions.preserver.close();
      await predicted;
    })();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #read(id: string, given: ReadOptions | undefined): Promise<Context | null> {
    checkId(id, this.#options.idBytes);
    const options = given ?? {};
    const deadline = this.#deadline('get', options);
    if (given !== undefined && given.fresh !== true) {
      const answer = this.#replicas.answer(id);
      if (answer !== undefined) this.#ttl?.used(id);
      if (answer !== undefined) return this.#out(await answer);
    }
    // a connection that is known to be down is not waited for
    const known = options.allowStale === true && !this.#connection.commandsUp ? this.#replicas.staleAnswer(id) : undefined;
    if (known !== undefined) return this.#out(known);
    try {
      const state = await traced('get', this.namespace, id, () => this.#reader.read(id, deadline));
      this.#used(id, state);
      return this.#out(this.#replicas.seen(id, state));
    } catch (error) {
      const unreachable = error instanceof ContextError && (error.code === 'CONNECTION' || error.code === 'TIMEOUT');
      const stale = options.allowStale === true && unreachable ? this.#replicas.staleAnswer(id) : undefined;
      if (stale === undefined) throw error;
      return this.#out(stale);
    }
  }

  #checkLock(call: 'lock' | 'tryLock', ids: string | readonly string[], options: LockOptions): void {
    for (const id of typeof ids === 'string' ? [ids] : ids) checkId(id, this.#options.idBytes);
    const { signal } = options;
    checkCallOptions(call, options);
    this.#connection.check(this.#connection.deadline(this.#options.timeoutMs, signal), call);
  }

  #write<T>(operation: CallName, id: string, options: CallOptions, run: (deadline: Deadline) => Promise<T>): Promise<T> {
    return traced(operation, this.namespace, id, async () => {
      const result = await run(this.#deadline(operation, options));
      if (operation !== 'delete') this.#ttl?.used(id);
      return result;
    });
  }

  /** For predictions: an access, and what Redis said of the context; undefined where a replica answered. */
  #used(id: string, found: { readonly expiresAt: number | null } | null | undefined): void {
    if (this.#ttl === null) return;
    if (found === undefined) this.#ttl.used(id);
    else this.#ttl.found(id, found === null ? ABSENT : found.expiresAt);
  }

  #out(context: Context | null): Context | null {
    return this.#options.copyValues ? copy(context) : context;
  }

  /** A deadline for each step of a call that may take as long as it takes. */
  #steps(call: CallName, { signal, timeout }: CallOptions): () => Deadline {
    const each = { ...(signal === undefined ? {} : { signal }), ...(timeout === undefined ? {} : { timeout }) };
    return () => this.#deadline(call, each);
  }

  /** Time and signal of a call that begins now. @throws ContextError `CLOSED`, `ABORTED`, `INVALID_OPTION` */
  #deadline(call: CallName, options: CallOptions): Deadline {
    checkCallOptions(call, options);
    const timeoutMs = options.timeout === undefined ? this.#options.timeoutMs : parseDuration(options.timeout, 'timeout');
    const deadline = this.#connection.deadline(timeoutMs, options.signal);
    this.#connection.check(deadline, call);
    return deadline;
  }
}

/** Not `structuredClone`: it is several times slower for plain JSON. */
const copyValue = (value: JsonValue): JsonValue => JSON.parse(JSON.stringify(value)) as JsonValue;

const copy = (context: Context | null): Context | null =>
  context === null ? null : { ...context, value: copyValue(context.value) };
