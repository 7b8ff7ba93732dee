/** What a context and a namespace may be called. */
import { ContextError } from './errors.js';

/** Longest id, bytes of UTF-8. */
export const MAX_ID_BYTES = 512;

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it refuses
const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;
const PLAIN = /^[\x21-\x7e]{1,512}$/;
const NAMESPACE = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** @throws ContextError `INVALID_ID` */
export function checkId(id: unknown, maxBytes: number = MAX_ID_BYTES): asserts id is string {
  if (typeof id === 'string' && id.length <= maxBytes && PLAIN.test(id)) return;
  if (typeof id !== 'string') throw new ContextError('INVALID_ID', `an id is a string, not ${id === null ? 'null' : typeof id}`);
  const shown = JSON.stringify(id.length > 80 ? `${id.slice(0, 80)}…` : id);
  if (id === '') throw new ContextError('INVALID_ID', 'an id has at least one character', { id });
  const bytes = Buffer.byteLength(id);
  if (bytes > maxBytes) {
    throw new ContextError('INVALID_ID', `id ${shown} has ${bytes} bytes of UTF-8; at most ${maxBytes} are allowed`, {
      limit: 'limits.idBytes',
      expected: maxBytes,
      found: bytes,
    });
  }
  if (CONTROL.test(id)) throw new ContextError('INVALID_ID', `id ${shown} holds a control character; remove it`, { id });
  if (!id.isWellFormed()) throw new ContextError('INVALID_ID', `id ${shown} holds half a surrogate pair; it is not Unicode text`);
}

/** @throws ContextError `INVALID_OPTION` */
export function checkNamespace(namespace: unknown): asserts namespace is string {
  if (typeof namespace === 'string' && NAMESPACE.test(namespace)) return;
  throw new ContextError(
    'INVALID_OPTION',
    `namespace ${JSON.stringify(namespace)} is not valid: 1 to 64 letters, digits, ".", "_" or "-", the first a letter or digit`,
  );
}
