/**
 * What deltas save, and what they cost: bytes on paper and on the wire, time to make and to apply them, and what a small change in a large
 * document costs Redis, its caller, and a subscriber. docs/BENCHMARKS.md says what is compared with what.
 */
import { changeCost } from './bandwidth/changeCost.js';
import { encodedSizes } from './bandwidth/sizes.js';
import { subscriberCpu } from './bandwidth/subscriberCpu.js';
import { codecTimes } from './bandwidth/times.js';
import { wire } from './bandwidth/wire.js';
import type { Benchmark } from './lib/benchmark.js';

export const bandwidth: Benchmark = {
  name: 'bandwidth',
  run: async (setting) => [
    ...encodedSizes(setting.quick),
    ...(await codecTimes(setting.quick)),
    await changeCost(setting),
    ...(await wire(setting)),
    await subscriberCpu(setting),
  ],
};
