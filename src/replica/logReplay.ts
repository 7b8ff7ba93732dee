/** From entries of the delta log to the steps between two versions. */
import type { LogEntry } from '../redis/ContextCommands.js';
import { nextState, type StepSource } from './Replica.js';
import { absent, type ChangeStep, type ReplicaState, resetStep } from './state.js';

const sourceOf = (entry: LogEntry): StepSource => ({
  kind: entry.kind,
  version: entry.version,
  crc: entry.crc,
  baseCrc: entry.baseCrc,
  length: entry.length,
  at: entry.at,
  expiresAt: entry.expiresAt,
  payload: entry.frame,
});

/** One step and the state it leads to. */
export interface Replayed {
  readonly state: ReplicaState;
  readonly step: ChangeStep;
}

/** A whole document that was too large for the log to keep. */
const withoutBytes = (entry: LogEntry): boolean => entry.kind === 'full' && entry.frame.length === 0;

/**
 * Applies entries, oldest first, to a state, as far as they follow from it version by version and each result has its checksum. `rest`
 * are those from the first that does not: there only the whole document helps.
 */
export function replay(
  from: ReplicaState,
  entries: readonly LogEntry[],
): { readonly steps: readonly Replayed[]; readonly rest: readonly LogEntry[] } {
  let state = from;
  const steps: Replayed[] = [];
  for (const [index, entry] of entries.entries()) {
    const follows = entry.kind === 'expired' ? entry.version === state.version : entry.version === state.version + 1;
    const next = follows && !withoutBytes(entry) ? nextState(state, sourceOf(entry)) : 'gap';
    if (typeof next === 'string' || !('step' in next)) return { steps, rest: entries.slice(index) };
    state = next.state;
    steps.push(next);
  }
  return { steps, rest: [] };
}

/**
 * From a state to the whole document, which was read: one step where only its own entry lacked the bytes, so that nothing is skipped;
 * else a jump.
 */
export function lastStep(from: ReplicaState, rest: readonly LogEntry[], whole: ReplicaState): ChangeStep {
  const [entry] = rest;
  const next =
    rest.length === 1 &&
    entry !== undefined &&
    withoutBytes(entry) &&
    entry.version === from.version + 1 &&
    entry.baseCrc === from.crc;
  if (!next || whole.version !== entry.version || whole.crc !== entry.crc) return resetStep(whole);
  return {
    kind: 'full',
    version: whole.version,
    at: whole.at,
    crc: whole.crc,
    value: whole.value,
    bytes: whole.bytes,
    patch: null,
    base: from.value,
  };
}

/** The state at `version`, rebuilt from the last whole document at or before it in the log; null where the log does not reach it. */
export function stateAt(version: number, entries: readonly LogEntry[]): ReplicaState | null {
  let start = -1;
  for (const [index, entry] of entries.entries()) {
    if (entry.version > version) break;
    if (entry.kind !== 'patch' && !withoutBytes(entry)) start = index;
  }
  const first = entries[start];
  if (first === undefined) return null;
  const before: ReplicaState = { ...absent(first.kind === 'expired' ? first.version : first.version - 1), crc: first.baseCrc };
  const { steps, rest } = replay(
    before,
    entries.slice(start).filter((entry) => entry.version <= version),
  );
  const last = steps.at(-1)?.state;
  return rest.length === 0 && last?.version === version ? last : null;
}
