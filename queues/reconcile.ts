/**
 * reconcile: holds accounts, indexes and remains (a log without a context, an index entry without one, an expired intent, what a script left
 * aside) against reality and mends them. It is what stands behind the sweep: contexts that Redis removed by itself are told and accounted here.
 */
import type { Fixes, Maintenance } from '../src/store/Maintenance.js';
import { heal } from './sweep.js';
import { Interrupted, type QueueKind, rest, type Work } from './work.js';

export interface ReconcileResult {
  readonly checked: number;
  /** What was mended, how often; what is 0 is left out. */
  readonly fixed: Partial<Fixes>;
  /** Contexts that vanished without having expired: those that were rebuilt, and those that nobody has. */
  readonly recovered: number;
  readonly lost: number;
  readonly damaged: number;
  readonly healed: number;
  /** Totals that could not be judged while accounts changed; the next pass tries again. */
  readonly unsettled: number;
}

export interface ReconcileOptions {
  readonly signal: AbortSignal;
  readonly heal: (id: string) => Promise<boolean>;
  /** Has a context that vanished rebuilt. */
  readonly recover: (id: string) => Promise<boolean>;
  readonly found?: (what: 'lost' | 'damaged', id: string) => void;
  readonly progress?: (result: ReconcileResult) => void;
}

/** Pause after each step, so that others come in between, ms. */
const PAUSE_MS = 2;

export const reconcileQueue: QueueKind = {
  name: 'reconcile',
  everyMs: ({ reconcileEveryMs }) => reconcileEveryMs,
  lockMs: 30_000,
  attempts: 3,
  exclusive: true,
  run: reconcileJob,
};

async function reconcileJob(work: Work): Promise<object> {
  const { maintenance, logger, signal } = work;
  const { namespace } = maintenance;
  const result = await reconcilePass(maintenance, {
    signal,
    heal: (id) => heal(work, id, 'reconcile'),
    // the store tells of it, with the error where there is one
    recover: (id) => maintenance.recover(id).catch(() => false),
  });
  if (signal.aborted) throw new Interrupted();
  if (Object.keys(result.fixed).length > 0) logger.warn({ namespace, ...result.fixed }, 'accounts or indexes were mended');
  return result;
}

/** One pass over the namespace, or what of it the signal left time for. */
export async function reconcilePass(maintenance: Maintenance, options: ReconcileOptions): Promise<ReconcileResult> {
  const { signal } = options;
  const fixed: Partial<Record<keyof Fixes, number>> = {};
  const result = { checked: 0, fixed, recovered: 0, lost: 0, damaged: 0, healed: 0, unsettled: 0 };
  const seen = new Set<string>();
  for await (const step of maintenance.reconcile({ signal })) {
    result.checked += step.checked;
    result.unsettled += step.unsettled;
    for (const [name, count] of Object.entries(step.fixed) as [keyof Fixes, number][])
      if (count > 0) fixed[name] = (fixed[name] ?? 0) + count;
    for (const id of step.lost) {
      if (await options.recover(id)) {
        result.recovered += 1;
        continue;
      }
      result.lost += 1;
      options.found?.('lost', id);
    }
    for (const id of step.damaged) {
      if (seen.has(id)) continue;
      seen.add(id);
      result.damaged += 1;
      options.found?.('damaged', id);
      if (await options.heal(id)) result.healed += 1;
    }
    options.progress?.(result);
    await rest(PAUSE_MS, signal);
  }
  return result;
}
