/** Reads an export from anywhere, line by line in bounded memory, and verifies every byte of it on the way. */
import { createHash } from 'node:crypto';
import { ContextError, isContextError } from '../core/errors.js';
import {
  damagedLine,
  type ExportHeader,
  type ExportRecord,
  type ExportTrailer,
  readRecord,
  wasMark,
} from '../core/exportFormat.js';
import type { ExportSource } from './backupTypes.js';
import { ExportPoint } from './ExportPoint.js';

/** Longest line: a document of 8 MiB in base64, its id, and room. */
const LONGEST = 12 * 1024 * 1024;
const LINE_FEED = 0x0a;
/** What gzip begins with (RFC 1952). */
const GZIP = [0x1f, 0x8b] as const;

/** A line without its end. */
export interface RawLine {
  readonly bytes: Buffer;
  /** From 1. */
  readonly number: number;
  /** Whether a line feed stands behind it: the last one of a file that was cut off has none. */
  readonly whole: boolean;
}

/** The lines of a source. @throws ContextError `CORRUPT` where one is longer than any line of an export */
export async function* linesOf(source: ExportSource): AsyncGenerator<RawLine> {
  let parts: Buffer[] = [];
  let [length, number] = [0, 1];
  for await (const given of source) {
    const chunk = typeof given === 'string' ? Buffer.from(given) : Buffer.from(given.buffer, given.byteOffset, given.byteLength);
    let from = 0;
    for (let at = chunk.indexOf(LINE_FEED); at >= 0; at = chunk.indexOf(LINE_FEED, from)) {
      yield { bytes: Buffer.concat([...parts, chunk.subarray(from, at)]), number, whole: true };
      parts = [];
      [length, number, from] = [0, number + 1, at + 1];
    }
    if (from < chunk.length) parts.push(chunk.subarray(from));
    length += chunk.length - from;
    if (length > LONGEST) throw damagedLine(number, `it is longer than ${LONGEST} bytes`, LONGEST, length);
  }
  if (length > 0) yield { bytes: Buffer.concat(parts), number, whole: false };
}

export interface ReadLine {
  readonly line: number;
  readonly record: ExportRecord;
  /** Of the trailer: contexts that it counts, and that no line is there for, not even a damaged one. */
  readonly missing?: number;
  /** Of the trailer: whether nothing is missing, doubled or moved, as far as that can be told beside damaged lines. */
  readonly whole?: boolean;
}

export interface ReaderOptions {
  /** Is told of each damaged line, which is passed over, and of the trailer where it counts others; without it the first one ends it. */
  readonly damaged?: (line: number, error: ContextError) => void;
  /** Do without a trailer. */
  readonly partial?: boolean;
}

/**
 * The records of an export, the header first. What they are together is judged at the end: nothing is missing, and nothing stands behind the
 * trailer.
 *
 * @throws ContextError `CORRUPT` with the number of the line and what differs, or where there is no trailer; `INVALID_ARGUMENT` where it is no
 * export of a version that is known
 */
export async function* readExport(source: ExportSource, options: ReaderOptions = {}): AsyncGenerator<ReadLine> {
  const { damaged, partial = false } = options;
  const whole = createHash('sha256');
  let trailer: ExportTrailer | null = null;
  // of the damaged lines those apart that may have been contexts
  let [contexts, bytes, last, faults, lost] = [0, 0, 0, 0, 0];
  const fault = (line: number, error: unknown): void => {
    if (damaged === undefined || !isContextError(error) || error.code !== 'CORRUPT') throw error;
    faults += 1;
    damaged(line, error);
  };
  for await (const { bytes: raw, number: line, whole: ended } of linesOf(source)) {
    last = line;
    try {
      if (trailer !== null) throw damagedLine(line, 'it stands behind the trailer', 'the end', raw.length);
      if (line === 1 && raw[0] === GZIP[0] && raw[1] === GZIP[1])
        throw new ContextError('INVALID_ARGUMENT', 'the export is compressed (gzip): it has to be read as such');
      const record = readRecord(raw, line);
      if ((record.kind === 'header') !== (line === 1)) throw misplaced(line);
      if (record.kind === 'context') {
        contexts += 1;
        bytes += record.data.length;
      }
      if (record.kind === 'end') {
        trailer = record;
        const wrong =
          faults === 0
            ? differing(record, line, { contexts, bytes, sha256: whole.copy().digest('hex') })
            : uncounted(record, line, contexts, lost);
        if (wrong !== null) fault(line, wrong);
        yield { line, record, missing: Math.max(0, record.contexts - contexts - lost), whole: wrong === null };
        continue;
      }
      yield { line, record };
    } catch (error) {
      // a last line without its end was cut off: what is missing is said below
      if (ended || trailer !== null || !isDamage(error)) fault(line, error);
      if (line > 1 && !wasMark(raw)) lost += 1;
    }
    whole.update(raw).update(ended ? '\n' : '');
  }
  if (last === 0) throw new ContextError('CORRUPT', 'the export is empty', { expected: 'a header', found: 'nothing' });
  if (trailer === null && !partial)
    throw new ContextError(
      'CORRUPT',
      `the export has no trailer up to line ${last}: it is incomplete; finish it with --resume, or import what there is with --partial`,
      { expected: 'a trailer', found: `${last} lines` },
    );
}

const isDamage = (error: unknown): boolean => isContextError(error) && error.code === 'CORRUPT';

const misplaced = (line: number): ContextError =>
  line === 1
    ? new ContextError('INVALID_ARGUMENT', 'this does not begin with the header of an export')
    : damagedLine(line, 'it is a header', 'a header in line 1 alone', `one in line ${line}`);

/** In what the trailer is not borne out by the lines before it; null: in nothing. */
function differing(
  trailer: ExportTrailer,
  line: number,
  found: { readonly contexts: number; readonly bytes: number; readonly sha256: string },
): ContextError | null {
  const name = (['contexts', 'bytes', 'sha256'] as const).find((one) => trailer[one] !== found[one]);
  if (name === undefined) return null;
  return damagedLine(
    line,
    `lines are missing, or are others: the trailer says ${name} ${trailer[name]}, and there are ${found[name]}`,
    trailer[name],
    found[name],
  );
}

/** The same beside damaged lines: all that can be told then is whether they are as many as are wanting. */
function uncounted(trailer: ExportTrailer, line: number, contexts: number, lost: number): ContextError | null {
  if (contexts + lost === trailer.contexts) return null;
  return damagedLine(
    line,
    `lines are missing, or are others: the trailer says contexts ${trailer.contexts}, and there are ${contexts}, and ${lost} that may be among the damaged lines`,
    trailer.contexts,
    contexts + lost,
  );
}

/** What an export holds, once all of it was verified. */
export interface ExportSummary {
  readonly header: ExportHeader | null;
  readonly contexts: number;
  /** Bytes of documents. */
  readonly bytes: number;
  /** Contexts that the export left out because they were damaged where it was made. */
  readonly leftOut: number;
  /** Contexts that the trailer counts, and that no line is there for, not even a damaged one that was passed over. */
  readonly missing: number;
  /** Whether it has its trailer, and no line is missing, doubled or moved, as far as that can be told beside damaged ones. */
  readonly complete: boolean;
}

/**
 * Reads an export to its end and verifies all of it: each line, each document, that none is missing. Nothing is sent anywhere.
 *
 * @throws ContextError as {@link readExport}
 * @example await verifyExport(createReadStream('agents.ndjson'));
 */
export async function verifyExport(source: ExportSource, options: ReaderOptions = {}): Promise<ExportSummary> {
  let header: ExportHeader | null = null;
  let end: ExportTrailer | null = null;
  let [contexts, bytes, missing, complete] = [0, 0, 0, false];
  for await (const { record, missing: wanting = 0, whole = false } of readExport(source, options)) {
    if (record.kind === 'header') header = record;
    else if (record.kind === 'end') [end, missing, complete] = [record, wanting, whole];
    else if (record.kind === 'context') {
      contexts += 1;
      bytes += record.data.length;
    }
  }
  return { header, contexts, bytes, leftOut: end?.damaged ?? 0, missing, complete };
}

/**
 * Looks through an interrupted export for its last mark; what follows it, damaged or not, is exported again. Null where there is nothing to go
 * on from.
 *
 * @throws ContextError `CONFLICT` where it has its trailer
 */
export async function exportPoint(source: ExportSource): Promise<ExportPoint | null> {
  const hash = createHash('sha256');
  let point = null as ExportPoint | null;
  let length = 0;
  for await (const { bytes, number, whole } of linesOf(source)) {
    const record = whole ? soundOrNull(bytes, number) : null;
    if (record === null || (number === 1 && record.kind !== 'header')) break;
    hash.update(bytes).update('\n');
    length += bytes.length + 1;
    if (record.kind === 'header') point = ExportPoint.first(record, length, hash.copy());
    else if (record.kind === 'mark') point = point?.next(record, length, hash.copy()) ?? null;
    else if (record.kind === 'end') throw new ContextError('CONFLICT', 'the export is complete: there is nothing to go on with');
  }
  return point;
}

function soundOrNull(bytes: Buffer, number: number): ExportRecord | null {
  try {
    return readRecord(bytes, number);
  } catch (error) {
    if (isDamage(error)) return null;
    throw error;
  }
}
