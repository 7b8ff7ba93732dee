/**
 * Plans as `lua/include/plan.lua` describes them, executed on a map: what a plan of the library does is compared with what it should do, without
 * Redis. Stricter than the script in one thing: every chunk that goes must be named.
 */
import { sha1Hex } from '../../src/core/checksum.js';
import type { DocumentText } from '../../src/core/DocumentText.js';

/** The fields of a context that hold its document: `data`, or `chunks` with `d0`, `d1`, ... */
export type Fields = ReadonlyMap<string, Buffer>;

export interface PlanOutcome {
  readonly fields: Fields;
  /** SHA-1 of the context. */
  readonly sha: string;
  /** Chunks whose bytes were written, in the order of the plan. */
  readonly written: readonly string[];
  /** Chunks that the plan names as gone. */
  readonly gone: readonly string[];
}

/** How a text is stored. */
export function fieldsOf(text: DocumentText): Fields {
  const fields = new Map(text.chunks.map(({ name, bytes }) => [name, bytes]));
  if (text.chunked) fields.set('chunks', Buffer.from(text.manifest));
  return fields;
}

interface Line {
  readonly name: string;
  readonly text: string;
}

function readManifest(manifest: string): Line[] {
  return manifest
    .split('\n')
    .slice(0, -1)
    .map((text) => {
      const name = /^(d\d+) \d+ [0-9a-f]{40}$/.exec(text)?.[1];
      if (name === undefined) throw new Error(`a manifest has the line ${JSON.stringify(text)}`);
      return { name, text };
    });
}

/**
 * @param before - what is stored; null where the plan does not build on it
 * @param args - the arguments of the script: `#1` is the first
 * @throws Error that names the line, where the plan is none or does not fit
 */
export function runPlan(before: Fields | null, plan: string, args: readonly Buffer[]): PlanOutcome {
  const stored = before ?? new Map<string, Buffer>();
  const manifest = stored.get('chunks')?.toString() ?? '';
  const replaced = new Set(before !== null && manifest === '' ? ['data'] : []);
  const writes = new Map<string, Buffer>();
  const listed = new Set<string>();
  const gone: string[] = [];
  let list = '';
  let at = 0;
  let groups = 0;
  const isLineEnd = (place: number): boolean => place === 0 || manifest[place - 1] === '\n';
  for (const line of plan.split('\n')) {
    const wrong = (why: string): Error => new Error(`${why}: ${line}`);
    const [mark = '', ...words] = line.split(' ');
    if (mark === '@') {
      const [from = Number.NaN, length = Number.NaN] = words.map(Number);
      if (words.length !== 2 || !(from >= at && length >= 0 && from + length <= manifest.length)) throw wrong('no such lines');
      if (!isLineEnd(from) || !isLineEnd(from + length)) throw wrong('not whole lines');
      list += manifest.slice(at, from);
      at = from + length;
      groups += 1;
      for (const { name } of readManifest(manifest.slice(from, at))) replaced.add(name);
    } else if (mark === '=') {
      if (groups === 0) throw wrong('in no group');
      if (!readManifest(manifest).some(({ text }) => text === words.join(' '))) throw wrong('not stored');
      list += `${words.join(' ')}\n`;
      listed.add(words[0] as string);
    } else if (mark === '-') {
      gone.push(words.join(' '));
    } else {
      const [length, sha, ...pieces] = words;
      if (!/^(data|d\d+)$/.test(mark)) throw wrong('no name of a chunk');
      if (mark !== 'data' && groups === 0) throw wrong('in no group');
      if (writes.has(mark)) throw wrong('written twice');
      const parts = pieces.filter((piece) => piece !== '').map((piece) => readPiece(piece, stored, args, wrong));
      const bytes = Buffer.concat(parts);
      if (String(bytes.length) !== length || sha1Hex(bytes) !== sha) throw wrong('other bytes than it says');
      writes.set(mark, bytes);
      listed.add(mark);
      if (mark !== 'data') list += `${mark} ${length} ${sha}\n`;
    }
  }
  if (writes.has('data')) {
    if (writes.size > 1 || groups > 0) throw new Error('a whole document with chunks');
    for (const { name } of readManifest(manifest)) replaced.add(name);
  } else list += manifest.slice(at);
  const leaving = [...replaced].filter((name) => !listed.has(name));
  if ([...leaving].sort().join() !== [...gone].sort().join()) throw new Error(`${leaving} go, but ${gone} are named`);
  const fields = new Map(stored);
  for (const name of gone) fields.delete(name);
  fields.delete('chunks');
  for (const [name, bytes] of writes) fields.set(name, bytes);
  const whole = writes.get('data');
  if (whole === undefined) fields.set('chunks', Buffer.from(list));
  return { fields, sha: sha1Hex(whole ?? list), written: [...writes.keys()], gone };
}

function readPiece(piece: string, stored: Fields, args: readonly Buffer[], wrong: (why: string) => Error): Buffer {
  const [, argument, name = '', from, length] = /^(?:#(\d+)|(data|d\d+)):(\d+):(\d+)$/.exec(piece) ?? [];
  if (from === undefined) throw wrong(`no piece ${piece}`);
  const source = argument === undefined ? stored.get(name) : args[Number(argument) - 1];
  const end = Number(from) + Number(length);
  if (source === undefined || end > source.length) throw wrong(`no such bytes ${piece}`);
  return source.subarray(Number(from), end);
}
