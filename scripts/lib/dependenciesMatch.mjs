/**
 * Exits 0 where node_modules holds what package-lock.json names, 1 where `npm ci` is needed. npm itself writes
 * node_modules/.package-lock.json as the last step of an installation; comparing the two takes milliseconds, `npm ls` seconds.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

function packages(...path) {
  try {
    return JSON.parse(readFileSync(join(process.argv[2], ...path), 'utf8')).packages ?? {};
  } catch {
    return undefined;
  }
}

const wanted = packages('package-lock.json');
const installed = packages('node_modules', '.package-lock.json');
const same = (a, b) => a !== undefined && a.version === b.version && a.integrity === b.integrity;

const matches =
  wanted !== undefined &&
  installed !== undefined &&
  // Optional packages of other platforms stay out.
  Object.entries(wanted).every(([path, entry]) => path === '' || same(installed[path], entry) || (entry.optional && !installed[path])) &&
  Object.keys(installed).every((path) => path in wanted);

process.exitCode = matches ? 0 : 1;
