/** Just enough of Lua's lexical rules to tell code from comments and strings. */

export interface LuaToken {
  readonly kind: 'name' | 'string' | 'number' | 'symbol' | 'comment';
  /** A string without its quotes and with its escapes as written; a comment without its dashes and brackets. */
  readonly text: string;
  /** 1-based line of its first character. */
  readonly line: number;
  /** For a comment: written with `--[[ ]]`. */
  readonly long?: boolean;
}

/** Splits Lua source into tokens. Throws an Error that names the line where a string or comment is not closed. */
export function luaTokens(source: string): readonly LuaToken[] {
  const tokens: LuaToken[] = [];
  let at = 0;
  let line = 1;
  const take = (kind: LuaToken['kind'], length: number, text: string, long?: true): void => {
    tokens.push({ kind, text, line, ...(long ? { long } : {}) });
    for (let i = at; i < at + length; i++) if (source[i] === '\n') line++;
    at += length;
  };
  while (at < source.length) {
    const rest = source.slice(at, at + 512);
    const space = /^\s+/.exec(rest)?.[0];
    if (space) {
      line += space.split('\n').length - 1;
      at += space.length;
      continue;
    }
    const comment = rest.startsWith('--');
    const bracket = /^\[(=*)\[/.exec(comment ? rest.slice(2) : rest);
    if (bracket) {
      const head = (comment ? 2 : 0) + bracket[0].length;
      const close = `]${bracket[1]}]`;
      const end = source.indexOf(close, at + head);
      if (end < 0) throw new Error(`line ${line}: ${comment ? 'a comment' : 'a string'} that begins here is not closed`);
      take(comment ? 'comment' : 'string', end + close.length - at, source.slice(at + head, end), true);
    } else if (comment) {
      const end = source.indexOf('\n', at);
      const text = source.slice(at + 2, end < 0 ? source.length : end);
      take('comment', text.length + 2, text);
    } else if (rest[0] === '"' || rest[0] === "'") {
      const length = quotedLength(source, at, line);
      take('string', length, source.slice(at + 1, at + length - 1));
    } else {
      const name = /^[A-Za-z_]\w*/.exec(rest)?.[0];
      const number = /^(0[xX][\da-fA-F]+|\d+\.?\d*([eE][+-]?\d+)?)/.exec(rest)?.[0];
      if (name) take('name', name.length, name);
      else if (number) take('number', number.length, number);
      else {
        const symbol = /^(?:\.{2,3}|[\s\S])/.exec(rest)?.[0] ?? '';
        take('symbol', symbol.length, symbol);
      }
    }
  }
  return tokens;
}

function quotedLength(source: string, start: number, line: number): number {
  for (let i = start + 1; i < source.length; i++) {
    if (source[i] === '\\') i++;
    else if (source[i] === source[start]) return i + 1 - start;
    else if (source[i] === '\n') break;
  }
  throw new Error(`line ${line}: a string that begins here is not closed`);
}
