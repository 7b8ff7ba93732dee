/**
 * Holds the imports of src/ and queues/ against the layers: an arrow only ever points down, core stays pure, one layer speaks Redis,
 * one file spells a key, and no file imports itself by a detour. Exit code 1 and one line a violation where something breaks this.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Import, importsOf } from './lib/imports.js';
import { type SourceToken, sourceTokens } from './lib/sourceTokens.js';
import { printViolations, type Violation } from './lib/violations.js';

/** For each layer, those it may import beside itself. `index` is src/index.ts, what a user imports. */
const LAYERS: Readonly<Record<string, readonly string[]>> = {
  core: [],
  redis: ['core'],
  replica: ['redis', 'core'],
  integrity: ['replica', 'redis', 'core'],
  locks: ['redis', 'core'],
  transactions: ['replica', 'redis', 'core'],
  store: ['locks', 'transactions', 'integrity', 'replica', 'redis', 'core'],
  index: ['queues', 'store', 'core'],
  cli: ['queues', 'store', 'core'],
  queues: ['store', 'core'],
};

/** What core may use of Node: nothing of it does I/O, waits or tells the time. */
const PURE_BUILTINS = new Set(['node:buffer', 'node:crypto', 'node:events', 'node:util', 'node:zlib']);
/** Names in code that are a clock, chance or a timer, which core takes as arguments instead. */
const IMPURE_NAMES = new Set([
  ...['performance', 'setTimeout', 'setInterval', 'setImmediate', 'queueMicrotask', 'process', 'fetch'],
  ...['randomUUID', 'randomBytes', 'randomInt', 'getRandomValues'],
]);

const SPEAKS_REDIS = 'redis';
const SPELLS_KEYS = 'src/redis/keys.ts';
const KEY_PREFIX = '{lc:';

interface Source {
  readonly file: string;
  readonly layer: string;
  readonly tokens: readonly SourceToken[];
  readonly imports: readonly Import[];
}

/** The `src/` and `queues/` folders of the project at `root`. */
export function checkLayers(root: string): readonly Violation[] {
  const violations: Violation[] = [];
  const sources = new Map<string, Source>();
  const files = sourceFiles(root);
  for (const file of files) {
    try {
      const tokens = sourceTokens(readFileSync(join(root, file), 'utf8'));
      sources.set(file, { file, layer: layerOf(file), tokens, imports: importsOf(tokens) });
    } catch (error) {
      violations.push({ file, line: 1, rule: error instanceof Error ? error.message : String(error) });
    }
  }
  if (files.length === 0) violations.push({ file: 'src', line: 1, rule: 'there are no sources in it' });
  for (const source of sources.values()) {
    const problem = (line: number, rule: string): void => void violations.push({ file: source.file, line, rule });
    if (!(source.layer in LAYERS))
      problem(1, `'${source.layer}' is no layer: scripts/checkLayers.ts names them, and what each may import`);
    for (const one of source.imports) checkImport(source, one, sources, problem);
    checkWords(source, problem);
  }
  return [...violations, ...cycles(sources)];
}

function sourceFiles(root: string): readonly string[] {
  return ['src', 'queues'].flatMap((folder) =>
    existsSync(join(root, folder))
      ? readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
          .filter((name) => /\.[cm]?tsx?$/.test(name))
          .map((name) => `${folder}/${name.replaceAll('\\', '/')}`)
          .sort()
      : [],
  );
}

function layerOf(file: string): string {
  const [top = '', second = '', ...deeper] = file.split('/');
  if (top !== 'src') return top;
  return deeper.length > 0 ? second : second.replace(/\.[cm]?tsx?$/, '');
}

type Report = (line: number, rule: string) => void;

function checkImport(source: Source, { specifier, line }: Import, sources: ReadonlyMap<string, Source>, problem: Report): void {
  const { layer } = source;
  if (specifier === undefined) {
    problem(line, 'a computed import cannot be checked: name the module');
    return;
  }
  if (specifier.startsWith('.') || specifier.startsWith('/')) {
    const target = resolve(source.file, specifier);
    const other = sources.get(target)?.layer ?? layerOf(target);
    if (!/^(src|queues)\//.test(target)) {
      problem(line, `imports ${target}, outside of src/ and queues/`);
    } else if (other !== layer && !LAYERS[layer]?.includes(other)) {
      problem(line, `${layer} must not import ${other} (${target}); it may import ${list(LAYERS[layer] ?? [])}`);
    }
    return;
  }
  const name = packageName(specifier);
  if (name === 'lukhas-context') problem(line, 'imports the package itself: name the file');
  if (name === 'ioredis' && layer !== SPEAKS_REDIS) problem(line, `only src/${SPEAKS_REDIS}/ may import ioredis`);
  if (layer !== 'core') return;
  if (isBuiltin(specifier) && !PURE_BUILTINS.has(`node:${specifier.replace(/^node:/, '')}`)) {
    problem(line, `core must not import ${specifier}: it is pure, and may use ${list([...PURE_BUILTINS])}`);
  }
}

function checkWords({ file, layer, tokens }: Source, problem: Report): void {
  tokens.forEach(({ kind, text, line }, index) => {
    if ((kind === 'string' || kind === 'template') && text.includes(KEY_PREFIX) && file !== SPELLS_KEYS) {
      problem(line, `only ${SPELLS_KEYS} may spell a key ('${KEY_PREFIX}')`);
    }
    if (layer === 'core' && kind === 'name') {
      const found = impurity(tokens, index);
      if (found)
        problem(line, `core must not use ${found}: it has no clock, no chance and no timers of its own; take it as an argument`);
    }
  });
}

function impurity(tokens: readonly SourceToken[], index: number): string | undefined {
  const text = tokens[index]?.text ?? '';
  const [previous, next, after] = [tokens[index - 1]?.text, tokens[index + 1]?.text, tokens[index + 2]?.text];
  const member = memberAfter(tokens, index);
  if (text === 'Date' && member === 'now') return 'Date.now';
  if (text === 'Date' && previous === 'new' && (next !== '(' || after === ')')) return 'new Date() without a time';
  if (text === 'Math' && member === 'random') return 'Math.random';
  if (!IMPURE_NAMES.has(text)) return undefined;
  // A property, a parameter or a method that only has the same name.
  const declared =
    next === ':' || (next === '?' && after === ':') || next === '=' || (next === '(' && (previous === '{' || previous === ';'));
  const global = ['globalThis', 'crypto'].includes(tokens[index - 2]?.text ?? '');
  return declared || (previous === '.' && !global) ? undefined : text;
}

/** `now` of `Date.now`, `Date?.now` and `Date['now']`. */
function memberAfter(tokens: readonly SourceToken[], index: number): string | undefined {
  let at = index + 1;
  if (tokens[at]?.text === '?') at++;
  if (tokens[at]?.text === '.') at++;
  if (tokens[at]?.text === '[') at++;
  return at === index + 1 ? undefined : tokens[at]?.text;
}

/** One violation for each group of files that import each other, types included, with the shortest way round. */
function cycles(sources: ReadonlyMap<string, Source>): readonly Violation[] {
  const violations: Violation[] = [];
  const told = new Set<string>();
  for (const source of sources.values()) {
    if (told.has(source.file)) continue;
    const way = wayBack(source, sources);
    if (!way) continue;
    for (const file of way) told.add(file);
    const line =
      source.imports.find(({ specifier }) => specifier?.startsWith('.') && resolve(source.file, specifier) === way[1])?.line ?? 1;
    violations.push({
      file: source.file,
      line,
      rule: `imports itself by a detour: ${[...way, source.file].join(' -> ')}; move what both need into a file of its own`,
    });
  }
  return violations;
}

/** The shortest chain of imports from `start` back to it, without its end. */
function wayBack(start: Source, sources: ReadonlyMap<string, Source>): readonly string[] | undefined {
  const ways: string[][] = [[start.file]];
  const seen = new Set<string>();
  for (let way = ways.shift(); way; way = ways.shift()) {
    const last = sources.get(way.at(-1) ?? '');
    for (const { specifier } of last?.imports ?? []) {
      if (last === undefined || !specifier?.startsWith('.')) continue;
      const target = resolve(last.file, specifier);
      if (target === start.file) return way;
      if (!seen.has(target)) {
        seen.add(target);
        ways.push([...way, target]);
      }
    }
  }
  return undefined;
}

/** The source file that a relative specifier means: its `.js` stands for `.ts`. */
function resolve(from: string, specifier: string): string {
  return posix.join(posix.dirname(from), specifier).replace(/\.([cm]?)js$/, '.$1ts');
}

function packageName(specifier: string): string {
  const [first = '', second] = specifier.split('/');
  return first.startsWith('@') ? `${first}/${second ?? ''}` : first;
}

const isBuiltin = (specifier: string): boolean => specifier.startsWith('node:') || BUILTINS.has(packageName(specifier));

const BUILTINS = new Set(builtinModules);

const list = (names: readonly string[]): string => (names.length === 0 ? 'nothing but itself' : names.join(', '));

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.exitCode = printViolations(checkLayers(process.cwd()), 'layers');
}
