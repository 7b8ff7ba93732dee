import type { SourceToken } from './sourceTokens.js';

export interface Import {
  /** As written; `undefined` where it is computed. */
  readonly specifier: string | undefined;
  /** 1-based. */
  readonly line: number;
}

/**
 * Every import of a module: `import … from`, `import '…'`, `export … from`, `import('…')` in code and in types, `require('…')`,
 * `import.meta.resolve('…')`.
 */
export function importsOf(tokens: readonly SourceToken[]): readonly Import[] {
  const imports: Import[] = [];
  tokens.forEach((token, index) => {
    if (token.kind !== 'name' || tokens[index - 1]?.text === '.') return;
    if (token.text === 'import' || token.text === 'require' || token.text === 'export') {
      const found = importAt(tokens, index);
      if (found) imports.push(found);
    }
  });
  return imports;
}

function importAt(tokens: readonly SourceToken[], index: number): Import | undefined {
  const { text: keyword = '', line = 1 } = tokens[index] ?? {};
  const next = tokens[index + 1];
  if (next?.text === '(' && next.kind === 'symbol' && keyword !== 'export') {
    // A method or function of that name, declared rather than called, has no string there.
    const called = constantArgument(tokens, index + 1);
    if (called === undefined && (keyword === 'require' || declaresParameter(tokens, index + 2))) return undefined;
    return { specifier: called, line };
  }
  if (keyword === 'require') return undefined;
  if (keyword === 'import') {
    if (next?.kind === 'string') return { specifier: next.text, line };
    if (next?.text === '.') {
      return tokens[index + 3]?.text === '.' && tokens[index + 4]?.text === 'resolve'
        ? { specifier: constantArgument(tokens, index + 5), line }
        : undefined;
    }
    return fromClause(tokens, index);
  }
  // Only `export *`, `export {` and `export type {` (or `*`) can have a `from`.
  const first = next?.text === 'type' ? tokens[index + 2] : next;
  return first?.kind === 'symbol' && (first.text === '*' || first.text === '{') ? fromClause(tokens, index) : undefined;
}

/** `name:` or `name?:`, which no argument begins with. */
function declaresParameter(tokens: readonly SourceToken[], index: number): boolean {
  const [name, after, last] = tokens.slice(index, index + 3);
  return name?.kind === 'name' && (after?.text === ':' || (after?.text === '?' && last?.text === ':'));
}

/** The string in the parentheses that open at `index`, where it stands alone or before further arguments. */
function constantArgument(tokens: readonly SourceToken[], index: number): string | undefined {
  const [argument, after] = [tokens[index + 1], tokens[index + 2]];
  const constant = argument?.kind === 'string' || argument?.kind === 'template';
  return constant && (after?.text === ')' || after?.text === ',') ? argument.text : undefined;
}

/** The `from '…'` that ends the clause at `index`. Up to there only names, braces, commas, `*` and strings (`{ 'a-b' as c }`) stand. */
function fromClause(tokens: readonly SourceToken[], index: number): Import | undefined {
  const line = tokens[index]?.line ?? 1;
  for (let i = index + 1; i < tokens.length; i++) {
    const token = tokens[i];
    if (token?.text === 'from' && tokens[i + 1]?.kind === 'string') return { specifier: tokens[i + 1]?.text, line };
    if (token?.kind === 'symbol' && !'{},*'.includes(token.text)) return undefined;
    // `export { a }` without `from`, followed by another statement.
    if (token?.text === '}' && tokens[i + 1]?.text !== 'from') return undefined;
  }
  return undefined;
}
