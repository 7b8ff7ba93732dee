/** What a context is at one version, and what leads from one to the next: the words that replicas and watchers share. */
import type { Change, Context } from '../core/context.js';
import { JsonDocument } from '../core/JsonDocument.js';
import type { JsonValue } from '../core/json.js';
import type { Patch } from '../core/patch.js';

/** What a context is at one version. `value` is undefined where there is none. */
export interface ReplicaState {
  readonly version: number;
  readonly crc: string;
  readonly value: JsonValue | undefined;
  /** Length of the document, bytes. */
  readonly bytes: number;
  readonly at: number;
  readonly expiresAt: number | null;
  /** Value and bytes together, where the bytes are at hand; see {@link documentOf}. */
  readonly document?: JsonDocument;
}

const made = new WeakMap<object, JsonDocument>();

/** The document of a state that has a value: its bytes are made of that when somebody needs them, and once. */
export function documentOf(state: ReplicaState): JsonDocument {
  if (state.document !== undefined) return state.document;
  const { value } = state;
  if (value === undefined) throw new RangeError('a context that is not there has no document');
  if (typeof value !== 'object' || value === null) return JsonDocument.of(value);
  let document = made.get(value);
  if (document === undefined) {
    document = JsonDocument.of(value);
    made.set(value, document);
  }
  return document;
}

/** The state of a context that is not there; `version` is that of its tombstone, 0 where it has none. */
export const absent = (version: number): ReplicaState => ({
  version,
  crc: '',
  value: undefined,
  bytes: 0,
  at: 0,
  expiresAt: null,
});

/** The state as a reader gets it. */
export function toContext(id: string, state: ReplicaState, stale: boolean): Context | null {
  if (state.value === undefined) return null;
  return Object.freeze({
    id,
    value: state.value,
    version: state.version,
    checksum: state.crc,
    updatedAt: state.at,
    expiresAt: state.expiresAt,
    stale,
  });
}

/** One version further, or (as `reset`) a jump. */
export interface ChangeStep {
  readonly kind: Change['kind'];
  readonly version: number;
  readonly at: number;
  readonly crc: string;
  readonly value: JsonValue | undefined;
  readonly patch: Patch | null;
  /** Length of the document after it, bytes. */
  readonly bytes: number;
  /** The value before it, where it is known. */
  readonly base: JsonValue | undefined;
  /** Of a `reset`: it leads on, not back, so who has come that far in another way can do without it. */
  readonly forward?: boolean;
}

/** The jump to a state. */
export function resetStep(state: ReplicaState): ChangeStep {
  return {
    kind: 'reset',
    version: state.version,
    at: state.at,
    crc: state.crc,
    value: state.value,
    bytes: state.bytes,
    patch: null,
    base: undefined,
  };
}
