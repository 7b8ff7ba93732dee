/**
 * The package as its users get it: compiled by the project's own build. Run from its sources through tsx it takes a tenth longer, because
 * tsx names every function anew each time it is made.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const ROOT = join(import.meta.dirname, '..', '..', '..');
const SOURCES = join(ROOT, 'dist', 'src');
const ENTRY = join(SOURCES, 'index.js');
const QUEUES = join(ROOT, 'dist', 'queues');

/** Compiles it into dist/. */
export function build(): void {
  const { status, stdout, stderr } = spawnSync('npm', ['run', '--silent', 'build'], {
    cwd: ROOT,
    encoding: 'utf8',
    shell: process.platform === 'win32',
  });
  if (status !== 0) throw new Error(`the build failed, see \`npm run build\`:\n${stdout}${stderr}`);
}

/** What the package exports, from dist/. */
export const built = (): Promise<typeof import('../../../src/index.js')> => load(ENTRY);

/** What one of its files exports: `core/json.js`. */
export const builtFile = <T>(path: string): Promise<T> => load(join(SOURCES, path));

/** The background queues, from dist/. */
export async function builtQueues(): Promise<
  Pick<typeof import('../../../queues/Workers.js'), 'Workers'> & Pick<typeof import('../../../queues/scrub.js'), 'scrubPass'>
> {
  const [{ Workers }, { scrubPass }] = await Promise.all([
    load<typeof import('../../../queues/Workers.js')>(join(QUEUES, 'Workers.js')),
    load<typeof import('../../../queues/scrub.js')>(join(QUEUES, 'scrub.js')),
  ]);
  return { Workers, scrubPass };
}

async function load<T>(file: string): Promise<T> {
  if (!existsSync(file)) throw new Error('there is no build in dist/: leave out --no-build, or run `npm run build`');
  return (await import(pathToFileURL(file).href)) as T;
}
