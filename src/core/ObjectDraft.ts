import { copyMembers, type JsonObject, type JsonValue, setKey } from './json.js';
import { isIndexKey, KeyOrder } from './KeyOrder.js';

/**
 * An object while it is being changed: what it was, and what is different. The new object is built once, at the end. `N` is what may
 * stand for a value meanwhile.
 */
export class ObjectDraft<N> {
  readonly #base: JsonObject;
  /** New values of members of the base, and new members in the order in which they came. */
  readonly #changed = new Map<string, JsonValue | N>();
  readonly #removed = new Set<string>();
  /** Only where keys do more than to be appended or to go away. */
  #order: KeyOrder | undefined;

  constructor(base: JsonObject) {
    this.#base = base;
  }

  has(key: string): boolean {
    return this.#changed.has(key) || (Object.hasOwn(this.#base, key) && !this.#removed.has(key));
  }

  /** The value of a member that is there. */
  get(key: string): JsonValue | N {
    return this.#changed.has(key) ? (this.#changed.get(key) as JsonValue | N) : (this.#base[key] as JsonValue);
  }

  /** In its place where it is there; else before another key, or at the end. */
  set(key: string, value: JsonValue | N): void {
    if (!this.has(key)) {
      // a member of the base that comes back goes to the end
      if (this.#removed.has(key)) this.#ordered();
      this.#order?.place(key);
    }
    this.#changed.set(key, value);
  }

  remove(key: string): void {
    this.#order?.remove(key);
    this.#changed.delete(key);
    if (Object.hasOwn(this.#base, key)) this.#removed.add(key);
  }

  /** Moves a member that is there before another, or to the end where that is not there. */
  place(key: string, before?: string): void {
    if (isIndexKey(key)) return;
    this.#ordered().place(key, before);
  }

  /** A new object, frozen. Members that are drafts are finished by `settle`. */
  finish(settle: (node: JsonValue | N) => JsonValue): JsonObject {
    for (const [key, value] of this.#changed) this.#changed.set(key, settle(value));
    const changed = this.#changed as Map<string, JsonValue>;
    const base = this.#base;
    if (this.#order === undefined && this.#removed.size === 0) {
      const copy = copyMembers(base);
      for (const [key, value] of changed) setKey(copy, key, value);
      return Object.freeze(copy);
    }
    const result: Record<string, JsonValue> = {};
    const keys = Object.keys(base);
    const take = (key: string): void => {
      if (changed.has(key)) setKey(result, key, changed.get(key) as JsonValue);
      else if (!this.#removed.has(key)) setKey(result, key, base[key] as JsonValue);
    };
    if (this.#order === undefined) {
      for (const key of keys) take(key);
      for (const [key, value] of changed) setKey(result, key, value);
    } else {
      for (const key of keys)
        if (isIndexKey(key)) take(key);
        else break;
      for (const key of changed.keys()) if (isIndexKey(key)) take(key);
      for (const key of this.#order) take(key);
    }
    return Object.freeze(result);
  }

  #ordered(): KeyOrder {
    if (this.#order === undefined) {
      const keys = Object.keys(this.#base).filter((key) => !this.#removed.has(key));
      this.#order = new KeyOrder(keys);
      for (const key of this.#changed.keys()) if (!Object.hasOwn(this.#base, key)) this.#order.place(key);
    }
    return this.#order;
  }
}
