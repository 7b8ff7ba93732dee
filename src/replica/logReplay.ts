/** From entries of the delta log to the steps between two versions. */
import { decompress, type Encoding } from '../core/compression.js';
import { type FrameKind, MAX_FRAME_BYTES } from '../core/frame.js';
import { composeSplices } from '../core/spliceCompose.js';
import { readSplice, writeSplice } from '../core/spliceFormat.js';
import type { LogEntry } from '../redis/logEntries.js';
import { nextState, type Stepped, type StepSource } from './nextState.js';
import { absent, type ChangeStep, type ReplicaState, resetStep } from './state.js';

const sourceOf = (entry: LogEntry): StepSource => ({
  kind: entry.kind as FrameKind,
  version: entry.version,
  crc: entry.crc,
  baseCrc: entry.baseCrc,
  length: entry.length,
  at: entry.at,
  expiresAt: entry.expiresAt,
  payload: payloadOf(entry),
});

/** A payload that cannot be unpacked is as good as none: the result will not have its checksum. */
export function payloadOf(entry: LogEntry): Buffer {
  try {
    return decompress(entry.encoding as Encoding, entry.frame, MAX_FRAME_BYTES);
  } catch {
    return Buffer.alloc(0);
  }
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
): { readonly steps: readonly Stepped[]; readonly rest: readonly LogEntry[] } {
  let state = from;
  const steps: Stepped[] = [];
  for (const [index, entry] of entries.entries()) {
    const follows = entry.kind === 'expired' ? entry.version === state.version : entry.version === state.version + 1;
    const next = follows && entry.sound && !withoutBytes(entry) ? nextState(state, sourceOf(entry)) : 'gap';
    if (typeof next === 'string' || !('step' in next)) return { steps, rest: entries.slice(index) };
    state = next.state;
    steps.push(next);
  }
  return { steps, rest: [] };
}

/**
 * As {@link replay}, for who only wants the end: entries that are all splices, each on the result of the one before, are made one, so that
 * the document is rebuilt and parsed once.
 */
export function squash(from: ReplicaState, entries: readonly LogEntry[]): ReturnType<typeof replay> {
  const last = entries.at(-1);
  if (last === undefined || entries.length < 2 || !followsInOrder(from, entries)) return replay(from, entries);
  try {
    const splice = entries.map((entry) => readSplice(payloadOf(entry))).reduce(composeSplices);
    const source = { ...sourceOf(last), baseCrc: from.crc, payload: writeSplice(splice).bytes };
    const next = nextState(from, source);
    if (typeof next === 'object' && 'step' in next) return { steps: [next], rest: [] };
  } catch {
    // what cannot be made one is looked at one by one
  }
  return replay(from, entries);
}

/** Whether entries are splices, each on the result of the one before, the first on `from`. */
export const followsInOrder = (from: Pick<ReplicaState, 'version' | 'crc'>, entries: readonly LogEntry[]): boolean =>
  entries.length > 0 &&
  entries.every(({ kind, version, baseCrc, sound }, index) => {
    const before = entries[index - 1] ?? from;
    return sound && kind === 'splice' && version === before.version + 1 && baseCrc === before.crc;
  });

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

/**
 * The state at `version`, rebuilt from the last whole document at or before it in the log, or from a checkpoint (older states of a document
 * in chunks); null where neither reaches it.
 */
export function stateAt(
  version: number,
  entries: readonly LogEntry[],
  checkpoints: readonly ReplicaState[] = [],
): ReplicaState | null {
  const upTo = entries.filter((entry) => entry.version <= version);
  const start = upTo.findLastIndex((entry) => entry.sound && !isDelta(entry) && !withoutBytes(entry));
  const first = upTo[start];
  const checkpoint = checkpoints
    .filter((state) => state.version <= version && state.version >= (first?.version ?? 0))
    .sort((a, b) => b.version - a.version)[0];
  if (checkpoint !== undefined) {
    const after = upTo.filter((entry) => entry.version > checkpoint.version);
    return reached(version, checkpoint, after);
  }
  if (first === undefined) return null;
  const before: ReplicaState = { ...absent(first.kind === 'expired' ? first.version : first.version - 1), crc: first.baseCrc };
  return reached(version, before, upTo.slice(start));
}

const isDelta = ({ kind }: LogEntry): boolean => kind === 'patch' || kind === 'splice';

function reached(version: number, from: ReplicaState, entries: readonly LogEntry[]): ReplicaState | null {
  const { steps, rest } = replay(from, entries);
  const last = steps.at(-1)?.state ?? from;
  return rest.length === 0 && last.version === version ? last : null;
}
