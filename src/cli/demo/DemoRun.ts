import { setTimeout as sleep } from 'node:timers/promises';
import type { Session } from '../session.js';
import { type ComparedContext, compareContext } from './compare.js';
import { createDisplay } from './display.js';
import type { Instance } from './Instance.js';
import { createPacer } from './pacer.js';
import { type DemoReport, totals } from './report.js';
import type { Tally } from './Tally.js';
import type { DemoContext } from './workload.js';

export interface DemoOptions {
  readonly seed: string;
  readonly instances: number;
  /** Revisions a second over all contexts; 0: as fast as possible. */
  readonly rate: number;
  readonly keep: boolean;
  /** Progress as NDJSON on stderr. */
  readonly progress: boolean;
}

/** How long nothing may arrive, after the last write, before what is missing counts as lost. */
const SETTLE_LIMIT_MS = 10_000;
/** A demo that was killed leaves nothing behind for longer than this. */
export const DEMO_TTL = '1d';

/** One demo over instances that have been started: opens them, writes, watches them, compares. */
export class DemoRun {
  readonly #session: Session;
  readonly #contexts: readonly DemoContext[];
  readonly #options: DemoOptions;
  readonly #instances: readonly Instance[];
  readonly #tally: Tally;
  readonly #signal: AbortSignal;
  readonly #revisions: number;
  #written = 0;
  #startedAt = 0;

  constructor(
    session: Session,
    contexts: readonly DemoContext[],
    options: DemoOptions,
    instances: readonly Instance[],
    tally: Tally,
    signal: AbortSignal,
  ) {
    this.#session = session;
    this.#contexts = contexts;
    this.#options = options;
    this.#instances = instances;
    this.#tally = tally;
    this.#signal = signal;
    this.#revisions = contexts.reduce((sum, { length }) => sum + length, 0);
  }

  async run(): Promise<DemoReport> {
    const { output } = this.#session;
    await this.#open();
    this.#startedAt = performance.now();
    output.note(
      `${this.#instances.length} instances, ${this.#contexts.length} contexts, ${this.#revisions} revisions, namespace ${this.#session.store.namespace}\n`,
    );
    const writing = this.#write();
    await this.#displayUntil(writing);
    return this.#report(performance.now() - this.#startedAt);
  }

  async #open(): Promise<void> {
    const { redis, namespace, timeout, verbose } = this.#session.flags;
    const contexts = this.#contexts.map(({ id }) => id);
    await Promise.all(
      this.#instances.map((instance) =>
        instance.ask({ kind: 'open', redis, namespace, instanceId: instance.name, timeout: timeout ?? null, verbose, contexts }),
      ),
    );
  }

  /** One revision of a context after the other, all contexts at the same time; then waits until everything has arrived. */
  async #write(): Promise<void> {
    const turn = createPacer(this.#options.rate);
    await Promise.all(
      this.#contexts.map(async (context, at) => {
        for (let n = 1; n <= context.length; n++) {
          await turn(this.#signal);
          await this.#commit(context, at, n);
        }
      }),
    );
    await this.#settle();
  }

  async #commit(context: DemoContext, at: number, n: number): Promise<void> {
    const writer = context.writer(n);
    const instance = this.#instances[writer];
    if (!instance) throw new RangeError(`no instance ${writer}`);
    const ttl = this.#options.keep ? 'none' : DEMO_TTL;
    const { version, startedAt } = await instance.ask({ kind: 'write', id: context.id, revision: context.revision(n), ttl });
    this.#tally.committed(writer, at, version, startedAt);
    this.#written++;
  }

  async #settle(): Promise<void> {
    let arrived = -1;
    let since = performance.now();
    while (!this.#tally.settled && performance.now() - since < SETTLE_LIMIT_MS) {
      if (this.#tally.arrived !== arrived) {
        arrived = this.#tally.arrived;
        since = performance.now();
      }
      await sleep(10, undefined, { signal: this.#signal });
    }
  }

  async #displayUntil(work: Promise<void>): Promise<void> {
    const display = createDisplay(this.#session.output, this.#options.progress);
    const show = async (): Promise<void> => {
      await this.#collectStats();
      display.update({
        elapsedMs: performance.now() - this.#startedAt,
        written: this.#written,
        revisions: this.#revisions,
        instances: this.#tally.rows(),
      });
    };
    const done = new AbortController();
    const finished = work.finally(() => done.abort());
    finished.catch(() => {}); // it is awaited below, after the display has stopped
    const showing = async (): Promise<void> => {
      for (;;) {
        await sleep(display.everyMs, undefined, { signal: done.signal }).catch(() => {});
        if (done.signal.aborted) return;
        await show();
      }
    };
    await Promise.all([finished, showing()]);
    await show();
  }

  async #collectStats(): Promise<void> {
    await Promise.all(this.#instances.map(async (instance, at) => this.#tally.stats(at, await instance.ask({ kind: 'stats' }))));
  }

  async #report(elapsedMs: number): Promise<DemoReport> {
    const { store, flags } = this.#session;
    const compared: ComparedContext[] = [];
    for (const context of this.#contexts) {
      this.#signal.throwIfAborted();
      compared.push(await compareContext(store, this.#instances, context));
    }
    await this.#collectStats(); // the comparison itself can find damage
    const rows = this.#tally.rows();
    const sums = totals(rows, this.#tally.lag());
    const unseen = this.#tally.unseen(this.#contexts.map(({ id }) => id));
    const equal = compared.filter((context) => context.equal).length;
    return {
      ok: equal === compared.length && unseen.length === 0 && sums.missed + sums.duplicates + sums.checksumFailures === 0,
      seed: this.#options.seed,
      namespace: flags.namespace,
      kept: this.#options.keep,
      elapsedMs: Math.round(elapsedMs),
      revisions: this.#written,
      instances: rows,
      totals: sums,
      comparison: {
        contexts: compared.length,
        equal,
        compared: compared.length * this.#instances.length,
        bytes: compared.reduce((sum, { bytes }) => sum + bytes, 0) * this.#instances.length,
      },
      unseen,
      contexts: compared,
    };
  }
}
