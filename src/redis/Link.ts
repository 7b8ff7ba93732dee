/** One connection of a store: an ioredis client whose replies are checked before it sees them, and what is known of its health. */
import type { Redis } from 'ioredis';
import { guardStream, type StreamGuard } from './guardStream.js';

export type ConnectionName = 'commands' | 'subscriptions';

export interface ConnectionListener {
  up(connection: ConnectionName): void;
  down(connection: ConnectionName, reason: string): void;
}

export class Link {
  readonly client: Redis;
  lastError: Error | null = null;
  up = false;
  /** Connections given up because of what came on them. */
  damaged = 0;
  #guard: StreamGuard | null = null;
  /** Replies that had come when the oldest question was asked that none has come after, and the time of that. */
  #heard = -1;
  #askedAt = 0;
  /** It was ended from here, and not because nobody answers. */
  #again = false;

  constructor(client: Redis, name: ConnectionName, listener: ConnectionListener) {
    this.client = client;
    client.on('error', (error: Error) => {
      this.lastError = error;
      // ioredis gives a stream up that it cannot parse, but leaves it open for a while
      if (isParserError(error)) this.reset(error.message);
    });
    guardSentinels(client);
    const backoff = client.options.retryStrategy;
    client.options.retryStrategy = (attempt) => (this.#again && attempt === 1 ? 0 : backoff?.(attempt));
    // ioredis bounds the time to connect, but waits for ever for the replies of its handshake
    const handshakeMs = client.options.connectTimeout;
    let handshake: NodeJS.Timeout | undefined;
    client.on('connect', () => {
      clearTimeout(handshake);
      try {
        this.#guard = guardStream(client, (what) => this.#damaged(what));
      } catch (error) {
        // better no connection than one that can end the process
        return this.reset(error instanceof Error ? error.message : String(error));
      }
      handshake = setTimeout(() => this.reset(`connected, but no answer within ${handshakeMs} ms`), handshakeMs);
    });
    client.on('close', () => clearTimeout(handshake));
    const ready = (): void => {
      clearTimeout(handshake);
      this.lastError = null;
      this.up = true;
      this.#again = false;
      this.#heard = -1;
      listener.up(name);
    };
    client.on('ready', () => {
      // one damaged byte can select another database, and its reply says OK all the same
      if (name !== 'commands' || (client.options.db ?? 0) === 0) return ready();
      const guard = this.#guard;
      void this.#rightDatabase().then((right) => {
        if (this.#guard !== guard || client.status !== 'ready') return;
        if (right) ready();
        else this.#damaged('another database was selected');
      });
    });
    client.on('close', () => {
      if (!this.up) return;
      this.up = false;
      listener.down(name, this.lastError?.message ?? 'the connection was closed');
    });
  }

  /** Something is asked of it now. */
  asked(now: number): void {
    const replies = this.#replies;
    if (replies === this.#heard) return;
    this.#heard = replies;
    this.#askedAt = now;
  }

  /**
   * For how long not a reply has come although something was asked, ms: whatever time each single question was given. Bytes alone prove
   * nothing: after a damaged length all that come are taken for one endless reply.
   */
  silentMs(now: number): number {
    return this.#replies === this.#heard ? now - this.#askedAt : 0;
  }

  /**
   * Drops the connection; a new one follows by itself. All that wait for this one find out at the same time, and one of them is enough.
   * What is still to come on it is not read any more.
   */
  reset(reason: string): void {
    this.lastError = new Error(reason);
    this.#heard = -1;
    this.#again = true;
    this.client.disconnect(true);
    destroyStream(this.client);
  }

  #damaged(what: string): void {
    this.damaged += 1;
    this.reset(`damaged on its way: ${what}`);
  }

  get #replies(): number {
    return this.#guard?.replies ?? 0;
  }

  /** True also where Redis does not say it, or does not let this user know. */
  async #rightDatabase(): Promise<boolean> {
    const facts = await this.client.client('INFO').catch(() => '');
    const found = / db=(\d+) /.exec(String(facts));
    return found === null || Number(found[1]) === this.client.options.db;
  }
}

/** Of ioredis's parser; it asks the user to report it. */
const isParserError = (error: Error): boolean => error.message.endsWith('Please report this.');

/** What asks Sentinels where the master is makes clients of its own, one for each question; their streams can be damaged as well. */
export function guardSentinels(client: Redis): void {
  const { connector } = client as unknown as { connector: { connectToSentinel?: (...args: unknown[]) => Redis } };
  const make = connector.connectToSentinel;
  if (make === undefined) return;
  connector.connectToSentinel = (...args) => {
    const sentinel = make.apply(connector, args);
    sentinel.on('connect', () => {
      try {
        guardStream(sentinel, () => destroyStream(sentinel));
      } catch {
        destroyStream(sentinel);
      }
    });
    return sentinel;
  };
}

export function destroyStream(client: Redis): void {
  (client as unknown as { stream?: { destroy(): void } }).stream?.destroy();
}
