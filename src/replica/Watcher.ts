/**
 * One consumer of a context's changes: in order, each version once. Its queue is bounded; a consumer that falls behind further gets one
 * `reset` with the state of that moment instead of what it missed, never a lost version unmarked.
 */
import type { Change } from '../core/context.js';
import { diff } from '../core/diff.js';
import type { JsonValue } from '../core/json.js';
import type { Patch } from '../core/patch.js';
import type { ChangeStep } from './state.js';

/** Documents that one slow consumer may hold in memory, bytes of JSON; whatever number of changes that is. */
const QUEUE_BYTES = 16 * 1024 * 1024;

export interface WatcherHooks {
  /** Versions between the cursor and the step are missing: fetch them and call {@link Watcher.replay}. */
  missing(watcher: Watcher): void;
  /** The consumer was too slow: what it has not read, from this version on, is dropped. */
  overflowed(from: number): void;
  ended(watcher: Watcher): void;
}

/** What a queued change keeps in memory at most: a version that came as a delta shares nearly everything with the one before it, bytes. */
const DELTA_BYTES = 64 * 1024;

const heldBytes = ({ kind, bytes }: ChangeStep): number => (kind === 'patch' ? Math.min(bytes, DELTA_BYTES) : bytes);

const REPLACE = (value: JsonValue): Patch => [{ op: 'replace', path: '', value }];

/** All watchers of a process get the same patch; the values in it are frozen already. */
function frozen(patch: Patch): Patch {
  if (Object.isFrozen(patch)) return patch;
  for (const operation of patch) Object.freeze(operation);
  return Object.freeze(patch);
}

/** Patches that somebody asked for, by the step that all watchers share. */
const patches = new WeakMap<ChangeStep, Patch>();

/** The patch of a step, made once however many watchers are asked for it; null where there is no value. */
function patchOf(step: ChangeStep): Patch | null {
  const { kind, value, base } = step;
  if (step.patch !== null) return frozen(step.patch);
  if (value === undefined) return null;
  let patch = patches.get(step);
  if (patch === undefined) {
    patch = frozen(kind !== 'reset' && base !== undefined ? (diff(base, value) ?? REPLACE(value)) : REPLACE(value));
    patches.set(step, patch);
  }
  return patch;
}

function toChange(id: string, step: ChangeStep, copies: boolean): Change {
  const { kind, version, at, crc, value } = step;
  return {
    id,
    version,
    kind,
    // computed when somebody asks: most consumers of full frames only want the value
    get patch(): Patch | null {
      return patchOf(step);
    },
    value: value === undefined ? null : copies ? (JSON.parse(JSON.stringify(value)) as JsonValue) : value,
    checksum: crc === '' ? null : crc,
    at,
  };
}

export class Watcher implements AsyncIterableIterator<Change> {
  readonly id: string;
  readonly #hooks: WatcherHooks;
  readonly #limit: number;
  readonly #copies: boolean;
  readonly #signal: AbortSignal | undefined;
  #queue: ChangeStep[] = [];
  #queuedBytes = 0;
  #waiting: ((result: IteratorResult<Change>) => void)[] = [];
  /** Version of the last step taken in; null until the start is known. */
  #cursor: number | null = null;
  /** The last step took the context away. */
  #gone = false;
  #replaying = true;
  /** What {@link reach} was told while older steps were fetched. */
  #reached = { version: 0, gone: false };
  #held: ChangeStep[] = [];
  /** After an overflow the last step taken in, which stands for all that were dropped. */
  #overflow: ChangeStep | null = null;
  #ended = false;

  /** @param copies - whether each change gets a copy of the value, instead of the frozen one that all share */
  constructor(id: string, hooks: WatcherHooks, limit: number, copies: boolean, signal: AbortSignal | undefined) {
    this.id = id;
    this.#hooks = hooks;
    this.#limit = limit;
    this.#copies = copies;
    this.#signal = signal;
    signal?.addEventListener('abort', this.#abort, { once: true });
  }

  get cursor(): number {
    return this.#cursor ?? 0;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** A live step. While older ones are fetched it waits; one that is not the next asks for those between. */
  offer(step: ChangeStep): void {
    if (this.#ended) return;
    if (this.#replaying) {
      this.#held.push(step);
      // what is dropped here shows as a gap after the replay, and is fetched then
      if (this.#held.length > this.#limit) this.#held.shift();
      return;
    }
    this.#take(step);
  }

  /** The start is known: what comes next is `version + 1`. */
  start(version: number, gone: boolean): void {
    this.#cursor = version;
    this.#gone = gone;
  }

  /** The context is at `version` now, or gone after it; what is missing up to there is fetched. */
  reach(version: number, gone: boolean): void {
    if (this.#replaying) this.#reached = { version, gone };
    const there = version < this.cursor || (version === this.cursor && (!gone || this.#gone));
    if (this.#ended || this.#replaying || there) return;
    this.#replaying = true;
    this.#hooks.missing(this);
  }

  /** Fetched steps, oldest first, after the cursor; then the live ones that waited. */
  replay(steps: readonly ChangeStep[]): void {
    this.#replaying = false;
    const reached = this.#reached;
    this.#reached = { version: 0, gone: false };
    const held = this.#held;
    this.#held = [];
    for (const step of steps) this.#take(step);
    for (const step of held) this.offer(step);
    this.reach(reached.version, reached.gone);
  }

  next(): Promise<IteratorResult<Change>> {
    if (this.#overflow !== null && !this.#ended) {
      const reset: ChangeStep = { ...this.#overflow, kind: 'reset', patch: null };
      this.#overflow = null;
      return Promise.resolve({ done: false, value: toChange(this.id, reset, this.#copies) });
    }
    const step = this.#queue.shift();
    if (step !== undefined) this.#queuedBytes -= heldBytes(step);
    if (step !== undefined) return Promise.resolve({ done: false, value: toChange(this.id, step, this.#copies) });
    if (this.#ended) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Ends it; what is queued is dropped. */
  return(): Promise<IteratorResult<Change>> {
    this.#queue = [];
    this.end();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Ends it; what is queued can still be read. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#signal?.removeEventListener('abort', this.#abort);
    this.#held = [];
    for (const resolve of this.#waiting) resolve({ done: true, value: undefined });
    this.#waiting = [];
    this.#hooks.ended(this);
  }

  readonly #abort = (): void => {
    void this.return();
  };

  #take(step: ChangeStep): void {
    const cursor = this.#cursor ?? step.version - 1;
    if (step.kind !== 'reset') {
      // `expired` takes away the version it names; every other step is one version further
      if (step.version < cursor || (step.version === cursor && (step.kind !== 'expired' || this.#gone))) return;
      if (step.version > cursor + 1 || (step.kind === 'expired' && step.version > cursor)) {
        this.#replaying = true;
        this.#held = [step];
        this.#hooks.missing(this);
        return;
      }
    } else if (step.forward === true) {
      if (step.version < cursor || (step.version === cursor && (this.#gone || step.value !== undefined))) return;
    }
    this.#cursor = step.version;
    this.#gone = step.value === undefined;
    if (this.#overflow !== null) {
      this.#overflow = step;
      return;
    }
    const waiting = this.#waiting.shift();
    if (waiting !== undefined) {
      waiting({ done: false, value: toChange(this.id, step, this.#copies) });
      return;
    }
    this.#queue.push(step);
    this.#queuedBytes += heldBytes(step);
    if (this.#queue.length > this.#limit || (this.#queuedBytes > QUEUE_BYTES && this.#queue.length > 1)) {
      const from = this.#queue[0]?.version ?? step.version;
      this.#queue = [];
      this.#queuedBytes = 0;
      this.#overflow = step;
      this.#hooks.overflowed(from);
    }
  }
}
