/** Random JSON documents, edits of them that share what they do not touch, and texts that no `JSON.stringify` writes. */
import { isDraft } from 'mutative';
import { isContainer, type JsonArray, type JsonObject, type JsonValue, normalize } from '../../src/core/json.js';
import type { IndexNode } from '../../src/core/TextIndex.js';
import { makeConversation, type Rng } from './random.js';

const KEYS = [
  '__proto__',
  '1',
  '0',
  'constructor',
  'toString',
  '',
  'a',
  'b',
  'c',
  'é',
  '😀',
  'a"b',
  '\n',
  'list',
  'a longer key',
];
const TEXTS = [
  '',
  'x',
  'é',
  '東京',
  '🙂🙂',
  '"quoted"',
  'back\\slash',
  '\n\t\u0001',
  '\u2028',
  '},{',
  '","',
  '[1,2]',
  'plain words ',
];

export const randomKey = (rng: Rng): string => (rng.chance(0.7) ? rng.pick(KEYS) : `key${rng.int(0, 40)}`);
const randomText = (rng: Rng): string =>
  Array.from({ length: rng.pick([0, 1, 2, 5, 40, 300]) > 40 && rng.chance(0.8) ? 30 : rng.int(0, 6) }, () =>
    rng.pick(TEXTS),
  ).join('');

export function randomScalar(rng: Rng): JsonValue {
  if (rng.chance(0.5)) return randomText(rng);
  return rng.pick([null, true, false, 0, 1, -1, 10, 12.5, 1e21, 1e-7, 123456789, rng.int(0, 1000), rng.next()]);
}

function fromEntries(entries: readonly (readonly [string, JsonValue])[]): JsonObject {
  return Object.fromEntries(entries);
}

/** Something of roughly so many bytes. */
export function randomValue(rng: Rng, bytes: number): JsonValue {
  if (bytes < 12) return rng.chance(0.15) ? rng.pick([[], {}]) : randomScalar(rng);
  const kind = rng.int(0, 9);
  if (kind === 0) return 'long text é '.repeat(Math.ceil(bytes / 13));
  if (kind === 1) return Array.from({ length: Math.ceil(bytes / 3) }, () => rng.int(0, 9));
  if (kind === 2) return Array.from({ length: Math.ceil(bytes / 8) }, () => rng.pick(TEXTS));
  const count = rng.int(1, rng.chance(0.5) ? 6 : 30);
  const children = Array.from({ length: count }, () => randomValue(rng, rng.chance(1 / count) ? bytes / 2 : bytes / count / 2));
  if (kind < 6) return children;
  return fromEntries(children.map((child) => [randomKey(rng), child]));
}

/** A document of 100 bytes to 200 KB. */
export function randomDocument(rng: Rng): JsonValue {
  const bytes = rng.pick([100, 1_000, 1_500, 3_000, 3_000, 10_000, 40_000, ...(rng.chance(0.2) ? [200_000] : [])]);
  return normalize(rng.chance(0.3) ? makeConversation(rng.int(0, 1e6), Math.max(1_000, bytes)) : randomValue(rng, bytes));
}

type Container = JsonValue[] | Record<string, JsonValue>;

const ARRAY_EDITS = [
  'set',
  'push',
  'unshift',
  'insert',
  'remove',
  'removeMany',
  'move',
  'slide',
  'twice',
  'reverse',
  'clear',
] as const;
const OBJECT_EDITS = ['set', 'set', 'add', 'add', 'remove', 'rename', 'clear'] as const;

function changedScalar(rng: Rng, value: JsonValue): JsonValue {
  if (typeof value === 'number' && rng.chance(0.7)) return value * 10 + 1;
  if (typeof value !== 'string' || rng.chance(0.2)) return randomScalar(rng);
  const at = rng.int(0, value.length);
  return (value.slice(0, at) + rng.pick(TEXTS) + value.slice(at + rng.int(0, 3))).toWellFormed();
}

/** One edit of a container that can be changed: a draft, or a copy. */
function change(rng: Rng, container: Container): void {
  const fresh = (): JsonValue => randomValue(rng, rng.pick([3, 3, 30, 300, 2_000]));
  if (Array.isArray(container)) {
    const at = rng.int(0, Math.max(0, container.length - 1));
    const kind = container.length === 0 ? 'push' : rng.pick(ARRAY_EDITS);
    const child = container[at] as JsonValue;
    if (kind === 'set') container[at] = isContainer(child) || rng.chance(0.2) ? fresh() : changedScalar(rng, child);
    else if (kind === 'push') container.push(...Array.from({ length: rng.int(1, 3) }, fresh));
    else if (kind === 'unshift') container.unshift(fresh());
    else if (kind === 'insert') container.splice(at, 0, fresh());
    else if (kind === 'remove') container.splice(at, 1);
    else if (kind === 'removeMany') container.splice(at, rng.int(1, 20));
    else if (kind === 'move') container.splice(rng.int(0, container.length - 1), 0, ...container.splice(at, rng.int(1, 3)));
    else if (kind === 'slide') container.push(...container.splice(0, rng.int(1, 3)).map(fresh));
    else if (kind === 'twice') container.splice(rng.int(0, container.length), 0, child);
    else if (kind === 'reverse') container.reverse();
    else if (rng.chance(0.2)) container.length = 0;
    return;
  }
  const keys = Object.keys(container);
  const kind = keys.length === 0 ? 'add' : rng.pick(OBJECT_EDITS);
  const key = kind === 'add' ? randomKey(rng) : rng.pick(keys);
  const child = container[key] as JsonValue;
  const put = (name: string, value: JsonValue): void => {
    Object.defineProperty(container, name, { value, writable: true, enumerable: true, configurable: true });
  };
  // a draft takes no definitions, and nobody assigns to `__proto__`
  const set = (name: string, value: JsonValue): void => {
    if (name !== '__proto__') container[name] = value;
    else if (!isDraftLike(container)) put(name, value);
  };
  if (kind === 'add') set(key, fresh());
  else if (kind === 'set') set(key, isContainer(child) || rng.chance(0.2) ? fresh() : changedScalar(rng, child));
  else if (kind === 'remove') delete container[key];
  else if (kind === 'rename') {
    delete container[key];
    set(randomKey(rng), isContainer(child) && rng.chance(0.3) ? [child] : child);
  } else if (rng.chance(0.2)) for (const name of keys) delete container[name];
}

/** A draft is none of the plain objects that {@link edited} copies. */
const copies = new WeakSet<object>();
const isDraftLike = (container: object): boolean => !copies.has(container);

/** The containers on a random way down. */
function descent(rng: Rng, value: JsonValue): string[] {
  const path: string[] = [];
  for (let here = value; isContainer(here) && rng.chance(0.75); ) {
    const ways = Object.keys(here).filter((key) => key !== '__proto__' && isContainer((here as JsonObject)[key]));
    if (ways.length === 0) break;
    const way = rng.pick(ways);
    path.push(way);
    here = (here as JsonObject)[way] as JsonValue;
  }
  return path;
}

/** Edits a draft in place, in one or more places. */
export function editDraft(rng: Rng, value: JsonValue, draft: Container): void {
  for (let times = rng.pick([1, 1, 1, 2, 5]); times > 0; times -= 1) {
    let here: unknown = draft;
    for (const key of descent(rng, value)) {
      const next = (here as Record<string, unknown>)[key];
      // below an object with a key `__proto__` there are no drafts (src/store/draft.ts)
      if (!isDraft(next)) break;
      here = next;
    }
    change(rng, here as Container);
  }
}

/** The value with some edits; what they do not touch is the same. */
export function edited(rng: Rng, value: JsonValue): JsonValue {
  if (!isContainer(value) || rng.chance(0.02)) return normalize(randomValue(rng, rng.pick([3, 50, 2_000])));
  let next: JsonValue = value;
  for (let times = rng.pick([1, 1, 1, 2, 5]); times > 0; times -= 1) next = editedAt(rng, next, descent(rng, next));
  return normalize(next, { base: value });
}

function editedAt(rng: Rng, value: JsonValue, path: readonly string[]): JsonValue {
  if (!isContainer(value)) return changedScalar(rng, value);
  const [key, ...rest] = path;
  if (key === undefined && !Array.isArray(value) && rng.chance(0.2)) {
    // the same members in another order
    return fromEntries(Object.entries(value).sort(() => rng.next() - 0.5));
  }
  const copy: Container = Array.isArray(value) ? [...(value as JsonArray)] : { ...(value as JsonObject) };
  copies.add(copy);
  if (key === undefined) change(rng, copy);
  else (copy as Record<string, JsonValue>)[key] = editedAt(rng, (value as JsonObject)[key] as JsonValue, rest);
  return copy;
}

/** Its text as somebody else may write it: spaces, escapes, zeros, members in another order or twice. */
export function strangeText(rng: Rng, value: JsonValue, often: number): string {
  const space = (): string => (rng.chance(often) ? rng.pick([' ', '\n', '\t ', '\r\n  ']) : '');
  const text = (string: string): string => {
    const plain = JSON.stringify(string);
    if (!rng.chance(often)) return plain;
    return `"${[...string].map((c) => (rng.chance(0.5) ? JSON.stringify(c).slice(1, -1) : escaped(c))).join('')}"`;
  };
  if (typeof value === 'string') return text(value);
  if (typeof value === 'number' && rng.chance(often))
    return Number.isInteger(value) && Math.abs(value) < 1e15 ? `${value}.0` : `${value}`;
  if (!isContainer(value)) return JSON.stringify(value);
  const list = Array.isArray(value)
    ? value.map((child) => space() + strangeText(rng, child, often) + space())
    : Object.entries(value).map(([key, child]) => `${space()}${text(key)}${space()}:${space()}${strangeText(rng, child, often)}`);
  if (!Array.isArray(value) && rng.chance(often)) list.sort(() => rng.next() - 0.5);
  if (!Array.isArray(value) && rng.chance(often) && list.length > 0) list.push(rng.pick(list));
  const [open, close] = Array.isArray(value) ? '[]' : '{}';
  return `${open}${space()}${list.join(',')}${space()}${close}`;
}

const escaped = (character: string): string =>
  Array.from({ length: character.length }, (_, n) => `\\u${character.charCodeAt(n).toString(16).padStart(4, '0')}`).join('');

/** An index as plain data: arrays may end where the last ones have no node. */
export function plainIndex(node: IndexNode | undefined): unknown {
  if (node === undefined) return null;
  const nodes = [...node.nodes.entries()].flatMap(([index, child]) => (child === undefined ? [] : [[index, plainIndex(child)]]));
  return { keys: node.keys, sizes: [...node.sizes], bytes: node.bytes, nodes };
}

export function isDeepFrozen(value: JsonValue): boolean {
  return !isContainer(value) || (Object.isFrozen(value) && Object.values(value).every(isDeepFrozen));
}
