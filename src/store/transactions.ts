/** Transactions of a store: the parts below put together, and told to its events and its log. */
import { LRUCache } from 'lru-cache';
import { ContextError } from '../core/errors.js';
import type { Integrity } from '../integrity/Integrity.js';
import type { Locks } from '../locks/Locks.js';
import type { Lock } from '../locks/types.js';
import type { ContextCommands } from '../redis/ContextCommands.js';
import type { Deadline } from '../redis/RedisConnection.js';
import { TransactionCommands } from '../redis/TransactionCommands.js';
import type { ContextReader } from '../replica/ContextReader.js';
import type { ReplicaSet } from '../replica/ReplicaSet.js';
import { AtomicContextPreserver, type HeldLocks, type TransactionRun } from '../transactions/AtomicContextPreserver.js';
import { IntentSettler } from '../transactions/IntentSettler.js';
import type { ContextWriter } from './ContextWriter.js';
import type { ResolvedOptions } from './options.js';
import type { StoreEmitter } from './StoreEmitter.js';
import type { Logger, StoreStats } from './types.js';

/** What is stuck is told once in this time, ms. */
const STUCK_TOLD_MS = 60_000;

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/**
 * Locks for a transaction: those of `ids` before it begins, in order, and each further context when it is used first, if it is free. Where it is
 * not the transaction begins anew with all of them, so nobody waits while holding.
 */
export function lockedRun(locks: Locks, { at, signal }: Deadline): NonNullable<TransactionRun['locked']> {
  const call = signal === undefined ? {} : { signal };
  return async (ids, run) => {
    const held: Lock[] = [];
    const holding: HeldLocks = {
      take: async (more) => {
        const left = more.filter((id) => !held.some((lock) => lock.fencingTokens.has(id)));
        if (left.length === 0) return true;
        const lock = await locks.tryLock(left, call);
        if (lock !== null) held.push(lock);
        return lock !== null;
      },
      fenceOf: (id) =>
        locks.fenceOf(
          held.find((lock) => lock.fencingTokens.has(id)),
          id,
        ),
    };
    const work = async () => {
      try {
        return await run(holding);
      } finally {
        // what is not released ends by its time to live
        await Promise.all(held.splice(ids.length === 0 ? 0 : 1).map((lock) => lock.release().catch(() => {})));
      }
    };
    if (ids.length === 0) return work();
    return locks.lock(
      ids,
      (lock) => {
        held.push(lock);
        return work();
      },
      { wait: Math.max(0, Math.floor(at - performance.now())), ...call },
    );
  };
}

/** A lock that the caller holds: it has to cover all that is written. @throws ContextError `INVALID_ARGUMENT`, `FENCED`: it is none, or over */
export const heldRun =
  (locks: Locks, lock: Lock): NonNullable<TransactionRun['locked']> =>
  async (_ids, run) => {
    locks.checkHeld(lock);
    return run({
      take: async () => true,
      fenceOf: (id) => locks.fenceOf(lock, id),
    });
  };

interface Parts {
  readonly commands: ContextCommands;
  readonly reader: ContextReader;
  readonly replicas: ReplicaSet;
  readonly writer: ContextWriter;
  readonly integrity: Integrity;
}

export interface StoreTransactions {
  readonly preserver: AtomicContextPreserver;
  readonly settler: IntentSettler;
  readonly stats: () => StoreStats['transactions'];
}

export function storeTransactions(
  { commands, reader, replicas, writer, integrity }: Parts,
  options: ResolvedOptions,
  emitter: StoreEmitter,
  logger: Logger,
): StoreTransactions {
  const { namespace } = options;
  const recovered = { committed: 0, aborted: 0 };
  const told = new LRUCache<string, true>({ max: 1_000, ttl: STUCK_TOLD_MS });
  const heal = async (id: string, deadline: Parameters<typeof integrity.repair>[2]): Promise<void> => {
    await integrity.repair(id, 'commit', deadline);
  };
  const transactions = new TransactionCommands(commands, 2 * options.recoverAfterMs);
  const settler = new IntentSettler(commands, transactions, {
    heal,
    recovered: ({ txn, outcome, shard }) => {
      recovered[outcome] += 1;
      logger.info({ transaction: txn, outcome, shard, namespace }, 'part of a transaction was ended for who began it');
      emitter.emit('transaction:recovered', { transaction: txn, outcome, shard });
    },
    stuck: ({ txn, part }, error) => {
      const name = `${txn}.${part}`;
      if (told.has(name)) return;
      told.set(name, true);
      logger.error(
        { transaction: txn, part, namespace, error: messageOf(error) },
        'part of a transaction cannot be ended; it is tried again',
      );
    },
    lost: (id, { txn }) =>
      logger.error(
        { id, transaction: txn, namespace },
        'a transaction was committed, but what it was to write here is gone from Redis: part of its memory was lost',
      ),
  });
  const preserver = new AtomicContextPreserver(
    commands,
    transactions,
    settler,
    {
      heal,
      base: (id) => replicas.base(id),
      read: async (id, deadline) => {
        const state = await reader.read(id, deadline);
        replicas.seen(id, state);
        return state;
      },
      readMany: async (ids, deadline) => {
        const states = await reader.readMany(ids, deadline);
        ids.forEach((id, index) => {
          replicas.seen(id, states[index] ?? null);
        });
        return states;
      },
      encode: (id, base, value, patch, whole) => writer.encode(id, base, value, patch, whole),
      spelled: (id, value, text) => writer.spelled(id, value, text),
      committed: (id, encoded, written, at, patch, repeated) => {
        const { version, kind, frameBytes, expiresAt, checkpointDue } = written;
        if (kind === 'deleted' || kind === 'none') return;
        writer.committed(id, encoded, { version, at, kind, frameBytes, expiresAt, checkpointDue, repeated }, patch);
      },
      deleted: (id, version, at) => writer.deleted(id, version, at),
      conflict: (id, expected, found, attempt) => emitter.emit('context:conflict', { id, expected, found, attempt }),
      unfinished: (txn, error) => {
        const closed = error instanceof ContextError && error.code === 'CLOSED';
        if (!closed)
          logger.warn(
            { transaction: txn, namespace, error: messageOf(error) },
            'a transaction was decided, but not ended everywhere: whoever meets it does that',
          );
      },
    },
    {
      limits: { idBytes: options.idBytes, depth: options.depth, copyValues: options.copyValues },
      recoverMs: options.recoverAfterMs,
    },
  );
  commands.intents = settler;
  return { preserver, settler, stats: () => ({ ...preserver.counters, recovered: { ...recovered } }) };
}
