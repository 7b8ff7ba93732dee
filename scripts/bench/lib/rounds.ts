/** Measuring things side by side: in one run, in alternating rounds, so that whatever else the machine does meets all of them. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/**
 * Runs each contender once a round, the order turned round every time, after one round that is thrown away. What they return is
 * collected by name. Garbage of the one before is collected first, so that each pays for its own.
 */
export async function alternate<N extends string, T = number>(
  rounds: number,
  contenders: Readonly<Record<N, () => Promise<T>>>,
): Promise<Record<N, T[]>> {
  const names = Object.keys(contenders) as N[];
  const results = Object.fromEntries(names.map((name) => [name, []])) as unknown as Record<N, T[]>;
  for (let round = 0; round <= rounds; round += 1) {
    for (const name of round % 2 === 0 ? names : [...names].reverse()) {
      collectGarbage();
      const result = await contenders[name]();
      if (round > 0) results[name].push(result);
    }
  }
  return results;
}

/** Calls a second of an operation that so many workers repeat, each waiting for its own, for about `ms`. */
export async function throughput(
  concurrency: number,
  ms: number,
  operation: (worker: number, call: number) => Promise<unknown>,
): Promise<number> {
  const start = performance.now();
  const end = start + ms;
  let calls = 0;
  await Promise.all(
    Array.from({ length: concurrency }, async (_, worker) => {
      for (let call = 0; call === 0 || performance.now() < end; call += 1) {
        await operation(worker, call);
        calls += 1;
      }
    }),
  );
  return calls / ((performance.now() - start) / 1000);
}

/** Value at a share of the sorted list, by the nearest rank. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))] ?? Number.NaN;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

export interface Ratio {
  readonly median: number;
  readonly least: number;
  readonly most: number;
}

/** What was measured to what it is compared with, round by round. */
export function ratio(values: readonly number[], references: readonly number[]): Ratio {
  const ratios = values.map((value, round) => value / (references[round] ?? Number.NaN));
  return { median: median(ratios), least: Math.min(...ratios), most: Math.max(...ratios) };
}
