import { expect } from 'chai';
import { RedisClock } from '../../src/core/RedisClock.js';

/** Redis's time at the monotonic time 0 in these examples, ms. */
const EPOCH = 1_700_000_000_000;

describe('RedisClock', () => {
  it('knows nothing before the first sample, and then judges nothing', () => {
    const clock = new RedisClock();
    expect(clock.known).to.equal(false);
    expect(clock.earliest(5)).to.equal(Number.NEGATIVE_INFINITY);
    expect(clock.latest(5)).to.equal(Number.POSITIVE_INFINITY);
    expect(clock.judge(EPOCH, 5)).to.equal('unknown');
  });

  it('takes the bounds of one sample: read after it was asked, before it was answered, rounded down', () => {
    const clock = new RedisClock();
    clock.observe(100, 110, EPOCH + 105);
    expect(clock.known).to.equal(true);
    expect(clock.earliest(110)).to.be.closeTo(EPOCH + 105, 0.01);
    expect(clock.latest(110)).to.be.closeTo(EPOCH + 105 + 1 + 10, 0.01);
  });

  it('is narrowed by a better sample, and keeps what it knows through a worse one', () => {
    const clock = new RedisClock();
    clock.observe(100, 110, EPOCH + 105);
    clock.observe(120, 121, EPOCH + 120);
    const width = clock.latest(121) - clock.earliest(121);
    expect(width).to.be.within(1.9, 2.1);
    clock.observe(121, 1_121, EPOCH + 600);
    expect(clock.latest(1_121) - clock.earliest(1_121)).to.be.below(width + 1);
  });

  it('widens with time, as clocks drift apart', () => {
    const clock = new RedisClock();
    clock.observe(0, 1, EPOCH);
    const hour = 3_600_000;
    const width = clock.latest(hour) - clock.earliest(hour);
    // 200 ppm either way
    expect(width).to.be.closeTo(2 + 2 * 0.0002 * hour, 0.01);
  });

  it('judges an expiry by the bounds alone', () => {
    const clock = new RedisClock();
    clock.observe(0, 10, EPOCH);
    expect(clock.judge(EPOCH + 100, 10)).to.equal('live');
    expect(clock.judge(EPOCH - 1, 10)).to.equal('expired');
    expect(clock.judge(EPOCH + 5, 10)).to.equal('unknown');
    expect(clock.judge(EPOCH + 100, 200)).to.equal('expired');
  });

  for (const [name, step] of [
    ['forward', 3_600_000],
    ['back', -3_600_000],
  ] as const) {
    it(`is right again with the next sample after Redis's clock was set ${name}`, () => {
      const clock = new RedisClock();
      clock.observe(0, 1, EPOCH);
      clock.observe(10, 11, EPOCH + 10);
      clock.observe(20, 22, EPOCH + 20 + step);
      expect(clock.earliest(22)).to.be.within(EPOCH + step + 19.9, EPOCH + step + 22);
      expect(clock.latest(22)).to.be.within(EPOCH + step + 22, EPOCH + step + 23.1);
    });
  }
});
