/** The arguments of the scripts that write, as a client sends them, for tests that call the scripts as they are. */
import { randomBytes } from 'node:crypto';
import { crc32Hex, sha1Hex } from '../../src/core/checksum.js';
import { guardedArguments } from '../../src/redis/commitRequest.js';
import type { ContextKeys } from '../../src/redis/keys.js';

type Argument = string | number | Buffer;

/** What a retry carries: ms by Redis's clock; `previousTill` 0 is a first attempt. */
export interface Attempt {
  readonly till?: number;
  readonly previousTill?: number;
  readonly firstSent?: number;
}

export interface CommitOptions extends Attempt {
  readonly op?: string;
  readonly by?: string;
  readonly ifVersion?: number;
  readonly ifCrc?: string;
  /** Payload of the frame, and what it builds on. */
  readonly patch?: { readonly text: string | Buffer; readonly baseVersion: number; readonly baseCrc: string };
  readonly kind?: 'full' | 'patch' | 'splice';
  readonly encoding?: string;
  readonly protocol?: 1 | 2;
  /** Whether a missing seal is damage. */
  readonly sealed?: 0 | 1;
  /** How the document is made, instead of being sent; `baseSha` where it is of the stored one. */
  readonly plan?: {
    readonly text: string;
    readonly data: Buffer | string;
    readonly chunks?: readonly Buffer[];
    readonly baseSha?: string;
  };
  readonly ttl?: number | 'keep' | 'none';
  /** The lock book is given a writer with this token, unless it is `unheld`. */
  readonly fence?: number;
  readonly unheld?: true;
  readonly logKeep?: number;
  readonly logBytes?: number;
  readonly keyframe?: number;
  readonly tombstone?: number;
  readonly grace?: number;
  /** What the client says of its document, where that shall be wrong. */
  readonly claims?: { readonly sha?: string; readonly crc?: string; readonly length?: number };
  /** Lua that stands before the script's first statement. */
  readonly prelude?: string;
}

export interface DeleteOptions extends Attempt {
  readonly op?: string;
  readonly by?: string;
  readonly ifVersion?: number;
  readonly ifCrc?: string;
  /** The lock book is given a writer with this token, unless it is `unheld`. */
  readonly fence?: number;
  readonly unheld?: true;
  readonly tombstone?: number;
  readonly protocol?: 1 | 2;
  /** Whether a missing seal is damage. */
  readonly sealed?: 0 | 1;
}

/** Later than any test runs, and as many digits as a time of today. */
export const FAR_MS = 9_999_999_999_999;
export const TOMBSTONE_MS = 3_600_000;
export const GRACE_MS = 60_000;
const COMMIT_DEFAULTS = { logKeep: 64, logBytes: 1_048_576, keyframe: 32, tombstone: TOMBSTONE_MS, grace: GRACE_MS };

/** A new operation id; scripts take any word. */
export const operation = (): string => randomBytes(8).toString('hex');

/** All arguments of `commit` but its guard, and those that the guard covers. */
export function commitArguments(
  { channel }: ContextKeys,
  id: string,
  document: string | Buffer,
  options: CommitOptions,
): { readonly args: Argument[]; readonly guarded: Argument[] } {
  const { op = operation(), by = 'tester', ifVersion, ifCrc, patch, ttl = 'keep', fence = 0, claims = {} } = options;
  const { logKeep, logBytes, keyframe, tombstone, grace } = { ...COMMIT_DEFAULTS, ...options };
  const { sha = sha1Hex(document), crc = crc32Hex(document), length = Buffer.byteLength(document) } = claims;
  const { kind = patch === undefined ? 'full' : 'patch', encoding = '-', protocol = 2, plan } = options;
  const base = patch === undefined ? '0 -' : `${patch.baseVersion} ${patch.baseCrc}`;
  const words = `${op} ${by} ${ifVersion ?? '-'} ${ifCrc ?? '-'} ${base} ${plan?.baseSha ?? '-'} ${sha} ${crc} ${length} ${ttl}`;
  const settings = `${logKeep} ${logBytes} ${keyframe} ${tombstone} ${grace} PUBLISH ${protocol} ${options.sealed ?? 0}`;
  const header = `${words} ${attempt(options)} ${fence} ${kind} ${encoding} ${settings}`;
  const data = plan === undefined ? document : plan.data;
  const args = [data, patch?.text ?? '', header, id, channel, plan?.text ?? '', ...(plan?.chunks ?? [])];
  return { args, guarded: guardedArguments(args, kind) };
}

/** All arguments of `delete` but its guard. */
export function deleteArguments({ channel }: ContextKeys, id: string, options: DeleteOptions): string[] {
  const { op = operation(), by = 'tester', ifVersion, ifCrc, fence = 0, tombstone = TOMBSTONE_MS } = options;
  const header = `${op} ${by} ${ifVersion ?? '-'} ${ifCrc ?? '-'} ${attempt(options)} ${fence}`;
  return [header, `${tombstone} PUBLISH ${options.protocol ?? 2} ${options.sealed ?? 0}`, id, channel];
}

function attempt({ till = FAR_MS, previousTill = 0, firstSent = 0 }: Attempt): string {
  return `${till} ${previousTill} ${firstSent}`;
}
