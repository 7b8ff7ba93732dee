/**
 * From one value to another that shares structure with it: the splice between their texts, found by identity. What both share is copied
 * without being looked at; of what differs, only the text of the smallest containers is written and compared.
 */
import { findSplice } from './blockMatch.js';
import type { DocumentText } from './DocumentText.js';
import { isContainer, isObject, type JsonArray, type JsonObject, type JsonValue } from './json.js';
import { type Splice, SpliceBuilder } from './splice.js';
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

/** The splice from a text to that of `next`, and the index of that. `node` is the index of the text, which is that of `value`. */
export function deriveSplice(
  text: DocumentText,
  value: JsonValue,
  node: IndexNode | undefined,
  next: JsonValue,
): { readonly splice: Splice; readonly indexed: Indexed } {
  const derivation = new Derivation(text);
  const indexed = derivation.value({ value, node, at: 0, bytes: text.length }, next);
  return { splice: derivation.builder.build(), indexed };
}

/** A part of the old document, and where its text is. */
interface Place {
  readonly value: JsonValue;
  readonly node: IndexNode | undefined;
  readonly at: number;
  readonly bytes: number;
}

/** How far ahead an element of the other array is looked for, before all of them are. */
const AHEAD = 8;
/** Strings from this length on are found again in another place. */
const LONG_STRING = 16;
/** Shorter text is put in as it is: finding what it shares would not save anything. */
const SHORT = 12;

/** Whether it is worth looking for this very value at another place of an array. */
const isAnchor = (value: JsonValue | undefined): boolean =>
  typeof value === 'object' ? value !== null : typeof value === 'string' && value.length >= LONG_STRING;

class Derivation {
  readonly builder: SpliceBuilder;
  readonly #text: DocumentText;

  constructor(text: DocumentText) {
    this.#text = text;
    this.builder = new SpliceBuilder(text.length);
  }

  /** Writes the text of `next`, which stands where `old` stood. */
  value(old: Place, next: JsonValue): Indexed {
    if (old.value === next) {
      this.builder.copy(old.at, old.bytes);
      return { bytes: old.bytes, node: old.node };
    }
    if (old.node !== undefined && isContainer(next)) {
      if (Array.isArray(next) && Array.isArray(old.value)) return this.#array(old, old.node, old.value, next);
      if (isObject(next) && isObject(old.value)) return this.#object(old, old.node, old.value, next);
    }
    const indexed = indexOf(next);
    this.#replace(old.at, old.bytes, JSON.stringify(next));
    return indexed;
  }

  /** Text in the place of old text; what they have in common is taken from there. */
  #replace(at: number, length: number, text: string): void {
    const bytes = Buffer.from(text);
    if (bytes.length < SHORT || length === 0) {
      this.builder.insert(bytes);
      return;
    }
    for (const piece of findSplice(this.#text.slice(at, at + length), bytes).pieces) {
      if (piece.bytes !== undefined) this.builder.insert(piece.bytes);
      else this.builder.copy(at + piece.from, piece.length);
    }
  }

  #object(old: Place, node: IndexNode, before: JsonObject, next: JsonObject): Indexed {
    const starts = childStarts(node);
    const keys = node.keys as readonly string[];
    const nextKeys = Object.keys(next);
    const same = keys.length === nextKeys.length && keys.every((key, index) => key === nextKeys[index]);
    const places = same ? null : new Map(keys.map((key, index) => [key, index]));
    const writer = new ChildWriter(this.builder, node, starts, old.at, nextKeys.length);
    for (let index = 0; index < nextKeys.length; index += 1) {
      const key = nextKeys[index] as string;
      const place = places === null ? index : places.get(key);
      if (place === undefined) {
        writer.comma(null);
        writer.child(this.#fresh(next[key] as JsonValue, `${JSON.stringify(key)}:`), keyBytes(key));
      } else if (before[key] === next[key]) writer.keep(place);
      else {
        writer.comma(place);
        const at = old.at + (starts[place] as number);
        const head = keyBytes(key);
        this.builder.copy(at, head);
        const size = node.sizes[place] as number;
        const part = { value: before[key] as JsonValue, node: node.nodes[place], at: at + head, bytes: size - head };
        writer.child(this.value(part, next[key] as JsonValue), head, place);
      }
    }
    return writer.finish(same ? keys : nextKeys);
  }

  #array(old: Place, node: IndexNode, before: JsonArray, next: JsonArray): Indexed {
    const starts = childStarts(node);
    const writer = new ChildWriter(this.builder, node, starts, old.at, next.length);
    let end = 0;
    const most = Math.min(before.length, next.length);
    let start = 0;
    while (start < most && before[start] === next[start]) start += 1;
    while (end < most - start && before[before.length - 1 - end] === next[next.length - 1 - end]) end += 1;
    writer.keepRun(0, start);
    this.#middle(old, node, starts, before, next, start, before.length - end, next.length - end, writer);
    writer.keepRun(before.length - end, end);
    return writer.finish(null);
  }

  /** Elements between a common prefix and a common suffix: `before[start, endA)` becomes `next[start, endB)`. */
  #middle(
    old: Place,
    node: IndexNode,
    starts: Uint32Array,
    before: JsonArray,
    next: JsonArray,
    start: number,
    endA: number,
    endB: number,
    writer: ChildWriter,
  ): void {
    let a = start;
    let b = start;
    let places: Map<JsonValue, number> | null = null;
    while (b < endB) {
      const element = next[b] as JsonValue;
      if (a < endA && before[a] === element) {
        writer.keep(a);
        a += 1;
        b += 1;
        continue;
      }
      // removed before it?
      let found = isAnchor(element) ? ahead(before, a + 1, Math.min(endA, a + AHEAD), element) : -1;
      const stays = a < endA && isAnchor(before[a]) && ahead(next, b + 1, Math.min(endB, b + AHEAD), before[a] as JsonValue) >= 0;
      if (found < 0 && isAnchor(element) && (stays || endA - a !== endB - b)) {
        places ??= placesOf(before, start, endA);
        found = places.get(element) ?? -1;
      }
      if (found >= 0) {
        writer.keep(found);
        // one that was moved here: the rest goes on where it was
        if (found >= a && !stays) a = found + 1;
      } else if (a < endA && !stays) {
        writer.comma(a);
        const part = {
          value: before[a] as JsonValue,
          node: node.nodes[a],
          at: old.at + (starts[a] as number),
          bytes: node.sizes[a] as number,
        };
        writer.child(this.value(part, element), 0, a);
        a += 1;
      } else {
        writer.comma(null);
        writer.child(this.#fresh(element, ''), 0);
      }
      b += 1;
    }
  }

  /** Text that stands for nothing old. */
  #fresh(value: JsonValue, before: string): Indexed {
    const text = JSON.stringify(value);
    const bytes = Buffer.from(before + text);
    this.builder.insert(bytes);
    const length = bytes.length - (before === '' ? 0 : Buffer.byteLength(before));
    return length < NODE_BYTES || !isContainer(value) ? { bytes: length, node: undefined } : indexOf(value);
  }
}

function ahead(list: JsonArray, from: number, to: number, wanted: JsonValue): number {
  for (let index = from; index < to; index += 1) if (list[index] === wanted) return index;
  return -1;
}

function placesOf(list: JsonArray, from: number, to: number): Map<JsonValue, number> {
  const places = new Map<JsonValue, number>();
  for (let index = from; index < to; index += 1) {
    const value = list[index] as JsonValue;
    if (isAnchor(value)) places.set(value, index);
  }
  return places;
}

/** Writes the children of a container one after the other, with their commas, and the index of the new one. */
class ChildWriter {
  readonly #builder: SpliceBuilder;
  readonly #node: IndexNode;
  readonly #starts: Uint32Array;
  readonly #at: number;
  readonly #sizes: Uint32Array;
  readonly #nodes: (IndexNode | undefined)[] = [];
  #count = 0;
  /** The old child that was written last, whose comma follows it in the old text. */
  #last: number | null = null;
  /** Old children that follow each other, and are still to be written as one run. */
  #runFrom = 0;
  #runCount = 0;

  constructor(builder: SpliceBuilder, node: IndexNode, starts: Uint32Array, at: number, count: number) {
    this.#builder = builder;
    this.#node = node;
    this.#starts = starts;
    this.#at = at;
    this.#sizes = new Uint32Array(count);
    builder.copy(at, 1);
  }

  /** The comma before the next child, from the old text where one stands there anyway. @param next - the old child that follows */
  comma(next: number | null): void {
    this.#flush();
    this.#comma(next);
  }

  #comma(next: number | null): void {
    if (this.#count === 0) return;
    const last = this.#last;
    if (last !== null && last + 1 < this.#node.sizes.length) {
      this.#builder.copy(this.#at + (this.#starts[last + 1] as number) - 1, 1);
    } else if (last !== null && next !== null && next > 0) this.#builder.copy(this.#at + (this.#starts[next] as number) - 1, 1);
    else this.#builder.insert(COMMA);
  }

  /** A child that was just written. @param head - bytes of its key @param old - the old child it stands for */
  child(indexed: Indexed, head: number, old: number | null = null): void {
    this.#sizes[this.#count] = head + indexed.bytes;
    if (indexed.node !== undefined) this.#nodes[this.#count] = indexed.node;
    this.#count += 1;
    this.#last = old;
  }

  /** An old child as it was. */
  keep(index: number): void {
    this.keepRun(index, 1);
  }

  /** So many old children as they were, one after the other. */
  keepRun(from: number, count: number): void {
    if (this.#runCount > 0 && from === this.#runFrom + this.#runCount) {
      this.#runCount += count;
      return;
    }
    this.#flush();
    this.#runFrom = from;
    this.#runCount = count;
  }

  #flush(): void {
    const from = this.#runFrom;
    const count = this.#runCount;
    if (count === 0) return;
    this.#runCount = 0;
    this.#comma(from);
    const at = this.#starts[from] as number;
    this.#builder.copy(this.#at + at, (this.#starts[from + count] as number) - 1 - at);
    this.#sizes.set(this.#node.sizes.subarray(from, from + count), this.#count);
    const { nodes } = this.#node;
    for (let index = from; index < Math.min(from + count, nodes.length); index += 1) {
      const node = nodes[index];
      if (node !== undefined) this.#nodes[this.#count + index - from] = node;
    }
    this.#count += count;
    this.#last = from + count - 1;
  }

  /** @param keys - of an object */
  finish(keys: readonly string[] | null): Indexed {
    this.#flush();
    this.#builder.copy(this.#at + this.#node.bytes - 1, 1);
    const bytes = containerBytes(this.#sizes);
    if (bytes < NODE_BYTES) return { bytes, node: undefined };
    const nodes = this.#nodes.length === 0 ? NO_NODES : this.#nodes;
    return { bytes, node: { keys, sizes: this.#sizes, bytes, nodes } };
  }
}

const COMMA = Buffer.from(',');
