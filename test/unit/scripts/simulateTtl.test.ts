import { expect } from 'chai';
import { loadedTtl, lru, predictedTtl, renewedTtl, renewedTtlOf } from '../../../scripts/simulate/policies.js';
import { recordedTrace, type Trace, zipfTrace } from '../../../scripts/simulate/traces.js';

/** Accesses as `[ms, context]`, each of 10 bytes. */
function trace(endMs: number, accesses: readonly (readonly [number, number])[]): Trace {
  return {
    name: 'by hand',
    at: Float64Array.from(accesses, ([at]) => at),
    context: Int32Array.from(accesses, ([, context]) => context),
    bytes: new Int32Array(accesses.length).fill(10),
    contexts: 1 + Math.max(...accesses.map(([, context]) => context)),
    endMs,
    warmUpMs: 0,
  };
}

describe('the simulation of times to live', () => {
  const hand = trace(1000, [
    [0, 0],
    [100, 1],
    [150, 0],
    [290, 0],
    [600, 0],
  ]);

  it('counts hits and context-seconds of fixed ones as by hand', () => {
    // context 0 is found at 150 and 290, and lives until 490, and from 600 to 800; context 1 from 100 to 300
    expect(renewedTtl(hand, 200)).to.deep.equal({ hitRatio: 2 / 3, meanContexts: 0.89, meanBytes: 8.9, calls: 400 });
    // loaded at 0, 290 and 600: found at 150
    expect(loadedTtl(hand, 200)).to.deep.equal({ hitRatio: 1 / 3, meanContexts: 0.8, meanBytes: 8, calls: 0 });
  });

  it('counts an LRU as by hand', () => {
    // room for one: context 0 is thrown out at 100, and comes back at 150
    expect(lru(hand, 10)).to.deep.equal({ hitRatio: 2 / 3, meanContexts: 1, meanBytes: 10, calls: 0 });
  });

  it('finds the fixed one of the same memory', () => {
    expect(renewedTtlOf(hand, 8.9).ttlMs).to.be.closeTo(200, 1);
  });

  it('lets predictions find what comes at even intervals, and no longer than they come', () => {
    const even = trace(
      4_000_000,
      Array.from({ length: 100 }, (_, at) => [at * 20_000, 0] as const),
    );
    const bounds = { minMs: 1000, maxMs: 3_600_000, keep: 0.9, halfLifeMs: 1e12, observations: 10, loadedMs: 3_600_000 };
    const predicted = predictedTtl(even, bounds);
    expect(predicted.hitRatio).to.equal(1);
    // the hundred accesses take 1,980 s; without predictions it lives for the whole 4,000
    expect(predicted.meanContexts).to.be.within(0.495, 0.51);
    expect(loadedTtl(even, 3_600_000).meanContexts).to.be.within(0.9, 1);
    expect(predictedTtl(even, { ...bounds, observations: 1000 }).meanContexts).to.be.within(0.9, 1);
  });

  it('has traces that are the same for the same seed, and skewed as they say', () => {
    const options = { skew: 1, contexts: 100, perSecond: 10, hours: 1, drift: 0, seed: 7 };
    const made = zipfTrace(options);
    expect(zipfTrace(options).at).to.deep.equal(made.at);
    const counts = Array<number>(100).fill(0);
    for (const id of made.context) counts[id] = (counts[id] ?? 0) + 1;
    const [first = 0, second = 0] = counts.sort((a, b) => b - a);
    expect(first / second).to.be.within(1.7, 2.3);
  });

  it('reads what was recorded', () => {
    const recorded = recordedTrace('test/fixtures/access/demo.txt', 'demo');
    expect(recorded.contexts).to.equal(48);
    expect(recorded.at).to.have.length(1305);
    expect(recorded.bytes.every((bytes) => bytes > 0)).to.equal(true);
  });
});
