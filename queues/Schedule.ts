/**
 * One schedule for any number of processes, and a watch over it. BullMQ reckons by the clocks of the processes: one that is five minutes
 * ahead puts the next job five minutes away for the others, one that is behind does not see that a job is due, and one that is killed between
 * taking a job and planning the next leaves none. So every process looks now and then, by Redis's clock, and puts it right.
 */
import type { Queue } from 'bullmq';
import type { Maintenance } from '../src/store/Maintenance.js';
import type { Logger } from '../src/store/types.js';
import { errorText, type QueueKind } from './work.js';

/** How often at least and at most is looked, ms. */
const LOOK_MS = [500, 60_000] as const;
/** A job is due that should have run so long ago: a worker that is there takes it before, ms. */
const SLACK_MS = 250;
/** A job that is due by so many periods later than it should be was planned by a wrong clock. */
const PERIODS = 2;
const KEEP_DONE = 20;
const KEEP_FAILED = { count: 200, age: 7 * 24 * 3600 };

export class Schedule {
  readonly #queue: Queue;
  readonly #kind: QueueKind;
  readonly #maintenance: Maintenance;
  readonly #logger: Logger;
  readonly #everyMs: number;
  #timer: NodeJS.Timeout | undefined;
  #missing = 0;
  #stopped = false;
  #looking: Promise<void> = Promise.resolve();

  constructor(queue: Queue, kind: QueueKind, maintenance: Maintenance, logger: Logger) {
    this.#queue = queue;
    this.#kind = kind;
    this.#maintenance = maintenance;
    this.#logger = logger;
    this.#everyMs = kind.everyMs(maintenance.queues);
  }

  /** Says what is to run and how often. Every process says the same; nothing runs more often for it. */
  async announce(): Promise<void> {
    const { name, attempts, exclusive } = this.#kind;
    if (exclusive) await this.#queue.setGlobalConcurrency(1);
    await this.#queue.upsertJobScheduler(
      name,
      { every: this.#everyMs },
      {
        name,
        data: {},
        opts: {
          attempts,
          backoff: { type: 'exponential', delay: 1_000, jitter: 0.5 },
          removeOnComplete: KEEP_DONE,
          removeOnFail: KEEP_FAILED,
        },
      },
    );
  }

  watch(): void {
    if (this.#stopped) return;
    const wait = Math.min(LOOK_MS[1], Math.max(LOOK_MS[0], this.#everyMs)) * (0.9 + Math.random() * 0.2);
    this.#timer = setTimeout(() => {
      this.#looking = this.look()
        .catch((error: unknown) => {
          if (!this.#stopped)
            this.#logger.debug({ queue: this.#kind.name, error: errorText(error) }, 'the schedule was not looked at');
        })
        .finally(() => this.watch());
    }, wait);
  }

  /** Ends the watch; a look that is under way can be waited for. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#looking;
  }

  /** Looks once, and puts right what it finds. */
  async look(): Promise<void> {
    const [[next], waiting] = await Promise.all([
      this.#queue.getDelayed(0, 0),
      this.#queue.getJobCountByTypes('wait', 'prioritized'),
    ]);
    if (this.#stopped) return;
    if (next === undefined) {
      // for a moment there is none while a worker takes one
      this.#missing = waiting > 0 ? 0 : this.#missing + 1;
      if (this.#missing < 2) return;
      this.#missing = 0;
      this.#logger.info({ queue: this.#kind.name }, 'no job was planned any more; the schedule was made anew');
      await this.announce();
      return;
    }
    this.#missing = 0;
    const now = await this.#maintenance.now();
    const early = next.timestamp + next.delay - now;
    if (early < -SLACK_MS || (this.#kind.name === 'sweep' && early > this.#everyMs + SLACK_MS)) {
      // somebody may have taken it meanwhile
      await next.promote().catch(() => {});
    } else if (early > PERIODS * this.#everyMs + LOOK_MS[1] && Math.abs(Date.now() - now) < LOOK_MS[1]) {
      this.#logger.warn(
        { queue: this.#kind.name, dueInMs: Math.round(early) },
        'the schedule was made by a wrong clock; made anew',
      );
      await this.#queue.removeJobScheduler(this.#kind.name);
      await this.announce();
    }
  }
}
