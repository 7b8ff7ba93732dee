/** Random splices for tests: all that can happen to the bytes of a document, often just at the borders of its chunks. */
import { type Piece, type Splice, SpliceBuilder } from '../../src/core/splice.js';
import type { Rng } from './random.js';

export function randomBytes(rng: Rng, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at += 1) bytes[at] = rng.int(0, 255);
  return bytes;
}

/** The bytes that a splice inserts, in order: what a plan takes them from. */
export const insertedBytes = ({ pieces }: Splice): Buffer =>
  Buffer.concat(pieces.flatMap(({ bytes }: Piece) => (bytes === undefined ? [] : [bytes])));

export const SPLICE_KINDS = [
  'edits',
  'append',
  'insert',
  'delete',
  'move',
  'copy',
  'truncate',
  'shuffle',
  'same',
  'new',
] as const;
export type SpliceKind = (typeof SPLICE_KINDS)[number];

/**
 * A splice of a document of `length` bytes whose chunks begin at `starts`.
 *
 * @param room - the most bytes the result should have; one that would have more is deleted from instead
 */
export function randomSplice(rng: Rng, length: number, starts: readonly number[], room: number, kind?: SpliceKind): Splice {
  const builder = new SpliceBuilder(length);
  const place = (): number => {
    if (rng.chance(0.5)) return rng.int(0, length);
    const near = rng.pick([...starts, length]) + (rng.chance(0.3) ? rng.int(-2, 2) : 0);
    return Math.min(length, Math.max(0, near));
  };
  const range = (most: number): [number, number] => {
    const [a, b] = [place(), place()].sort((x, y) => x - y) as [number, number];
    return [a, Math.min(b, a + most)];
  };
  const size = (): number => rng.pick([1, 2, 30, 500, 2_500, 9_000, 20_000, 40_000]);
  const copy = (from: number, to: number): void => builder.copy(from, to - from);
  const insert = (bytes: number): void => builder.insert(randomBytes(rng, rng.int(0, bytes)));
  switch (length > room ? rng.pick(['delete', 'truncate'] as const) : (kind ?? rng.pick(SPLICE_KINDS))) {
    case 'edits': {
      const places = Array.from({ length: rng.int(1, 5) }, place).sort((x, y) => x - y);
      let at = 0;
      for (const next of places) {
        if (next < at) continue;
        copy(at, next);
        insert(rng.pick([0, 1, 20, 200]));
        at = Math.min(length, next + rng.pick([0, 1, 15, 300]));
      }
      copy(at, length);
      break;
    }
    case 'append':
      copy(0, length);
      insert(size());
      break;
    case 'insert': {
      const at = place();
      copy(0, at);
      insert(size());
      copy(at, length);
      break;
    }
    case 'delete': {
      const [from, to] = range(rng.pick([1, 100, 5_000, length]));
      copy(0, from);
      copy(to, length);
      break;
    }
    case 'move': {
      const [from, to] = range(length);
      const at = rng.chance(0.5) ? rng.int(0, from) : rng.int(to, length);
      const cuts = at <= from ? [0, at, from, to, at, from, to, length] : [0, from, to, at, from, to, at, length];
      for (let n = 0; n < cuts.length; n += 2) copy(cuts[n] as number, cuts[n + 1] as number);
      break;
    }
    case 'copy': {
      const [from, to] = range(30_000);
      const at = place();
      copy(0, at);
      for (let times = rng.int(1, 3); times > 0; times -= 1) {
        copy(from, to);
        insert(rng.pick([0, 0, 5]));
      }
      copy(at, length);
      break;
    }
    case 'truncate': {
      const [from, to] = range(rng.pick([100, 15_000, 20_000, length]));
      copy(from, to);
      break;
    }
    case 'shuffle': {
      const cuts = [...new Set([0, length, ...Array.from({ length: rng.int(1, 6) }, place)])].sort((x, y) => x - y);
      const parts = cuts.slice(1).map((to, index): [number, number] => [cuts[index] as number, to]);
      for (const [from, to] of parts.sort(() => rng.next() - 0.5)) copy(from, to);
      break;
    }
    case 'same':
      copy(0, length);
      break;
    case 'new':
      insert(rng.pick([200, 20_000, 40_000, 60_000]));
      break;
  }
  return builder.build();
}
