/** All that keeps the contexts of one store whole, put together: repairs, the checkpoints they are made from, and the instances that help. */
import type { ContextCommands } from '../redis/ContextCommands.js';
import { IntegrityCommands } from '../redis/IntegrityCommands.js';
import type { Deadline } from '../redis/RedisConnection.js';
import type { Subscriptions } from '../redis/Subscriptions.js';
import type { Corruption } from '../replica/ContextReader.js';
import type { ReplicaState } from '../replica/state.js';
import { Checkpointer } from './Checkpointer.js';
import { Peers } from './Peers.js';
import { RedisReplicas } from './RedisReplicas.js';
import { Repairer, type RepairHooks, type RepairResult } from './Repairer.js';

export type IntegrityHooks = Pick<RepairHooks, 'corrupt' | 'repaired' | 'quarantined'> & {
  /** @param error - why it could not be looked for everywhere, where that is so */
  lost(id: string, error: unknown): void;
};

export interface IntegrityCounters {
  /** Damages that were found, wherever. */
  found: number;
  /** Contexts that were repaired, by where the good copy came from. */
  repaired: { reread: number; log: number; peer: number; redisReplica: number };
  removed: number;
  quarantined: number;
  /** Contexts that vanished and could not be rebuilt. */
  lost: number;
}

export class Integrity {
  readonly counters: IntegrityCounters = {
    found: 0,
    repaired: { reread: 0, log: 0, peer: 0, redisReplica: 0 },
    removed: 0,
    quarantined: 0,
    lost: 0,
  };
  readonly copies: IntegrityCommands;
  readonly checkpointer: Checkpointer;
  readonly #peers: Peers;
  readonly #repairer: Repairer;
  readonly #hooks: IntegrityHooks;

  constructor(commands: ContextCommands, hooks: IntegrityHooks) {
    this.#hooks = hooks;
    this.copies = new IntegrityCommands(commands);
    this.checkpointer = new Checkpointer(commands.connection, this.copies);
    this.#peers = new Peers(commands, (id) => this.checkpointer.held(id) ?? this.#held(id));
    this.#repairer = new Repairer(commands, this.copies, this.#peers, new RedisReplicas(commands, this.copies), {
      corrupt: (corruption) => this.corrupt(corruption),
      repaired: (result) => {
        const { source, outcome } = result;
        if (outcome === 'removed') this.counters.removed += 1;
        else this.counters.repaired[source === 'redis-replica' ? 'redisReplica' : (source ?? 'reread')] += 1;
        this.#looked(commands, result.id);
        hooks.repaired(result);
      },
      quarantined: (result) => {
        this.counters.quarantined += 1;
        this.#looked(commands, result.id);
        hooks.quarantined(result);
      },
      lost: (id) => this.lost(id),
      checkpoint: (id, state, sha1) => this.checkpointer.make(id, state, undefined, sha1),
    });
  }

  /** A sweep passes damaged contexts over for a while; where it is not told, it finds out by itself when that is over. */
  #looked(commands: ContextCommands, id: string): void {
    commands.notSkipped(id, commands.connection.deadline(commands.connection.attemptTimeoutMs)).catch(() => {});
  }

  #held: (id: string) => ReplicaState | undefined = () => undefined;

  /** Listens for other instances. @param held - the state that a replica of this process has, however old */
  async open(subscriptions: Subscriptions, held: (id: string) => ReplicaState | undefined): Promise<void> {
    this.#held = held;
    await this.#peers.open(subscriptions);
  }

  /** Makes the checkpoints that are due, and answers nobody any more. */
  async close(): Promise<void> {
    await this.checkpointer.close();
    this.#peers.close();
  }

  /** A damage that was found. */
  corrupt(corruption: Corruption): void {
    this.counters.found += 1;
    this.#hooks.corrupt(corruption);
  }

  /** A context vanished, and nobody has a good copy. */
  lost(id: string, error?: unknown): void {
    this.counters.lost += 1;
    this.#hooks.lost(id, error);
  }

  repair(id: string, where: Corruption['where'], deadline: Deadline): Promise<RepairResult> {
    return this.#repairer.repair(id, where, deadline);
  }

  /** Gives a context of a namespace that was upgraded its seal, and its log its sums. False where it could not be done. */
  seal(id: string, deadline: Deadline): Promise<boolean> {
    return this.#repairer.seal(id, deadline);
  }

  /** For a reader that has told of the damage: whether it is worth reading again. */
  async heal(id: string, where: Corruption['where'], deadline: Deadline): Promise<boolean> {
    const { outcome } = await this.#repairer.repair(id, where, deadline, true);
    return outcome !== 'quarantined';
  }
}
