import { crc32Hex, sha1Hex } from '../../src/core/checksum.js';
import type { CommitOptions } from '../helpers/lua.js';

/** The base of a frame where there was no context. */
export const ABSENT = { version: 0, crc: '-' };

/** Above so many bytes a whole document is a message of its own, and its frame a header that announces it. */
const JOINED_BYTES = 4096;

interface FrameWords {
  readonly base?: { readonly version: number; readonly crc: string };
  readonly at: unknown;
  readonly exp?: unknown;
  readonly op: string;
  readonly by?: string;
  readonly payload?: string;
  readonly parts?: number;
  readonly encoding?: string;
}

/** The frame of a commit as it is published, one message; bytes of the payload as latin1. */
export function frameOf(kind: 'full' | 'patch' | 'splice', version: number, document: string | Buffer, more: FrameWords): string {
  const { base = ABSENT, at, exp = '-', op, by = 'tester', parts = 0, encoding = '-' } = more;
  const { payload = Buffer.from(document).toString('latin1') } = more;
  const facts = `${version} ${crc32Hex(document)} ${Buffer.byteLength(document)} ${base.version} ${base.crc}`;
  return `${headerOf(`lc2 ${kind} ${encoding} ${parts} ${facts} ${at} ${exp} ${op} ${by} `)}${payload}`;
}

/** A header line of protocol 2 with its check. */
export const headerOf = (words: string): string => `${words}${sha1Hex(words).slice(0, 8)}\n`;

/** The messages of a commit with a whole document. */
export function messagesOf(version: number, document: Buffer, more: FrameWords): string[] {
  if (document.length <= JOINED_BYTES) return [frameOf('full', version, document, more)];
  return [frameOf('full', version, document, { ...more, payload: '', parts: 1 }), document.toString('latin1')];
}

/** The patch of a commit, and the document it was computed from. */
export const patchFrom = (baseVersion: number, base: string, text: string): NonNullable<CommitOptions['patch']> => ({
  text,
  baseVersion,
  baseCrc: crc32Hex(base),
});
