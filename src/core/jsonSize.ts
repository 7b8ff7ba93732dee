import { isContainer, type JsonArray, type JsonObject, type JsonValue } from './json.js';

/** Anything but what stands in JSON text as one byte. */
const NOT_PLAIN = /[^ !#-[\]-~]/;

/** Bytes (UTF-8) of a string inside the quotes of JSON text. */
export function textBytes(text: string): number {
  return NOT_PLAIN.test(text) ? Buffer.byteLength(JSON.stringify(text)) - 2 : text.length;
}

/** Sizes of immutable values as JSON, each container measured once. */
export class JsonSizes {
  readonly #exact = new Map<object, number>();
  readonly #atLeast = new Map<object, number>();

  /** Bytes (UTF-8) of `JSON.stringify(value)` where they are not more than `limit`; otherwise some number above `limit`. */
  measure(value: JsonValue, limit: number = Number.POSITIVE_INFINITY): number {
    if (typeof value === 'string') return textBytes(value) + 2;
    if (!isContainer(value)) return String(value).length;
    const known = this.#exact.get(value);
    if (known !== undefined) return known;
    const least = this.#atLeast.get(value) ?? 2;
    if (least > limit) return least;
    const size = Array.isArray(value) ? this.#array(value, limit) : this.#object(value as JsonObject, limit);
    (size > limit ? this.#atLeast : this.#exact).set(value, size);
    return size;
  }

  #array(array: JsonArray, limit: number): number {
    let size = 1 + Math.max(1, array.length);
    for (const child of array) {
      if (size > limit) break;
      size += this.measure(child, limit - size);
    }
    return size;
  }

  #object(object: JsonObject, limit: number): number {
    let size = 1;
    for (const key of Object.keys(object)) {
      if (size > limit) return size;
      size += textBytes(key) + 4;
      size += this.measure(object[key] as JsonValue, limit - size);
    }
    return Math.max(2, size);
  }
}
