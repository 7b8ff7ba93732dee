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
 * As {@link replay}, for who only wants the end: each run of splices is made one, so that the document is rebuilt and parsed once for it.
 * What is between the runs (a patch, a whole document, a removal) is a step of its own.
 */
export function squash(from: ReplicaState, entries: readonly LogEntry[]): ReturnType<typeof replay> {
  let state = from;
  let at = 0;
  const steps: Stepped[] = [];
  while (at < entries.length) {
    const run = entries.slice(at, at + Math.max(1, splicesInOrder(state, entries.slice(at))));
    const one = run.length < 2 ? null : squashed(state, run);
    const made = one === null ? replay(state, run) : { steps: [one], rest: [] };
    steps.push(...made.steps);
    at += run.length - made.rest.length;
    if (made.rest.length > 0) break;
    state = steps.at(-1)?.state ?? state;
  }
  return { steps, rest: entries.slice(at) };
}

/** The one step of several splices, or null where they do not become one: they are looked at one by one then. */
function squashed(from: ReplicaState, run: readonly LogEntry[]): Stepped | null {
  const last = run.at(-1);
  if (last === undefined) return null;
  try {
    const splice = run.map((entry) => readSplice(payloadOf(entry))).reduce(composeSplices);
    const next = nextState(from, { ...sourceOf(last), baseCrc: from.crc, payload: writeSplice(splice).bytes });
    if (typeof next === 'string' || !('step' in next)) return null;
    // what is before it is not what was before its version: nobody must take a patch for one of that
    return { state: next.state, step: { ...next.step, base: undefined } };
  } catch {
    return null;
  }
}

/** How many entries from the first on are splices, each on the result of the one before, the first on `from`. */
export function splicesInOrder(from: Pick<ReplicaState, 'version' | 'crc'>, entries: readonly LogEntry[]): number {
  let before = from;
  let count = 0;
  for (const entry of entries) {
    if (!entry.sound || entry.kind !== 'splice' || entry.version !== before.version + 1 || entry.baseCrc !== before.crc) break;
    before = entry;
    count += 1;
  }
  return count;
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
