/** The packages of rivals/ are not among the project's own: they are installed when the benchmark that needs them runs. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const FOLDER = join(import.meta.dirname, '..', 'rivals');

interface Packages {
  readonly packages: Readonly<Record<string, { readonly version?: string; readonly dev?: boolean; readonly optional?: boolean }>>;
}

const read = (path: string): Packages => JSON.parse(readFileSync(path, 'utf8')) as Packages;

function upToDate(): boolean {
  const installed = join(FOLDER, 'node_modules', '.package-lock.json');
  if (!existsSync(installed)) return false;
  const there = read(installed).packages;
  return Object.entries(read(join(FOLDER, 'package-lock.json')).packages).every(
    ([path, { version, optional }]) => path === '' || optional === true || there[path]?.version === version,
  );
}

/** Installs what rivals/package-lock.json names, unless it is there. Throws one sentence where that fails. */
export function installRivals(say: (line: string) => void): void {
  if (upToDate()) return;
  say('installing what the benchmark compares with (npm ci --prefix scripts/bench/rivals)');
  const { status, stderr } = spawnSync('npm', ['ci', '--prefix', FOLDER, '--ignore-scripts', '--loglevel=error'], {
    encoding: 'utf8',
    shell: process.platform === 'win32',
  });
  if (status !== 0) {
    throw new Error(
      `the packages to compare with could not be installed; see that the npm registry is reached, or leave the benchmark out: ${stderr.trim()}`,
    );
  }
}

/** The version of one of them. */
export const rivalVersion = (name: string): string =>
  read(join(FOLDER, 'package-lock.json')).packages[`node_modules/${name}`]?.version ?? '?';
