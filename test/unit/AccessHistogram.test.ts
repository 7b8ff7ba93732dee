import { expect } from 'chai';
import { AccessHistogram } from '../../src/core/AccessHistogram.js';
import { decideTtl, HEADROOM, predictTtl } from '../../src/core/ttlDecision.js';

const HOUR = 3_600_000;
const NEVER_HALVES = 1e20;

/** One that has seen these intervals, and the time of the last access. */
function observed(intervals: readonly number[], halfLifeMs = NEVER_HALVES): { histogram: AccessHistogram; now: number } {
  const histogram = new AccessHistogram(halfLifeMs, 0);
  let now = 0;
  histogram.access(now);
  for (const interval of intervals) {
    now += interval;
    histogram.access(now);
  }
  return { histogram, now };
}

const times = (count: number, interval: number): number[] => Array<number>(count).fill(interval);

describe('AccessHistogram', () => {
  it('knows nothing before the second access', () => {
    const histogram = new AccessHistogram(HOUR, 0);
    expect(histogram.lastAccess).to.equal(null);
    histogram.access(5);
    expect(histogram.lastAccess).to.equal(5);
    expect(histogram.weight(5)).to.equal(0);
    expect(histogram.survival(1, 5)).to.equal(1);
    expect(histogram.timeToKeep(0.5, 5)).to.equal(null);
  });

  it('promises 95% from 19 intervals on, 99% from 99 on, and nothing before', () => {
    for (const [keep, needed] of [
      [0.5, 1],
      [0.9, 9],
      [0.95, 19],
      [0.99, 99],
    ] as const) {
      const before = observed(times(needed - 1, 1000));
      expect(before.histogram.timeToKeep(keep, before.now), `${keep} of ${needed - 1}`).to.equal(null);
      const { histogram, now } = observed(times(needed, 1000));
      expect(histogram.timeToKeep(keep, now), `${keep} of ${needed}`).to.be.within(1000, 1190);
    }
  });

  it('leaves out as many of the longest intervals as it may', () => {
    const { histogram, now } = observed([...times(38, 1000), HOUR]);
    // of 40, two may be longer: one that was seen, and the next one
    expect(histogram.timeToKeep(0.95, now)).to.be.within(1000, 1190);
    expect(histogram.survival(2000, now)).to.be.closeTo(2 / 40, 1e-6);
    expect(histogram.timeToKeep(0.97, now)).to.be.within(HOUR, 1.19 * HOUR);
  });

  it('forgets by halves: what it was used like does not decide what it is used like', () => {
    const { histogram, now } = observed([...times(40, HOUR / 100), 12 * HOUR, ...times(40, 1000)], HOUR);
    // forty intervals of half a day ago weigh 40 / 4096, the one that ended there and those since weigh 41
    expect(histogram.weight(now)).to.be.within(40, 41.1);
    expect(histogram.timeToKeep(0.95, now)).to.be.within(1000, 1190);
    expect(histogram.weight(now + HOUR)).to.be.closeTo(histogram.weight(now) / 2, 1e-3);
    expect(histogram.timeToKeep(0.95, now + 2 * HOUR)).to.equal(null);
  });

  it('takes an interval of months for what is beyond all edges, and a clock that goes back for no time', () => {
    const long = observed(times(30, 400 * 24 * HOUR));
    expect(long.histogram.timeToKeep(0.95, long.now)).to.equal(Number.POSITIVE_INFINITY);
    const histogram = new AccessHistogram(HOUR, 1000);
    histogram.access(1000);
    histogram.access(10);
    expect(histogram.lastAccess).to.equal(1000);
    expect(histogram.weight(1000)).to.equal(1);
  });
});

describe('a prediction', () => {
  const bounds = { minMs: 60_000, maxMs: HOUR, keep: 0.95, observations: 20 };

  it('waits for the observations that were asked for', () => {
    const { histogram, now } = observed(times(19, 5 * 60_000));
    expect(predictTtl(histogram, bounds, now)).to.equal(null);
    expect(predictTtl(histogram, { ...bounds, observations: 18 }, now)).to.be.within(300_000, 357_000);
  });

  it('lies within its bounds', () => {
    const often = observed(times(50, 100));
    expect(predictTtl(often.histogram, bounds, often.now)).to.equal(bounds.minMs);
    const seldom = observed(times(50, 24 * HOUR));
    expect(predictTtl(seldom.histogram, bounds, seldom.now)).to.equal(bounds.maxMs);
  });

  describe('asks', () => {
    const { histogram, now } = observed(times(50, 5 * 60_000));
    const predicted = predictTtl(histogram, bounds, now) ?? 0;
    const need = HEADROOM * predicted;
    const decide = (remainingMs: number, heldMs: number, mayShorten = true) =>
      decideTtl(histogram, bounds, { now, remainingMs, heldMs, mayShorten });

    it('for nothing while what is left, and held, is enough', () => {
      expect(decide(predicted, predicted)).to.equal(null);
      expect(decide(need * HEADROOM, need)).to.equal(null);
    });

    it('for more where less than the prediction is left, or held', () => {
      expect(decide(predicted - 1, need)).to.deep.equal({ kind: 'fit', needMs: need, shorten: false });
      expect(decide(need, predicted - 1)).to.deep.equal({ kind: 'fit', needMs: need, shorten: false });
    });

    it('for less where more than twice the need is left, and only where that is allowed', () => {
      expect(decide(need * HEADROOM + 1, need)).to.deep.equal({ kind: 'fit', needMs: need, shorten: true });
      expect(decide(need * HEADROOM + 1, need, false)).to.equal(null);
    });

    it('for nothing where nothing is left: what has expired does not come back', () => {
      expect(decide(0, 0)).to.equal(null);
      expect(decide(-5, 0)).to.equal(null);
    });

    it('that nobody shortens, from the second use on, while it knows too little', () => {
      const once = observed([]);
      const twice = observed([1000]);
      const situation = { remainingMs: HOUR, heldMs: 0, mayShorten: true };
      expect(decideTtl(once.histogram, bounds, { ...situation, now: once.now })).to.equal(null);
      expect(decideTtl(twice.histogram, bounds, { ...situation, now: twice.now })).to.deep.equal({ kind: 'hold', needMs: HOUR });
      expect(decideTtl(twice.histogram, bounds, { ...situation, now: twice.now, heldMs: HOUR / HEADROOM })).to.equal(null);
    });
  });
});
