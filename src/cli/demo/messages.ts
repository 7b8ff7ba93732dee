import type { Duration, StoreStats } from '../../store/types.js';
import type { Conversation, Turn } from './conversation.js';

/** What is written in one commit: a file's JSON by `set`, or a turn by `update`. */
export type Revision =
  | { readonly kind: 'set'; readonly file: string }
  | { readonly kind: 'update'; readonly initial: Conversation; readonly turn: Turn };

/** What the parent asks of an instance; each request is answered once. */
export type Request =
  | {
      readonly kind: 'open';
      readonly redis: string;
      readonly namespace: string;
      readonly instanceId: string;
      readonly timeout: Duration | null;
      readonly verbose: boolean;
      /** Watched from the beginning; a change names its context by the place in this list. */
      readonly contexts: readonly string[];
    }
  | { readonly kind: 'write'; readonly id: string; readonly revision: Revision; readonly ttl: Duration | 'none' }
  | { readonly kind: 'stats' }
  | { readonly kind: 'read'; readonly id: string }
  | { readonly kind: 'close' };

export interface Answers {
  readonly open: null;
  /** `startedAt`: when the call of the store began, by {@link machineTime}. */
  readonly write: { readonly version: number; readonly startedAt: number };
  readonly stats: Pick<StoreStats, 'frames' | 'replicas' | 'resyncs' | 'checksumFailures'>;
  readonly read: Holding;
  readonly close: null;
}

/** What an instance holds of a context; the texts are `JSON.stringify` of the values. */
export interface Holding {
  /** What a read in this instance gives. */
  readonly read: { readonly text: string; readonly version: number; readonly checksum: string } | null;
  /** Code of the error that the read ended with instead. */
  readonly refusal: string | null;
  /** The last change it saw. */
  readonly watched: { readonly text: string; readonly version: number } | null;
}

/** A change as `watch` yielded it: index of the context, version, whether it is a `reset`, and when, by {@link machineTime}. */
export type Seen = readonly [context: number, version: number, reset: boolean, at: number];

export type FromInstance =
  | { readonly kind: 'answer'; readonly call: number; readonly answer: unknown }
  | { readonly kind: 'refusal'; readonly call: number; readonly error: Record<string, unknown> }
  | { readonly kind: 'seen'; readonly changes: readonly Seen[] }
  | { readonly kind: 'watchFailed'; readonly error: Record<string, unknown> };

export type ToInstance = Request & { readonly call: number };

/** Milliseconds with microsecond digits, comparable between processes of one machine. */
export function machineTime(): number {
  return performance.timeOrigin + performance.now();
}
