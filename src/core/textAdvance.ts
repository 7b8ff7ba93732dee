/**
 * From a splice to the value it makes: only the smallest run of children that an edit touches is parsed, and everything else is shared with
 * the old value.
 *
 * Why that is sound: the text outside of the run has not changed, and what stands in its place parses as a list of elements, or of
 * members, by itself. The text of a JSON value has one reading only, so the whole reads as the old value with those children replaced. Where
 * the run does not parse alone, or is not what `JSON.stringify` would write, or touches a bracket, the container around it is tried, and in the end the whole document.
 */
import { isUtf8 } from 'node:buffer';
import type { DocumentText } from './DocumentText.js';
import { deepFreeze, type JsonArray, type JsonObject, type JsonValue, MAX_DEPTH, normalize, setKey } from './json.js';
import type { Piece, Splice } from './splice.js';
import {
  childStarts,
  containerBytes,
  type Indexed,
  type IndexNode,
  indexOf,
  keyBytes,
  NO_NODES,
  NODE_BYTES,
} from './TextIndex.js';

/** A range of the old text that was replaced, and how much longer the text has become behind it. */
interface Edit {
  readonly from: number;
  readonly to: number;
  readonly grown: number;
}

/** More pieces than this are not put into the best order. */
const MANY_PIECES = 256;

const lengthOf = (piece: Piece): number => piece.bytes?.length ?? (piece as { readonly length: number }).length;

/**
 * What of the old text was replaced by what, in order: copies that follow each other in both texts are what has stayed; all between is
 * replaced. Of block moves the shorter side counts as replaced.
 */
export function editsOf(splice: Splice): readonly Edit[] {
  const stays = stayingCopies(splice.pieces);
  const edits: Edit[] = [];
  let base = 0;
  let inserted = 0;
  const close = (to: number): void => {
    if (to > base || inserted > 0) edits.push({ from: base, to, grown: inserted - (to - base) });
    inserted = 0;
  };
  splice.pieces.forEach((piece, index) => {
    if (piece.bytes !== undefined || !stays.has(index)) {
      inserted += lengthOf(piece);
      return;
    }
    // bytes that were copied before already are put in once more
    const from = Math.max(base, piece.from);
    inserted += from - piece.from;
    close(from);
    base = piece.from + piece.length;
  });
  close(splice.baseLength);
  return edits;
}

interface Range {
  readonly from: number;
  readonly to: number;
}

/** Bytes that a copy may repeat of the one before it. */
const OVERLAP = 64;

const follows = (before: Range, after: Range): boolean =>
  after.from >= before.to - OVERLAP && after.from > before.from && after.to > before.to;

/** The copies of the heaviest increasing chain. */
function stayingCopies(pieces: readonly Piece[]): ReadonlySet<number> {
  const copies = pieces.flatMap((piece, index) =>
    piece.bytes === undefined ? [{ index, from: piece.from, to: piece.from + piece.length }] : [],
  );
  if (copies.every((copy, index) => index === 0 || follows(copies[index - 1] as Range, copy)))
    return new Set(copies.map(({ index }) => index));
  if (copies.length > MANY_PIECES) return new Set();
  const weights: number[] = [];
  const before: number[] = [];
  let best = 0;
  copies.forEach((copy, at) => {
    weights[at] = copy.to - copy.from;
    before[at] = -1;
    for (let earlier = 0; earlier < at; earlier += 1) {
      const weight = (weights[earlier] as number) + copy.to - copy.from;
      if (follows(copies[earlier] as Range, copy) && weight > (weights[at] as number)) {
        weights[at] = weight;
        before[at] = earlier;
      }
    }
    if ((weights[at] as number) > (weights[best] as number)) best = at;
  });
  const chain = new Set<number>();
  for (let at = best; at >= 0; at = before[at] as number) chain.add(copies[at]?.index ?? -1);
  return chain;
}

/** A value and its index. */
export interface Advanced {
  readonly value: JsonValue;
  readonly indexed: Indexed;
}

/** The value that edits make of `value`, whose text `node` describes; null where all of `text`, the new one, has to be parsed. */
export function advanceValue(value: JsonValue, node: IndexNode, edits: readonly Edit[], text: DocumentText): Advanced | null {
  // what several splices together may come to: nothing
  if (edits.length === 0) return { value, indexed: { bytes: node.bytes, node } };
  return new Advance(edits, text).container(value, node, 0, 0, edits.length);
}

/** Children of a container, one after the other, that are parsed anew for the edits `[firstEdit, endEdit)`. */
interface Run {
  readonly first: number;
  end: number;
  readonly firstEdit: number;
  endEdit: number;
}

class Advance {
  readonly #edits: readonly Edit[];
  readonly #text: DocumentText;
  /** By how much the text before each edit has grown. */
  readonly #grown: readonly number[];

  constructor(edits: readonly Edit[], text: DocumentText) {
    this.#edits = edits;
    this.#text = text;
    const grown = [0];
    for (const edit of edits) grown.push((grown.at(-1) as number) + edit.grown);
    this.#grown = grown;
  }

  /** @param at - where its text stands in the old one; the edits are those that touch it */
  container(value: JsonValue, node: IndexNode, at: number, firstEdit: number, endEdit: number): Advanced | null {
    const first = this.#edits[firstEdit] as Edit;
    const last = this.#edits[endEdit - 1] as Edit;
    if (first.from <= at || last.to >= at + node.bytes) return null;
    const starts = childStarts(node);
    const runs = this.#runs(node, starts, at, firstEdit, endEdit);
    return Array.isArray(value)
      ? this.#array(value, node, starts, at, runs)
      : this.#object(value as JsonObject, node, starts, at, runs);
  }

  /** The children that each edit touches; runs that touch the same ones are one. */
  #runs(node: IndexNode, starts: Uint32Array, at: number, firstEdit: number, endEdit: number): Run[] {
    const runs: Run[] = [];
    for (let index = firstEdit; index < endEdit; index += 1) {
      const { from, to } = this.#edits[index] as Edit;
      // a place between two children belongs to the one before it; one at an end may make that longer
      const first = childAt(starts, from - at);
      const end = childAt(starts, to - at) + 1;
      const touchesNext = end < node.sizes.length && to - at >= (starts[end] as number) - 1 ? end + 1 : end;
      const last = runs.at(-1);
      if (last !== undefined && first < last.end) {
        last.end = Math.max(last.end, touchesNext);
        last.endEdit = index + 1;
      } else runs.push({ first, end: touchesNext, firstEdit: index, endEdit: index + 1 });
    }
    return runs;
  }

  /** One child that an edit lies inside of, as deep as it goes. */
  #inside(value: JsonValue | undefined, node: IndexNode | undefined, at: number, run: Run): Advanced | null {
    if (node === undefined || value === undefined || run.end !== run.first + 1) return null;
    return this.container(value, node, at, run.firstEdit, run.endEdit);
  }

  /** The new text of a run; null where it is not UTF-8: its characters would be others than its bytes. */
  #textOf(node: IndexNode, starts: Uint32Array, at: number, run: Run): string | null {
    const from = at + (starts[run.first] as number) + (this.#grown[run.firstEdit] as number);
    const last = run.end - 1;
    const to = at + (starts[last] as number) + (node.sizes[last] as number) + (this.#grown[run.endEdit] as number);
    const bytes = this.#text.slice(from, to);
    return isUtf8(bytes) ? bytes.toString() : null;
  }

  #array(value: JsonArray, node: IndexNode, starts: Uint32Array, at: number, runs: readonly Run[]): Advanced | null {
    const writer = new Rebuild(node);
    const elements: JsonValue[] = [...value];
    let shift = 0;
    for (const run of runs) {
      writer.keepUntil(run.first);
      const inner = this.#inside(value[run.first], node.nodes[run.first], at + (starts[run.first] as number), run);
      if (inner !== null) {
        elements[run.first + shift] = inner.value;
        writer.replace(inner.indexed);
        continue;
      }
      const parsed = parseExactly('[', this.#textOf(node, starts, at, run), ']') as JsonArray | null;
      if (parsed === null || (parsed.length === 0 && run.end - run.first < node.sizes.length)) return null;
      const same = parsed.length === run.end - run.first;
      const shared = same ? parsed.map((element, index) => sharing(value[run.first + index], element)) : parsed;
      elements.splice(run.first + shift, run.end - run.first, ...shared);
      shift += parsed.length - (run.end - run.first);
      for (const element of shared) writer.add(indexOf(element), 0);
      writer.skip(run.end - run.first);
    }
    return { value: Object.freeze(elements), indexed: writer.finish(null) };
  }

  #object(value: JsonObject, node: IndexNode, starts: Uint32Array, at: number, runs: readonly Run[]): Advanced | null {
    const keys = node.keys as readonly string[];
    const writer = new Rebuild(node);
    const replaced = new Map<string, JsonValue>();
    const nextKeys: string[] = [];
    let next = 0;
    let sameKeys = true;
    for (const run of runs) {
      writer.keepUntil(run.first);
      for (; next < run.first; next += 1) nextKeys.push(keys[next] as string);
      const key = keys[run.first] as string;
      const head = run.end === run.first + 1 ? keyBytes(key) : 0;
      const inner = this.#inside(value[key], node.nodes[run.first], at + (starts[run.first] as number) + head, run);
      if (inner !== null) {
        replaced.set(key, inner.value);
        nextKeys.push(key);
        writer.replace({ ...inner.indexed, bytes: inner.indexed.bytes + head });
        next = run.end;
        continue;
      }
      const parsed = parseExactly('{', this.#textOf(node, starts, at, run), '}') as JsonObject | null;
      if (parsed === null) return null;
      const found = Object.keys(parsed);
      if (found.length === 0 && run.end - run.first < keys.length) return null;
      sameKeys &&= found.length === run.end - run.first && found.every((name, index) => name === keys[run.first + index]);
      for (const name of found) {
        if (replaced.has(name)) return null;
        // a name of Object.prototype is found in every object
        const before = Object.hasOwn(value, name) ? value[name] : undefined;
        replaced.set(name, sharing(before, parsed[name] as JsonValue));
        nextKeys.push(name);
        writer.add(indexOf(parsed[name] as JsonValue), keyBytes(name));
      }
      writer.skip(run.end - run.first);
      next = run.end;
    }
    for (; next < keys.length; next += 1) nextKeys.push(keys[next] as string);
    if (sameKeys) {
      const copy = { ...value };
      for (const [key, child] of replaced) setKey(copy, key, child);
      return { value: Object.freeze(copy), indexed: writer.finish(keys) };
    }
    const made: Record<string, JsonValue> = {};
    for (const key of nextKeys) setKey(made, key, (replaced.has(key) ? replaced.get(key) : value[key]) as JsonValue);
    // a key that came twice, or one that JavaScript puts elsewhere
    const order = Object.keys(made);
    if (order.length !== nextKeys.length || order.some((key, index) => key !== nextKeys[index])) return null;
    return { value: Object.freeze(made), indexed: writer.finish(nextKeys) };
  }
}

/** The child that a place lies in or directly behind, by binary search. */
function childAt(starts: Uint32Array, at: number): number {
  let low = 0;
  let high = starts.length - 2;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((starts[middle] as number) <= at) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** A container, frozen, whose text is exactly this; null where it is no JSON, or where `JSON.stringify` would write it otherwise. */
function parseExactly(open: string, children: string | null, close: string): JsonArray | JsonObject | null {
  if (children === null) return null;
  const text = open + children + close;
  try {
    const value = JSON.parse(text) as JsonArray | JsonObject;
    if (JSON.stringify(value) !== text) return null;
    return deepFreeze(value) as JsonArray | JsonObject;
  } catch {
    return null;
  }
}

/** A frozen value with the parts of the old one that it repeats place by place. */
export function sharing(old: JsonValue | undefined, value: JsonValue): JsonValue {
  if (old === undefined) return value;
  try {
    return normalize(value, { base: old, maxDepth: MAX_DEPTH });
  } catch {
    // what this library would not write, but another client has: half of a surrogate pair, or deeper than any limit
    return value;
  }
}

/** The index of a container that some children of another were replaced in. */
class Rebuild {
  readonly #node: IndexNode;
  readonly #sizes: number[] = [];
  readonly #runs: { readonly at: number; readonly from: number; readonly to: number }[] = [];
  readonly #added: (IndexNode | undefined)[] = [];
  #count = 0;
  #next = 0;

  constructor(node: IndexNode) {
    this.#node = node;
  }

  /** Old children up to `to` stay. */
  keepUntil(to: number): void {
    if (to > this.#next) {
      this.#runs.push({ at: this.#count, from: this.#next, to });
      this.#count += to - this.#next;
      this.#next = to;
    }
  }

  add(indexed: Indexed, head: number): void {
    this.#sizes[this.#count] = indexed.bytes + head;
    if (indexed.node !== undefined) this.#added[this.#count] = indexed.node;
    this.#count += 1;
  }

  /** One old child becomes another. */
  replace(indexed: Indexed): void {
    this.add(indexed, 0);
    this.skip(1);
  }

  skip(count: number): void {
    this.#next += count;
  }

  finish(keys: readonly string[] | null): Indexed {
    this.keepUntil(this.#node.sizes.length);
    const sizes = new Uint32Array(this.#count);
    const nodes: (IndexNode | undefined)[] = [];
    for (const index in this.#sizes) sizes[Number(index)] = this.#sizes[index] as number;
    for (const index in this.#added) nodes[Number(index)] = this.#added[index];
    const { nodes: old } = this.#node;
    for (const { at, from, to } of this.#runs) {
      sizes.set(this.#node.sizes.subarray(from, to), at);
      for (let index = from; index < Math.min(to, old.length); index += 1)
        if (old[index] !== undefined) nodes[at + index - from] = old[index];
    }
    const bytes = containerBytes(sizes);
    if (bytes < NODE_BYTES) return { bytes, node: undefined };
    return { bytes, node: { keys, sizes, bytes, nodes: nodes.length === 0 ? NO_NODES : nodes } };
  }
}
