/**
 * sweep: takes expired contexts out of Redis, with their logs, indexes and accounts, and tells `context:expired`. A job lasts about its period:
 * it sweeps, sleeps until the earliest expiry there is, but no longer than 100 ms because another process may write an earlier one, and sweeps
 * again. The next job begins when this one ends, in whatever process is free, so one that was killed is replaced within a period.
 */
import { LRUCache } from 'lru-cache';
import type { FoundBy } from '../src/store/Maintenance.js';
import { errorText, type QueueKind, rest, type Work } from './work.js';

export interface Swept {
  readonly removed: number;
  readonly rounds: number;
  /** Damaged contexts that were found in the way, and how many of them could be healed. */
  readonly damaged: number;
  readonly healed: number;
}

/** Longest sleep between two rounds: what a context can be late that was written meanwhile, ms. */
const LOOK_EVERY_MS = 100;
/** A damaged context that could not be healed is not tried again before, ms. */
const TRY_AGAIN_MS = 60_000;
/** Part of the period that a job works for; the rest is for handing over. */
const SHARE = 0.95;

const tried = new LRUCache<string, true>({ max: 10_000, ttl: TRY_AGAIN_MS });

export const sweepQueue: QueueKind = {
  name: 'sweep',
  everyMs: ({ sweepEveryMs }) => sweepEveryMs,
  lockMs: 10_000,
  attempts: 1,
  exclusive: false,
  run: (work) => sweepFor(work, work.maintenance.queues.sweepEveryMs * SHARE),
};

/** Sweeps for a while; stopped early it has still done what it says. */
export async function sweepFor(work: Pick<Work, 'maintenance' | 'logger' | 'signal'>, forMs: number): Promise<Swept> {
  const { maintenance, signal } = work;
  const until = performance.now() + forMs;
  const swept = { removed: 0, rounds: 0, damaged: 0, healed: 0 };
  for (;;) {
    const round = await maintenance.sweep({ signal });
    swept.rounds += 1;
    swept.removed += round.removed;
    for (const id of round.damaged) {
      if (signal.aborted || tried.has(`${maintenance.namespace} ${id}`)) continue;
      swept.damaged += 1;
      if (await heal(work, id, 'sweep')) swept.healed += 1;
      else tried.set(`${maintenance.namespace} ${id}`, true);
    }
    const left = until - performance.now();
    if (signal.aborted || left <= 0) return swept;
    if (round.more) continue;
    // an expiry that has passed and is still there belongs to a damaged context
    const next = round.waitMs === null || round.waitMs === 0 ? LOOK_EVERY_MS : Math.ceil(round.waitMs);
    await rest(Math.min(next, LOOK_EVERY_MS, left), signal);
  }
}

/** Has one context repaired and says so; whether it is sound now. */
export async function heal(
  { maintenance, logger, signal }: Pick<Work, 'maintenance' | 'logger' | 'signal'>,
  id: string,
  where: FoundBy,
): Promise<boolean> {
  const { namespace } = maintenance;
  try {
    const healed = await maintenance.repair(id, { signal, where });
    if (healed) logger.warn({ namespace, id }, 'a damaged context was healed');
    else logger.error({ namespace, id }, `a damaged context could not be healed: look at it with lukhas-context verify ${id}`);
    return healed;
  } catch (error) {
    logger.error({ namespace, id, error: errorText(error) }, 'a damaged context could not be repaired now; it is tried again');
    return false;
  }
}
