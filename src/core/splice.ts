/**
 * A splice: how the bytes of one document are made of those of another. In memory it is a list of pieces in the order of the target;
 * its binary form is written and read in `spliceFormat.ts`.
 */

/** `length` bytes of the base, from `from` on. */
export interface Copy {
  readonly from: number;
  readonly length: number;
  readonly bytes?: undefined;
}

/** Bytes that the base does not have. */
export interface Insert {
  readonly bytes: Buffer;
  readonly from?: undefined;
}

export type Piece = Copy | Insert;

/** No piece is empty, no copy follows the copy that ends where it begins, no insert follows an insert: one form for one splice. */
export interface Splice {
  /** Length of the document it applies to, bytes. */
  readonly baseLength: number;
  /** Length of the document it makes, bytes: the sum of its pieces. */
  readonly targetLength: number;
  readonly pieces: readonly Piece[];
}

/** Bytes of the target that the base does not have. */
export const insertedBytes = ({ pieces }: Splice): number =>
  pieces.reduce((sum, { bytes }) => (bytes === undefined ? sum : sum + bytes.length), 0);

/**
 * Collects pieces into a {@link Splice}: empty ones are left out, neighbours that continue each other become one. Inserts are joined once,
 * when something else follows: joining them one by one would copy the first for each.
 */
export class SpliceBuilder {
  readonly #baseLength: number;
  readonly #pieces: Piece[] = [];
  #inserts: Buffer[] = [];
  #targetLength = 0;

  constructor(baseLength: number) {
    this.#baseLength = baseLength;
  }

  copy(from: number, length: number): void {
    if (length === 0) return;
    this.#flush();
    this.#targetLength += length;
    const last = this.#pieces.at(-1);
    if (last !== undefined && last.bytes === undefined && last.from + last.length === from)
      this.#pieces[this.#pieces.length - 1] = { from: last.from, length: last.length + length };
    else this.#pieces.push({ from, length });
  }

  insert(bytes: Buffer): void {
    if (bytes.length === 0) return;
    this.#targetLength += bytes.length;
    this.#inserts.push(bytes);
  }

  /** Bytes of the target so far. */
  get length(): number {
    return this.#targetLength;
  }

  /** Pieces so far. */
  get pieces(): number {
    return this.#pieces.length + (this.#inserts.length > 0 ? 1 : 0);
  }

  build(): Splice {
    this.#flush();
    return { baseLength: this.#baseLength, targetLength: this.#targetLength, pieces: this.#pieces };
  }

  #flush(): void {
    const [only] = this.#inserts;
    if (only === undefined) return;
    this.#pieces.push({ bytes: this.#inserts.length === 1 ? only : Buffer.concat(this.#inserts) });
    this.#inserts = [];
  }
}
