/**
 * The background work of a namespace, as one process takes part in it: its queues, its workers and the watch over the schedules, from `start`
 * to `close`. Any number of processes run one schedule. What a job does is in the file of its queue; all of it is safe to run twice.
 */
import { type Job, Queue, WaitingError, Worker } from 'bullmq';
import { ContextError } from '../src/core/errors.js';
import type { Maintenance, QueueConnection } from '../src/store/Maintenance.js';
import type { Logger } from '../src/store/types.js';
import { jobMetrics } from './jobMetrics.js';
import { reconcileQueue } from './reconcile.js';
import { Schedule } from './Schedule.js';
import { scrubQueue } from './scrub.js';
import { sweepQueue } from './sweep.js';
import { errorText, Interrupted, QUEUE_NAMES, type QueueKind, type QueueName, rest, type Work, type WorkDone } from './work.js';

export type { WorkDone };

export interface WorkersOptions {
  readonly logger: Logger;
  /** @defaultValue all */
  readonly queues?: readonly QueueName[];
  /** Jobs of one queue at once in this process. @defaultValue 1 */
  readonly concurrency?: number;
  /** How long `close` waits for running batches, ms. @defaultValue 5,000 */
  readonly closeMs?: number;
  readonly done?: (done: WorkDone) => void;
  /** Ends a start that is under way: what it gives back then does nothing, and is closed at once. */
  readonly signal?: AbortSignal;
}

const KINDS: Readonly<Record<QueueName, QueueKind>> = { sweep: sweepQueue, scrub: scrubQueue, reconcile: reconcileQueue };
/** How long a start waits for Redis; later it goes on by itself, ms. */
const START_MS = 5_000;
const CLOSE_MS = 5_000;
/** How long is waited for connections to end once nothing runs any more, ms. */
const END_MS = 1_000;
/** The same error is told again after, ms. */
const TELL_EVERY_MS = 60_000;
/** A job may be taken from dead workers as often as it takes. */
const STALLED_TIMES = 1_000;

interface Line {
  readonly queue: Queue;
  readonly schedule: Schedule;
  worker: Worker | undefined;
}

export class Workers {
  readonly #maintenance: Maintenance;
  readonly #options: WorkersOptions;
  readonly #connection: QueueConnection;
  readonly #lines = new Map<QueueName, Line>();
  readonly #stopping = new AbortController();
  readonly #measure: (done: WorkDone) => void;
  readonly #told = new Map<string, number>();
  #closing: Promise<void> | undefined;

  private constructor(maintenance: Maintenance, options: WorkersOptions) {
    this.#maintenance = maintenance;
    this.#options = options;
    this.#measure = jobMetrics(maintenance.namespace);
    this.#connection = maintenance.queueConnection();
    this.#connection.client.on('error', (error) => this.#failed('connection', error));
  }

  /** Takes part from now on. @throws ContextError `NO_PERMISSION` where this Redis user may not run queues; nothing is left open then */
  static async start(maintenance: Maintenance, options: WorkersOptions): Promise<Workers> {
    const workers = new Workers(maintenance, options);
    const { signal } = options;
    const stop = (): void => void workers.close();
    signal?.addEventListener('abort', stop, { once: true });
    try {
      for (const name of options.queues ?? QUEUE_NAMES) workers.#add(KINDS[name]);
      if (signal?.aborted === true) stop();
      else await workers.#announce();
    } catch (error) {
      await workers.close();
      throw error;
    } finally {
      signal?.removeEventListener('abort', stop);
    }
    return workers;
  }

  #add(kind: QueueKind): void {
    const { queuePrefix: prefix } = this.#maintenance;
    const queue = new Queue(kind.name, { connection: this.#connection.client, prefix, streams: { events: { maxLen: 1_000 } } });
    queue.on('error', (error) => this.#failed(kind.name, error));
    const schedule = new Schedule(queue, kind, this.#maintenance, this.#options.logger);
    this.#lines.set(kind.name, { queue, schedule, worker: undefined });
  }

  /** Workers begin once the schedules stand; without Redis that is later, behind the caller's back. */
  async #announce(): Promise<void> {
    const announced = Promise.all([...this.#lines.values()].map(({ schedule }) => schedule.announce())).then(() => {
      if (!this.#stopping.signal.aborted) this.#begin();
    });
    announced.catch((error: unknown) => this.#failed('schedule', error));
    const late = rest(START_MS, this.#stopping.signal);
    try {
      await Promise.race([announced, late]);
    } catch (error) {
      if (!/NOPERM|can't run this command|can't access/.test(errorText(error))) throw error;
      const message = `this Redis user may not run the background queues (${errorText(error)}): grant the rights in docs/QUEUES.md`;
      throw new ContextError('NO_PERMISSION', message, { namespace: this.#maintenance.namespace, cause: error });
    }
  }

  #begin(): void {
    const { queuePrefix: prefix, instanceId } = this.#maintenance;
    for (const [name, line] of this.#lines) {
      const { lockMs } = KINDS[name];
      const worker = new Worker(name, (job, token) => this.#process(name, job, token), {
        connection: this.#connection.client,
        prefix,
        name: instanceId,
        concurrency: this.#options.concurrency ?? 1,
        lockDuration: lockMs,
        stalledInterval: lockMs / 2,
        maxStalledCount: STALLED_TIMES,
        runRetryDelay: 1_000,
      });
      worker.on('error', (error) => this.#failed(name, error));
      worker.on('failed', (job, error) => {
        const { namespace } = this.#maintenance;
        this.#options.logger.warn({ namespace, queue: name, job: job?.id, error: error.message }, 'a background job failed');
      });
      worker.on('stalled', (job) =>
        this.#options.logger.info({ queue: name, job }, 'a background job was taken over from a worker that is gone'),
      );
      line.worker = worker;
      line.schedule.watch();
    }
  }

  async #process(name: QueueName, job: Job, token: string | undefined): Promise<object> {
    const { maintenance, logger, signal } = {
      maintenance: this.#maintenance,
      logger: this.#options.logger,
      signal: this.#stopping.signal,
    };
    const saved: unknown = job.progress;
    const work: Work = { maintenance, logger, signal, saved, save: (progress) => job.updateProgress(progress) };
    const begun = performance.now();
    const facts = (): { queue: QueueName; job: string; ms: number } => ({
      queue: name,
      job: job.id ?? '',
      ms: Math.round(performance.now() - begun),
    });
    try {
      const result = await KINDS[name].run(work);
      this.#ended({ ...facts(), result });
      return result;
    } catch (error) {
      if (error instanceof Interrupted || signal.aborted) {
        // not a failure: it goes back to the head of its queue, unlocked
        await job.moveToWait(token);
        this.#ended({ ...facts(), interrupted: true });
        throw new WaitingError();
      }
      this.#ended({ ...facts(), error: errorText(error) });
      throw error;
    }
  }

  #ended(done: WorkDone): void {
    this.#measure(done);
    this.#options.done?.(done);
  }

  /** Connections report the same trouble many times a second; it is told once a minute. */
  #failed(where: string, error: unknown): void {
    if (this.#stopping.signal.aborted) return;
    const text = errorText(error);
    const key = `${where} ${text}`;
    const now = performance.now();
    if (now - (this.#told.get(key) ?? Number.NEGATIVE_INFINITY) < TELL_EVERY_MS) return;
    if (this.#told.size > 100) this.#told.clear();
    this.#told.set(key, now);
    this.#options.logger.warn(
      { namespace: this.#maintenance.namespace, queue: where, error: text },
      'background queues: trouble with Redis',
    );
  }

  /**
   * Stops taking part: the batch that runs is finished, what is left of its job goes back, nothing stays locked. Where Redis does not answer
   * it ends all the same after its limit; locks run out then, and others take over.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#stopping.abort();
    const lines = [...this.#lines.values()];
    const workers = lines.flatMap(({ worker }) => (worker === undefined ? [] : [worker]));
    // where no worker has begun there is nothing to be finished, and a server that does not answer is not waited for
    const limit = workers.length === 0 ? 0 : (this.#options.closeMs ?? CLOSE_MS);
    const all = (work: readonly Promise<unknown>[]): Promise<unknown> => Promise.allSettled(work);
    const orderly = await inTime(limit, async () => {
      await all([...lines.map(({ schedule }) => schedule.stop()), ...workers.map((worker) => worker.close())]);
      await all(lines.map(({ queue }) => queue.close()));
    });
    const { client } = this.#connection;
    if (orderly && workers.length > 0)
      await inTime(END_MS, () => (client.status === 'ready' ? client.quit() : Promise.resolve()));
    // a worker that waits for a dead server waits for ever, and closing it by force waits with it
    this.#connection.end();
    if (!orderly) for (const worker of workers) stopTimers(worker);
  }
}

/** The timers that BullMQ stops at the end of a `close` that never ends, and which keep the process alive. */
function stopTimers(worker: Worker): void {
  const inside = worker as unknown as { lockManager?: { close(): Promise<void> }; stalledCheckStopper?: () => void };
  inside.lockManager?.close().catch(() => {});
  inside.stalledCheckStopper?.();
}

/** Whether the work was done within the time; what it then comes to is not looked at. */
async function inTime(ms: number, work: () => Promise<unknown>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), ms);
  });
  try {
    return await Promise.race([
      work().then(
        () => true,
        () => true,
      ),
      late,
    ]);
  } finally {
    clearTimeout(timer);
  }
}
