/**
 * The replicas of a store: who gets one, how it is kept fresh, and when it may answer.
 *
 * A replica answers only while its subscription stands and after a version comparison that followed the subscription. What frames do
 * not bring is fetched by {@link ReplicaSync}.
 */
import { LRUCache } from 'lru-cache';
import { crc32Hex } from '../core/checksum.js';
import type { Context } from '../core/context.js';
import { ContextError } from '../core/errors.js';
import type { Frame } from '../core/frame.js';
import type { ContextCommands } from '../redis/ContextCommands.js';
import type { Deadline } from '../redis/RedisConnection.js';
import type { Subscriptions } from '../redis/Subscriptions.js';
import { AsyncMemoryStore } from './AsyncMemoryStore.js';
import type { ContextReader, Corruption } from './ContextReader.js';
import { DeltaCache, type DeltaCacheCounters, type Known } from './DeltaCache.js';
import { type OwnCommit, Replica } from './Replica.js';
import { ReplicaCheck } from './ReplicaCheck.js';
import { type CatchUpCounters, ReplicaSync, type Resync } from './ReplicaSync.js';
import { type ChangeStep, type ReplicaState, toContext } from './state.js';
import { Watcher } from './Watcher.js';
import { WatchFeed } from './WatchFeed.js';

export interface ReplicaHooks {
  corrupt(corruption: Corruption): void;
  resync(event: Resync): void;
  expired(event: { id: string; version: number; at: number }): void;
}

export interface ReplicaOptions {
  /** Bytes of this process that replicas may take; 0: only watched contexts have one. */
  readonly maxBytes: number;
  /** A replica answers while its subscription has proven within this time that it delivers, ms. */
  readonly leaseMs: number;
  /** Time that one catch-up may take, ms. */
  readonly timeoutMs: number;
  /** Whether watchers give copies of values instead of the frozen ones. */
  readonly copyValues: boolean;
}

export interface ReplicaCounters {
  hits: number;
  misses: number;
  spliceFrames: number;
  patchFrames: number;
  fullFrames: number;
  frameBytes: number;
  documentBytes: number;
  resyncs: number;
  checksumFailures: number;
}

/** Ids that were used once lately; a second use earns a replica. */
const ONCE_USED = 10_000;
/** Smallest share of the memory for replicas that one is expected to take, bytes: so many ids are remembered as there may be replicas. */
const SMALL_REPLICA = 2_048;
/** Frames held while a replica catches up; past it the catch-up is done again. */
const WAITING_FRAMES = 256;
export class ReplicaSet {
  readonly counters: ReplicaCounters = {
    hits: 0,
    misses: 0,
    spliceFrames: 0,
    patchFrames: 0,
    fullFrames: 0,
    frameBytes: 0,
    documentBytes: 0,
    resyncs: 0,
    checksumFailures: 0,
  };
  readonly #commands: ContextCommands;
  readonly #subscriptions: Subscriptions;
  readonly #sync: ReplicaSync;
  readonly #feed: WatchFeed;
  readonly #check = new ReplicaCheck();
  readonly #reader: ContextReader;
  readonly #deltas: DeltaCache;
  readonly #hooks: ReplicaHooks;
  readonly #options: ReplicaOptions;
  readonly #store: AsyncMemoryStore;
  /** Replicas that somebody watches: they stay whatever their size. */
  readonly #watched = new Map<string, Replica>();
  readonly #usedOnce: LRUCache<string, true>;
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
    this.#options = options;
    this.#usedOnce = new LRUCache({
      max: Math.min(20 * ONCE_USED, Math.max(ONCE_USED, Math.round(options.maxBytes / SMALL_REPLICA))),
    });
    this.#hooks = hooks;
    this.#reader = reader;
    this.#deltas = new DeltaCache(commands, reader);
    this.#sync = new ReplicaSync(commands, subscriptions, reader, options.timeoutMs, {
      resynced: (event) => this.#resynced(event),
      settled: (replica) => this.#settled(replica),
    });
    this.#feed = new WatchFeed(commands, reader, options.timeoutMs, (id) => this.lastKnown(id));
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
    const replica = this.#find(id);
    return replica?.loaded === true && replica.distrusted === null ? replica.state : undefined;
  }

  /** An answer although the replica may be behind; marked so where it may. */
  staleAnswer(id: string): Context | null | undefined {
    const replica = this.#find(id);
    if (replica === undefined || !replica.loaded || replica.distrusted !== null) return undefined;
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
    // a reply may be overtaken by a frame; but where nothing is left of the newer version, versions have begun again
    if (replica.version > state.version && this.#readable(replica)) {
      if (replica.state.value !== undefined) return replica.context;
      this.#suspect(replica);
    }
    replica.seenVersion = Math.max(replica.seenVersion, state.version);
    return toContext(id, state, false);
  }

  /** Before a commit is sent: its frame may come before its reply. The result ends that. */
  committing(id: string, own: () => OwnCommit): () => void {
    const replica = this.#find(id);
    if (replica === undefined) return NOTHING;
    const commit = own();
    replica.own.set(commit.operation, commit);
    return () => {
      replica.own.delete(commit.operation);
    };
  }

  /** Whether a commit of this context is to be told by {@link committed}: one that nobody reads here earns no replica. */
  wants(id: string): boolean {
    if (this.#find(id) !== undefined) return true;
    return this.#usedOnce.has(id);
  }

  /** A commit of this process: its replica goes there at once (read your own writes). */
  committed(id: string, state: ReplicaState, step: ChangeStep): void {
    const replica = this.#find(id);
    if (replica === undefined) {
      if (state.value !== undefined) this.#used(id, state);
      return;
    }
    if (replica.version >= state.version) {
      // versions have begun again: the log that they went on from is gone
      if (replica.loaded && (replica.version > state.version || replica.state.crc !== state.crc)) this.#suspect(replica);
      return;
    }
    replica.seenVersion = Math.max(replica.seenVersion, state.version);
    // with versions of others between, the frames bring it there in order
    if (!replica.loaded || replica.version !== state.version - 1 || replica.syncing !== null) return;
    // an expiry came first: its frame does too
    if (replica.state.expiresAt !== null && replica.state.expiresAt <= state.at) return;
    replica.move(state, { ...step, base: replica.state.value });
    this.#store.resize(replica);
    if (state.value === undefined) this.#forget(replica);
  }

  /** A commit of this process of which only the version is known: older ones are not served after it. */
  wrote(id: string, version: number): void {
    const replica = this.#find(id);
    if (replica !== undefined) replica.seenVersion = Math.max(replica.seenVersion, version);
  }

  /** A frame that leads from what somebody has of a context to the present; null where that is the same. */
  async frameSince(id: string, known: Known, deadline: Deadline): Promise<Buffer | null> {
    const held = this.base(id);
    // who asks may be further than this process is: only Redis can say that versions were lost
    const behind =
      held === undefined || held.version < known.version || (held.version === known.version && held.crc !== known.checksum);
    const present = behind ? await this.#reader.readState(id, deadline) : held;
    return this.#deltas.since(id, known, present, deadline);
  }

  /** What squashing has saved: frames made for who asks for one, and replicas that caught up by the log. */
  get squashCounters(): Readonly<DeltaCacheCounters & CatchUpCounters> {
    return { ...this.#deltas.counters, ...this.#sync.counters };
  }

  /** Brings the replica of a context to what Redis has, where there is one. */
  async catchUp(id: string): Promise<void> {
    const replica = this.#find(id);
    if (replica !== undefined) await this.#sync.run(replica, 'gap');
  }

  /** A commit that was to build on the stored bytes found one of their chunks damaged. */
  damaged(id: string, version: number, chunk: string): void {
    this.counters.checksumFailures += 1;
    this.#hooks.corrupt({
      id,
      version,
      expected: 'its SHA-1',
      found: `chunk ${chunk} with another`,
      bytes: 0,
      offset: null,
      where: 'commit',
    });
  }

  touched(id: string, version: number, expiresAt: number | null): void {
    const replica = this.#find(id);
    if (replica !== undefined && replica.version === version) replica.touch(expiresAt);
  }

  watch(id: string, fromVersion: number | undefined, queue: number, signal: AbortSignal | undefined): Watcher {
    const watcher = new Watcher(
      id,
      {
        missing: (behind) => void this.#feed.catchUp(behind),
        overflowed: (from) =>
          this.#resynced({ id, reason: 'overflow', from, to: this.#watched.get(id)?.version ?? from, full: true }),
        ended: (ended) => this.#unwatch(ended),
      },
      queue,
      this.#options.copyValues,
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
    void this.#feed.start(watcher, fromVersion, this.#readable(replica) ? replica.state : undefined);
    if (known === undefined) void this.#join(replica);
    return watcher;
  }

  /** Whether somebody watches it here. */
  watching(id: string): boolean {
    return this.#watched.has(id);
  }

  /** After a reconnect of the subscriptions, and at every heartbeat: all replicas against Redis. */
  verifyAll(reason: 'reconnect' | 'heartbeat'): Promise<void> {
    return this.#sync.compare([...this.#all()], reason);
  }

  /**
   * At every heartbeat: whether one replica's value, in turns, still has its checksum. One that has not is told, silent from then on, and
   * read anew.
   */
  async checkOne(): Promise<void> {
    const bad = this.#check.next(this.#all());
    if (bad === null) return;
    const { replica, expected, found } = bad;
    const { version, bytes } = replica;
    await this.#sync.reload(replica, (whole) => {
      // what is stored is another text than is made of its value, as another program wrote it: that says nothing
      if (whole.value !== undefined && crc32Hex(JSON.stringify(whole.value)) !== whole.crc) {
        this.#check.leave(replica);
        return whole.crc !== expected;
      }
      this.counters.checksumFailures += 1;
      this.#hooks.corrupt({ id: replica.id, version, expected, found, bytes, offset: null, where: 'replica' });
      return true;
    });
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
    this.#sync.close();
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
    if (!replica.live || replica.version < replica.seenVersion) return false;
    if (!this.#subscriptions.provenWithin(this.#options.leaseMs)) return false;
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
    if (this.#subscriptions.up) await this.#sync.run(replica, null);
  }

  /** What is gone and not watched needs no replica: when it is created again its versions may begin again, too. */
  #forget(replica: Replica): void {
    if (replica.watchers.size > 0 || this.#store.get(replica.id) !== replica) return;
    this.#store.delete(replica.id);
    this.#leave(replica);
  }

  #leave(replica: Replica): void {
    replica.live = false;
    if (this.#watched.get(replica.id) === replica) return;
    this.#subscriptions.unsubscribe(this.#commands.keys.of(replica.id).channel);
  }

  #receive(replica: Replica, message: Buffer): void {
    let frame: Frame | null;
    try {
      frame = replica.frames.read(message);
    } catch (error) {
      this.#bad(replica, 0, 'a frame', error instanceof ContextError ? error.message : String(error), message.length);
      void this.#sync.run(replica, 'checksum');
      return;
    }
    this.counters.frameBytes += message.length;
    if (frame === null) return;
    if (frame.kind === 'splice' || frame.kind === 'patch' || frame.kind === 'full') {
      this.counters[`${frame.kind}Frames`] += 1;
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
      if (frame.kind === 'expired') this.#hooks.expired({ id: replica.id, version: frame.version, at: frame.at });
      if (replica.state.value === undefined) this.#forget(replica);
    } else if (outcome === 'corrupt') {
      this.#bad(
        replica,
        frame.version,
        replica.mismatch?.expected ?? frame.crc,
        replica.mismatch?.found ?? '',
        frame.payload.length,
      );
      void this.#sync.run(replica, 'checksum');
    } else if (outcome === 'gap') {
      void this.#sync.run(replica, 'gap');
    }
  }

  #bad(replica: Replica, version: number, expected: string, found: string, bytes: number): void {
    this.counters.checksumFailures += 1;
    this.#hooks.corrupt({ id: replica.id, version, expected, found, bytes, offset: null, where: 'frame' });
  }

  /** A read found it gone while the replica still has it: asked again if no frame says so in time. */
  #suspect(replica: Replica): void {
    replica.live = false;
    void this.#sync.run(replica, 'gap');
  }

  #resynced(event: Resync): void {
    this.counters.resyncs += 1;
    this.#hooks.resync(event);
  }

  /** After a catch-up: the frames that came meanwhile. */
  #settled(replica: Replica): void {
    this.#store.resize(replica);
    if (replica.loaded && replica.state.value === undefined) this.#forget(replica);
    for (const frame of replica.waiting.splice(0)) {
      if (replica.syncing === null) this.#apply(replica, frame);
      else replica.waiting.push(frame);
    }
  }

  #unwatch(watcher: Watcher): void {
    const replica = this.#watched.get(watcher.id);
    if (replica === undefined || !replica.watchers.delete(watcher) || replica.watchers.size > 0) return;
    this.#watched.delete(watcher.id);
    if (this.#closed || replica.state.value === undefined || !this.#store.set(replica)) this.#leave(replica);
  }
}

const NOTHING = (): void => {};
