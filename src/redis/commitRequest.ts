/** What a commit sends: the document or how Redis makes it of the stored one, what subscribers get, and under which conditions. */
import type { Argument, Deadline } from './RedisConnection.js';

/** How Redis comes by the new bytes. */
export type Storage =
  /** As one field, sent as it is. */
  | { readonly form: 'whole'; readonly data: string | Buffer }
  /** By a plan (src/core/storagePlan.ts): `data` is what it takes inserted bytes from, `chunks` are whole ones. */
  | { readonly form: 'plan'; readonly plan: string; readonly data: Buffer; readonly chunks: readonly Buffer[] };

export interface Payload {
  readonly kind: 'full' | 'patch' | 'splice';
  readonly encoding: '-' | 'gz' | 'br';
  /** Null: what `storage.data` is, so that it need not be sent twice. */
  readonly bytes: string | Buffer | null;
}

export interface CommitRequest {
  readonly id: string;
  readonly operation: string;
  /** Length (bytes) and checksums of the new document; `sha1` as its form has it. */
  readonly length: number;
  readonly crc: string;
  readonly sha1: string;
  readonly storage: Storage;
  readonly payload: Payload;
  /** What payload and plan build on; `sha1` null where only the payload does. */
  readonly base: { readonly version: number; readonly crc: string; readonly sha1: string | null } | null;
  readonly ifVersion: number | null;
  readonly ifCrc: string | null;
  readonly ttl: number | 'keep' | 'none';
  /** Fencing token of the lock that it is made with, 0 without one. */
  readonly fence: number;
}

export interface RemoveRequest {
  readonly id: string;
  readonly operation: string;
  readonly ifVersion: number | null;
  readonly fence: number;
}

/** The mark of a transaction over several shards in a context that it is about to change. */
export interface Intent {
  readonly txn: string;
  /** Time by Redis's clock after which anybody may end what was not decided, ms. */
  readonly deadline: number;
  /** Number of the part that the context is in. */
  readonly part: number;
  /** Shard that has the record of part 0, with the decision. */
  readonly home: number;
}

/** The intent in a context's field, or null where there is none or it is malformed. */
export function parseIntent(field: string): Intent | null {
  const [, txn, deadline, part, home] = /^(\S+) (\d+) (\d+) (\d+)$/.exec(field) ?? [];
  return txn === undefined ? null : { txn, deadline: Number(deadline), part: Number(part), home: Number(home) };
}

/** Ends what stands in the way of others, once it is known how: see `src/transactions/IntentSettler.ts`. */
export interface Intents {
  /**
   * Waits until the intent is out of the way, however long the call has, or until `giveUpAt` on the monotonic clock; it asks once at least.
   *
   * @throws ContextError `LOCKED` where its time ends before
   */
  settled(id: string, intent: Intent, deadline: Deadline, giveUpAt?: number): Promise<void>;
  /** Takes back what is not decided, and settles it; what was committed before stands. */
  ended(id: string, intent: Intent, deadline: Deadline): Promise<void>;
  /** Whether what was read beside the intent is to be read again: false where it was right when it was read. */
  overtaken(id: string, intent: Intent, deadline: Deadline): Promise<boolean>;
}

export interface Conflict {
  readonly status: 'conflict';
  readonly version: number;
}

/** The plan builds on other bytes than are stored: nothing was written. */
export interface BaseMismatch {
  readonly status: 'baseMismatch';
  readonly version: number;
  /** The stored chunk that does not have its SHA-1; null where the stored document is just another one. */
  readonly damaged: string | null;
}

/** The stored fields do not have their seal: nothing was written. */
export interface FieldsDamaged {
  readonly status: 'damaged';
}

export interface Committed {
  readonly status: 'committed';
  readonly version: number;
  readonly at: number;
  readonly kind: 'patch' | 'full' | 'splice';
  readonly frameBytes: number;
  readonly expiresAt: number | null;
  readonly memoryBytes: number;
  /** The log does not reach back to a whole document that is near enough: a checkpoint is wanted. */
  readonly checkpointDue: boolean;
  /** An earlier attempt had done it: what else a commit answers is not known any more. */
  readonly repeated: boolean;
}

/** The arguments that have no checksum of their own: those that the guard covers. @param keys - of the script */
export function guardedArguments(args: readonly Argument[], kind: Payload['kind']): Argument[] {
  const [data = '', payload = '', ...rest] = args;
  const framed = byteLength(payload) === 0 && kind !== 'full' ? data : payload;
  return [framed, ...rest.slice(0, 4)];
}

const byteLength = (argument: Argument): number => (Buffer.isBuffer(argument) ? argument.length : String(argument).length);

/** The first words of the script's header; those of the attempt and the settings follow. */
export function commitHeader(request: CommitRequest, by: string): string {
  const { operation, ifVersion, ifCrc, base, sha1, crc, length, ttl } = request;
  const built = base === null ? '0 - -' : `${base.version} ${base.crc} ${base.sha1 ?? '-'}`;
  return `${operation} ${by} ${ifVersion ?? '-'} ${ifCrc || '-'} ${built} ${sha1} ${crc} ${length} ${ttl}`;
}

/** The script's arguments around its header. */
export function commitArguments(request: CommitRequest, header: string, channel: string): Argument[] {
  const { storage, payload, id } = request;
  const bytes = payload.bytes ?? '';
  if (storage.form === 'whole') return [storage.data, bytes, header, id, channel, ''];
  return [storage.data, bytes, header, id, channel, storage.plan, ...storage.chunks];
}

/** Number of the first argument after those that every commit has: where whole chunks begin. */
export const FIRST_CHUNK_ARGUMENT = 7;
/** What plans name as the source of inserted bytes: alone, and where they are sent as the frame's payload. */
export const DATA_ARGUMENT = 1;
