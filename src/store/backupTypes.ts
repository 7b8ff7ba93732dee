/** What export and import take and give back. */
import type { ContextError } from '../core/errors.js';
import type { Lock } from '../locks/types.js';
import type { ExportPoint } from './ExportPoint.js';
import type { CallOptions, Duration } from './types.js';

/** Bytes of an export in pieces of any size: a stream, or what `export` gives. */
export type ExportSource = AsyncIterable<Uint8Array | string> | Iterable<Uint8Array | string>;

export interface ExportProgress {
  /** Contexts and bytes of documents written so far. */
  readonly contexts: number;
  readonly bytes: number;
  /** Contexts left out because they are damaged and nobody has a good copy. */
  readonly damaged: number;
  /** Contexts that there were at the beginning, whatever their prefix. */
  readonly total: number;
}

/** `timeout` is that of each step. */
export interface ExportOptions extends CallOptions {
  /** Only ids that begin with this. */
  readonly prefix?: string;
  /** Where an interrupted one can be gone on with, as `exportPoint` found it: what comes out belongs behind the first `length` bytes of its file. */
  readonly resume?: ExportPoint;
  readonly progress?: (progress: ExportProgress) => void;
  /** Is told of each context that is left out. */
  readonly damaged?: (id: string, error: ContextError) => void;
}

/** What is done with a context of an export where there is one already that has another document. */
export type IfExists = 'skip' | 'replace' | 'newer' | 'fail';

export interface ImportProgress {
  /** Lines of the export, and contexts in them, that were read so far. */
  readonly lines: number;
  readonly contexts: number;
  /** Bytes of the export. */
  readonly read: number;
}

/** `timeout` is that of each step. */
export interface ImportOptions extends CallOptions {
  /**
   * `skip`: the one that is there stays; `replace`: it is overwritten; `newer`: only where its last commit is older than that of the export;
   * `fail`: `CONFLICT`. A context that has the very document already is the same whatever is said here, and one in quarantine does not
   * count as there. @defaultValue 'skip'
   */
  readonly ifExists?: IfExists;
  /** Take an export that has no trailer. */
  readonly partial?: boolean;
  /** Pass over damaged lines and documents that are refused, and report them, instead of ending with the first. */
  readonly skipDamaged?: boolean;
  /** Find out what would be done, and write nothing. */
  readonly dryRun?: boolean;
  /** Writes under way at a time, 1 to 256. @defaultValue 16 */
  readonly concurrency?: number;
  readonly progress?: (progress: ImportProgress) => void;
}

export interface ImportResult {
  /** Contexts read. */
  readonly contexts: number;
  /** Bytes of their documents. */
  readonly bytes: number;
  readonly created: number;
  /** Written over another document, or over damage. */
  readonly replaced: number;
  /** There already, to the byte. */
  readonly same: number;
  /** Left as they are, because others are there (`ifExists`). */
  readonly kept: number;
  /** Left out, because their time is over. */
  readonly expired: number;
  /**
   * Lines passed over (`skipDamaged`), the first 10,000 of them with why, and how many there are. The trailer is one of them where it counts other
   * contexts than there are lines, whole and damaged.
   */
  readonly damaged: readonly { readonly line: number; readonly id: string | null; readonly why: string }[];
  readonly damagedCount: number;
  /** Contexts that the export left out because they were damaged where it was made. */
  readonly leftOut: number;
  /** Contexts that the trailer counts, and that no line is there for, not even a damaged one (`skipDamaged`). */
  readonly missing: number;
  /** Whether the export has its trailer, and no line is missing, doubled or moved, as far as that can be told beside damaged ones. */
  readonly complete: boolean;
}

/** `timeout` is that of each step. */
export interface PreserveOptions extends CallOptions {
  /** How long the snapshot is kept. @defaultValue '7d' */
  readonly ttl?: Duration | 'none';
  /** Let go of another snapshot of this name; else that is a `CONFLICT`. @defaultValue false */
  readonly replace?: boolean;
}

export interface SnapshotSummary {
  readonly name: string;
  /** When it was made, by Redis's clock, ms since the epoch. */
  readonly at: number;
  /** The instance that made it. */
  readonly by: string;
  /** Contexts in it, those included that did not exist. */
  readonly contexts: number;
  /** Bytes of their documents. */
  readonly bytes: number;
  readonly expiresAt: number | null;
}

export interface PreserveResult extends SnapshotSummary {
  /** Those that did not exist: they are deleted when it is restored. */
  readonly absent: readonly string[];
}

/** `timeout` is that of each step. */
export interface RestoreSnapshotOptions extends CallOptions {
  /** Time to live of all that is restored, from now on. Without it each keeps the expiry that it had, as a point in time. */
  readonly ttl?: Duration | 'none';
  /** Of a snapshot that was made of a prefix: leave what has been created under it since as it is; else that is deleted. @defaultValue false */
  readonly keepNew?: boolean;
  /** Find out what would be done, and write nothing. @defaultValue false */
  readonly dryRun?: boolean;
  /**
   * As for `transaction`. true: all that is written and deleted is locked meanwhile. A lock that is held already: what it covers is written and deleted
   * with its fencing tokens, and where it is lost by then nothing is (`FENCED`). @defaultValue false
   */
  readonly lock?: boolean | Lock;
}

export interface RestoreSnapshotResult {
  readonly name: string;
  /** When the snapshot was made. */
  readonly at: number;
  readonly restored: readonly string[];
  /** They did not exist when it was made. */
  readonly deleted: readonly string[];
  /** Their time has come since: they were deleted. */
  readonly expired: readonly string[];
  /** Created since, under the prefix that the snapshot was made of: they were deleted, or left as they are with `keepNew`. */
  readonly createdSince: readonly string[];
}
