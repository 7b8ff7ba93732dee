/**
 * Compression of payloads, and the decision whether it pays: measured in docs/decisions/0007-compression.md. Where a commit waits for it, it
 * runs on the event loop, and the effort falls as the payload grows; whole documents that nobody waits for are compressed in a thread.
 */
import { promisify } from 'node:util';
import { brotliCompress, brotliCompressSync, brotliDecompressSync, constants, gunzipSync } from 'node:zlib';
import { ContextError } from './errors.js';

/** `-`: as it is; `gz`: gzip (RFC 1952); `br`: brotli (RFC 7932). */
export type Encoding = '-' | 'gz' | 'br';

/** Below this it would save less than the header line has. */
const LEAST_BYTES = 150;
/** A compressed form must save so many bytes, and so large a share of them: every subscriber has to undo it. */
const LEAST_SAVED_BYTES = 24;
const LEAST_SAVED_SHARE = 0.1;
/** Brotli's quality for payloads of so many bytes at most; a longer one goes as it is. Each takes 5 ms at the most, the last 10 ms. */
const QUALITIES: readonly (readonly [mostBytes: number, quality: number])[] = [
  [32 * 1024, 5],
  [512 * 1024, 2],
  [2 * 1024 * 1024, 1],
];

/** The same in a thread, where it may take longer: every document is worth it. */
const APART: readonly (readonly [mostBytes: number, quality: number])[] = [
  [128 * 1024, 5],
  [2 * 1024 * 1024, 3],
  [Number.POSITIVE_INFINITY, 1],
];
const inThread = promisify(brotliCompress);

const brotliParams = (quality: number, bytes: number) => ({
  [constants.BROTLI_PARAM_MODE]: constants.BROTLI_MODE_TEXT,
  [constants.BROTLI_PARAM_QUALITY]: quality,
  [constants.BROTLI_PARAM_SIZE_HINT]: bytes,
});

/** The payload in the form in which it travels. */
export function compress(payload: Buffer): { readonly encoding: Encoding; readonly bytes: Buffer } {
  const plain = { encoding: '-', bytes: payload } as const;
  const quality = QUALITIES.find(([mostBytes]) => payload.length <= mostBytes)?.[1];
  if (payload.length < LEAST_BYTES || quality === undefined) return plain;
  const bytes = brotliCompressSync(payload, { params: brotliParams(quality, payload.length) });
  const saved = payload.length - bytes.length;
  return saved >= LEAST_SAVED_BYTES && saved >= payload.length * LEAST_SAVED_SHARE ? { encoding: 'br', bytes } : plain;
}

/** A whole document, compressed off the event loop where that makes it smaller. */
export async function compressApart(document: Buffer): Promise<{ readonly encoding: Encoding; readonly bytes: Buffer }> {
  const quality = APART.find(([mostBytes]) => document.length <= mostBytes)?.[1] ?? 1;
  const bytes = await inThread(document, { params: brotliParams(quality, document.length) });
  return bytes.length < document.length ? { encoding: 'br', bytes } : { encoding: '-', bytes: document };
}

/**
 * Undoes {@link compress}, and reads gzip too, which other writers may have at hand.
 *
 * @throws ContextError `BAD_FRAME` where it is damaged, or would be longer than `maxBytes`: no more memory than that is taken.
 */
export function decompress(encoding: Encoding, bytes: Buffer, maxBytes: number): Buffer {
  if (encoding === '-') {
    if (bytes.length > maxBytes) throw refused(`it has ${bytes.length} bytes, more than ${maxBytes}`);
    return bytes;
  }
  try {
    // zlib takes no limit of 0
    const options = { maxOutputLength: Math.max(1, maxBytes) };
    const plain = encoding === 'gz' ? gunzipSync(bytes, options) : brotliDecompressSync(bytes, options);
    if (plain.length <= maxBytes) return plain;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_BUFFER_TOO_LARGE')
      throw refused(`its ${encoding === 'gz' ? 'gzip' : 'brotli'} data is damaged`, error);
  }
  throw refused(`it decompresses to more than ${maxBytes} bytes`);
}

const refused = (why: string, cause?: unknown): ContextError =>
  new ContextError('BAD_FRAME', `a payload was refused: ${why}; the replica takes the full document instead`, { cause });
