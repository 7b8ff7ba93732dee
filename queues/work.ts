/** What a queue is made of, and what its processor works with. */
import { setTimeout as pause } from 'node:timers/promises';
import type { Maintenance, QueueSettings } from '../src/store/Maintenance.js';
import type { Logger } from '../src/store/types.js';

export const QUEUE_NAMES = ['sweep', 'scrub', 'reconcile'] as const;
export type QueueName = (typeof QUEUE_NAMES)[number];

/** What a processor works with. */
export interface Work {
  readonly maintenance: Maintenance;
  readonly logger: Logger;
  /** Aborted when this process is to stop: the step that runs is finished, and no other begun. */
  readonly signal: AbortSignal;
  /** What an earlier run of the same job, interrupted or killed, saved last; null in the first. */
  readonly saved: unknown;
  /** Shown in Bull Board, and given back as `saved` to whoever takes the job up. */
  save(progress: object): Promise<void>;
}

/** One queue: its schedule, how it treats its jobs, and its processor. */
export interface QueueKind {
  readonly name: QueueName;
  everyMs(settings: QueueSettings): number;
  /** A job whose worker is silent for so long is given to another, ms. */
  readonly lockMs: number;
  /** Runs of a job that failed, with exponential backoff between them. */
  readonly attempts: number;
  /** One job at a time in all processes. */
  readonly exclusive: boolean;
  /** What was done, in numbers. Stopped early it throws {@link Interrupted} where the rest should be done by another process. */
  run(work: Work): Promise<object>;
}

/** A job that ended in this process. */
export interface WorkDone {
  readonly queue: QueueName;
  readonly job: string;
  readonly ms: number;
  /** What was done, in numbers; absent where the job failed or was handed on. */
  readonly result?: object;
  readonly error?: string;
  /** It was stopped, and another worker goes on. */
  readonly interrupted?: true;
}

/** The work was stopped before its end; what it saved says where to go on. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';

  constructor() {
    super('stopped; another worker goes on from here');
  }
}

/** Waits, no longer than until the signal; never rejects. */
export async function rest(ms: number, signal: AbortSignal): Promise<void> {
  if (ms > 0 && !signal.aborted) await pause(ms, undefined, { signal }).catch(() => {});
}

export const errorText = (error: unknown): string => (error instanceof Error ? error.message : String(error));
