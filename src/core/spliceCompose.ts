/** Two splices, one after the other, as one: what several missed versions become without the document at hand. */
import { ContextError } from './errors.js';
import { type Piece, type Splice, SpliceBuilder } from './splice.js';
import { MAX_PIECES } from './spliceFormat.js';

const lengthOf = (piece: Piece): number => piece.bytes?.length ?? (piece as { length: number }).length;

/**
 * @throws ContextError `BASE_MISMATCH` where the second is not for what the first makes, `BAD_FRAME` where no reader would take the
 * result: a piece of the second can stand for all of the first, so few bytes can ask for very many pieces
 */
export function composeSplices(first: Splice, second: Splice): Splice {
  if (first.targetLength !== second.baseLength) {
    throw new ContextError(
      'BASE_MISMATCH',
      `a splice for ${second.baseLength} bytes does not follow one that makes ${first.targetLength}`,
      {
        expected: first.targetLength,
        found: second.baseLength,
      },
    );
  }
  const starts: number[] = [];
  let at = 0;
  for (const piece of first.pieces) {
    starts.push(at);
    at += lengthOf(piece);
  }
  const collected = new Collected(first.baseLength);
  for (const piece of second.pieces) {
    if (piece.bytes !== undefined) collected.insert(piece.bytes);
    else range(first, starts, piece.from, piece.length, collected);
  }
  return collected.build();
}

/** A {@link SpliceBuilder} that gives up where no reader would take the result. */
class Collected {
  readonly #builder: SpliceBuilder;
  #pieces = 0;

  constructor(baseLength: number) {
    this.#builder = new SpliceBuilder(baseLength);
  }

  insert(bytes: Buffer): void {
    this.#count();
    this.#builder.insert(bytes);
  }

  copy(from: number, length: number): void {
    this.#count();
    this.#builder.copy(from, length);
  }

  build(): Splice {
    return this.#builder.build();
  }

  #count(): void {
    this.#pieces += 1;
    if (this.#pieces > MAX_PIECES)
      throw new ContextError('BAD_FRAME', `splices were not made one: together they have more than ${MAX_PIECES} pieces`);
  }
}

function range(first: Splice, starts: readonly number[], from: number, length: number, collected: Collected): void {
  let low = 0;
  let high = starts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((starts[middle] as number) <= from) low = middle;
    else high = middle - 1;
  }
  let at = from;
  const end = from + length;
  for (let index = low; at < end; index += 1) {
    const piece = first.pieces[index] as Piece;
    const offset = at - (starts[index] as number);
    const count = Math.min(end - at, lengthOf(piece) - offset);
    if (piece.bytes !== undefined) collected.insert(piece.bytes.subarray(offset, offset + count));
    else collected.copy(piece.from + offset, count);
    at += count;
  }
}
