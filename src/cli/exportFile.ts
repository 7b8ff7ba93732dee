/** An export as a file: there under its name only when it is complete, and under `<name>.partial` until then. */
import { once } from 'node:events';
import { createReadStream, existsSync } from 'node:fs';
import { type FileHandle, open, rename, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createGzip } from 'node:zlib';
import { ContextError } from '../core/errors.js';

/** Lines are gathered to pieces of this size, bytes. */
const PIECE = 256 * 1024;

export const partialOf = (file: string): string => `${file}.partial`;

/** Whether a file is compressed, by its name. */
export const isGzip = (file: string | undefined): boolean => file?.endsWith('.gz') === true;

/**
 * Writes it behind the first `keep` bytes of what is there, and gives it its name when all is on the disk.
 *
 * @param keep - null: nothing of what is there is kept
 */
export async function writeFile(file: string, lines: AsyncIterable<Buffer>, keep: number | null, gzip: boolean): Promise<void> {
  const partial = partialOf(file);
  if (await isFolder(file)) throw new ContextError('INVALID_ARGUMENT', `cannot write ${file}: it is a folder`);
  const handle = await opened(partial, keep === null ? 'w' : 'a');
  try {
    if (keep !== null) await handle.truncate(keep);
    const write = async (chunks: AsyncIterable<Buffer>): Promise<void> => {
      for await (const chunk of chunks) await handle.appendFile(chunk);
    };
    const pieces = gathered(lines);
    if (gzip) await pipeline(pieces, createGzip(), write);
    else await write(pieces);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await named(file);
}

/** What was written completely gets its name: an older file of that name is there until this one is. */
export async function named(file: string): Promise<void> {
  await rename(partialOf(file), file);
  const folder = await open(dirname(file));
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Writes to stdout as fast as that is read. */
export async function writeStdout(lines: AsyncIterable<Buffer>, gzip: boolean, signal: AbortSignal): Promise<void> {
  const write = async (chunks: AsyncIterable<Buffer>): Promise<void> => {
    for await (const chunk of chunks) if (!process.stdout.write(chunk)) await once(process.stdout, 'drain', { signal });
  };
  if (gzip) await pipeline(gathered(lines), createGzip(), write);
  else await write(gathered(lines));
}

async function* gathered(lines: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let parts: Buffer[] = [];
  let length = 0;
  for await (const line of lines) {
    parts.push(line);
    length += line.length;
    if (length < PIECE) continue;
    yield Buffer.concat(parts);
    [parts, length] = [[], 0];
  }
  if (length > 0) yield Buffer.concat(parts);
}

/** A file that an export was interrupted in; null where there is none. */
export const interrupted = (file: string): AsyncIterable<Buffer> | null =>
  existsSync(partialOf(file)) ? createReadStream(partialOf(file)) : null;

export interface Reading {
  /** Bytes of the file; null where that is not known. */
  readonly size: number | null;
  /** Its content from the beginning, uncompressed; `read` counts bytes of the file. */
  open(read: (bytes: number) => void): AsyncIterable<Buffer>;
}

/** @param file - undefined: stdin, which can be read once. @param partial - a compressed file may end early */
export async function reading(file: string | undefined, gzip: boolean, partial: boolean): Promise<Reading> {
  const size = file === undefined ? null : await sizeOf(file);
  const raw = (): NodeJS.ReadableStream => (file === undefined ? process.stdin : createReadStream(file));
  return { size, open: (read) => content(raw(), gzip, partial, read) };
}

async function* content(
  raw: NodeJS.ReadableStream,
  gzip: boolean,
  partial: boolean,
  read: (bytes: number) => void,
): AsyncGenerator<Buffer> {
  const counted = (async function* () {
    for await (const chunk of raw as AsyncIterable<Buffer>) {
      read(chunk.length);
      yield chunk;
    }
  })();
  if (!gzip) {
    yield* counted;
    return;
  }
  const gunzip = createGunzip();
  const fed = pipeline(counted, gunzip).catch(() => {});
  try {
    for await (const chunk of gunzip) yield chunk as Buffer;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code?.startsWith('Z_') !== true) throw error;
    if (code === 'Z_BUF_ERROR' && partial) return;
    const why = code === 'Z_BUF_ERROR' ? 'it ends too early' : message;
    throw new ContextError('CORRUPT', `the compressed data of the export is damaged: ${why}`, { cause: error });
  } finally {
    gunzip.destroy();
    await fed;
  }
}

async function sizeOf(file: string): Promise<number> {
  const found = await stat(file).catch((error: Error) => {
    throw new ContextError('INVALID_ARGUMENT', `cannot read ${file}: ${error.message}`, { cause: error });
  });
  if (found.isDirectory()) throw new ContextError('INVALID_ARGUMENT', `cannot read ${file}: it is a folder`);
  return found.size;
}

const isFolder = (file: string): Promise<boolean> =>
  stat(file).then(
    (found) => found.isDirectory(),
    () => false,
  );

async function opened(file: string, flags: string): Promise<FileHandle> {
  try {
    return await open(file, flags);
  } catch (error) {
    throw new ContextError('INVALID_ARGUMENT', `cannot write ${file}: ${(error as Error).message}`, { cause: error });
  }
}
