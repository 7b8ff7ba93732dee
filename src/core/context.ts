/** What readers and watchers get. */
import type { JsonValue } from './json.js';
import type { Patch } from './patch.js';

/** One context as a read returns it. `value` is deeply frozen unless the store was opened with `values: 'copy'`. */
export interface Context<T = JsonValue> {
  readonly id: string;
  readonly value: T;
  /** 1 for a new context, one more for each commit; a deleted and re-created context goes on from its tombstone. */
  readonly version: number;
  /** CRC-32 (IEEE) of the stored bytes, 8 lower-case hex digits. */
  readonly checksum: string;
  /** Time of the commit by Redis's clock, ms since the epoch. */
  readonly updatedAt: number;
  /** Time at which it expires by Redis's clock, ms since the epoch, or `null`. */
  readonly expiresAt: number | null;
  /** True only where the caller allowed a stale answer and got one. */
  readonly stale: boolean;
}

/**
 * One change of a watched context. `patch`: one version further, by a JSON Patch. `full`: one version further, whole document.
 * `deleted`, `expired`: the context is gone (`value` is `null`). `reset`: versions were skipped; `value` is the state at `version`.
 */
export interface Change<T = JsonValue> {
  readonly id: string;
  readonly version: number;
  readonly kind: 'patch' | 'full' | 'deleted' | 'expired' | 'reset';
  /** Takes the value before it to `value`; `null` where there is no value. Computed on first access where full bytes travelled. */
  readonly patch: Patch | null;
  readonly value: T | null;
  readonly checksum: string | null;
  readonly at: number;
}
