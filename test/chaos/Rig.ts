import { randomInt } from 'node:crypto';
import { expect } from 'chai';
import type { Redis } from 'ioredis';
import type { StoreOptions, StoreStats } from '../../src/index.js';
import { uniqueNamespace } from '../helpers/namespace.js';
import { type NodeProcess, spawnNode } from '../helpers/processes.js';
import { RedisServer } from '../helpers/RedisServer.js';
import { type Rng, seededRng } from '../helpers/random.js';
import { waitFor } from '../helpers/waitFor.js';
import { acknowledgedProblems, LogCollector, readProblems, storedProblems, toldProblems } from './evidence.js';
import type { Ack, Command, Held, Load, Tally, Told } from './instance.js';

const INSTANCE = new URL('./instance.ts', import.meta.url);

/** One app instance in a process of its own. */
export class Instance {
  readonly process: NodeProcess;

  constructor(process: NodeProcess) {
    this.process = process;
  }

  ask<T = void>(command: Command, limitMs = 30_000): Promise<T> {
    return this.process.request<T>(command, { limitMs });
  }
}

export interface RigOptions {
  readonly contexts?: number;
  readonly store?: StoreOptions;
}

/**
 * A server with an append-only file, instances of a namespace as processes, and what they claimed. `finish` compares all that with the
 * logs, which were collected all the while, and with Redis's raw bytes.
 */
export class Rig {
  readonly server: RedisServer;
  readonly redis: Redis;
  readonly ids: readonly string[];
  readonly rng: Rng;
  readonly acks: Ack[] = [];
  readonly log: LogCollector;
  readonly store: StoreOptions;
  readonly namespace: string;
  readonly #seed: number;
  readonly #instances: Instance[] = [];
  readonly #tallies: Tally[] = [];

  private constructor(server: RedisServer, options: RigOptions) {
    this.#seed = Number(process.env.LUKHAS_CHAOS_SEED ?? randomInt(2 ** 31));
    this.rng = seededRng(this.#seed);
    console.log(`      seed ${this.#seed} (LUKHAS_CHAOS_SEED)`);
    this.server = server;
    this.redis = server.client();
    this.ids = Array.from({ length: options.contexts ?? 6 }, (_, number) => `context-${number}`);
    this.namespace = uniqueNamespace('chaos');
    this.store = {
      redis: server.url,
      namespace: this.namespace,
      timeout: '10s',
      connectTimeout: '15s',
      attemptTimeout: '400ms',
      heartbeat: '200ms',
      log: { keep: 512, bytes: '16mb' },
      workers: 'off',
      logger: false,
      ...options.store,
    };
    this.log = new LogCollector(this.redis, this.namespace, this.ids);
  }

  static async start(options: RigOptions = {}): Promise<Rig> {
    return new Rig(await RedisServer.start({ appendOnly: true }), options);
  }

  /** Starts instances; each has its store open when this resolves. */
  async instances(count: number, options: StoreOptions = {}): Promise<Instance[]> {
    const started = await Promise.all(
      Array.from({ length: count }, async () => {
        const instance = new Instance(await spawnNode(INSTANCE));
        instance.process.onEvent((event) => this.acks.push(event as Ack));
        await instance.ask({ do: 'open', options: { ...this.store, ...options } });
        return instance;
      }),
    );
    this.#instances.push(...started);
    return started;
  }

  async watch(instances: readonly Instance[]): Promise<void> {
    for (const instance of instances) await instance.ask({ do: 'watch', ids: this.ids });
  }

  async load(instances: readonly Instance[], load: Partial<Load> = {}): Promise<void> {
    for (const instance of instances) {
      const seed = this.rng.int(0, 2 ** 30);
      const given: Load = { ids: this.ids, seed, loops: 4, kind: 'mixed', pauseMs: 8, ...load };
      await instance.ask({ do: 'load', load: given });
    }
  }

  /** Ends the loads, after what they began is done; nothing may have happened that never should. */
  async stop(instances: readonly Instance[]): Promise<readonly Tally[]> {
    const tallies = await Promise.all(instances.map((instance) => instance.ask<Tally>({ do: 'stop' })));
    this.#tallies.push(...tallies);
    for (const { problems } of tallies) expect(problems.slice(0, 5).join('\n')).to.equal('');
    return tallies;
  }

  pause(ms: number): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, ms));
  }

  stats(instance: Instance): Promise<StoreStats> {
    return instance.ask({ do: 'stats' });
  }

  /** So that each instance has a replica of each context, and `finish` compares what is in memory. */
  async warm(instances: readonly Instance[]): Promise<void> {
    for (let use = 0; use < 3; use += 1) await Promise.all(instances.map((one) => one.ask({ do: 'memory', ids: this.ids })));
  }

  /**
   * Holds everything against everything. `survivors` must have in memory what Redis has, `watching` must have been told all of it.
   *
   * @param exact - see `storedProblems`
   */
  async finish(survivors: readonly Instance[], options: { watching?: readonly Instance[]; exact?: boolean } = {}): Promise<void> {
    const { watching = [], exact = true } = options;
    await waitFor(() => this.redis.ping(), { what: 'Redis to answer' });
    await this.log.stop();
    const { problems, contexts } = await storedProblems(this.redis, this.namespace, exact);
    expect(problems.slice(0, 10).join('\n'), 'what Redis stores').to.equal('');
    expect(this.log.problems().slice(0, 10).join('\n'), 'the logs').to.equal('');
    expect(acknowledgedProblems(this.acks, this.log).slice(0, 10).join('\n'), 'acknowledged writes').to.equal('');
    const read = this.#tallies.flatMap((tally) => tally.read);
    expect(readProblems(read, this.log).slice(0, 10).join('\n'), 'what readers got').to.equal('');
    for (const [number, instance] of survivors.entries()) {
      await waitFor(async () => (await this.#differences(instance, contexts)).length === 0, {
        what: `instance ${number} to hold what Redis has`,
        limitMs: 8_000,
        everyMs: 50,
      }).catch(async (error: unknown) => {
        throw new Error(`${String(error)}\n${(await this.#differences(instance, contexts)).join('\n')}`);
      });
    }
    for (const [number, instance] of watching.entries()) {
      let left: string[] = [];
      await waitFor(
        async () => {
          const told = await instance.ask<Record<string, Told[]>>({ do: 'told' });
          left = this.ids.flatMap((id) => toldProblems(id, told[id] ?? [], this.log.of(id)));
          return left.length === 0;
        },
        { what: 'all changes to be told', limitMs: 8_000, everyMs: 50 },
      ).catch(() => {});
      expect(left.slice(0, 10).join('\n'), `what the watchers of instance ${number} were told`).to.equal('');
    }
  }

  /** Ends instances and server; safe to call whatever happened. */
  async end(): Promise<void> {
    this.log.end();
    await Promise.all(this.#instances.map(({ process }) => process.kill()));
    await this.server.stop();
  }

  async #differences(instance: Instance, contexts: ReadonlyMap<string, { version: number; crc: string }>): Promise<string[]> {
    const held = await instance.ask<Record<string, Held>>({ do: 'memory', ids: this.ids });
    return this.ids.flatMap((id) => {
      const stored = contexts.get(id);
      const { version, checksum, crc, fromMemory } = held[id] ?? { version: null, checksum: null, crc: null, fromMemory: false };
      const same = version === (stored?.version ?? null) && checksum === (stored?.crc ?? null) && crc === checksum;
      if (!same) return [`${id}: it has version ${version} (${checksum}, ${crc}), Redis ${stored?.version} (${stored?.crc})`];
      // what never was there has no replica
      return fromMemory || stored === undefined ? [] : [`${id}: it was not answered from memory`];
    });
  }
}
