/**
 * A connection for BullMQ, which has demands of its own: it waits in blocking commands, so nothing may time out under it, and keeps what it
 * has to say until the connection is back. It is not for contexts: those are written by {@link RedisConnection} alone.
 */
import { Redis, type RedisOptions } from 'ioredis';
import { guardStream } from './guardStream.js';
import { destroyStream, guardSentinels } from './Link.js';
import { optionsOf, type RedisTarget } from './RedisConnection.js';

/** Longest pause between two attempts to connect, ms. */
const RECONNECT_MAX_MS = 2_000;

/** One client with the copies that BullMQ makes of it to wait on: ended as one, whatever state the server is in. */
export class QueueConnection {
  readonly client: Redis;
  readonly #copies = new Set<Redis>();

  constructor(target: RedisTarget, connectionName: string) {
    this.client = make(target, {
      connectionName,
      maxRetriesPerRequest: null,
      enableReadyCheck: true,
      commandTimeout: undefined,
      socketTimeout: undefined,
      lazyConnect: false,
      enableAutoPipelining: false,
      enableOfflineQueue: true,
      autoResubscribe: true,
      autoResendUnfulfilledCommands: true,
      disconnectTimeout: 100,
      keepAlive: 10_000,
      retryStrategy: (attempt) => Math.min(RECONNECT_MAX_MS, 50 * 2 ** Math.min(attempt, 6)),
    });
    const duplicate = this.client.duplicate.bind(this.client);
    this.client.duplicate = ((...given: Parameters<typeof duplicate>) => {
      const copy = duplicate(...given);
      harmless(copy);
      this.#copies.add(copy);
      return copy;
    }) as typeof this.client.duplicate;
    harmless(this.client);
  }

  /** Ends all at once; what was not answered stays so. BullMQ's own way waits for a server that may be gone. */
  end(): void {
    for (const client of [...this.#copies, this.client]) client.disconnect();
  }
}

function make(target: RedisTarget, options: Omit<RedisOptions, 'replyMapping'>): Redis {
  if (typeof target === 'string') return new Redis(target, options);
  const plain = { ...options, keyPrefix: '' };
  if (target instanceof Redis) return target.duplicate(plain);
  return new Redis({ ...(optionsOf(target) ?? target), ...plain });
}

/** A flipped bit in what Redis sends may cost the connection, never the process. */
function harmless(client: Redis): void {
  client.on('error', () => {});
  guardSentinels(client);
  client.on('connect', () => {
    try {
      guardStream(client, () => destroyStream(client), true);
    } catch {
      destroyStream(client);
    }
  });
}
