/**
 * The sizes of a container's children, cut into blocks, so that a version shares with the one before all blocks in which nothing has
 * changed: finding a place, and following a change, then cost the block and the number of blocks, not the number of children.
 */

/** Children of a block that is newly cut. One that has grown to twice as many is cut again. */
const BLOCK = 128;

/** Children `[first, end)` that others take the place of. */
export interface Replacement {
  readonly first: number;
  readonly end: number;
  readonly sizes: readonly number[];
}

export class ChildLayout {
  /** Bytes of each child, without the comma. No block is empty. */
  readonly #blocks: readonly Uint32Array[];
  /** The first child of each block, and one past the last child. */
  readonly #firsts: Uint32Array;
  /** Where the first child of each block begins in the container's text, and where one behind the last would. */
  readonly #starts: Uint32Array;

  private constructor(blocks: readonly Uint32Array[]) {
    this.#blocks = blocks;
    this.#firsts = new Uint32Array(blocks.length + 1);
    this.#starts = new Uint32Array(blocks.length + 1);
    this.#starts[0] = 1;
  }

  static of(sizes: Uint32Array): ChildLayout {
    const blocks: Uint32Array[] = [];
    for (let from = 0; from < sizes.length; from += BLOCK) blocks.push(sizes.subarray(from, from + BLOCK));
    const layout = new ChildLayout(blocks);
    let start = 1;
    for (let index = 0; index < blocks.length; index += 1)
      start = layout.#place(index, start, totalOf(blocks[index] as Uint32Array));
    return layout;
  }

  get count(): number {
    return this.#firsts[this.#blocks.length] as number;
  }

  /** Of the whole container, brackets included. */
  get bytes(): number {
    return this.count === 0 ? 2 : (this.#starts[this.#blocks.length] as number);
  }

  /** How many of this one's blocks are another's as well: for tests. */
  sharedWith(other: ChildLayout): { readonly shared: number; readonly blocks: number } {
    const theirs = new Set(other.#blocks);
    return { shared: this.#blocks.filter((block) => theirs.has(block)).length, blocks: this.#blocks.length };
  }

  /** Where a child begins in the container's text; of the one behind the last, where it would. */
  start(child: number): number {
    if (child >= this.count) return this.#starts[this.#blocks.length] as number;
    const block = lastNotAfter(this.#firsts, this.#blocks.length, child);
    const sizes = this.#blocks[block] as Uint32Array;
    let at = this.#starts[block] as number;
    for (let index = (this.#firsts[block] as number) + 1; index <= child; index += 1)
      at += (sizes[index - 1 - (this.#firsts[block] as number)] as number) + 1;
    return at;
  }

  size(child: number): number {
    const block = lastNotAfter(this.#firsts, this.#blocks.length, child);
    return this.#blocks[block]?.[child - (this.#firsts[block] as number)] ?? 0;
  }

  /** The child that a place of the container's text lies in, or directly behind. */
  childAt(place: number): number {
    if (this.#blocks.length === 0) return 0;
    const block = lastNotAfter(this.#starts, this.#blocks.length, place);
    const sizes = this.#blocks[block] as Uint32Array;
    let at = this.#starts[block] as number;
    let index = 0;
    for (; index + 1 < sizes.length; index += 1) {
      at += (sizes[index] as number) + 1;
      if (at > place) break;
    }
    return (this.#firsts[block] as number) + index;
  }

  /** All sizes in one piece. */
  sizes(): Uint32Array {
    const sizes = new Uint32Array(this.count);
    for (let index = 0; index < this.#blocks.length; index += 1)
      sizes.set(this.#blocks[index] as Uint32Array, this.#firsts[index] as number);
    return sizes;
  }

  /** With other children in some places. @param replacements - in order; they do not overlap */
  replaced(replacements: readonly Replacement[]): ChildLayout {
    const rewriting = new Rewriting(this.#blocks, this.#starts);
    for (const { first, end, sizes } of replacements) {
      rewriting.keepUntil(first, false);
      rewriting.put(sizes, end);
    }
    rewriting.keepUntil(this.count, true);
    const { blocks, totals } = rewriting;
    const layout = new ChildLayout(blocks);
    let start = 1;
    for (let index = 0; index < blocks.length; index += 1) start = layout.#place(index, start, totals[index] as number);
    return layout;
  }

  #place(index: number, start: number, total: number): number {
    this.#starts[index] = start;
    this.#starts[index + 1] = start + total;
    this.#firsts[index + 1] = (this.#firsts[index] as number) + (this.#blocks[index] as Uint32Array).length;
    return start + total;
  }
}

class Rewriting {
  readonly blocks: Uint32Array[] = [];
  /** Bytes of each block. */
  readonly totals: number[] = [];
  readonly #old: readonly Uint32Array[];
  readonly #starts: Uint32Array;
  /** The next old child, and the block that it is in with that one's first child. */
  #child = 0;
  #block = 0;
  #first = 0;
  /** Sizes that are not in a block yet. */
  #open: number[] = [];

  constructor(old: readonly Uint32Array[], starts: Uint32Array) {
    this.#old = old;
    this.#starts = starts;
  }

  /** Old children stay. Where something is put behind them, the block before it is open: otherwise each would begin a block of its own. */
  keepUntil(to: number, last: boolean): void {
    while (this.#child < to) {
      const sizes = this.#old[this.#block] as Uint32Array;
      const end = this.#first + sizes.length;
      if (this.#open.length === 0 && this.#child === this.#first && (end < to || last)) {
        this.blocks.push(sizes);
        this.totals.push((this.#starts[this.#block + 1] as number) - (this.#starts[this.#block] as number));
        this.#skip(end);
        continue;
      }
      const until = Math.min(end, to);
      for (let index = this.#child; index < until; index += 1) this.#open.push(sizes[index - this.#first] as number);
      this.#skip(until);
      if (until < to) this.#close();
    }
    if (last) this.#close();
  }

  /** New children in the place of the old ones before `end`. */
  put(sizes: readonly number[], end: number): void {
    for (const size of sizes) this.#open.push(size);
    this.#skip(end);
    if (this.#open.length >= BLOCK && this.#child === this.#first) this.#close();
  }

  #skip(to: number): void {
    this.#child = to;
    for (
      let sizes = this.#old[this.#block];
      sizes !== undefined && this.#first + sizes.length <= to;
      sizes = this.#old[this.#block]
    ) {
      this.#first += sizes.length;
      this.#block += 1;
    }
  }

  #close(): void {
    const open = this.#open;
    if (open.length === 0) return;
    const cut = open.length > 2 * BLOCK ? BLOCK : open.length;
    for (let from = 0; from < open.length; from += cut) {
      const block = Uint32Array.from(cut === open.length ? open : open.slice(from, from + cut));
      this.blocks.push(block);
      this.totals.push(totalOf(block));
    }
    this.#open = [];
  }
}

/** Bytes of children with a comma each. */
function totalOf(sizes: Uint32Array): number {
  let total = sizes.length;
  for (const size of sizes) total += size;
  return total;
}

/** The last of `count` rising numbers that is not above `value`. */
function lastNotAfter(numbers: Uint32Array, count: number, value: number): number {
  let low = 0;
  let high = count - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((numbers[middle] as number) <= value) low = middle;
    else high = middle - 1;
  }
  return low;
}
