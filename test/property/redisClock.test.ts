import { expect } from 'chai';
import fc from 'fast-check';
import { RedisClock } from '../../src/core/RedisClock.js';

const PPM = 1e-6;
/** What is left of a millisecond near 2^41 in a double. */
const ROUNDING = 0.005;

interface Sample {
  /** Since the last reply, ms. */
  readonly pause: number;
  readonly there: number;
  readonly back: number;
  /** How fast Redis's clock runs against ours from the last reply to this one, ppm. */
  readonly drift: number;
}

const pause = fc.oneof(fc.double({ min: 0, max: 50, noNaN: true }), fc.double({ min: 0, max: 3_600_000, noNaN: true }));
const trip = fc.oneof(
  fc.constant(0),
  fc.double({ min: 0, max: 5, noNaN: true }),
  fc.double({ min: 0, max: 10_000, noNaN: true }),
);
const sample: fc.Arbitrary<Sample> = fc.record({
  pause,
  there: trip,
  back: trip,
  drift: fc.oneof(fc.constantFrom(-200, 200), fc.double({ min: -200, max: 200, noNaN: true })),
});
const start = fc.record({
  offset: fc.double({ min: 1_600_000_000_000, max: 2_000_000_000_000, noNaN: true }),
  monotonic: fc.double({ min: 0, max: 10_000_000, noNaN: true }),
});

/** A client and a Redis server whose true times are known here, and to the client only by its samples. */
class World {
  readonly clock = new RedisClock();
  now: number;
  redis: number;

  constructor({ offset, monotonic }: { offset: number; monotonic: number }) {
    this.now = monotonic;
    this.redis = monotonic + offset;
  }

  pass(ms: number, drift: number): void {
    this.now += ms;
    this.redis += ms * (1 + drift * PPM);
  }

  /** Gives the sample's own width, ms. */
  take({ pause: waited, there, back, drift }: Sample): number {
    this.pass(waited, drift);
    const sentAt = this.now;
    this.pass(there, drift);
    const answer = Math.floor(this.redis);
    this.pass(back, drift);
    this.clock.observe(sentAt, this.now, answer);
    return there + back + 1;
  }

  /** How far the truth lies outside the bounds, ms. */
  get wrongBy(): number {
    return Math.max(this.clock.earliest(this.now) - this.redis, this.redis - this.clock.latest(this.now), 0);
  }
}

describe('RedisClock: the bounds hold', () => {
  it('for any samples while the clocks drift apart by 200 ppm at most, at every time in between', () => {
    fc.assert(
      fc.property(start, fc.array(fc.tuple(sample, pause), { minLength: 1, maxLength: 30 }), (begin, samples) => {
        const world = new World(begin);
        for (const [one, later] of samples) {
          world.take(one);
          expect(world.wrongBy, 'at a reply').to.be.at.most(ROUNDING);
          world.pass(later, one.drift);
          expect(world.wrongBy, 'between samples').to.be.at.most(ROUNDING);
        }
      }),
      { numRuns: 1_000 },
    );
  });

  it('so what has expired is never judged live, nor what lives expired', () => {
    fc.assert(
      fc.property(
        start,
        fc.array(fc.tuple(sample, fc.integer({ min: -50, max: 50 })), { minLength: 1, maxLength: 30 }),
        (begin, samples) => {
          const world = new World(begin);
          for (const [one, distance] of samples) {
            world.take(one);
            const expiresAt = Math.floor(world.redis) + distance;
            const judged = world.clock.judge(expiresAt, world.now);
            // Redis compares whole milliseconds; within the rounding either is right
            if (Math.abs(world.redis - expiresAt) < ROUNDING) continue;
            if (judged !== 'unknown') expect(judged).to.equal(world.redis >= expiresAt ? 'expired' : 'live');
          }
        },
      ),
      { numRuns: 1_000 },
    );
  });

  it('again with the first sample after a step that contradicts what was known', () => {
    const step = fc.integer({ min: 1, max: 10 ** 9 }).chain((ms) => fc.constantFrom(ms, -ms));
    fc.assert(
      fc.property(start, fc.array(sample, { minLength: 1, maxLength: 10 }), step, sample, (begin, before, ms, first) => {
        const world = new World(begin);
        for (const one of before) world.take(one);
        const width = world.clock.latest(world.now) - world.clock.earliest(world.now);
        const drift = 2 * 200 * PPM * (first.pause + first.there + first.back);
        fc.pre(Math.abs(ms) > width + drift + first.there + first.back + 1);
        world.redis += ms;
        world.take(first);
        expect(world.wrongBy).to.be.at.most(ROUNDING);
      }),
      { numRuns: 1_000 },
    );
  });

  it('after any step, to within the round trip of the last sample', () => {
    const step = fc.integer({ min: -2_000, max: 2_000 });
    fc.assert(
      fc.property(start, fc.array(sample, { minLength: 1, maxLength: 10 }), step, sample, (begin, before, ms, last) => {
        const world = new World(begin);
        for (const one of before) world.take(one);
        world.redis += ms;
        const width = world.take(last);
        expect(world.wrongBy).to.be.at.most(width + ROUNDING);
      }),
      { numRuns: 1_000 },
    );
  });
});
