/**
 * A client of the delta protocol as somebody would write it in another language: from docs/DELTA_PROTOCOL.md alone, with nothing of src/.
 * What the two make of the same frames is compared in the tests. It holds one document, and says when it needs a full read.
 */
import { createHash } from 'node:crypto';
import { brotliDecompressSync, crc32, gunzipSync } from 'node:zlib';

export interface ReferenceFrame {
  readonly protocol: 1 | 2;
  readonly kind: string;
  readonly encoding: string;
  readonly parts: number;
  readonly version: number;
  readonly crc: string;
  readonly length: number;
  readonly baseVersion: number;
  readonly baseCrc: string;
  readonly expiresAt: number | null;
  readonly payload: Buffer;
}

/** `more`: parts are still to come; `sync`: what is held cannot go on from here, see `trouble`. */
export type Outcome = 'applied' | 'ignored' | 'more' | 'sync';

const LIMIT = 16 * 1024 * 1024;
const NO_BYTES = Buffer.alloc(0);

export class ReferenceClient {
  version = 0;
  /** `-`: no document. */
  crc = '-';
  document: Buffer | null = null;
  expiresAt: number | null = null;
  /** Why a full read is needed; empty where it is not. Until then frames change nothing. */
  trouble = 'nothing was read yet';
  #announced: ReferenceFrame | null = null;
  #parts: Buffer[] = [];

  /** What a full read gave; null: no context, and `version` is that of the newest log entry, or 0. */
  load(version: number, document: Buffer | null): void {
    this.version = version;
    this.document = document;
    this.crc = document === null ? '-' : crcHex(document);
    this.trouble = '';
  }

  message(message: Buffer): Outcome {
    try {
      const frame = this.#frame(message);
      return frame === null ? 'more' : this.#apply(frame, true);
    } catch (error) {
      return this.#sync(String(error));
    }
  }

  /** The answer to "what leads from here to the present?": one frame, whole. It ends the trouble, too; `sync` is to ask again. */
  answer(message: Buffer): Outcome {
    this.trouble = '';
    try {
      const frame = readFrame(message);
      const full = frame.kind === 'full';
      const anew = frame.protocol === 2 && frame.version <= frame.baseVersion && (full || frame.kind === 'deleted');
      const payload = decoded(frame, frame.payload);
      if (!anew) return this.#apply({ ...frame, payload }, true);
      // the question was asked from another version
      if (frame.baseVersion !== this.version || frame.baseCrc !== this.crc) return 'ignored';
      if (full && (payload.length !== frame.length || crcHex(payload) !== frame.crc))
        throw new Error('it does not have its checksum');
      this.load(frame.version, full ? payload : null);
      this.expiresAt = full ? frame.expiresAt : null;
      return 'applied';
    } catch (error) {
      return this.#sync(String(error));
    }
  }

  /** An entry of the log, in the order of the log, from the one after the version that is held. */
  entry(id: string, fields: ReadonlyMap<string, Buffer>): Outcome {
    const [version, mark] = id.split('-').map(Number);
    const word = (name: string): string => fields.get(name)?.toString('latin1') ?? '-';
    const length = Number(word('len'));
    const kind = word('kind');
    const bytes = fields.get('frame') ?? NO_BYTES;
    if (kind === 'full' && bytes.length === 0 && length > 0) return this.#sync('the log has not kept this document');
    try {
      const frame = {
        ...{
          protocol: 1 as const,
          kind,
          encoding: word('enc'),
          parts: 0,
          version: version ?? 0,
          crc: word('crc'),
          length,
          baseCrc: word('base'),
        },
        baseVersion: (version ?? 0) - (mark === 1 ? 0 : 1),
        expiresAt: word('exp') === '-' ? null : Number(word('exp')),
      };
      return this.#apply({ ...frame, payload: decoded(frame, bytes) }, false);
    } catch (error) {
      return this.#sync(String(error));
    }
  }

  #frame(message: Buffer): ReferenceFrame | null {
    const announced = this.#announced;
    this.#announced = null;
    if (announced !== null && !isHeader(message)) {
      this.#parts.push(message);
      const payload = Buffer.concat(this.#parts);
      if (payload.length > LIMIT) throw new Error('the parts are too long');
      if (this.#parts.length === announced.parts) return { ...announced, payload: decoded(announced, payload) };
      this.#announced = announced;
      return null;
    }
    const frame = readFrame(message);
    if (frame.parts === 0) return { ...frame, payload: decoded(frame, frame.payload) };
    this.#announced = frame;
    this.#parts = [];
    return null;
  }

  #apply(frame: ReferenceFrame, namesBase: boolean): Outcome {
    if (this.trouble !== '') return 'sync';
    const { kind, version } = frame;
    if (kind === 'touch') {
      if (version === this.version && frame.crc === this.crc) this.expiresAt = frame.expiresAt;
      return 'ignored';
    }
    if (version < this.version)
      return this.document === null && kind === 'full' && frame.baseCrc === '-' ? this.#sync('versions began again') : 'ignored';
    if (version === this.version && kind !== 'expired')
      return frame.crc === this.crc ? 'ignored' : this.#sync('another document under the same version');
    if (version === this.version && this.document === null) return 'ignored';
    if (version > this.version && kind === 'expired') return this.#sync('the version that expired is missing');
    const several = version > this.version + 1 && frame.protocol === 1;
    if (frame.baseVersion !== this.version || several) return this.#sync('versions are missing');
    const removal = kind === 'deleted' || kind === 'expired';
    if (frame.baseCrc !== this.crc && (namesBase || !removal)) return this.#sync('it builds on another document');
    const document = removal ? null : made(frame, this.document);
    if (document !== null && (document.length !== frame.length || crcHex(document) !== frame.crc))
      return this.#sync('the result does not have its checksum');
    this.version = version;
    this.document = document;
    this.crc = document === null ? '-' : frame.crc;
    this.expiresAt = document === null ? null : frame.expiresAt;
    return 'applied';
  }

  #sync(why: string): Outcome {
    this.trouble = why;
    return 'sync';
  }
}

export const crcHex = (bytes: Buffer): string => crc32(bytes).toString(16).padStart(8, '0');
export const shaHex = (bytes: Buffer): string => createHash('sha1').update(bytes).digest('hex');

const isHeader = (message: Buffer): boolean => /^lc\d+ [^\n]*\n/.test(message.toString('latin1', 0, 1024));

/** One message as a header and what follows it; not decompressed. */
export function readFrame(message: Buffer): ReferenceFrame {
  const line = /^[^\n]*(?=\n)/.exec(message.toString('latin1', 0, 1024))?.[0] ?? '';
  const payload = message.subarray(line.length + 1);
  const words = line.split(' ');
  if (words[0] === 'lc1' && words.length === 12) {
    const [, word = '', version, crc, , length, baseVersion, baseCrc, , expiry] = words;
    const follows = word === 'follows';
    const kind = oneOf(follows ? 'full' : word, 'patch', 'full', 'deleted', 'expired', 'touch');
    return {
      protocol: 1,
      kind,
      encoding: '-',
      parts: follows ? 1 : 0,
      ...numbers(version, crc, length, baseVersion, baseCrc, expiry),
      payload,
    };
  }
  if (words[0] !== 'lc2' || words.length !== 14) throw new Error(`no header of protocol 1 or 2: ${line.slice(0, 40)}`);
  const checked = Buffer.from(line.slice(0, line.lastIndexOf(' ') + 1), 'latin1');
  if (shaHex(checked).slice(0, 8) !== words[13]) throw new Error('the header does not have its check');
  const [, word = '', encoding = '', parts = '', version, crc, length, baseVersion, baseCrc, , expiry] = words;
  const kind = oneOf(word, 'splice', 'patch', 'full', 'deleted', 'expired', 'touch');
  oneOf(encoding, '-', 'gz', 'br');
  const data = kind === 'splice' || kind === 'patch' || kind === 'full';
  if (Number(parts) > 4096 || Number(length) > LIMIT) throw new Error('it is too large');
  if ((Number(parts) > 0 || !data) && payload.length > 0) throw new Error('it has a payload where there is none');
  if (data && (crc === '-' || (kind !== 'full' && baseCrc === '-'))) throw new Error('it lacks a checksum');
  return {
    protocol: 2,
    kind,
    encoding,
    parts: whole(parts),
    ...numbers(version, crc, length, baseVersion, baseCrc, expiry),
    payload,
  };
}

const numbers = (version = '', crc = '', length = '', baseVersion = '', baseCrc = '', expiry = '') => ({
  ...{ version: whole(version), crc: sum(crc), length: whole(length), baseVersion: whole(baseVersion), baseCrc: sum(baseCrc) },
  expiresAt: expiry === '-' ? null : whole(expiry),
});

function whole(word: string): number {
  if (!/^\d{1,16}$/.test(word) || !Number.isSafeInteger(Number(word))) throw new Error(`no whole number: ${word}`);
  return Number(word);
}
function sum(word: string): string {
  if (!/^(?:-|[0-9a-f]{8})$/.test(word)) throw new Error(`no checksum: ${word}`);
  return word;
}
function oneOf(word: string, ...words: readonly string[]): string {
  if (!words.includes(word)) throw new Error(`unknown: ${word}`);
  return word;
}

function decoded(frame: Pick<ReferenceFrame, 'encoding' | 'kind' | 'length'>, bytes: Buffer): Buffer {
  const maxOutputLength = Math.max(1, frame.kind === 'full' ? Math.min(frame.length, LIMIT) : LIMIT);
  if (frame.encoding === 'gz') return gunzipSync(bytes, { maxOutputLength });
  return frame.encoding === 'br' ? brotliDecompressSync(bytes, { maxOutputLength }) : bytes;
}

function made(frame: ReferenceFrame, base: Buffer | null): Buffer {
  if (frame.kind === 'full') return frame.payload;
  if (base === null) throw new Error('there is nothing to apply it to');
  return frame.kind === 'splice' ? applySplice(base, frame.payload) : applyPatch(base, frame.payload);
}

/** Section "The binary form of a splice". */
export function applySplice(base: Buffer, splice: Buffer): Buffer {
  let at = 0;
  let end = splice.length;
  const refuse = (why: string): never => {
    throw new Error(`a splice was refused: ${why}`);
  };
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = at < end && scale <= 128 ** 4 ? splice.readUInt8(at++) : refuse('a number does not end');
      value += (byte & 127) * scale;
      if (byte < 128) return value <= 2 ** 32 ? value : refuse('a number is too large');
    }
  };
  if (splice[at++] !== 1) refuse('its format is not 1');
  const [baseLength, targetLength, instructionBytes] = [varint(), varint(), varint()];
  if (baseLength !== base.length) refuse('its base has another length');
  if (targetLength > LIMIT || instructionBytes > splice.length - at) refuse('its lengths are impossible');
  end = at + instructionBytes;
  let literal = end;
  let reached = 0;
  let copied = 0;
  const pieces: Buffer[] = [];
  while (at < end) {
    const word = varint();
    const length = Math.floor(word / 2);
    reached += length;
    if (reached > targetLength || pieces.length >= 65_536) refuse('its pieces are too long, or too many');
    if (word % 2 === 1) {
      if (length > splice.length - literal) refuse('it inserts more than it has');
      pieces.push(splice.subarray(literal, literal + length));
      literal += length;
    } else {
      const zigzag = varint();
      const from = copied + (zigzag % 2 === 0 ? zigzag / 2 : -(zigzag + 1) / 2);
      if (from < 0 || from + length > base.length) refuse('it copies from outside of the base');
      pieces.push(base.subarray(from, from + length));
      copied = from + length;
    }
  }
  if (literal !== splice.length) refuse('it has more than it inserts');
  if (targetLength - reached > base.length) refuse('its pieces do not reach the end');
  return Buffer.concat([...pieces, base.subarray(base.length - (targetLength - reached))]);
}

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
type Operation = { op: string; path: string; from?: string; value?: Json; before?: string };

/** Section "JSON Patch": RFC 6902, with the order of keys. */
export function applyPatch(base: Buffer, patch: Buffer): Buffer {
  const root: { [key: string]: Json } = { '': JSON.parse(base.toString()) as Json };
  for (const { op, path, from = '', value = null, before } of JSON.parse(patch.toString()) as Operation[]) {
    if (op === 'move' && from === path) {
      const [parent, key] = place(root, path);
      if (!Array.isArray(parent)) order(parent, key, before);
    } else if (op === 'add') put(root, path, value, before);
    else if (op === 'replace') set(...place(root, path), value);
    else if (op === 'remove') take(root, path);
    else if (op === 'move') put(root, path, take(root, from), before);
    else if (op === 'copy') put(root, path, structuredClone(get(...place(root, from))));
    else throw new Error(`no such operation: ${op}`);
  }
  return Buffer.from(JSON.stringify(root['']));
}

type Container = Json[] | { [key: string]: Json };

/** The container that a pointer leads into, and the last key. */
function place(root: Container, pointer: string): [Container, string] {
  const keys = pointer.split('/').map((key) => key.replaceAll('~1', '/').replaceAll('~0', '~'));
  let parent: Container = root;
  for (const key of keys.slice(0, -1)) parent = get(parent, key) as Container;
  if (typeof parent !== 'object' || parent === null) throw new Error(`nowhere: ${pointer}`);
  return [parent, keys.at(-1) ?? ''];
}

function get(parent: Container, key: string): Json {
  if (!Object.hasOwn(parent, key)) throw new Error(`nothing there: ${key}`);
  return (parent as { [key: string]: Json })[key] as Json;
}

function set(parent: Container, key: string, value: Json): void {
  if (!Object.hasOwn(parent, key)) throw new Error(`nothing there: ${key}`);
  Object.defineProperty(parent, key, { value, writable: true, enumerable: true, configurable: true });
}

function put(root: Container, pointer: string, value: Json, before?: string): void {
  const [parent, key] = place(root, pointer);
  if (Array.isArray(parent)) {
    const index = key === '-' ? parent.length : whole(key);
    if (index > parent.length) throw new Error(`no such index: ${key}`);
    parent.splice(index, 0, value);
    return;
  }
  Object.defineProperty(parent, key, { value, writable: true, enumerable: true, configurable: true });
  if (before !== undefined && Object.hasOwn(parent, before)) order(parent, key, before);
}

function take(root: Container, pointer: string): Json {
  const [parent, key] = place(root, pointer);
  const value = get(parent, key);
  if (Array.isArray(parent)) parent.splice(Number(key), 1);
  else delete parent[key];
  return value;
}

/** Puts a member before another, or at the end. */
function order(parent: { [key: string]: Json }, key: string, before: string | undefined): void {
  if (key === before) return;
  const moved = Object.getOwnPropertyDescriptor(parent, key);
  if (moved === undefined) throw new Error(`nothing there: ${key}`);
  delete parent[key];
  const entries = Object.keys(parent).map((name) => [name, Object.getOwnPropertyDescriptor(parent, name) ?? moved] as const);
  const found = entries.findIndex(([name]) => name === before);
  entries.splice(found < 0 ? entries.length : found, 0, [key, moved]);
  for (const [name] of entries) delete parent[name];
  for (const [name, descriptor] of entries) Object.defineProperty(parent, name, descriptor);
}
