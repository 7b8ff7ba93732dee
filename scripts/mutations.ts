/**
 * Plants bugs, one after the other, each in a copy of the project, and runs the test that exists because of it: `npm run test:mutations`. Exit
 * code 1 where a bug survives its test, or where nothing can be said; 2 where the list itself is wrong. The list: scripts/mutations/list.ts.
 */
import { join } from 'node:path';
import { Command } from 'commander';
import { ProcessGroup } from './lib/processGroup.js';
import { MUTATIONS } from './mutations/list.js';
import { listProblems, type Mutation } from './mutations/mutation.js';
import { exitCodeOf, type MutationResult, runMutations } from './mutations/runMutations.js';

interface Options {
  readonly only?: string[];
  readonly list?: true;
  readonly json?: true;
}

const ROOT = join(import.meta.dirname, '..');
const MARKS: Readonly<Record<MutationResult['outcome'], string>> = { caught: '✓', survived: '✗', 'no verdict': '?' };

const command = new Command('npm run test:mutations --')
  .description('Plants bugs in a copy of the project and runs the tests that have to notice them.')
  .option('--only <words...>', 'only mutations whose name has one of these in it')
  .option('--list', 'only say which there are')
  .option('--json', 'one JSON document instead of a table')
  .addHelpText(
    'after',
    [
      '',
      'Each test runs twice: as it is, where it has to pass, and with the bug, where it has to fail. A crash, a hang, a hook that fails',
      'or no test at all is no verdict. Exit code 0 where every bug was caught, 1 where one was not, 2 where the list is wrong.',
      '',
      'Examples:',
      '  npm run test:mutations',
      '  npm run test:mutations -- --list',
      "  npm run test:mutations -- --only ifVersion 'SHA-1'",
      '  npm run --silent test:mutations -- --json',
    ].join('\n'),
  )
  .parse();

function chosen({ only }: Options): readonly Mutation[] {
  const unknown = only?.find((word) => !MUTATIONS.some(({ name }) => name.includes(word)));
  if (unknown !== undefined)
    command.error(`no mutation has "${unknown}" in its name; --list tells which there are`, { exitCode: 2 });
  return MUTATIONS.filter(({ name }) => only?.some((word) => name.includes(word)) ?? true);
}

const row = ({ outcome, name, seconds, test, note }: MutationResult): string =>
  `${MARKS[outcome]} ${outcome.padEnd(10)} ${seconds.toFixed(1).padStart(6)} s  ${name}\n${' '.repeat(23)}${test}\n${' '.repeat(23)}${note}`;

/** Exit code after a signal; the test that runs is ended, and no other begins. */
let interrupted: number | undefined;

async function main(): Promise<number> {
  const options = command.opts<Options>();
  const mutations = chosen(options);
  const problems = listProblems(ROOT, mutations);
  for (const problem of problems) console.error(problem);
  if (problems.length > 0) return 2;
  if (options.list === true) {
    if (options.json === true) console.log(JSON.stringify(mutations, null, 2));
    else for (const { name, file, test } of mutations) console.log(`${name}\n  ${file}, noticed by ${test.file} (${test.grep})`);
    return 0;
  }
  const onResult = (result: MutationResult): void => {
    if (options.json !== true) console.log(row(result));
  };
  const results = await runMutations({ root: ROOT, mutations, onResult }, () => interrupted !== undefined);
  if (interrupted !== undefined) return interrupted;
  const caught = results.filter(({ outcome }) => outcome === 'caught').length;
  if (options.json === true) console.log(JSON.stringify({ caught, results }, null, 2));
  else console.log(`${caught} of ${results.length} caught`);
  return exitCodeOf(results);
}

for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  process.once(signal, () => {
    interrupted = code;
    void ProcessGroup.endAll();
  });
}

process.exitCode = await main();
