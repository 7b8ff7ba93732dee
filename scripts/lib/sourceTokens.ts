/** Just enough of TypeScript's lexical rules to tell code from comments, strings, templates and regular expressions. */

export interface SourceToken {
  readonly kind: 'name' | 'string' | 'template' | 'number' | 'regex' | 'symbol';
  /** A string or a piece of a template without its quotes, escapes as written; a private name with its `#`. */
  readonly text: string;
  /** 1-based. */
  readonly line: number;
}

/** Names after which `/` begins a regular expression: an operand cannot stand before it. */
const BEFORE_REGEX = new Set('return typeof instanceof in of new delete void throw case do else yield await'.split(' '));

/**
 * Splits TypeScript source into tokens; comments are dropped, the expressions inside templates come out like other code. After `)`
 * and `}` a slash is taken for a division: a regular expression there needs a statement that nobody writes.
 * Throws an Error that names the line where something is not closed.
 */
export function sourceTokens(source: string): readonly SourceToken[] {
  const tokens: SourceToken[] = [];
  /** For each `{` that is open: whether it is a template's `${`. */
  const braces: boolean[] = [];
  let at = 0;
  let line = 1;

  const advance = (length: number): string => {
    const text = source.slice(at, at + length);
    line += text.split('\n').length - 1;
    at += length;
    return text;
  };
  const push = (kind: SourceToken['kind'], text: string, on: number): void => void tokens.push({ kind, text, line: on });
  const unclosed = (what: string): Error => new Error(`line ${line}: ${what} that begins here is not closed`);

  /** A template, or what goes on of it after a `}`, up to the next `${` or its end. */
  const template = (): void => {
    let end = at + 1;
    while (end < source.length && source[end] !== '`' && !source.startsWith('${', end)) end += source[end] === '\\' ? 2 : 1;
    if (end >= source.length) throw unclosed('a template');
    const on = line;
    const opens = source[end] === '$';
    push('template', source.slice(at + 1, end), on);
    advance(end + (opens ? 2 : 1) - at);
    if (opens) braces.push(true);
  };

  while (at < source.length) {
    const rest = source.slice(at, at + 256);
    const on = line;
    const skipped = /^(?:\s+|#!.*|\/\/[^\n]*)/.exec(rest)?.[0];
    if (skipped !== undefined && (!skipped.startsWith('#!') || at === 0)) {
      const end = skipped.startsWith('/') ? endOfLine(source, at) : at + skipped.length;
      advance(end - at);
    } else if (rest.startsWith('/*')) {
      const end = source.indexOf('*/', at + 2);
      if (end < 0) throw unclosed('a comment');
      advance(end + 2 - at);
    } else if (rest[0] === '"' || rest[0] === "'") {
      const end = endOfString(source, at);
      if (end === undefined) throw unclosed('a string');
      push('string', advance(end - at).slice(1, -1), on);
    } else if (rest[0] === '`') {
      template();
    } else if (rest[0] === '}' && braces.pop() === true) {
      template();
    } else if (rest[0] === '/' && regexCanFollow(tokens.at(-1))) {
      const end = endOfRegex(source, at);
      if (end === undefined) throw unclosed('a regular expression');
      push('regex', advance(end - at), on);
    } else {
      const name = /^#?[\p{ID_Start}$_][\p{ID_Continue}$\u200c\u200d]*/u.exec(rest)?.[0];
      const number = /^(?:0[xXoObB][\da-fA-F_]+n?|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?n?)/.exec(rest)?.[0];
      if (rest[0] === '{') braces.push(false);
      if (name !== undefined) push('name', advance(name.length), on);
      else if (number !== undefined) push('number', advance(number.length), on);
      else push('symbol', advance(rest.startsWith('...') ? 3 : 1), on);
    }
  }
  return tokens;
}

function regexCanFollow(previous: SourceToken | undefined): boolean {
  if (previous === undefined) return true;
  if (previous.kind === 'name') return BEFORE_REGEX.has(previous.text);
  return previous.kind === 'symbol' && !')]}'.includes(previous.text);
}

function endOfLine(source: string, at: number): number {
  const end = source.indexOf('\n', at);
  return end < 0 ? source.length : end;
}

function endOfString(source: string, start: number): number | undefined {
  for (let i = start + 1; i < source.length && source[i] !== '\n'; i++) {
    if (source[i] === '\\') i++;
    else if (source[i] === source[start]) return i + 1;
  }
  return undefined;
}

function endOfRegex(source: string, start: number): number | undefined {
  let inClass = false;
  for (let i = start + 1; i < source.length && source[i] !== '\n'; i++) {
    if (source[i] === '\\') i++;
    else if (source[i] === '[') inClass = true;
    else if (source[i] === ']') inClass = false;
    else if (source[i] === '/' && !inClass) return i + 1 + (/^[a-z]*/.exec(source.slice(i + 1, i + 12))?.[0].length ?? 0);
  }
  return undefined;
}
