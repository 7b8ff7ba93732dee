/** What becomes of a trace under fixed times to live, an LRU of so many bytes, and predictions: hit ratio and the memory it took. */
import { LRUCache } from 'lru-cache';
import { AccessHistogram } from '../../src/core/AccessHistogram.js';
import { decideTtl, type TtlBounds } from '../../src/core/ttlDecision.js';
import type { Trace } from './traces.js';

export interface Outcome {
  /** Accesses that found their context. The first of each context, and those of the warm-up, are not counted. */
  readonly hitRatio: number;
  /** Contexts there are, and their bytes, on average over time: context-seconds and byte-seconds by the trace's length. */
  readonly meanContexts: number;
  readonly meanBytes: number;
  /** Calls to Redis for expiries, by 1,000 accesses. */
  readonly calls: number;
}

/** The expiry after an access, ms; `expiresAt` is the one before, or that of a context just loaded. */
type Expiry = (context: number, now: number, expiresAt: number, hit: boolean) => number;

/** A time to live that begins anew with each access: a `touch` each. */
export function renewedTtl(trace: Trace, ttlMs: number): Outcome {
  const { outcome, hits, counted } = play(trace, ttlMs, (_, now) => now + ttlMs);
  return { ...outcome, calls: (1000 * hits) / counted };
}

/** A time to live from when a context was loaded: what a store does without predictions. */
export const loadedTtl = (trace: Trace, ttlMs: number): Outcome => play(trace, ttlMs, (_, __, expiresAt) => expiresAt).outcome;

/** The renewed time to live that takes as much memory, found by halving. */
export function renewedTtlOf(trace: Trace, meanBytes: number): { readonly ttlMs: number; readonly outcome: Outcome } {
  let [low, high] = [1, 2 * trace.endMs];
  for (let step = 0; step < 22; step += 1) {
    const middle = Math.sqrt(low * high);
    if (renewedTtl(trace, middle).meanBytes > meanBytes) high = middle;
    else low = middle;
  }
  return { ttlMs: low, outcome: renewedTtl(trace, low) };
}

export interface Prediction extends TtlBounds {
  readonly halfLifeMs: number;
  /** What contexts are loaded with, ms. */
  readonly loadedMs: number;
}

/** As src/store/PredictiveTtl.ts does it in one instance. */
export function predictedTtl(trace: Trace, prediction: Prediction): Outcome {
  const { halfLifeMs, loadedMs, minMs } = prediction;
  const tickMs = Math.min(1_000, minMs / 10);
  const histograms: (AccessHistogram | undefined)[] = [];
  const held = new Float64Array(trace.contexts);
  const ticks = new Float64Array(trace.contexts).fill(-1);
  let calls = 0;
  const { outcome, counted } = play(trace, loadedMs, (context, now, expiresAt, hit) => {
    if (!hit) held[context] = 0;
    const tick = Math.floor(now / tickMs);
    if (tick === ticks[context]) return expiresAt;
    ticks[context] = tick;
    histograms[context] ??= new AccessHistogram(halfLifeMs, now);
    const histogram = histograms[context];
    histogram.access(now);
    const remainingMs = expiresAt - now;
    const decision = decideTtl(histogram, prediction, { now, remainingMs, heldMs: (held[context] ?? 0) - now, mayShorten: true });
    if (decision === null) return expiresAt;
    if (now >= trace.warmUpMs) calls += 1;
    const needed = now + decision.needMs;
    held[context] = needed;
    return needed > expiresAt || (decision.kind === 'fit' && decision.shorten) ? needed : expiresAt;
  });
  return { ...outcome, calls: (1000 * calls) / counted };
}

function play(
  trace: Trace,
  loadedMs: number,
  expiry: Expiry,
): { readonly outcome: Outcome; readonly hits: number; readonly counted: number } {
  const { at, context, bytes, contexts, endMs, warmUpMs } = trace;
  const expiries = new Float64Array(contexts).fill(Number.NaN);
  const since = new Float64Array(contexts);
  const size = new Float64Array(contexts);
  let [hits, asked, counted, contextMs, byteMs] = [0, 0, 0, 0, 0];
  const account = (id: number, now: number): void => {
    const ms = Math.min(now, expiries[id] as number) - Math.max(warmUpMs, since[id] as number);
    if (!(ms > 0)) return;
    contextMs += ms;
    byteMs += ms * (size[id] as number);
  };
  for (let index = 0; index < at.length; index += 1) {
    const now = at[index] as number;
    const id = context[index] as number;
    const before = expiries[id] as number;
    const hit = before > now;
    account(id, now);
    if (now >= warmUpMs) {
      counted += 1;
      if (!Number.isNaN(before)) {
        asked += 1;
        if (hit) hits += 1;
      }
    }
    expiries[id] = expiry(id, now, hit ? before : now + loadedMs, hit);
    since[id] = now;
    size[id] = bytes[index] as number;
  }
  for (let id = 0; id < contexts; id += 1) account(id, endMs);
  const span = endMs - warmUpMs;
  const outcome = { hitRatio: hits / asked, meanContexts: contextMs / span, meanBytes: byteMs / span, calls: 0 };
  return { outcome, hits, counted };
}

/** The least recently used goes first where more than `maxBytes` are needed; nothing expires. */
export function lru(trace: Trace, maxBytes: number): Outcome {
  const { at, context, bytes, endMs, warmUpMs } = trace;
  const cache = new LRUCache<number, { readonly bytes: number }>({
    maxSize: Math.max(1, Math.round(maxBytes)),
    sizeCalculation: (entry) => entry.bytes,
  });
  const known = new Set<number>();
  let [hits, asked, contextMs, byteMs, last] = [0, 0, 0, 0, warmUpMs];
  const account = (now: number): void => {
    if (now <= last) return;
    contextMs += (now - last) * cache.size;
    byteMs += (now - last) * cache.calculatedSize;
    last = now;
  };
  for (let index = 0; index < at.length; index += 1) {
    const now = at[index] as number;
    const id = context[index] as number;
    account(now);
    const hit = cache.get(id) !== undefined;
    if (now >= warmUpMs && known.has(id)) {
      asked += 1;
      if (hit) hits += 1;
    }
    known.add(id);
    cache.set(id, { bytes: bytes[index] as number });
  }
  account(endMs);
  const span = endMs - warmUpMs;
  return { hitRatio: hits / asked, meanContexts: contextMs / span, meanBytes: byteMs / span, calls: 0 };
}
