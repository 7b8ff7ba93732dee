/** What a store can be told, checked once: unknown options and unreadable values are errors before anything connects. */
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { z } from 'zod';
import { ContextError } from '../core/errors.js';
import { checkNamespace, MAX_ID_BYTES } from '../core/names.js';
import { parseDuration, parseSize } from '../core/units.js';
import type { LockSettings } from '../locks/types.js';
import { checkTarget, type RedisTarget } from '../redis/RedisConnection.js';
import type { QueueSettings } from './Maintenance.js';
import type { PredictOptions } from './PredictiveTtl.js';
import type { Duration, Logger, Size } from './types.js';

/** Largest document whatever the configuration, bytes: its SHA-1 alone blocks Redis for some 20 ms. */
const MAX_CONTEXT_BYTES = 8 * 1024 * 1024;

export interface StoreOptions {
  /** A `redis://` or `rediss://` URL, ioredis options, or an ioredis client (it is duplicated, and stays yours). @defaultValue redis://127.0.0.1:6379 */
  readonly redis?: RedisTarget;
  /** @defaultValue 'default' */
  readonly namespace?: string;
  /** Shards of a namespace that is created by this; fixed afterwards. @defaultValue 1 */
  readonly shards?: number;
  /** Name of this process in logs, frames and histories. @defaultValue host, process id and a random part */
  readonly instanceId?: string;
  /** A call with all its retries. @defaultValue '5s' */
  readonly timeout?: Duration;
  /** `connect` with all its checks. @defaultValue '5s' */
  readonly connectTimeout?: Duration;
  /** One attempt; a connection silent for this long is made anew. @defaultValue '1s' */
  readonly attemptTimeout?: Duration;
  /** How often replicas are compared with Redis, and expired contexts looked for. @defaultValue '1s' */
  readonly heartbeat?: Duration;
  /** Whether values come out frozen and shared, or as copies of the caller's own. @defaultValue 'frozen' */
  readonly values?: 'frozen' | 'copy';
  readonly memory?: {
    /** Memory of this process for replicas; 0 switches them off but for watched contexts. @defaultValue '128mb' */
    readonly local?: Size;
  };
  /**
   * `on`: changes travel as splices of the document's bytes, to Redis and to subscribers, where that is smaller. `shadow`: they are computed,
   * tried and counted (`stats().delta`, and an error line in the log where one would not have done), but whole documents are sent. `off`: whole documents to Redis, JSON Patches to subscribers. What others send is understood in every case. @defaultValue 'on'
   */
  readonly delta?: 'off' | 'shadow' | 'on';
  readonly log?: {
    /** Versions from which a watcher can resume, as long as `bytes` has room for them. @defaultValue 64 */
    readonly keep?: number;
    /** Real bytes of Redis for a context's log; three times the document where that is more. @defaultValue '64kb' */
    readonly bytes?: Size;
    /** How long a deleted or expired context leaves its log, so that versions go on from it. @defaultValue '24h' */
    readonly tombstone?: Duration;
  };
  readonly ttl?: {
    /**
     * Expiries follow how contexts are used: a context that has one gets the time to live with which its next access finds it with
     * probability `keep`, within `min` and `max` (docs/PREDICTIVE_TTL.md). To be switched on in all instances of a namespace. @defaultValue false
     */
    readonly predict?:
      | false
      | {
          /** No expiry is brought nearer than this; longer than any outage that contexts in use shall survive, 1 s at least. */
          readonly min: Duration;
          /** No expiry is put further away than this. */
          readonly max: Duration;
          /** Between 0.5 and 0.999. What it promises needs observations: 19 for 0.95, 99 for 0.99. @defaultValue 0.95 */
          readonly keep?: number;
          /** After this long an observed interval counts half. @defaultValue '7d' */
          readonly halfLife?: Duration;
          /** Fewer intervals, each counted by its age, leave an expiry as it was written, 1 to 10,000. @defaultValue 20 */
          readonly observations?: number;
        };
  };
  readonly limits?: {
    /** Largest document, bytes of JSON; 8 MiB at most. @defaultValue '1mb' */
    readonly contextBytes?: Size;
    /** Containers inside one another, 1 to 1,000. @defaultValue 256 */
    readonly depth?: number;
    /** Longest id, bytes of UTF-8, 1 to 512. @defaultValue 512 */
    readonly idBytes?: number;
  };
  readonly transactions?: {
    /**
     * How long a transaction over several shards that nobody goes on with may hold its contexts: then whoever meets one of them ends it. Longer
     * than such a transaction takes to commit; 30 s at most. @defaultValue '5s'
     */
    readonly recoverAfter?: Duration;
  };
  /**
   * Who does the background work of the namespace (sweeping, scrubbing, reconciling; docs/QUEUES.md). `inline`: this process takes part.
   * `external`: `lukhas-context worker` does. `off`: no queues; expired contexts are swept by the heartbeat. @defaultValue 'inline'
   */
  readonly workers?: 'inline' | 'external' | 'off';
  /** The schedules, one for all instances: those of the instance that started last count. */
  readonly queues?: {
    /** How long one sweep lasts, and how soon another instance goes on after one was killed. @defaultValue '1s' */
    readonly sweepEvery?: Duration;
    /** @defaultValue '24h' */
    readonly scrubEvery?: Duration;
    /** Bytes a second that a scrub verifies at most. @defaultValue '8mb' */
    readonly scrubRate?: Size;
    /** @defaultValue '5m' */
    readonly reconcileEvery?: Duration;
  };
  readonly locks?: {
    /**
     * Independent Redis servers, an odd number of them, a majority of which must agree to a lock (Redlock); the same in all instances. Without
     * them the data server alone decides: one that fails over may have forgotten who holds what (docs/LOCKS.md). Writes are fenced either way. @defaultValue none
     */
    readonly nodes?: readonly RedisTarget[];
    /** After this long without an extension a lock is free again; 100 ms at least. @defaultValue '10s' */
    readonly ttl?: Duration;
    /** How long is waited for a lock. @defaultValue '10s' */
    readonly wait?: Duration;
    /** Longest time to live; for so long a lock node that has lost its memory takes no part. @defaultValue '1m' */
    readonly maxTtl?: Duration;
  };
  /** What to do about a maxmemory-policy other than noeviction. @defaultValue 'refuse' */
  readonly evictionPolicy?: 'refuse' | 'warn';
  /** @defaultValue a pino logger at level `warn`, on stderr; false: none */
  readonly logger?: Logger | false;
}

export interface ResolvedOptions {
  readonly redis: RedisTarget;
  readonly namespace: string;
  readonly shards: number | undefined;
  readonly instanceId: string;
  readonly timeoutMs: number;
  readonly connectTimeoutMs: number;
  readonly attemptTimeoutMs: number;
  readonly heartbeatMs: number;
  readonly copyValues: boolean;
  readonly delta: 'off' | 'shadow' | 'on';
  readonly localBytes: number;
  readonly logKeep: number;
  readonly logBytes: number;
  readonly tombstoneMs: number;
  /** Null: predictions are off. */
  readonly predict: PredictOptions | null;
  readonly contextBytes: number;
  readonly depth: number;
  readonly idBytes: number;
  readonly recoverAfterMs: number;
  readonly workers: 'inline' | 'external' | 'off';
  readonly queues: QueueSettings;
  readonly locks: LockSettings & { readonly nodes: readonly RedisTarget[] };
  readonly evictionPolicy: 'refuse' | 'warn';
  readonly logger: Logger | false | undefined;
}

const YEAR_MS = 365 * 86_400_000;

const duration = (name: string, least: number, most = 2 ** 31 - 1) =>
  z.union([z.number(), z.string()]).transform((value) => within(parseDuration(value, name), name, least, most, 'ms'));
const size = (name: string, least: number, most: number) =>
  z.union([z.number(), z.string()]).transform((value) => within(parseSize(value, name), name, least, most, 'bytes'));
const count = (least: number, most: number) => z.number().int().min(least).max(most);

const schema = z.strictObject({
  redis: z.union([z.string(), z.looseObject({})]).default('redis://127.0.0.1:6379'),
  namespace: z.string().default('default'),
  shards: count(1, 1024).optional(),
  instanceId: z
    .string()
    .regex(/^[\x21-\x7e]{1,64}$/, '1 to 64 printable ASCII characters without spaces')
    .optional(),
  timeout: duration('timeout', 1).prefault('5s'),
  connectTimeout: duration('connectTimeout', 1).prefault('5s'),
  attemptTimeout: duration('attemptTimeout', 10).prefault('1s'),
  heartbeat: duration('heartbeat', 10).prefault('1s'),
  values: z.enum(['frozen', 'copy']).default('frozen'),
  delta: z.enum(['off', 'shadow', 'on']).default('on'),
  memory: z.strictObject({ local: size('memory.local', 0, Number.MAX_SAFE_INTEGER).prefault('128mb') }).prefault({}),
  log: z
    .strictObject({
      keep: count(1, 512).default(64),
      bytes: size('log.bytes', 0, 2 ** 30).prefault('64kb'),
      tombstone: duration('log.tombstone', 1000).prefault('24h'),
    })
    .prefault({}),
  ttl: z
    .strictObject({
      predict: z
        .union([
          z.literal(false),
          z.strictObject({
            min: duration('ttl.predict.min', 1000, YEAR_MS),
            max: duration('ttl.predict.max', 1000, YEAR_MS),
            keep: z.number().min(0.5).max(0.999).default(0.95),
            halfLife: duration('ttl.predict.halfLife', 1000, YEAR_MS).prefault('7d'),
            observations: count(1, 10_000).default(20),
          }),
        ])
        .default(false),
    })
    .prefault({}),
  limits: z
    .strictObject({
      contextBytes: size('limits.contextBytes', 1, MAX_CONTEXT_BYTES).prefault('1mb'),
      depth: count(1, 1000).default(256),
      idBytes: count(1, MAX_ID_BYTES).default(MAX_ID_BYTES),
    })
    .prefault({}),
  transactions: z.strictObject({ recoverAfter: duration('transactions.recoverAfter', 100, 30_000).prefault('5s') }).prefault({}),
  workers: z.enum(['inline', 'external', 'off']).default('inline'),
  queues: z
    .strictObject({
      sweepEvery: duration('queues.sweepEvery', 100).prefault('1s'),
      scrubEvery: duration('queues.scrubEvery', 1000).prefault('24h'),
      scrubRate: size('queues.scrubRate', 64 * 1024, 2 ** 40).prefault('8mb'),
      reconcileEvery: duration('queues.reconcileEvery', 1000).prefault('5m'),
    })
    .prefault({}),
  locks: z
    .strictObject({
      nodes: z.array(z.union([z.string(), z.looseObject({})])).default([]),
      ttl: duration('locks.ttl', 100, YEAR_MS).prefault('10s'),
      wait: duration('locks.wait', 0).prefault('10s'),
      maxTtl: duration('locks.maxTtl', 100, 86_400_000).prefault('1m'),
    })
    .prefault({}),
  evictionPolicy: z.enum(['refuse', 'warn']).default('refuse'),
  logger: z
    .union([z.literal(false), z.custom<Logger>((value) => isLogger(value), 'debug, info, warn and error methods')])
    .optional(),
});

const isLogger = (value: unknown): value is Logger =>
  typeof value === 'object' &&
  value !== null &&
  ['debug', 'info', 'warn', 'error'].every((name) => typeof (value as Record<string, unknown>)[name] === 'function');

function within(value: number, name: string, least: number, most: number, unit: string): number {
  if (value >= least && value <= most) return value;
  throw new ContextError('INVALID_OPTION', `${name} is ${value} ${unit}; it must lie between ${least} and ${most}`, {
    limit: name,
    found: value,
  });
}

/** @throws ContextError `INVALID_OPTION` */
export function resolveOptions(given: StoreOptions): ResolvedOptions {
  const parsed = schema.safeParse(given);
  if (!parsed.success) {
    const problems = parsed.error.issues.map(({ path, message }) =>
      path.length === 0 ? message : `${path.join('.')}: ${message}`,
    );
    throw new ContextError('INVALID_OPTION', `these options are not valid: ${problems.join('; ')}`);
  }
  const options = parsed.data;
  checkNamespace(options.namespace);
  if (given.redis !== undefined) checkTarget(given.redis);
  return {
    redis: given.redis ?? 'redis://127.0.0.1:6379',
    namespace: options.namespace,
    shards: options.shards,
    instanceId:
      options.instanceId ??
      `${hostname()
        .replace(/[^\x21-\x7e]/g, '')
        .slice(0, 32)}-${process.pid}-${randomBytes(3).toString('hex')}`,
    timeoutMs: options.timeout,
    connectTimeoutMs: options.connectTimeout,
    attemptTimeoutMs: options.attemptTimeout,
    heartbeatMs: options.heartbeat,
    copyValues: options.values === 'copy',
    delta: options.delta,
    localBytes: options.memory.local,
    logKeep: options.log.keep,
    logBytes: options.log.bytes,
    tombstoneMs: options.log.tombstone,
    predict: predictOptions(options.ttl.predict),
    contextBytes: options.limits.contextBytes,
    depth: options.limits.depth,
    idBytes: options.limits.idBytes,
    recoverAfterMs: options.transactions.recoverAfter,
    workers: options.workers,
    queues: {
      sweepEveryMs: options.queues.sweepEvery,
      scrubEveryMs: options.queues.scrubEvery,
      scrubRate: options.queues.scrubRate,
      reconcileEveryMs: options.queues.reconcileEvery,
    },
    locks: lockOptions(options.locks, given.locks?.nodes ?? []),
    evictionPolicy: options.evictionPolicy,
    logger: options.logger,
  };
}

/** @param nodes - as they were given: clients are no plain objects */
function lockOptions(
  { ttl, wait, maxTtl }: z.output<typeof schema>['locks'],
  nodes: readonly RedisTarget[],
): ResolvedOptions['locks'] {
  if (nodes.length > 0 && nodes.length % 2 === 0) {
    throw new ContextError(
      'INVALID_OPTION',
      `locks.nodes names ${nodes.length} servers; an odd number is needed: an even one tolerates no more failures than the next smaller`,
      { limit: 'locks.nodes', found: nodes.length },
    );
  }
  for (const node of nodes) checkTarget(node);
  return { nodes, ttlMs: within(ttl, 'locks.ttl', 100, maxTtl, 'ms'), waitMs: wait, maxTtlMs: maxTtl };
}

function predictOptions(given: z.output<typeof schema>['ttl']['predict']): PredictOptions | null {
  if (given === false) return null;
  const { min, max, keep, halfLife, observations } = given;
  within(max, 'ttl.predict.max', min, Number.POSITIVE_INFINITY, 'ms');
  return { minMs: min, maxMs: max, keep, halfLifeMs: halfLife, observations };
}
