/**
 * Transactions over several contexts: all of what they write, or nothing, and only if nothing that they have read has changed meanwhile.
 *
 * Optimistic concurrency control (Kung and Robinson, 1981): reads take nothing, and what was read is held against what is there when the
 * transaction commits. In one shard that is one script. Over several it is two-phase commit; what was only read is looked at once more after
 * all that is written is held, and before the decision, which makes it strictly serializable (as FaRM does: Dragojević et al., No compromises,
 * SOSP 2015).
 */
import { randomBytes } from 'node:crypto';
import type { DocumentText } from '../core/DocumentText.js';
import { ContextError, isContextError } from '../core/errors.js';
import type { JsonDocument } from '../core/JsonDocument.js';
import type { JsonValue } from '../core/json.js';
import type { Patch } from '../core/patch.js';
import type { ContextCommands } from '../redis/ContextCommands.js';
import type { CommitRequest } from '../redis/commitRequest.js';
import type { ShardKeys } from '../redis/keys.js';
import type { Deadline } from '../redis/RedisConnection.js';
import type { Member, Read, Refusal, TransactionCommands, Written } from '../redis/TransactionCommands.js';
import { pauseAfterConflict } from '../redis/writeRetries.js';
import type { ReplicaState } from '../replica/state.js';
import type { IntentSettler } from './IntentSettler.js';
import { broken, conflict, fenced, tooLarge } from './refusals.js';
import { MOST_BYTES, Staging, type StagingLimits } from './Transaction.js';
import { SCRIPT_BYTES, SCRIPT_MEMBERS, TwoPhaseCommit } from './TwoPhaseCommit.js';

/** What has to travel for one document. */
export type Encoded = Pick<CommitRequest, 'length' | 'crc' | 'sha1' | 'storage' | 'payload' | 'base'> & {
  readonly document: () => JsonDocument;
};

/** What transactions need of the store that they belong to. */
export interface TransactionHooks {
  /** A state in memory that can be trusted, where there is one. */
  readonly base: (id: string) => ReplicaState | undefined;
  readonly read: (id: string, deadline: Deadline) => Promise<ReplicaState | null>;
  readonly readMany: (ids: readonly string[], deadline: Deadline) => Promise<(ReplicaState | null)[]>;
  /** `whole`: Redis gets the document as it is. */
  readonly encode: (id: string, base: ReplicaState | null, value: JsonValue, patch: Patch | null, whole: boolean) => Encoded;
  /** A whole document as it is spelled. */
  readonly spelled: (id: string, value: JsonValue, text: DocumentText) => Encoded;
  readonly heal: (id: string, deadline: Deadline) => Promise<void>;
  readonly committed: (
    id: string,
    encoded: Encoded,
    written: Written,
    at: number,
    patch: Patch | null,
    repeated: boolean,
  ) => void;
  readonly deleted: (id: string, version: number, at: number) => void;
  readonly conflict: (id: string, expected: number, found: number, attempt: number) => void;
  /** What was decided could not be applied everywhere yet: whoever meets it does. */
  readonly unfinished: (txn: string, error: unknown) => void;
}

/** Locks that a transaction holds from its first use of a context on. */
export interface HeldLocks {
  /** Takes those that are not held yet; false where one is taken by somebody else and the order does not let it wait. */
  take(ids: readonly string[]): Promise<boolean>;
  fenceOf(id: string): number;
}

export interface TransactionRun {
  readonly attempts: number;
  /** Where conflicts are to be prevented: holds locks while `run` runs, of these ids from its beginning on. */
  readonly locked: (<T>(ids: readonly string[], run: (locks: HeldLocks) => Promise<T>) => Promise<T>) | null;
}

export interface PreserverOptions {
  readonly limits: StagingLimits;
  /** How long a transaction that nobody goes on with may hold contexts of several shards, ms. */
  readonly recoverMs: number;
}

export interface TransactionCounters {
  committed: number;
  /** Of these, over several shards. */
  distributed: number;
  conflicts: number;
}

/** How often what is in the way of a commit is mended before it is told. */
const MENDS = 3;

interface Write {
  readonly id: string;
  readonly base: ReplicaState | null;
  readonly patch: Patch | null;
  /** Null: it is deleted. */
  readonly encoded: Encoded | null;
  readonly member: Member;
}

type Outcome = { readonly status: 'done' } | { readonly status: 'again'; readonly refusal: Refusal };

export class AtomicContextPreserver {
  readonly counters: TransactionCounters = { committed: 0, distributed: 0, conflicts: 0 };
  readonly #commands: ContextCommands;
  readonly #transactions: TransactionCommands;
  readonly #settler: IntentSettler;
  readonly #hooks: TransactionHooks;
  readonly #options: PreserverOptions;
  readonly #prefix = randomBytes(9).toString('base64url').replace(/[-_]/g, 'x');
  readonly #twoPhases: TwoPhaseCommit<Write>;
  #count = 0;

  constructor(
    commands: ContextCommands,
    transactions: TransactionCommands,
    settler: IntentSettler,
    hooks: TransactionHooks,
    options: PreserverOptions,
  ) {
    this.#commands = commands;
    this.#transactions = transactions;
    this.#settler = settler;
    this.#hooks = hooks;
    this.#options = options;
    this.#twoPhases = new TwoPhaseCommit<Write>(
      commands,
      transactions,
      {
        heal: hooks.heal,
        validate: (reads, deadline) => this.#validate(reads, deadline),
        decided: () => {
          this.counters.committed += 1;
          this.counters.distributed += 1;
        },
        note: (write, written, at, repeated) => this.#note(write, written, at, repeated),
        unfinished: hooks.unfinished,
      },
      options.recoverMs,
    );
  }

  /**
   * Runs a function and commits what it has staged; on a conflict both again.
   *
   * @throws ContextError `CONFLICT` after all attempts, or where an expected version is not there; `NOT_FOUND`, `PATCH_FAILED`, `FENCED`,
   * `LIMIT_EXCEEDED`, `CORRUPT`, `OUTCOME_UNKNOWN`, `TIMEOUT`; what the function throws
   */
  async run<T>(run: (tx: Staging) => T | Promise<T>, how: TransactionRun, deadline: Deadline): Promise<T> {
    let known: readonly string[] = [];
    for (let attempt = 1; ; attempt += 1) {
      const once = (
        locks: HeldLocks | null,
      ): Promise<{ readonly result: T } | { readonly ids: readonly string[]; readonly why: Refusal | null }> =>
        this.#attempt(run, known, attempt, locks, deadline);
      const made = how.locked === null ? await once(null) : await how.locked(known, once);
      if ('result' in made) return made.result;
      // what it needed this time is read in one round trip the next time
      known = made.ids;
      if (made.why === null) {
        attempt -= 1;
        continue;
      }
      this.counters.conflicts += 1;
      if (attempt >= how.attempts) throw conflict(made.why, attempt, this.#where);
      await pauseAfterConflict(attempt, deadline);
      this.#commands.connection.check(deadline, 'transaction');
    }
  }

  /** Ends what goes on behind finished calls. */
  async close(): Promise<void> {
    await this.#twoPhases.close();
  }

  async #attempt<T>(
    run: (tx: Staging) => T | Promise<T>,
    known: readonly string[],
    attempt: number,
    locks: HeldLocks | null,
    deadline: Deadline,
  ): Promise<{ readonly result: T } | { readonly ids: readonly string[]; readonly why: Refusal | null }> {
    const tx = await this.#staging(known, attempt === 1, locks, deadline);
    const { connection } = this.#commands;
    let result: T;
    try {
      result = await connection.within(
        deadline,
        'transaction',
        Promise.resolve().then(() => run(tx)),
      );
      tx.lacksLocks ||= locks !== null && !(await locks.take([...tx.ids]));
    } catch (error) {
      tx.end();
      const ids = [...tx.ids];
      // whatever the function made of it
      if (tx.lacksLocks) return { ids, why: null };
      // it may have failed because of what it has read at two moments
      const why = isContextError(error) && ENDS.has(error.code) ? null : await this.#stale(tx, deadline);
      if (why === null) throw error;
      this.#told(tx, why, attempt);
      return { ids, why };
    }
    tx.end();
    if (tx.lacksLocks) return { ids: [...tx.ids], why: null };
    const outcome = await this.#commit(tx, locks, deadline);
    if (outcome.status === 'done') return { result };
    this.#told(tx, outcome.refusal, attempt);
    return { ids: [...tx.ids], why: outcome.refusal };
  }

  async #staging(known: readonly string[], first: boolean, locks: HeldLocks | null, deadline: Deadline): Promise<Staging> {
    const taken = async (ids: readonly string[]): Promise<void> => {
      if (locks === null || (await locks.take(ids))) return;
      staging.lacksLocks = true;
      throw new ContextError('LOCKED', `${ids.join(', ')}: locked by somebody else; the transaction begins anew with its locks`);
    };
    // after a conflict, and under a lock, what Redis has counts; before, what is in memory is tried
    const trusts = first && locks === null;
    const memory = (id: string): ReplicaState | undefined => {
      const state = trusts ? this.#hooks.base(id) : undefined;
      if (state !== undefined) staging.fromMemory = true;
      return state;
    };
    const held = new Map<string, Promise<ReplicaState | null>>();
    if (known.length > 0) {
      const all = this.#hooks.readMany(known, deadline);
      all.catch(() => {});
      known.forEach((id, index) => {
        const one = all.then((states) => states[index] ?? null);
        one.catch(() => {});
        held.set(id, one);
      });
      await all;
    }
    const one = async (id: string): Promise<ReplicaState | null> => {
      await taken([id]);
      return memory(id) ?? held.get(id) ?? this.#hooks.read(id, deadline);
    };
    const many = async (ids: readonly string[]): Promise<(ReplicaState | null)[]> => {
      await taken(ids);
      const states = new Map<string, ReplicaState | null>();
      for (const id of ids) {
        const state = memory(id) ?? (await held.get(id));
        if (state !== undefined) states.set(id, state);
      }
      const left = ids.filter((id) => !states.has(id));
      const read = left.length === 0 ? [] : await this.#hooks.readMany(left, deadline);
      left.forEach((id, index) => {
        states.set(id, read[index] ?? null);
      });
      return ids.map((id) => states.get(id) ?? null);
    };
    const staging = new Staging({ one, many }, this.#options.limits);
    return staging;
  }

  /** Commits what is staged. What stands in the way of that, and can be ended or mended, is. */
  async #commit(tx: Staging, locks: HeldLocks | null, deadline: Deadline): Promise<Outcome> {
    const whole = new Set<string>();
    for (let [mends, waits] = [0, 0]; ; ) {
      const reads = this.#reads(tx);
      if (tx.writes.size === 0) {
        // one context is of one moment by itself, where it was read from Redis
        if (reads.length === 0 || (reads.length === 1 && tx.expected.size === 0 && !tx.fromMemory)) return { status: 'done' };
        const refusal = await this.#validate(reads, deadline);
        if (refusal === null) return { status: 'done' };
        if (refusal.why !== 'locked') return this.#again(tx, refusal);
        await this.#settler.settled(refusal.id, refusal.intent, deadline);
        continue;
      }
      const txn = this.#name();
      const writes = await this.#writes(tx, txn, whole, locks);
      const distributed = this.#spread(tx) || (writes.length > 1 && bytesOf(writes) > SCRIPT_BYTES);
      const refusal = distributed
        ? await this.#twoPhases.commit(txn, writes, reads, deadline)
        : await this.#oneScript(txn, writes, reads, deadline);
      if (refusal === null) return { status: 'done' };
      switch (refusal.why) {
        case 'locked':
          await this.#settler.settled(refusal.id, refusal.intent, deadline);
          // two that were in each other's way do not come back at the same time
          waits += 1;
          await pauseAfterConflict(waits, deadline);
          break;
        case 'conflict':
        case 'overtime':
          return this.#again(tx, refusal);
        case 'fenced':
          throw fenced(refusal);
        default:
          mends += 1;
          if (mends > MENDS * writes.length) throw broken(refusal);
          if (refusal.why === 'baseMismatch') whole.add(refusal.id);
          else await this.#hooks.heal(refusal.id, deadline);
      }
      this.#commands.connection.check(deadline, 'transaction');
    }
  }

  /** What is only held against what is there: reads of what is not written, and expectations. */
  #reads(tx: Staging): Read[] {
    const reads: Read[] = [];
    for (const id of new Set([...tx.reads.keys(), ...tx.expected.keys()])) {
      if (tx.writes.has(id)) continue;
      const { version, crc } = conditionOf(tx, id);
      reads.push({ kind: 'expect', id, version: version ?? 0, crc });
    }
    return reads;
  }

  async #writes(tx: Staging, txn: string, whole: ReadonlySet<string>, locks: HeldLocks | null): Promise<Write[]> {
    let total = 0;
    const writes: Write[] = [];
    for (const [id, staged] of tx.writes) {
      // a patch builds on what is there; what is set or deleted unread does not care
      const base = staged.kind === 'patch' ? await tx.read(id) : (tx.reads.get(id) ?? null);
      const value = tx.valueOf(id, staged, base);
      const { version: ifVersion, crc: ifCrc } = conditionOf(tx, id);
      const fence = locks?.fenceOf(id) ?? 0;
      if (value === undefined || staged.kind === 'delete') {
        const request = { id, operation: txn, ifVersion, fence };
        writes.push({ id, base, patch: null, encoded: null, member: { kind: 'delete', id, request } });
        continue;
      }
      const patch = staged.kind === 'patch' ? staged.patch : null;
      const text = staged.kind === 'set' ? staged.text : undefined;
      const encoded =
        text === undefined ? this.#hooks.encode(id, base, value, patch, whole.has(id)) : this.#hooks.spelled(id, value, text);
      total += encoded.length;
      if (total > MOST_BYTES) throw tooLarge(total);
      const { document: _document, ...sent } = encoded;
      const request = { id, operation: txn, ...sent, ifVersion, ifCrc, ttl: staged.ttl, fence };
      writes.push({ id, base, patch, encoded, member: { kind: 'commit', id, request } });
    }
    return writes;
  }

  /** Whether its contexts lie in several shards, or are more than one script may take. */
  #spread(tx: Staging): boolean {
    const { ids } = tx;
    const shards = new Set([...ids].map((id) => this.#commands.keys.shardOf(id).shard));
    return shards.size > 1 || ids.size > SCRIPT_MEMBERS;
  }

  async #oneScript(txn: string, writes: readonly Write[], reads: readonly Read[], deadline: Deadline): Promise<Refusal | null> {
    const shard = this.#commands.keys.shardOf((writes[0] as Write).id);
    const done = await this.#transactions.transact(txn, shard, [...writes.map(({ member }) => member), ...reads], deadline);
    if (done.status === 'refused') return done.refusal;
    this.counters.committed += 1;
    writes.forEach((write, index) => {
      this.#note(write, done.written[index], done.at, done.repeated);
    });
    return null;
  }

  /** Whether reads are still right; null, or the first that is not. */
  async #validate(reads: readonly Read[], deadline: Deadline): Promise<Refusal | null> {
    const shards = new Map<ShardKeys, Read[]>();
    for (const read of reads) {
      const shard = this.#commands.keys.shardOf(read.id);
      const list = shards.get(shard);
      if (list === undefined) shards.set(shard, [read]);
      else list.push(read);
    }
    const found = await Promise.all([...shards].map(([shard, list]) => this.#transactions.validate(shard, list, deadline)));
    return found.find((one) => one !== null) ?? null;
  }

  /** What of a transaction that failed had changed while it ran; null where nothing had. */
  async #stale(tx: Staging, deadline: Deadline): Promise<Refusal | null> {
    const reads = [...tx.reads].map(
      ([id, state]): Read => ({ kind: 'expect', id, version: state?.version ?? 0, crc: state?.crc ?? null }),
    );
    for (;;) {
      const refusal = await this.#validate(reads, deadline);
      if (refusal?.why !== 'locked') return refusal;
      await this.#settler.settled(refusal.id, refusal.intent, deadline);
    }
  }

  #note({ id, encoded, patch }: Write, written: Written | undefined, at: number, repeated: boolean): void {
    if (written === undefined || written.kind === 'none') return;
    if (encoded === null) this.#hooks.deleted(id, written.version, at);
    else this.#hooks.committed(id, encoded, written, at, patch, repeated);
  }

  /** A conflict, which another run may not have; but an expected version stays the one that is expected. */
  #again(tx: Staging, refusal: Refusal): Outcome {
    const expected = tx.expected.get(refusal.id);
    if (refusal.why === 'conflict' && expected !== undefined && expected !== refusal.version) {
      this.#hooks.conflict(refusal.id, expected, refusal.version, 1);
      throw conflict(refusal, 1, this.#where, expected);
    }
    return { status: 'again', refusal };
  }

  #told(tx: Staging, refusal: Refusal, attempt: number): void {
    if (refusal.why !== 'conflict') return;
    const { id, version } = refusal;
    this.#hooks.conflict(id, tx.reads.get(id)?.version ?? 0, version, attempt);
  }

  get #where(): { readonly namespace: string; readonly recoverMs: number } {
    return { namespace: this.#commands.keys.namespace, recoverMs: this.#options.recoverMs };
  }

  #name(): string {
    this.#count += 1;
    return `${this.#prefix}${this.#count.toString(36)}`;
  }
}

/** Errors that have nothing to do with what was read. */
const ENDS = new Set([
  'TIMEOUT',
  'ABORTED',
  'CLOSED',
  'CONNECTION',
  'LIMIT_EXCEEDED',
  'INVALID_ARGUMENT',
  'INVALID_ID',
  'INVALID_VALUE',
]);

/** The version that must be there when it is written, and its CRC-32 where that is known; null: any. */
function conditionOf(tx: Staging, id: string): { readonly version: number | null; readonly crc: string | null } {
  const read = tx.reads.get(id);
  const expected = tx.expected.get(id);
  if (expected !== undefined && (read === undefined || (read?.version ?? 0) !== expected))
    return { version: expected, crc: null };
  if (read === undefined) return { version: null, crc: null };
  return read === null ? { version: 0, crc: null } : { version: read.version, crc: read.crc };
}

const bytesOf = (writes: readonly Write[]): number => writes.reduce((sum, { encoded }) => sum + (encoded?.length ?? 0), 0);
