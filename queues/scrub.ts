/**
 * scrub: verifies everything at rest inside Redis, at a bounded rate, and has repaired what it finds. It saves where it is once a second, so
 * that a pass that was killed goes on from there, in whatever process.
 */
import type { Damage, Maintenance, Position } from '../src/store/Maintenance.js';
import { heal } from './sweep.js';
import { Interrupted, type QueueKind, rest, type Work } from './work.js';

export interface ScrubProgress {
  readonly position: Position | null;
  readonly checked: number;
  /** Contexts there were when the pass began. */
  readonly total: number;
  /** Bytes hashed. */
  readonly bytes: number;
  readonly damaged: number;
  readonly healed: number;
  /** Contexts in quarantine: damage that is known, and nothing could heal. */
  readonly quarantined: number;
}

export interface ScrubOptions {
  readonly signal: AbortSignal;
  /** Bytes a second. */
  readonly rate: number;
  readonly from?: ScrubProgress | null;
  readonly heal: (id: string) => Promise<boolean>;
  readonly found?: (damage: Damage, healed: boolean) => void;
  /** Called after each step, and awaited. */
  readonly progress?: (progress: ScrubProgress) => Promise<void> | void;
}

const SAVE_EVERY_MS = 1_000;
const BEGIN: ScrubProgress = { position: null, checked: 0, total: 0, bytes: 0, damaged: 0, healed: 0, quarantined: 0 };
/** Steps a second at least, so that a low rate is a trickle and not a burst now and then. */
const STEPS = 4;

export const scrubQueue: QueueKind = {
  name: 'scrub',
  everyMs: ({ scrubEveryMs }) => scrubEveryMs,
  lockMs: 30_000,
  attempts: 10,
  exclusive: true,
  run: scrubJob,
};

async function scrubJob(work: Work): Promise<object> {
  const { maintenance, logger, signal } = work;
  const { namespace } = maintenance;
  let savedAt = performance.now();
  const done = await scrubPass(maintenance, {
    signal,
    rate: maintenance.queues.scrubRate,
    from: savedProgress(work.saved),
    heal: (id) => heal(work, id, 'scrub'),
    found: ({ id, what }) => logger.error({ namespace, id, what }, 'damage at rest'),
    progress: async (progress) => {
      if (performance.now() - savedAt < SAVE_EVERY_MS) return;
      savedAt = performance.now();
      await work.save(progress);
    },
  });
  await work.save(done);
  if (signal.aborted) throw new Interrupted();
  return done;
}

/** One pass over the namespace, or what of it the signal left time for: the answer tells how far it came. */
export async function scrubPass(maintenance: Maintenance, options: ScrubOptions): Promise<ScrubProgress> {
  const { signal, rate, from } = options;
  const total = from?.total ?? (await maintenance.count());
  let progress: ScrubProgress = { ...BEGIN, ...from, total };
  let free = performance.now();
  const maxBytes = Math.ceil(rate / STEPS);
  const steps = maintenance.scrub({ signal, maxBytes, ...(progress.position === null ? {} : { from: progress.position }) });
  // a context can show damage in several steps; once repaired it is looked at as a whole
  const seen = new Map<string, boolean>();
  for await (const step of steps) {
    for (const damage of step.damaged) {
      const known = seen.get(damage.id);
      const healed = known ?? (await options.heal(damage.id));
      seen.set(damage.id, healed);
      options.found?.(damage, healed);
      if (known === undefined)
        progress = { ...progress, damaged: progress.damaged + 1, healed: progress.healed + (healed ? 1 : 0) };
    }
    progress = {
      ...progress,
      position: step.position,
      checked: progress.checked + step.checked,
      bytes: progress.bytes + step.bytes,
      quarantined: progress.quarantined + step.quarantined,
    };
    await options.progress?.(progress);
    // what was not used before is not made up for
    free = Math.max(free, performance.now() - 1000 / STEPS) + (1000 * step.bytes) / rate;
    await rest(free - performance.now(), signal);
  }
  return progress;
}

/** What an earlier run of the job saved, or null where it is nothing that this version knows. */
export function savedProgress(saved: unknown): ScrubProgress | null {
  const { position, ...counts } = (typeof saved === 'object' && saved !== null ? saved : {}) as Partial<ScrubProgress>;
  const numbers = (['checked', 'total', 'bytes', 'damaged', 'healed', 'quarantined'] as const).every((name) =>
    Number.isSafeInteger(counts[name]),
  );
  const placed =
    typeof position === 'object' &&
    position !== null &&
    Number.isSafeInteger(position.shard) &&
    /^\d{1,20}$/.test(position.cursor);
  return numbers && placed ? ({ position, ...counts } as ScrubProgress) : null;
}
