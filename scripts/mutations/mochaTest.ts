import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readEvents } from '../lib/mochaSuite.js';
import { ProcessGroup } from '../lib/processGroup.js';

const REPORTER = join(import.meta.dirname, '../lib/SuiteReporter.ts');

/** What became of the tests of one file. `no verdict`: it crashed, hung, or there was nothing to run; that says nothing about a bug. */
export interface TestVerdict {
  readonly verdict: 'passed' | 'failed' | 'no verdict';
  /** What failed first, or why there is no verdict. */
  readonly note: string;
}

export interface MochaTestOptions {
  readonly root: string;
  readonly file: string;
  readonly grep: string;
  /** Past it it is killed. @defaultValue 5 minutes */
  readonly limitMs?: number;
}

/** Runs the tests of a file whose names match, in a mocha process of their own. */
export async function mochaTest({ root, file, grep, limitMs = 300_000 }: MochaTestOptions): Promise<TestVerdict> {
  const scratch = mkdtempSync(join(tmpdir(), 'lukhas-mutation-'));
  const events = join(scratch, 'events');
  const mocha = join(root, 'node_modules/mocha/bin/mocha.js');
  // a bug may leave things open: only what the tests say counts here
  const args = [mocha, '--exit', '--reporter', REPORTER, '--grep', grep, join(root, file)];
  const group = new ProcessGroup(process.execPath, args, {
    cwd: root,
    // what a failed test keeps for people goes with the rest
    env: { ...process.env, LUKHAS_SUITE_EVENTS: events, TMPDIR: scratch },
    silent: true,
  });
  let timer: NodeJS.Timeout | undefined;
  try {
    const late = new Promise<'late'>((resolve) => {
      timer = setTimeout(resolve, limitMs, 'late');
    });
    const how = await Promise.race([group.ended, late]);
    if (how === 'late') {
      await group.end();
      return { verdict: 'no verdict', note: `killed after ${limitMs / 1000} s` };
    }
    return judge(events, how);
  } finally {
    clearTimeout(timer);
    await group.end();
    rmSync(scratch, { recursive: true, force: true });
  }
}

function judge(file: string, how: string | undefined): TestVerdict {
  const events = readEvents(file);
  if (!events.some(({ kind }) => kind === 'end'))
    return { verdict: 'no verdict', note: `mocha crashed (${how ?? 'exit code 0'})` };
  const begun = new Set(events.flatMap((event) => (event.kind === 'test' ? [event.title] : [])));
  // a hook that fails is no test: it fails as well where the bug is one that does not even load
  const failures = events.flatMap((event) => (event.kind === 'fail' ? [event] : []));
  const failure = failures.find(({ title }) => begun.has(title));
  const line = (title: string, message: string): string => `${title}: ${message.split('\n', 1)[0] ?? ''}`;
  if (failure !== undefined) return { verdict: 'failed', note: line(failure.title, failure.message) };
  const [hook] = failures;
  if (hook !== undefined) return { verdict: 'no verdict', note: line(hook.title, hook.message) };
  const passed = events.filter(({ kind }) => kind === 'pass').length;
  return passed === 0 ? { verdict: 'no verdict', note: 'no test ran' } : { verdict: 'passed', note: `${passed} passed` };
}
