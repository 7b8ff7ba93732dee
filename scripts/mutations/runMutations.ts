import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { mochaTest, type TestVerdict } from './mochaTest.js';
import { type Mutation, mutated } from './mutation.js';

export interface MutationResult {
  readonly name: string;
  readonly test: string;
  /** `caught`: its test failed, as it has to · `survived`: it passed all the same · `no verdict`: nothing can be said. */
  readonly outcome: 'caught' | 'survived' | 'no verdict';
  readonly note: string;
  readonly seconds: number;
}

export interface MutationOptions {
  readonly root: string;
  readonly mutations: readonly Mutation[];
  /** Is told each result as it comes. */
  readonly onResult?: (result: MutationResult) => void;
  /** For one run of a test, ms. */
  readonly limitMs?: number;
}

/**
 * Plants each bug in a copy of the project and runs its test there, after it has passed without. The project itself is left alone.
 * Ends early where `stopped` says so.
 */
export async function runMutations(options: MutationOptions, stopped: () => boolean = () => false): Promise<MutationResult[]> {
  const copy = copyProject(options.root);
  try {
    const sound = new Map<string, TestVerdict>();
    const results: MutationResult[] = [];
    for (const mutation of options.mutations) {
      const result = await runMutation(copy, mutation, sound, options.limitMs);
      if (stopped()) break;
      results.push(result);
      options.onResult?.(result);
    }
    return results;
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

/** 0: every one was caught. 1: some was not. */
export const exitCodeOf = (results: readonly MutationResult[]): number =>
  results.length > 0 && results.every(({ outcome }) => outcome === 'caught') ? 0 : 1;

async function runMutation(
  root: string,
  mutation: Mutation,
  sound: Map<string, TestVerdict>,
  limitMs: number | undefined,
): Promise<MutationResult> {
  const { name, file, test } = mutation;
  const begun = performance.now();
  const label = `${test.file} (${test.grep})`;
  const result = (outcome: MutationResult['outcome'], note: string): MutationResult => {
    return { name, test: label, outcome, note, seconds: (performance.now() - begun) / 1000 };
  };
  const run = (): Promise<TestVerdict> => mochaTest({ root, ...test, ...(limitMs === undefined ? {} : { limitMs }) });
  const path = join(root, file);
  const original = existsSync(path) ? readFileSync(path, 'utf8') : '';
  let planted: string;
  try {
    planted = mutated(mutation, original);
  } catch (error) {
    return result('no verdict', error instanceof Error ? error.message : String(error));
  }
  const before = sound.get(label) ?? (await run());
  sound.set(label, before);
  if (before.verdict !== 'passed') return result('no verdict', `without it: ${before.note}`);
  writeFileSync(path, planted);
  try {
    const { verdict, note } = await run();
    return result(verdict === 'failed' ? 'caught' : verdict === 'passed' ? 'survived' : 'no verdict', note);
  } finally {
    writeFileSync(path, original);
  }
}

/** What git knows of the project or would add to it, as it is in the working copy, with the same dependencies. */
function copyProject(root: string): string {
  const listed = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: root,
    encoding: 'utf8',
  });
  const copy = mkdtempSync(join(tmpdir(), 'lukhas-mutations-'));
  for (const file of new Set(listed.split('\0').filter(Boolean))) {
    const from = join(root, file);
    // deleted, and not yet told to git; or a link to dependencies that are shared
    if (!existsSync(from) || lstatSync(from).isSymbolicLink()) continue;
    mkdirSync(dirname(join(copy, file)), { recursive: true });
    cpSync(from, join(copy, file));
  }
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  return copy;
}
