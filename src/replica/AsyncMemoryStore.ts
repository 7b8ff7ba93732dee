/**
 * The replica's in-process store: least recently used first out, bounded by bytes. What leaves it is told, so that its subscription
 * ends with it.
 *
 * A parsed document takes two to three times its serialized length on V8's heap (measured over objects, strings and numbers); it is
 * accounted at three times plus a fixed part, so that the limit is kept rather than met. A document in chunks has its bytes and an index
 * of them in memory as well.
 */
import { LRUCache } from 'lru-cache';
import { WHOLE_MOST } from '../core/DocumentText.js';
import type { Replica } from './Replica.js';

const FIXED_BYTES = 512;
const HEAP_BYTES_PER_BYTE = 3;
const WITH_TEXT_PER_BYTE = 4.5;

/** Bytes of this process that a replica of a document of so many bytes is accounted with. */
export const heapBytes = (documentBytes: number): number =>
  FIXED_BYTES + Math.ceil((documentBytes > WHOLE_MOST ? WITH_TEXT_PER_BYTE : HEAP_BYTES_PER_BYTE) * documentBytes);

export class AsyncMemoryStore {
  /** Each accounting is an object of its own: the cache takes the same one put in again for unchanged. */
  readonly #cache: LRUCache<string, { readonly replica: Replica }>;
  readonly #evicted: (replica: Replica) => void;

  /**
   * @param maxBytes 0 keeps nothing
   * @param evicted called for what had to make room, not for what was deleted
   */
  constructor(maxBytes: number, evicted: (replica: Replica) => void) {
    this.#evicted = evicted;
    this.#cache = new LRUCache({
      maxSize: Math.max(1, maxBytes),
      sizeCalculation: ({ replica }) => heapBytes(replica.bytes),
      dispose: ({ replica }, _id, reason) => {
        if (reason === 'evict') evicted(replica);
      },
    });
  }

  get(id: string): Replica | undefined {
    return this.#cache.get(id)?.replica;
  }

  /** False where it is larger than the whole store may be. */
  set(replica: Replica): boolean {
    this.#cache.set(replica.id, { replica });
    replica.accountedBytes = replica.bytes;
    return this.#cache.has(replica.id);
  }

  /** Accounts a replica anew whose document has changed its length. */
  resize(replica: Replica): void {
    if (replica.accountedBytes === replica.bytes || this.#cache.peek(replica.id)?.replica !== replica) return;
    if (!this.set(replica)) this.#evicted(replica);
  }

  delete(id: string): void {
    this.#cache.delete(id);
  }

  clear(): void {
    this.#cache.clear();
  }

  *values(): Iterable<Replica> {
    for (const { replica } of this.#cache.values()) yield replica;
  }

  get count(): number {
    return this.#cache.size;
  }

  /** Bytes as accounted. */
  get bytes(): number {
    return this.#cache.calculatedSize;
  }
}
