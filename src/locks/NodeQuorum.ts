/**
 * Redlock (S. Sanfilippo, "Distributed Locks with Redis") over a store's lock nodes, by the library `redlock`: a lock is held where a
 * majority of independent servers has voted for it. This is the one file that imports it; what it lacks is here: contention and outage are
 * told apart, waiting does not depend on this machine's wall clock, and a server that has lost its memory does not vote.
 */
import Redlock, { type Client, ExecutionError, type ExecutionStats, type Lock } from 'redlock';
import { ContextError } from '../core/errors.js';
import { restUnlessAborted } from '../redis/abortFan.js';
import { nodeKeys, nodeMarkerKey } from '../redis/keys.js';
import type { LockCommands, LockMode } from '../redis/LockCommands.js';
import { type LockNode, type NodeClient, type NodeMode, NodeRefusal, nodeScript } from '../redis/LockNode.js';
import type { Deadline } from '../redis/RedisConnection.js';
import { certainUntil, type NodeLock } from './LockHandle.js';
import type { LockNodes, NodeRequest } from './Locks.js';

/** How long the first lock waits for connections to the nodes, ms. */
const CONNECT_MS = 500;
/** Pause between two attempts, ms; half as much again by chance. */
const PAUSE_MS = 20;
/** How often nodes are marked for one lock. */
const MARKS = 3;

export interface QuorumParts {
  readonly nodes: readonly LockNode[];
  readonly commands: LockCommands;
  readonly namespace: string;
  readonly maxTtlMs: number;
  /** For questions to the data server. */
  readonly deadline: () => Deadline;
}

/** How an attempt went, by node. */
interface Votes {
  readonly needed: number;
  readonly voted: number;
  readonly refused: ReadonlyMap<LockNode, NodeRefusal>;
}

export class NodeQuorum implements LockNodes {
  readonly #parts: QuorumParts;
  readonly #redlocks: Readonly<Record<NodeMode, Redlock<NodeClient>>>;
  #registered: Promise<unknown> | null = null;

  constructor(parts: QuorumParts) {
    this.#parts = parts;
    const make = (mode: NodeMode): Redlock<NodeClient> =>
      new Redlock(
        parts.nodes.map((node) => node.as(mode)),
        { retryCount: 0, driftFactor: 0.01 },
        {
          acquireScript: () => nodeScript('nodelock'),
          extendScript: () => nodeScript('nodeextend'),
          releaseScript: () => nodeScript('nodeunlock'),
        },
      );
    this.#redlocks = { w: make('w'), r: make('r') };
  }

  async take(request: NodeRequest): Promise<{ readonly lock: NodeLock; readonly sentAt: number }> {
    const { id, mode, ttlMs, giveUpAt, signal } = request;
    const redlock = this.#redlocks[mode === 'write' ? 'w' : 'r'];
    await this.#begin();
    for (let marks = 0; ; ) {
      const sentAt = performance.now();
      const taken = await this.#attempt(redlock, id, ttlMs);
      if (!('needed' in taken)) {
        if (performance.now() < certainUntil(sentAt, ttlMs)) return { lock: new QuorumLock(redlock, taken), sentAt };
        await redlock.release(taken).catch(() => {});
      } else {
        const unmarked = [...taken.refused].filter(([, { kind }]) => kind === 'new').map(([node]) => node);
        if (unmarked.length > 0 && marks < MARKS && !signal.aborted) {
          marks += 1;
          await this.#mark(unmarked);
          continue;
        }
        if (performance.now() >= giveUpAt || signal.aborted) throw this.#refusal(id, mode, taken);
      }
      await restUnlessAborted(PAUSE_MS * (1 + Math.random() / 2), signal);
    }
  }

  async close(): Promise<void> {
    for (const node of this.#parts.nodes) node.close();
  }

  /** Before the first lock: the longest time to live is known to whoever marks a node. */
  async #begin(): Promise<void> {
    const { nodes } = this.#parts;
    this.#registered ??= Promise.all(nodes.map((node) => node.ready(CONNECT_MS))).then(() => this.#mark(nodes));
    try {
      await this.#registered;
    } catch (error) {
      this.#registered = null;
      throw error;
    }
  }

  /**
   * Says of the present runs of some nodes when they vote. At once only where nobody has ever used this namespace's nodes: the run was
   * there before that was found out, so it cannot have forgotten anything. Otherwise it is one that came later, or back, and may have.
   */
  async #mark(nodes: readonly LockNode[]): Promise<void> {
    const { commands, maxTtlMs, namespace, deadline } = this.#parts;
    const runs = nodes.map((node) => node.run);
    const names = this.#parts.nodes.map(({ name }) => name).join(' ');
    const known = await commands.nodes(maxTtlMs, names, deadline());
    const marker = nodeMarkerKey(namespace);
    // a node that cannot be marked now is looked at again by the next attempt
    await Promise.allSettled(
      nodes.map(async (node, index) => {
        const run = runs[index];
        if (run) await node.mark(marker, run, known.first ? 0 : known.maxTtlMs);
      }),
    );
  }

  async #attempt(redlock: Redlock<NodeClient>, id: string, ttlMs: number): Promise<Lock | Votes> {
    try {
      return certain(await redlock.acquire([...nodeKeys(this.#parts.namespace, id)], ttlMs));
    } catch (error) {
      return votesOf(error);
    }
  }

  /** Where enough have answered, somebody holds it; otherwise too few have. */
  #refusal(id: string, mode: LockMode, { needed, voted, refused }: Votes): ContextError {
    const { namespace, nodes } = this.#parts;
    const held = [...refused.values()].filter(({ kind }) => kind === 'held');
    if (held.length + voted >= needed) {
      const left = Math.max(0, ...held.map(({ leftMs }) => leftMs ?? 0));
      const message = `${id}: not locked (${mode}): somebody holds it on ${held.length} of ${nodes.length} lock nodes, for ${left} ms more unless it is extended, although the data server does not know of it (any more)`;
      return new ContextError('LOCK_TIMEOUT', message, { namespace, id });
    }
    const out = [...refused].filter(([, { kind }]) => kind !== 'held');
    const reasons = Object.fromEntries(out.map(([{ name }, { message }]) => [name, message]));
    const told = out.map(([{ name }, { message }]) => `${name}: ${message}`).join('; ');
    const message = `${id}: not locked: ${nodes.length - out.length} of ${nodes.length} lock nodes have answered, ${needed} are needed (${told})`;
    return new ContextError('LOCK_QUORUM', message, {
      namespace,
      id,
      expected: needed,
      found: nodes.length - out.length,
      nodes: reasons,
    });
  }
}

class QuorumLock implements NodeLock {
  readonly #redlock: Redlock<NodeClient>;
  #lock: Lock;

  constructor(redlock: Redlock<NodeClient>, lock: Lock) {
    this.#redlock = redlock;
    this.#lock = lock;
  }

  async extend(ttlMs: number): Promise<boolean | null> {
    try {
      this.#lock = certain(await this.#redlock.extend(this.#lock, ttlMs));
      return true;
    } catch (error) {
      const { needed, refused } = await votesOf(error);
      return [...refused.values()].filter(({ kind }) => kind === 'gone').length >= needed ? false : null;
    }
  }

  async release(): Promise<void> {
    await this.#redlock.release(this.#lock).catch(() => {});
  }
}

/** Its own expiry is by the wall clock, which jumps; the handle's deadline is not. */
function certain(lock: Lock): Lock {
  lock.expiration = Number.POSITIVE_INFINITY;
  return lock;
}

/** All votes of the last attempt, once they are in: each node answers or times out. */
async function votesOf(error: unknown): Promise<Votes> {
  if (!(error instanceof ExecutionError)) throw error;
  const stats = (await error.attempts.at(-1)) as ExecutionStats<Client> | undefined;
  if (stats === undefined) throw error;
  const refused = new Map<LockNode, NodeRefusal>();
  for (const [client, why] of stats.votesAgainst) {
    refused.set((client as NodeClient).node, why instanceof NodeRefusal ? why : new NodeRefusal('out', why.message));
  }
  return { needed: stats.quorumSize, voted: stats.votesFor.size, refused };
}
