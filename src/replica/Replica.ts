/**
 * One context in this process's memory, and the rule by which it moves: a frame applies only where its base version and base checksum
 * are both what the replica holds (after a failover that lost commits the same version number can come back with other content).
 * No I/O: what is missing is fetched by {@link ReplicaSet}.
 */
import type { Context } from '../core/context.js';
import { type Frame, FrameReader } from '../core/frame.js';
import type { JsonDocument } from '../core/JsonDocument.js';
import type { Patch } from '../core/patch.js';
import { nextState } from './nextState.js';
import { absent, type ChangeStep, type ReplicaState, resetStep, toContext } from './state.js';
import type { Watcher } from './Watcher.js';

/** A commit of this process that is on its way: what its frame brings is here already. */
export interface OwnCommit {
  readonly operation: string;
  readonly crc: string;
  readonly document: JsonDocument;
  readonly patch: Patch | null;
}

export type FrameOutcome = 'applied' | 'ignored' | 'gap' | 'corrupt';

export class Replica {
  readonly id: string;
  readonly watchers = new Set<Watcher>();
  /** True after a version comparison that followed the subscription, until the subscription or a frame is missed. */
  live = false;
  /** A read or a commit of this process has seen this version: an older one is not served any more. */
  seenVersion = 0;
  /** Set while it catches up; frames that come meanwhile wait in `waiting`. */
  syncing: Promise<void> | null = null;
  readonly waiting: Frame[] = [];
  /** The turn in which its value was last compared with its checksum. */
  checkedIn = 0;
  /** Set where its value is not that of its checksum, until it is read anew: whether what is read then is to take its place. */
  distrusted: ((whole: ReplicaState) => boolean) | null = null;
  readonly frames = new FrameReader();
  /** Own commits under way, by operation: their frames are neither parsed nor applied. */
  readonly own = new Map<string, OwnCommit>();
  /** Length that the memory store last accounted, bytes. */
  accountedBytes = 0;
  /** What the last frame that failed its checksum had and should have had. */
  mismatch: { readonly expected: string; readonly found: string } | null = null;
  #state: ReplicaState;
  #answer: Promise<Context | null> | null = null;

  #loaded: boolean;

  /** Without a state it is loaded later. */
  constructor(id: string, state?: ReplicaState) {
    this.id = id;
    this.#loaded = state !== undefined;
    this.#state = state ?? absent(0);
    this.seenVersion = this.#state.version;
  }

  get loaded(): boolean {
    return this.#loaded;
  }

  /** The first state it has; watchers that were there before fetch for themselves what led to it. */
  load(state: ReplicaState): void {
    this.#loaded = true;
    this.#state = state;
    this.#answer = null;
    this.seenVersion = Math.max(this.seenVersion, state.version);
    for (const watcher of this.watchers) watcher.reach(state.version, state.value === undefined);
  }

  get state(): ReplicaState {
    return this.#state;
  }

  get version(): number {
    return this.#state.version;
  }

  get bytes(): number {
    return this.#state.bytes;
  }

  /** The context as a reader gets it; the same object until it changes. */
  get context(): Context | null {
    return toContext(this.id, this.#state, false);
  }

  /** {@link context} as a promise that is made once a version: a read that hits allocates nothing. */
  get answer(): Promise<Context | null> {
    this.#answer ??= Promise.resolve(this.context);
    return this.#answer;
  }

  /** Moves to another state, as one step or as a jump, and tells the watchers. */
  move(state: ReplicaState, step: ChangeStep): void {
    const told = step.kind === 'reset' && state.version > this.#state.version ? { ...step, forward: true } : step;
    this.#state = state;
    this.#answer = null;
    this.seenVersion = told.kind === 'reset' && told.forward !== true ? state.version : Math.max(this.seenVersion, state.version);
    for (const watcher of this.watchers) watcher.offer(told);
  }

  /** Another expiry of the same version. */
  touch(expiresAt: number | null): void {
    this.#state = { ...this.#state, expiresAt };
    this.#answer = null;
  }

  apply(frame: Frame): FrameOutcome {
    if (this.distrusted !== null) return 'gap';
    const { version, crc } = this.#state;
    if (frame.kind === 'touch') {
      if (frame.version === version && frame.crc === crc) this.touch(frame.expiresAt);
      return 'ignored';
    }
    // a first version after a last one that left nothing: versions have begun again
    if (frame.version < version)
      return this.#state.value === undefined && frame.kind === 'full' && frame.baseCrc === '' ? 'gap' : 'ignored';
    if (frame.version === version) {
      if (frame.kind !== 'expired') return frame.crc === crc ? 'ignored' : 'gap';
      if (this.#state.value === undefined) return 'ignored';
    } else if (frame.kind === 'expired') {
      return 'gap';
    }
    // several versions in one: the header of protocol 2 has a check, so what it says of its base can be believed
    const several = frame.version > version + 1;
    if (frame.baseVersion !== version || (several && frame.protocol !== 2)) return 'gap';
    const next = this.#ownState(frame) ?? nextState(this.#state, frame);
    if (typeof next === 'string') return next;
    if ('expected' in next) {
      this.mismatch = next;
      return 'corrupt';
    }
    this.move(next.state, several ? resetStep(next.state) : next.step);
    return 'applied';
  }

  /** The state that this process's own commit leads to, where the frame is that commit and builds on what is here. */
  #ownState(frame: Frame): { readonly state: ReplicaState; readonly step: ChangeStep } | null {
    const own = this.own.get(frame.operation);
    if (own === undefined || own.crc !== frame.crc || frame.baseCrc !== this.#state.crc) return null;
    const { version, crc, at, length: bytes, expiresAt } = frame;
    const { document } = own;
    const { value } = document;
    const kind = frame.kind === 'full' ? 'full' : 'patch';
    const patch = frame.kind === 'patch' ? own.patch : null;
    return {
      state: { version, crc, value, bytes, at, expiresAt, document },
      step: { kind, version, at, crc, value, bytes, patch, base: this.#state.value },
    };
  }
}
