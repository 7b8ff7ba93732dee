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

interface Sweeping {
  /** One bounded round; what is left is done in the next. */
  sweep(options: { readonly signal: AbortSignal }): Promise<{ readonly damaged: readonly string[] }>;
  /** Has one repaired that was in the way. */
  damaged(id: string, deadline: Deadline): Promise<unknown>;
}

export class Heartbeat {
  readonly #parts: Parts;
  readonly #options: HeartbeatOptions;
  readonly #sweeping: Sweeping;
  readonly #timers = new Set<NodeJS.Timeout>();
  readonly #stopping = new AbortController();

  constructor(parts: Parts, options: HeartbeatOptions, sweeping: Sweeping) {
    this.#parts = parts;
    this.#options = options;
    this.#sweeping = sweeping;
  }

  get #stopped(): boolean {
    return this.#stopping.signal.aborted;
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
    this.#stopping.abort();
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
    if (!this.#options.sweeps()) return;
    const { damaged } = await this.#sweeping.sweep({ signal: this.#stopping.signal });
    for (const id of damaged) await this.#sweeping.damaged(id, this.#deadline());
  }

  #deadline() {
    return this.#parts.commands.connection.deadline(this.#options.timeoutMs);
  }

  #failed(error: unknown): void {
    if (this.#stopped) return;
    this.#parts.logger.debug({ error: error instanceof Error ? error.message : String(error) }, 'a heartbeat was missed');
  }
}
