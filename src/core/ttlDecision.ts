/**
 * What a prediction asks for: until when this process needs a context, and whether its expiry may come nearer for that. Pure, so that the
 * simulation (`npm run simulate:ttl`) decides exactly as a store does.
 *
 * A context is given `HEADROOM` times what is predicted, and asked for again when less than the prediction is left: so what is
 * left after an access is always at least the prediction, and a context in constant use costs one call in every
 * `HEADROOM - 1` predictions, instead of one an access.
 */
import type { AccessHistogram } from './AccessHistogram.js';

export interface TtlBounds {
  /** No expiry is brought nearer than this from now, ms. */
  readonly minMs: number;
  /** No expiry is put further away than this from now, ms. */
  readonly maxMs: number;
  /** Probability with which the next access is to find the context. */
  readonly keep: number;
  /** Least weight of intervals, each counted by its age. */
  readonly observations: number;
}

export interface TtlSituation {
  readonly now: number;
  /** Until the context expires, ms; not more than it is. */
  readonly remainingMs: number;
  /** Until when this process has said that it needs it, ms from now; 0 or less where it has not. */
  readonly heldMs: number;
  readonly mayShorten: boolean;
}

/**
 * `fit`: it is needed for `needMs` from now; an expiry before that is put there, and a later one, too, where `shorten`.
 * `hold`: it is used but not known well enough: it shall live as long as was written, whatever others predict.
 */
export type TtlDecision =
  | { readonly kind: 'fit'; readonly needMs: number; readonly shorten: boolean }
  | { readonly kind: 'hold'; readonly needMs: number };

/** More than 1: what is asked for, by what is predicted; and by which factor an expiry must be off before it is changed. */
export const HEADROOM = 2;

const WHOLE = 1e-3;

/** The time to live that keeps the context for its next access, within the bounds; null where too little is known of it. */
export function predictTtl(histogram: AccessHistogram, bounds: TtlBounds, now: number): number | null {
  // an interval of a moment ago counts as a whole one
  if (histogram.weight(now) + WHOLE < bounds.observations) return null;
  const time = histogram.timeToKeep(bounds.keep, now);
  return time === null ? null : Math.min(bounds.maxMs, Math.max(bounds.minMs, Math.ceil(time)));
}

/** What to ask of Redis after an access; null: nothing, which is what it mostly is. */
export function decideTtl(histogram: AccessHistogram, bounds: TtlBounds, situation: TtlSituation): TtlDecision | null {
  const { now, remainingMs, heldMs, mayShorten } = situation;
  if (remainingMs <= 0) return null;
  const predicted = predictTtl(histogram, bounds, now);
  if (predicted === null) {
    // used once only: as many a context is that nobody asks for again
    if (histogram.weight(now) === 0 || heldMs * HEADROOM >= remainingMs) return null;
    return { kind: 'hold', needMs: remainingMs };
  }
  const needMs = Math.min(bounds.maxMs, Math.ceil(predicted * HEADROOM));
  const shorten = mayShorten && remainingMs > needMs * HEADROOM;
  if (!shorten && Math.min(remainingMs, heldMs) * HEADROOM >= needMs) return null;
  return { kind: 'fit', needMs, shorten };
}
