import { expect } from 'chai';
import fc from 'fast-check';
import { AccessHistogram } from '../../src/core/AccessHistogram.js';
import { decideTtl, predictTtl } from '../../src/core/ttlDecision.js';

const interval = fc.oneof(
  fc.integer({ min: 0, max: 100 }),
  fc.integer({ min: 0, max: 86_400_000 }),
  fc.double({ min: 0, max: 1e12, noNaN: true }),
);
const intervals = fc.array(interval, { maxLength: 300 });
const halfLife = fc.oneof(fc.constant(1e20), fc.double({ min: 1000, max: 1e10, noNaN: true }));
const keep = fc.double({ min: 0.5, max: 0.999, noNaN: true });
const bounds = fc
  .record({
    a: fc.integer({ min: 1000, max: 31_536_000_000 }),
    b: fc.integer({ min: 1000, max: 31_536_000_000 }),
    keep,
    observations: fc.integer({ min: 1, max: 100 }),
  })
  .map(({ a, b, ...rest }) => ({ minMs: Math.min(a, b), maxMs: Math.max(a, b), ...rest }));

function observed(halfLifeMs: number, lengths: readonly number[]): { histogram: AccessHistogram; now: number } {
  const histogram = new AccessHistogram(halfLifeMs, 0);
  let now = 0;
  histogram.access(now);
  for (const length of lengths) {
    now += length;
    histogram.access(now);
  }
  return { histogram, now };
}

describe('a histogram of access intervals', () => {
  it('gives the shortest time that it can answer for: not less than what was asked, and no edge before it is', () => {
    fc.assert(
      fc.property(halfLife, intervals, keep, (halfLifeMs, lengths, probability) => {
        const { histogram, now } = observed(halfLifeMs, lengths);
        const time = histogram.timeToKeep(probability, now);
        if (time === null) {
          // then not even an endless time could be answered for
          expect(histogram.survival(Number.POSITIVE_INFINITY, now)).to.be.greaterThan(1 - probability - 1e-4);
          return;
        }
        expect(histogram.survival(time, now)).to.be.at.most(1 - probability + 1e-4);
        if (time > 16 && Number.isFinite(time))
          expect(histogram.survival(time / 1.1, now)).to.be.greaterThan(1 - probability - 1e-4);
      }),
    );
  });

  it('counts as a plain list would: the share of intervals that outlast a time, with one more', () => {
    fc.assert(
      fc.property(intervals, fc.double({ min: 16, max: 1e9, noNaN: true }), (lengths, time) => {
        const { histogram, now } = observed(1e20, lengths);
        const beyond = (ms: number): number => (lengths.filter((length) => length > ms).length + 1) / (lengths.length + 1);
        // a bucket is 1.19 wide: what lies in the same one as the time may count either way, towards the cautious side
        expect(histogram.survival(time, now)).to.be.within(beyond(time) - 1e-5, beyond(time / 1.2) + 1e-5);
      }),
    );
  });

  it('asks for no less time for a higher probability', () => {
    fc.assert(
      fc.property(halfLife, intervals, keep, keep, (halfLifeMs, lengths, one, other) => {
        const { histogram, now } = observed(halfLifeMs, lengths);
        const low = histogram.timeToKeep(Math.min(one, other), now);
        const high = histogram.timeToKeep(Math.max(one, other), now);
        expect(high ?? Number.POSITIVE_INFINITY).to.be.at.least(low ?? Number.POSITIVE_INFINITY);
        if (low === null) expect(high).to.equal(null);
      }),
    );
  });

  it('weighs each interval by its age', () => {
    fc.assert(
      fc.property(halfLife, intervals, fc.double({ min: 0, max: 1e10, noNaN: true }), (halfLifeMs, lengths, idle) => {
        const { histogram, now } = observed(halfLifeMs, lengths);
        let at = 0;
        let weight = 0;
        for (const length of lengths) {
          at += length;
          weight += 2 ** ((at - now - idle) / halfLifeMs);
        }
        expect(histogram.weight(now + idle)).to.be.closeTo(weight, 1e-3 + 1e-4 * weight);
      }),
    );
  });

  it('takes no more memory for more accesses', () => {
    fc.assert(
      fc.property(halfLife, intervals, (halfLifeMs, lengths) => {
        const { histogram, now } = observed(halfLifeMs, lengths);
        const snapshot = histogram.snapshot(now);
        expect(snapshot).to.have.length(new AccessHistogram(halfLifeMs, 0).snapshot(0).length);
        const sum = snapshot.reduce((total, { weight }) => total + weight, 0);
        expect(sum).to.be.closeTo(histogram.weight(now), 1e-3 + 1e-3 * sum);
      }),
    );
  });

  it('leads to predictions within their bounds, and to no decision beyond them', () => {
    fc.assert(
      fc.property(
        halfLife,
        intervals,
        bounds,
        fc.record({
          remainingMs: fc.integer({ min: -1000, max: 4e10 }),
          heldMs: fc.integer({ min: -1e12, max: 4e10 }),
          mayShorten: fc.boolean(),
        }),
        (halfLifeMs, lengths, limits, situation) => {
          const { histogram, now } = observed(halfLifeMs, lengths);
          const predicted = predictTtl(histogram, limits, now);
          if (predicted !== null) expect(predicted).to.be.within(limits.minMs, limits.maxMs);
          const decision = decideTtl(histogram, limits, { now, ...situation });
          if (decision?.kind === 'fit') {
            expect(predicted).not.to.equal(null);
            expect(decision.needMs).to.be.within(predicted ?? 0, limits.maxMs);
            if (decision.shorten) expect(situation).to.include({ mayShorten: true });
          }
          if (decision?.kind === 'hold') expect(decision.needMs).to.equal(situation.remainingMs);
        },
      ),
    );
  });
});
