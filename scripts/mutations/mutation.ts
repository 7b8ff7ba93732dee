/** What a planted bug is, and the rules for one. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A bug to be planted, and the test that has to notice it. */
export interface Mutation {
  /** What is broken then, as a few words; another one for every mutation. */
  readonly name: string;
  /** Source or script, relative to the project. */
  readonly file: string;
  /** Exact text; it must be in the file once. */
  readonly find: string;
  readonly replace: string;
  /** `grep`: pattern of the full names, as mocha's. */
  readonly test: { readonly file: string; readonly grep: string };
}

/** The file with the bug in it. Throws where the text to replace is not there exactly once. */
export function mutated({ file, find, replace }: Mutation, source: string): string {
  const count = find === '' ? 0 : source.split(find).length - 1;
  if (count !== 1) throw new Error(`${file} has the text to replace ${count} times, not once:\n${find}`);
  if (find === replace) throw new Error(`${file}: nothing is replaced by ${find}`);
  // a function, so that '$&' stays what it is
  return source.replace(find, () => replace);
}

/** What is wrong with a list, one sentence each, without running anything. */
export function listProblems(root: string, mutations: readonly Mutation[]): string[] {
  const problems: string[] = [];
  const names = new Set<string>();
  for (const mutation of mutations) {
    const { name, file, test } = mutation;
    if (names.has(name)) problems.push(`${name}: there are two of this name`);
    names.add(name);
    if (!existsSync(join(root, test.file))) problems.push(`${name}: there is no ${test.file}`);
    if (!existsSync(join(root, file))) {
      problems.push(`${name}: there is no ${file}`);
      continue;
    }
    try {
      mutated(mutation, readFileSync(join(root, file), 'utf8'));
    } catch (error) {
      problems.push(`${name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return problems;
}
