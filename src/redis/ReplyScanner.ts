/**
 * Checks the framing of what Redis sends (RESP2 and RESP3), as it comes, without looking at the documents in it: the cost is by the part
 * of a reply, not by the byte. RESP has no checksum and the parser of ioredis trusts it: it takes any byte for a digit, never looks at the
 * line end after a string, and goes back in the stream, round and round, where a length comes out negative. So it is shown only what has
 * passed here.
 */

/** The bytes cannot be what Redis sent. */
export class WireDamage extends Error {
  override readonly name = 'WireDamage';
}

export const TYPE = {
  string: 43, // +
  error: 45, // -
  integer: 58, // :
  bulk: 36, // $
  array: 42, // *
  null: 95, // _
  boolean: 35, // #
  double: 44, // ,
  bigNumber: 40, // (
  bulkError: 33, // !
  verbatim: 61, // =
  map: 37, // %
  set: 126, // ~
  push: 62, // >
} as const;

const CR = 13;
const LF = 10;
const MINUS = 45;
const PLUS = 43;

/** Longest string in a reply, bytes: Redis stores none that are longer (`proto-max-bulk-len`, 512 MB, is what it takes in). */
const MAX_STRING = 512 * 1024 * 1024;
/** Most parts of one reply, pairs of a map counted once: ioredis claims memory for all of them before the first has come. */
const MAX_PARTS = 1024 * 1024;
/** Deepest reply; a reply of a script with log entries has four levels. */
const MAX_DEPTH = 8;
/** Longest line that is not a document: error messages, simple strings. */
const MAX_LINE = 64 * 1024;
/** The first parts of a message are its kind and its channel; longer ones than this are not kept, bytes. */
const MAX_KEPT = 8 * 1024;

export class ReplyScanner {
  /** Whether the last `scan` ended at the end of a reply; what follows is about that reply. */
  complete = false;
  type = 0;
  /** Parts of an array, a map (keys and values) or a message; -1 for a null array or null string. */
  count = 0;
  /** Whether all parts of an array are arrays of two. */
  pairs = true;
  /** What a simple string, an error or a number says. */
  text = '';
  /** The first two parts of a message, or of an array where `keepArrays` is set; null where they are no strings. */
  first: string | null = null;
  second: string | null = null;
  /** RESP2 has no messages of their own type. */
  keepArrays = false;

  #depth = 0;
  /** Parts still to come, by level. */
  readonly #left = new Array<number>(MAX_DEPTH + 1).fill(0);
  /** Bytes of a string still to come before its line end; -1 between strings. */
  #body = -1;
  /** What `#length` has read. */
  #number = 0;
  #kept: string | null = null;
  #pieces = false;

  /**
   * Goes through a reply, or the rest of one, from `from` on. Answers how far the bytes are right: the end of the reply where `complete`
   * is set; else the caller comes back with what is behind that and more bytes after it.
   *
   * @throws WireDamage where they are not
   */
  scan(bytes: Buffer, from: number): number {
    let at = from;
    this.complete = false;
    for (;;) {
      if (this.#body < 0) {
        const end = at < bytes.length ? this.#header(bytes, at) : -1;
        if (end < 0) {
          if (bytes.length - at > MAX_LINE) throw new WireDamage('a line without an end');
          return at;
        }
        at = end;
      }
      if (this.#body >= 0) {
        const taken = Math.min(this.#body, bytes.length - at);
        if (this.#kept !== null && taken > 0) this.#keep(bytes, at, at + taken);
        at += taken;
        this.#body -= taken;
        if (bytes.length - at < 2) return at;
        if (bytes[at] !== CR || bytes[at + 1] !== LF) throw new WireDamage('a string of another length than announced');
        at += 2;
        this.#body = -1;
        if (this.#kept !== null) this.#tell();
        this.#partEnded();
      }
      if (this.#depth === 0) {
        this.complete = true;
        return at;
      }
    }
  }

  /** Reads the line that a part begins with; answers where it ends, -1 where that has not come yet. */
  #header(bytes: Buffer, at: number): number {
    const type = bytes[at] as number;
    if (this.#depth === 0) {
      this.type = type;
      this.count = 0;
      this.pairs = true;
      this.text = '';
      this.first = null;
      this.second = null;
    } else if (this.#depth === 1 && type !== TYPE.array) this.pairs = false;
    switch (type) {
      case TYPE.bulk:
      case TYPE.verbatim:
      case TYPE.bulkError: {
        const end = this.#length(bytes, at + 1, MAX_STRING, type === TYPE.bulk);
        if (end < 0) return -1;
        if (this.#number < 0) {
          if (this.#depth === 0) this.count = -1;
          this.#partEnded();
          return end;
        }
        // a verbatim string begins with three letters and a colon
        if (type === TYPE.verbatim && this.#number < 4) throw new WireDamage('a verbatim string without a format');
        this.#body = this.#number;
        this.#kept = type === TYPE.bulk && this.#isKept() ? '' : null;
        return end;
      }
      case TYPE.array:
      case TYPE.map:
      case TYPE.set:
      case TYPE.push: {
        if (type === TYPE.push && this.#depth > 0) throw new WireDamage('a message inside of a reply');
        const end = this.#length(bytes, at + 1, MAX_PARTS, type === TYPE.array);
        if (end >= 0) this.#open(type === TYPE.map ? this.#number * 2 : this.#number);
        return end;
      }
      case TYPE.null:
        return this.#fixed(bytes, at + 1);
      case TYPE.boolean: {
        const word = bytes[at + 1];
        if (word !== undefined && word !== 0x74 && word !== 0x66)
          throw new WireDamage('a boolean that is neither true nor false');
        return bytes.length - at < 2 ? -1 : this.#fixed(bytes, at + 2);
      }
      case TYPE.integer:
      case TYPE.bigNumber:
      case TYPE.double:
      case TYPE.string:
      case TYPE.error:
        return this.#line(type, bytes, at + 1);
      default:
        throw new WireDamage(`a part of the unknown type ${type}`);
    }
  }

  /** A length or a count into `#number`: digits without leading zeros, or -1 where that may be. */
  #length(bytes: Buffer, from: number, max: number, nullable: boolean): number {
    let at = from;
    let number = 0;
    const negative = nullable && bytes[at] === MINUS;
    if (negative) at += 1;
    const digits = at;
    for (; at < bytes.length; at += 1) {
      const byte = bytes[at] as number;
      if (byte === CR) {
        if (at + 1 === bytes.length) return -1;
        if (bytes[at + 1] !== LF || at === digits) throw new WireDamage('a length without its line end');
        if (negative && (number !== 1 || at - digits !== 1)) throw new WireDamage('a negative length');
        this.#number = negative ? -1 : number;
        return at + 2;
      }
      if (byte < 48 || byte > 57) throw new WireDamage('a length that is no number');
      if (at > digits && number === 0) throw new WireDamage('a length with a leading zero');
      number = number * 10 + byte - 48;
      if (number > max) throw new WireDamage(`a length beyond ${max}`);
    }
    return -1;
  }

  /** A line of text or a number. */
  #line(type: number, bytes: Buffer, from: number): number {
    const end = bytes.indexOf(CR, from);
    if (end < 0 || end + 1 === bytes.length) return -1;
    if (end - from > MAX_LINE) throw new WireDamage('a line without an end');
    if (bytes[end + 1] !== LF) throw new WireDamage('a line without its end');
    if (type === TYPE.integer || type === TYPE.bigNumber) checkInteger(bytes, from, end);
    else if (type === TYPE.double) {
      if (!/^([+-]?\d+(\.\d+)?([eE][+-]?\d+)?|[+-]?inf|-?nan)$/.test(bytes.toString('latin1', from, end)))
        throw new WireDamage('a double that is no number');
    } else {
      const line = bytes.subarray(from, end);
      if (line.includes(LF)) throw new WireDamage('a line with a line end in it');
      // all of Redis's begin with a word in capitals
      const first = line[0] ?? 0;
      if (type === TYPE.error && (first < 65 || first > 90)) throw new WireDamage('an error without a name');
    }
    if (this.#depth === 0) this.text = bytes.toString('utf8', from, end);
    this.#partEnded();
    return end + 2;
  }

  #fixed(bytes: Buffer, at: number): number {
    if (bytes.length > at && bytes[at] !== CR) throw new WireDamage('a line without its end');
    if (bytes.length - at < 2) return -1;
    if (bytes[at + 1] !== LF) throw new WireDamage('a line without its end');
    this.#partEnded();
    return at + 2;
  }

  #open(parts: number): void {
    if (this.#depth === 0) this.count = parts;
    else if (this.#depth === 1 && parts !== 2) this.pairs = false;
    if (parts <= 0) {
      this.#partEnded();
      return;
    }
    if (this.#depth === MAX_DEPTH) throw new WireDamage(`a reply deeper than ${MAX_DEPTH} levels`);
    this.#depth += 1;
    this.#left[this.#depth] = parts;
  }

  #partEnded(): void {
    while (this.#depth > 0) {
      const left = (this.#left[this.#depth] as number) - 1;
      this.#left[this.#depth] = left;
      if (left > 0) return;
      this.#depth -= 1;
    }
  }

  #isKept(): boolean {
    return (
      this.#depth === 1 &&
      this.count - (this.#left[1] as number) < 2 &&
      this.#body <= MAX_KEPT &&
      (this.type === TYPE.push || (this.keepArrays && this.type === TYPE.array))
    );
  }

  #keep(bytes: Buffer, from: number, to: number): void {
    const bytesOnly = this.#pieces || to - from < this.#body;
    // in single bytes where it comes in pieces: they may cut a letter
    this.#kept += bytes.toString(bytesOnly ? 'latin1' : 'utf8', from, to);
    this.#pieces = bytesOnly;
  }

  #tell(): void {
    const text = this.#pieces ? Buffer.from(this.#kept ?? '', 'latin1').toString() : this.#kept;
    if (this.count === this.#left[1]) this.first = text;
    else this.second = text;
    this.#kept = null;
    this.#pieces = false;
  }
}

function checkInteger(bytes: Buffer, from: number, end: number): void {
  const sign = bytes[from];
  const digits = sign === MINUS || sign === PLUS ? from + 1 : from;
  if (digits === end) throw new WireDamage('a number without digits');
  for (let at = digits; at < end; at += 1) {
    const byte = bytes[at] as number;
    if (byte < 48 || byte > 57) throw new WireDamage('an integer that is no number');
  }
}
