/** Last of the keys that JavaScript sorts by number, ahead of all others. */
const LAST_INDEX = 2 ** 32 - 2;

/** True for a key such as `'0'` or `'42'`: an object holds those first and in numeric order, whenever they were added. */
export function isIndexKey(key: string): boolean {
  const first = key.charCodeAt(0);
  if (!(first >= 48 && first <= 57) || key.length > 10) return false;
  return key === '0' || (first !== 48 && /^\d+$/.test(key) && Number(key) <= LAST_INDEX);
}

interface Link {
  readonly key: string;
  previous: Link;
  next: Link;
}

/** The order of an object's keys while it is being changed, each change in constant time. Index keys have no say and are left out. */
export class KeyOrder {
  /** Before the first and after the last. */
  readonly #edge: Link;
  readonly #links = new Map<string, Link>();

  /** @param keys - as `Object.keys` gives them: index keys first */
  constructor(keys: readonly string[]) {
    const edge = { key: '' } as Link;
    edge.previous = edge;
    edge.next = edge;
    this.#edge = edge;
    let start = 0;
    while (start < keys.length && isIndexKey(keys[start] as string)) start++;
    for (let index = start; index < keys.length; index++) this.#insert(keys[index] as string, edge);
  }

  /** Puts `key` before another, or at the end where there is no such other key. Takes it away from where it was. */
  place(key: string, before?: string): void {
    if (isIndexKey(key) || key === before) return;
    this.remove(key);
    this.#insert(key, (before === undefined ? undefined : this.#links.get(before)) ?? this.#edge);
  }

  has(key: string): boolean {
    return this.#links.has(key);
  }

  remove(key: string): void {
    const link = this.#links.get(key);
    if (link === undefined) return;
    link.previous.next = link.next;
    link.next.previous = link.previous;
    this.#links.delete(key);
  }

  *[Symbol.iterator](): Generator<string> {
    for (let link = this.#edge.next; link !== this.#edge; link = link.next) yield link.key;
  }

  #insert(key: string, next: Link): void {
    const link: Link = { key, previous: next.previous, next };
    link.previous.next = link;
    next.previous = link;
    this.#links.set(key, link);
  }
}
