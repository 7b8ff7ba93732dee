import type { JsonValue } from '../core/json.js';
import type { Patch } from '../core/patch.js';
import type { Lock } from '../locks/types.js';

export type { Change, Context } from '../core/context.js';
export type { Lock, LockInfo, LockMode, LockOptions, LockParty, LocksOptions, TryLockOptions } from '../locks/types.js';
export type { Transaction } from '../transactions/Transaction.js';

/** Milliseconds, or a string such as `'250ms'`, `'10s'`, `'5m'`, `'1h'`, `'7d'`. */
export type Duration = number | string;
/** Bytes, or a string such as `'64kb'`, `'1mb'`, `'2gb'` (powers of 1024). */
export type Size = number | string;

export interface WriteResult {
  readonly version: number;
  readonly checksum: string;
}

export interface CallOptions {
  /** Ends the call with `ABORTED`; a write that was already sent may still be applied. */
  readonly signal?: AbortSignal;
  /** The whole call with all retries. @defaultValue the store's `timeout` */
  readonly timeout?: Duration;
}

export interface ReadOptions extends CallOptions {
  /** Go to Redis even where a replica could answer. */
  readonly fresh?: boolean;
  /** Let a replica answer although its subscription is down; such an answer has `stale: true`. */
  readonly allowStale?: boolean;
}

export interface WriteOptions extends CallOptions {
  /**
   * Time to live from this commit on, by Redis's clock. `set` without it makes a context that does not expire; `update` and
   * `patch` without it keep the expiry there is. `'keep'` and `'none'` say either explicitly.
   */
  readonly ttl?: Duration | 'keep' | 'none';
  /** Commit only if the context has this version; 0: only if it does not exist. Otherwise `CONFLICT`. */
  readonly ifVersion?: number;
  /** A lock that covers this context, as `lock` or `tryLock` gave it: where it is lost by then, nothing is written (`FENCED`). */
  readonly lock?: Lock;
}

export interface UpdateOptions extends WriteOptions {
  /** Runs on a conflict before `CONFLICT` is thrown; 1 for none. @defaultValue 64 */
  readonly attempts?: number;
  /** What the function gets where the context does not exist; without it that is `NOT_FOUND`. */
  readonly initial?: unknown;
}

export interface UpdateResult<T = JsonValue> extends WriteResult {
  /** The document as committed; deeply frozen unless the store was opened with `values: 'copy'`. */
  readonly value: T;
}

export interface TransactionOptions extends CallOptions {
  /** Runs on conflicts before `CONFLICT` is thrown; 1 for none. @defaultValue 64 */
  readonly attempts?: number;
  /**
   * true: each context is locked from its first use on, so that transactions which do the same conflict with each other no more; the function
   * may run again to take its locks in order. A lock that is held already: it has to cover all that is written, which is done with its
   * fencing tokens. @defaultValue false
   */
  readonly lock?: boolean | Lock;
}

export interface DeleteOptions extends CallOptions {
  /** Delete only if the context has this version; otherwise `CONFLICT`. */
  readonly ifVersion?: number;
  /** A lock that covers this context, as `lock` or `tryLock` gave it: where it is lost by then, nothing is written (`FENCED`). */
  readonly lock?: Lock;
}

export interface TouchOptions extends CallOptions {
  /** A lock that covers this context, as `lock` or `tryLock` gave it: where it is lost by then, the expiry stays (`FENCED`). */
  readonly lock?: Lock;
}

export interface ListOptions extends CallOptions {
  /** What the last page returned; absent: from the start. */
  readonly cursor?: string;
  /** Entries wanted in a page, 1 to 1,000; a shard with few contexts comes whole. @defaultValue 100 */
  readonly limit?: number;
  /** Only ids that begin with this. */
  readonly prefix?: string;
}

export interface ContextSummary {
  readonly id: string;
  readonly version: number;
  readonly checksum: string;
  /** Length of the document, bytes. */
  readonly bytes: number;
  /** Real bytes in Redis of the context and its log, as `MEMORY USAGE` gave them at its last commit. */
  readonly memoryBytes: number;
  readonly updatedAt: number;
  readonly expiresAt: number | null;
}

export interface ListPage {
  readonly items: readonly ContextSummary[];
  /** For the next call, or `null` at the end: a page may be short, or empty, before it. */
  readonly cursor: string | null;
}

export interface WatchOptions {
  /** The last version already seen: changes after it are replayed from the delta log. Absent: from now on. 0: from the beginning. */
  readonly fromVersion?: number;
  readonly signal?: AbortSignal;
  /** Changes held for a slow consumer; past it they are dropped and one `reset` stands for them. @defaultValue 256 */
  readonly queue?: number;
}

export interface HistoryEntry {
  readonly version: number;
  /** `repaired`: the document of this version was damaged, and was put right. */
  readonly kind: 'splice' | 'patch' | 'full' | 'deleted' | 'expired' | 'repaired';
  /** Whether the entry has its checksum. */
  readonly sound: boolean;
  readonly at: number;
  readonly by: string;
  readonly operation: string;
  readonly checksum: string | null;
  readonly sha1: string | null;
  /** Length of the document at this version, bytes. */
  readonly bytes: number;
  /** Length of the frame as logged, bytes; 0 where the frame was too large to be logged. */
  readonly frameBytes: number;
  /** The JSON Patch from the version before; `null` where that version is not in the log any more. */
  readonly patch: Patch | null;
}

export interface VerifyResult {
  readonly id: string;
  readonly ok: boolean;
  readonly version: number;
  readonly bytes: number;
  /** In how many chunks it is stored; 1 where it is one field. */
  readonly chunks: number;
  /** One entry a check: what is stored, what was computed. */
  readonly checks: readonly {
    readonly name: 'length' | 'sha1' | 'crc32' | 'seal' | 'json' | 'log' | 'checkpoint' | 'quarantine';
    readonly ok: boolean;
    readonly stored: string;
    readonly computed: string;
  }[];
}

/** What became of a context that was looked at. */
export interface RepairResult {
  readonly id: string;
  /**
   * `sound`: nothing was damaged (any more); `removed`: its log says that it was deleted or has expired; `quarantined`: nobody had a good copy;
   * `changing`: others wrote it all the while.
   */
  readonly outcome: 'sound' | 'repaired' | 'removed' | 'quarantined' | 'absent' | 'changing';
  readonly source: 'reread' | 'log' | 'peer' | 'redis-replica' | null;
  readonly version: number;
  readonly findings: readonly {
    readonly place: 'document' | 'log' | 'checkpoint';
    readonly name: string;
    readonly expected: string;
    readonly found: string;
  }[];
  readonly offset: number | null;
}

export interface SealOptions extends CallOptions {
  /** Is told after each context how many were looked at. */
  readonly progress?: (looked: number) => void;
}

export interface SealResult {
  readonly looked: number;
  /** Contexts that could not be sealed. */
  readonly failed: readonly string[];
}

/** From where a context is written anew. `ttl` as for `update`: without it the expiry stays that there is. */
export type RestoreSource = ({ readonly version: number } | { readonly quarantined: true } | { readonly value: unknown }) & {
  readonly ttl?: Duration | 'keep' | 'none';
};

export interface QuarantinedContext {
  readonly id: string;
  /** As it was stored; it may be part of what is damaged. */
  readonly version: number;
  readonly bytes: number;
  readonly why: string;
  /** When it was moved, ms since the epoch. */
  readonly at: number;
  readonly by: string;
}

export interface ShardStats {
  readonly shard: number;
  readonly contexts: number;
  /** Real bytes of contexts and their logs, accounted commit by commit. */
  readonly bytes: number;
  /** Of these, bytes of checkpoints: compressed copies that contexts are rebuilt from. */
  readonly checkpointBytes: number;
  /** Contexts in quarantine, and their real bytes, which are not in `bytes`. */
  readonly quarantined: number;
  readonly quarantineBytes: number;
  /** Real bytes of the shard's own indexes and accounts, measured now. */
  readonly indexBytes: number;
}

/** Counters of one store instance since it was opened, and the accounts of its namespace. */
export interface StoreStats {
  readonly namespace: string;
  readonly instanceId: string;
  readonly shards: readonly ShardStats[];
  readonly replicas: {
    readonly count: number;
    readonly bytes: number;
    readonly live: number;
    readonly hits: number;
    readonly misses: number;
  };
  /** Frames received, by what travelled; `documentBytes` are those of the documents that they led to. */
  readonly frames: {
    readonly splice: number;
    readonly patch: number;
    readonly full: number;
    readonly bytes: number;
    readonly documentBytes: number;
  };
  /** Documents sent by this instance: as splices, and whole. */
  readonly delta: {
    readonly mode: 'off' | 'shadow' | 'on';
    /** The protocol in which it writes; 1 until the namespace is upgraded. */
    readonly protocol: 1 | 2;
    readonly spliced: number;
    readonly whole: number;
    /** Bytes of the documents that were spliced (in shadow: would have been), and of what was sent for them. */
    readonly documentBytes: number;
    readonly splicedBytes: number;
    /** In shadow: deltas tried, those that did not give the document, and the bytes that would have been sent to Redis for them. */
    readonly shadowed: number;
    readonly shadowMismatches: number;
    readonly shadowBytes: number;
    /** Splices that Redis refused because it had other bytes; the document was sent then. */
    readonly baseMismatches: number;
    /** Several versions in one. */
    readonly squash: {
      /** Of `frameSince`: questions from who was not at the present, and frames made for them; the others were there already. */
      readonly asked: number;
      readonly made: number;
      /** What was made: splices over all versions between, whole documents, and removals. */
      readonly spliced: number;
      readonly full: number;
      readonly removed: number;
      /** Of replicas: versions that were caught up by the log, and the steps in which they were. */
      readonly caughtUp: number;
      readonly steps: number;
    };
  };
  /** Damage that this instance found, and what became of it; checkpoints it has made. */
  readonly integrity: {
    readonly found: number;
    readonly repaired: { readonly reread: number; readonly log: number; readonly peer: number; readonly redisReplica: number };
    readonly removed: number;
    readonly quarantined: number;
    /** Contexts that had vanished and could not be rebuilt. */
    readonly lost: number;
    readonly checkpoints: { readonly kept: number; readonly stale: number; readonly failed: number; readonly dropped: number };
  };
  /** What predictions did (option `ttl.predict`); null where they are off. */
  readonly ttl: {
    /** Contexts whose use is remembered. */
    readonly tracked: number;
    /** Accesses seen: of one context at most one a tick, which is a tenth of `min`, and a second at most. */
    readonly observed: number;
    /** Expiries put further away, and nearer. */
    readonly extended: number;
    readonly shortened: number;
    /** Calls to Redis that left the expiry as it was. */
    readonly kept: number;
    /** Calls that failed; they are made again. */
    readonly failed: number;
  } | null;
  readonly transactions: {
    readonly committed: number;
    /** Of these, in two phases: over several shards, or too large for one script. */
    readonly distributed: number;
    /** Runs that found something changed which they had read. */
    readonly conflicts: number;
    /** Parts of transactions of others that were ended here, because whoever began them was gone or slow. */
    readonly recovered: { readonly committed: number; readonly aborted: number };
  };
  readonly commits: number;
  readonly conflicts: number;
  readonly resyncs: number;
  readonly checksumFailures: number;
  readonly connection: { readonly commands: 'up' | 'down'; readonly subscriptions: 'up' | 'down' };
}

export interface StoreEvents {
  'context:committed': {
    readonly id: string;
    readonly version: number;
    readonly checksum: string;
    readonly bytes: number;
    readonly frameBytes: number;
    readonly kind: 'splice' | 'patch' | 'full' | 'deleted';
    readonly at: number;
  };
  'context:conflict': { readonly id: string; readonly expected: number; readonly found: number; readonly attempt: number };
  'context:expired': { readonly id: string; readonly version: number; readonly at: number };
  'context:corrupt': {
    readonly id: string;
    readonly namespace: string;
    readonly shard: number;
    readonly version: number;
    readonly expected: string;
    readonly found: string;
    /** Length of what was found, bytes. */
    readonly bytes: number;
    /** Where it differs first from what it should be, counted from 0; null where that is not known (yet: see `context:repaired`). */
    readonly offset: number | null;
    readonly where: 'read' | 'frame' | 'replica' | 'log' | 'checkpoint' | 'verify' | 'commit' | 'scrub' | 'sweep' | 'reconcile';
    /** The instance that found it. */
    readonly instance: string;
  };
  'context:repaired': {
    readonly id: string;
    readonly namespace: string;
    readonly shard: number;
    readonly version: number;
    /** Where the good copy came from. */
    readonly source: 'reread' | 'log' | 'peer' | 'redis-replica';
    /** It was removed, because its log says that it was deleted or has expired. */
    readonly removed: boolean;
    /** Where the damaged document differed first, counted from 0; null where that is not known. */
    readonly offset: number | null;
    readonly instance: string;
  };
  'context:quarantined': {
    readonly id: string;
    readonly namespace: string;
    readonly shard: number;
    readonly version: number;
    readonly why: string;
    readonly instance: string;
  };
  /** It was gone without having been deleted or having expired, and nobody has a good copy; its log is kept for a while. */
  'context:lost': { readonly id: string; readonly namespace: string; readonly shard: number; readonly instance: string };
  /** Part of a transaction over several shards was ended here for who began it: applied, because that was decided, or taken back. */
  'transaction:recovered': { readonly transaction: string; readonly outcome: 'committed' | 'aborted'; readonly shard: number };
  'context:resync': {
    readonly id: string;
    readonly reason: 'gap' | 'reconnect' | 'heartbeat' | 'checksum' | 'overflow';
    readonly from: number;
    readonly to: number;
    readonly full: boolean;
  };
  'connection:up': { readonly connection: 'commands' | 'subscriptions' };
  'connection:down': { readonly connection: 'commands' | 'subscriptions'; readonly reason: string };
}
export type StoreEventName = keyof StoreEvents;

/** What the store needs of a logger; pino and `console`-like loggers with this order of arguments fit. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}
