/**
 * Reads the header comment of a script in lua/, which scripts/checkLua.ts holds against the code:
 *
 *     -- commit: writes one context, verified and versioned, or nothing.
 *     -- KEYS[1] hash    {tag}:c:<id>                (type; KEYS[*] or KEYS[2..] for any number)
 *     -- ARGV[1] string  the document, exact bytes   (unit)
 *     -- Returns: COMMITTED version | CONFLICT version: the current one
 *     --   | FENCED                                  (continued by lines with two more blanks)
 *     -- Publishes: one frame.
 *     -- Atomic because: version and bytes must agree.
 *     -- @include clock                              (lua/include/clock.lua)
 */
import type { LuaToken } from './luaTokens.js';

export interface Parameter {
  readonly table: 'KEYS' | 'ARGV';
  /** 1-based; `*` and `n..` stand for all from there on. */
  readonly from: number;
  readonly open: boolean;
  /** The type of a key, the unit of an argument. */
  readonly type: string;
  readonly text: string;
  readonly line: number;
}

export interface LuaHeader {
  /** `name: promise` of the first line. */
  readonly name: string | undefined;
  readonly promise: string;
  readonly parameters: readonly Parameter[];
  /** The text after `Returns:`, `Publishes:` and `Atomic because:`, continuation lines joined. */
  readonly entries: ReadonlyMap<string, string>;
}

const ENTRY = /^(Returns|Publishes|Atomic because):\s*(.*)$/;
const PARAMETER = /^(KEYS|ARGV)\[([^\]]*)\]\s*(\S*)\s*(.*)$/;
const INDEX = /^(?:(\d+)(\.{2,3})?|\*)$/;

/** The header is the run of comments that the file begins with, after a `#!lua` line if there is one. */
export function luaHeader(tokens: readonly LuaToken[], problem: (line: number, text: string) => void): LuaHeader {
  const lines = headerLines(tokens);
  const [, name, promise = ''] = /^\s*([\w-]+):\s*(.*)$/.exec(lines[0]?.text ?? '') ?? [];
  const parameters: Parameter[] = [];
  const entries = new Map<string, string>();
  let current: string | undefined;
  for (const { text, line } of lines.slice(1)) {
    // A continuation is indented: `--` and two blanks or more.
    if (/^\s{2,}\S/.test(text)) {
      if (current !== undefined) entries.set(current, `${entries.get(current) ?? ''} ${text.trim()}`.trim());
      continue;
    }
    current = undefined;
    const entry = ENTRY.exec(text.trim());
    if (entry?.[1] !== undefined) {
      current = entry[1];
      if (entries.has(current)) problem(line, `${current}: stands twice in the header`);
      entries.set(current, entry[2] ?? '');
      continue;
    }
    const [, table, index = '', type = '', rest = ''] = PARAMETER.exec(text.trim()) ?? [];
    if (table !== 'KEYS' && table !== 'ARGV') continue;
    const place = INDEX.exec(index);
    if (!place || place[1] === '0')
      problem(line, `${table}[${index}]: a number from 1 on, n.. or * is expected between the brackets`);
    else
      parameters.push({
        table,
        from: Number(place[1] ?? 1),
        open: index === '*' || place[2] !== undefined,
        type,
        text: rest,
        line,
      });
  }
  return { name, promise, parameters, entries };
}

function headerLines(tokens: readonly LuaToken[]): readonly { readonly text: string; readonly line: number }[] {
  const lines: { text: string; line: number }[] = [];
  for (const token of tokens) {
    if (token.kind !== 'comment') break;
    token.text.split('\n').forEach((text, index) => {
      const blank = text.trim() === '';
      if (token.long && blank && (index === 0 || lines.length === 0)) return; // the line of the opening bracket
      if (!isInclude(text)) lines.push({ text: text.replace(/\r$/, ''), line: token.line + index });
    });
  }
  return lines;
}

const INCLUDE = /^\s*@include\b\s*(.*?)\s*$/;

function isInclude(comment: string): boolean {
  return INCLUDE.test(comment);
}

/** Names after `@include` in the comments of a script, wherever they stand. */
export function luaIncludes(tokens: readonly LuaToken[]): readonly { readonly name: string; readonly line: number }[] {
  return tokens.flatMap(({ kind, text, line, long }) => {
    const name = kind === 'comment' && !long ? INCLUDE.exec(text)?.[1] : undefined;
    return name === undefined ? [] : [{ name, line }];
  });
}

/**
 * The statuses of a `Returns:` text: the first words of its alternatives, which `|` separates. An alternative that does not begin
 * with an upper-case word is prose; the upper-case words in it count as told.
 */
export function declaredStatuses(returns: string): {
  readonly statuses: ReadonlySet<string>;
  readonly told: ReadonlySet<string>;
} {
  const statuses = new Set<string>();
  const told = new Set<string>();
  for (const alternative of alternatives(returns)) {
    const status = /^([A-Z][A-Z0-9_]*)(?![\w])/.exec(alternative.trim())?.[1];
    if (status !== undefined) statuses.add(status);
    else for (const [word] of alternative.matchAll(/\b[A-Z][A-Z0-9_]+\b/g)) told.add(word);
  }
  return { statuses, told };
}

/** Splits at `|`, but not inside <…> and (…). */
function alternatives(text: string): readonly string[] {
  const parts = [''];
  let depth = 0;
  for (const character of text) {
    if ('<('.includes(character)) depth++;
    if ('>)'.includes(character)) depth = Math.max(0, depth - 1);
    if (character === '|' && depth === 0) parts.push('');
    else parts[parts.length - 1] += character;
  }
  return parts;
}
