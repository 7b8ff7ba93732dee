/**
 * How long a context lies unused between two accesses: a histogram of its access intervals, log-scaled and decayed, of constant size.
 *
 * The scale is logarithmic, four buckets to an octave from 16 ms to about 200 days, so that a length is known to a factor of 1.19
 * wherever it lies. Weights halve with every half-life, so that what a context was used like last month does not decide what it is used
 * like today. No clock: times are the caller's, ms, and only their differences count.
 *
 * What it answers is a bound, not a guess at a distribution. Of n + 1 intervals of one kind each is equally likely to be the longest, the second
 * longest, and so on; so the next one outlasts t with a probability of at most (those seen that outlast t, and one more) / (n + 1). With
 * weights for numbers that is {@link survival}. It follows that few observations cannot promise much: to say anything about 95%
 * takes a weight of 19, about 99% one of 99; below that {@link timeToKeep} says so instead of inventing a time.
 */

/** Upper edge of the first bucket, ms. */
const FIRST_MS = 16;
const PER_OCTAVE = 4;
/** The last one holds what is longer than all edges. */
const BUCKETS = 121;
/** Weights are relative to a past moment; past this factor they are scaled down to the present one. */
const RESCALE_AT = 1024;
/** Rounding of the weights, which are single-precision, must not forbid what exact ones would allow. */
const ROUNDING = 1e-5;

const EDGES = Float64Array.from({ length: BUCKETS }, (_, index) =>
  index === BUCKETS - 1 ? Number.POSITIVE_INFINITY : FIRST_MS * 2 ** (index / PER_OCTAVE),
);

const bucketOf = (intervalMs: number): number => {
  if (!(intervalMs > FIRST_MS)) return 0;
  const index = Math.min(BUCKETS - 1, Math.ceil(PER_OCTAVE * Math.log2(intervalMs / FIRST_MS)));
  // the logarithm may have been rounded to the wrong side of an edge
  return (EDGES[index] as number) < intervalMs ? index + 1 : index;
};

export class AccessHistogram {
  readonly #halfLifeMs: number;
  readonly #weights = new Float32Array(BUCKETS);
  /** The moment that weights are relative to: one of an access at time t counts 2^((t - origin) / halfLife). */
  #origin: number;
  #total = 0;
  #last: number | null = null;

  /** @param halfLifeMs after this long an interval counts half */
  constructor(halfLifeMs: number, now: number) {
    this.#halfLifeMs = halfLifeMs;
    this.#origin = now;
  }

  /** The context is used now. The first use begins the first interval; a clock that goes back makes one of length 0. */
  access(now: number): void {
    const last = this.#last;
    this.#last = last === null ? now : Math.max(last, now);
    if (last === null) return;
    let weight = 2 ** ((this.#last - this.#origin) / this.#halfLifeMs);
    if (weight > RESCALE_AT) {
      this.#rescale(1 / weight);
      this.#origin = this.#last;
      weight = 1;
    }
    const bucket = bucketOf(this.#last - last);
    this.#weights[bucket] = (this.#weights[bucket] as number) + weight;
    this.#total += weight;
  }

  /** The last access; null before the first. */
  get lastAccess(): number | null {
    return this.#last;
  }

  /** How many intervals it stands on, each counted by its age. */
  weight(now: number): number {
    return this.#total * this.#decay(now);
  }

  /** An upper bound of the probability that the next interval is longer than `ms`, 1 where nothing is known. */
  survival(ms: number, now: number): number {
    let beyond = 0;
    for (let index = BUCKETS - 1; index >= 0 && (EDGES[index] as number) > ms; index -= 1)
      beyond += this.#weights[index] as number;
    const decay = this.#decay(now);
    return Math.min(1, (beyond * decay + 1) / (this.#total * decay + 1));
  }

  /**
   * The shortest time, ms, that the next interval outlasts with a probability of at most 1 - `keep`: an upper edge of a bucket,
   * `Infinity` where that is beyond all edges, null where what was observed is too little to say it.
   */
  timeToKeep(keep: number, now: number): number | null {
    const decay = this.#decay(now);
    const total = this.#total * decay;
    const allowed = (1 - keep) * (total + 1) - 1 + ROUNDING;
    if (allowed < 0) return null;
    let beyond = 0;
    for (let index = BUCKETS - 1; index > 0; index -= 1) {
      beyond += (this.#weights[index] as number) * decay;
      if (beyond > allowed) return EDGES[index] as number;
    }
    return EDGES[0] as number;
  }

  /** The weights as they are at `now`, by upper edge: for tests, and for looking at it. Its length never changes. */
  snapshot(now: number): readonly { readonly upToMs: number; readonly weight: number }[] {
    const decay = this.#decay(now);
    return Array.from(this.#weights, (weight, index) => ({ upToMs: EDGES[index] as number, weight: weight * decay }));
  }

  #decay(now: number): number {
    return 2 ** ((this.#origin - Math.max(now, this.#last ?? now)) / this.#halfLifeMs);
  }

  #rescale(factor: number): void {
    let total = 0;
    for (let index = 0; index < BUCKETS; index += 1) {
      const weight = (this.#weights[index] as number) * factor;
      this.#weights[index] = weight;
      total += weight;
    }
    this.#total = total;
  }
}
