import { build, type Histogram } from 'hdr-histogram-js';
import type { StoreStats } from '../../store/types.js';
import type { Answers, Seen } from './messages.js';

/** What is known of one instance; times in ms, sizes in bytes. */
export interface InstanceRow {
  readonly instance: string;
  readonly pid: number;
  /** Contexts it holds a replica of. */
  readonly contexts: number;
  /** Changes its watchers were given. */
  readonly versions: number;
  /** Commits it made itself. */
  readonly written: number;
  /** Frames that reached it, their bytes, and those of the documents they stand for. */
  readonly frames: StoreStats['frames'];
  /**
   * From the moment another instance called the store to commit, until the change came out of `watch` here. All processes are on
   * one machine and read one clock.
   */
  readonly lag: Lag;
  readonly resyncs: number;
  /** Changes that said that versions were skipped. */
  readonly resets: number;
  /** Versions that were skipped without a reset. */
  readonly missed: number;
  /** Versions that came again, or after a newer one. */
  readonly duplicates: number;
  readonly checksumFailures: number;
}

export interface Lag {
  readonly samples: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

interface Account {
  readonly name: string;
  readonly pid: number;
  /** Last version seen, by context. */
  readonly last: number[];
  readonly lag: Histogram;
  versions: number;
  written: number;
  resets: number;
  missed: number;
  duplicates: number;
  stats: Answers['stats'] | null;
}

/** A commit and its sightings, which may reach the parent in any order. */
interface Commit {
  start: { readonly at: number; readonly writer: number } | null;
  /** Sightings that came before the start was known. */
  early: { readonly instance: number; readonly at: number }[];
  sightings: number;
}

const LAG_LIMIT_US = 3_600_000_000;

function newHistogram(): Histogram {
  return build({ lowestDiscernibleValue: 1, highestTrackableValue: LAG_LIMIT_US, numberOfSignificantValueDigits: 3 });
}

/** Merges what the instances saw with what was written: who missed what, and how late it came. */
export class Tally {
  readonly #accounts: Account[];
  /** Commits that not every instance has seen yet, by context and version. */
  readonly #commits = new Map<string, Commit>();
  /** Last version written, by context. */
  readonly #written: number[];

  constructor(instances: readonly { readonly name: string; readonly pid: number }[], contexts: number) {
    this.#written = Array<number>(contexts).fill(0);
    this.#accounts = instances.map(({ name, pid }) => ({
      name,
      pid,
      last: Array<number>(contexts).fill(0),
      lag: newHistogram(),
      versions: 0,
      written: 0,
      resets: 0,
      missed: 0,
      duplicates: 0,
      stats: null,
    }));
  }

  committed(writer: number, context: number, version: number, at: number): void {
    this.#account(writer).written++;
    this.#written[context] = version;
    const commit = this.#commit(context, version);
    commit.start = { at, writer };
    for (const sighting of commit.early.splice(0)) this.#lag(commit.start, sighting);
    this.#forgetIfDone(context, version, commit);
  }

  seen(instance: number, [context, version, reset, at]: Seen): void {
    const account = this.#account(instance);
    const last = account.last[context] ?? 0;
    account.versions++;
    if (version <= last) {
      account.duplicates++;
      return;
    }
    if (reset) account.resets++;
    else account.missed += version - last - 1;
    account.last[context] = version;
    for (let skipped = last + 1; skipped < version; skipped++) this.#sighted(context, skipped, null);
    this.#sighted(context, version, { instance, at });
  }

  stats(instance: number, stats: Answers['stats']): void {
    this.#account(instance).stats = stats;
  }

  /** True once every instance has seen the last version of every context. */
  get settled(): boolean {
    return this.#accounts.every(({ last }) => last.every((version, context) => version >= (this.#written[context] ?? 0)));
  }

  /** Changes that reached the instances, together: it grows as long as something still arrives. */
  get arrived(): number {
    return this.#accounts.reduce((sum, { versions }) => sum + versions, 0);
  }

  /** Last versions that some instance has not seen, as `instance: context`. */
  unseen(ids: readonly string[]): string[] {
    return this.#accounts.flatMap(({ name, last }) =>
      last.flatMap((version, context) => {
        const written = this.#written[context] ?? 0;
        return version < written ? [`${name}: ${ids[context]} at version ${version} of ${written}`] : [];
      }),
    );
  }

  rows(): InstanceRow[] {
    return this.#accounts.map(({ name, pid, lag, versions, written, resets, missed, duplicates, stats }) => ({
      instance: name,
      pid,
      contexts: stats?.replicas.count ?? 0,
      versions,
      written,
      frames: stats?.frames ?? { splice: 0, patch: 0, full: 0, bytes: 0, documentBytes: 0 },
      lag: summary(lag),
      resyncs: stats?.resyncs ?? 0,
      resets,
      missed,
      duplicates,
      checksumFailures: stats?.checksumFailures ?? 0,
    }));
  }

  /** The lag of all instances together. */
  lag(): Lag {
    const all = newHistogram();
    for (const { lag } of this.#accounts) all.add(lag);
    return summary(all);
  }

  #account(instance: number): Account {
    const account = this.#accounts[instance];
    if (!account) throw new RangeError(`no instance ${instance}`);
    return account;
  }

  #commit(context: number, version: number): Commit {
    const key = `${context}@${version}`;
    const commit = this.#commits.get(key) ?? { start: null, early: [], sightings: 0 };
    this.#commits.set(key, commit);
    return commit;
  }

  /** `null` for a version that an instance skipped: it will not come any more. */
  #sighted(context: number, version: number, sighting: { readonly instance: number; readonly at: number } | null): void {
    const commit = this.#commit(context, version);
    commit.sightings++;
    if (sighting && commit.start) this.#lag(commit.start, sighting);
    else if (sighting) commit.early.push(sighting);
    this.#forgetIfDone(context, version, commit);
  }

  #lag(
    start: { readonly at: number; readonly writer: number },
    sighting: { readonly instance: number; readonly at: number },
  ): void {
    if (sighting.instance === start.writer) return;
    const us = Math.round((sighting.at - start.at) * 1000);
    this.#account(sighting.instance).lag.recordValue(Math.min(Math.max(us, 1), LAG_LIMIT_US));
  }

  #forgetIfDone(context: number, version: number, commit: Commit): void {
    if (commit.start && commit.sightings >= this.#accounts.length) this.#commits.delete(`${context}@${version}`);
  }
}

/** From microseconds to milliseconds. */
function summary(lag: Histogram): Lag {
  const at = (percentile: number): number => lag.getValueAtPercentile(percentile) / 1000;
  return lag.totalCount === 0
    ? { samples: 0, p50: 0, p99: 0, max: 0 }
    : { samples: lag.totalCount, p50: at(50), p99: Math.min(at(99), lag.maxValue / 1000), max: lag.maxValue / 1000 };
}
