/** The Lua scripts as they are sent: read from the package's `lua/` folder, includes put in place, known by their SHA-1. */
import { existsSync, readFileSync } from 'node:fs';
import { sha1Hex } from '../core/checksum.js';
import { ContextError } from '../core/errors.js';

export const SCRIPT_NAMES = [
  'commit', 'delete', 'touch', 'expire', 'versions', 'catchup', 'checkpoint', 'repair', 'quarantine', 'drop', 'gone', 'look', 'namespace', 'scrub', 'reconcile',
  'totals', 'probe', 'transact', 'prepare', 'decide', 'finish', 'validate', 'lock', 'extend', 'unlock', 'break', 'nodes',
  'piece', 'preserve', 'forget',
] as const; // biome-ignore format: one list
/** For lock nodes, which are other servers. */
export const NODE_SCRIPT_NAMES = ['nodelock', 'nodeextend', 'nodeunlock', 'nodemark'] as const;
export type ScriptName = (typeof SCRIPT_NAMES)[number] | (typeof NODE_SCRIPT_NAMES)[number];

export interface Script {
  readonly name: ScriptName;
  readonly source: string;
  readonly sha: string;
  /** Runs through `EVALSHA_RO`. */
  readonly readOnly: boolean;
}

// the sources lie two folders below the package's root, the build three
const FOLDERS = ['../../lua/', '../../../lua/'].map((path) => new URL(path, import.meta.url));

function read(name: string): string {
  const folder = FOLDERS.find((url) => existsSync(url));
  if (folder === undefined) {
    throw new ContextError(
      'INVALID_OPTION',
      "the package's lua folder is missing: the installation is not complete; install it again",
    );
  }
  return readFileSync(new URL(`${name}.lua`, folder), 'utf8');
}

/** The source of a script with each `-- @include <name>` line replaced by `lua/include/<name>.lua`. */
export function scriptSource(name: string): string {
  return read(name).replace(/^-- @include (\w+)$/gm, (_, include: string) => read(`include/${include}`).trimEnd());
}

const loaded = new Map<ScriptName, Script>();

export function script(name: ScriptName): Script {
  const known = loaded.get(name);
  if (known !== undefined) return known;
  const source = scriptSource(name);
  const made = { name, source, sha: sha1Hex(source), readOnly: /^#!lua flags=\S*no-writes/.test(source) };
  loaded.set(name, made);
  return made;
}
