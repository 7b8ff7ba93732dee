/**
 * The patch between two values. Looks at identity first, so what two versions share costs nothing; keeps the order of array elements
 * and of keys; never gives more than the budget. It knows only the two values: no history, no ids inside them.
 */
import { byEdits, commonSubsequence, type Matches } from './arrayDiff.js';
import { editedPairs } from './editedPairs.js';
import { isContainer, type JsonArray, type JsonObject, type JsonValue } from './json.js';
import { JsonHashes } from './jsonHash.js';
import { JsonSizes, textBytes } from './jsonSize.js';
import { planKeys, sameKeys } from './keyPlan.js';
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
 * The time is about linear in what is not shared: nodes with one reference in both are not looked into. What two arrays
 * have in common is found exactly, except where they are large and full of duplicates, or hold more than a million elements.
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

/** Bytes of a patch from which on it is compared with the whole before it is complete. */
const LARGE = 65_536;
/** Elements added and removed up to which an array is compared element by element, without an index of them. */
const FEW_EDITS = 32;
/** Elements of both arrays past which, where more than a few differ, none of them is looked for in another place. */
const MAX_ELEMENTS = 1_000_000;
/** Comparisons of two elements to find out which was edited into which: in one gap between elements that stay, and in all. */
const MAX_GAP = 1024;
const MAX_LIKENESSES = 50_000;

/** Methods that answer `false` have stopped: what they wrote does not fit the budget. */
class Comparison {
  readonly #operations: PatchOperation[] = [];
  /** Of the patch so far, with a comma for each operation. */
  #bytes = 1;
  #maxBytes: number;
  /** `null` once it has been seen what the whole takes, and nothing larger is worth having. */
  #root: JsonValue | null = null;
  readonly #sizes = new JsonSizes();
  readonly #hashes = new JsonHashes();
  readonly #different = new Map<object, object>();
  #likenesses = MAX_LIKENESSES;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  run(a: JsonValue, b: JsonValue): Patch | null {
    this.#root = b;
    const fits = this.#compare(a, b, new Place(null, ''));
    if (!fits || (this.#operations.length === 0 && this.#maxBytes < 2)) return null;
    for (const operation of this.#operations) Object.freeze(operation);
    return Object.freeze(this.#operations);
  }

  #emit(operation: PatchOperation, bytes: number): boolean {
    this.#operations.push(operation);
    this.#bytes += bytes + 1;
    if (this.#bytes > LARGE && this.#root !== null) {
      this.#maxBytes = Math.min(this.#maxBytes, OVERHEAD.replace + 2 + this.#sizes.measure(this.#root));
      this.#root = null;
    }
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
    while (start < shorter && this.#equal(a[start], b[start])) start++;
    let end = 0;
    while (end < shorter - start && this.#equal(a[a.length - 1 - end], b[b.length - 1 - end])) end++;
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

  #equal(a: JsonValue | undefined, b: JsonValue | undefined): boolean {
    return a === b || (isContainer(a) && isContainer(b) && jsonEqual(a, b, this.#different));
  }

  /** `a[fromA..endA)` becomes `b[fromB..endB)`: what a longest common subsequence has stays, and the gaps between are bridged. */
  #align(a: JsonArray, fromA: number, endA: number, b: JsonArray, fromB: number, endB: number, at: Place): boolean {
    let nextA = fromA;
    let nextB = fromB;
    if (endA > fromA && endB > fromB && endA + endB > fromA + fromB + 2) {
      const lengthA = endA - fromA;
      const lengthB = endB - fromB;
      const equal = (x: number, y: number): boolean => this.#equal(a[fromA + x], b[fromB + y]);
      const matches =
        byEdits(lengthA, lengthB, equal, FEW_EDITS, 2 * (lengthA + lengthB)) ??
        this.#common(a.slice(fromA, endA), b.slice(fromB, endB));
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

  #common(a: JsonArray, b: JsonArray): Matches {
    if (a.length + b.length > MAX_ELEMENTS) return [];
    const [idsA, idsB] = this.#intern(a, b);
    return commonSubsequence(idsA, idsB);
  }

  /** Integers that are the same only where the elements are equal. Shared references decide first; the rest is found by its hash. */
  #intern(a: JsonArray, b: JsonArray): [Int32Array, Int32Array] {
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
    // one value a hash: where two have the same, the second is just not recognized
    const byHash = new Map<number, number>();
    for (let index = 0; index < a.length; index++) {
      const value = a[index] as JsonValue;
      if (!isContainer(value) || shared.has(idsA[index] as number)) continue;
      const hash = this.#hashes.of(value);
      const first = byHash.get(hash);
      if (first === undefined) byHash.set(hash, index);
      else if (this.#equal(a[first], value)) idsA[index] = idsA[first] as number;
    }
    if (byHash.size === 0) return [idsA, idsB];
    for (const index of strangers) {
      const first = byHash.get(this.#hashes.of(b[index] as JsonValue));
      if (first !== undefined && this.#equal(a[first], b[index])) idsB[index] = idsA[first] as number;
    }
    return [idsA, idsB];
  }

  /** Between two elements that stay: `a[fromA..toA)` becomes `b[fromB..toB)`. What stands before it is that of `b` already. */
  #gap(a: JsonArray, fromA: number, toA: number, b: JsonArray, fromB: number, toB: number, at: Place): boolean {
    let nextA = fromA;
    let nextB = fromB;
    const cells = (toA - fromA) * (toB - fromB);
    let likely: readonly [number, number][] = [];
    if (cells > 1 && cells <= Math.min(MAX_GAP, this.#likenesses)) {
      this.#likenesses -= cells;
      likely = editedPairs(a.slice(fromA, toA), b.slice(fromB, toB));
    }
    for (const [offsetA, offsetB] of likely) {
      const indexA = fromA + offsetA;
      const indexB = fromB + offsetB;
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
