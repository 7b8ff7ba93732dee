/**
 * The lines of an export (docs/BACKUP.md): a header, one line a context, marks between them, a trailer. Each begins with a CRC-32 over all that
 * follows it in its line; a document is embedded as the bytes that it is, and taken out by its place: it is never parsed and written again.
 */
import { isUtf8 } from 'node:buffer';
import { crc32Hex, sha1Hex } from './checksum.js';
import { ContextError } from './errors.js';

export const EXPORT_FORMAT = 'lukhas-context-export';
export const EXPORT_VERSION = 1;

export interface ExportHeader {
  readonly kind: 'header';
  readonly namespace: string;
  readonly shards: number;
  /** Only ids that begin with this are in it. */
  readonly prefix: string;
  /** When it was begun, by Redis's clock, ms since the epoch. */
  readonly at: number;
  /** The run of the Redis server: what a cursor means ends with it. */
  readonly run: string;
}

export interface ExportedContext {
  readonly kind: 'context';
  readonly id: string;
  readonly version: number;
  /** CRC-32 and SHA-1 of the document's bytes. */
  readonly crc: string;
  readonly sha: string;
  /** Time of the commit, ms since the epoch. */
  readonly at: number;
  readonly expiresAt: number | null;
  readonly data: Buffer;
}

/** All that lies before this place was exported. */
export interface ExportMark {
  readonly kind: 'mark';
  readonly shard: number;
  /** As Redis gave it; '0' is the beginning of the shard. */
  readonly cursor: string;
  readonly run: string;
  readonly contexts: number;
  /** Bytes of documents. */
  readonly bytes: number;
  /** Contexts that were left out because they are damaged. */
  readonly damaged: number;
}

export interface ExportTrailer {
  readonly kind: 'end';
  readonly contexts: number;
  readonly bytes: number;
  readonly damaged: number;
  /** SHA-256 of everything before this line. */
  readonly sha256: string;
}

export type ExportRecord = ExportHeader | ExportedContext | ExportMark | ExportTrailer;

const SUM_START = Buffer.from('{"sum":"');
const SUM_END = Buffer.from('",');
const SUM_DIGITS = 8;
/** Where what the sum covers begins. */
const BODY = SUM_START.length + SUM_DIGITS + SUM_END.length;
/** What stands where in a mark, behind {@link BODY}. */
const MARK_NAMES = [
  [0, '"mark":'],
  [8, '"shard":'],
] as const;
const CLOSE = Buffer.from('}');
const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;
/** Within a string every quote has a backslash before it: neither can stand in an id. */
const DATA = Buffer.from(',"data":');
const BASE64 = Buffer.from(',"base64":"');

/** A line with its end. */
export function writeRecord(record: ExportRecord): Buffer {
  const body = Buffer.concat(record.kind === 'context' ? contextBody(record) : [Buffer.from(bodyOf(record))]);
  return Buffer.concat([SUM_START, Buffer.from(crc32Hex(body)), SUM_END, body, Buffer.from('\n')]);
}

function contextBody({ id, version, crc, sha, at, expiresAt, data }: ExportedContext): Buffer[] {
  const facts = Buffer.from(JSON.stringify({ id, version, crc, sha, at, expiresAt, bytes: data.length }).slice(1, -1));
  // a line must stay one line, and be text
  const plain = !data.includes(LINE_FEED) && !data.includes(CARRIAGE_RETURN) && isUtf8(data);
  return plain ? [facts, DATA, data, CLOSE] : [facts, BASE64, Buffer.from(data.toString('base64')), Buffer.from('"}')];
}

function bodyOf(record: ExportHeader | ExportMark | ExportTrailer): string {
  const { kind, ...facts } = record;
  const fields = kind === 'header' ? { format: EXPORT_FORMAT, version: EXPORT_VERSION, ...facts } : { [kind]: facts };
  return JSON.stringify(fields).slice(1);
}

/**
 * Reads a line without its end, and verifies it: its sum first, then, of a context, length, CRC-32 and SHA-1 of the document.
 *
 * @param line - its number, from 1, for the error
 * @throws ContextError `CORRUPT` with what differs; `INVALID_ARGUMENT` where it is sound, but of a format that is not known
 */
export function readRecord(bytes: Buffer, line: number): ExportRecord {
  const framed =
    bytes.length > BODY &&
    bytes.subarray(0, SUM_START.length).equals(SUM_START) &&
    bytes.subarray(BODY - SUM_END.length, BODY).equals(SUM_END);
  if (!framed) throw damagedLine(line, 'it does not begin with its sum', '{"sum":"', bytes.subarray(0, BODY).toString('latin1'));
  const body = bytes.subarray(BODY);
  const sum = bytes.toString('latin1', SUM_START.length, SUM_START.length + SUM_DIGITS);
  const found = crc32Hex(body);
  if (found !== sum) throw damagedLine(line, `its sum is ${sum}, that of its bytes ${found}`, sum, found);
  if (body.subarray(0, 6).toString('latin1') === '"id":"') return readContext(body, line);
  const fields = parsed(body, line);
  if (fields.format === EXPORT_FORMAT) return header(fields, line);
  for (const kind of ['mark', 'end'] as const) {
    const facts = fields[kind];
    if (typeof facts === 'object' && facts !== null) return checked(kind, facts as Record<string, unknown>, line);
  }
  throw new ContextError('INVALID_ARGUMENT', `line ${line} is of a kind that this version does not know: ${Object.keys(fields)}`);
}

function readContext(body: Buffer, line: number): ExportedContext {
  const plain = body.indexOf(DATA);
  const encoded = plain < 0 ? body.indexOf(BASE64) : -1;
  const at = plain < 0 ? encoded : plain;
  if (at < 0) throw malformed(line);
  const facts = parsed(Buffer.concat([body.subarray(0, at), CLOSE]), line);
  const data =
    plain < 0
      ? Buffer.from(body.toString('latin1', encoded + BASE64.length, body.length - 2), 'base64')
      : body.subarray(plain + DATA.length, body.length - 1);
  const { id, version, crc, sha, expiresAt, bytes } = facts;
  if (typeof id !== 'string' || !isCount(version) || !isCount(facts.at) || !(expiresAt === null || isCount(expiresAt)))
    throw malformed(line);
  const differs = (what: string, expected: unknown, found: string | number): ContextError =>
    damagedLine(line, `${id}: ${what} of its document is ${found}, not ${String(expected)}`, String(expected), found, id);
  if (bytes !== data.length) throw differs('the length', bytes, data.length);
  const [foundCrc, foundSha] = [crc32Hex(data), sha1Hex(data)];
  if (crc !== foundCrc) throw differs('the CRC-32', crc, foundCrc);
  if (sha !== foundSha) throw differs('the SHA-1', sha, foundSha);
  return { kind: 'context', id, version, crc: foundCrc, sha: foundSha, at: facts.at, expiresAt, data };
}

function header(fields: Record<string, unknown>, line: number): ExportHeader {
  const { version, namespace, shards, prefix, at, run } = fields;
  if (version !== EXPORT_VERSION)
    throw new ContextError(
      'INVALID_ARGUMENT',
      `the export is of version ${String(version)}; this version reads ${EXPORT_VERSION}`,
      { expected: EXPORT_VERSION, found: String(version) },
    );
  if (!isText(namespace) || !isCount(shards) || !isText(prefix) || !isCount(at) || !isText(run)) throw malformed(line);
  return { kind: 'header', namespace, shards, prefix, at, run };
}

function checked(kind: 'mark' | 'end', facts: Record<string, unknown>, line: number): ExportMark | ExportTrailer {
  const { shard, cursor, run, contexts, bytes, damaged, sha256 } = facts;
  if (!isCount(contexts) || !isCount(bytes) || !isCount(damaged)) throw malformed(line);
  if (kind === 'end') {
    if (!isText(sha256)) throw malformed(line);
    return { kind, contexts, bytes, damaged, sha256 };
  }
  if (!isCount(shard) || !isText(cursor) || !isText(run)) throw malformed(line);
  return { kind, shard, cursor, run, contexts, bytes, damaged };
}

/** A body, which lacks the brace that the sum stands behind. */
function parsed(body: Buffer, line: number): Record<string, unknown> {
  try {
    return JSON.parse(`{${body.toString()}`) as Record<string, unknown>;
  } catch {
    throw malformed(line);
  }
}

const isText = (value: unknown): value is string => typeof value === 'string';
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

const malformed = (line: number): ContextError => damagedLine(line, 'its sum is right, but it is no line of an export', '', '');

/** Whether a damaged line was a mark, by either of two names in it; an id cannot spell them where they stand. */
export const wasMark = (bytes: Buffer): boolean =>
  MARK_NAMES.some(([at, name]) => bytes.toString('latin1', BODY + at, BODY + at + name.length) === name);

/** What the error of a damaged line says. */
export const damagedLine = (
  line: number,
  why: string,
  expected: string | number,
  found: string | number,
  id?: string,
): ContextError =>
  new ContextError('CORRUPT', `line ${line} is damaged: ${why}`, { expected, found, ...(id === undefined ? {} : { id }) });
