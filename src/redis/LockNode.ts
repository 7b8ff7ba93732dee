/**
 * One lock node: an independent server, with a client of its own that neither waits nor asks twice. It is what redlock takes for a client:
 * what redlock sends is given a guard, the mode of the lock and the run of the server, and what comes back is checked before it is a vote.
 *
 * The run is the server's `run_id`, asked for anew on each connection: a server that was started again is another one, whatever files it
 * has read, because these may lack what it had promised.
 */
import { randomBytes } from 'node:crypto';
import { Redis } from 'ioredis';
import { answerCheck, guardOf } from '../core/seal.js';
import { Link } from './Link.js';
import { optionsOf, type RedisTarget } from './RedisConnection.js';
import { type ScriptName, script, scriptSource } from './scripts.js';

/** Silent for this many times an attempt's time: the connection is made anew. */
const SILENT = 5;
/** Pause before a server that did not say who it is is asked again, ms. */
const GREET_AGAIN_MS = 250;

export type NodeMode = 'w' | 'r';

/** Why a node did not vote for a lock. `held`: it did answer, and somebody else has it; `new`: it was not marked yet. */
export class NodeRefusal extends Error {
  readonly kind: 'held' | 'gone' | 'new' | 'out';
  /** How long it goes on, as far as it is known, ms. */
  readonly leftMs: number | null;

  constructor(kind: NodeRefusal['kind'], message: string, leftMs: number | null = null) {
    super(message);
    this.kind = kind;
    this.leftMs = leftMs;
  }
}

/** What redlock calls. */
export interface NodeClient {
  readonly node: LockNode;
  evalsha(sha: string, keys: number, args: readonly (string | number)[]): Promise<unknown>;
  eval(source: string, keys: number, args: readonly (string | number)[]): Promise<unknown>;
}

type Reply = (string | number)[];

export class LockNode {
  /** `host:port`. */
  readonly name: string;
  readonly #link: Link;
  readonly #saltPrefix = randomBytes(4).toString('base64url');
  #calls = 0;
  #run: string | null = null;
  /** Why the server that it is connected to cannot be asked. */
  #flaw: string | null = null;
  #again: NodeJS.Timeout | undefined;
  #closed = false;
  #waiting: (() => void)[] = [];

  constructor(target: RedisTarget, connectionName: string, attemptTimeoutMs: number) {
    const client = make(target, connectionName, attemptTimeoutMs);
    const { host, port, path, sentinels, name } = client.options;
    this.name = path ?? (sentinels === undefined || sentinels === null ? `${host}:${port}` : String(name));
    this.#link = new Link(client, 'commands', {
      up: () => void this.#greet(),
      down: () => {
        this.#run = null;
      },
    });
    client.on('close', () => this.#told());
    client.connect().catch(() => {});
  }

  /** The run of the server that it is connected to; null: it cannot be asked anything. */
  get run(): string | null {
    return this.#link.up ? this.#run : null;
  }

  /** Resolves when it can be asked, when a connection has failed, or after that time. */
  async ready(ms: number): Promise<void> {
    if (this.run !== null || this.#link.lastError !== null) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#waiting.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  as(mode: NodeMode): NodeClient {
    return {
      node: this,
      evalsha: (sha, keys, args) => this.#vote(mode, keys, args, (all) => this.#link.client.evalsha(sha, keys, ...all)),
      eval: (source, keys, args) => this.#vote(mode, keys, args, (all) => this.#link.client.eval(source, keys, ...all)),
    };
  }

  /** Says when this run of the server begins to vote; false: it is another run by now. */
  async mark(marker: string, run: string, waitMs: number): Promise<boolean> {
    if (this.run !== run) return false;
    // sent in this tick, on the connection that the run was asked for on
    const reply = await this.#ask([marker, run, waitMs], (all) => this.#link.client.eval(scriptSource('nodemark'), 1, ...all));
    return reply[0] === 'MARKED';
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#again);
    this.#told();
    this.#link.client.disconnect();
  }

  #told(): void {
    for (const done of this.#waiting.splice(0)) done();
  }

  /** Asks a new connection whom it leads to. */
  async #greet(): Promise<void> {
    const { client } = this.#link;
    try {
      const [server, memory] = await Promise.all([client.info('server'), client.info('memory')]);
      const [, run] = /^run_id:(\w+)/m.exec(String(server)) ?? [];
      const [, policy] = /^maxmemory_policy:(\S+)/m.exec(String(memory)) ?? [];
      if (run === undefined) throw new Error('INFO does not name its run_id');
      // what it evicts it has promised
      if (policy !== 'noeviction') throw new Error(`its maxmemory-policy is ${policy}: set it to noeviction`);
      this.#run = run;
      this.#flaw = null;
      this.#told();
    } catch (error) {
      this.#flaw = error instanceof Error ? error.message : String(error);
      if (this.#closed) return;
      this.#again = setTimeout(() => {
        if (this.#link.up && this.#run === null) void this.#greet();
      }, GREET_AGAIN_MS);
    }
  }

  /** The number of keys, as redlock wants it, for a vote. */
  async #vote(
    mode: NodeMode,
    keys: number,
    args: readonly (string | number)[],
    call: (all: (string | number)[]) => Promise<unknown>,
  ): Promise<number> {
    const { run } = this;
    if (run === null)
      throw new NodeRefusal('out', (this.#link.up && this.#flaw) || this.#link.lastError?.message || 'no connection');
    const [status, left] = await this.#ask([...args, mode, run], call);
    switch (status) {
      case 'VOTED':
        return keys;
      case 'HELD':
        throw new NodeRefusal('held', `held by somebody else for ${left} ms more, unless it is extended`, Number(left));
      case 'GONE':
        throw new NodeRefusal('gone', 'it does not have the lock (any more)');
      case 'NEW':
        throw new NodeRefusal('new', 'not marked yet');
      case 'COLD':
        throw new NodeRefusal('out', `it was started again, and takes part in ${left} ms`, Number(left));
      default:
        throw new NodeRefusal('out', `its answer was ${String(status)}`);
    }
  }

  async #ask(args: readonly (string | number)[], call: (all: (string | number)[]) => Promise<unknown>): Promise<Reply> {
    const salt = `${this.#saltPrefix}${(++this.#calls).toString(36)}`;
    const link = this.#link;
    link.asked(performance.now());
    let reply: Reply;
    try {
      reply = (await call([...args, guardOf(salt, args)])) as Reply;
    } catch (error) {
      const { commandTimeout = 0 } = link.client.options;
      const silentMs = Math.ceil(link.silentMs(performance.now()));
      if (silentMs >= SILENT * commandTimeout) link.reset(`no answer within ${silentMs} ms`);
      throw error;
    }
    if (!Array.isArray(reply) || reply.pop() !== answerCheck(salt, reply)) {
      link.reset('an answer was damaged on its way');
      throw new NodeRefusal('out', 'its answer was damaged on its way');
    }
    return reply;
  }
}

/** Sources as redlock sends them. */
export const nodeScript = (name: Extract<ScriptName, `node${string}`>): string => script(name).source;

function make(target: RedisTarget, connectionName: string, commandTimeout: number): Redis {
  const options = {
    connectionName,
    lazyConnect: true,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    enableReadyCheck: false,
    enableAutoPipelining: true,
    connectTimeout: Math.max(5 * commandTimeout, 500),
    commandTimeout,
    disconnectTimeout: 100,
    keepAlive: 10_000,
    retryStrategy: (attempt: number) => Math.min(500, 20 * 2 ** Math.min(attempt, 5)) * (0.75 + Math.random() / 2),
  };
  if (typeof target === 'string') return new Redis(target, options);
  const plain = { ...options, keyPrefix: '' };
  if (target instanceof Redis) return target.duplicate(plain);
  return new Redis({ ...(optionsOf(target) ?? target), ...plain });
}
