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
/** How far a small edit is looked past in both documents, bytes. */
const NEAR = 40;
/** How many bytes must agree beyond it: first, so that the documents run along each other again; then, to save anything. */
const ANCHOR = 32;
const AGREE = 8;
/** How many places of equal blocks are tried, and how many bytes further a longer copy is looked for. */
const CHAIN = 16;
const LAZY = 32;
/** Comparisons that may be made: for each byte of the target, and at most. Beyond it the first copy found is taken. */
const EFFORT = 24;
const MOST_EFFORT = 12_000_000;
/** Bytes without a copy after which fewer places are looked at; stretches longer than this have no short copies looked for. */
const BARREN = 1 << 16;
/** A copy as long as this is taken without looking further. */
const LONG = 256;
/** An index of the base is made for stretches that are at least such a fraction of it (as a shift): it takes time for all of the base. */
const COARSE_SHARE = 14;
const FINE_SHARE = 12;
/** Numbers of four bytes that are kept for an index: 2 MiB, enough for a base of 1 MiB. */
const MOST_KEPT = 1 << 19;
const MULTIPLIER = 0x2c1b3c6d;
/** Its powers: four bytes are hashed at once, because to multiply for each in turn takes most of the time of an index. */
const MULTIPLIER_2 = Math.imul(MULTIPLIER, MULTIPLIER);
const MULTIPLIER_3 = Math.imul(MULTIPLIER_2, MULTIPLIER);
const MULTIPLIER_4 = Math.imul(MULTIPLIER_3, MULTIPLIER);
const SPREAD = 0x9e3779b1;
/** A shorter stretch is inserted as it is: a copy would hardly save its own instruction. */
const SMALL = 12;

/** A copy: `length` bytes of the base from `from` on are those of the target from `at` on. */
interface Match {
  readonly from: number;
  readonly at: number;
  readonly length: number;
}

/**
 * The splice that makes `target` of `base`: linear in their lengths, whatever they hold. All of the base can be copied from, so
 * moved and repeated parts are found; parts of the target that only repeat the target are not.
 */
export function findSplice(base: Buffer, target: Buffer): Splice {
  const shorter = Math.min(base.length, target.length);
  let prefix = equalForward(base, 0, target, 0, shorter);
  // the instruction for a single byte is longer than the byte
  if (prefix === 1) prefix = 0;
  const suffix = equalBackward(base, base.length, target, target.length, shorter - prefix);
  const builder = new SpliceBuilder(base.length);
  builder.copy(0, prefix);
  const end = target.length - suffix;
  if (end - prefix < SMALL || base.length < AGREE) builder.insert(target.subarray(prefix, end));
  else new Matcher(base, target, builder).middle(prefix, end, base.length - suffix);
  builder.copy(base.length - suffix, suffix);
  return builder.build();
}

class Matcher {
  readonly #base: Buffer;
  readonly #target: Buffer;
  readonly #builder: SpliceBuilder;
  #coarse: BlockIndex | undefined;
  #fine: BlockIndex | undefined;
  readonly #budget: Budget;
  #copies = 0;

  constructor(base: Buffer, target: Buffer, builder: SpliceBuilder) {
    this.#base = base;
    this.#target = target;
    this.#builder = builder;
    this.#budget = { left: Math.min(20_000 + EFFORT * target.length, MOST_EFFORT) };
  }

  /** Long copies first, so that what is alike by chance does not lead away from them; then short ones between them. */
  middle(start: number, end: number, baseEnd: number): void {
    let done = start;
    let last = start;
    while (done < end) {
      const match = this.#anchor(done, end, last);
      if (match === null) break;
      this.#between(done, match.at, last, match.from);
      this.#copy(match);
      done = match.at + match.length;
      last = match.from + match.length;
    }
    this.#between(done, end, last, baseEnd);
  }

  #anchor(done: number, end: number, last: number): Match | null {
    if (end - done < ANCHOR || this.#copies >= MOST_COPIES) return null;
    const near = matchNear(this.#base, last, this.#target, done, end, ANCHOR, this.#budget);
    if (near !== null) return near;
    if (this.#coarse === undefined) {
      if (end - done < this.#base.length >> COARSE_SHARE) return null;
      this.#coarse = new BlockIndex(this.#base, 16, this.#base.length <= 1 << 18 ? 8 : 16, this.#budget, coarseScratch);
    }
    return this.#coarse.find(this.#target, done, end, last, null);
  }

  /** The stretch of the target between two long copies; `next` is where the second begins in the base. */
  #between(start: number, end: number, from: number, next: number): void {
    let done = start;
    let last = from;
    while (end - done >= SMALL && end - done <= BARREN && this.#copies < MOST_COPIES) {
      const near = matchNear(this.#base, last, this.#target, done, end, AGREE, this.#budget);
      const match = near ?? this.#findFine(done, end, last, next);
      if (match === null) break;
      this.#builder.insert(this.#target.subarray(done, match.at));
      this.#copy(match);
      done = match.at + match.length;
      last = match.from + match.length;
    }
    this.#builder.insert(this.#target.subarray(done, end));
  }

  #findFine(done: number, end: number, last: number, next: number): Match | null {
    if (this.#fine === undefined) {
      if (end - done < this.#base.length >> FINE_SHARE) return null;
      this.#fine = new BlockIndex(this.#base, 8, this.#base.length <= 1 << 18 ? 4 : 8, this.#budget, fineScratch);
    }
    return this.#fine.find(this.#target, done, end, last, next);
  }

  #copy({ from, length }: Match): void {
    this.#copies += 1;
    this.#builder.copy(from, length);
  }
}

/** What is left of {@link EFFORT}. */
interface Budget {
  left: number;
}

/** After a small edit the base goes on nearby: the nearest place (bytes of base and target passed over) where enough bytes agree. */
function matchNear(
  base: Buffer,
  from: number,
  target: Buffer,
  at: number,
  end: number,
  agree: number,
  budget: Budget,
): Match | null {
  const inBase = Math.min(NEAR, base.length - agree - from);
  const inTarget = Math.min(NEAR, end - agree - at);
  for (let sum = 1; sum <= inBase + inTarget && budget.left > 0; sum += 1) {
    budget.left -= sum;
    for (let skip = Math.max(0, sum - inBase); skip <= sum && skip <= inTarget; skip += 1) {
      const b = from + sum - skip;
      const t = at + skip;
      if (base[b] !== target[t] || base[b + agree - 1] !== target[t + agree - 1] || base[b + 3] !== target[t + 3]) continue;
      const length = equalForward(base, b, target, t, Math.min(base.length - b, end - t));
      budget.left -= Math.min(length, LONG);
      if (length >= agree) return { from: b, at: t, length };
    }
  }
  return null;
}

/** Memory for an index, kept for the next one: the garbage of one index after another would cost more than the index itself. */
class Scratch {
  #kept = new Int32Array(0);

  /** What it holds is left over from before. Only valid until the next call. */
  take(length: number): Int32Array {
    if (length > MOST_KEPT) return new Int32Array(length);
    if (this.#kept.length < length) this.#kept = new Int32Array(length);
    return this.#kept.subarray(0, length);
  }
}

const coarseScratch = new Scratch();
const fineScratch = new Scratch();

/** The base's blocks by their hash: every `step` bytes one of `window` bytes. */
class BlockIndex {
  readonly #base: Buffer;
  readonly #window: number;
  readonly #step: number;
  readonly #shift: number;
  readonly #heads: Int32Array;
  readonly #next: Int32Array;
  readonly #hashes: Int32Array;
  /** What the byte that leaves the window contributed: MULTIPLIER to the power of the window. */
  readonly #leaving: number;

  readonly #budget: Budget;

  constructor(base: Buffer, window: number, step: number, budget: Budget, scratch: Scratch) {
    this.#base = base;
    this.#budget = budget;
    this.#window = window;
    this.#step = step;
    const blocks = Math.max(0, Math.floor((base.length - window) / step) + 1);
    const bits = Math.min(20, Math.max(4, 33 - Math.clz32(blocks)));
    const shift = 32 - bits;
    const memory = scratch.take((1 << bits) + 2 * blocks);
    const heads = memory.subarray(0, 1 << bits).fill(-1);
    const next = memory.subarray(1 << bits, (1 << bits) + blocks);
    const hashes = memory.subarray((1 << bits) + blocks);
    this.#shift = shift;
    this.#heads = heads;
    this.#next = next;
    this.#hashes = hashes;
    const half = window >> 1;
    const shifted = power(half);
    this.#leaving = power(window);
    let behind = 0;
    // from the end, so that of equal blocks the first comes first
    for (let block = blocks - 1; block >= 0; block -= 1) {
      const at = block * step;
      // where blocks overlap by half, the first half of the one behind is the second half of this one
      const second = step === half && block < blocks - 1 ? behind : hashOf(base, at + half, half);
      behind = hashOf(base, at, half);
      const hash = (Math.imul(behind, shifted) + second) | 0;
      const slot = slotOf(hash, shift);
      hashes[block] = hash;
      next[block] = heads[slot] as number;
      heads[slot] = block;
    }
  }

  /**
   * The first copy in the target from `done` on that saves bytes, or a better one soon after it.
   *
   * @param last - where the previous copy ended in the base
   * @param next - where the one after it begins, if that is known
   */
  find(target: Buffer, done: number, end: number, last: number, next: number | null): Match | null {
    const window = this.#window;
    if (end - done < window || this.#base.length < window) return null;
    let hash = hashOf(target, done, window);
    let best: Match | null = null;
    let until = end - window;
    let look = done;
    for (let at = done; ; at += 1) {
      let block = -1;
      if (at >= look) {
        block = this.#heads[slotOf(hash, this.#shift)] as number;
        // an odd number, so that it meets blocks at every offset
        look = at + 1 + 2 * Math.floor((at - done) / BARREN);
      }
      const most = this.#budget.left > 0 ? CHAIN : 1;
      for (let tries = 0; tries < most && block >= 0; tries += 1) {
        if (this.#hashes[block] === hash) {
          const match = this.#extend(block, target, done, at, end);
          if (
            match !== null &&
            this.#saved(match, last, next) > (best === null ? 0 : this.#saved(best, last, next) + Math.max(0, match.at - best.at))
          ) {
            if (best === null) until = Math.min(until, at + LAZY);
            best = match;
          }
        }
        block = this.#next[block] as number;
      }
      if (at >= until || (best !== null && (best.length >= LONG || this.#budget.left <= 0))) return best;
      hash = (Math.imul(hash, MULTIPLIER) + (target[at + window] as number) - Math.imul(target[at] as number, this.#leaving)) | 0;
    }
  }

  #extend(block: number, target: Buffer, done: number, at: number, end: number): Match | null {
    const from = block * this.#step;
    const forward = equalForward(this.#base, from, target, at, Math.min(this.#base.length - from, end - at));
    this.#budget.left -= 8 + Math.min(forward, LONG);
    if (forward < this.#window) return null;
    const backward = equalBackward(this.#base, from, target, at, Math.min(from, at - done));
    this.#budget.left -= Math.min(backward, LONG);
    return { from: from - backward, at: at - backward, length: forward + backward };
  }

  /** Bytes that a copy saves: it takes an instruction and its distance, the one after it another distance, the insert that it divides an instruction. */
  #saved({ from, length }: Match, last: number, next: number | null): number {
    const there = varintLength(Math.abs(from - last) * 2);
    if (next === null) return length - varintLength(length * 2) - there - 1;
    const onward = varintLength(Math.abs(next - from - length) * 2) - varintLength(Math.abs(next - last) * 2);
    return length - varintLength(length * 2) - there - onward - 1;
  }
}

/** What a byte contributes to a hash when `bytes` more have followed it. */
function power(bytes: number): number {
  let factor = 1;
  for (let n = 0; n < bytes; n += 1) factor = Math.imul(factor, MULTIPLIER);
  return factor;
}

/** Of `window` bytes, a multiple of four: a polynomial of them, so that it rolls on by one byte. */
function hashOf(bytes: Buffer, at: number, window: number): number {
  let hash = 0;
  for (let n = at; n < at + window; n += 4) {
    const high = Math.imul(bytes[n] as number, MULTIPLIER_3) + Math.imul(bytes[n + 1] as number, MULTIPLIER_2);
    const low = Math.imul(bytes[n + 2] as number, MULTIPLIER) + (bytes[n + 3] as number);
    hash = (Math.imul(hash, MULTIPLIER_4) + high + low) | 0;
  }
  return hash;
}

function slotOf(hash: number, shift: number): number {
  return Math.imul(hash ^ (hash >>> 15), SPREAD) >>> shift;
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
