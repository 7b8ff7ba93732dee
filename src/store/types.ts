import type { JsonValue } from '../core/json.js';
import type { Patch } from '../core/patch.js';

export type { Change, Context } from '../core/context.js';

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

export interface DeleteOptions extends CallOptions {
  /** Delete only if the context has this version; otherwise `CONFLICT`. */
  readonly ifVersion?: number;
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
  readonly kind: 'splice' | 'patch' | 'full' | 'deleted' | 'expired';
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
    readonly name: 'length' | 'sha1' | 'crc32' | 'json' | 'log';
    readonly ok: boolean;
    readonly stored: string;
    readonly computed: string;
  }[];
}

export interface ShardStats {
  readonly shard: number;
  readonly contexts: number;
  /** Real bytes of contexts and their logs, accounted commit by commit. */
  readonly bytes: number;
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
    /** In shadow: splices tried, those that did not give the document, and their bytes. */
    readonly shadowed: number;
    readonly shadowMismatches: number;
    readonly shadowBytes: number;
    /** Splices that Redis refused because it had other bytes; the document was sent then. */
    readonly baseMismatches: number;
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
    readonly version: number;
    readonly expected: string;
    readonly found: string;
    readonly bytes: number;
    readonly where: 'read' | 'frame' | 'log' | 'verify' | 'commit';
  };
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
