/**
 * Which elements of two arrays stay, given as integers that are equal where the elements are. Time and memory are bounded for any
 * input: what is found is always a common subsequence, the longest one unless the arrays are large and full of duplicates.
 */

/** Matches `[indexA, indexB, indexA, indexB, …]`, rising in both. */
export type Matches = readonly number[];

/** Pairs of equal elements up to which the longest common subsequence is computed from them all. */
const MAX_PAIRS = 200_000;
/** Bounds of the search by edit distance: its memory is the square of the first. */
const MAX_EDITS = 512;
const MAX_STEPS = 4_000_000;
/** Occurrences in the other array that an element is compared with where all would be too many: as many as make so many in all. */
const MAX_CANDIDATES = 8;
const CANDIDATES_IN_ALL = 1_000_000;

export function commonSubsequence(a: Int32Array, b: Int32Array): Matches {
  const countsA = count(a);
  const countsB = count(b);
  // an element that the other array does not have changes nothing about the rest
  const keptA = indexesWhere(a, countsB);
  const keptB = indexesWhere(b, countsA);
  if (keptA.length === 0) return [];
  let pairs = 0;
  for (const [id, inA] of countsA) pairs += inA * (countsB.get(id) ?? 0);
  const left = keptA.map((index) => a[index] as number);
  const right = keptB.map((index) => b[index] as number);
  const equal = (indexA: number, indexB: number): boolean => left[indexA] === right[indexB];
  const candidates = Math.max(2, Math.min(MAX_CANDIDATES, Math.floor(CANDIDATES_IN_ALL / left.length)));
  const found =
    pairs <= MAX_PAIRS
      ? byPairs(left, right, Number.POSITIVE_INFINITY)
      : (byEdits(left.length, right.length, equal, MAX_EDITS, MAX_STEPS) ?? byPairs(left, right, candidates));
  return found.map((index, place) => (place % 2 === 0 ? keptA : keptB)[index] as number);
}

function count(ids: Int32Array): Map<number, number> {
  const counts = new Map<number, number>();
  for (let index = 0; index < ids.length; index++) {
    const id = ids[index] as number;
    counts.set(id, (counts.get(id) ?? 0) + 1);
  }
  return counts;
}

function indexesWhere(ids: Int32Array, present: ReadonlyMap<number, number>): number[] {
  const indexes: number[] = [];
  for (let index = 0; index < ids.length; index++) if (present.has(ids[index] as number)) indexes.push(index);
  return indexes;
}

/**
 * Hunt and Szymanski (1977): a common subsequence is a rising sequence of pairs of equal elements. Exact where all pairs are
 * looked at; with fewer candidates for each element it misses some.
 */
function byPairs(a: readonly number[], b: readonly number[], maxCandidates: number): number[] {
  const places = new Map<number, number[]>();
  for (let index = 0; index < b.length; index++) {
    const id = b[index] as number;
    const known = places.get(id);
    if (known === undefined) places.set(id, [index]);
    else known.push(index);
  }
  // for each length, the pair that ends a subsequence of it earliest in b
  const ends: number[] = [];
  const endPairs: number[] = [];
  const pairA: number[] = [];
  const pairB: number[] = [];
  const previous: number[] = [];
  for (let indexA = 0; indexA < a.length; indexA++) {
    const all = places.get(a[indexA] as number) ?? [];
    const candidates = all.length <= maxCandidates ? all : nearest(all, [indexA, indexA + b.length - a.length], maxCandidates);
    // from the last to the first, so that one element is not used twice
    for (let place = candidates.length - 1; place >= 0; place--) {
      const indexB = candidates[place] as number;
      const length = firstNotBelow(ends, indexB);
      if (ends[length] === indexB) continue;
      ends[length] = indexB;
      endPairs[length] = pairA.length;
      pairA.push(indexA);
      pairB.push(indexB);
      previous.push(length === 0 ? -1 : (endPairs[length - 1] as number));
    }
  }
  const found: number[] = [];
  for (let pair = endPairs.at(-1) ?? -1; pair >= 0; pair = previous[pair] as number)
    found.push(pairB[pair] as number, pairA[pair] as number);
  return found.reverse();
}

/** Those of `sorted` that lie around each of `targets`, sorted. */
function nearest(sorted: readonly number[], targets: readonly number[], most: number): number[] {
  const share = Math.floor(most / targets.length);
  const chosen = new Set<number>();
  for (const target of targets) {
    const start = Math.max(0, Math.min(firstNotBelow(sorted, target) - Math.floor(share / 2), sorted.length - share));
    for (const index of sorted.slice(start, start + share)) chosen.add(index);
  }
  return [...chosen].sort((x, y) => x - y);
}

/** Index of the first element of `sorted` that is not below `value`. */
function firstNotBelow(sorted: readonly number[], value: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] as number) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * Myers (1986): quick where little differs. A longest common subsequence, or `null` where more than `mostEdits` elements are added and
 * removed, or more than `maxSteps` comparisons would be needed. `equal` takes an index in each array.
 */
export function byEdits(
  lengthA: number,
  lengthB: number,
  equal: (indexA: number, indexB: number) => boolean,
  mostEdits: number,
  maxSteps: number,
): Matches | null {
  const maxEdits = Math.min(mostEdits, lengthA + lengthB);
  if (Math.abs(lengthA - lengthB) > maxEdits) return null;
  let steps = 0;
  // furthest[maxEdits + k]: how far into a one gets on diagonal k (index in a less index in b) with so many edits
  const furthest = new Int32Array(2 * maxEdits + 2);
  const trace: Int32Array[] = [];
  for (let edits = 0; edits <= maxEdits; edits++) {
    trace.push(furthest.slice(maxEdits - edits, maxEdits + edits + 1));
    for (let k = -edits; k <= edits; k += 2) {
      const down =
        k === -edits || (k !== edits && (furthest[maxEdits + k - 1] as number) < (furthest[maxEdits + k + 1] as number));
      let x = down ? (furthest[maxEdits + k + 1] as number) : (furthest[maxEdits + k - 1] as number) + 1;
      const start = x;
      while (x < lengthA && x - k < lengthB && equal(x, x - k)) x++;
      steps += x - start + 1;
      furthest[maxEdits + k] = x;
      if (x >= lengthA && x - k >= lengthB) return backtrack(trace, lengthA, lengthB);
      if (steps > maxSteps) return null;
    }
  }
  return null;
}

/** `trace[d]` holds, for diagonals -d to d, how far d - 1 edits reached. */
function backtrack(trace: readonly Int32Array[], lengthA: number, lengthB: number): number[] {
  const found: number[] = [];
  let x = lengthA;
  let y = lengthB;
  for (let edits = trace.length - 1; edits >= 0; edits--) {
    const reached = trace[edits] as Int32Array;
    const k = x - y;
    const at = (diagonal: number): number => reached[diagonal + edits] as number;
    const down = k === -edits || (k !== edits && at(k - 1) < at(k + 1));
    const fromK = down ? k + 1 : k - 1;
    const fromX = edits === 0 ? 0 : at(fromK);
    const fromY = edits === 0 ? 0 : fromX - fromK;
    while (x > fromX && y > fromY) {
      x--;
      y--;
      found.push(y, x);
    }
    x = fromX;
    y = fromY;
  }
  return found.reverse();
}
