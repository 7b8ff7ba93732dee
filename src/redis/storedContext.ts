/** A context as Redis gives it back, in either form: the document as one field, or in chunks under a list of them. Nothing is verified here. */
import { crc32 } from '../core/checksum.js';
import { DocumentText } from '../core/DocumentText.js';
import type { SealedFields } from '../core/seal.js';

export interface StoredChunk {
  readonly name: string;
  readonly bytes: Buffer;
}

export interface StoredContext {
  /** In the order of the document; one named `data` where it is stored whole. */
  readonly chunks: readonly StoredChunk[];
  /** Sum of the chunks, bytes. */
  readonly found: number;
  readonly version: number;
  readonly crc: string;
  /** What the context says its length is, bytes. */
  readonly length: number;
  readonly at: number;
  readonly expiresAt: number | null;
  /** What the seal covers, as it is stored, and the seal; empty where there is none. */
  readonly facts: SealedFields;
  readonly seal: string;
  /** Why the document was moved to quarantine; empty where it was not. */
  readonly quarantined: string;
  /** The mark of a transaction over several shards that is about to change it; empty where there is none. */
  readonly intent: string;
  /** There is nothing but that mark: a transaction is about to create it. */
  readonly placeholder: boolean;
}

/** What a read asks for first; where `chunks` answers and `data` does not, the chunks have to be asked for by name. */
export const READ_FIELDS = ['data', 'v', 'crc', 'len', 'at', 'exp', 'chunks', 'sha', 'seal', 'q', 'intent'] as const;

type Fields = Readonly<Record<string, Buffer | null | undefined>>;

const optional = (word: Buffer | null | undefined): number | null =>
  word === null || word === undefined || word.length === 0 || word.toString() === '-' || Number(word) === 0 ? null : Number(word);

const EMPTY = Buffer.alloc(0);

/** The fields of {@link READ_FIELDS} by name. */
export function named(reply: readonly (Buffer | null | undefined)[]): Fields {
  return Object.fromEntries(READ_FIELDS.map((name, index) => [name, reply[index]]));
}

/** Whether it is stored in chunks, which these fields may not have. */
export const isChunked = (fields: Fields): boolean => !fields.data && Boolean(fields.chunks);

/** Where the chunks of a stored document lie in it. */
export interface Layout {
  readonly version: number;
  readonly crc: string;
  readonly chunks: readonly { readonly name: string; readonly from: number; readonly to: number }[];
}

/** The ranges of the chunks that a list names, one after the other. */
export function chunkRanges(manifest: string): { readonly name: string; readonly from: number; readonly to: number }[] {
  let from = 0;
  return [...manifest.matchAll(/^(d\d+) (\d+) /gm)].map(([, name = '', length]) => {
    const to = from + Number(length);
    const range = { name, from, to };
    from = to;
    return range;
  });
}

/** The context, or null where there is none (yet). */
export function storedContext(fields: Fields): StoredContext | null {
  const stored = storedOrIntended(fields);
  return stored?.placeholder === true ? null : stored;
}

/**
 * The context, or what a transaction has left where it is about to create one. A chunk that the list names and that is not there is empty:
 * its length and checksum will tell.
 */
export function storedOrIntended(fields: Fields): StoredContext | null {
  const { data, v, crc, len, at, exp, chunks: manifest, sha, seal, q, intent } = fields;
  const placeholder = !v && !data && !manifest && !crc && !sha && !len;
  if (placeholder && !intent) return null;
  const text = (bytes: Buffer | null | undefined): string => bytes?.toString() ?? '';
  const chunks: StoredChunk[] = [];
  if (!data && manifest) {
    for (const { name } of chunkRanges(manifest.toString('latin1'))) chunks.push({ name, bytes: fields[name] ?? EMPTY });
  } else chunks.push({ name: 'data', bytes: data ?? EMPTY });
  return {
    chunks,
    found: chunks.reduce((sum, { bytes }) => sum + bytes.length, 0),
    version: Number(v ?? Number.NaN),
    crc: crc?.toString() ?? '',
    length: Number(len ?? Number.NaN),
    at: Number(at ?? Number.NaN),
    expiresAt: optional(exp),
    facts: { v: text(v), crc: text(crc), sha: text(sha), len: text(len), at: text(at), exp: exp ? text(exp) : null },
    seal: text(seal),
    quarantined: text(q),
    intent: text(intent),
    placeholder,
  };
}

/** CRC-32 over the chunks, 8 hex digits. */
export const crcOf = ({ chunks }: StoredContext): string =>
  chunks
    .reduce((crc, { bytes }) => crc32(bytes, crc), 0)
    .toString(16)
    .padStart(8, '0');

/** The document as text for the parser. */
export const textOf = ({ chunks }: StoredContext): string =>
  chunks.length === 1 ? (chunks[0] as StoredChunk).bytes.toString() : Buffer.concat(chunks.map(({ bytes }) => bytes)).toString();

/** The document's bytes, joined. */
export const bytesOf = ({ chunks }: StoredContext): Buffer => Buffer.concat(chunks.map(({ bytes }) => bytes));

/** The bytes as they are shared by replicas, or null where making them anew from the value is as good. */
export const sharedText = ({ chunks }: StoredContext): DocumentText | null =>
  chunks[0]?.name === 'data' ? null : DocumentText.stored(chunks);
