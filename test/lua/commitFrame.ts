import { crc32Hex, sha1Hex } from '../../src/core/checksum.js';
import type { CommitOptions } from '../helpers/lua.js';

/** The base of a frame where there was no context. */
export const ABSENT = { version: 0, crc: '-' };

/** Above so many bytes a whole document is a message of its own, and its frame a header that announces it. */
const JOINED_BYTES = 4096;

/** The frame of a commit as it is published, one message; bytes of the payload as latin1. */
export function frameOf(
  kind: 'full' | 'patch',
  version: number,
  document: string | Buffer,
  more: { base?: { version: number; crc: string }; at: unknown; exp?: unknown; op: string; by?: string; payload?: string },
): string {
  const { base = ABSENT, at, exp = '-', op, by = 'tester', payload = Buffer.from(document).toString('latin1') } = more;
  const sums = `${crc32Hex(document)} ${sha1Hex(document)} ${Buffer.byteLength(document)}`;
  return `lc1 ${kind} ${version} ${sums} ${base.version} ${base.crc} ${at} ${exp} ${op} ${by}\n${payload}`;
}

/** The messages of a commit with a whole document. */
export function messagesOf(version: number, document: Buffer, more: Parameters<typeof frameOf>[3]): string[] {
  const joined = frameOf('full', version, document, more);
  if (document.length <= JOINED_BYTES) return [joined];
  return [
    frameOf('full', version, document, { ...more, payload: '' }).replace('lc1 full', 'lc1 follows'),
    document.toString('latin1'),
  ];
}

/** The patch of a commit, and the document it was computed from. */
export const patchFrom = (baseVersion: number, base: string, text: string): NonNullable<CommitOptions['patch']> => ({
  text,
  baseVersion,
  baseCrc: crc32Hex(base),
});
