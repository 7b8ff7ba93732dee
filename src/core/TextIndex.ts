/**
 * Where the parts of a JSON value lie in its text: for each container of some length the bytes that each child takes. It leads from a
 * place in the value to its bytes and back without looking at what lies between: a change is then found, written and verified by what it changes.
 *
 * It describes the text that `JSON.stringify` makes, and nothing else.
 */

import { ChildLayout } from './ChildLayout.js';
import { isContainer, type JsonArray, type JsonObject, type JsonValue } from './json.js';
import { textBytes } from './jsonSize.js';

/** Containers with less text than this have no node: they are written or parsed as a whole. */
export const NODE_BYTES = 1_024;

export interface IndexNode {
  /** Keys of an object, in order; null for an array. */
  readonly keys: readonly string[] | null;
  /** Bytes of each child, without the comma: an element, or a key with its colon and value. */
  readonly sizes: Uint32Array;
  /** Of the whole container, brackets included. */
  readonly bytes: number;
  /** Nodes of children that have one, at their index; shorter where the last ones have none. */
  readonly nodes: readonly (IndexNode | undefined)[];
  /** The same sizes, where they were changed from version to version: see {@link layoutOf}. */
  readonly layout?: ChildLayout;
}

/** A node whose sizes are in one piece only where somebody asks for that. */
export class LaidOutNode implements IndexNode {
  readonly keys: readonly string[] | null;
  readonly nodes: readonly (IndexNode | undefined)[];
  readonly layout: ChildLayout;
  #sizes: Uint32Array | undefined;

  constructor(keys: readonly string[] | null, nodes: readonly (IndexNode | undefined)[], layout: ChildLayout) {
    this.keys = keys;
    this.nodes = nodes;
    this.layout = layout;
  }

  get bytes(): number {
    return this.layout.bytes;
  }

  get sizes(): Uint32Array {
    this.#sizes ??= this.layout.sizes();
    return this.#sizes;
  }
}

const layouts = new WeakMap<IndexNode, ChildLayout>();

/** The sizes of a node's children in blocks; cut once. */
export function layoutOf(node: IndexNode): ChildLayout {
  const known = node.layout ?? layouts.get(node);
  if (known !== undefined) return known;
  const layout = ChildLayout.of(node.sizes);
  layouts.set(node, layout);
  return layout;
}

/** A value's text: its length, and its node where it has one. */
export interface Indexed {
  readonly bytes: number;
  readonly node: IndexNode | undefined;
}

export const NO_NODES: readonly undefined[] = Object.freeze([]);

/** Bytes of `"key":`. */
export const keyBytes = (key: string): number => textBytes(key) + 3;

/** Where each child begins in its container's text, and one past the last (where the closing bracket, less one, stands). */
export function childStarts({ sizes }: IndexNode): Uint32Array {
  const starts = new Uint32Array(sizes.length + 1);
  let at = 1;
  for (let index = 0; index < sizes.length; index += 1) {
    starts[index] = at;
    at += (sizes[index] as number) + 1;
  }
  starts[sizes.length] = at;
  return starts;
}

/** Length of a container with these children. */
export function containerBytes(sizes: Uint32Array): number {
  let sum = 1 + Math.max(1, sizes.length);
  for (const size of sizes) sum += size;
  return sum;
}

/** Sizes of children on the way to their container; only those of long ones are kept. */
const pending: number[] = [];

/** The index of a value. Takes about as long as `JSON.stringify`. */
export function indexOf(value: JsonValue): Indexed {
  if (typeof value === 'string') return { bytes: textBytes(value) + 2, node: undefined };
  if (!isContainer(value)) return { bytes: String(value).length, node: undefined };
  const from = pending.length;
  const nodes: (IndexNode | undefined)[] = [];
  const keys = Array.isArray(value) ? null : Object.keys(value);
  const count = keys === null ? (value as JsonArray).length : keys.length;
  let bytes = 1 + Math.max(1, count);
  for (let index = 0; index < count; index += 1) {
    const key = keys === null ? '' : (keys[index] as string);
    const child = keys === null ? (value as JsonArray)[index] : (value as JsonObject)[key];
    const before = keys === null ? 0 : keyBytes(key);
    let size: number;
    if (typeof child === 'string') size = textBytes(child) + 2;
    else if (typeof child === 'object' && child !== null) {
      const indexed = indexOf(child);
      size = indexed.bytes;
      if (indexed.node !== undefined) nodes[index] = indexed.node;
    } else size = String(child).length;
    pending.push(before + size);
    bytes += before + size;
  }
  const node =
    bytes < NODE_BYTES
      ? undefined
      : { keys, sizes: Uint32Array.from(pending.slice(from)), bytes, nodes: nodes.length === 0 ? NO_NODES : nodes };
  pending.length = from;
  return { bytes, node };
}
