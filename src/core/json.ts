/// <reference lib="es2024.string" />
/**
 * What a context can hold: JSON values, checked, copied and frozen once at the border, so that everything behind it can share
 * them without fear. Refuses what JSON cannot hold, naming the place; never guesses.
 */
import { ContextError } from './errors.js';
import { formatPointer } from './pointer.js';

/** A JSON value as the store hands it out: immutable. */
export type JsonValue = null | boolean | number | string | JsonArray | JsonObject;
export type JsonArray = readonly JsonValue[];
export type JsonObject = { readonly [key: string]: JsonValue };

/** Containers inside one another that a value may have, unless said otherwise. */
export const DEFAULT_MAX_DEPTH = 256;
/** The most that can be asked for: values are walked by recursion here, and in `JSON.stringify`. */
export const MAX_DEPTH = 1000;
/** An element takes two bytes at least, so no document within 8 MiB has more, of elements or of containers; other values can. */
const MAX_CONTAINERS = (8 * 1024 * 1024) / 2;

export interface NormalizeOptions {
  /** Containers inside one another, 0 to {@link MAX_DEPTH}. A scalar has depth 0, `[]` has 1. @defaultValue {@link DEFAULT_MAX_DEPTH} */
  readonly maxDepth?: number;
  /**
   * A value that came out of this module, normalized with the same `maxDepth`. What `value` shares with it is shared with the
   * result: a container found under the same key of the same parent (in an array: any container of the corresponding array) is
   * trusted without being walked. Trust stops there because then the depth is the same one that was checked before: a container
   * that was moved elsewhere is walked again. Containers that are equal place by place to those of `base` become them as well.
   */
  readonly base?: JsonValue;
}

/**
 * A deeply frozen plain copy of what `JSON.stringify` sees in `value`: `toJSON` is called, properties that are `undefined` and
 * symbol keys are left out, `-0` is `0`, the order of keys stays. Accessors are read once; what they or a `toJSON` throw passes
 * through unchanged.
 *
 * @throws {@link ContextError} `INVALID_VALUE` with the pointer of the place: `undefined` as the value or in an array, array
 * holes, functions, symbols, BigInt, NaN, infinities, cycles, lone surrogates in strings or keys, and instances of classes
 * (Map, Set, boxed primitives…) that have no `toJSON`. `LIMIT_EXCEEDED`: deeper than `maxDepth`, or more than
 * 4,194,304 containers or elements of an array.
 */
export function normalize(value: unknown, options: NormalizeOptions = {}): JsonValue {
  const maxDepth = options.maxDepth ?? DEFAULT_MAX_DEPTH;
  if (!(Number.isInteger(maxDepth) && maxDepth >= 0 && maxDepth <= MAX_DEPTH)) {
    throw new ContextError('INVALID_OPTION', `maxDepth: ${maxDepth} is not a whole number from 0 to ${MAX_DEPTH}`);
  }
  const walk: Walk = { maxDepth, path: [], open: [], containers: 0 };
  if (options.base !== undefined && value === options.base) return options.base;
  return copyValue(resolve(value, ''), options.base, 0, walk);
}

interface Walk {
  readonly maxDepth: number;
  /** Keys from the root to the place at hand; entries past the current depth are leftovers. */
  readonly path: (string | number)[];
  /** The containers being copied, outermost first. */
  readonly open: object[];
  containers: number;
}

/** What stands in for `value` in JSON: what its `toJSON` answers, or itself. */
function resolve(value: unknown, key: string): unknown {
  const kind = typeof value;
  if ((kind !== 'object' || value === null) && kind !== 'bigint' && kind !== 'function') return value;
  const toJSON: unknown = (value as { toJSON?: unknown }).toJSON;
  if (typeof toJSON !== 'function') return value;
  return toJSON.call(value, key);
}

function copyValue(value: unknown, base: JsonValue | undefined, depth: number, walk: Walk): JsonValue {
  switch (typeof value) {
    case 'string':
      if (!value.isWellFormed())
        refuse(walk, depth, 'is a string with a lone surrogate, which UTF-8 cannot carry; use toWellFormed()');
      return value;
    case 'number':
      if (!Number.isFinite(value)) refuse(walk, depth, `is ${value}, which JSON cannot hold; use null or a string`);
      return value + 0;
    case 'boolean':
      return value;
    case 'object':
      return value === null ? null : copyContainer(value, base, depth, walk);
    case 'undefined':
      return refuse(walk, depth, 'is undefined, which JSON cannot hold; use null');
    case 'bigint':
      return refuse(walk, depth, 'is a BigInt, which JSON cannot hold; use a string');
    default:
      return refuse(walk, depth, `is a ${typeof value}, which JSON cannot hold; leave it out`);
  }
}

function copyContainer(value: object, base: JsonValue | undefined, depth: number, walk: Walk): JsonValue {
  if (depth >= walk.maxDepth) tooDeep(walk, depth);
  if (walk.open.includes(value)) refuse(walk, depth, 'contains itself (a cycle), which JSON cannot hold');
  if (++walk.containers > MAX_CONTAINERS) {
    const why = `the value has more than ${MAX_CONTAINERS} arrays and objects, more than fit into any context`;
    exceeds(walk, depth, `${why}; is one referenced over and over?`, `containers ${MAX_CONTAINERS}`);
  }
  walk.open.push(value);
  const copy = Array.isArray(value)
    ? copyArray(value, Array.isArray(base) ? base : undefined, depth, walk)
    : copyObject(value, isObject(base) ? base : undefined, depth, walk);
  walk.open.pop();
  return copy;
}

function copyArray(value: readonly unknown[], base: JsonArray | undefined, depth: number, walk: Walk): JsonArray {
  const prototype: unknown = Object.getPrototypeOf(value);
  // an array of another realm has another Array.prototype, but that is an array as well
  if (prototype !== Array.prototype && !Array.isArray(prototype))
    refuse(walk, depth, `is ${nameInstance(value)}; turn it into plain JSON first`);
  const length = value.length;
  // before all of it is copied: a sparse array can be as long as memory is not
  if (length > MAX_CONTAINERS) {
    const why = `an array has ${length} elements, more than the ${MAX_CONTAINERS} that fit into any context`;
    exceeds(walk, depth, why, `elements ${MAX_CONTAINERS}`);
  }
  const fromEnd = base === undefined ? 0 : base.length - length;
  let same = fromEnd === 0 && base !== undefined;
  let known: Set<unknown> | undefined;
  const copy: unknown[] = [...value];
  for (let index = 0; index < length; index++) {
    const given = copy[index];
    if (base !== undefined && typeof given === 'object' && given !== null) {
      if (given === base[index] || given === base[index + fromEnd]) continue;
      // where the next one is in its place this one is new, and the set, which costs, is not needed
      const next = copy[index + 1];
      const inPlace =
        index + 1 === length || (typeof next === 'object' && (next === base[index + 1] || next === base[index + 1 + fromEnd]));
      if (known === undefined && !inPlace) known = new Set(base);
      if (known?.has(given) === true) {
        same = false;
        continue;
      }
    }
    walk.path[depth] = index;
    const child = resolve(given, String(index));
    if (child === undefined) {
      refuse(
        walk,
        depth + 1,
        index in value ? 'is undefined, which JSON cannot hold; use null' : 'is a hole in an array; use null',
      );
    }
    const before = base?.[index];
    const result = copyValue(child, before, depth + 1, walk);
    same &&= result === before;
    copy[index] = result;
  }
  return same && base !== undefined ? base : Object.freeze(copy as JsonValue[]);
}

function copyObject(value: object, base: JsonObject | undefined, depth: number, walk: Walk): JsonObject {
  if (!isPlain(value)) {
    refuse(
      walk,
      depth,
      `is ${nameInstance(value)} without a toJSON method, which JSON cannot hold; turn it into plain JSON first`,
    );
  }
  const source = value as Readonly<Record<string, unknown>>;
  const copy: Record<string, JsonValue> = {};
  let same = base !== undefined;
  for (const key of Object.keys(source)) {
    const given = source[key];
    walk.path[depth] = key;
    // a key of Object.prototype would be found in every base
    const before = base === undefined || (INHERITED.has(key) && !Object.hasOwn(base, key)) ? undefined : base[key];
    if (given === before && typeof given === 'object' && given !== null) {
      setKey(copy, key, given as JsonValue);
      continue;
    }
    const child = resolve(given, key);
    if (child === undefined) continue;
    if (!key.isWellFormed())
      refuse(walk, depth + 1, 'has a key with a lone surrogate, which UTF-8 cannot carry; use toWellFormed()');
    const result = copyValue(child, before, depth + 1, walk);
    same &&= result === before;
    setKey(copy, key, result);
  }
  return same && base !== undefined && sameKeys(copy, base) ? base : Object.freeze(copy);
}

function sameKeys(a: JsonObject, b: JsonObject): boolean {
  const keys = Object.keys(a);
  const others = Object.keys(b);
  return keys.length === others.length && keys.every((key, index) => key === others[index]);
}

const INHERITED_NAMES: readonly string[] = Object.getOwnPropertyNames(Object.prototype);
/** A set, because `in` takes five times as long. */
const INHERITED: ReadonlySet<string> = new Set(INHERITED_NAMES);

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype === Object.prototype || prototype === null) return true;
  // the Object.prototype of another realm (a vm context, a test runner's sandbox)
  return (
    typeof prototype === 'object' &&
    Object.getPrototypeOf(prototype) === null &&
    Object.hasOwn(prototype as object, 'isPrototypeOf')
  );
}

function nameInstance(value: object): string {
  const name: unknown = (value as { constructor?: { name?: unknown } }).constructor?.name;
  return typeof name === 'string' && name !== '' && name !== 'Object' ? `an instance of ${name}` : 'an object of a class';
}

function refuse(walk: Walk, depth: number, problem: string): never {
  const pointer = formatPointer(walk.path.slice(0, depth));
  const place = pointer === '' ? 'the value itself' : `the value at ${JSON.stringify(pointer)}`;
  throw new ContextError('INVALID_VALUE', `${place} ${problem}`, { pointer });
}

function tooDeep(walk: Walk, depth: number): never {
  const why = `the value is nested deeper than ${walk.maxDepth} levels; flatten it, or raise the depth limit`;
  return exceeds(walk, depth, why, `depth ${walk.maxDepth}`);
}

function exceeds(walk: Walk, depth: number, why: string, limit: string): never {
  const pointer = formatPointer(walk.path.slice(0, depth));
  throw new ContextError('LIMIT_EXCEEDED', `${why} (at ${JSON.stringify(pointer)})`, { pointer, limit });
}

/** True for a JSON object: neither an array nor a scalar. */
export function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** True for an array or object. */
export function isContainer(value: JsonValue | undefined): value is JsonArray | JsonObject {
  return typeof value === 'object' && value !== null;
}

/**
 * Sets an own member of an object that is still being built. Assigning to `__proto__` would set the prototype, and assigning to
 * other names of `Object.prototype` fails where that is frozen.
 */
export function setKey(object: Record<string, JsonValue>, key: string, value: JsonValue): void {
  if (INHERITED.has(key)) Object.defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true });
  else object[key] = value;
}

/** A copy of `object` that can be changed, `__proto__` and all; its members are shared. */
export function copyMembers(object: JsonObject): Record<string, JsonValue> {
  return { ...object };
}

/** Objects with more members than this are dictionaries in V8, as `JSON.parse` makes them. */
const WIDE = 128;

/**
 * An object that so many members are to be put into. One without a prototype begins as a dictionary: that spares a wide one the way through
 * a hidden class for each member, and makes copying it three to eight times as fast as `{ ...object }`.
 */
export function objectFor(members: number): Record<string, JsonValue> {
  return members > WIDE ? (Object.setPrototypeOf(Object.create(null), Object.prototype) as Record<string, JsonValue>) : {};
}

/** Gives `target` the members of `source` that `keys` names from `from` to `to`. */
export function takeMembers(
  target: Record<string, JsonValue>,
  source: JsonObject,
  keys: readonly string[],
  from: number,
  to: number,
): void {
  if (INHERITED_NAMES.some((name) => Object.hasOwn(source, name))) {
    for (let index = from; index < to; index += 1)
      setKey(target, keys[index] as string, source[keys[index] as string] as JsonValue);
    return;
  }
  for (let index = from; index < to; index += 1) target[keys[index] as string] = source[keys[index] as string] as JsonValue;
}

/** {@link copyMembers} where the keys are known: all of them, in order. */
export function copyKnown(object: JsonObject, keys: readonly string[]): Record<string, JsonValue> {
  if (keys.length <= WIDE) return { ...object };
  const copy = objectFor(keys.length);
  takeMembers(copy, object, keys, 0, keys.length);
  return copy;
}

/** Deeper than this, freezing goes on without recursion. */
const RECURSION = 500;

/**
 * `JSON.parse`, deeply frozen. `__proto__` is an ordinary member. Any depth.
 *
 * @throws SyntaxError as `JSON.parse` does, and where containers are inside one another more than {@link MAX_DEPTH} deep: no writer of this
 * library makes such a text, and what walks a value by recursion would run out of stack.
 */
export function parseFrozen(text: string): JsonValue {
  const value = JSON.parse(text) as JsonValue;
  if (isContainer(value) && depthFrozen(value) > MAX_DEPTH)
    throw new SyntaxError(`containers are nested more than ${MAX_DEPTH} deep`);
  return value;
}

/** Freezes it, and tells its depth where that is above {@link RECURSION}; else 0. */
function depthFrozen(container: JsonArray | JsonObject): number {
  deepest = 0;
  freeze(container, 0);
  return deepest;
}

/** What {@link freezeIteratively} has met. */
let deepest = 0;

/** Freezes `value` with all that is in it, in place, and returns it. Parts that are frozen already are walked too. Any depth. */
export function deepFreeze(value: JsonValue): JsonValue {
  if (isContainer(value)) freeze(value, 0);
  return value;
}

function freeze(container: JsonArray | JsonObject, depth: number): void {
  if (depth > RECURSION) {
    freezeIteratively(container, depth);
    return;
  }
  if (Array.isArray(container)) {
    for (let index = 0; index < container.length; index++) {
      const child: JsonValue = container[index];
      if (typeof child === 'object' && child !== null) freeze(child, depth + 1);
    }
  } else {
    for (const key in container) {
      const child = (container as JsonObject)[key];
      if (typeof child === 'object' && child !== null) freeze(child, depth + 1);
    }
  }
  Object.freeze(container);
}

function freezeIteratively(root: JsonArray | JsonObject, depth: number): void {
  let level: (JsonArray | JsonObject)[] = [root];
  for (let at = depth + 1; level.length > 0; at += 1) {
    deepest = Math.max(deepest, at);
    const next: (JsonArray | JsonObject)[] = [];
    for (const container of level) {
      for (const child of Object.values(container)) if (isContainer(child)) next.push(child);
      Object.freeze(container);
    }
    level = next;
  }
}
