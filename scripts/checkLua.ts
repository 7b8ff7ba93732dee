/**
 * Holds the header of every script in lua/ against its code: declared KEYS and ARGV are those that are used (by its includes too),
 * declared statuses those that are returned, every entry is there. Exit code 1 and one line a violation where something differs.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { declaredStatuses, luaHeader, luaIncludes, type Parameter } from './lib/luaHeader.js';
import { type LuaToken, luaTokens } from './lib/luaTokens.js';
import { printViolations, type Violation } from './lib/violations.js';

const KEY_TYPES = new Set(['string', 'hash', 'list', 'set', 'zset', 'stream']);
const ENTRIES = ['Returns', 'Publishes', 'Atomic because'];

interface Script {
  readonly file: string;
  readonly tokens: readonly LuaToken[];
}

/** The `lua/` folder of the project at `root`. */
export function checkLua(root: string): readonly Violation[] {
  const violations: Violation[] = [];
  const folder = join(root, 'lua');
  const files = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith('.lua')) : [];
  if (files.length === 0) violations.push({ file: 'lua', line: 1, rule: 'there are no scripts in it' });
  const includes = includeScripts(root, violations);
  for (const file of files.sort()) {
    const script = readScript(root, `lua/${file}`, violations);
    if (script) checkScript(script, includes, violations);
  }
  for (const script of includes.values()) checkInclude(script, includes, violations);
  return violations;
}

function includeScripts(root: string, violations: Violation[]): ReadonlyMap<string, Script> {
  const folder = join(root, 'lua/include');
  const files = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith('.lua')) : [];
  const scripts = new Map<string, Script>();
  for (const file of files.sort()) {
    const script = readScript(root, `lua/include/${file}`, violations);
    if (script) scripts.set(basename(file, '.lua'), script);
  }
  return scripts;
}

function readScript(root: string, file: string, violations: Violation[]): Script | undefined {
  // The line that tells Redis its flags is no Lua; its place is kept, so that line numbers stay.
  const source = readFileSync(join(root, file), 'utf8').replace(/^#!.*/, '');
  try {
    return { file, tokens: luaTokens(source) };
  } catch (error) {
    violations.push({ file, line: 1, rule: String(error instanceof Error ? error.message : error) });
    return undefined;
  }
}

function checkInclude(script: Script, includes: ReadonlyMap<string, Script>, violations: Violation[]): void {
  const { file, tokens } = script;
  const problem = (line: number, rule: string): void => void violations.push({ file, line, rule });
  checkName(script, luaHeader(tokens, problem), problem);
  checkIncludeLines(script, includes, problem);
  for (const line of cycleLines(script, includes)) problem(line, `@include ${basename(file, '.lua')} comes back to itself`);
  checkCommands(tokens, problem);
}

function checkScript(script: Script, includes: ReadonlyMap<string, Script>, violations: Violation[]): void {
  const { file, tokens } = script;
  const problem = (line: number, rule: string): void => void violations.push({ file, line, rule });
  const header = luaHeader(tokens, problem);
  checkName(script, header, problem);
  for (const entry of ENTRIES) {
    if (!header.entries.get(entry)) problem(1, `the header lacks '${entry}: …'`);
  }
  checkIncludeLines(script, includes, problem);
  checkCommands(tokens, problem);
  const all = [script, ...included(script, includes)];
  for (const table of ['KEYS', 'ARGV'] as const) {
    const declared = header.parameters.filter((parameter) => parameter.table === table);
    checkDeclarations(table, declared, problem);
    checkUses(table, declared, all, problem);
  }
  checkStatuses(header.entries.get('Returns') ?? '', all, problem);
}

type Report = (line: number, rule: string) => void;

function checkName(
  script: Script,
  header: { readonly name: string | undefined; readonly promise: string },
  problem: Report,
): void {
  const name = basename(script.file, '.lua');
  if (header.name !== name || header.promise === '') problem(1, `the header must begin with '-- ${name}: <what it promises>'`);
}

function checkDeclarations(table: string, declared: readonly Parameter[], problem: Report): void {
  declared.forEach(({ from, type, text, line, open }, index) => {
    if (from !== index + 1) problem(line, `${table}[${from}] stands where ${table}[${index + 1}] is expected`);
    if (open && index < declared.length - 1) problem(line, `${table}[${from}..] must be the last ${table}`);
    if (table === 'KEYS' && !KEY_TYPES.has(type)) problem(line, `KEYS[${from}] needs its type: ${[...KEY_TYPES].join(', ')}`);
    if (table === 'ARGV' && !/^[A-Za-z][\w-]*$/.test(type)) problem(line, `ARGV[${from}] needs its unit, or 'string'`);
    if (text === '') problem(line, `${table}[${from}] needs a word on what it holds`);
  });
}

function checkUses(table: 'KEYS' | 'ARGV', declared: readonly Parameter[], scripts: readonly Script[], problem: Report): void {
  const open = declared.find((parameter) => parameter.open);
  const used = new Set<number>();
  let computed = false;
  let whole = false;
  for (const { file, tokens } of scripts) {
    const where = (line: number): string => (file === scripts[0]?.file ? '' : ` (${file}:${line})`);
    const at = (line: number): number => (file === scripts[0]?.file ? line : 1);
    const code = tokens.filter(({ kind }) => kind !== 'comment');
    code.forEach(({ kind, text, line }, index) => {
      if (kind !== 'name' || text !== table || code[index - 1]?.text === '.') return;
      const [bracket, number, close] = code.slice(index + 1, index + 4);
      if (bracket?.text === '[' && number?.kind === 'number' && close?.text === ']') {
        const n = Number(number.text);
        used.add(n);
        if (!declared.some(({ from, open }) => from === n || (open && n >= from))) {
          problem(at(line), `${table}[${n}] is used and not declared in the header${where(line)}`);
        }
      } else if (code[index - 1]?.text !== '#') {
        computed = true;
        // given to a function of an include, which reads them by their places
        const unpacked = code[index - 1]?.text === '(' && code[index - 2]?.text === 'unpack';
        if ((bracket?.text === ')' || bracket?.text === ',') && !unpacked) whole = true;
        else if (!open)
          problem(at(line), `${table} is used with a computed index: declare '${table}[n..]' or '${table}[*]'${where(line)}`);
      }
    });
  }
  for (const { from, open, line } of declared) {
    if (whole) continue;
    if (open ? !computed && ![...used].some((n) => n >= from) : !used.has(from)) {
      problem(line, `${table}[${from}${open ? '..' : ''}] is declared and not used`);
    }
  }
}

const STATUS = /^[A-Z][A-Z0-9_]+$/;
/** What stands before a table that is a reply. A table inside another one, or an argument, is something else. */
const BEFORE_REPLY = new Set(['return', '=', 'or', 'and']);

function checkStatuses(returns: string, scripts: readonly Script[], problem: Report): void {
  const { statuses, told } = declaredStatuses(returns);
  const spelled = new Set<string>();
  for (const { file, tokens } of scripts) {
    const own = file === scripts[0]?.file;
    const code = tokens.filter(({ kind }) => kind !== 'comment');
    code.forEach(({ kind, text, line }, index) => {
      if (kind !== 'string') return;
      spelled.add(text);
      const [beforeTable, before] = [code[index - 2], code[index - 1]];
      const reply = before?.text === '{' ? BEFORE_REPLY.has(beforeTable?.text ?? '') : before?.text === 'return';
      if (!reply || !STATUS.test(text) || statuses.has(text) || told.has(text)) return;
      problem(own ? line : 1, `returns ${text}, which 'Returns:' does not declare${own ? '' : ` (${file}:${line})`}`);
    });
  }
  for (const status of statuses) {
    if (!spelled.has(status)) problem(1, `'Returns:' declares ${status}, which the code never says`);
  }
}

/** KEYS walks the whole key space with Redis blocked. */
function checkCommands(tokens: readonly LuaToken[], problem: Report): void {
  const code = tokens.filter(({ kind }) => kind !== 'comment');
  code.forEach(({ kind, text, line }, index) => {
    if (kind !== 'string' || text.toUpperCase() !== 'KEYS') return;
    const called = code
      .slice(Math.max(0, index - 4), index)
      .map(({ text }) => text)
      .join('');
    if (/^redis\.p?call\($/.test(called) || /(^|\.)p?call\($/.test(called)) problem(line, 'the command KEYS is forbidden');
  });
}

function checkIncludeLines(script: Script, includes: ReadonlyMap<string, Script>, problem: Report): void {
  const seen = new Set<string>();
  for (const { name, line } of luaIncludes(script.tokens)) {
    if (!/^[A-Za-z][\w-]*$/.test(name)) problem(line, `'@include ${name}': one name without folder and ending is expected`);
    else if (!includes.has(name)) problem(line, `@include ${name}: there is no lua/include/${name}.lua`);
    if (seen.has(name)) problem(line, `@include ${name} stands twice`);
    seen.add(name);
  }
}

/** Everything a script pulls in, each once, cycles or not. */
function included(script: Script, includes: ReadonlyMap<string, Script>, found = new Set<Script>()): ReadonlySet<Script> {
  for (const { name } of luaIncludes(script.tokens)) {
    const next = includes.get(name);
    if (next && !found.has(next)) {
      found.add(next);
      included(next, includes, found);
    }
  }
  return found;
}

/** Lines of the includes of `script` that lead back to it. */
function cycleLines(script: Script, includes: ReadonlyMap<string, Script>): readonly number[] {
  return luaIncludes(script.tokens)
    .filter(({ name }) => {
      const next = includes.get(name);
      return next !== undefined && (next === script || included(next, includes).has(script));
    })
    .map(({ line }) => line);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.exitCode = printViolations(checkLua(process.cwd()), 'Lua headers');
}
