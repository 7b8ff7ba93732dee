/**
 * The replicas of a store: who gets one, how it is kept fresh, and when it may answer.
 *
 * A replica answers only while its subscription stands and after a version comparison that followed the subscription. What frames do
 * not bring (a gap, a reconnect, a last frame that was lost) is noticed by comparing versions, and fetched from the delta log, or as
 * the whole document where the log does not reach.
 */
import { LRUCache } from 'lru-cache';
import type { Context } from '../core/context.js';
import { ContextError } from '../core/errors.js';
import { decodeFrame, type Frame } from '../core/frame.js';
import type { ContextCommands, VersionFacts } from '../redis/ContextCommands.js';
import type { Deadline } from '../redis/RedisConnection.js';
import type { Subscriptions } from '../redis/Subscriptions.js';
import { AsyncMemoryStore } from './AsyncMemoryStore.js';
import type { ContextReader, Corruption } from './ContextReader.js';
import { replay, stateAt } from './logReplay.js';
import { absent, Replica, type ReplicaState, toContext } from './Replica.js';
import { type ChangeStep, Watcher } from './Watcher.js';

export type ResyncReason = 'gap' | 'reconnect' | 'heartbeat' | 'checksum' | 'overflow';

export interface ReplicaHooks {
  corrupt(corruption: Corruption): void;
  resync(event: { id: string; reason: ResyncReason; from: number; to: number; full: boolean }): void;
  expired(event: { id: string; version: number; at: number; by: string }): void;
}

export interface ReplicaOptions {
  /** Bytes of this process that replicas may take; 0: only watched contexts have one. */
  readonly maxBytes: number;
  /** Time that one catch-up may take, ms. */
  readonly timeoutMs: number;
}

export interface ReplicaCounters {
  hits: number;
  misses: number;
  patchFrames: number;
  fullFrames: number;
  frameBytes: number;
  documentBytes: number;
  resyncs: number;
  checksumFailures: number;
}

/** Ids that were used once lately; a second use earns a replica. */
const ONCE_USED = 10_000;
/** Frames held while a replica catches up; past it the catch-up is done again. */
const WAITING_FRAMES = 256;
/** Contexts in one version comparison. */
const COMPARE_BATCH = 128;
/** More than the log keeps. */
const LOG_LIMIT = 1_024;
/** A frame may be this much later than the reply that tells of its version, ms. */
const IN_FLIGHT_MS = 100;
/** Pause before a watcher asks again after a failure, ms. */
const RETRY_MS = 50;

export class ReplicaSet {
  readonly counters: ReplicaCounters = {
    hits: 0,
    misses: 0,
    patchFrames: 0,
    fullFrames: 0,
    frameBytes: 0,
    documentBytes: 0,
    resyncs: 0,
    checksumFailures: 0,
  };
  readonly #commands: ContextCommands;
  readonly #subscriptions: Subscriptions;
  readonly #reader: ContextReader;
  readonly #hooks: ReplicaHooks;
  readonly #options: ReplicaOptions;
  readonly #store: AsyncMemoryStore;
  /** Replicas that somebody watches: they stay whatever their size. */
  readonly #watched = new Map<string, Replica>();
  readonly #usedOnce = new LRUCache<string, true>({ max: ONCE_USED });
  #closed = false;

  constructor(
    commands: ContextCommands,
    subscriptions: Subscriptions,
    reader: ContextReader,
    options: ReplicaOptions,
    hooks: ReplicaHooks,
  ) {
    this.#commands = commands;
    this.#subscriptions = subscriptions;
    this.#reader = reader;
    this.#options = options;
    this.#hooks = hooks;
    this.#store = new AsyncMemoryStore(options.maxBytes, (replica) => this.#leave(replica));
  }

  /** The answer from memory, or undefined where Redis must be asked. */
  answer(id: string): Promise<Context | null> | undefined {
    const replica = this.#find(id);
    if (replica === undefined || !this.#readable(replica)) {
      this.counters.misses += 1;
      return undefined;
    }
    this.counters.hits += 1;
    return replica.answer;
  }

  /** What a write may build on: the state in memory, where it can be trusted. */
  base(id: string): ReplicaState | undefined {
    const replica = this.#find(id);
    return replica !== undefined && this.#readable(replica) ? replica.state : undefined;
  }

  /** The last state known, whatever its age: a base that Redis compares before it trusts it. */
  lastKnown(id: string): ReplicaState | undefined {
    return this.#find(id)?.state;
  }

  /** An answer although the replica may be behind; marked so where it may. */
  staleAnswer(id: string): Context | null | undefined {
    const replica = this.#find(id);
    if (replica === undefined || !replica.loaded) return undefined;
    const { expiresAt } = replica.state;
    if (expiresAt !== null && this.#commands.connection.clock.judge(expiresAt, performance.now()) !== 'live') return undefined;
    return this.#readable(replica) ? replica.context : toContext(id, replica.state, true);
  }

  /** A read from Redis has seen this: older versions are not served after it, and a second use earns a replica. */
  seen(id: string, state: ReplicaState | null): Context | null {
    const replica = this.#find(id);
    if (replica === undefined) {
      if (state !== null) this.#used(id, state);
      return state === null ? null : toContext(id, state, false);
    }
    if (state === null) {
      // gone in Redis: its frame is on the way, or it was lost
      if (replica.state.value !== undefined && replica.live) this.#suspect(replica);
      return null;
    }
    // a reply may be overtaken by a frame
    if (replica.version > state.version && this.#readable(replica)) return replica.context;
    replica.seenVersion = Math.max(replica.seenVersion, state.version);
    return toContext(id, state, false);
  }

  /** A commit of this process: its replica goes there at once (read your own writes). */
  committed(id: string, state: ReplicaState, step: ChangeStep): void {
    const replica = this.#find(id);
    if (replica === undefined) {
      if (state.value !== undefined) this.#used(id, state);
      return;
    }
    if (replica.version >= state.version) return;
    replica.seenVersion = Math.max(replica.seenVersion, state.version);
    // with versions of others between, the frames bring it there in order
    if (!replica.loaded || replica.version !== state.version - 1 || replica.syncing !== null) return;
    replica.move(state, { ...step, base: replica.state.value });
    this.#store.resize(replica);
  }

  touched(id: string, version: number, expiresAt: number | null): void {
    const replica = this.#find(id);
    if (replica !== undefined && replica.version === version) replica.touch(expiresAt);
  }

  watch(id: string, fromVersion: number | undefined, queue: number, signal: AbortSignal | undefined): Watcher {
    const watcher = new Watcher(
      id,
      {
        missing: (behind) => void this.#catchUpWatcher(behind),
        latest: () => resetStep(this.#watched.get(id)?.state ?? absent(0)),
        overflowed: (from) => this.#resynced(id, 'overflow', from, this.#watched.get(id)?.version ?? from, true),
        ended: (ended) => this.#unwatch(ended),
      },
      queue,
      signal,
    );
    const known = this.#find(id);
    const replica = known ?? new Replica(id);
    if (!this.#watched.has(id)) {
      this.#store.delete(id);
      this.#watched.set(id, replica);
    }
    replica.watchers.add(watcher);
    if (signal?.aborted === true) {
      void watcher.return();
      return watcher;
    }
    // asked for before the subscription, so that what this process writes next comes after it
    void this.#startWatcher(watcher, replica, fromVersion);
    if (known === undefined) void this.#join(replica);
    return watcher;
  }

  /** After a reconnect of the subscriptions, and at every heartbeat: all replicas against Redis. */
  async verifyAll(reason: 'reconnect' | 'heartbeat'): Promise<void> {
    if (reason === 'reconnect') for (const replica of this.#all()) replica.live = false;
    const byShard = new Map<number, Replica[]>();
    for (const replica of this.#all()) {
      const { shard } = this.#commands.keys.shardOf(replica.id);
      const list = byShard.get(shard);
      if (list === undefined) byShard.set(shard, [replica]);
      else list.push(replica);
    }
    for (const [shard, replicas] of byShard) {
      for (let from = 0; from < replicas.length; from += COMPARE_BATCH) {
        if (this.#closed || !this.#subscriptions.up) return;
        await this.#compare(shard, replicas.slice(from, from + COMPARE_BATCH), reason);
      }
    }
  }

  get size(): { count: number; bytes: number; live: number } {
    let live = 0;
    let watchedBytes = 0;
    for (const replica of this.#all()) if (this.#readable(replica)) live += 1;
    for (const replica of this.#watched.values()) watchedBytes += replica.bytes;
    return { count: this.#store.count + this.#watched.size, bytes: this.#store.bytes + watchedBytes, live };
  }

  /** Ends all watchers and forgets everything. */
  close(): void {
    this.#closed = true;
    for (const replica of [...this.#watched.values()]) for (const watcher of [...replica.watchers]) watcher.end();
    this.#watched.clear();
    this.#store.clear();
  }

  #find(id: string): Replica | undefined {
    return (this.#watched.size > 0 ? this.#watched.get(id) : undefined) ?? this.#store.get(id);
  }

  *#all(): Iterable<Replica> {
    yield* this.#watched.values();
    yield* this.#store.values();
  }

  #readable(replica: Replica): boolean {
    if (!replica.live || !this.#subscriptions.up || replica.version < replica.seenVersion) return false;
    const { expiresAt } = replica.state;
    return expiresAt === null || this.#commands.connection.clock.judge(expiresAt, performance.now()) === 'live';
  }

  /** Contexts used once do not earn a subscription. */
  #used(id: string, state: ReplicaState): void {
    if (this.#options.maxBytes === 0 || this.#closed) return;
    if (!this.#usedOnce.has(id)) {
      this.#usedOnce.set(id, true);
      return;
    }
    this.#usedOnce.delete(id);
    const replica = new Replica(id, state);
    if (this.#store.set(replica)) void this.#join(replica);
  }

  /** Subscribes, compares, and only then lets the replica answer. */
  async #join(replica: Replica): Promise<void> {
    const { channel } = this.#commands.keys.of(replica.id);
    try {
      await this.#subscriptions.subscribe(channel, (message) => this.#receive(replica, message));
    } catch {
      // the subscriptions are restored as a whole, and compared then
      return;
    }
    if (this.#subscriptions.up) await this.#sync(replica, null);
  }

  #leave(replica: Replica): void {
    replica.live = false;
    if (this.#watched.get(replica.id) === replica) return;
    this.#subscriptions.unsubscribe(this.#commands.keys.of(replica.id).channel);
  }

  #receive(replica: Replica, message: Buffer): void {
    let frame: Frame;
    try {
      frame = decodeFrame(message);
    } catch (error) {
      this.#bad(replica, 0, 'a frame', error instanceof ContextError ? error.message : String(error), message.length);
      void this.#sync(replica, 'checksum');
      return;
    }
    if (frame.kind === 'patch' || frame.kind === 'full') {
      this.counters[frame.kind === 'patch' ? 'patchFrames' : 'fullFrames'] += 1;
      this.counters.frameBytes += message.length;
      this.counters.documentBytes += frame.length;
    }
    if (replica.syncing !== null) {
      replica.waiting.push(frame);
      if (replica.waiting.length > WAITING_FRAMES) replica.waiting.shift();
      return;
    }
    this.#apply(replica, frame);
  }

  #apply(replica: Replica, frame: Frame): void {
    const outcome = replica.apply(frame);
    if (outcome === 'applied') {
      this.#store.resize(replica);
      if (frame.kind === 'expired') this.#hooks.expired({ id: replica.id, version: frame.version, at: frame.at, by: frame.by });
    } else if (outcome === 'corrupt') {
      this.#bad(
        replica,
        frame.version,
        replica.mismatch?.expected ?? frame.crc,
        replica.mismatch?.found ?? '',
        frame.payload.length,
      );
      void this.#sync(replica, 'checksum');
    } else if (outcome === 'gap') {
      void this.#sync(replica, 'gap');
    }
  }

  #bad(replica: Replica, version: number, expected: string, found: string, bytes: number): void {
    this.counters.checksumFailures += 1;
    this.#hooks.corrupt({ id: replica.id, version, expected, found, bytes, where: 'frame' });
  }

  /** A read found it gone while the replica still has it: asked again if no frame says so in time. */
  #suspect(replica: Replica): void {
    replica.live = false;
    void this.#sync(replica, 'gap');
  }

  #resynced(id: string, reason: ResyncReason, from: number, to: number, full: boolean): void {
    this.counters.resyncs += 1;
    this.#hooks.resync({ id, reason, from, to, full });
  }

  /** Brings a replica to what Redis has; one at a time for each. A reason of null: it was only compared after its subscription. */
  #sync(replica: Replica, reason: ResyncReason | null): Promise<void> {
    replica.live = false;
    replica.syncing ??= this.#syncNow(replica, reason)
      .catch(() => {
        // no connection: the reconnect or the next heartbeat tries again
      })
      .finally(() => {
        replica.syncing = null;
        const waiting = replica.waiting.splice(0);
        for (const frame of waiting) {
          if (replica.syncing === null) this.#apply(replica, frame);
          else replica.waiting.push(frame);
        }
      });
    return replica.syncing;
  }

  async #syncNow(replica: Replica, reason: ResyncReason | null): Promise<void> {
    const deadline = this.#deadline();
    if (!replica.loaded) {
      replica.load(await this.#load(replica.id, deadline));
    } else {
      const { id, state } = replica;
      // in this order: what the log holds is then at least what the facts say
      const [facts, entries] = await Promise.all([
        this.#facts(id, deadline),
        this.#commands.logAfter(id, state.version, LOG_LIMIT, deadline),
      ]);
      const ended = facts === null && entries.length === 0;
      if (facts !== null && matches(state, facts)) {
        if (facts.expiresAt !== replica.state.expiresAt) replica.touch(facts.expiresAt);
      } else if (!(ended && (state.value === undefined || this.#expiring(state)))) {
        const steps = entries.length > 0 ? replay(state, entries) : null;
        const last = steps?.at(-1)?.state;
        if (steps !== null && last !== undefined && (facts === null || last.version > facts.version || matches(last, facts))) {
          for (const { state: next, step } of steps) replica.move(next, step);
          if (reason !== null) this.#resynced(id, reason, state.version, replica.version, false);
        } else {
          await this.#takeWhole(replica, entries.at(-1)?.version, reason, deadline);
        }
      }
    }
    this.#store.resize(replica);
    replica.live = this.#subscriptions.up;
  }

  /** Its time is over, but nobody has taken it out of Redis yet: the `expired` frame is still to come. */
  #expiring(state: ReplicaState): boolean {
    return state.expiresAt !== null && this.#commands.connection.clock.judge(state.expiresAt, performance.now()) !== 'live';
  }

  async #load(id: string, deadline: Deadline): Promise<ReplicaState> {
    const [found, tail] = await Promise.all([this.#reader.read(id, deadline), this.#commands.logTail(id, 1, deadline)]);
    return found ?? absent(tail[0]?.version ?? 0);
  }

  /** The whole document, where the log does not help. */
  async #takeWhole(
    replica: Replica,
    lastVersion: number | undefined,
    reason: ResyncReason | null,
    deadline: Deadline,
  ): Promise<void> {
    const from = replica.version;
    const state = (await this.#reader.read(replica.id, deadline)) ?? absent(lastVersion ?? from);
    replica.move(state, resetStep(state));
    this.#resynced(replica.id, reason ?? 'gap', from, state.version, true);
  }

  async #facts(id: string, deadline: Deadline): Promise<VersionFacts | null> {
    const [facts] = await this.#commands.versions(this.#commands.keys.shardOf(id), [id], deadline);
    return facts ?? null;
  }

  async #compare(shard: number, replicas: readonly Replica[], reason: 'reconnect' | 'heartbeat'): Promise<void> {
    const keys = this.#commands.keys.shards[shard];
    if (keys === undefined) return;
    const before = replicas.map((replica) => replica.state);
    const facts = await this.#commands.versions(
      keys,
      replicas.map((replica) => replica.id),
      this.#deadline(),
    );
    replicas.forEach((replica, index) => {
      const now = facts[index] ?? null;
      const then = before[index];
      if (then === undefined || replica.syncing !== null) return;
      const same = now === null ? then.value === undefined : matches(then, now);
      if (same) {
        if (replica.state === then && now !== null && now.expiresAt !== then.expiresAt) replica.touch(now.expiresAt);
        if (replica.loaded && replica.version >= replica.seenVersion) replica.live = this.#subscriptions.up;
        else if (!replica.live) void this.#sync(replica, reason);
        return;
      }
      if (!replica.live) {
        void this.#sync(replica, reason);
        return;
      }
      // the frame may be on its way: only what still differs a moment later was missed
      setTimeout(() => {
        const moved = now === null ? replica.state.value === undefined : replica.version >= now.version && replica.state !== then;
        if (!moved && !this.#closed && replica.syncing === null) void this.#sync(replica, reason);
      }, IN_FLIGHT_MS).unref();
    });
  }

  async #startWatcher(watcher: Watcher, replica: Replica, fromVersion: number | undefined): Promise<void> {
    const { id } = watcher;
    if (fromVersion !== undefined) {
      watcher.start(fromVersion, false);
    } else if (this.#readable(replica)) {
      watcher.start(replica.version, replica.state.value === undefined);
    } else {
      const start = await this.#untilDone(watcher, () => this.#baseline(id));
      if (start === undefined) return;
      watcher.start(start.version, start.gone);
    }
    await this.#catchUpWatcher(watcher);
  }

  /** Repeats what a lost connection interrupts, as long as the watcher is there. */
  async #untilDone<T>(watcher: Watcher, run: () => Promise<T>): Promise<T | undefined> {
    while (!watcher.ended && !this.#closed) {
      try {
        return await run();
      } catch (error) {
        if (error instanceof ContextError && error.code === 'CORRUPT') return undefined;
        await this.#commands.connection.ready(this.#deadline(), 'watch').catch(() => {});
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
    return undefined;
  }

  /** Version and presence of a context now, absent ones with the version of their tombstone. */
  async #baseline(id: string): Promise<{ version: number; gone: boolean }> {
    const deadline = this.#deadline();
    const [tail, facts] = await Promise.all([this.#commands.logTail(id, 1, deadline), this.#facts(id, deadline)]);
    return { version: facts?.version ?? tail[0]?.version ?? 0, gone: facts === null };
  }

  /** Gives a watcher the steps between its cursor and now, from the log; or a `reset` where the log does not reach. */
  async #catchUpWatcher(watcher: Watcher): Promise<void> {
    const { id, cursor } = watcher;
    const steps = await this.#untilDone(watcher, () => this.#stepsAfter(id, cursor));
    // nothing where the stored document is damaged: that was told, and what follows comes as frames
    watcher.replay(steps ?? []);
  }

  async #stepsAfter(id: string, cursor: number): Promise<readonly ChangeStep[]> {
    const deadline = this.#deadline();
    const [facts, later] = await Promise.all([
      this.#facts(id, deadline),
      this.#commands.logAfter(id, cursor, LOG_LIMIT, deadline),
    ]);
    const [first] = later;
    if (first === undefined) {
      if (facts === null || facts.version === cursor) return [];
    } else {
      const start =
        first.kind === 'patch' ? await this.#stateInLog(id, cursor, deadline) : { ...absent(cursor), crc: first.baseCrc };
      const steps = start === null ? null : replay(start, later);
      if (steps !== null) return steps.map(({ step }) => step);
    }
    const state = (await this.#reader.read(id, deadline)) ?? absent(later.at(-1)?.version ?? cursor);
    return [resetStep(state)];
  }

  async #stateInLog(id: string, version: number, deadline: Deadline): Promise<ReplicaState | null> {
    const replica = this.#find(id);
    if (replica?.loaded === true && replica.version === version) return replica.state;
    return stateAt(version, await this.#commands.logAfter(id, 0, LOG_LIMIT, deadline));
  }

  #unwatch(watcher: Watcher): void {
    const replica = this.#watched.get(watcher.id);
    if (replica === undefined || !replica.watchers.delete(watcher) || replica.watchers.size > 0) return;
    this.#watched.delete(watcher.id);
    if (this.#closed || replica.state.value === undefined || !this.#store.set(replica)) this.#leave(replica);
  }

  #deadline(): Deadline {
    return this.#commands.connection.deadline(this.#options.timeoutMs);
  }
}

const matches = (state: ReplicaState, facts: VersionFacts): boolean =>
  state.value !== undefined && state.version === facts.version && state.crc === facts.crc;

function resetStep(state: ReplicaState): ChangeStep {
  return {
    kind: 'reset',
    version: state.version,
    at: state.at,
    crc: state.crc,
    value: state.value,
    patch: null,
    base: undefined,
  };
}
