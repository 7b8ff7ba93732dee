/**
 * Benchmarks, each as a ratio to a named reference measured in the same run: `npm run bench`. It starts a Redis server of its own.
 * What they compare and why stands in docs/BENCHMARKS.md, which `--write` brings up to date.
 */
import { Command } from 'commander';
import { endAll } from '../../test/helpers/cleanup.js';
import { RedisServer } from '../../test/helpers/RedisServer.js';
import { bandwidth } from './bandwidth.js';
import { commit } from './commit.js';
import { contention } from './contention.js';
import { expiry } from './expiry.js';
import type { Benchmark, Setting } from './lib/benchmark.js';
import { build } from './lib/built.js';
import { describeMachine, machineSentence } from './lib/machine.js';
import { writeSections } from './lib/page.js';
import { markdown, type Table } from './lib/table.js';
import { locks } from './locks.js';
import { propagation } from './propagation.js';
import { read } from './reads.js';
import { rivals } from './rivals.js';
import { scrub } from './scrub.js';
import { transactions } from './transactions.js';

const BENCHMARKS: readonly Benchmark[] = [
  commit,
  read,
  propagation,
  contention,
  bandwidth,
  expiry,
  scrub,
  locks,
  transactions,
  rivals,
];

interface Options {
  readonly only?: readonly string[];
  readonly quick?: true;
  readonly json?: true;
  readonly write?: true;
  readonly build: boolean;
}

const command = new Command('npm run bench --')
  .description('Measures the store against named references, side by side.')
  .option('--only <name...>', `some of: ${BENCHMARKS.map(({ name }) => name).join(', ')}`)
  .option('--quick', 'fewer and shorter rounds, to see that it works: not for publishing')
  .option('--json', 'one JSON document instead of tables')
  .option('--write', 'puts the tables into docs/BENCHMARKS.md')
  .option('--no-build', 'measures dist/ as it is')
  .addHelpText('after', '\nExamples:\n  npm run bench\n  npm run bench -- --only commit read --quick\n  npm run bench -- --write')
  .parse();
const options = command.opts<Options>();
for (const name of options.only ?? []) {
  if (!BENCHMARKS.some((benchmark) => benchmark.name === name)) command.error(`there is no benchmark "${name}"`);
}
if (options.quick && options.write) command.error('a quick run is too coarse to be written down: leave out --quick or --write');

const chosen = BENCHMARKS.filter(({ name }) => options.only?.includes(name) ?? true);
const say = (line: string): void => {
  process.stderr.write(`${line}\n`);
};

async function run(): Promise<void> {
  if (options.build) build();
  const server = await RedisServer.start();
  const setting: Setting = options.quick
    ? { url: server.url, quick: true, rounds: 3, roundMs: 100 }
    : { url: server.url, quick: false, rounds: 7, roundMs: 400 };
  const machine = await describeMachine(server.url);
  const sentence = machineSentence(machine, setting.rounds);
  const results: { name: string; seconds: number; tables: readonly Table[] }[] = [];
  for (const { name, run: measure } of chosen) {
    say(`${name} …`);
    const start = performance.now();
    const tables = await measure(setting);
    results.push({ name, seconds: Math.round((performance.now() - start) / 1000), tables });
    if (!options.json) for (const table of tables) process.stdout.write(`\n${markdown(table)}\n\n`);
  }
  if (options.json)
    process.stdout.write(`${JSON.stringify({ machine, setting: { ...setting, url: undefined }, results }, null, 2)}\n`);
  else say(sentence);
  if (options.write) {
    const sections = results.map(({ name, tables }) => [name, [sentence, ...tables.map(markdown)].join('\n\n')] as const);
    writeSections(new Map(sections.map(([name, content]) => [name, `\n${content}\n`])));
    say('docs/BENCHMARKS.md is up to date');
  }
}

try {
  await run();
} catch (error) {
  say(error instanceof Error ? (error.stack ?? error.message) : String(error));
  process.exitCode = 1;
} finally {
  await endAll();
  // what a failed benchmark left open must not keep it alive
  process.exit();
}
