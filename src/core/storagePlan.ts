/**
 * How Redis puts the chunks of a document together: a plan for `lua/include/plan.lua`, lines of text (docs/decisions/0006-chunks.md).
 */
import type { Chunk, DocumentText, Rewrite, Source } from './DocumentText.js';

/** Most chunks and pieces in a plan: beyond that the whole document is sent. */
const MAX_REBUILT = 64;
const MAX_SOURCES = 1_024;

/** Where a plan takes inserted bytes from: an argument of the script, and where in it they begin. */
export interface Literals {
  readonly argument: number;
  readonly offset: number;
}

export function withinPlanLimits({ rebuilt }: Rewrite): boolean {
  if (rebuilt.size > MAX_REBUILT) return false;
  let sources = 0;
  for (const list of rebuilt.values()) sources += list.length;
  return sources <= MAX_SOURCES;
}

/** The plan of a rewrite. */
export function storagePlan(base: DocumentText, { text, rebuilt }: Rewrite, literals: Literals): string {
  const lines: string[] = [];
  const made = (chunk: Chunk, sources: readonly Source[]): string =>
    `${chunk.name} ${chunk.bytes.length} ${chunk.sha1} ${sources
      .map(({ chunk: source, from, length }) =>
        source === null ? `#${literals.argument}:${literals.offset + from}:${length}` : `${source}:${from}:${length}`,
      )
      .join(' ')}`;
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
  return lines.length === 0 ? '@ 0 0' : lines.join('\n');
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
