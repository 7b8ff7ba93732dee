/**
 * How long deltas are, without Redis: ours against whole documents, compressed ones, patches, and other programs' deltas. Every delta of
 * ours and of theirs is applied, and must give the document.
 */
import { deflateRawSync, gzipSync } from 'node:zlib';
import { DeltaDecoder } from '../../../src/core/DeltaDecoder.js';
import { DeltaEncoder } from '../../../src/core/DeltaEncoder.js';
import { DocumentText } from '../../../src/core/DocumentText.js';
import { diff } from '../../../src/core/diff.js';
import { JsonDocument } from '../../../src/core/JsonDocument.js';
import { normalize, parseFrozen } from '../../../src/core/json.js';
import { CommitEncoder, changed } from '../../../src/store/CommitEncoder.js';
import { column, type Table, type Value } from '../lib/table.js';
import { type DeltaTool, DeltaTools } from './deltaTools.js';
import { patterns, realSequences, type Sequence, steps, unrelated } from './sequences.js';
import { LEAST_PATTERN, LEAST_REAL, noMore, reduction, saves } from './targets.js';

const FORMS = ['full', 'gzip', 'patch', 'dictionary', 'xdelta3', 'xdelta3Plain', 'zstd', 'splice', 'sent'] as const;
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
  readonly spliceOver: number;
  readonly sentOver: number;
}

/** What a frame carries after its header, as the store's own encoder decides. */
function payloadBytes(baseText: string, targetText: string): number {
  const text = DocumentText.of(Buffer.from(baseText));
  const document = JsonDocument.parse(text);
  const base = { version: 1, crc: text.crc, value: document.value, bytes: text.length, at: 0, expiresAt: null, document };
  const value = normalize(JSON.parse(targetText), { base: document.value });
  const next = changed(base, value, true, () => JsonDocument.of(value), null);
  const { payload, storage } = new CommitEncoder('on').change(base, next, 2);
  if (payload.bytes !== null) return Buffer.byteLength(payload.bytes);
  if (payload.kind === 'full') return Buffer.byteLength(targetText);
  if (storage.form === 'whole') throw new Error('a splice that is not sent');
  return storage.data.length;
}

function measure(sequence: Sequence, tools: DeltaTools): Sized {
  const encoder = new DeltaEncoder();
  const decoder = new DeltaDecoder();
  const bytes: Bytes = {};
  const add = (form: Form, length: number): void => {
    bytes[form] = (bytes[form] ?? 0) + length;
  };
  let spliceOver = Number.NEGATIVE_INFINITY;
  let sentOver = Number.NEGATIVE_INFINITY;
  for (const [baseText, targetText] of steps(sequence)) {
    const base = Buffer.from(baseText);
    const target = Buffer.from(targetText);
    const splice = encoder.encode(base, target);
    if (!decoder.decode(base, splice).equals(target)) throw new Error(`${sequence.label}: a splice gives another document`);
    const sent = payloadBytes(baseText, targetText);
    add('full', target.length);
    add('gzip', gzipSync(target, { level: 6 }).length);
    add('patch', Buffer.byteLength(JSON.stringify(diff(parseFrozen(baseText), parseFrozen(targetText)))));
    add('dictionary', deflateRawSync(target, { level: 6, dictionary: base }).length);
    for (const tool of tools.available) add(tool, tools.deltaBytes(tool, base, target));
    add('splice', splice.length);
    add('sent', sent);
    spliceOver = Math.max(spliceOver, splice.length - target.length);
    sentOver = Math.max(sentOver, sent - target.length);
  }
  return { sequence, bytes, spliceOver, sentOver };
}

const sum = (sized: readonly Sized[], form: Form): number =>
  sized.reduce((all, { bytes }) => all + (bytes[form] ?? Number.NaN), 0);

export function encodedSizes(quick: boolean): Table[] {
  const tools = DeltaTools.open();
  try {
    const sized = [...realSequences(), ...patterns(quick ? 3 : 12), ...unrelated()].map((one) => measure(one, tools));
    return [sizesTable(sized, tools), boundsTable(sized, tools)];
  } finally {
    tools.close();
  }
}

function sizesTable(sized: readonly Sized[], tools: DeltaTools): Table {
  const real = sized.filter(({ sequence }) => sequence.kind === 'real');
  const rows: Record<string, Value>[] = sized.map(({ sequence: { label, size, kind, texts }, bytes }) => {
    const saved = reduction(bytes.sent ?? Number.NaN, bytes.full ?? Number.NaN);
    const target = kind === 'pattern' ? saves([saved], LEAST_PATTERN) : '';
    return { label, size, steps: texts.length - 1, ...bytes, saved, target };
  });
  const all = reduction(sum(real, 'sent'), sum(real, 'full'));
  rows.splice(real.length, 0, {
    label: 'real documents together',
    ...{ size: '', steps: real.reduce((count, { sequence }) => count + sequence.texts.length - 1, 0) },
    ...Object.fromEntries(FORMS.map((form) => [form, sum(real, form)])),
    saved: all,
    target: saves([all], LEAST_REAL),
  });
  return {
    caption: 'Bytes of all steps, without headers (lower is better)',
    columns: [
      column('label', 'Sequence'),
      column('size', 'Document'),
      column('steps', 'Steps', 'number'),
      column('full', 'Full', 'number'),
      column('gzip', 'gzip', 'number'),
      column('dictionary', 'deflateRaw, base as dictionary', 'number'),
      column('patch', 'JSON Patch', 'number'),
      ...tools.available.map((tool) => column(tool, TOOL_TITLES[tool], 'number')),
      column('splice', 'Splice', 'number'),
      column('sent', 'As sent by set', 'number'),
      column('saved', 'saved', 'percent'),
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
  for (const [what, key] of [
    ['DeltaEncoder', 'spliceOver'],
    ['As sent by set', 'sentOver'],
  ] as const) {
    const worst = Math.max(...sized.map((one) => one[key]));
    rows.push({ what: `${what}: worst step against its document, bytes`, value: over(worst), target: noMore(worst, MOST_OVER) });
  }
  for (const tool of tools.available) {
    for (const [what, form] of [
      ['DeltaEncoder', 'splice'],
      ['As sent by set', 'sent'],
    ] as const) {
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
