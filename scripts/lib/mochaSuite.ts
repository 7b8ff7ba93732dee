import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { failed, type Outcome, skipped, sum } from './outcome.js';
import { ProcessGroup } from './processGroup.js';
import type { SuiteEvent } from './SuiteReporter.js';

export interface MochaSuiteOptions {
  readonly root: string;
  /** Folders below `root`; their `*.test.ts` are run, in one mocha process. */
  readonly folders: readonly string[];
  /** Modules below `root` that mocha loads first. */
  readonly require?: readonly string[];
  readonly grep?: string | undefined;
  readonly env?: Readonly<Record<string, string>>;
  /** In CI a missing folder and a pending test are failures. */
  readonly strict: boolean;
  /** For the whole suite; past it it is killed. @defaultValue 10 minutes */
  readonly limitMs?: number;
  /** From the last test to the end of the process: mocha is run without --exit, so that what leaks shows. @defaultValue 15 s */
  readonly exitLimitMs?: number;
  /** Throws away what mocha prints. */
  readonly silent?: boolean;
}

/** Runs the tests of some folders in a mocha process of their own. Hanging, crashing and leaking count as a failed test each. */
export async function mochaSuite(options: MochaSuiteOptions): Promise<Outcome> {
  const { root, folders, grep, strict, limitMs = 600_000, exitLimitMs = 15_000 } = options;
  const empty = folders.filter((folder) => testFiles(root, folder).length === 0);
  if (empty.length > 0) return (strict ? failed : skipped)(`${empty.join(', ')}: there are no *.test.ts files`);

  const scratch = mkdtempSync(join(tmpdir(), 'lukhas-suite-'));
  const events = join(scratch, 'events');
  const args = [
    join(root, 'node_modules/mocha/bin/mocha.js'),
    ...['--reporter', join(root, 'scripts/lib/SuiteReporter.ts')],
    ...(options.require ?? []).flatMap((module) => ['--require', join(root, module)]),
    ...(grep === undefined ? [] : ['--grep', grep]),
    ...folders.flatMap((folder) => testFiles(root, folder)),
  ];
  const group = new ProcessGroup(process.execPath, args, {
    cwd: root,
    env: { ...process.env, ...options.env, LUKHAS_SUITE_EVENTS: events },
    silent: options.silent ?? false,
  });
  try {
    const problem = await watch(group, () => hasEnded(events), limitMs, exitLimitMs);
    const result = count(readEvents(events), strict);
    const left = await group.leftBehind(2_000);
    group.kill();
    return sum([
      result,
      ...verdict(readEvents(events), result, problem, limitMs, exitLimitMs),
      ...left.map((line) => failed(`left running: ${line}`)),
    ]);
  } finally {
    group.kill();
    rmSync(scratch, { recursive: true, force: true });
  }
}

type Problem = { readonly kind: 'exit'; readonly how: string } | { readonly kind: 'late' | 'lingering' } | undefined;

/** Waits for the end of the process, and makes it end past its limits. */
async function watch(group: ProcessGroup, testsEnded: () => boolean, limitMs: number, exitLimitMs: number): Promise<Problem> {
  const deadline = performance.now() + limitMs;
  let exitDeadline = Number.POSITIVE_INFINITY;
  for (;;) {
    const tick = new Promise<'tick'>((resolve) => setTimeout(resolve, 100, 'tick'));
    const how = await Promise.race([group.ended, tick]);
    if (how !== 'tick') return how === undefined ? undefined : { kind: 'exit', how };
    const now = performance.now();
    if (exitDeadline === Number.POSITIVE_INFINITY && testsEnded()) exitDeadline = now + exitLimitMs;
    if (now > deadline || now > exitDeadline) {
      await group.end();
      return { kind: now > exitDeadline ? 'lingering' : 'late' };
    }
  }
}

function verdict(
  events: readonly SuiteEvent[],
  result: Outcome,
  problem: Problem,
  limitMs: number,
  exitLimitMs: number,
): readonly Outcome[] {
  if (problem?.kind === 'lingering') {
    return [
      failed(
        `mocha did not exit within ${exitLimitMs / 1000} s of the last test: something is left open (see "kept alive by" above)`,
      ),
    ];
  }
  const last = events.findLast((event) => event.kind === 'test');
  const where = last && 'title' in last ? `, in or after "${last.title}"` : ', before the first test';
  if (problem?.kind === 'late') return [failed(`killed after ${limitMs / 1000} s${where}`)];
  const ended = events.some((event) => event.kind === 'end');
  if (problem?.kind === 'exit' && !ended) return [failed(`mocha crashed (${problem.how})${where}`)];
  if (problem?.kind === 'exit' && result.failed === 0) return [failed(`mocha ended with ${problem.how} although no test failed`)];
  if (!ended) return [failed(`mocha ended before its tests did${where}`)];
  return [];
}

function count(events: readonly SuiteEvent[], strict: boolean): Outcome {
  return sum(
    events.flatMap((event): readonly Outcome[] => {
      switch (event.kind) {
        case 'pass':
          return [{ passed: 1, failed: 0, skipped: 0, notes: [] }];
        case 'fail':
          return [failed(`${event.title}: ${event.message.split('\n', 1)[0] ?? ''}`)];
        case 'pending':
          return [strict ? failed(`${event.title}: skipped, and in CI nothing is`) : skipped(`${event.title}: pending`)];
        default:
          return [];
      }
    }),
  );
}

/** What the reporter has written so far. */
export function readEvents(file: string): readonly SuiteEvent[] {
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, 'utf8').split('\n');
  lines.pop(); // what follows the last newline: nothing, or the half line of a process that was killed
  return lines.map((line) => JSON.parse(line) as SuiteEvent);
}

function hasEnded(file: string): boolean {
  return existsSync(file) && readFileSync(file, 'utf8').endsWith('{"kind":"end"}\n');
}

function testFiles(root: string, folder: string): readonly string[] {
  const path = join(root, folder);
  if (!existsSync(path)) return [];
  return readdirSync(path, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => join(path, name))
    .sort();
}
