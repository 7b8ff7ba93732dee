/**
 * The patch between two values. Looks at identity first, so what two versions share costs nothing; keeps the order of array elements
 * and of keys; never gives more than the budget. It knows only the two values: no history, no ids inside them.
 */
import { commonSubsequence } from './arrayDiff.js';
import { isContainer, type JsonArray, type JsonObject, type JsonValue } from './json.js';
import { JsonSizes, textBytes } from './jsonSize.js';
import { isIndexKey } from './KeyOrder.js';
import { jsonEqual, type Patch, type PatchOperation } from './patch.js';
import { escapeToken } from './pointer.js';

export interface DiffOptions {
  /** Largest patch worth having: bytes (UTF-8) of its JSON. @defaultValue no limit */
  readonly maxBytes?: number;
}

/**
 * A patch for which `JSON.stringify(applyPatch(a, patch))` is `JSON.stringify(b)`, order of keys included, or `null` where it would
 * exceed `maxBytes`. `[]` for equal values. Both values are normalized ones; values in the patch are parts of `b`, not copies.
 *
 * The time is about linear in what is not shared: nodes with one reference in both are not looked into. The longest common
 * subsequence of two arrays is exact, except for large arrays full of duplicates.
 */
export function diff(a: JsonValue, b: JsonValue, options: DiffOptions = {}): Patch | null {
  return new Comparison(options.maxBytes ?? Number.POSITIVE_INFINITY).run(a, b);
}

/** Where a value stands. Most places turn out to be equal, so the pointer is only made when it is asked for. */
class Place {
  readonly #parent: Place | null;
  readonly #key: string | number;
  #path: string | undefined;
  #bytes = 0;

  constructor(parent: Place | null, key: string | number) {
    this.#parent = parent;
    this.#key = key;
  }

  get path(): string {
    if (this.#path === undefined) {
      const token = typeof this.#key === 'number' ? String(this.#key) : escapeToken(this.#key);
      this.#path = this.#parent === null ? '' : `${this.#parent.path}/${token}`;
      this.#bytes = this.#parent === null ? 0 : this.#parent.bytes + 1 + textBytes(token);
    }
    return this.#path;
  }

  /** Of the pointer inside quotes in JSON. */
  get bytes(): number {
    return this.path === '' ? 0 : this.#bytes;
  }
}

const OVERHEAD = {
  add: '{"op":"add","path":"","value":}'.length,
  before: ',"before":""'.length,
  remove: '{"op":"remove","path":""}'.length,
  replace: '{"op":"replace","path":"","value":}'.length,
  move: '{"op":"move","from":"","path":""}'.length,
} as const;

/** Comparisons of two elements, in one run, to find out which was edited into which. */
const MAX_SIMILARITIES = 50_000;
const MAX_GAP = 1024;

/** Methods that answer `false` have stopped: what they wrote does not fit the budget. */
class Comparison {
  readonly #operations: PatchOperation[] = [];
  /** Of the patch so far, with a comma for each operation. */
  #bytes = 1;
  readonly #maxBytes: number;
  readonly #sizes = new JsonSizes();
  #similarities = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  run(a: JsonValue, b: JsonValue): Patch | null {
    const fits = this.#compare(a, b, new Place(null, ''));
    if (!fits || (this.#operations.length === 0 && this.#maxBytes < 2)) return null;
    for (const operation of this.#operations) Object.freeze(operation);
    return Object.freeze(this.#operations);
  }

  #emit(operation: PatchOperation, bytes: number): boolean {
    this.#operations.push(operation);
    this.#bytes += bytes + 1;
    return this.#bytes <= this.#maxBytes;
  }

  #add(at: Place, value: JsonValue, before?: string): boolean {
    const left = this.#maxBytes - this.#bytes;
    const bytes = OVERHEAD.add + at.bytes + this.#sizes.measure(value, left);
    if (before === undefined) return this.#emit({ op: 'add', path: at.path, value }, bytes);
    return this.#emit({ op: 'add', path: at.path, value, before }, bytes + OVERHEAD.before + textBytes(before));
  }

  #remove(at: Place): boolean {
    return this.#emit({ op: 'remove', path: at.path }, OVERHEAD.remove + at.bytes);
  }

  #replace(at: Place, value: JsonValue): boolean {
    const left = this.#maxBytes - this.#bytes;
    return this.#emit({ op: 'replace', path: at.path, value }, OVERHEAD.replace + at.bytes + this.#sizes.measure(value, left));
  }

  #compare(a: JsonValue, b: JsonValue, at: Place): boolean {
    if (a === b) return true;
    if (!isContainer(a) || !isContainer(b) || Array.isArray(a) !== Array.isArray(b)) return this.#replace(at, b);
    const count = this.#operations.length;
    const bytes = this.#bytes;
    const fits = Array.isArray(a) ? this.#arrays(a, b as JsonArray, at) : this.#objects(a as JsonObject, b as JsonObject, at);
    const spent = this.#bytes - bytes;
    if (spent === 0) return true;
    // the parts do not fit, or they take more than the whole
    const wholeBytes = OVERHEAD.replace + at.bytes + 1;
    const limit = Math.min(spent - 1, this.#maxBytes - bytes) - wholeBytes;
    if (limit < 2 || this.#sizes.measure(b, limit) > limit) return fits;
    this.#operations.length = count;
    this.#bytes = bytes;
    return this.#replace(at, b);
  }

  #objects(a: JsonObject, b: JsonObject, at: Place): boolean {
    const keys = Object.keys(b);
    if (sameKeys(Object.keys(a), keys)) return this.#members(a, b, keys, at);
    const plan = planKeys(a, b);
    for (const key of plan.removed) if (!this.#remove(new Place(at, key))) return false;
    if (!this.#members(a, b, plan.kept, at)) return false;
    for (const { key, before, added } of plan.placed) {
      const place = new Place(at, key);
      if (added ? !this.#add(place, b[key] as JsonValue, before) : !this.#move(place, before)) return false;
    }
    return true;
  }

  #members(a: JsonObject, b: JsonObject, keys: readonly string[], at: Place): boolean {
    for (const key of keys) {
      const before = a[key] as JsonValue;
      const after = b[key] as JsonValue;
      if (before !== after && !this.#compare(before, after, new Place(at, key))) return false;
    }
    return true;
  }

  /** To another place in the order of its object. */
  #move(at: Place, before: string | undefined): boolean {
    const bytes = OVERHEAD.move + 2 * at.bytes;
    if (before === undefined) return this.#emit({ op: 'move', from: at.path, path: at.path }, bytes);
    return this.#emit({ op: 'move', from: at.path, path: at.path, before }, bytes + OVERHEAD.before + textBytes(before));
  }

  #arrays(a: JsonArray, b: JsonArray, at: Place): boolean {
    const shorter = Math.min(a.length, b.length);
    let start = 0;
    while (start < shorter && jsonEqual(a[start] as JsonValue, b[start] as JsonValue)) start++;
    let end = 0;
    while (end < shorter - start && jsonEqual(a[a.length - 1 - end] as JsonValue, b[b.length - 1 - end] as JsonValue)) end++;
    const endA = a.length - end;
    const endB = b.length - end;
    let fromA = start;
    let fromB = start;
    if (endA + endB - 2 * start > SMALL) {
      // most of a large array is shared: step over that by identity, which is cheap
      while (fromA < endA && fromB < endB) {
        if (isContainer(a[fromA]) && a[fromA] === b[fromB]) {
          fromA++;
          fromB++;
          continue;
        }
        const next = nextShared(a, fromA, endA, b, fromB, endB);
        if (next === null) break;
        if (!this.#align(a, fromA, next[0], b, fromB, next[1], at)) return false;
        [fromA, fromB] = next;
      }
    }
    return this.#align(a, fromA, endA, b, fromB, endB, at);
  }

  /** `a[fromA..endA)` becomes `b[fromB..endB)`: what a longest common subsequence has stays, and the gaps between are bridged. */
  #align(a: JsonArray, fromA: number, endA: number, b: JsonArray, fromB: number, endB: number, at: Place): boolean {
    let nextA = fromA;
    let nextB = fromB;
    if (endA > fromA && endB > fromB && endA + endB > fromA + fromB + 2) {
      const [idsA, idsB] = intern(a.slice(fromA, endA), b.slice(fromB, endB));
      const matches = commonSubsequence(idsA, idsB);
      for (let index = 0; index < matches.length; index += 2) {
        const toA = fromA + (matches[index] as number);
        const toB = fromB + (matches[index + 1] as number);
        if (!this.#gap(a, nextA, toA, b, nextB, toB, at)) return false;
        nextA = toA + 1;
        nextB = toB + 1;
      }
    }
    return this.#gap(a, nextA, endA, b, nextB, endB, at);
  }

  /** Between two elements that stay: `a[fromA..toA)` becomes `b[fromB..toB)`. What stands before it is that of `b` already. */
  #gap(a: JsonArray, fromA: number, toA: number, b: JsonArray, fromB: number, toB: number, at: Place): boolean {
    let nextA = fromA;
    let nextB = fromB;
    for (const [indexA, indexB] of this.#edited(a, fromA, toA, b, fromB, toB)) {
      if (!this.#stretch(a, nextA, indexA, b, nextB, indexB, at)) return false;
      if (!this.#compare(a[indexA] as JsonValue, b[indexB] as JsonValue, new Place(at, indexB))) return false;
      nextA = indexA + 1;
      nextB = indexB + 1;
    }
    return this.#stretch(a, nextA, toA, b, nextB, toB, at);
  }

  /** As {@link #gap}, pair by pair as they come; then what is left over. */
  #stretch(a: JsonArray, fromA: number, toA: number, b: JsonArray, fromB: number, toB: number, at: Place): boolean {
    const pairs = Math.min(toA - fromA, toB - fromB);
    for (let index = 0; index < pairs; index++) {
      if (!this.#compare(a[fromA + index] as JsonValue, b[fromB + index] as JsonValue, new Place(at, fromB + index)))
        return false;
    }
    for (let index = fromA + pairs; index < toA; index++) if (!this.#remove(new Place(at, fromB + pairs))) return false;
    for (let index = fromB + pairs; index < toB; index++)
      if (!this.#add(new Place(at, index), b[index] as JsonValue)) return false;
    return true;
  }

  /** Pairs of elements, rising in both arrays, that look like one edited into the other: those with the largest likeness in all. */
  #edited(a: JsonArray, fromA: number, toA: number, b: JsonArray, fromB: number, toB: number): [number, number][] {
    const rows = toA - fromA;
    const columns = toB - fromB;
    const cells = rows * columns;
    if (cells < 2 || cells > MAX_GAP || this.#similarities + cells > MAX_SIMILARITIES) return [];
    this.#similarities += cells;
    const likeness = (row: number, column: number): number =>
      similarity(a[fromA + row] as JsonValue, b[fromB + column] as JsonValue);
    // best[row][column]: the most that the elements from there on can have
    const width = columns + 1;
    const best = new Float64Array((rows + 1) * width);
    const alike = new Float64Array(cells);
    for (let row = rows - 1; row >= 0; row--) {
      for (let column = columns - 1; column >= 0; column--) {
        const like = likeness(row, column);
        alike[row * columns + column] = like;
        const paired = like === 0 ? 0 : like + (best[(row + 1) * width + column + 1] as number);
        best[row * width + column] = Math.max(
          paired,
          best[(row + 1) * width + column] as number,
          best[row * width + column + 1] as number,
        );
      }
    }
    const pairs: [number, number][] = [];
    for (let row = 0, column = 0; row < rows && column < columns; ) {
      const here = best[row * width + column] as number;
      if (here === 0) break;
      const like = alike[row * columns + column] as number;
      if (like > 0 && here === like + (best[(row + 1) * width + column + 1] as number))
        pairs.push([fromA + row++, fromB + column++]);
      else if (here === best[(row + 1) * width + column]) row++;
      else column++;
    }
    return pairs;
  }
}

interface KeyPlan {
  readonly removed: readonly string[];
  /** In both, in the order of the first object. */
  readonly kept: readonly string[];
  /** New or in the wrong place, in the order in which they are to be placed: each before a key that stays, or at the end. */
  readonly placed: readonly { readonly key: string; readonly before: string | undefined; readonly added: boolean }[];
}

function sameKeys(a: readonly string[], b: readonly string[]): boolean {
  if (a.length !== b.length) return false;
  for (let index = 0; index < a.length; index++) if (a[index] !== b[index]) return false;
  return true;
}

/** How the keys of `a` become those of `b` in their order. Index keys sort themselves and never need a place. */
function planKeys(a: JsonObject, b: JsonObject): KeyPlan {
  const keysA = Object.keys(a);
  const keysB = Object.keys(b);
  const removed: string[] = [];
  const kept: string[] = [];
  const placed: { key: string; before: string | undefined; added: boolean }[] = [];
  let indexA = 0;
  for (const key of keysB) {
    while (indexA < keysA.length && keysA[indexA] !== key && !Object.hasOwn(b, keysA[indexA] as string))
      removed.push(keysA[indexA++] as string);
    const next = keysA[indexA];
    if (next === key) {
      kept.push(key);
      indexA++;
    } else if (Object.hasOwn(a, key)) {
      return planReordered(b, keysA, keysB);
    } else {
      placed.push({ key, before: isIndexKey(key) ? undefined : next, added: true });
    }
  }
  while (indexA < keysA.length) removed.push(keysA[indexA++] as string);
  return { removed, kept, placed };
}

/** Some keys changed places: the longest rising sequence of them stays. */
function planReordered(b: JsonObject, keysA: readonly string[], keysB: readonly string[]): KeyPlan {
  const positions = new Map(keysA.map((key, index) => [key, index]));
  const shared = keysB.filter((key) => positions.has(key));
  const order = commonSubsequence(
    Int32Array.from(keysA.keys()),
    Int32Array.from(shared, (key) => positions.get(key) as number),
  );
  const stays = new Set<string>();
  for (let index = 0; index < order.length; index += 2) stays.add(keysA[order[index] as number] as string);
  const placed: { key: string; before: string | undefined; added: boolean }[] = [];
  let before: string | undefined;
  for (const key of keysB.toReversed()) {
    if (stays.has(key)) before = isIndexKey(key) ? undefined : key;
    else placed.push({ key, before: isIndexKey(key) ? undefined : before, added: !positions.has(key) });
  }
  return {
    removed: keysA.filter((key) => !Object.hasOwn(b, key)),
    kept: keysA.filter((key) => Object.hasOwn(b, key)),
    placed: placed.reverse(),
  };
}

/** Elements in both arrays together from which on large ones are treated differently, and how far ahead to look in each. */
const SMALL = 64;
const AHEAD = 32;

/** The nearest place ahead where both arrays go on with the same two containers, by identity. */
function nextShared(
  a: JsonArray,
  fromA: number,
  endA: number,
  b: JsonArray,
  fromB: number,
  endB: number,
): [number, number] | null {
  const mostA = Math.min(AHEAD, endA - fromA - 1);
  const mostB = Math.min(AHEAD, endB - fromB - 1);
  for (let distance = 1; distance <= mostA + mostB; distance++) {
    for (let ahead = Math.max(0, distance - mostB); ahead <= Math.min(distance, mostA); ahead++) {
      const indexA = fromA + ahead;
      const indexB = fromB + distance - ahead;
      if (isContainer(a[indexA]) && a[indexA] === b[indexB] && (indexA + 1 === endA || a[indexA + 1] === b[indexB + 1]))
        return [indexA, indexB];
    }
  }
  return null;
}

/** Integers that are equal where the elements are. Shared references decide first; only what is left is compared by its text. */
function intern(a: JsonArray, b: JsonArray): [Int32Array, Int32Array] {
  const ids = new Map<JsonValue, number>();
  let next = 0;
  const idsA = new Int32Array(a.length);
  for (let index = 0; index < a.length; index++) {
    const value = a[index] as JsonValue;
    let id = ids.get(value);
    if (id === undefined) {
      id = next++;
      ids.set(value, id);
    }
    idsA[index] = id;
  }
  const shared = new Set<number>();
  const strangers: number[] = [];
  const idsB = new Int32Array(b.length);
  for (let index = 0; index < b.length; index++) {
    const value = b[index] as JsonValue;
    const known = ids.get(value);
    if (known !== undefined) shared.add(known);
    else if (isContainer(value)) strangers.push(index);
    idsB[index] = known ?? next++;
  }
  if (strangers.length === 0) return [idsA, idsB];
  const texts = new Map<string, number>();
  for (let index = 0; index < a.length; index++) {
    const value = a[index] as JsonValue;
    if (!isContainer(value) || shared.has(idsA[index] as number)) continue;
    const text = JSON.stringify(value);
    const known = texts.get(text);
    if (known === undefined) texts.set(text, idsA[index] as number);
    else idsA[index] = known;
  }
  if (texts.size === 0) return [idsA, idsB];
  for (const index of strangers) {
    const known = texts.get(JSON.stringify(b[index]));
    if (known !== undefined) idsB[index] = known;
  }
  return [idsA, idsB];
}

const SAMPLE = 16;

/** 0 for values that have nothing in common, up to 1: how much of what two containers hold directly is the same. */
function similarity(a: JsonValue, b: JsonValue): number {
  if (!isContainer(a) || !isContainer(b) || Array.isArray(a) !== Array.isArray(b)) return 0;
  if (Array.isArray(a)) {
    const others = b as JsonArray;
    const most = Math.max(a.length, others.length);
    const looked = Math.min(a.length, others.length, SAMPLE);
    let same = 0;
    for (let index = 0; index < looked; index++) {
      if (a[index] === others[index] || a[a.length - 1 - index] === others[others.length - 1 - index]) same++;
    }
    return most === 0 ? 0 : same / Math.min(most, SAMPLE);
  }
  const keys = Object.keys(a);
  const most = Math.max(keys.length, Object.keys(b).length);
  const looked = Math.min(keys.length, SAMPLE);
  let same = 0;
  for (let index = 0; index < looked; index++) {
    const key = keys[index] as string;
    if (Object.hasOwn(b, key) && (a as JsonObject)[key] === (b as JsonObject)[key]) same++;
  }
  return most === 0 ? 0 : same / Math.min(most, SAMPLE);
}
