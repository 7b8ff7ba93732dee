/**
 * Keeps compressed copies of contexts in Redis, so that the delta log always reaches one: a commit says when one is due, and it is made behind
 * the commit, off the event loop. Until it is there the document is held here, and other instances can ask for it.
 *
 * A context that is written whole again and again gets one a second: what lies between is only in the context itself and in replicas.
 */
import { compressApart } from '../core/compression.js';
import { isContextError } from '../core/errors.js';
import type { IntegrityCommands } from '../redis/IntegrityCommands.js';
import type { Deadline, RedisConnection } from '../redis/RedisConnection.js';
import { documentOf, type ReplicaState } from '../replica/state.js';

/** Least time between two checkpoints of one context, ms. */
const EVERY_MS = 1_000;
/** Documents that are held because their checkpoint is not there yet, bytes: beyond it the oldest are let go of, and the next commit asks again. */
const HELD_BYTES = 64 * 1024 * 1024;
/** Contexts whose last checkpoint is remembered. */
const REMEMBERED = 10_000;

export interface CheckpointCounters {
  kept: number;
  stale: number;
  failed: number;
  /** Let go of because too many waited. */
  dropped: number;
}

export class Checkpointer {
  readonly counters: CheckpointCounters = { kept: 0, stale: 0, failed: 0, dropped: 0 };
  readonly #connection: RedisConnection;
  readonly #copies: IntegrityCommands;
  /** By id, the oldest first. */
  readonly #due = new Map<string, ReplicaState>();
  readonly #madeAt = new Map<string, number>();
  #heldBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | null = null;
  #closed = false;

  constructor(connection: RedisConnection, copies: IntegrityCommands) {
    this.#connection = connection;
    this.#copies = copies;
  }

  /** A document whose checkpoint is due. */
  due(id: string, state: ReplicaState): void {
    if (this.#closed) return;
    const before = this.#due.get(id);
    if (before !== undefined) this.#heldBytes -= before.bytes;
    this.#due.delete(id);
    this.#due.set(id, state);
    this.#heldBytes += state.bytes;
    while (this.#heldBytes > HELD_BYTES && this.#due.size > 1) {
      const [oldest] = this.#due.keys();
      if (oldest === undefined) break;
      this.#forget(oldest);
      this.counters.dropped += 1;
    }
    this.#wake();
  }

  /** A document that waits for its checkpoint. */
  held(id: string): ReplicaState | undefined {
    return this.#due.get(id);
  }

  /**
   * Makes one now.
   *
   * @param sha1 - what the context calls its SHA-1, where that is not the document's own: it may be in other chunks
   * @throws ContextError as the connection does
   */
  async make(id: string, state: ReplicaState, deadline?: Deadline, sha1?: string): Promise<void> {
    const { text } = documentOf(state);
    const document = text.bytes();
    const packed = await compressApart(document);
    const { version, crc, at, expiresAt } = state;
    const kept = await this.#copies.checkpoint(
      id,
      {
        ...{ version, crc, sha1: sha1 ?? text.sha1, length: document.length, at, expiresAt },
        ...packed,
      },
      deadline ?? this.#connection.deadline(5 * this.#connection.attemptTimeoutMs),
    );
    this.counters[kept === 'kept' ? 'kept' : 'stale'] += 1;
  }

  /** Makes what is due, without waiting for its time, and ends. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#running;
    const deadline = this.#connection.deadline(this.#connection.attemptTimeoutMs);
    for (const [id, state] of [...this.#due]) {
      if (!this.#connection.commandsUp || performance.now() >= deadline.at) break;
      await this.#make(id, state, deadline);
    }
    this.#due.clear();
  }

  #wake(): void {
    if (this.#running !== null || this.#closed) return;
    clearTimeout(this.#timer);
    const now = performance.now();
    let next = Number.POSITIVE_INFINITY;
    for (const id of this.#due.keys()) next = Math.min(next, (this.#madeAt.get(id) ?? Number.NEGATIVE_INFINITY) + EVERY_MS);
    if (next === Number.POSITIVE_INFINITY) return;
    this.#timer = setTimeout(
      () => {
        this.#running = this.#run().finally(() => {
          this.#running = null;
          this.#wake();
        });
      },
      Math.max(0, next - now),
    );
    this.#timer.unref();
  }

  async #run(): Promise<void> {
    for (const [id, state] of [...this.#due]) {
      if (this.#closed) return;
      if (performance.now() - (this.#madeAt.get(id) ?? Number.NEGATIVE_INFINITY) < EVERY_MS) continue;
      await this.#make(id, state);
    }
  }

  async #make(id: string, state: ReplicaState, deadline?: Deadline): Promise<void> {
    this.#madeAt.delete(id);
    this.#madeAt.set(id, performance.now());
    if (this.#madeAt.size > REMEMBERED) {
      const [oldest] = this.#madeAt.keys();
      if (oldest !== undefined) this.#madeAt.delete(oldest);
    }
    try {
      await this.make(id, state, deadline);
    } catch (error) {
      if (!isContextError(error)) throw error;
      // the next commit says again that one is due
      this.counters.failed += 1;
    }
    if (this.#due.get(id) === state) this.#forget(id);
  }

  #forget(id: string): void {
    const state = this.#due.get(id);
    if (state === undefined) return;
    this.#heldBytes -= state.bytes;
    this.#due.delete(id);
  }
}
