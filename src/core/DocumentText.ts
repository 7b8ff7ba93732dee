/**
 * The bytes of a document as they are stored: one field up to 32 KB, chunks above (docs/decisions/0006-chunks.md). Immutable: a splice makes
 * another one that shares every chunk it does not touch, and whose checksums are combined from those; so a change costs what it changes.
 */
import { crc32, sha1Hex } from './checksum.js';
import { combineCrc, shiftOf } from './crcCombine.js';
import { ContextError } from './errors.js';
import type { Piece, Splice } from './splice.js';

/** Longest document that is one field, bytes. */
export const WHOLE_MOST = 32_768;
/** A document in chunks becomes one field again when it is no longer than this. */
const WHOLE_AGAIN = WHOLE_MOST / 2;
const CHUNK_BYTES = 8_000;
const LARGE_CHUNK_BYTES = 16_000;
/** Documents from here on have large chunks. */
const LARGE_DOCUMENT = 2 * 1024 * 1024;

const chunkBytes = (length: number): number => (length > LARGE_DOCUMENT ? LARGE_CHUNK_BYTES : CHUNK_BYTES);

/** A run of a document's bytes, with its checksums. */
export class Chunk {
  readonly name: string;
  readonly bytes: Buffer;
  readonly crc: number;
  #shift: number | undefined;
  #sha1: string | undefined;

  constructor(name: string, bytes: Buffer) {
    this.name = name;
    this.bytes = bytes;
    this.crc = crc32(bytes);
  }

  get shift(): number {
    this.#shift ??= shiftOf(this.bytes.length);
    return this.#shift;
  }

  get sha1(): string {
    this.#sha1 ??= sha1Hex(this.bytes);
    return this.#sha1;
  }

  /** Its line in the list of chunks, without the end of line. */
  get line(): string {
    return `${this.name} ${this.bytes.length} ${this.sha1}`;
  }
}

/** Where bytes of a rebuilt chunk come from: a chunk of the base, or the splice's inserted bytes (joined). */
export interface Source {
  readonly chunk: string | null;
  readonly from: number;
  readonly length: number;
}

/** What a splice makes of a text: the new one, and for each chunk of it that is not in the old one how it is put together. */
export interface Rewrite {
  readonly text: DocumentText;
  readonly rebuilt: ReadonlyMap<Chunk, readonly Source[]>;
}

export class DocumentText {
  /** In the order of the document; one named `data` where it is stored whole. */
  readonly chunks: readonly Chunk[];
  readonly length: number;
  #crc: string | undefined;
  #manifest: string | undefined;
  #sha1: string | undefined;
  #starts: number[] | undefined;

  private constructor(chunks: readonly Chunk[]) {
    this.chunks = chunks;
    let length = 0;
    for (const { bytes } of chunks) length += bytes.length;
    this.length = length;
  }

  /** Cuts a document. */
  static of(bytes: Buffer): DocumentText {
    if (bytes.length <= WHOLE_MOST) return new DocumentText([new Chunk('data', bytes)]);
    return new DocumentText(evenly(bytes.length).map(([from, to], index) => new Chunk(`d${index}`, bytes.subarray(from, to))));
  }

  /** As it was read, in the order of the document. */
  static stored(chunks: readonly { readonly name: string; readonly bytes: Buffer }[]): DocumentText {
    return new DocumentText(chunks.map(({ name, bytes }) => new Chunk(name, bytes)));
  }

  get chunked(): boolean {
    return this.chunks[0]?.name !== 'data';
  }

  /** CRC-32 of the whole, 8 hex digits. */
  get crc(): string {
    this.#crc ??= this.chunks
      .reduce((crc, chunk, index) => (index === 0 ? chunk.crc : combineCrc(crc, chunk.crc, chunk.shift)), 0)
      .toString(16)
      .padStart(8, '0');
    return this.#crc;
  }

  /** The list of chunks as Redis has it; empty where there is one field. */
  get manifest(): string {
    this.#manifest ??= this.chunked ? this.chunks.map(({ line }) => `${line}\n`).join('') : '';
    return this.#manifest;
  }

  /** What Redis calls its SHA-1: of the bytes, or of the list of chunks. */
  get sha1(): string {
    this.#sha1 ??= this.chunked ? sha1Hex(this.manifest) : (this.chunks[0]?.sha1 ?? sha1Hex(''));
    return this.#sha1;
  }

  /** All of it, joined. */
  bytes(): Buffer {
    const [only] = this.chunks;
    return this.chunks.length === 1 && only !== undefined ? only.bytes : Buffer.concat(this.chunks.map(({ bytes }) => bytes));
  }

  slice(from: number, to: number): Buffer {
    const parts = [...this.#ranges(from, to - from)].map(({ chunk, from: at, length }) => chunk.bytes.subarray(at, at + length));
    return parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts);
  }

  /** @throws ContextError `BASE_MISMATCH` where the splice is for a document of another length */
  apply(splice: Splice): Rewrite {
    if (splice.baseLength !== this.length) {
      throw new ContextError(
        'BASE_MISMATCH',
        `a splice for ${splice.baseLength} bytes does not fit a document of ${this.length}`,
        {
          expected: splice.baseLength,
          found: this.length,
        },
      );
    }
    return new Rewriting(this, splice).run();
  }

  /** The parts of chunks that a range consists of. */
  *#ranges(from: number, length: number): Iterable<{ readonly chunk: Chunk; readonly from: number; readonly length: number }> {
    if (length === 0) return;
    const starts = this.starts;
    let index = indexOf(starts, from);
    let at = from;
    const end = from + length;
    while (at < end) {
      const chunk = this.chunks[index] as Chunk;
      const start = starts[index] as number;
      const to = Math.min(end, start + chunk.bytes.length);
      yield { chunk, from: at - start, length: to - at };
      at = to;
      index += 1;
    }
  }

  /** {@link Source} ranges of a piece of the document. */
  ranges(from: number, length: number): Iterable<{ readonly chunk: Chunk; readonly from: number; readonly length: number }> {
    return this.#ranges(from, length);
  }

  /** Where each chunk begins. */
  get starts(): readonly number[] {
    if (this.#starts === undefined) {
      const starts: number[] = [];
      let at = 0;
      for (const { bytes } of this.chunks) {
        starts.push(at);
        at += bytes.length;
      }
      this.#starts = starts;
    }
    return this.#starts;
  }

  /** For {@link Rewriting}. */
  static made(chunks: readonly Chunk[]): DocumentText {
    return new DocumentText(chunks);
  }
}

/** The last start that is not after a place. */
function indexOf(starts: readonly number[], at: number): number {
  let low = 0;
  let high = starts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((starts[middle] as number) <= at) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** Ranges of about the size of a chunk that a length is cut into. */
function evenly(length: number, size = chunkBytes(length)): [number, number][] {
  const count = Math.max(1, Math.round(length / size));
  return Array.from({ length: count }, (_, index) => [
    Math.floor((index * length) / count),
    Math.floor(((index + 1) * length) / count),
  ]);
}

/** A run of the new text: a chunk that stays, or bytes to be put into new ones. */
interface Run {
  keep: Chunk | null;
  sources: Source[];
  parts: Buffer[];
  length: number;
}

class Rewriting {
  readonly #base: DocumentText;
  readonly #splice: Splice;
  readonly #runs: Run[] = [];
  readonly #kept = new Set<Chunk>();

  constructor(base: DocumentText, splice: Splice) {
    this.#base = base;
    this.#splice = splice;
  }

  run(): Rewrite {
    const { targetLength } = this.#splice;
    const whole = targetLength <= (this.#base.chunked ? WHOLE_AGAIN : WHOLE_MOST);
    let literal = 0;
    for (const piece of this.#splice.pieces) {
      if (piece.bytes !== undefined) {
        this.#add({ chunk: null, from: literal, length: piece.bytes.length }, piece.bytes);
        literal += piece.bytes.length;
      } else this.#copy(piece, whole || !this.#base.chunked);
    }
    if (whole) return this.#whole();
    this.#mergeSmall(chunkBytes(targetLength));
    return this.#chunks(chunkBytes(targetLength));
  }

  #copy(piece: Piece & { readonly bytes?: undefined }, rebuild: boolean): void {
    for (const { chunk, from, length } of this.#base.ranges(piece.from, piece.length)) {
      if (!rebuild && from === 0 && length === chunk.bytes.length && !this.#kept.has(chunk)) {
        this.#kept.add(chunk);
        this.#runs.push({ keep: chunk, sources: [], parts: [], length });
      } else this.#add({ chunk: chunk.name, from, length }, chunk.bytes.subarray(from, from + length));
    }
  }

  #add(source: Source, bytes: Buffer): void {
    let run = this.#runs.at(-1);
    if (run === undefined || run.keep !== null) {
      run = { keep: null, sources: [], parts: [], length: 0 };
      this.#runs.push(run);
    }
    run.sources.push(source);
    run.parts.push(bytes);
    run.length += bytes.length;
  }

  #whole(): Rewrite {
    const sources = this.#runs.flatMap((run) => run.sources);
    const chunk = new Chunk('data', Buffer.concat(this.#runs.flatMap((run) => run.parts)));
    return { text: DocumentText.made([chunk]), rebuilt: new Map([[chunk, sources]]) };
  }

  /** A rebuilt run that is much shorter than a chunk takes a neighbour with it. */
  #mergeSmall(size: number): void {
    for (let index = 0; index < this.#runs.length; index += 1) {
      const run = this.#runs[index] as Run;
      if (run.keep !== null || run.length >= size / 4 || this.#runs.length === 1) continue;
      const before = this.#runs[index - 1];
      const after = this.#runs[index + 1];
      const first = before !== undefined && (after === undefined || before.length <= after.length);
      const [left, right] = first ? [before, run] : [run, after as Run];
      const merged = join(opened(left as Run), opened(right));
      this.#runs.splice(first ? index - 1 : index, 2, merged);
      index -= first ? 2 : 1;
    }
  }

  #chunks(size: number): Rewrite {
    const names = this.#names();
    const rebuilt = new Map<Chunk, readonly Source[]>();
    const chunks: Chunk[] = [];
    for (const run of this.#runs) {
      if (run.keep !== null) {
        chunks.push(run.keep);
        continue;
      }
      const bytes = run.parts.length === 1 ? (run.parts[0] as Buffer) : Buffer.concat(run.parts);
      const cuts: [number, number][] = run.length > 2 * size ? evenly(run.length, size) : [[0, run.length]];
      const parts = cuts.length === 1 ? [run.sources] : cutAll(run.sources, cuts);
      for (const [index, [from, to]] of cuts.entries()) {
        const sources = parts[index] as Source[];
        const chunk = new Chunk(names(sources), cuts.length === 1 ? bytes : Buffer.from(bytes.subarray(from, to)));
        chunks.push(chunk);
        rebuilt.set(chunk, sources);
      }
    }
    return { text: DocumentText.made(chunks), rebuilt };
  }

  /** A name for a rebuilt chunk: that of a chunk it consists of and that goes away, else one that nobody has. */
  #names(): (sources: readonly Source[]) => string {
    const taken = new Set<string>();
    const all = new Set<string>();
    let next = 0;
    for (const run of this.#runs) if (run.keep !== null) taken.add(run.keep.name);
    for (const { name } of this.#base.chunks) {
      all.add(name);
      if (name !== 'data') next = Math.max(next, Number(name.slice(1)) + 1);
    }
    return (sources) => {
      const own = sources.find(({ chunk }) => chunk !== null && chunk !== 'data' && !taken.has(chunk))?.chunk;
      let name = own ?? '';
      if (name === '') {
        name = `d${next}`;
        next += 1;
      }
      taken.add(name);
      return name;
    };
  }
}

function opened(run: Run): Run {
  if (run.keep === null) return run;
  const { name, bytes } = run.keep;
  return { keep: null, sources: [{ chunk: name, from: 0, length: bytes.length }], parts: [bytes], length: bytes.length };
}

const join = (left: Run, right: Run): Run => ({
  keep: null,
  sources: [...left.sources, ...right.sources],
  parts: [...left.parts, ...right.parts],
  length: left.length + right.length,
});

/** The sources of each of the ranges that sources together are cut into, in one pass over them. */
function cutAll(sources: readonly Source[], cuts: readonly (readonly [from: number, to: number])[]): Source[][] {
  let index = 0;
  let used = 0;
  return cuts.map(([from, to]) => {
    const result: Source[] = [];
    for (let left = to - from; left > 0; ) {
      const source = sources[index] as Source;
      const length = Math.min(left, source.length - used);
      if (length > 0) result.push({ chunk: source.chunk, from: source.from + used, length });
      left -= length;
      used += length;
      if (used === source.length) {
        index += 1;
        used = 0;
      }
    }
    return result;
  });
}
