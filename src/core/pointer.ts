/** JSON pointers (RFC 6901) as strings and as lists of unescaped tokens. Knows nothing of the documents they point into. */
import { ContextError } from './errors.js';

/**
 * The unescaped tokens of a JSON pointer; `''` is the whole document and gives `[]`.
 *
 * @throws {@link ContextError} `INVALID_PATCH`: no leading slash, or a `~` that is followed by neither `0` nor `1`.
 */
export function parsePointer(pointer: string): string[] {
  if (pointer === '') return [];
  if (!pointer.startsWith('/')) {
    throw new ContextError(
      'INVALID_PATCH',
      `JSON pointer ${JSON.stringify(pointer)} does not start with "/"; write "/name", or "" for the whole document`,
      { pointer },
    );
  }
  const tokens = pointer.slice(1).split('/');
  if (!pointer.includes('~')) return tokens;
  return tokens.map((token) => {
    if (!token.includes('~')) return token;
    if (/~(?![01])/.test(token)) {
      throw new ContextError(
        'INVALID_PATCH',
        `JSON pointer ${JSON.stringify(pointer)} has a "~" that is not "~0" (for "~") or "~1" (for "/")`,
        { pointer },
      );
    }
    return token.replaceAll('~1', '/').replaceAll('~0', '~');
  });
}

/** The pointer that {@link parsePointer} takes apart into `tokens`; numbers are array indexes. */
export function formatPointer(tokens: readonly (string | number)[]): string {
  let pointer = '';
  for (const token of tokens) pointer += `/${typeof token === 'number' ? token : escapeToken(token)}`;
  return pointer;
}

/** One token as it stands in a pointer: `~` as `~0`, `/` as `~1`. */
export function escapeToken(token: string): string {
  return token.includes('~') || token.includes('/') ? token.replaceAll('~', '~0').replaceAll('/', '~1') : token;
}
