/**
 * Plans for lua/commit.lua, made here without the library's own planner, so that the script is held against its description and not against
 * one client; and what a stored context must look like, whatever form it has.
 */
import { expect } from 'chai';
import { crc32Hex, sha1Hex } from '../../src/core/checksum.js';
import { sealOf } from '../../src/core/seal.js';
import type { CommitOptions, LuaNamespace } from './lua.js';

export interface Chunk {
  /** `data` alone is a whole document. */
  readonly name: string;
  readonly bytes: Buffer;
}

/** A context as it is stored, verified. */
export interface Stored {
  readonly version: number;
  readonly crc: string;
  readonly sha: string;
  readonly chunks: readonly Chunk[];
  readonly document: Buffer;
}

/** Takes `remove` bytes away at `at`, and puts others there. */
export interface Edit {
  readonly at: number;
  readonly remove: number;
  readonly insert: Buffer;
}

/** What `LuaNamespace.commit` is called with. */
export interface Planned {
  readonly document: Buffer;
  readonly chunks: readonly Chunk[];
  readonly options: CommitOptions & { readonly plan: NonNullable<CommitOptions['plan']> };
}

/** A run of bytes of the new document, and where the script finds them. */
interface Segment {
  readonly source: string;
  readonly from: number;
  readonly bytes: Buffer;
}

/** Argument that is the first chunk of those that are sent. */
const FIRST_CHUNK = 7;

export const factsOf = ({ name, bytes }: Chunk): string => `${name} ${bytes.length} ${sha1Hex(bytes)}`;
export const manifestOf = (chunks: readonly Chunk[]): string => chunks.map((chunk) => `${factsOf(chunk)}\n`).join('');
export const joined = (chunks: readonly Chunk[]): Buffer => Buffer.concat(chunks.map(({ bytes }) => bytes));
export const isWhole = (chunks: readonly Chunk[]): boolean => chunks[0]?.name === 'data';
export const shaOf = (chunks: readonly Chunk[]): string =>
  isWhole(chunks) ? sha1Hex((chunks[0] as Chunk).bytes) : sha1Hex(manifestOf(chunks));

/** A document cut into chunks `d0`, `d1`, ... of `size` bytes. */
export function cut(document: Buffer | string, size: number): Chunk[] {
  const bytes = Buffer.from(document);
  return Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) => ({
    name: `d${index}`,
    bytes: bytes.subarray(index * size, (index + 1) * size),
  }));
}

/** Sends every chunk, as a context begins. */
export function sent(chunks: readonly Chunk[]): Planned {
  const text = chunks.map((chunk, index) => `${factsOf(chunk)} #${FIRST_CHUNK + index}:0:${chunk.bytes.length}\n`).join('');
  const plan = { text, data: '', chunks: chunks.map(({ bytes }) => bytes) };
  return { document: joined(chunks), chunks, options: { plan, claims: { sha: shaOf(chunks) } } };
}

/** A plan by hand on what is stored: its text, the bytes it inserts, and the chunks it leads to. */
export function byHand(before: Stored, text: string, data: Buffer | string, chunks: readonly Chunk[]): Planned {
  const plan = { text, data, baseSha: before.sha };
  const patch = { text: '', baseVersion: before.version, baseCrc: before.crc };
  return { document: joined(chunks), chunks, options: { plan, patch, kind: 'splice', claims: { sha: shaOf(chunks) } } };
}

export const lines = (...text: string[]): string => text.map((line) => `${line}\n`).join('');

/** The lines of a manifest as a group of a plan names them: chunks `from` up to before `to`. */
export function group(chunks: readonly Chunk[], from: number, to: number): string {
  return `@ ${manifestOf(chunks.slice(0, from)).length} ${manifestOf(chunks.slice(from, to)).length}`;
}

/**
 * A plan for edits, which are in order and do not overlap. Chunks that no edit touches stay; the others are cut anew into `size` bytes.
 * `form`: what the document is stored as afterwards.
 */
export function edited(before: Stored, edits: readonly Edit[], size: number, form: 'whole' | 'chunked'): Planned {
  const data = Buffer.concat(edits.map(({ insert }) => insert));
  const same = (form === 'whole') === isWhole(before.chunks);
  const text: string[] = [];
  const after: Chunk[] = [];
  let used = before.chunks.reduce((most, { name }) => Math.max(most, Number(name.slice(1)) || 0), 0);
  const fresh = (): string => `d${++used}`;
  for (const { from, to, touched } of form === 'chunked' && same ? groups(before.chunks, edits) : [all(before.chunks)]) {
    const old = before.chunks.slice(from, to);
    if (!touched) {
      after.push(...old);
      continue;
    }
    const names = same ? old.map(({ name }) => name) : [];
    if (same && form === 'chunked') text.push(group(before.chunks, from, to));
    for (const piece of pieces(segments(before.chunks, from, to, edits), form === 'whole' ? Number.POSITIVE_INFINITY : size)) {
      const name = form === 'whole' ? 'data' : (names.shift() ?? fresh());
      const chunk = { name, bytes: Buffer.concat(piece.map(({ bytes }) => bytes)) };
      after.push(chunk);
      text.push([factsOf(chunk), ...piece.map((each) => `${each.source}:${each.from}:${each.bytes.length}`)].join(' '));
    }
    const left = same ? (form === 'whole' ? [] : names) : old.map(({ name }) => name);
    text.push(...left.map((name) => `- ${name}`));
  }
  return byHand(before, lines(...text), data, after);
}

const all = (chunks: readonly Chunk[]): { from: number; to: number; touched: boolean } => ({
  from: 0,
  to: chunks.length,
  touched: true,
});

/** Runs of chunks that an edit touches, and of those that none does. */
function groups(chunks: readonly Chunk[], edits: readonly Edit[]): { from: number; to: number; touched: boolean }[] {
  const found: { from: number; to: number; touched: boolean }[] = [];
  let start = 0;
  for (const [index, { bytes }] of chunks.entries()) {
    const end = start + bytes.length;
    const last = index === chunks.length - 1;
    const touched = edits.some(({ at, remove }) => (at >= start || at + remove > start) && (at < end || (last && at === end)));
    const before = found.at(-1);
    if (before?.touched === touched) before.to = index + 1;
    else found.push({ from: index, to: index + 1, touched });
    start = end;
  }
  return found;
}

/** What the chunks `from` up to before `to` become. */
function segments(chunks: readonly Chunk[], from: number, to: number, edits: readonly Edit[]): Segment[] {
  const found: Segment[] = [];
  let start = joined(chunks.slice(0, from)).length;
  const end = start + joined(chunks.slice(from, to)).length;
  const closing = to === chunks.length;
  const here = edits.filter(({ at }) => at >= start && (at < end || (closing && at === end)));
  const offsetOf = (edit: Edit): number =>
    edits.slice(0, edits.indexOf(edit)).reduce((sum, { insert }) => sum + insert.length, 0);
  for (const { name, bytes } of chunks.slice(from, to)) {
    let at = 0;
    const keep = (upTo: number): void => {
      if (upTo > at) found.push({ source: name, from: at, bytes: bytes.subarray(at, upTo) });
      at = Math.max(at, upTo);
    };
    for (const edit of here) {
      const [first, last] = [edit.at - start, edit.at - start + edit.remove];
      const begins = first >= 0 && (first < bytes.length || (first === bytes.length && start + first === end));
      if (begins) {
        keep(first);
        if (edit.insert.length > 0) found.push({ source: '#1', from: offsetOf(edit), bytes: edit.insert });
      }
      if (first < bytes.length && last > 0) at = Math.max(at, Math.min(bytes.length, last));
    }
    keep(bytes.length);
    start += bytes.length;
  }
  return found;
}

/** Segments cut into chunks of `size` bytes. */
function pieces(from: readonly Segment[], size: number): Segment[][] {
  const found: Segment[][] = [];
  let room = 0;
  for (const segment of from) {
    let at = 0;
    while (at < segment.bytes.length) {
      if (room === 0) {
        found.push([]);
        room = size;
      }
      const bytes = segment.bytes.subarray(at, at + room);
      found.at(-1)?.push({ ...segment, from: segment.from + at, bytes });
      at += bytes.length;
      room -= bytes.length;
    }
  }
  // a whole document may be empty, and must be named all the same
  return found.length === 0 && size === Number.POSITIVE_INFINITY ? [[]] : found;
}

/**
 * A context as it is stored, or null; fails where anything in it does not fit: a checksum, a length, a field too many. `crc` false: what the
 * client said of its document, which the script cannot check.
 */
export async function verified(lua: LuaNamespace, id: string, crc = true): Promise<Stored | null> {
  const fields = await lua.redis.hgetallBuffer(lua.of(id).context);
  if (Object.keys(fields).length === 0) return null;
  const { data, chunks: list, v, len, sha, crc: sum, seal } = fields;
  const names = Object.keys(fields).filter((name) => name === 'data' || /^d\d+$/.test(name));
  const listed = list === undefined ? ['data'] : [...list.toString().matchAll(/^(d\d+) /gm)].map(([, name = '']) => name);
  expect(names.sort(), 'fields that hold bytes').to.deep.equal([...listed].sort());
  const chunks = listed.map((name) => ({ name, bytes: fields[name] as Buffer }));
  if (list === undefined) expect(sha1Hex(data as Buffer), 'sha of the document').to.equal(String(sha));
  else {
    expect(list.toString(), 'list of the chunks').to.equal(manifestOf(chunks));
    expect(sha1Hex(list), 'sha of the list').to.equal(String(sha));
  }
  const document = joined(chunks);
  expect(document.length, 'length').to.equal(Number(len));
  if (crc) expect(crc32Hex(document), 'crc').to.equal(String(sum));
  if (seal !== undefined) {
    const facts = { v: String(v), crc: String(sum), sha: String(sha), len: String(len), at: String(fields.at) };
    expect(seal.toString(), 'seal').to.equal(sealOf(id, { ...facts, exp: fields.exp?.toString() ?? null }));
  }
  return { version: Number(v), crc: String(sum), sha: String(sha), chunks, document };
}

/** As {@link verified}, where there must be one. */
export async function stored(lua: LuaNamespace, id: string): Promise<Stored> {
  const found = await verified(lua, id);
  if (found === null) throw new Error(`there is no context ${id}`);
  return found;
}
