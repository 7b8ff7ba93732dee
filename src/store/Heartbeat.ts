/**
 * What a store does by the clock: ask whether the subscription connection still answers, compare every replica with Redis, check the value
 * of one of them, and take expired contexts out of it. A round that fails (no connection) is followed by the next.
 */
import type { ContextCommands } from '../redis/ContextCommands.js';
import type { Deadline } from '../redis/RedisConnection.js';
import type { Subscriptions } from '../redis/Subscriptions.js';
import { namespaceMode } from '../redis/serverChecks.js';
import type { ReplicaSet } from '../replica/ReplicaSet.js';
import type { Logger } from './types.js';

/** Expired contexts in one script call: below 5 ms of Redis. */
const EXPIRE_BATCH = 100;
/** Calls a shard and round; what is left is done in the next. */
const EXPIRE_CALLS = 20;

interface Parts {
  readonly commands: ContextCommands;
  readonly subscriptions: Subscriptions;
  readonly replicas: ReplicaSet;
  readonly logger: Logger;
}

interface HeartbeatOptions {
  readonly everyMs: number;
  readonly timeoutMs: number;
  /** Whether this process has to sweep by itself: no queue does it. */
  readonly sweeps: () => boolean;
}

export class Heartbeat {
  readonly #parts: Parts;
  readonly #options: HeartbeatOptions;
  readonly #expired: (expired: { id: string; version: number }) => void;
  readonly #damaged: (id: string, deadline: Deadline) => Promise<unknown>;
  readonly #timers = new Set<NodeJS.Timeout>();
  #stopped = false;

  constructor(
    parts: Parts,
    options: HeartbeatOptions,
    expired: (event: { id: string; version: number }) => void,
    damaged: (id: string, deadline: Deadline) => Promise<unknown>,
  ) {
    this.#parts = parts;
    this.#options = options;
    this.#expired = expired;
    this.#damaged = damaged;
  }

  /** Each by itself: none waits for another, or is left out because another fails. */
  start(): void {
    const { commands, subscriptions, replicas } = this.#parts;
    this.#repeat(async () => {
      if (subscriptions.up) await subscriptions.ping();
    });
    this.#repeat(async () => {
      await commands.connection.syncClock(this.#deadline());
      if (subscriptions.up) await replicas.verifyAll('heartbeat');
    });
    this.#repeat(() => replicas.checkOne());
    this.#repeat(() => this.#expire());
    // somebody upgrades the namespace once: whoever still writes the older protocol looks for that
    this.#repeat(async () => {
      if (commands.protocol === 2 && commands.sealed) return;
      const { protocol, sealed } = await namespaceMode(commands.connection, commands.keys.namespace, this.#deadline());
      commands.protocol = protocol;
      commands.sealed = sealed;
    });
  }

  stop(): void {
    this.#stopped = true;
    for (const timer of this.#timers) clearTimeout(timer);
  }

  /** After the subscriptions were restored. */
  compareNow(reason: 'reconnect'): void {
    this.#parts.replicas.verifyAll(reason).catch((error: unknown) => this.#failed(error));
  }

  #repeat(task: () => Promise<void>): void {
    if (this.#stopped) return;
    // instances that started together do not beat together
    const wait = this.#options.everyMs * (0.9 + Math.random() * 0.2);
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      task()
        .catch((error: unknown) => this.#failed(error))
        .finally(() => this.#repeat(task));
    }, wait);
    this.#timers.add(timer);
  }

  async #expire(): Promise<void> {
    const { commands } = this.#parts;
    if (!this.#options.sweeps()) return;
    for (const shard of commands.keys.shards) {
      for (let call = 0; call < EXPIRE_CALLS && !this.#stopped; call += 1) {
        const { more, expired, damaged } = await commands.expire(shard, EXPIRE_BATCH, this.#deadline());
        for (const one of expired) this.#expired(one);
        for (const id of damaged) await this.#damaged(id, this.#deadline());
        if (!more) break;
      }
    }
  }

  #deadline() {
    return this.#parts.commands.connection.deadline(this.#options.timeoutMs);
  }

  #failed(error: unknown): void {
    if (this.#stopped) return;
    this.#parts.logger.debug({ error: error instanceof Error ? error.message : String(error) }, 'a heartbeat was missed');
  }
}
