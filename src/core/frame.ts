/**
 * The text of a frame as Redis publishes it: one header line of words, then the payload.
 *
 * `lc1 <kind> <version> <crc> <sha1> <length> <baseVersion> <baseCrc> <at> <expiry> <operation> <instance>\n<payload>`
 *
 * `-` stands for what is absent. Kind `follows` stands for a whole document that is the channel's next message, alone: Redis need not join
 * the two. No JSON text begins like a header, so neither is taken for the other. The frame is built by `lua/commit.lua` and its like; here it is only read.
 */
import { ContextError } from './errors.js';

export type FrameKind = 'patch' | 'full' | 'deleted' | 'expired' | 'touch';

const FOLLOWS = 'follows';
const PROTOCOL = 'lc1';

export interface Frame {
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
  /** A JSON Patch or a whole document; bytes, because its checksum is over bytes. Empty for the other kinds. */
  readonly payload: Buffer;
}

const KINDS: ReadonlySet<string> = new Set<FrameKind | typeof FOLLOWS>([
  'patch',
  'full',
  'follows',
  'deleted',
  'expired',
  'touch',
]);
const HEADER_LIMIT = 1024;
const NEWLINE = 10;

const bad = (why: string): ContextError =>
  new ContextError('BAD_FRAME', `a frame was refused: ${why}; the replica takes the full document instead`);

function whole(word: string | undefined, name: string): number {
  const number = Number(word);
  // digits only: `Number` would take 1e3 and 0x10 too
  if (word === undefined || !/^\d{1,16}$/.test(word) || !Number.isSafeInteger(number))
    throw bad(`its ${name} is ${JSON.stringify(word)}`);
  return number;
}

const sum = (word: string | undefined, name: string): string => {
  if (word === '-') return '';
  if (word === undefined || !/^[0-9a-f]{8}$/.test(word)) throw bad(`its ${name} is ${JSON.stringify(word)}`);
  return word;
};

function decode(message: Buffer): Omit<Frame, 'kind'> & { readonly kind: FrameKind | typeof FOLLOWS } {
  const end = message.subarray(0, HEADER_LIMIT).indexOf(NEWLINE);
  if (end < 0) throw bad('it has no header line');
  const words = message.toString('latin1', 0, end).split(' ');
  if (words[0] !== PROTOCOL) throw bad(`its protocol is ${JSON.stringify(words[0])}, not "${PROTOCOL}"`);
  if (words.length !== 12) throw bad(`its header has ${words.length} words, not 12`);
  const kind = words[1] ?? '';
  if (!KINDS.has(kind)) throw bad(`its kind is ${JSON.stringify(kind)}`);
  return {
    kind: kind as FrameKind | typeof FOLLOWS,
    version: whole(words[2], 'version'),
    crc: sum(words[3], 'checksum'),
    length: whole(words[5], 'length'),
    baseVersion: whole(words[6], 'base version'),
    baseCrc: sum(words[7], 'base checksum'),
    at: whole(words[8], 'time'),
    expiresAt: words[9] === '-' ? null : whole(words[9], 'expiry'),
    operation: words[10] ?? '',
    by: words[11] ?? '',
    payload: message.subarray(end + 1),
  };
}

/** Makes frames of a channel's messages, in their order. */
export class FrameReader {
  #announced: Frame | null = null;

  /**
   * The frame that is complete with this message, or null where its document is still to come.
   *
   * @throws ContextError `BAD_FRAME` where it is neither a frame nor a document that was announced; the payload is not looked into.
   */
  read(message: Buffer): Frame | null {
    const announced = this.#announced;
    this.#announced = null;
    // a header in a document's place: the document was lost, and the version after it will show that
    if (announced !== null && message.toString('latin1', 0, PROTOCOL.length + 1) !== `${PROTOCOL} `)
      return { ...announced, payload: message };
    const { kind, ...rest } = decode(message);
    if (kind !== FOLLOWS) return { ...rest, kind };
    this.#announced = { ...rest, kind: 'full' };
    return null;
  }
}
