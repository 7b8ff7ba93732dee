/**
 * Gives watchers what live steps do not: where they begin, and the versions between their cursor and the present, from the delta log or
 * (where it does not reach) as one `reset`. A lost connection is waited out; a watch never fails because of it.
 */
import { ContextError } from '../core/errors.js';
import type { ContextCommands } from '../redis/ContextCommands.js';
import type { Deadline } from '../redis/RedisConnection.js';
import type { ContextReader } from './ContextReader.js';
import { lastStep, replay, stateAt } from './logReplay.js';
import { LOG_LIMIT } from './ReplicaSync.js';
import type { ChangeStep } from './state.js';
import { absent, type ReplicaState, resetStep } from './state.js';
import type { Watcher } from './Watcher.js';

/** Pause before a watcher asks again after a failure, ms. */
const RETRY_MS = 50;
/** Pause before it asks again for a document that is damaged, ms. */
const DAMAGED_MS = 1_000;

export class WatchFeed {
  readonly #commands: ContextCommands;
  readonly #reader: ContextReader;
  readonly #timeoutMs: number;
  /** The state in memory, of whatever age. */
  readonly #known: (id: string) => ReplicaState | undefined;

  readonly #fetching = new Map<string, Promise<readonly ChangeStep[]>>();

  constructor(
    commands: ContextCommands,
    reader: ContextReader,
    timeoutMs: number,
    known: (id: string) => ReplicaState | undefined,
  ) {
    this.#commands = commands;
    this.#reader = reader;
    this.#timeoutMs = timeoutMs;
    this.#known = known;
  }

  /**
   * Starts a watcher after a version, or at the present state: that of a replica in good health, else what Redis says to a question
   * that is sent before this returns, so that what this process writes next comes after it.
   */
  async start(watcher: Watcher, fromVersion: number | undefined, live: ReplicaState | undefined): Promise<void> {
    if (fromVersion !== undefined) {
      watcher.start(fromVersion, false);
    } else if (live !== undefined) {
      watcher.start(live.version, live.value === undefined);
    } else {
      const present = await this.#untilDone(watcher, () => this.#present(watcher.id));
      if (present === undefined) return;
      watcher.start(present.version, present.gone);
    }
    await this.catchUp(watcher);
  }

  async catchUp(watcher: Watcher): Promise<void> {
    const { id, cursor } = watcher;
    const steps = await this.#untilDone(watcher, () => this.#sharedSteps(id, cursor));
    // nothing where the stored document is damaged: that was told, and it may be mended, or written anew, before it is asked for again
    if (steps === undefined && !watcher.ended) await new Promise((resolve) => setTimeout(resolve, DAMAGED_MS).unref());
    watcher.replay(steps ?? []);
  }

  /** Version and presence of a context now, absent ones with the version of their tombstone. */
  async #present(id: string): Promise<{ version: number; gone: boolean }> {
    const deadline = this.#deadline();
    const [tail, facts] = await Promise.all([this.#commands.logTail(id, 1, deadline), this.#commands.versionOf(id, deadline)]);
    // one that is lost is there as far as its log goes: reading it brings it back
    const version = facts?.lost === true ? undefined : facts?.version;
    return { version: version ?? tail[0]?.version ?? 0, gone: facts === null };
  }

  /** Watchers that lag behind by the same versions are given the same steps, fetched and replayed once. */
  #sharedSteps(id: string, cursor: number): Promise<readonly ChangeStep[]> {
    const key = `${cursor} ${id}`;
    let fetching = this.#fetching.get(key);
    if (fetching === undefined) {
      fetching = this.#stepsAfter(id, cursor).finally(() => this.#fetching.delete(key));
      this.#fetching.set(key, fetching);
    }
    return fetching;
  }

  async #stepsAfter(id: string, cursor: number): Promise<readonly ChangeStep[]> {
    const deadline = this.#deadline();
    const { facts, entries } = await this.#commands.catchUp(id, cursor, LOG_LIMIT, true, deadline);
    const later = entries ?? [];
    const [first] = later;
    if (first === undefined && facts === null) {
      const now = await this.#reader.readState(id, deadline);
      if (now.version > cursor) return this.#stepsAfter(id, cursor);
      // a version that nothing is left of: its consumer is told where things stand
      return now.version < cursor || now.value !== undefined ? [resetStep(now)] : [];
    }
    if (first === undefined && facts?.version === cursor) return [];
    // what needs no base can follow a version whose own entry was trimmed
    const start =
      first?.kind === 'patch' || first?.kind === 'splice'
        ? await this.#stateInLog(id, cursor, deadline)
        : { ...absent(cursor), crc: first?.baseCrc ?? '' };
    const { steps, rest } = start === null ? { steps: [], rest: later } : replay(start, later);
    const changes = steps.map(({ step }) => step);
    if (first !== undefined && rest.length === 0) return changes;
    const whole = await this.#reader.readState(id, deadline);
    return [...changes, lastStep(steps.at(-1)?.state ?? start ?? absent(cursor), rest, whole)];
  }

  async #stateInLog(id: string, version: number, deadline: Deadline): Promise<ReplicaState | null> {
    const known = this.#known(id);
    if (known?.version === version) return known;
    const entries = await this.#commands.logAfter(id, 0, LOG_LIMIT, deadline);
    return stateAt(version, entries) ?? stateAt(version, entries, await this.#reader.checkpoints(id, deadline));
  }

  /** Repeats what a lost connection interrupts, as long as the watcher is there. */
  async #untilDone<T>(watcher: Watcher, run: () => Promise<T>): Promise<T | undefined> {
    while (!watcher.ended) {
      try {
        return await run();
      } catch (error) {
        if (error instanceof ContextError && (error.code === 'CORRUPT' || error.code === 'CLOSED')) return undefined;
        await this.#commands.connection.ready(this.#deadline(), 'watch').catch(() => {});
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
    return undefined;
  }

  #deadline(): Deadline {
    return this.#commands.connection.deadline(this.#timeoutMs);
  }
}
