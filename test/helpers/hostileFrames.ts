/**
 * Frames as a hostile writer makes them: whatever is in them, their headers have their check and, where that can be said, the checksum
 * and the length of what they make. So everything behind these must bear it.
 */
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { crc32Hex } from '../../src/core/checksum.js';
import { DocumentText } from '../../src/core/DocumentText.js';
import { isContextError } from '../../src/core/errors.js';
import { FrameReader, frameHeader2, type ReceivedFrame } from '../../src/core/frame.js';
import { JsonDocument } from '../../src/core/JsonDocument.js';
import { isContainer, type JsonValue, parseFrozen } from '../../src/core/json.js';
import { applyPatch, type Patch } from '../../src/core/patch.js';
import { applySplice, readSplice, writeSplice } from '../../src/core/spliceFormat.js';
import { type FrameOutcome, Replica } from '../../src/replica/Replica.js';
import { makeConversation, type Rng } from './random.js';

/** Containers inside one another: more than any stack has room for. */
const DEEP = 20_000;
const MOST_PIECES = 65_536;

const nested = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth);
const nestedObjects = (depth: number): string => `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`;

/** A replica that holds a document, and the bytes that its writer knows. */
export interface Target {
  readonly replica: Replica;
  bytes: Buffer;
}

const DOCUMENTS: readonly ((rng: Rng) => JsonValue)[] = [
  () => ({ a: 1, text: 'short' }),
  (rng) => makeConversation(rng.int(0, 99), 2_000),
  (rng) => makeConversation(rng.int(0, 99), 40_000),
  (rng) => makeConversation(rng.int(0, 99), 150_000),
  () => Array.from({ length: 3_000 }, (_, id) => ({ id, name: `row ${id}` })),
  () => Object.fromEntries(Array.from({ length: 3_000 }, (_, id) => [`key ${id}`, id])),
  () => [[[[['a'.repeat(2_000)]]]]],
  () => 'text',
];

export function target(rng: Rng): Target {
  const text = JSON.stringify(rng.pick(DOCUMENTS)(rng));
  // as another writer may put it
  const bytes = Buffer.from(rng.chance(0.2) ? text.replaceAll('":', '": ') : text);
  const document = JsonDocument.parse(DocumentText.of(bytes));
  const facts = { version: 1, at: 0, expiresAt: null };
  const state = { ...facts, crc: document.text.crc, value: document.value, bytes: bytes.length, document };
  return { replica: new Replica('hostile', state), bytes };
}

interface Payload {
  readonly kind: 'splice' | 'patch' | 'full';
  readonly bytes: Buffer;
  /** What it makes, where the writer can tell. */
  readonly makes: Buffer | null;
}

const INSERTS: readonly ((rng: Rng) => string | Buffer)[] = [
  () => nested(DEEP),
  () => nestedObjects(DEEP),
  (rng) => nested(rng.pick([400, 900, 990, 999, 1_000, 1_001, 1_500, 4_000, 8_000])),
  (rng) => '['.repeat(rng.pick([1, 1_000, DEEP])),
  () => Buffer.from([0x22, 0xff, 0xfe, 0x22]),
  () => Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]),
  () => Buffer.from([0xc3]),
  () => '"\\ud800"',
  () => '{"__proto__":{"polluted":true},"__proto__":1}',
  () => '{"1":1,"0":0,"a":1,"a":2}',
  () => ' 1.0 ',
  () => '1e999',
  () => '\n',
  () => '',
  (rng) => `[${'0,'.repeat(rng.int(0, 70_000))}0]`,
  (rng) => Buffer.from(Array.from({ length: rng.int(0, 40) }, () => rng.int(0, 255))),
];

/** Places of a text where a value begins or ends, or any. */
function place(rng: Rng, bytes: Buffer): number {
  const from = rng.int(0, bytes.length);
  if (rng.chance(0.3)) return from;
  const at = bytes.indexOf(rng.pick([':', ',', '[', '{', '}', ']', '"']), from);
  return at < 0 ? from : Math.min(bytes.length, at + rng.int(0, 1));
}

/** The scalar after a place, so that something else can stand there and the text remain JSON. */
function scalarAt(bytes: Buffer, from: number): readonly [number, number] {
  const text = bytes.toString('latin1', from, from + 3_000);
  const match = /[[:,]\s?(-?\d+(?:\.\d+)?|"[^"\\]*"|null|true|false)(?=[,\]}])/.exec(text);
  if (match === null) return [from, from];
  const start = from + match.index + match[0].length - (match[1] as string).length;
  return [start, start + (match[1] as string).length];
}

function varint(value: number): number[] {
  const bytes: number[] = [];
  for (let left = value; ; left = Math.floor(left / 128)) {
    if (left < 128) return [...bytes, left];
    bytes.push((left % 128) | 128);
  }
}

const binary = (baseLength: number, targetLength: number, instructions: readonly number[], literals: Buffer): Buffer =>
  Buffer.concat([
    Buffer.from([1, ...varint(baseLength), ...varint(targetLength), ...varint(instructions.length)]),
    Buffer.from(instructions),
    literals,
  ]);

/** A splice of nothing but tiny pieces, as many as a reader takes or one more, the copies from all over the base. */
function tiny(rng: Rng, base: Buffer): Payload {
  const count = MOST_PIECES + rng.int(-1, 1);
  const instructions: number[] = [];
  const literals: Buffer[] = [];
  let at = 0;
  let length = 0;
  const inserting = rng.chance(0.5);
  for (let piece = 0; piece < count; piece += 1) {
    if (inserting && piece % 2 === 1) {
      instructions.push(3);
      literals.push(Buffer.from('0'));
    } else {
      const from = rng.int(0, Math.max(0, base.length - 1));
      const distance = from - at;
      instructions.push(2, ...varint(distance >= 0 ? distance * 2 : -distance * 2 - 1));
      at = from + 1;
    }
    length += 1;
  }
  return made('splice', base, binary(base.length, length, instructions, Buffer.concat(literals)));
}

function made(kind: 'splice', base: Buffer, bytes: Buffer): Payload {
  try {
    return { kind, bytes, makes: applySplice(base, readSplice(bytes)) };
  } catch {
    return { kind, bytes, makes: null };
  }
}

function spliced(rng: Rng, base: Buffer): Payload {
  const cuts = Array.from({ length: rng.pick([1, 1, 1, 3, 60]) }, () => {
    const from = place(rng, base);
    return rng.chance(0.7) ? scalarAt(base, from) : ([from, Math.min(base.length, from + rng.pick([0, 0, 1, 5, 300]))] as const);
  }).sort(([a], [b]) => a - b);
  const pieces: ({ from: number; length: number } | { bytes: Buffer })[] = [];
  let at = 0;
  for (const [from, to] of cuts) {
    if (from < at) continue;
    if (from > at) pieces.push({ from: at, length: from - at });
    const put = Buffer.from(rng.pick(INSERTS)(rng));
    if (put.length > 0) pieces.push({ bytes: put });
    at = to;
  }
  if (at < base.length) pieces.push({ from: at, length: base.length - at });
  if (rng.chance(0.1)) pieces.reverse();
  const targetLength = pieces.reduce((sum, piece) => sum + ('bytes' in piece ? piece.bytes.length : piece.length), 0);
  const { bytes } = writeSplice({ baseLength: base.length, targetLength, pieces });
  if (rng.chance(0.3)) {
    const damaged = Buffer.from(bytes);
    for (let left = rng.int(1, 3); left > 0; left -= 1)
      damaged[rng.int(0, rng.chance(0.5) ? Math.min(20, damaged.length - 1) : damaged.length - 1)] = rng.int(0, 255);
    return made('splice', base, damaged);
  }
  return made('splice', base, bytes);
}

/** Copies the whole base again and again, as far as a target may go. */
function growing(rng: Rng, base: Buffer): Payload {
  const times = Math.min(rng.int(2, 3_000), Math.floor((rng.chance(0.5) ? 16 : 1) * 1024 * 1024) / Math.max(1, base.length));
  const instructions: number[] = [];
  let length = 0;
  for (let copy = 0; copy < times; copy += 1) {
    instructions.push(...varint(base.length * 2), ...(copy === 0 ? [0] : varint(base.length * 2 - 1)));
    length += base.length;
  }
  return made('splice', base, binary(base.length, length, instructions, Buffer.alloc(0)));
}

function whole(rng: Rng): Payload {
  const bytes = Buffer.from(rng.pick(INSERTS)(rng));
  return { kind: 'full', bytes, makes: bytes };
}

function patched(rng: Rng, base: Buffer): Payload {
  const value = parsed(base);
  const key = isContainer(value) ? rng.pick([...Object.keys(value), '']) : '';
  const path = `/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`;
  const deep = (): JsonValue => JSON.parse(nested(rng.pick([900, 1_500, 4_000]))) as JsonValue;
  const patches: readonly (() => string)[] = [
    () => JSON.stringify([{ op: 'add', path, value: deep() }]),
    () => `[{"op":"add","path":"${rng.pick(['', '/a'])}","value":${nested(DEEP)}}]`,
    // each doubles what is there
    () => JSON.stringify(Array.from({ length: 40 }, (_, index) => ({ op: 'copy', from: '', path: `${path}/${index}` }))),
    () =>
      JSON.stringify([
        { op: 'add', path: '', value: [] },
        ...Array.from({ length: 30 }, () => ({ op: 'copy', from: '', path: '/-' })),
      ]),
    () => JSON.stringify([{ op: 'add', path: '/__proto__', value: { polluted: true } }]),
    () => JSON.stringify([{ op: 'replace', path: '', value: 'x'.repeat(rng.int(0, 100_000)) }]),
    () => JSON.stringify([{ op: 'remove', path: '' }]),
    () => JSON.stringify(Array.from({ length: 3_000 }, () => ({ op: 'move', from: path, path }))),
    () => nested(DEEP),
    () => rng.pick(['', 'null', '[1]', '[{}]', '{"op":"add"}', '[{"op":"add","path":"/a"}]', '\u0000']),
    () => `[{"op":"test","path":"${'/a'.repeat(rng.int(0, 30_000))}","value":1}]`,
  ];
  const bytes = Buffer.from(rng.pick(patches)());
  let makes: Buffer | null = null;
  try {
    const after = applyPatch(value, JSON.parse(bytes.toString()) as Patch);
    makes = Buffer.from(JSON.stringify(after));
  } catch {
    // the writer cannot tell
  }
  return { kind: 'patch', bytes, makes };
}

function parsed(bytes: Buffer): JsonValue {
  return JSON.parse(bytes.toString()) as JsonValue;
}

/** The messages of one frame for what the target holds, and what the document should be after it. */
function hostileFrame(
  rng: Rng,
  { replica, bytes }: Target,
): { readonly messages: readonly Buffer[]; readonly makes: Buffer | null } {
  const kind = rng.int(0, 19);
  const payload =
    kind === 0
      ? tiny(rng, bytes)
      : kind === 1
        ? growing(rng, bytes)
        : kind < 4
          ? whole(rng)
          : kind < 7
            ? patched(rng, bytes)
            : spliced(rng, bytes);
  const { version, crc } = replica.state;
  const encoding = rng.pick(['-', '-', 'gz', 'br'] as const);
  const packed =
    encoding === '-'
      ? payload.bytes
      : encoding === 'gz'
        ? gzipSync(payload.bytes)
        : brotliCompressSync(payload.bytes, { params: {} });
  const parts = rng.chance(0.1) && packed.length > 2 ? rng.int(1, 3) : 0;
  const target = payload.makes;
  // most tell the truth about what they make; the others are found by it
  const lie = rng.chance(0.9) ? null : rng.pick(['crc', 'length'] as const);
  const length = target === null ? rng.pick([bytes.length, 0, 16_777_216]) : target.length + (lie === 'length' ? 1 : 0);
  const header = frameHeader2({
    ...{ kind: payload.kind, encoding, parts, version: version + 1, at: 0, expiresAt: null, operation: '-', by: 'mallory' },
    ...{ crc: target === null || lie === 'crc' ? 'deadbeef' : crc32Hex(target), length, baseVersion: version, baseCrc: crc },
  });
  const cut = Math.ceil(packed.length / Math.max(1, parts));
  const messages =
    parts === 0
      ? [Buffer.concat([Buffer.from(header, 'latin1'), packed])]
      : [
          Buffer.from(header, 'latin1'),
          ...Array.from({ length: parts }, (_, part) => packed.subarray(part * cut, (part + 1) * cut)),
        ];
  return { messages, makes: lie === null ? target : null };
}

export type HostileOutcome = FrameOutcome | 'refused' | 'incomplete';

/**
 * Lets the target read one hostile frame, and says what came of it in how many milliseconds. `refused`: by the reader, as it says, before
 * the replica was asked.
 *
 * @throws Error where anything else comes of it than a replica is allowed to make of a frame
 */
export function readHostileFrame(rng: Rng, target: Target): { readonly outcome: HostileOutcome; readonly ms: number } {
  const { messages, makes } = hostileFrame(rng, target);
  const { replica } = target;
  const before = replica.state;
  let frame: ReceivedFrame | null = null;
  const begun = performance.now();
  const after = (outcome: HostileOutcome): { outcome: HostileOutcome; ms: number } => ({
    outcome,
    ms: performance.now() - begun,
  });
  const reader = new FrameReader();
  try {
    for (const message of messages) frame = reader.read(message);
  } catch (error) {
    if (!isContextError(error) || error.code !== 'BAD_FRAME') throw error;
    return after('refused');
  }
  if (frame === null) return after('incomplete');
  const read = after(replica.apply(frame));
  const { outcome } = read;
  if (outcome === 'applied') {
    const { state } = replica;
    if (makes === null) throw new Error('it was applied, and lies about what it makes');
    if (state.crc !== crc32Hex(makes) || state.bytes !== makes.length || !state.document?.text.bytes().equals(makes))
      throw new Error('it was applied, and made another document than it says');
    if (Object.getPrototypeOf({ polluted: 0 }) !== Object.prototype || 'polluted' in {})
      throw new Error('a prototype was changed');
    // whoever reads it for the first time must come to the same, or to the same refusal
    if (JSON.stringify(parseFrozen(makes.toString())) !== JSON.stringify(state.value))
      throw new Error('it was applied, and gave another value than its text');
    target.bytes = makes;
  } else if (outcome !== 'corrupt' && outcome !== 'gap') throw new Error(`its outcome was ${outcome}`);
  else if (replica.state !== before) throw new Error('it was not applied, and changed the state');
  return read;
}
