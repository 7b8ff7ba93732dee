import { isContainer, type JsonArray, type JsonObject, type JsonValue } from './json.js';

const PRIME = 0x01000193;
const START = 0x811c9dc5;

/** 32-bit hashes of immutable values that are equal where the JSON text is equal; each container is hashed once. */
export class JsonHashes {
  readonly #known = new Map<object, number>();

  of(value: JsonValue): number {
    if (typeof value === 'string') return hashText(value, START ^ 1);
    if (!isContainer(value)) return hashText(String(value), START ^ 2);
    const known = this.#known.get(value);
    if (known !== undefined) return known;
    const hash = Array.isArray(value) ? this.#array(value) : this.#object(value as JsonObject);
    this.#known.set(value, hash);
    return hash;
  }

  #array(array: JsonArray): number {
    let hash = START ^ 3;
    for (let index = 0; index < array.length; index++) hash = Math.imul(hash ^ this.of(array[index] as JsonValue), PRIME);
    return hash;
  }

  #object(object: JsonObject): number {
    let hash = START ^ 4;
    for (const key of Object.keys(object)) hash = Math.imul(hashText(key, hash) ^ this.of(object[key] as JsonValue), PRIME);
    return hash;
  }
}

/** FNV-1a over UTF-16 code units. */
function hashText(text: string, start: number): number {
  let hash = start;
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), PRIME);
  return hash;
}
