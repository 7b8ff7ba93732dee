/**
 * The header line of a frame, which says what is to be done with the payload before a byte of it is believed. Both protocols are read;
 * `lua/include/frame.lua` writes them, and {@link frameHeader2} writes protocol 2 where a frame is made here.
 *
 * `lc1 <kind> <version> <crc> <sha1> <length> <baseVersion> <baseCrc> <at> <expiry> <operation> <instance>\n`
 * `lc2 <kind> <encoding> <parts> <version> <crc> <length> <baseVersion> <baseCrc> <at> <expiry> <operation> <instance> <check>\n`
 *
 * `-` stands for what is absent. Kind `follows` of protocol 1 is a whole document in one part. The check is the beginning of the SHA-1 of
 * all before it: without it a damaged time or expiry would be believed.
 */
import { sha1Hex } from './checksum.js';
import type { Encoding } from './compression.js';
import { ContextError } from './errors.js';

export type FrameKind = 'splice' | 'patch' | 'full' | 'deleted' | 'expired' | 'touch';

/** What a frame says about the document, before and after it. */
export interface FrameFacts {
  readonly kind: FrameKind;
  readonly version: number;
  /** CRC-32 of the document after it; empty where there is none. */
  readonly crc: string;
  readonly baseVersion: number;
  /** CRC-32 of the document before it; empty where there was none. */
  readonly baseCrc: string;
  /** Length of the document after it, bytes. */
  readonly length: number;
  readonly at: number;
  readonly expiresAt: number | null;
  readonly operation: string;
  readonly by: string;
}

/** How it travels. */
export interface FrameHeader extends FrameFacts {
  readonly protocol: 1 | 2;
  readonly encoding: Encoding;
  /** 0: the payload follows the header line; otherwise it is so many messages of the channel, joined. */
  readonly parts: number;
}

/** Largest document and largest payload, bytes, whatever a header says. */
export const MAX_FRAME_BYTES = 16 * 1024 * 1024;
/** Most messages of one payload. */
export const MAX_PARTS = 4096;

const HEADER_LIMIT = 1024;
/** Characters in which the protocol word and the space after it must be found. */
const PROTOCOL_LIMIT = 8;
const NEWLINE = 10;
const CHECK_DIGITS = 8;
const KINDS: ReadonlySet<string> = new Set<FrameKind>(['splice', 'patch', 'full', 'deleted', 'expired', 'touch']);
const KINDS_1: ReadonlySet<string> = new Set<FrameKind | 'follows'>(['patch', 'full', 'follows', 'deleted', 'expired', 'touch']);
const ENCODINGS: ReadonlySet<string> = new Set<Encoding>(['-', 'gz', 'br']);

export const badFrame = (why: string): ContextError =>
  new ContextError('BAD_FRAME', `a frame was refused: ${why}; the replica takes the full document instead`);

function whole(word: string | undefined, name: string, most: number = Number.MAX_SAFE_INTEGER): number {
  const number = Number(word);
  // digits only: `Number` would take 1e3 and 0x10 too
  if (word === undefined || !/^\d{1,16}$/.test(word) || number > most) throw badFrame(`its ${name} is ${JSON.stringify(word)}`);
  return number;
}

const sum = (word: string | undefined, name: string): string => {
  if (word === '-') return '';
  if (word === undefined || !/^[0-9a-f]{8}$/.test(word)) throw badFrame(`its ${name} is ${JSON.stringify(word)}`);
  return word;
};

/** Whether a message begins with a header line; no JSON text does, and no part of one: a line end is never in it. */
export const beginsFrame = (message: Buffer): boolean =>
  /^lc\d+ /.test(message.toString('latin1', 0, PROTOCOL_LIMIT)) && message.subarray(0, HEADER_LIMIT).includes(NEWLINE);

/**
 * A message's header, and what follows it.
 *
 * @throws ContextError `BAD_FRAME`
 */
export function readHeader(message: Buffer): { readonly header: FrameHeader; readonly rest: Buffer } {
  const end = message.subarray(0, HEADER_LIMIT).indexOf(NEWLINE);
  if (end < 0) throw badFrame('it has no header line');
  const line = message.toString('latin1', 0, end);
  const words = line.split(' ');
  const protocol = words[0] ?? '';
  if (protocol === 'lc1') return { header: header1(words), rest: message.subarray(end + 1) };
  if (protocol === 'lc2') return { header: header2(line, words), rest: message.subarray(end + 1) };
  if (/^lc\d+$/.test(protocol)) {
    throw new ContextError(
      'BAD_FRAME',
      `a frame of protocol "${protocol}" was refused: a newer instance writes in this namespace, and this one reads lc1 and lc2 only; upgrade it`,
      { expected: 'lc2', found: protocol },
    );
  }
  throw badFrame(`its protocol is ${JSON.stringify(protocol)}, not "lc1" or "lc2"`);
}

function header1(words: readonly string[]): FrameHeader {
  if (words.length !== 12) throw badFrame(`its header has ${words.length} words, not 12`);
  const kind = words[1] ?? '';
  if (!KINDS_1.has(kind)) throw badFrame(`its kind is ${JSON.stringify(kind)}`);
  return {
    protocol: 1,
    kind: kind === 'follows' ? 'full' : (kind as FrameKind),
    encoding: '-',
    parts: kind === 'follows' ? 1 : 0,
    version: whole(words[2], 'version'),
    crc: sum(words[3], 'checksum'),
    length: whole(words[5], 'length'),
    baseVersion: whole(words[6], 'base version'),
    baseCrc: sum(words[7], 'base checksum'),
    at: whole(words[8], 'time'),
    expiresAt: words[9] === '-' ? null : whole(words[9], 'expiry'),
    operation: words[10] ?? '',
    by: words[11] ?? '',
  };
}

function header2(line: string, words: readonly string[]): FrameHeader {
  if (words.length !== 14) throw badFrame(`its header has ${words.length} words, not 14`);
  const check = checkOf(line.slice(0, line.lastIndexOf(' ') + 1));
  if (words[13] !== check) throw badFrame(`its header's check is ${JSON.stringify(words[13])}, not "${check}"`);
  const [, kind = '', encoding = ''] = words;
  if (!KINDS.has(kind)) throw badFrame(`its kind is ${JSON.stringify(kind)}`);
  if (!ENCODINGS.has(encoding)) throw badFrame(`its encoding is ${JSON.stringify(encoding)}`);
  const header: FrameHeader = {
    protocol: 2,
    kind: kind as FrameKind,
    encoding: encoding as Encoding,
    parts: whole(words[3], 'number of parts', MAX_PARTS),
    version: whole(words[4], 'version'),
    crc: sum(words[5], 'checksum'),
    length: whole(words[6], 'length', MAX_FRAME_BYTES),
    baseVersion: whole(words[7], 'base version'),
    baseCrc: sum(words[8], 'base checksum'),
    at: whole(words[9], 'time'),
    expiresAt: words[10] === '-' ? null : whole(words[10], 'expiry'),
    operation: words[11] ?? '',
    by: words[12] ?? '',
  };
  if (hasPayload(header.kind)) {
    if (header.crc === '') throw badFrame('it has no checksum');
    if (header.kind !== 'full' && header.baseCrc === '') throw badFrame(`a ${kind} needs a base, and its base checksum is "-"`);
  } else if (header.parts !== 0 || encoding !== '-') {
    throw badFrame(`a frame of kind "${kind}" has no payload, yet one is announced`);
  }
  return header;
}

/** Whether there is a payload after the header of such a frame. */
export const hasPayload = (kind: FrameKind): boolean => kind === 'splice' || kind === 'patch' || kind === 'full';

// the header is read as latin1, so it is hashed as such: byte by byte as it came
const checkOf = (text: string): string => sha1Hex(Buffer.from(text, 'latin1')).slice(0, CHECK_DIGITS);

/** The header line of a frame of protocol 2, its line end included. */
export function frameHeader2(fields: Omit<FrameHeader, 'protocol'>): string {
  const { kind, encoding, parts, version, crc, length, baseVersion, baseCrc, at, expiresAt, operation, by } = fields;
  const text = `lc2 ${kind} ${encoding} ${parts} ${version} ${crc || '-'} ${length} ${baseVersion} ${baseCrc || '-'} ${at} ${
    expiresAt ?? '-'
  } ${operation} ${by} `;
  return `${text}${checkOf(text)}\n`;
}
