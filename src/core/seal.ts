/**
 * Checksums of what stands around the bytes: of a context's fields, which binds its document to its id and version, so that bytes or whole
 * contexts that were swapped or put back are found; of an entry of the delta log; and of a request and its reply, because RESP has none
 * (docs/INTEGRITY.md). `lua/include/seal.lua` and `guard.lua` are the same in Redis.
 */
import { sha1Hex } from './checksum.js';

/** The fields that a seal covers, as they are stored; `exp` null where there is none. */
export interface SealedFields {
  readonly v: string | number;
  readonly crc: string;
  readonly sha: string;
  readonly len: string | number;
  readonly at: string | number;
  readonly exp: string | number | null;
}

/** SHA-1 of a context's facts, 40 hex digits. */
export const sealOf = (id: string, { v, crc, sha, len, at, exp }: SealedFields): string =>
  sha1Hex(`${v} ${crc} ${sha} ${len} ${at} ${exp ?? '-'} ${id}`);

/** An entry of the delta log, as it is stored. */
export interface SummedEntry {
  /** `<version>-<place>`. */
  readonly entryId: string;
  readonly kind: string;
  readonly encoding: string;
  readonly base: string;
  readonly crc: string;
  readonly sha: string;
  readonly length: string;
  readonly at: string;
  readonly exp: string;
  readonly operation: string;
  readonly by: string;
  readonly frame: Buffer;
}

/** SHA-1 of an entry, its first 16 hex digits. A whole document as it is has its own checksum in the entry, so it is not hashed again. */
export function entrySum(id: string, entry: SummedEntry): string {
  const { entryId, kind, encoding, base, crc, sha, length, at, exp, operation, by, frame } = entry;
  const words = `${entryId} ${kind} ${encoding} ${base} ${crc} ${sha} ${length} ${at} ${exp} ${operation} ${by} ${id}\n`;
  const whole = kind === 'full' && encoding === '-';
  return sha1Hex(whole ? words : Buffer.concat([Buffer.from(words), frame])).slice(0, 16);
}

/** Whether an entry has its checksum, and a whole document in it its own. */
export const isSoundEntry = (id: string, entry: SummedEntry, sum: string): boolean => {
  const whole = entry.kind === 'full' && entry.encoding === '-' && entry.frame.length > 0;
  return sum === entrySum(id, entry) && (!whole || sha1Hex(entry.frame) === entry.sha);
};

/** The last argument of a guarded script. @param parts - all keys, then the arguments that have no checksum of their own */
export function guardOf(salt: string, parts: readonly (string | number | Buffer)[]): string {
  let text = `${salt}\n`;
  if (parts.some(Buffer.isBuffer)) {
    const lines = parts.map((part, index) =>
      Buffer.concat([Buffer.from(index === 0 ? '' : '\n'), Buffer.isBuffer(part) ? part : Buffer.from(String(part))]),
    );
    return `${salt}:${sha1Hex(Buffer.concat([Buffer.from(text), ...lines])).slice(0, 16)}`;
  }
  text += parts.join('\n');
  return `${salt}:${sha1Hex(text).slice(0, 16)}`;
}

/** What a guarded script puts at the end of its answer. */
export function answerCheck(salt: string, words: readonly (string | number | Buffer)[]): string {
  const text = words.some(Buffer.isBuffer)
    ? Buffer.concat([
        Buffer.from(salt),
        ...words.flatMap((word) => [SPACE, Buffer.isBuffer(word) ? word : Buffer.from(String(word))]),
      ])
    : `${salt} ${words.join(' ')}`;
  return sha1Hex(text).slice(0, 8);
}

const SPACE = Buffer.from(' ');
