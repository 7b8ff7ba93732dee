/** From entries of the delta log to the steps between two versions. */
import type { LogEntry } from '../redis/ContextCommands.js';
import { nextState, type ReplicaState, type StepSource } from './Replica.js';
import type { ChangeStep } from './Watcher.js';

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

/**
 * Applies entries, oldest first, to a state. Null where they do not follow from it version by version, or a result does not have its
 * checksum: then only the whole document helps.
 */
export function replay(from: ReplicaState, entries: readonly LogEntry[]): Replayed[] | null {
  let state = from;
  const steps: Replayed[] = [];
  for (const entry of entries) {
    const follows = entry.kind === 'expired' ? entry.version === state.version : entry.version === state.version + 1;
    if (!follows) return null;
    const next = nextState(state, sourceOf(entry));
    if (typeof next === 'string' || !('step' in next)) return null;
    state = next.state;
    steps.push(next);
  }
  return steps;
}

/** The state at `version`, rebuilt from the last whole document at or before it in the log; null where the log does not reach it. */
export function stateAt(version: number, entries: readonly LogEntry[]): ReplicaState | null {
  let start = -1;
  for (let index = 0; index < entries.length; index += 1) {
    const entry = entries[index];
    if (entry === undefined || entry.version > version) break;
    if (entry.kind !== 'patch') start = index;
  }
  const first = entries[start];
  if (first === undefined) return null;
  const before: ReplicaState = {
    version: first.kind === 'expired' ? first.version : first.version - 1,
    crc: first.baseCrc,
    value: undefined,
    bytes: 0,
    at: first.at,
    expiresAt: null,
  };
  const upTo = entries.slice(start).filter((entry) => entry.version <= version);
  const last = replay(before, upTo)?.at(-1)?.state;
  return last?.version === version ? last : null;
}
