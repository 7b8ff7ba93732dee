/**
 * From a splice to the value it makes: only the smallest run of children that an edit touches is parsed, and everything else is shared with
 * the old value.
 *
 * Why that is sound: the text outside of the run has not changed, and what stands in its place parses as a list of elements, or of
 * members, by itself. The text of a JSON value has one reading only, so the whole reads as the old value with those children replaced. Where
 * the run does not parse alone, or is not what `JSON.stringify` would write, or touches a bracket, the container around it is tried, and in the end the whole document.
 */
import { isUtf8 } from 'node:buffer';
import type { ChildLayout } from './ChildLayout.js';
import type { DocumentText } from './DocumentText.js';
import {
  copyKnown,
  deepFreeze,
  isContainer,
  type JsonArray,
  type JsonObject,
  type JsonValue,
  MAX_DEPTH,
  normalize,
  objectFor,
  setKey,
  takeMembers,
} from './json.js';
import { isIndexKey } from './KeyOrder.js';
import type { Piece, Splice } from './splice.js';
import { type Indexed, type IndexNode, indexOf, keyBytes, LaidOutNode, layoutOf, NO_NODES, NODE_BYTES } from './TextIndex.js';

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
  try {
    return new Advance(edits, text).container(value, node, 0, 0, edits.length, MAX_DEPTH);
  } catch (error) {
    // what is nested deeper than the stack has no index
    if (error instanceof RangeError) return null;
    throw error;
  }
}

/** Children of a container, one after the other, that are parsed anew for the edits `[firstEdit, endEdit)`. */
interface Run {
  readonly first: number;
  end: number;
  readonly firstEdit: number;
  endEdit: number;
}

/** What stands in the place of the children `[first, end)`. */
interface Part {
  readonly first: number;
  readonly end: number;
  /** Of an object. */
  readonly keys: readonly string[];
  readonly values: readonly JsonValue[];
  readonly sizes: readonly number[];
  readonly nodes: readonly (IndexNode | undefined)[];
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

  /**
   * @param at - where its text stands in the old one; the edits are those that touch it
   * @param levels - containers that may be inside one another from here on, this one included
   */
  container(value: JsonValue, node: IndexNode, at: number, firstEdit: number, endEdit: number, levels: number): Advanced | null {
    const first = this.#edits[firstEdit] as Edit;
    const last = this.#edits[endEdit - 1] as Edit;
    if (first.from <= at || last.to >= at + node.bytes) return null;
    const layout = layoutOf(node);
    const runs = this.#runs(layout, at, firstEdit, endEdit);
    return Array.isArray(value)
      ? this.#array(value, node, layout, at, runs, levels)
      : this.#object(value as JsonObject, node, layout, at, runs, levels);
  }

  /** The children that each edit touches; runs that touch the same ones are one. */
  #runs(layout: ChildLayout, at: number, firstEdit: number, endEdit: number): Run[] {
    const runs: Run[] = [];
    for (let index = firstEdit; index < endEdit; index += 1) {
      const { from, to } = this.#edits[index] as Edit;
      // a place between two children belongs to the one before it; one at an end may make that longer
      const first = layout.childAt(from - at);
      const end = layout.childAt(to - at) + 1;
      const touchesNext = end < layout.count && to - at >= layout.start(end) - 1 ? end + 1 : end;
      const last = runs.at(-1);
      if (last !== undefined && first < last.end) {
        last.end = Math.max(last.end, touchesNext);
        last.endEdit = index + 1;
      } else runs.push({ first, end: touchesNext, firstEdit: index, endEdit: index + 1 });
    }
    return runs;
  }

  /** One child that an edit lies inside of, as deep as it goes. */
  #inside(value: JsonValue | undefined, node: IndexNode | undefined, at: number, run: Run, levels: number): Advanced | null {
    if (node === undefined || value === undefined || run.end !== run.first + 1) return null;
    return this.container(value, node, at, run.firstEdit, run.endEdit, levels - 1);
  }

  /** The new text of a run; null where it is not UTF-8: its characters would be others than its bytes. */
  #textOf(layout: ChildLayout, at: number, run: Run): string | null {
    const from = at + layout.start(run.first) + (this.#grown[run.firstEdit] as number);
    const last = run.end - 1;
    const to = at + layout.start(last) + layout.size(last) + (this.#grown[run.endEdit] as number);
    const bytes = this.#text.slice(from, to);
    return isUtf8(bytes) ? bytes.toString() : null;
  }

  #array(
    value: JsonArray,
    node: IndexNode,
    layout: ChildLayout,
    at: number,
    runs: readonly Run[],
    levels: number,
  ): Advanced | null {
    const parts: Part[] = [];
    for (const run of runs) {
      const { first, end } = run;
      const child = node.nodes[first];
      const inner = child === undefined ? null : this.#inside(value[first], child, at + layout.start(first), run, levels);
      if (inner !== null) {
        parts.push(partOf(first, end, [], [inner.value], [inner.indexed], 0));
        continue;
      }
      const parsed = parseExactly('[', this.#textOf(layout, at, run), ']', levels) as JsonArray | null;
      if (parsed === null || (parsed.length === 0 && end - first < layout.count)) return null;
      const same = parsed.length === end - first;
      const shared = same ? parsed.map((element, index) => sharing(value[first + index], element)) : parsed;
      parts.push(partOf(first, end, [], shared, shared.map(indexOf), 0));
    }
    return { value: Object.freeze(replaceElements(value, parts)), indexed: indexWith(node, null, layout, parts) };
  }

  #object(
    value: JsonObject,
    node: IndexNode,
    layout: ChildLayout,
    at: number,
    runs: readonly Run[],
    levels: number,
  ): Advanced | null {
    const keys = node.keys as readonly string[];
    const parts: Part[] = [];
    for (const run of runs) {
      const { first, end } = run;
      const key = keys[first] as string;
      const child = node.nodes[first];
      const head = child === undefined ? 0 : keyBytes(key);
      const inner = child === undefined ? null : this.#inside(value[key], child, at + layout.start(first) + head, run, levels);
      if (inner !== null) {
        parts.push(partOf(first, end, [key], [inner.value], [inner.indexed], head));
        continue;
      }
      const parsed = parseExactly('{', this.#textOf(layout, at, run), '}', levels) as JsonObject | null;
      if (parsed === null) return null;
      const found = Object.keys(parsed);
      if (found.length === 0 && end - first < layout.count) return null;
      const values = found.map((name) =>
        // a name of Object.prototype is found in every object
        sharing(Object.hasOwn(value, name) ? value[name] : undefined, parsed[name] as JsonValue),
      );
      parts.push(partOf(first, end, found, values, values.map(indexOf), null));
    }
    if (parts.every((part) => namesStay(keys, part))) {
      const copy = copyKnown(value, keys);
      for (const part of parts)
        for (let index = 0; index < part.keys.length; index += 1)
          setKey(copy, part.keys[index] as string, part.values[index] as JsonValue);
      return { value: Object.freeze(copy), indexed: indexWith(node, keys, layout, parts) };
    }
    const made = replaceMembers(value, keys, parts);
    return made === null ? null : { value: Object.freeze(made.value), indexed: indexWith(node, made.keys, layout, parts) };
  }
}

/** @param head - bytes of the key with its colon; null: to be found out for each */
function partOf(
  first: number,
  end: number,
  keys: readonly string[],
  values: readonly JsonValue[],
  indexed: readonly Indexed[],
  head: number | null,
): Part {
  const sizes = indexed.map(({ bytes }, index) => bytes + (head ?? keyBytes(keys[index] as string)));
  return { first, end, keys, values, sizes, nodes: indexed.map(({ node }) => node) };
}

const namesStay = (keys: readonly string[], { first, end, keys: found }: Part): boolean =>
  found.length === end - first && found.every((name, index) => name === keys[first + index]);

/** Parts, and elements in a part, up to which the rest of an array is moved for each. */
const FEW = 4;
const SHORT = 1_000;

function replaceElements(value: JsonArray, parts: readonly Part[]): JsonValue[] {
  const inPlace = parts.every(({ first, end, values }) => values.length === end - first);
  if (inPlace || (parts.length <= FEW && parts.every(({ values }) => values.length <= SHORT))) {
    // of all ways to copy a frozen array this is the one that V8 does as a block of memory
    const elements = [...value];
    for (const { first, end, values } of parts.toReversed()) {
      if (values.length !== end - first) elements.splice(first, end - first, ...values);
      else for (let index = 0; index < values.length; index += 1) elements[first + index] = values[index] as JsonValue;
    }
    return elements;
  }
  return replaceAll(value, parts, ({ values }) => values);
}

/** A list with others in the places of some of its members, in one pass. */
function replaceAll<T>(list: readonly T[], parts: readonly Part[], others: (part: Part) => readonly T[]): T[] {
  const made: T[] = [];
  let next = 0;
  for (const part of parts) {
    for (; next < part.first; next += 1) made.push(list[next] as T);
    for (const other of others(part)) made.push(other);
    next = part.end;
  }
  for (; next < list.length; next += 1) made.push(list[next] as T);
  return made;
}

/** The object with other members in some places; null where a key comes twice, or is one that JavaScript puts elsewhere. */
function replaceMembers(
  value: JsonObject,
  keys: readonly string[],
  parts: readonly Part[],
): { readonly value: JsonObject; readonly keys: readonly string[] } | null {
  const gone = new Set<string>();
  for (const { first, end } of parts) for (let index = first; index < end; index += 1) gone.add(keys[index] as string);
  const put = new Set<string>();
  let count = keys.length;
  let sorts = false;
  for (const part of parts) {
    for (const name of part.keys) {
      if (put.has(name) || (Object.hasOwn(value, name) && !gone.has(name))) return null;
      put.add(name);
    }
    count += part.keys.length - (part.end - part.first);
    const after = keys[part.end];
    sorts ||= !namesStay(keys, part) && (part.keys.some(isIndexKey) || (after !== undefined && isIndexKey(after)));
  }
  const made = objectFor(count);
  let next = 0;
  for (const part of parts) {
    takeMembers(made, value, keys, next, part.first);
    for (let index = 0; index < part.keys.length; index += 1)
      setKey(made, part.keys[index] as string, part.values[index] as JsonValue);
    next = part.end;
  }
  takeMembers(made, value, keys, next, keys.length);
  const nextKeys = replaceAll(keys, parts, (part) => part.keys);
  if (sorts && Object.keys(made).some((key, index) => key !== nextKeys[index])) return null;
  return { value: made, keys: nextKeys };
}

/** The index of a container that some children of were replaced. */
function indexWith(node: IndexNode, keys: readonly string[] | null, before: ChildLayout, parts: readonly Part[]): Indexed {
  const layout = before.replaced(parts);
  const { bytes } = layout;
  if (bytes < NODE_BYTES) return { bytes, node: undefined };
  return { bytes, node: new LaidOutNode(keys, nodesWith(node.nodes, parts), layout) };
}

function nodesWith(old: readonly (IndexNode | undefined)[], parts: readonly Part[]): readonly (IndexNode | undefined)[] {
  const none = parts.every(({ nodes }) => nodes.every((node) => node === undefined));
  if (old.length === 0 && none) return NO_NODES;
  if (parts.some(({ first, end, nodes }) => nodes.length !== end - first)) {
    const made = replaceAll(old, parts, ({ nodes }) => nodes);
    return made;
  }
  const nodes = old.slice();
  for (const part of parts)
    part.nodes.forEach((node, index) => {
      if (node !== undefined || part.first + index < nodes.length) nodes[part.first + index] = node;
    });
  return nodes;
}

/**
 * A container, frozen, whose text is exactly this; null where it is no JSON, where `JSON.stringify` would write it otherwise, or where it
 * has more levels: whether such a document is taken at all is decided where all of it is parsed.
 */
function parseExactly(open: string, children: string | null, close: string, levels: number): JsonArray | JsonObject | null {
  if (children === null) return null;
  const text = open + children + close;
  try {
    const value = JSON.parse(text) as JsonArray | JsonObject;
    if (text.length > 2 * levels && isDeeper(value, levels)) return null;
    if (JSON.stringify(value) !== text) return null;
    return deepFreeze(value) as JsonArray | JsonObject;
  } catch {
    return null;
  }
}

function isDeeper(root: JsonArray | JsonObject, levels: number): boolean {
  let level: (JsonArray | JsonObject)[] = [root];
  for (let depth = 1; level.length > 0; depth += 1) {
    if (depth > levels) return true;
    const next: (JsonArray | JsonObject)[] = [];
    for (const container of level) for (const child of Object.values(container)) if (isContainer(child)) next.push(child);
    level = next;
  }
  return false;
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
