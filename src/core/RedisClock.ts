/**
 * What a client knows of Redis's clock, the only one that decides about expiry and about attempts that come too late.
 *
 * Each reply that carries Redis's time bounds the offset between it and this process's monotonic clock: Redis read its clock
 * after the request was sent and before the reply was received. The bounds are intersected (Marzullo's algorithm for one source)
 * and widen with drift between samples. A sample that contradicts them means that a clock was set: it replaces them.
 */

/** Clocks are trusted to drift apart by at most this much, ms per ms (200 ppm). */
const DRIFT = 0.0002;

export class RedisClock {
  #low = Number.NEGATIVE_INFINITY;
  #high = Number.POSITIVE_INFINITY;
  #at = 0;

  /** Takes a sample: `redisMs` (whole ms, rounded down) was read between the monotonic times `sentAt` and `receivedAt`. */
  observe(sentAt: number, receivedAt: number, redisMs: number): void {
    const low = redisMs - receivedAt;
    // read as early as at `sentAt`, it has drifted until now
    const high = redisMs + 1 - sentAt + (receivedAt - sentAt) * DRIFT;
    const drift = (receivedAt - this.#at) * DRIFT;
    const meetLow = Math.max(low, this.#low - drift);
    const meetHigh = Math.min(high, this.#high + drift);
    const meets = meetLow <= meetHigh;
    this.#low = meets ? meetLow : low;
    this.#high = meets ? meetHigh : high;
    this.#at = receivedAt;
  }

  get known(): boolean {
    return this.#high !== Number.POSITIVE_INFINITY;
  }

  /** The earliest time that Redis's clock can show at the monotonic time `now`, ms since the epoch. */
  earliest(now: number): number {
    return now + this.#low - (now - this.#at) * DRIFT;
  }

  /** The latest time that Redis's clock can show at the monotonic time `now`, ms since the epoch. */
  latest(now: number): number {
    return now + this.#high + (now - this.#at) * DRIFT;
  }

  /** Whether an expiry has passed by Redis's clock; `unknown` where only Redis itself can tell. */
  judge(expiresAt: number, now: number): 'live' | 'expired' | 'unknown' {
    if (this.latest(now) < expiresAt) return 'live';
    if (this.earliest(now) >= expiresAt) return 'expired';
    return 'unknown';
  }
}
