import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { failed, type Outcome, passed } from './outcome.js';
import { ProcessGroup } from './processGroup.js';

const LIMIT_MS = 300_000;

/** Runs a command of node_modules or of ours; it counts as one test. */
export async function commandCheck(root: string, command: readonly string[]): Promise<Outcome> {
  const [name = '', ...args] = command;
  const group = new ProcessGroup(name, args, { cwd: root });
  const limit = setTimeout(() => group.kill(), LIMIT_MS);
  const how = await group.ended;
  clearTimeout(limit);
  return how === undefined ? passed() : failed(`${command.join(' ')}: ${how}`);
}

/** Looks into the package that npm would publish of the build there is; it counts as one test. */
export function packageCheck(root: string): Outcome {
  try {
    const problems = [...contentProblems(root), ...useProblems(root)];
    for (const problem of problems) console.error(problem);
    return problems.length === 0
      ? passed()
      : failed(`${problems[0]}${problems.length > 1 ? `, and ${problems.length - 1} more` : ''}`);
  } catch (error) {
    return failed(String(error));
  }
}

interface Manifest {
  readonly bin: Readonly<Record<string, string>>;
  readonly main: string;
  readonly types: string;
}

function contentProblems(root: string): readonly string[] {
  const json = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts', '--loglevel=error'], {
    cwd: root,
    encoding: 'utf8',
  });
  const [pack] = JSON.parse(json) as readonly { readonly files: readonly { readonly path: string }[] }[];
  const packed = new Set((pack?.files ?? []).map(({ path }) => path));
  const { bin, main, types } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Manifest;
  const scripts = readdirSync(join(root, 'lua'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.lua'))
    .map((name) => `lua/${name.replaceAll('\\', '/')}`);
  const problems = scripts.length === 0 ? ['lua/ holds no scripts'] : [];
  for (const path of [
    'LICENSE',
    'package.json',
    ...scripts,
    ...[...Object.values(bin), main, types].map((path) => path.replace(/^\.\//, '')),
  ]) {
    if (!packed.has(path)) problems.push(`${path} is not in the package`);
  }
  for (const path of packed) {
    // The demo replays the fixtures.
    if (/^(dist\/)?(test(?!\/fixtures\/)|scripts|\.data|node_modules)\//.test(path))
      problems.push(`${path} does not belong into the package`);
  }
  for (const path of Object.values(bin)) {
    const text = existsSync(join(root, path)) ? readFileSync(join(root, path), 'utf8') : '';
    if (!text.startsWith('#!/usr/bin/env node\n')) problems.push(`${path} does not begin with #!/usr/bin/env node`);
  }
  return problems;
}

/** The package is imported by its own name, through its exports map, and its program says how it is used. */
function useProblems(root: string): readonly string[] {
  const problems: string[] = [];
  const { bin } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Manifest;
  const uses = [
    ['--input-type=module', '--eval', `await import('lukhas-context')`],
    ...Object.values(bin).map((path) => [path, '--help']),
  ];
  for (const args of uses) {
    try {
      execFileSync(process.execPath, args, { cwd: root, encoding: 'utf8', stdio: 'pipe', timeout: 30_000 });
    } catch (error) {
      const said = (error as { stderr?: string }).stderr;
      problems.push(`node ${args.join(' ')} failed: ${said || String(error)}`);
    }
  }
  return problems;
}
