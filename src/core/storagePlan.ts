/**
 * How Redis puts the chunks of a document together: a plan for `lua/include/plan.lua`, lines of text (docs/decisions/0006-chunks.md).
 */
import type { Chunk, DocumentText, Rewrite, Source } from './DocumentText.js';

/**
 * Pieces in a plan: parsing one takes Redis about 0.6 us. A chunk of more than its share is sent whole instead, so that many scattered edits
 * cost the chunks they are in, and never all of the document. One of 256 pieces has half its length in the plan.
 */
const MOST_PIECES = 4_096;
const CHUNK_PIECES = 256;
/** Of a document that is one field. */
const FIELD_PIECES = 512;

/** Arguments of the script: where inserted bytes are, and from which on there is room for whole chunks. */
export interface PlanArguments {
  /** The one that has the inserted bytes, and where in it they begin. */
  readonly inserted: number;
  readonly offset: number;
  readonly firstChunk: number;
}

export interface StoragePlan {
  readonly plan: string;
  /** Chunks that are sent whole: the arguments from `firstChunk` on. */
  readonly chunks: readonly Buffer[];
}

/** The plan of a rewrite. */
export function storagePlan(base: DocumentText, { text, rebuilt }: Rewrite, given: PlanArguments): StoragePlan {
  const lines: string[] = [];
  const chunks: Buffer[] = [];
  const most = text.chunked ? Math.max(1, Math.min(CHUNK_PIECES, Math.floor(MOST_PIECES / rebuilt.size))) : FIELD_PIECES;
  const made = (chunk: Chunk, sources: readonly Source[]): string => {
    const { bytes } = chunk;
    if (sources.length > most) return `${chunk.line} #${given.firstChunk + chunks.push(bytes) - 1}:0:${bytes.length}`;
    return `${chunk.line} ${sources
      .map(({ chunk: source, from, length }) =>
        source === null ? `#${given.inserted}:${given.offset + from}:${length}` : `${source}:${from}:${length}`,
      )
      .join(' ')}`;
  };
  const line = (chunk: Chunk): string => {
    const sources = rebuilt.get(chunk);
    return sources === undefined ? `= ${chunk.line}` : made(chunk, sources);
  };
  if (!text.chunked) lines.push(...text.chunks.map(line));
  else if (!base.chunked) lines.push('@ 0 0', ...text.chunks.map(line));
  else lines.push(...groups(base, text, rebuilt, line));
  const names = new Set(text.chunks.map(({ name }) => name));
  for (const { name } of base.chunks) if (!names.has(name)) lines.push(`- ${name}`);
  // where nothing changes there is a plan all the same: none would be a document that is sent whole
  return { plan: lines.length === 0 ? '@ 0 0' : lines.join('\n'), chunks };
}

/** The runs of the list that differ, between chunks that stay in their order. */
function groups(base: DocumentText, text: DocumentText, rebuilt: Rewrite['rebuilt'], line: (chunk: Chunk) => string): string[] {
  const lines: string[] = [];
  const places = new Map(base.chunks.map((chunk, index) => [chunk, index]));
  const offsets = [0];
  for (const chunk of base.chunks) offsets.push((offsets.at(-1) as number) + chunk.line.length + 1);
  const at = (index: number): number => offsets[index] as number;
  let next = 0;
  let pending: Chunk[] = [];
  const flush = (to: number): void => {
    if (pending.length > 0 || to > next) lines.push(`@ ${at(next)} ${at(to) - at(next)}`, ...pending.map(line));
    pending = [];
  };
  for (const chunk of text.chunks) {
    const place = rebuilt.has(chunk) ? undefined : places.get(chunk);
    // one that stays, but stands before what was there already, is listed again
    if (place === undefined || place < next) {
      pending.push(chunk);
      continue;
    }
    flush(place);
    next = place + 1;
  }
  flush(base.chunks.length);
  return lines;
}

/** The plan of a document all of whose chunks are arguments, from `firstArgument` on. */
export function fullPlan(text: DocumentText, firstArgument: number): string {
  const lines = text.chunks.map(({ line, bytes }, index) => `${line} #${firstArgument + index}:0:${bytes.length}`);
  return text.chunked ? ['@ 0 0', ...lines].join('\n') : lines.join('\n');
}
