/**
 * A connection for BullMQ, which has demands of its own: it waits in blocking commands, so nothing may time out under it, and keeps what it
 * has to say until the connection is back. It is not for contexts: those are written by {@link RedisConnection} alone.
 */
import { Redis, type RedisOptions } from 'ioredis';
import { optionsOf, type RedisTarget } from './RedisConnection.js';

export type QueueClient = Redis;

/** Longest pause between two attempts to connect, ms. */
const RECONNECT_MAX_MS = 2_000;

/** Its owner listens to `error` and ends it. */
export function queueClient(target: RedisTarget, connectionName: string): QueueClient {
  const options: Omit<RedisOptions, 'replyMapping'> = {
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
  };
  const client = make(target, options);
  client.on('error', () => {});
  return client;
}

function make(target: RedisTarget, options: Omit<RedisOptions, 'replyMapping'>): Redis {
  if (typeof target === 'string') return new Redis(target, options);
  const plain = { ...options, keyPrefix: '' };
  if (target instanceof Redis) return target.duplicate(plain);
  return new Redis({ ...(optionsOf(target) ?? target), ...plain });
}
