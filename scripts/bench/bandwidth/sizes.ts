/**
 * How long deltas are, without Redis: ours against whole documents, compressed ones, patches, and other programs' deltas. Every delta of
 * ours and of theirs is applied, and must give the document.
 */
import { deflateRawSync, gzipSync } from 'node:zlib';
import { DeltaDecoder } from '../../../src/core/DeltaDecoder.js';
import { DeltaEncoder } from '../../../src/core/DeltaEncoder.js';
import { DocumentText } from '../../../src/core/DocumentText.js';
import { diff } from '../../../src/core/diff.js';
import { frameHeader2 } from '../../../src/core/frame.js';
import { JsonDocument } from '../../../src/core/JsonDocument.js';
import { normalize, parseFrozen } from '../../../src/core/json.js';
import { CommitEncoder, changed } from '../../../src/store/CommitEncoder.js';
import { column, type Table, type Value } from '../lib/table.js';
import { DELTA_TOOLS, type DeltaTool, DeltaTools } from './deltaTools.js';
import { bounds, patterns, realSequences, type Sequence, shapes, steps } from './sequences.js';
import { LEAST_PATTERN, LEAST_REAL, NOT_MEASURED, noMore, reduction, saves } from './targets.js';

const FORMS = [
  'full',
  'gzip',
  'patch',
  'dictionary',
  'xdelta3',
  'xdelta3Plain',
  'zstd',
  'splice',
  'sent',
  'toRedis',
  'frame',
] as const;
type Form = (typeof FORMS)[number];
type Bytes = Partial<Record<Form, number>>;

const TOOL_TITLES: Readonly<Record<DeltaTool, string>> = {
  xdelta3: 'xdelta3',
  xdelta3Plain: 'xdelta3 -9 -S none',
  zstd: 'zstd -19 --patch-from',
};

/** Most that the worst step may be longer than its document. */
const MOST_OVER = 32;
const MOST_TO_XDELTA = 1.3;

interface Sized {
  readonly sequence: Sequence;
  readonly bytes: Bytes;
  /** By how much the worst step is longer than its document (negative: shorter). */
  readonly over: Readonly<Record<Over, number>>;
}

const OVERS = {
  splice: 'DeltaEncoder',
  sent: "A frame's payload, by set",
  toRedis: 'To Redis by set: plan, data, chunks and payload',
  frame: 'To a subscriber: the frame with its header',
  toFull: 'The same, against a frame of the whole document',
} as const;
type Over = keyof typeof OVERS;

/** What a commit sends, as the store's own encoder decides: a payload, all that goes to Redis, and the frame that Redis makes of it. */
interface Sent {
  readonly payload: number;
  readonly toRedis: number;
  readonly frame: number;
  /** A frame of the whole document. */
  readonly full: number;
}

const lengthOf = (bytes: string | Buffer): number => (typeof bytes === 'string' ? Buffer.byteLength(bytes) : bytes.length);

function sentBytes(baseText: string, targetText: string): Sent {
  const text = DocumentText.of(Buffer.from(baseText));
  const document = JsonDocument.parse(text);
  const base = { version: 1, crc: text.crc, value: document.value, bytes: text.length, at: 0, expiresAt: null, document };
  const value = normalize(JSON.parse(targetText), { base: document.value });
  const next = changed(base, value, true, () => JsonDocument.of(value), null);
  const { payload, storage, crc, length } = new CommitEncoder('on').change(base, next, 2);
  const beside = payload.bytes === null ? 0 : lengthOf(payload.bytes);
  const chunks = storage.form === 'plan' ? storage.chunks.reduce((sum, chunk) => sum + chunk.length, 0) : 0;
  const toRedis = lengthOf(storage.data) + (storage.form === 'plan' ? lengthOf(storage.plan) : 0) + chunks + beside;
  const { kind, encoding } = payload;
  if (payload.bytes === null && kind !== 'full' && storage.form === 'whole') throw new Error('a splice that is not sent');
  const carried = payload.bytes !== null ? beside : kind === 'full' ? length : lengthOf(storage.data);
  // identifiers and times as long as they are in use
  const facts = { parts: 0, version: 2, crc, length, baseVersion: 1, baseCrc: text.crc, at: 1_700_000_000_000, expiresAt: null };
  const words = { ...facts, operation: 'bench-host.1234.1', by: 'bench-host.1234' };
  const header = frameHeader2({ ...words, kind, encoding }).length;
  const full = frameHeader2({ ...words, kind: 'full', encoding: '-' }).length + length;
  return { payload: carried, toRedis, frame: header + carried, full };
}

function measure(sequence: Sequence, tools: DeltaTools): Sized {
  const encoder = new DeltaEncoder();
  const decoder = new DeltaDecoder();
  const bytes: Bytes = {};
  const add = (form: Form, length: number): void => {
    bytes[form] = (bytes[form] ?? 0) + length;
  };
  const over: Record<Over, number> = {
    splice: Number.NEGATIVE_INFINITY,
    sent: Number.NEGATIVE_INFINITY,
    toRedis: Number.NEGATIVE_INFINITY,
    frame: Number.NEGATIVE_INFINITY,
    toFull: Number.NEGATIVE_INFINITY,
  };
  const exceeds = (what: Over, length: number, document: number): void => {
    over[what] = Math.max(over[what], length - document);
  };
  for (const [baseText, targetText] of steps(sequence)) {
    const base = Buffer.from(baseText);
    const target = Buffer.from(targetText);
    const splice = encoder.encode(base, target);
    if (!decoder.decode(base, splice).equals(target)) throw new Error(`${sequence.label}: a splice gives another document`);
    const sent = sentBytes(baseText, targetText);
    add('full', target.length);
    add('gzip', gzipSync(target, { level: 6 }).length);
    add('patch', Buffer.byteLength(JSON.stringify(diff(parseFrozen(baseText), parseFrozen(targetText)))));
    add('dictionary', deflateRawSync(target, { level: 6, dictionary: base }).length);
    for (const tool of tools.available) add(tool, tools.deltaBytes(tool, base, target));
    add('splice', splice.length);
    add('sent', sent.payload);
    add('toRedis', sent.toRedis);
    add('frame', sent.frame);
    exceeds('splice', splice.length, target.length);
    exceeds('sent', sent.payload, target.length);
    exceeds('toRedis', sent.toRedis, target.length);
    exceeds('frame', sent.frame, target.length);
    exceeds('toFull', sent.frame, sent.full);
  }
  return { sequence, bytes, over };
}

const sum = (sized: readonly Sized[], form: Form): number =>
  sized.reduce((all, { bytes }) => all + (bytes[form] ?? Number.NaN), 0);

export function encodedSizes(quick: boolean): Table[] {
  const tools = DeltaTools.open();
  try {
    const sequences = [...realSequences(), ...patterns(quick ? 3 : 12), ...shapes(quick ? 2 : 4), ...bounds()];
    const sized = sequences.map((one) => measure(one, tools));
    return [sizesTable(sized, tools), boundsTable(sized, tools)];
  } finally {
    tools.close();
  }
}

/** What stands where a program could not be had. */
const missing = (tools: DeltaTools): Partial<Record<DeltaTool, string>> =>
  Object.fromEntries(DELTA_TOOLS.filter((tool) => !tools.available.includes(tool)).map((tool) => [tool, NOT_MEASURED]));

function sizesTable(sized: readonly Sized[], tools: DeltaTools): Table {
  const real = sized.filter(({ sequence }) => sequence.kind === 'real');
  const rows: Record<string, Value>[] = sized.map(({ sequence: { label, size, kind, texts }, bytes }) => {
    const saved = reduction(bytes.sent ?? Number.NaN, bytes.full ?? Number.NaN);
    const redisSaved = reduction(bytes.toRedis ?? Number.NaN, bytes.full ?? Number.NaN);
    const target = kind === 'pattern' ? saves([saved, redisSaved], LEAST_PATTERN) : '';
    return { label, size, steps: texts.length - 1, ...missing(tools), ...bytes, saved, redisSaved, target };
  });
  const all = reduction(sum(real, 'sent'), sum(real, 'full'));
  const allToRedis = reduction(sum(real, 'toRedis'), sum(real, 'full'));
  rows.splice(real.length, 0, {
    label: 'real documents together',
    ...{ size: '', steps: real.reduce((count, { sequence }) => count + sequence.texts.length - 1, 0) },
    ...Object.fromEntries(FORMS.map((form) => [form, sum(real, form)])),
    ...missing(tools),
    saved: all,
    redisSaved: allToRedis,
    target: saves([all, allToRedis], LEAST_REAL),
  });
  return {
    caption: 'Bytes of all steps, without headers but where it says so (lower is better)',
    columns: [
      column('label', 'Sequence'),
      column('size', 'Document'),
      column('steps', 'Steps', 'number'),
      column('full', 'Full', 'number'),
      column('gzip', 'gzip', 'number'),
      column('dictionary', 'deflateRaw, base as dictionary', 'number'),
      column('patch', 'JSON Patch', 'number'),
      ...DELTA_TOOLS.map((tool) => column(tool, TOOL_TITLES[tool], 'number')),
      column('splice', 'Splice', 'number'),
      column('sent', 'As sent by set', 'number'),
      column('saved', 'saved', 'percent'),
      column('toRedis', 'To Redis', 'number'),
      column('redisSaved', 'saved', 'percent'),
      column('frame', 'Frame with header', 'number'),
      column('target', 'Target'),
    ],
    rows,
  };
}

function boundsTable(sized: readonly Sized[], tools: DeltaTools): Table {
  const real = sized.filter(({ sequence }) => sequence.kind === 'real');
  const ratioTo = (form: Form, to: Form): number => sum(real, form) / sum(real, to);
  const over = (worst: number): string => `${worst > 0 ? '+' : ''}${worst}`;
  const rows: Record<string, Value>[] = [];
  for (const [key, what] of Object.entries(OVERS) as [Over, string][]) {
    const worst = sized.reduce((most, one) => (one.over[key] > most.over[key] ? one : most));
    const { label, size } = worst.sequence;
    rows.push({
      what: `${what}: worst step ${key === 'toFull' ? '' : 'against its document'}, bytes`.replace(' ,', ','),
      value: `${over(worst.over[key])} (${label}, ${size})`,
      target: noMore(worst.over[key], MOST_OVER),
    });
  }
  for (const tool of DELTA_TOOLS) {
    for (const [what, form] of [
      ['DeltaEncoder', 'splice'],
      ['As sent by set', 'sent'],
    ] as const) {
      if (!tools.available.includes(tool)) {
        const target = tool === 'xdelta3' ? NOT_MEASURED : '';
        rows.push({ what: `${what}: real documents, to ${TOOL_TITLES[tool]}`, value: NOT_MEASURED, target });
        continue;
      }
      const ratio = ratioTo(form, tool);
      // the target names xdelta3 as it comes
      const target = tool === 'xdelta3' ? noMore(ratio, MOST_TO_XDELTA) : '';
      rows.push({ what: `${what}: real documents, to ${TOOL_TITLES[tool]}`, value: ratio.toFixed(2), target });
    }
  }
  return {
    caption: 'Bounds',
    columns: [column('what', 'What'), column('value', 'Measured'), column('target', 'Target')],
    rows,
  };
}
