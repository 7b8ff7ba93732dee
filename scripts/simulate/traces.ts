/** Access traces: made of popularity, made of sessions, and recorded. The same seed gives the same trace. */
import { readFileSync } from 'node:fs';
import { type Rng, seededRng } from '../../test/helpers/random.js';

/** Accesses in the order of their times, ms from the beginning; `context` numbers from 0. */
export interface Trace {
  readonly name: string;
  readonly at: Float64Array;
  readonly context: Int32Array;
  /** Length of the document at this access, bytes. */
  readonly bytes: Int32Array;
  readonly contexts: number;
  readonly endMs: number;
  /** What comes before is played, but not counted. */
  readonly warmUpMs: number;
}

const HOUR_MS = 3_600_000;

export interface ZipfOptions {
  readonly skew: number;
  readonly contexts: number;
  readonly perSecond: number;
  readonly hours: number;
  /** Share of the contexts that change their rank with another one, every hour. */
  readonly drift: number;
  readonly seed: number;
}

/** Independent accesses (Poisson), popularity by Zipf's law, ranks that change by the hour. */
export function zipfTrace({ skew, contexts, perSecond, hours, drift, seed }: ZipfOptions): Trace {
  const rng = seededRng(seed);
  const cumulated = new Float64Array(contexts);
  let sum = 0;
  for (let rank = 0; rank < contexts; rank += 1) {
    sum += (rank + 1) ** -skew;
    cumulated[rank] = sum;
  }
  const byRank = Array.from({ length: contexts }, (_, rank) => rank);
  const sizes = documentSizes(rng, contexts);
  const endMs = hours * HOUR_MS;
  const trace = new TraceWriter();
  let drifts = 1;
  for (let at = exponential(rng, 1000 / perSecond); at < endMs; at += exponential(rng, 1000 / perSecond)) {
    for (; at >= drifts * HOUR_MS; drifts += 1)
      for (let swaps = Math.round((drift * contexts) / 2); swaps > 0; swaps -= 1)
        swap(byRank, rng.int(0, contexts - 1), rng.int(0, contexts - 1));
    const id = byRank[lowerBound(cumulated, rng.next() * sum)] as number;
    trace.add(at, id, sizes[id] as number);
  }
  return trace.done(`zipf ${skew}`, contexts, endMs);
}

export interface SessionOptions {
  readonly contexts: number;
  /** Sessions that begin in an hour, over all contexts. */
  readonly perHour: number;
  /** Mean accesses of a session, and mean pause between two of them, s. */
  readonly length: number;
  readonly pauseSeconds: number;
  readonly hours: number;
  readonly seed: number;
}

/** Contexts that are used in sessions, as conversations are: many accesses close to each other, then none for hours or for ever. */
export function sessionTrace({ contexts, perHour, length, pauseSeconds, hours, seed }: SessionOptions): Trace {
  const rng = seededRng(seed);
  const sizes = documentSizes(rng, contexts);
  const endMs = hours * HOUR_MS;
  const accesses: { at: number; id: number }[] = [];
  for (let begin = exponential(rng, HOUR_MS / perHour); begin < endMs; begin += exponential(rng, HOUR_MS / perHour)) {
    const id = rng.int(0, contexts - 1);
    for (let at = begin; at < endMs; at += exponential(rng, 1000 * pauseSeconds)) {
      accesses.push({ at, id });
      if (rng.chance(1 / length)) break;
    }
  }
  const trace = new TraceWriter();
  for (const { at, id } of accesses.sort((a, b) => a.at - b.at)) trace.add(at, id, sizes[id] as number);
  return trace.done('sessions', contexts, endMs);
}

/** A file of `ms context r|w bytes` lines, as scripts/recordAccesses.ts writes them. */
export function recordedTrace(path: string, name: string): Trace {
  const trace = new TraceWriter();
  const ids = new Map<string, number>();
  const lines = readFileSync(path, 'utf8').trim().split('\n');
  const parsed = lines.map((line) => {
    const [at, context = '', , bytes] = line.split(' ');
    const id = ids.get(context) ?? ids.size;
    ids.set(context, id);
    return { at: Number(at), id, bytes: Number(bytes) };
  });
  for (const { at, id, bytes } of parsed.sort((a, b) => a.at - b.at)) trace.add(at, id, bytes);
  const last = parsed.at(-1)?.at ?? 0;
  // what is left over after the last access costs memory as well
  return { ...trace.done(name, ids.size, 1.5 * last), warmUpMs: 0 };
}

class TraceWriter {
  readonly #at: number[] = [];
  readonly #context: number[] = [];
  readonly #bytes: number[] = [];

  add(at: number, context: number, bytes: number): void {
    this.#at.push(at);
    this.#context.push(context);
    this.#bytes.push(bytes);
  }

  done(name: string, contexts: number, endMs: number): Trace {
    return {
      name,
      at: Float64Array.from(this.#at),
      context: Int32Array.from(this.#context),
      bytes: Int32Array.from(this.#bytes),
      contexts,
      endMs,
      warmUpMs: endMs / 4,
    };
  }
}

/** Around 4 KB, from some hundred bytes to some hundred KB. */
const documentSizes = (rng: Rng, contexts: number): number[] =>
  Array.from({ length: contexts }, () => {
    const normal = Math.sqrt(-2 * Math.log(1 - rng.next())) * Math.cos(2 * Math.PI * rng.next());
    return Math.round(4096 * Math.exp(normal));
  });

const exponential = (rng: Rng, mean: number): number => -mean * Math.log(1 - rng.next());

function swap(items: number[], a: number, b: number): void {
  [items[a], items[b]] = [items[b] as number, items[a] as number];
}

/** The first index whose value is above `value`. */
function lowerBound(values: Float64Array, value: number): number {
  let [low, high] = [0, values.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((values[middle] as number) > value) high = middle;
    else low = middle + 1;
  }
  return low;
}
