/**
 * Channels on the one subscription connection, counted by use. After a reconnect every wanted channel is subscribed again before
 * `restored` is told: what was published meanwhile is lost, so whoever listens compares versions then.
 */
import type { Redis } from 'ioredis';
import type { RedisConnection } from './RedisConnection.js';

export type MessageHandler = (message: Buffer) => void;

/** Channels in one SUBSCRIBE. */
const BATCH = 512;

export class Subscriptions {
  readonly #connection: RedisConnection;
  readonly #handlers = new Map<string, MessageHandler>();
  readonly #restored: () => void;
  #confirmed = false;
  #flush: Promise<void> | null = null;
  #removed: string[] = [];
  /** Monotonic time of the last question that the connection has answered: all that was published before it has arrived. */
  #provenAt = Number.NEGATIVE_INFINITY;
  /** Channels confirmed on the present connection. */
  #active = new Set<string>();

  constructor(connection: RedisConnection, restored: () => void) {
    this.#connection = connection;
    this.#restored = restored;
    connection.subscriber.on('messageBuffer', (channel: unknown, message: unknown) => {
      // one damaged byte of the protocol can make anything of a message, and of those after it
      if (Buffer.isBuffer(channel) && Buffer.isBuffer(message)) this.#deliver(channel.toString(), message);
      else this.#giveUp('a message was damaged on its way');
    });
    connection.subscriber.on('ready', () => void this.#restore());
    connection.subscriber.on('close', () => {
      this.#confirmed = false;
    });
    if (connection.subscriptionsUp) {
      this.#confirmed = true;
      this.#provenAt = performance.now();
    }
  }

  /** True while the connection stands and every wanted channel was confirmed on it. */
  get up(): boolean {
    return this.#confirmed && this.#connection.subscriptionsUp;
  }

  /** Whether the connection has proven within the last `ms` that it delivers. */
  provenWithin(ms: number): boolean {
    return this.up && performance.now() - this.#provenAt <= ms;
  }

  /**
   * Subscribes; resolves when Redis has confirmed it. While the connection is down it resolves at once: the channel is subscribed with
   * all others when it is back, and `restored` follows.
   */
  async subscribe(channel: string, handler: MessageHandler): Promise<void> {
    this.#handlers.set(channel, handler);
    if (!this.up || this.#active.has(channel)) return;
    // all that are asked for in one tick share one command
    this.#flush ??= Promise.resolve().then(() => {
      this.#flush = null;
      return this.#subscribeMissing();
    });
    await this.#flush;
  }

  unsubscribe(channel: string): void {
    if (!this.#handlers.delete(channel) || !this.up) return;
    this.#removed.push(channel);
    if (this.#removed.length > 1) return;
    queueMicrotask(() => {
      const channels = this.#removed.filter((name) => !this.#handlers.has(name));
      this.#removed = [];
      if (channels.length === 0 || !this.up) return;
      for (const channel of channels) this.#active.delete(channel);
      // a connection that fails here is restored without the channel
      this.#send('unsubscribe', (client) => client.unsubscribe(...channels)).catch(() => {});
    });
  }

  /** Whether the subscription connection answers; one that does not is made anew. */
  async ping(): Promise<boolean> {
    try {
      const askedAt = performance.now();
      await this.#send('ping', (client) => client.ping());
      this.#provenAt = askedAt;
      return true;
    } catch {
      // also where bytes come all the while: after a damaged length the rest is taken for one endless message
      if (this.up) this.#giveUp('a ping was not answered');
      return false;
    }
  }

  /** Whoever takes a message in verifies it; should that throw all the same, ioredis would end the process with it. */
  #deliver(channel: string, message: Buffer): void {
    try {
      this.#handlers.get(channel)?.(message);
    } catch (error) {
      this.#giveUp(`a message could not be taken in: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  /** Has the connection made anew, with all its channels. */
  #giveUp(reason: string): void {
    this.#confirmed = false;
    this.#connection.reset('subscriptions', reason);
  }

  #send<T>(doing: string, run: (client: Redis) => Promise<T>): Promise<T> {
    const deadline = this.#connection.deadline(this.#connection.attemptTimeoutMs);
    return this.#connection.attemptOnSubscriber(deadline, doing, run);
  }

  /** Until every wanted channel is confirmed, those included that are asked for meanwhile. */
  async #subscribeMissing(): Promise<void> {
    for (;;) {
      const missing: string[] = [];
      for (const channel of this.#handlers.keys()) {
        if (!this.#active.has(channel) && missing.push(channel) === BATCH) break;
      }
      if (missing.length === 0) return;
      const active = this.#active;
      try {
        await this.#send('subscribe', (client) => client.subscribe(...missing));
      } catch (error) {
        // without its channels it is of no use
        this.#giveUp(error instanceof Error ? error.message : String(error));
        throw error;
      }
      // one that was given up meanwhile is unsubscribed by what was sent after it
      for (const channel of missing) if (this.#handlers.has(channel)) active.add(channel);
    }
  }

  async #restore(): Promise<void> {
    this.#confirmed = false;
    const active = new Set<string>();
    const askedAt = performance.now();
    this.#active = active;
    try {
      await this.#subscribeMissing();
      if (this.#active !== active) return;
      this.#confirmed = true;
      this.#provenAt = askedAt;
      this.#restored();
    } catch {
      // the connection was reset: the next `ready` tries again
    }
  }
}
