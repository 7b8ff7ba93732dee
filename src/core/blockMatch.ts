/**
 * What two documents have in common, as a splice. Three ways, the cheap ones first: the prefix and suffix; after a copy, the place
 * nearby where the base goes on; and an index of the base's blocks, found again by a rolling hash (Karp–Rabin), for what moved.
 */
import { type Splice, SpliceBuilder } from './splice.js';

/** Pieces that a reader takes are bounded (`spliceFormat.ts`): what would need more is inserted. */
const MOST_COPIES = 30_000;
/** Bytes compared one by one before the native comparison is worth its call. */
const BY_BYTE = 24;
const WIDEST = 1 << 16;
/** How far a small edit is looked past in both documents, bytes, and how many bytes must agree there. */
const NEAR = 40;
const AGREE = 8;
/** Places of equal blocks that are tried. */
const CHAIN = 8;
const MULTIPLIER = 0x2c1b3c6d;
const SPREAD = 0x9e3779b1;
/** A shorter middle is inserted as it is: a copy would hardly save its own instruction. */
const SMALL = 12;

/**
 * The splice that makes `target` of `base`: linear in their lengths, whatever they hold. All of the base can be copied from, so
 * moved and repeated parts are found; parts of the target that only repeat the target are not.
 */
export function findSplice(base: Buffer, target: Buffer): Splice {
  const shorter = Math.min(base.length, target.length);
  const prefix = equalForward(base, 0, target, 0, shorter);
  const suffix = equalBackward(base, base.length, target, target.length, shorter - prefix);
  const builder = new SpliceBuilder(base.length);
  builder.copy(0, prefix);
  const end = target.length - suffix;
  if (end - prefix < SMALL || base.length < AGREE) builder.insert(target.subarray(prefix, end));
  else matchMiddle(base, target, prefix, end, builder);
  builder.copy(base.length - suffix, suffix);
  return builder.build();
}

function matchMiddle(base: Buffer, target: Buffer, start: number, end: number, builder: SpliceBuilder): void {
  let index: BlockIndex | undefined;
  /** Up to here the target is made; from here to `at` an insert is pending. */
  let done = start;
  /** Where the previous copy ended in the base. */
  let last = start;
  const found: Found = { from: 0, at: 0, length: 0 };
  for (let copies = 0; copies < MOST_COPIES && done < end; copies += 1) {
    if (!matchNear(base, last, target, done, end, found)) {
      if (end - done < SMALL) break;
      index ??= new BlockIndex(base, end - start, start);
      if (!index.find(target, done, end, last, found)) break;
    }
    builder.insert(target.subarray(done, found.at));
    builder.copy(found.from, found.length);
    done = found.at + found.length;
    last = found.from + found.length;
  }
  builder.insert(target.subarray(done, end));
}

/** A copy: `length` bytes of the base from `from` on are those of the target from `at` on. */
interface Found {
  from: number;
  at: number;
  length: number;
}

/** After a small edit the base goes on nearby: the nearest place (bytes of base and target passed over) where enough bytes agree. */
function matchNear(base: Buffer, from: number, target: Buffer, at: number, end: number, found: Found): boolean {
  const inBase = Math.min(NEAR, base.length - AGREE - from);
  const inTarget = Math.min(NEAR, end - AGREE - at);
  for (let sum = 1; sum <= inBase + inTarget; sum += 1) {
    for (let skip = Math.max(0, sum - inBase); skip <= sum && skip <= inTarget; skip += 1) {
      const b = from + sum - skip;
      const t = at + skip;
      if (base[b] !== target[t] || base[b + 1] !== target[t + 1] || base[b + 2] !== target[t + 2] || base[b + 7] !== target[t + 7]) continue;
      const length = equalForward(base, b, target, t, Math.min(base.length - b, end - t));
      if (length < AGREE) continue;
      found.from = b;
      found.at = t;
      found.length = length;
      return true;
    }
  }
  return false;
}

/** The base's blocks by their hash: every `step` bytes one of `window` bytes. */
class BlockIndex {
  readonly #base: Buffer;
  readonly #window: number;
  readonly #step: number;
  readonly #shift: number;
  readonly #heads: Int32Array;
  readonly #next: Int32Array;
  /** What the byte that leaves the window contributed: MULTIPLIER to the power of the window. */
  readonly #leaving: number;

  constructor(base: Buffer, middle: number, _near: number) {
    const small = base.length <= 1 << 17 || middle < 1 << 14;
    this.#base = base;
    this.#window = small ? 8 : 16;
    this.#step = small ? 8 : 16;
    const blocks = Math.max(1, Math.floor((base.length - this.#window) / this.#step) + 1);
    const bits = Math.min(20, Math.max(4, 32 - Math.clz32(blocks)));
    this.#shift = 32 - bits;
    this.#heads = new Int32Array(1 << bits).fill(-1);
    this.#next = new Int32Array(blocks);
    let leaving = 1;
    for (let n = 0; n < this.#window; n += 1) leaving = Math.imul(leaving, MULTIPLIER);
    this.#leaving = leaving;
    // from the end, so that of equal blocks the first comes first
    for (let block = blocks - 1; block >= 0; block -= 1) {
      const at = block * this.#step;
      if (at + this.#window > base.length) continue;
      const slot = this.#slot(this.#hash(base, at));
      this.#next[block] = this.#heads[slot] as number;
      this.#heads[slot] = block;
    }
  }

  /** The first copy in the target from `done` on that saves bytes, the longest of those at its place. */
  find(target: Buffer, done: number, end: number, last: number, found: Found): boolean {
    const window = this.#window;
    if (end - done < window || this.#base.length < window) return false;
    let hash = this.#hash(target, done);
    for (let at = done; ; at += 1) {
      const head = this.#heads[this.#slot(hash)] as number;
      if (head >= 0 && this.#longest(head, target, done, at, end, last, found)) return true;
      if (at + window >= end) return false;
      hash = (Math.imul(hash, MULTIPLIER) + (target[at + window] as number) - Math.imul(target[at] as number, this.#leaving)) | 0;
    }
  }

  #longest(head: number, target: Buffer, done: number, at: number, end: number, last: number, found: Found): boolean {
    const base = this.#base;
    let best = 0;
    let block = head;
    for (let tries = 0; tries < CHAIN && block >= 0; tries += 1, block = this.#next[block] as number) {
      const from = block * this.#step;
      const forward = equalForward(base, from, target, at, Math.min(base.length - from, end - at));
      if (forward < this.#window) continue;
      const backward = equalBackward(base, from, target, at, Math.min(from, at - done));
      const length = forward + backward;
      const saved = length - costOf(length, from - backward - last);
      if (saved <= best) continue;
      best = saved;
      found.from = from - backward;
      found.at = at - backward;
      found.length = length;
    }
    return best > 0;
  }

  #hash(bytes: Buffer, at: number): number {
    let hash = 0;
    for (let n = at; n < at + this.#window; n += 1) hash = (Math.imul(hash, MULTIPLIER) + (bytes[n] as number)) | 0;
    return hash;
  }

  #slot(hash: number): number {
    return Math.imul(hash ^ (hash >>> 15), SPREAD) >>> this.#shift;
  }
}

/** Bytes that a copy takes in the binary form, with the way back and the instruction of the insert it divides. */
function costOf(length: number, distance: number): number {
  return varintLength(length * 2) + 2 * varintLength(Math.abs(distance) * 2) + 1;
}

function varintLength(value: number): number {
  return value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x20_0000 ? 3 : value < 0x1000_0000 ? 4 : 5;
}

/** How many bytes agree from `a` in `left` and from `b` in `right` on, at most `limit`. */
function equalForward(left: Buffer, a: number, right: Buffer, b: number, limit: number): number {
  const first = Math.min(limit, BY_BYTE);
  let length = 0;
  while (length < first && left[a + length] === right[b + length]) length += 1;
  if (length < first || length === limit) return length;
  let width = 32;
  while (length < limit) {
    const size = Math.min(width, limit - length);
    const same = left.compare(right, b + length, b + length + size, a + length, a + length + size) === 0;
    if (same) {
      length += size;
      if (width < WIDEST) width *= 2;
    } else if (size <= 32) {
      while (left[a + length] === right[b + length]) length += 1;
      return length;
    } else {
      // it is in this window: narrower ones find it
      width = size >> 1;
      limit = length + size;
    }
  }
  return length;
}

/** How many bytes agree before `a` in `left` and before `b` in `right`, at most `limit`. */
function equalBackward(left: Buffer, a: number, right: Buffer, b: number, limit: number): number {
  const first = Math.min(limit, BY_BYTE);
  let length = 0;
  while (length < first && left[a - length - 1] === right[b - length - 1]) length += 1;
  if (length < first || length === limit) return length;
  let width = 32;
  while (length < limit) {
    const size = Math.min(width, limit - length);
    const same = left.compare(right, b - length - size, b - length, a - length - size, a - length) === 0;
    if (same) {
      length += size;
      if (width < WIDEST) width *= 2;
    } else if (size <= 32) {
      while (left[a - length - 1] === right[b - length - 1]) length += 1;
      return length;
    } else {
      width = size >> 1;
      limit = length + size;
    }
  }
  return length;
}
