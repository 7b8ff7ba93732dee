/**
 * The binary form of a splice (docs/decisions/0005-splice-format.md, docs/DELTA_PROTOCOL.md): a version byte, three lengths, the
 * instructions, and all inserted bytes behind them, so that these can be taken from it without decoding anything.
 */
import { ContextError } from './errors.js';
import { type Piece, type Splice, SpliceBuilder } from './splice.js';

const FORMAT = 1;
const MAX_TARGET = 16 * 1024 * 1024;
/** A reader refuses more. */
export const MAX_PIECES = 65_536;
const MAX_VARINT = 2 ** 32;
/** What the fifth byte of a varint counts: the last one. */
const LAST_SCALE = 0x80 ** 4;

const bad = (why: string): ContextError =>
  new ContextError('BAD_FRAME', `a splice was refused: ${why}; the replica takes the full document instead`);

function pushVarint(bytes: number[], value: number): void {
  let left = value;
  while (left >= 0x80) {
    bytes.push((left % 0x80) | 0x80);
    left = Math.floor(left / 0x80);
  }
  bytes.push(left);
}

/**
 * @returns the bytes, and where the inserted bytes begin in them
 * @throws RangeError where it has more pieces than a reader takes: who makes splices has to see to that
 */
export function writeSplice(splice: Splice): { readonly bytes: Buffer; readonly literals: number } {
  const { baseLength, targetLength, pieces } = splice;
  if (pieces.length > MAX_PIECES)
    throw new RangeError(`a splice of ${pieces.length} pieces: no reader takes more than ${MAX_PIECES}`);
  const instructions: number[] = [];
  const inserted: Buffer[] = [];
  let at = 0;
  pieces.forEach((piece, index) => {
    if (piece.bytes !== undefined) {
      pushVarint(instructions, piece.bytes.length * 2 + 1);
      inserted.push(piece.bytes);
      return;
    }
    // the end of the base at the end of the target goes without saying
    if (index === pieces.length - 1 && piece.from + piece.length === baseLength) return;
    pushVarint(instructions, piece.length * 2);
    const distance = piece.from - at;
    pushVarint(instructions, distance >= 0 ? distance * 2 : -distance * 2 - 1);
    at = piece.from + piece.length;
  });
  const head: number[] = [FORMAT];
  pushVarint(head, baseLength);
  pushVarint(head, targetLength);
  pushVarint(head, instructions.length);
  return {
    bytes: Buffer.concat([Buffer.from(head), Buffer.from(instructions), ...inserted]),
    literals: head.length + instructions.length,
  };
}

/** @throws ContextError `BAD_FRAME` for anything that is not exactly a splice; nothing is allocated by what it claims */
export function readSplice(bytes: Buffer): Splice {
  let at = 0;
  const varint = (end: number, name: string): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 0x80) {
      if (at >= end) throw bad(`it ends inside its ${name}`);
      const byte = bytes[at] as number;
      at += 1;
      value += (byte & 0x7f) * scale;
      if (value > MAX_VARINT) throw bad(`its ${name} is too large`);
      if (byte < 0x80) return value;
      if (scale === LAST_SCALE) throw bad(`its ${name} is too long`);
    }
  };
  if (bytes[0] !== FORMAT) throw bad(`its format is ${bytes[0] ?? 'absent'}, not ${FORMAT}`);
  at = 1;
  const baseLength = varint(bytes.length, 'base length');
  const targetLength = varint(bytes.length, 'target length');
  if (targetLength > MAX_TARGET) throw bad(`its target would have ${targetLength} bytes, more than ${MAX_TARGET}`);
  const count = varint(bytes.length, 'instructions');
  const end = at + count;
  if (end > bytes.length) throw bad('its instructions are longer than it is');
  const builder = new SpliceBuilder(baseLength);
  // inserts that follow each other are one: joined here, because joining them one by one would copy the first for each
  let insert = end;
  let literal = end;
  let base = 0;
  const made = (): number => builder.length + literal - insert;
  for (let pieces = 0; at < end; pieces += 1) {
    if (pieces >= MAX_PIECES) throw bad(`it has more than ${MAX_PIECES} pieces`);
    const word = varint(end, 'instruction');
    const length = Math.floor(word / 2);
    if (length === 0) throw bad('it has an empty piece');
    if (length > targetLength - made()) throw bad('it makes more than its target');
    if (word % 2 === 1) {
      if (length > bytes.length - literal) throw bad('it inserts bytes that it does not have');
      literal += length;
      continue;
    }
    const distance = varint(end, 'distance');
    const from = base + (distance % 2 === 0 ? distance / 2 : -(distance + 1) / 2);
    if (from < 0 || from + length > baseLength) throw bad('it copies from outside of its base');
    builder.insert(bytes.subarray(insert, literal));
    insert = literal;
    builder.copy(from, length);
    base = from + length;
  }
  if (literal !== bytes.length) throw bad('it has bytes that nothing inserts');
  builder.insert(bytes.subarray(insert, literal));
  const missing = targetLength - builder.length;
  if (missing > baseLength) throw bad('it makes less than its target');
  builder.copy(baseLength - missing, missing);
  return builder.build();
}

/** @throws ContextError `BASE_MISMATCH` where the base has another length */
export function applySplice(base: Buffer, splice: Splice): Buffer {
  if (base.length !== splice.baseLength) {
    throw new ContextError('BASE_MISMATCH', `a splice for ${splice.baseLength} bytes does not fit a document of ${base.length}`, {
      expected: splice.baseLength,
      found: base.length,
    });
  }
  return Buffer.concat(
    splice.pieces.map((piece: Piece) => piece.bytes ?? base.subarray(piece.from, piece.from + piece.length)),
    splice.targetLength,
  );
}
