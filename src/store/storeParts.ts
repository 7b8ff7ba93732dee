/** The parts of a store, put together: each knows the ones below it, and nothing of the store itself. */
import { LRUCache } from 'lru-cache';
import { Integrity } from '../integrity/Integrity.js';
import { Locks } from '../locks/Locks.js';
import { NodeQuorum } from '../locks/NodeQuorum.js';
import { ContextCommands, type Expired } from '../redis/ContextCommands.js';
import { Keys } from '../redis/keys.js';
import type { LockCommands } from '../redis/LockCommands.js';
import { LockNode } from '../redis/LockNode.js';
import type { RedisConnection } from '../redis/RedisConnection.js';
import { Subscriptions } from '../redis/Subscriptions.js';
import type { NamespaceFacts } from '../redis/serverChecks.js';
import { ContextReader, type Corruption } from '../replica/ContextReader.js';
import { ReplicaSet } from '../replica/ReplicaSet.js';
import { ContextWriter } from './ContextWriter.js';
import { Heartbeat } from './Heartbeat.js';
import { integrityHooks } from './integrityEvents.js';
import { Maintenance } from './Maintenance.js';
import type { ResolvedOptions } from './options.js';
import { type PredictiveTtl, predictiveTtl } from './PredictiveTtl.js';
import type { StoreEmitter } from './StoreEmitter.js';
import { sweepMetrics } from './sweepMetrics.js';
import { type StoreTransactions, storeTransactions } from './transactions.js';
import type { Logger, StoreEvents } from './types.js';

/** Expiries remembered, so that each is told once. */
const EXPIRIES_TOLD = 10_000;

/** A lock node has a fifth of the time of an attempt to vote, so that one that is silent does not cost much of a lock's time. */
const NODE_TIMEOUT = 0.2;
const LEAST_NODE_TIMEOUT_MS = 50;

export interface StoreParts {
  readonly commands: ContextCommands;
  readonly integrity: Integrity;
  readonly reader: ContextReader;
  readonly subscriptions: Subscriptions;
  readonly locks: Locks;
  readonly replicas: ReplicaSet;
  readonly writer: ContextWriter;
  readonly transactions: StoreTransactions;
  readonly maintenance: Maintenance;
  readonly heartbeat: Heartbeat;
  readonly ttl: PredictiveTtl | null;
}

/** @param workersUp - whether the background queues of this process do the sweeping */
export function storeParts(
  options: ResolvedOptions,
  connection: RedisConnection,
  emitter: StoreEmitter,
  logger: Logger,
  facts: NamespaceFacts,
  workersUp: () => boolean,
): StoreParts {
  const { instanceId, logKeep, logBytes, tombstoneMs, namespace } = options;
  const keys = new Keys(namespace, facts.shards);
  const commands = new ContextCommands(connection, keys, { instanceId, logKeep, logBytes, tombstoneMs });
  commands.protocol = facts.protocol;
  commands.sealed = facts.sealed;
  const integrity = new Integrity(commands, integrityHooks(emitter, logger, keys, instanceId));
  const corrupt = (corruption: Corruption): void => integrity.corrupt(corruption);
  // the sweep of this process and the frames of any process tell it, and each may come without the other
  const told = new LRUCache<string, true>({ max: EXPIRIES_TOLD });
  const expired = ({ id, version, at }: StoreEvents['context:expired']): void => {
    const key = `${version} ${id}`;
    if (told.has(key)) return;
    told.set(key, true);
    emitter.emit('context:expired', { id, version, at });
  };
  const late = sweepMetrics(namespace);
  const swept = ({ id, version, lateMs }: Expired['expired'][number]): void => {
    late(lateMs);
    expired({ id, version, at: Math.ceil(connection.clock.latest(performance.now())) });
  };
  const reader = new ContextReader(commands, integrity.copies, corrupt, (id, where, deadline) =>
    integrity.heal(id, where, deadline),
  );
  const subscriptions = new Subscriptions(connection, () => {
    locks.wakeAll();
    heartbeat.compareNow('reconnect');
  });
  const locks: Locks = new Locks({
    commands: commands,
    subscriptions: subscriptions,
    settings: options.locks,
    timeoutMs: options.timeoutMs,
    warn: (fields, message) => logger.warn({ ...fields, namespace }, message),
    nodes: options.locks.nodes.length === 0 ? null : (lockCommands) => quorum(options, connection, lockCommands),
  });
  const replicas = new ReplicaSet(
    commands,
    subscriptions,
    reader,
    {
      maxBytes: options.localBytes,
      timeoutMs: options.timeoutMs,
      leaseMs: 2 * options.heartbeatMs + options.attemptTimeoutMs,
      copyValues: options.copyValues,
    },
    {
      corrupt,
      resync: (event) => {
        logger.info({ ...event, namespace }, 'a replica caught up');
        emitter.emit('context:resync', event);
      },
      expired,
    },
  );
  const writer = new ContextWriter(commands, reader, replicas, options, emitter, logger, integrity, locks);
  const transactions = storeTransactions(
    {
      commands: commands,
      reader: reader,
      replicas: replicas,
      writer: writer,
      integrity: integrity,
    },
    options,
    emitter,
    logger,
  );
  const maintenance: Maintenance = new Maintenance({
    commands: commands,
    redis: options.redis,
    timeoutMs: options.timeoutMs,
    queues: options.queues,
    repair: (id, where, deadline) => integrity.repair(id, where, deadline),
    lost: (id, error) => integrity.lost(id, error),
    expired: swept,
    settler: transactions.settler,
  });
  const heartbeat: Heartbeat = new Heartbeat(
    { commands: commands, subscriptions: subscriptions, replicas: replicas, logger },
    {
      everyMs: options.heartbeatMs,
      timeoutMs: options.timeoutMs,
      sweeps: () => options.workers === 'off' || (options.workers === 'inline' && !workersUp()),
    },
    {
      sweep: (given) => maintenance.sweep(given),
      damaged: (id, deadline) => integrity.repair(id, 'sweep', deadline),
    },
  );
  const ttl = options.predict === null ? null : predictiveTtl(options.predict, commands, replicas, options, logger);
  return { commands, integrity, reader, subscriptions, locks, replicas, writer, transactions, maintenance, heartbeat, ttl };
}

function quorum(
  { locks, namespace, instanceId, timeoutMs, attemptTimeoutMs }: ResolvedOptions,
  connection: RedisConnection,
  commands: LockCommands,
) {
  const patienceMs = Math.max(LEAST_NODE_TIMEOUT_MS, attemptTimeoutMs * NODE_TIMEOUT);
  const nodes = locks.nodes.map((node) => new LockNode(node, `lukhas-context:${namespace}:${instanceId}:locks`, patienceMs));
  return new NodeQuorum({
    nodes,
    commands,
    namespace,
    maxTtlMs: locks.maxTtlMs,
    deadline: () => connection.deadline(timeoutMs),
  });
}
