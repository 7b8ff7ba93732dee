/**
 * Brings replicas to what Redis has: from the delta log, or with the whole document where the log does not reach. What frames did not
 * bring is noticed by comparing versions, after a reconnect and at every heartbeat.
 */
import type { ContextCommands, VersionFacts } from '../redis/ContextCommands.js';
import type { Subscriptions } from '../redis/Subscriptions.js';
import type { ContextReader } from './ContextReader.js';
import { lastStep, replay, squash } from './logReplay.js';
import type { Replica } from './Replica.js';
import { absent, type ReplicaState, resetStep } from './state.js';

export type ResyncReason = 'gap' | 'reconnect' | 'heartbeat' | 'checksum' | 'overflow';

export interface Resync {
  readonly id: string;
  readonly reason: ResyncReason;
  readonly from: number;
  readonly to: number;
  /** The whole document was fetched. */
  readonly full: boolean;
}

export interface CatchUpCounters {
  /** Versions that replicas caught up by the log, and the steps in which they did. */
  caughtUp: number;
  steps: number;
}

export interface SyncHooks {
  resynced(event: Resync): void;
  /** The replica is up to date, and its document may have another length. */
  settled(replica: Replica): void;
}

/** Replicas compared in one heartbeat: some 10 ms of Redis. Where there are more, they take turns. */
const COMPARE_MOST = 5_000;
/** Contexts in one version comparison. */
const COMPARE_BATCH = 128;
/** More entries than a log keeps. */
export const LOG_LIMIT = 1_024;
/** A frame may be this much later than the reply that tells of its version, ms. */
const IN_FLIGHT_MS = 100;

export class ReplicaSync {
  readonly counters: CatchUpCounters = { caughtUp: 0, steps: 0 };
  readonly #commands: ContextCommands;
  readonly #subscriptions: Subscriptions;
  readonly #reader: ContextReader;
  readonly #timeoutMs: number;
  readonly #hooks: SyncHooks;
  #turnAt = 0;
  #closed = false;
  /** Of the subscriptions: what was read before they were made anew says nothing of what was published in between. */
  #generation = 0;

  constructor(
    commands: ContextCommands,
    subscriptions: Subscriptions,
    reader: ContextReader,
    timeoutMs: number,
    hooks: SyncHooks,
  ) {
    this.#commands = commands;
    this.#subscriptions = subscriptions;
    this.#reader = reader;
    this.#timeoutMs = timeoutMs;
    this.#hooks = hooks;
  }

  close(): void {
    this.#closed = true;
  }

  /** Brings one replica up to date, one run at a time for each. A reason of null: it is compared for the first time. */
  run(replica: Replica, reason: ResyncReason | null): Promise<void> {
    replica.live = false;
    replica.syncing ??= this.#catchUp(replica, reason)
      .catch(() => {
        // no connection, or damage that was told: the reconnect or the next heartbeat tries again
      })
      .finally(() => {
        replica.syncing = null;
        this.#hooks.settled(replica);
      });
    return replica.syncing;
  }

  /**
   * Gives a replica its document anew, although its version and checksum are right: its value is not. It answers nothing until then, however
   * often that fails. `takes`: whether what Redis has is to take its place.
   */
  reload(replica: Replica, takes: (whole: ReplicaState) => boolean): Promise<void> {
    replica.distrusted = takes;
    return this.run(replica, 'checksum');
  }

  /** Compares replicas with Redis, and catches up those that differ. */
  async compare(all: readonly Replica[], reason: 'reconnect' | 'heartbeat'): Promise<void> {
    const replicas = reason === 'reconnect' ? all : this.#turn(all);
    if (reason === 'reconnect') this.#generation += 1;
    const byShard = new Map<number, Replica[]>();
    for (const replica of replicas) {
      if (reason === 'reconnect') replica.live = false;
      const { shard } = this.#commands.keys.shardOf(replica.id);
      const list = byShard.get(shard);
      if (list === undefined) byShard.set(shard, [replica]);
      else list.push(replica);
    }
    for (const [shard, list] of byShard) {
      for (let from = 0; from < list.length; from += COMPARE_BATCH) {
        if (this.#closed || !this.#subscriptions.up) return;
        await this.#compareBatch(shard, list.slice(from, from + COMPARE_BATCH), reason);
      }
    }
  }

  /** The next {@link COMPARE_MOST}, and all that are not in good health. */
  #turn(all: readonly Replica[]): readonly Replica[] {
    if (all.length <= COMPARE_MOST) return all;
    const from = this.#turnAt % all.length;
    this.#turnAt = from + COMPARE_MOST;
    return all.filter((replica, index) => !replica.live || (index - from + all.length) % all.length < COMPARE_MOST);
  }

  async #compareBatch(shard: number, replicas: readonly Replica[], reason: 'reconnect' | 'heartbeat'): Promise<void> {
    const keys = this.#commands.keys.shards[shard];
    if (keys === undefined) return;
    const generation = this.#generation;
    const before = replicas.map((replica) => replica.state);
    const ids = replicas.map(({ id }) => id);
    const facts = await this.#commands.versions(keys, ids, this.#commands.connection.deadline(this.#timeoutMs));
    if (generation !== this.#generation) return;
    replicas.forEach((replica, index) => {
      const then = before[index];
      if (then !== undefined && replica.syncing === null) this.#judge(replica, then, facts[index] ?? null, reason);
    });
  }

  #judge(replica: Replica, then: ReplicaState, now: VersionFacts | null, reason: 'reconnect' | 'heartbeat'): void {
    const same = now === null ? then.value === undefined : matches(then, now);
    // what was created and removed again in between shows only in the log
    const unseen = now === null && replica.watchers.size > 0;
    const trusted = replica.loaded && replica.distrusted === null;
    if (same && !unseen && trusted && replica.version >= replica.seenVersion) {
      if (replica.state === then && now !== null && now.expiresAt !== then.expiresAt) replica.touch(now.expiresAt);
      replica.live = this.#subscriptions.up;
      return;
    }
    if (!replica.live || (same && unseen)) {
      void this.run(replica, reason);
      return;
    }
    // the frame may be on its way: only what still differs a moment later was missed
    setTimeout(() => {
      const moved = now === null ? replica.state.value === undefined : replica.version >= now.version && replica.state !== then;
      if (!moved && !this.#closed && replica.syncing === null) void this.run(replica, reason);
    }, IN_FLIGHT_MS).unref();
  }

  async #catchUp(replica: Replica, reason: ResyncReason | null): Promise<void> {
    let generation: number;
    do {
      generation = this.#generation;
      await this.#fetch(replica, reason);
    } while (generation !== this.#generation && !this.#closed);
    replica.live = replica.loaded && this.#subscriptions.up && !this.#closed;
  }

  async #fetch(replica: Replica, reason: ResyncReason | null): Promise<void> {
    const deadline = this.#commands.connection.deadline(this.#timeoutMs);
    const { id, state, distrusted, seenVersion: seenBefore } = replica;
    if (distrusted !== null) {
      const whole = await this.#reader.readState(id, deadline);
      replica.distrusted = null;
      if (!distrusted(whole)) return;
      replica.move(whole, resetStep(whole));
      this.#hooks.resynced({ id, reason: 'checksum', from: state.version, to: whole.version, full: true });
      return;
    }
    if (!replica.loaded) {
      const [found, [last]] = await Promise.all([this.#reader.read(id, deadline), this.#commands.logTail(id, 1, deadline)]);
      // over, but not taken out of Redis yet: loaded afterwards, so that watchers are told of it
      if (found === null && (last?.kind === 'splice' || last?.kind === 'patch' || last?.kind === 'full')) return;
      replica.load(found ?? absent(last?.version ?? 0));
    } else {
      // watchers are told of each version, whatever that takes
      const each = replica.watchers.size > 0;
      const { facts, entries: found } = await this.#commands.catchUp(id, state.version, LOG_LIMIT, each, deadline);
      const entries = found ?? [];
      const ended = facts === null && entries.length === 0;
      if (facts !== null && matches(state, facts)) {
        // Redis itself is behind what was seen of it: commits were lost, and what came before them counts again
        if (replica.seenVersion === seenBefore && seenBefore > state.version) replica.seenVersion = state.version;
        if (facts.expiresAt !== replica.state.expiresAt) replica.touch(facts.expiresAt);
      } else if (!(ended && (state.value === undefined || this.#expiring(state)))) {
        const { steps, rest } = each ? replay(state, entries) : squash(state, entries);
        const last = steps.at(-1)?.state ?? state;
        const reached =
          rest.length === 0 && steps.length > 0 && (facts === null || last.version > facts.version || matches(last, facts));
        const whole = reached ? null : await this.#reader.readState(id, deadline);
        this.counters.caughtUp += entries.length - rest.length;
        this.counters.steps += steps.length;
        for (const { state: next, step } of steps) replica.move(next, step);
        if (whole !== null) replica.move(whole, lastStep(last, rest, whole));
        if (whole !== null || reason !== null) {
          this.#hooks.resynced({ id, reason: reason ?? 'gap', from: state.version, to: replica.version, full: whole !== null });
        }
      }
    }
  }

  /** Its time is over, but nobody has taken it out of Redis yet: the `expired` frame is still to come. */
  #expiring(state: ReplicaState): boolean {
    return state.expiresAt !== null && this.#commands.connection.clock.judge(state.expiresAt, performance.now()) !== 'live';
  }
}

const matches = (state: ReplicaState, facts: VersionFacts): boolean =>
  state.value !== undefined && state.version === facts.version && state.crc === facts.crc;
