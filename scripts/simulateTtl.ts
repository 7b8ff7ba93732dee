/**
 * Hit ratio against memory of fixed times to live, an LRU, and predicted times to live, on made and on recorded access traces:
 * `npm run simulate:ttl`. No Redis; the decisions are those of the store (src/core/ttlDecision.ts). Results: docs/decisions/0009-predictive-ttl.md.
 */
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { formatBytes, formatDuration, parseDuration } from '../src/core/units.js';
import { loadedTtl, lru, type Outcome, predictedTtl, renewedTtl, renewedTtlOf } from './simulate/policies.js';
import { recordedTrace, sessionTrace, type Trace, zipfTrace } from './simulate/traces.js';

interface Options {
  readonly json?: true;
  readonly only?: string[];
  readonly skews: number[];
  readonly keep: number[];
  readonly contexts: number;
  readonly rate: number;
  readonly hours: number;
  readonly drift: number;
  readonly seed: number;
  readonly recorded: string;
}

interface Row extends Outcome {
  readonly policy: string;
  /** Of the same memory on average: a time to live renewed by each access, and an LRU. */
  readonly equal?: { readonly ttlMs: number; readonly ttlHitRatio: number; readonly lruHitRatio: number };
}

interface Setting {
  readonly trace: Trace;
  /** What contexts are loaded with, the bounds of predictions, and times to live to compare with, ms. */
  readonly loadedMs: number;
  readonly minMs: number;
  readonly maxMs: number;
  readonly halfLifeMs: number;
  readonly fixedMs: readonly number[];
}

const OBSERVATIONS = 20;
const list = (text: string): number[] => text.split(',').map(number);
const command = new Command('npm run simulate:ttl --')
  .description('Compares fixed, least-recently-used and predicted times to live: hit ratio against memory.')
  .option('--only <names...>', 'traces: zipf, sessions, recorded (default: all)')
  .option('--skews <list>', "exponents of Zipf's law", list, [0.6, 0.8, 1, 1.2])
  .option('--keep <list>', 'probabilities that predictions are made for', list, [0.8, 0.9, 0.95])
  .option('--contexts <n>', 'contexts of a made trace', number, 5_000)
  .option('--rate <n>', 'accesses a second of a Zipf trace', number, 5)
  .option('--hours <n>', 'length of a made trace; its first quarter is not counted', number, 24)
  .option('--drift <share>', 'contexts that change their popularity with another, every hour', number, 0.02)
  .option('--seed <n>', 'of the made traces', number, 1)
  .option(
    '--recorded <file>',
    'a trace that scripts/recordAccesses.ts wrote',
    fileURLToPath(new URL('../test/fixtures/access/demo.txt', import.meta.url)),
  )
  .option('--json', 'one JSON document instead of tables')
  .addHelpText(
    'after',
    '\nExamples:\n  npm run simulate:ttl\n  npm run simulate:ttl -- --only zipf --skews 0.9 --drift 0.2\n  npm run simulate:ttl -- --only recorded --json',
  )
  .parse();

function number(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value) || value < 0) command.error(`"${text}" is no number of 0 or more`);
  return value;
}

function settings(options: Options): Setting[] {
  const { contexts, rate: perSecond, hours, drift, seed } = options;
  const names = ['zipf', 'sessions', 'recorded'];
  const unknown = options.only?.find((name) => !names.includes(name));
  if (unknown !== undefined) command.error(`there is no trace "${unknown}": ${names.join(', ')}`);
  const wanted = (name: string): boolean => options.only?.includes(name) ?? true;
  const ms = (text: string): number => parseDuration(text, 'ttl');
  const made = {
    loadedMs: ms('1h'),
    minMs: ms('1m'),
    maxMs: ms('12h'),
    halfLifeMs: ms('6h'),
    fixedMs: [ms('10m'), ms('1h'), ms('6h')],
  };
  const found: Setting[] = [];
  if (wanted('zipf'))
    for (const skew of options.skews)
      found.push({ trace: zipfTrace({ skew, contexts, perSecond, hours, drift, seed }), ...made });
  if (wanted('sessions')) {
    const sessions = { contexts, perHour: contexts / 8, length: 30, pauseSeconds: 20 };
    found.push({ trace: sessionTrace({ ...sessions, hours, seed }), ...made });
  }
  if (wanted('recorded'))
    found.push({
      trace: recordedTrace(options.recorded, 'recorded demos'),
      loadedMs: ms('30s'),
      minMs: ms('1s'),
      maxMs: ms('1m'),
      halfLifeMs: ms('1m'),
      fixedMs: [ms('1s'), ms('5s'), ms('30s')],
    });
  return found;
}

function compare({ trace, loadedMs, minMs, maxMs, halfLifeMs, fixedMs }: Setting, keeps: readonly number[]): Row[] {
  const loaded: Row = { policy: `fixed ${formatDuration(loadedMs)} from loading`, ...loadedTtl(trace, loadedMs) };
  const fixed = fixedMs.map((ms): Row => ({ policy: `fixed ${formatDuration(ms)}, renewed`, ...renewedTtl(trace, ms) }));
  const predicted = keeps.map((keep): Row => {
    const outcome = predictedTtl(trace, { keep, minMs, maxMs, halfLifeMs, observations: OBSERVATIONS, loadedMs });
    const { ttlMs, outcome: same } = renewedTtlOf(trace, outcome.meanBytes);
    const equal = { ttlMs, ttlHitRatio: same.hitRatio, lruHitRatio: lru(trace, outcome.meanBytes).hitRatio };
    return { policy: `predicted, keep ${keep}`, ...outcome, equal };
  });
  return [loaded, ...fixed, ...predicted];
}

const percent = (share: number): string => `${(100 * share).toFixed(1)}%`;

function table({ trace }: Setting, rows: readonly Row[]): string {
  const head = 'policy | hit ratio | contexts | bytes | calls / 1,000 | same memory: fixed TTL | same memory: LRU';
  const lines = rows.map(({ policy, hitRatio, meanContexts, meanBytes, calls, equal }) => {
    const same =
      equal === undefined
        ? ['', '']
        : [`${percent(equal.ttlHitRatio)} (${formatDuration(equal.ttlMs)})`, percent(equal.lruHitRatio)];
    const cells = [policy, percent(hitRatio), meanContexts.toFixed(0), formatBytes(meanBytes), calls.toFixed(1), ...same];
    return `| ${cells.join(' | ')} |`;
  });
  const title = `${trace.name}: ${trace.at.length.toLocaleString('en-US')} accesses to ${trace.contexts.toLocaleString('en-US')} contexts`;
  return [`**${title}**`, '', `| ${head} |`, '| --- | ---: | ---: | ---: | ---: | ---: | ---: |', ...lines, ''].join('\n');
}

function main(): void {
  const options = command.opts<Options>();
  const results = settings(options).map((setting) => {
    const rows = compare(setting, options.keep);
    if (options.json !== true) console.log(table(setting, rows));
    const { trace, ...rest } = setting;
    return { trace: trace.name, accesses: trace.at.length, contexts: trace.contexts, ...rest, observations: OBSERVATIONS, rows };
  });
  if (options.json === true) console.log(JSON.stringify({ seed: options.seed, drift: options.drift, results }, null, 2));
}

main();
