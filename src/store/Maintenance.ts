/**
 * What background work may ask of a store: sweep, scrub, reconcile, repair. Each is made of steps that block Redis for a few milliseconds at
 * most and are safe to repeat, so work that is killed anywhere is simply begun again. It has no schedule and no rate of its own: who pulls
 * the steps decides when the next one runs (`queues/`).
 */
import { isContextError } from '../core/errors.js';
import type { ContextCommands } from '../redis/ContextCommands.js';
import { queuePrefix, type ShardKeys } from '../redis/keys.js';
import { type Damage, type Fixes, MaintenanceCommands } from '../redis/MaintenanceCommands.js';
import { QueueConnection } from '../redis/queueClient.js';
import type { Deadline, RedisTarget } from '../redis/RedisConnection.js';
import { partName } from '../redis/TransactionCommands.js';
import type { IntentSettler } from '../transactions/IntentSettler.js';

export type { Damage, Fixes, QueueConnection };

export interface WorkOptions {
  /** Ends the work after the step that runs. */
  readonly signal?: AbortSignal;
}

/** By what damage was found: it is in the event and the metric. */
export type FoundBy = 'sweep' | 'scrub' | 'reconcile';

export interface RepairOptions extends WorkOptions {
  /** @defaultValue 'scrub' */
  readonly where?: FoundBy;
}

export interface SweepRound {
  readonly removed: number;
  /** Contexts whose seal is wrong: they were left as they are. Each is told once a minute, in whatever process. */
  readonly damaged: readonly string[];
  /** Earliest expiry that is left but for those, ms by Redis's clock; null where nothing expires. */
  readonly nextAt: number | null;
  /** Until then, ms, judged by Redis's clock; 0 where it has passed. */
  readonly waitMs: number | null;
  /** There is more that has expired already. */
  readonly more: boolean;
}

/** Where a pass can be taken up: what lies before it was done. */
export interface Position {
  readonly shard: number;
  /** As Redis gave it; '0' is the beginning. */
  readonly cursor: string;
}

export interface ScrubStep {
  readonly position: Position;
  /** Contexts finished in this step. */
  readonly checked: number;
  /** Bytes hashed. */
  readonly bytes: number;
  /** Contexts finished that are in quarantine: known damage. */
  readonly quarantined: number;
  readonly damaged: readonly Damage[];
}

export interface ReconcileStep {
  readonly shard: number;
  /** Contexts and remains of contexts looked at. */
  readonly checked: number;
  readonly fixed: Partial<Fixes>;
  /** Contexts that vanished without having expired, their logs left. */
  readonly lost: readonly string[];
  /** Contexts whose seal is wrong. */
  readonly damaged: readonly string[];
  /** Totals that could not be judged because accounts changed meanwhile; the next pass tries again. */
  readonly unsettled: number;
}

export interface QueueSettings {
  readonly sweepEveryMs: number;
  readonly scrubEveryMs: number;
  /** Bytes a second. */
  readonly scrubRate: number;
  readonly reconcileEveryMs: number;
}

interface Parts {
  readonly commands: ContextCommands;
  readonly redis: RedisTarget;
  readonly timeoutMs: number;
  readonly queues: QueueSettings;
  /** Heals one context, or rejects. */
  readonly repair: (id: string, where: FoundBy, deadline: Deadline) => Promise<unknown>;
  /** A context that vanished could not be rebuilt. */
  readonly lost: (id: string, error?: unknown) => void;
  readonly expired: (expired: { readonly id: string; readonly version: number; readonly lateMs: number }) => void;
  /** Ends transactions that nobody goes on with. */
  readonly settler: IntentSettler;
}

/** Calls of the sweep a shard and round. */
const EXPIRE_CALLS = 40;
/** Contexts given to one call of the scrub, and bytes hashed by it: some 0.3 ms of Redis, so that a commit beside it hardly waits. */
const SCRUB_BATCH = 50;
const SCRUB_BYTES = 128 * 1024;
/** Calls for one context, after which it is left to the next pass: it changes all the time, and each commit verifies it. */
const SCRUB_TRIES = 512;
const RECONCILE_BATCH = 25;
const SCAN_KEYS = 1_000;
/** Accounts summed inside one script, and copies measured in one: some 3 ms of Redis. */
const SUM_HERE = 5_000;
const COPIES = 2_000;
const SUM_PAGE = 2_000;
const SUM_TRIES = 3;

export class Maintenance {
  readonly #parts: Parts;
  readonly #commands: MaintenanceCommands;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#commands = new MaintenanceCommands(parts.commands);
  }

  get namespace(): string {
    return this.#parts.commands.keys.namespace;
  }

  get instanceId(): string {
    return this.#parts.commands.settings.instanceId;
  }

  get queues(): QueueSettings {
    return this.#parts.queues;
  }

  /** What the keys of BullMQ begin with. */
  get queuePrefix(): string {
    return queuePrefix(this.namespace);
  }

  /** A connection for BullMQ, which its caller ends. */
  queueConnection(): QueueConnection {
    return new QueueConnection(this.#parts.redis, `lukhas-context:${this.namespace}:${this.instanceId}:queues`);
  }

  /** Redis's time, ms since the epoch: the clock of this process may be wrong. */
  now(): Promise<number> {
    return this.#commands.now(this.#deadline());
  }

  /** One bounded round over all shards. What it takes out is told by `context:expired`. */
  async sweep(options: WorkOptions = {}): Promise<SweepRound> {
    const rounds = await Promise.all(this.#commands.shards.map((shard) => this.#sweepShard(shard, options)));
    const next = rounds.flatMap(({ nextAt }) => (nextAt === null ? [] : [nextAt]));
    const nextAt = next.length === 0 ? null : Math.min(...next);
    const now = this.#parts.commands.connection.clock.earliest(performance.now());
    return {
      removed: rounds.reduce((sum, { removed }) => sum + removed, 0),
      damaged: rounds.flatMap(({ damaged }) => damaged),
      nextAt,
      waitMs: nextAt === null ? null : Math.max(0, nextAt - now),
      more: rounds.some(({ more }) => more),
    };
  }

  async #sweepShard(shard: ShardKeys, options: WorkOptions) {
    // what they hold cannot expire
    const now = Math.floor(this.#parts.commands.connection.clock.earliest(performance.now()));
    await this.#parts.settler.recover(shard, now, () => this.#deadline());
    const found = { removed: 0, damaged: [] as string[], nextAt: null as number | null, more: true };
    let rank = 0;
    for (let call = 0; call < EXPIRE_CALLS && found.more && options.signal?.aborted !== true; call += 1) {
      const reply = await this.#parts.commands.expire(shard, rank, this.#deadline());
      for (const one of reply.expired) this.#parts.expired(one);
      found.removed += reply.expired.length;
      found.damaged.push(...reply.damaged);
      ({ nextAt: found.nextAt, more: found.more, rank } = reply);
    }
    return found;
  }

  /** Contexts that a scrub will look at. */
  async count(): Promise<number> {
    const counts = await Promise.all(this.#commands.shards.map((shard) => this.#commands.count(shard, this.#deadline())));
    return counts.reduce((sum, count) => sum + count, 0);
  }

  /**
   * Verifies data at rest, from a position on or from the beginning; each step is one call that hashes about 128 KB, or `maxBytes` where that
   * is less. A context that is there all the while is looked at; one may be looked at twice.
   */
  async *scrub(
    options: WorkOptions & { readonly from?: Position | null; readonly maxBytes?: number } = {},
  ): AsyncGenerator<ScrubStep> {
    const { from, signal } = options;
    const maxBytes = Math.max(1, Math.min(SCRUB_BYTES, options.maxBytes ?? SCRUB_BYTES));
    for (const shard of this.#commands.shards) {
      if (shard.shard < (from?.shard ?? 0)) continue;
      let cursor = shard.shard === from?.shard ? from.cursor : '0';
      do {
        if (signal?.aborted === true) return;
        const page = await this.#commands.members(shard, 'use', cursor, SCRUB_BATCH, this.#deadline());
        for (let at = 0; at < page.ids.length; at += SCRUB_BATCH)
          yield* this.#scrubIds(shard, page.ids.slice(at, at + SCRUB_BATCH), { shard: shard.shard, cursor }, maxBytes, options);
        cursor = page.cursor;
      } while (cursor !== '0');
    }
  }

  async *#scrubIds(
    shard: ShardKeys,
    ids: readonly string[],
    position: Position,
    maxBytes: number,
    options: WorkOptions,
  ): AsyncGenerator<ScrubStep> {
    const sealed = await this.#commands.sealed(this.#deadline());
    let [left, place, tries] = [ids, '-', 0];
    while (left.length > 0 && options.signal?.aborted !== true) {
      const step = await this.#commands.scrub(shard, left, { maxBytes, place, sealed }, this.#deadline());
      tries = step.left.length === left.length ? tries + 1 : 0;
      [left, place] = tries < SCRUB_TRIES ? [step.left, step.place] : [step.left.slice(1), '-'];
      yield { position, checked: step.checked, bytes: step.bytes, quarantined: step.quarantined, damaged: step.damaged };
    }
  }

  /** Whether nothing is wrong with a context, as a scrub of it alone finds. */
  async sound(id: string, options: WorkOptions = {}): Promise<boolean> {
    const shard = this.#parts.commands.keys.shardOf(id);
    for await (const { damaged, quarantined } of this.#scrubIds(shard, [id], { shard: 0, cursor: '0' }, SCRUB_BYTES, options))
      if (damaged.length > 0 || quarantined > 0) return false;
    return options.signal?.aborted !== true;
  }

  /** Has a damaged context repaired; whether nothing is wrong with it afterwards. */
  async repair(id: string, options: RepairOptions = {}): Promise<boolean> {
    const { signal, where = 'scrub' } = options;
    try {
      await this.#parts.repair(id, where, this.#parts.commands.connection.deadline(this.#parts.timeoutMs, signal));
    } catch (error) {
      // that it could not be repaired shows below
      if (!isContextError(error) || error.code !== 'CORRUPT') throw error;
    }
    return this.sound(id, options);
  }

  /**
   * Has a context that vanished rebuilt from its log and checkpoints, or from another instance; whether it is there again. It is told as lost
   * where it is not, and where that could not be found out: no other pass comes upon it again. So nothing but its time ends this.
   */
  async recover(id: string): Promise<boolean> {
    try {
      const sound = await this.repair(id, { where: 'reconcile' });
      const facts = await this.#parts.commands.versionOf(id, this.#deadline());
      const there = facts !== null && facts.lost !== true;
      // where a stub stands for it now, the repair has told so
      if (!there) this.#parts.lost(id);
      return there && sound;
    } catch (error) {
      this.#parts.lost(id, error);
      throw error;
    }
  }

  /**
   * Holds indexes, accounts and remains against reality, and mends them: first what the indexes know, then what only its keys tell of, and
   * the totals of each shard last.
   */
  async *reconcile(options: WorkOptions = {}): AsyncGenerator<ReconcileStep> {
    const sealed = await this.#commands.sealed(this.#deadline());
    const ended = (): boolean => options.signal?.aborted === true;
    for (const shard of this.#commands.shards) {
      for (const index of ['use', 'size', 'exp'] as const) {
        let cursor = '0';
        do {
          if (ended()) return;
          const page = await this.#commands.members(shard, index, cursor, RECONCILE_BATCH, this.#deadline());
          const ids = index === 'use' ? page.ids : await this.#commands.unindexed(shard, page.ids, this.#deadline());
          yield* this.#reconcileIds(shard, ids, sealed, options);
          cursor = page.cursor;
        } while (cursor !== '0');
      }
    }
    const before = await Promise.all(this.#commands.shards.map((shard) => this.#commands.totalsOf(shard, this.#deadline())));
    const copies = this.#commands.shards.map(() => ({ checkpoints: new Set<string>(), quarantined: new Set<string>() }));
    let cursor = '0';
    do {
      if (ended()) return;
      const page = await this.#commands.keys(cursor, SCAN_KEYS, this.#deadline());
      const ids = this.#commands.shards.map(() => ({ remains: new Set<string>(), aside: new Set<string>() }));
      for (const { shard, kind, id, key } of page.found) {
        if (kind === 'o') ids[shard]?.aside.add(id);
        else if ('clkjq'.includes(kind)) ids[shard]?.remains.add(id);
        if (kind === 't') await this.#endTransaction(shard, id);
        if (kind === 'k' || kind === 'j') copies[shard]?.checkpoints.add(key);
        if (kind === 'q') copies[shard]?.quarantined.add(key);
      }
      for (const shard of this.#commands.shards) {
        const { remains = [], aside = [] } = ids[shard.shard] ?? {};
        const unindexed = await this.#commands.unindexed(shard, [...remains], this.#deadline());
        yield* this.#reconcileIds(shard, [...new Set([...unindexed, ...aside])], sealed, options);
      }
      cursor = page.cursor;
    } while (cursor !== '0');
    for (const shard of this.#commands.shards) {
      if (ended()) return;
      yield await this.#reconcileTotals(shard, before[shard.shard] ?? [], copies[shard.shard]);
    }
  }

  /** A record that the list of open ones may have lost. */
  async #endTransaction(shard: number, name: string): Promise<void> {
    const part = partName(name);
    const keys = this.#commands.shards[shard];
    if (part !== null && keys !== undefined) await this.#parts.settler.tryRecover({ ...part, shard: keys }, this.#deadline());
  }

  async *#reconcileIds(
    shard: ShardKeys,
    ids: readonly string[],
    sealed: boolean,
    options: WorkOptions,
  ): AsyncGenerator<ReconcileStep> {
    for (let at = 0; at < ids.length && options.signal?.aborted !== true; at += RECONCILE_BATCH) {
      const batch = ids.slice(at, at + RECONCILE_BATCH);
      const { fixed, lost, damaged } = await this.#commands.reconcile(shard, batch, sealed, this.#deadline());
      yield { shard: shard.shard, checked: batch.length, fixed, lost, damaged, unsettled: 0 };
    }
  }

  async #reconcileTotals(
    shard: ShardKeys,
    scanned: readonly string[],
    copies: { readonly checkpoints: Set<string>; readonly quarantined: Set<string> } | undefined,
  ): Promise<ReconcileStep> {
    const given = copies !== undefined && copies.checkpoints.size + copies.quarantined.size <= COPIES ? copies : null;
    let [mended, unsettled] = [0, 0];
    for (let tries = 0; tries < SUM_TRIES; tries += 1) {
      const now = await this.#commands.totalsOf(shard, this.#deadline());
      const large = (await this.#commands.count(shard, this.#deadline())) > SUM_HERE;
      const totals = await this.#commands.totals(
        shard,
        {
          // bytes and contexts as they were before they were summed, the others as they were before their keys were looked for
          before: [...now.slice(0, 2), ...scanned.slice(2)],
          outside: large ? await this.#sum(shard) : null,
          sumHere: SUM_HERE,
          checkpoints: given === null ? null : [...given.checkpoints],
          quarantined: given === null ? [] : [...given.quarantined],
        },
        this.#deadline(),
      );
      mended += totals.mended;
      unsettled = totals.unsettled;
      if (unsettled === 0 || !large) break;
    }
    return { shard: shard.shard, checked: 0, fixed: { totals: mended }, lost: [], damaged: [], unsettled };
  }

  async #sum(shard: ShardKeys): Promise<{ bytes: number; contexts: number }> {
    const sum = { bytes: 0, contexts: 0 };
    for (let from = 0; ; from += SUM_PAGE) {
      const page = await this.#commands.sumOf(shard, from, from + SUM_PAGE - 1, this.#deadline());
      sum.bytes += page.bytes;
      sum.contexts += page.contexts;
      if (page.contexts < SUM_PAGE) return sum;
    }
  }

  /** A step is finished once it was begun: the signal ends the work between two. */
  #deadline(): Deadline {
    return this.#parts.commands.connection.deadline(this.#parts.timeoutMs);
  }
}
