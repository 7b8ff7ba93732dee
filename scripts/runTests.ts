/**
 * Runs every check and every suite of tests, one after the other, and ends with one line, `N passed, N failed`. scripts/test calls
 * it when everything it needs is there.
 */
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { commandCheck, packageCheck } from './lib/checks.js';
import { mochaSuite } from './lib/mochaSuite.js';
import { failed, type Outcome, sentence, skipped, sum } from './lib/outcome.js';
import { ProcessGroup } from './lib/processGroup.js';

interface Suite {
  readonly name: string;
  /** One that is left out by --fast. */
  readonly slow?: true;
  /** One without single tests for --grep to choose from. */
  readonly whole?: true;
  run(grep: string | undefined): Promise<Outcome>;
}

const ROOT = join(import.meta.dirname, '..');
const STRICT = process.env.CI === 'true';

const check = (name: string, ...command: readonly string[]): Suite => ({
  name,
  whole: true,
  run: () => commandCheck(ROOT, command),
});
const mocha = (name: string): Suite => ({
  name,
  run: (grep) => mochaSuite({ root: ROOT, folders: [`test/${name}`], grep, strict: STRICT }),
});

const SUITES: readonly Suite[] = [
  check('typecheck', process.execPath, 'node_modules/typescript/bin/tsc', '-p', '.'),
  check('lint', process.execPath, 'node_modules/@biomejs/biome/bin/biome', 'check', '--error-on-warnings', '.'),
  check('layers', process.execPath, '--import', 'tsx', 'scripts/checkLayers.ts'),
  check('lua-headers', process.execPath, '--import', 'tsx', 'scripts/checkLua.ts'),
  check('build', 'npm', 'run', '--silent', 'build'),
  { name: 'package', whole: true, run: async () => packageCheck(ROOT) },
  mocha('types'),
  mocha('unit'),
  mocha('property'),
  mocha('lua'),
  mocha('start'),
  mocha('integration'),
  { name: 'cli', run: (grep) => mochaSuite({ root: ROOT, folders: ['test/cli'], grep, strict: STRICT, env: builtProgram() }) },
  { ...mocha('chaos'), slow: true },
  { name: 'containers', slow: true, run: containers },
];

/** Once built in this run, it is the program that ships which is tested; it starts in a third of the time, too. */
let built = false;
function builtProgram(): Record<string, string> {
  return built ? { LUKHAS_TEST_CLI: join(ROOT, 'dist/src/cli/main.js') } : {};
}

/** The integration tests against a Redis in a container, and what only a container shows. */
async function containers(grep: string | undefined): Promise<Outcome> {
  let engineHost: string;
  try {
    engineHost = docker('info', '--format', '{{.Name}}').trim();
  } catch {
    return (STRICT ? failed : skipped)('no Docker engine answers: start one (docker info tells) for the tests in containers');
  }
  const run = randomUUID();
  const outcome = await mochaSuite({
    root: ROOT,
    folders: ['test/containers', 'test/integration'],
    require: ['test/containers/setup.ts'],
    grep,
    env: {
      // Testcontainers' helper for removing containers needs an image that may not be there to pull: that is done here.
      TESTCONTAINERS_RYUK_DISABLED: 'true',
      // An engine on this machine publishes its ports here, also where this machine looks like a container itself.
      ...(engineHost === hostname()
        ? { TESTCONTAINERS_HOST_OVERRIDE: process.env.TESTCONTAINERS_HOST_OVERRIDE ?? '127.0.0.1' }
        : {}),
      LUKHAS_TEST_RUN: run,
    },
    strict: STRICT,
  });
  const left = docker('ps', '--all', '--quiet', '--filter', `label=lukhas-context.run=${run}`).split('\n').filter(Boolean);
  if (left.length > 0) docker('rm', '--force', '--volumes', ...left);
  return sum([outcome, ...left.map((id) => failed(`left running: container ${id}`))]);
}

function docker(...args: readonly string[]): string {
  return execFileSync('docker', args, { encoding: 'utf8', stdio: 'pipe', timeout: 60_000 });
}

/** Exit code after a signal; the suite that runs is ended, and no other begins. */
let interrupted: number | undefined;

async function main(): Promise<number> {
  const { values, positionals } = readArguments();
  const unknown = positionals.filter((name) => !SUITES.some((suite) => suite.name === name));
  if (unknown.length > 0) {
    console.error(`There is no suite ${unknown.join(', ')}; there are: ${SUITES.map(({ name }) => name).join(', ')}.`);
    return 2;
  }
  const chosen = SUITES.filter(
    (suite) =>
      (positionals.length === 0 ? !(values.fast && suite.slow) : positionals.includes(suite.name)) &&
      !(values.grep !== undefined && suite.whole),
  );

  const results: { readonly name: string; readonly seconds: string; readonly outcome: Outcome }[] = [];
  for (const { name, run } of chosen) {
    console.log(`\n=== ${name}`);
    const begun = performance.now();
    const outcome = await run(values.grep).catch((error: unknown) => failed(String(error)));
    if (interrupted !== undefined) return interrupted;
    built ||= name === 'build' && outcome.failed === 0;
    const seconds = ((performance.now() - begun) / 1000).toFixed(1);
    results.push({ name, seconds, outcome });
    console.log(`--- ${name}: ${sentence(outcome)} in ${seconds} s`);
  }
  return report(results);
}

function readArguments() {
  try {
    return parseArgs({
      options: { fast: { type: 'boolean', default: false }, grep: { type: 'string' } },
      allowPositionals: true,
    });
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}\n./scripts/test --help tells what there is.`);
    process.exit(2);
  }
}

function report(results: readonly { readonly name: string; readonly seconds: string; readonly outcome: Outcome }[]): number {
  const total = sum(results.map(({ outcome }) => outcome));
  console.log('\n=== all');
  for (const { name, seconds, outcome } of results) {
    console.log(`${outcome.failed > 0 ? '✗' : '✓'} ${name.padEnd(12)} ${seconds.padStart(6)} s   ${sentence(outcome)}`);
    for (const note of outcome.notes) console.log(`    ${outcome.failed > 0 ? '✗' : '-'} ${note}`);
  }
  if (total.passed + total.failed === 0) console.log('No test ran.');
  console.log(sentence(total));
  return total.failed > 0 || total.passed === 0 ? 1 : 0;
}

for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
] as const) {
  process.once(signal, () => {
    interrupted = code;
    void ProcessGroup.endAll();
  });
}

process.exitCode = await main();
