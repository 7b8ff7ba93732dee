/**
 * How long encoding and decoding take: bytes to bytes, as DeltaEncoder and DeltaDecoder do it, and on documents that are kept with an
 * index of their text, as the store does it. Everything from the build, not through tsx.
 */
import { EDIT_KINDS, type EditKind, editConversation, makeConversation, seededRng } from '../../../test/helpers/random.js';
import { builtFile } from '../lib/built.js';
import { percentile } from '../lib/rounds.js';
import { column, type Table } from '../lib/table.js';
import { SIZES, smallChange } from './sequences.js';
import { noMore } from './targets.js';

/** ms, by size. */
const TARGETS: Readonly<Record<string, number>> = { '100 KB': 1, '1 MB': 10 };
/** Pairs of documents that take turns. */
const PAIRS = 24;
/** Those that change little; a subtree or a turn is up to a kilobyte. */
const EDITS: readonly EditKind[] = EDIT_KINDS;
/** Not counted, so that the code is compiled. */
const WARM_UP = 300;

export const codecTimes = async (quick: boolean): Promise<Table[]> => [
  await byteTimes(quick ? 100 : 1_000),
  await documentTimes(quick ? 100 : 1_000),
];

/** Times of so many calls, ms; what each gives is kept from being optimized away by `used`. */
function timed(calls: number, call: (index: number) => unknown): number[] {
  const times: number[] = [];
  for (let index = -WARM_UP; index < calls; index += 1) {
    const start = performance.now();
    const used = call(index + WARM_UP);
    const ms = performance.now() - start;
    if (used === undefined) throw new Error('nothing was made');
    if (index >= 0) times.push(ms);
  }
  return times;
}

async function byteTimes(calls: number): Promise<Table> {
  const { DeltaEncoder } = await builtFile<typeof import('../../../src/core/DeltaEncoder.js')>('core/DeltaEncoder.js');
  const { DeltaDecoder } = await builtFile<typeof import('../../../src/core/DeltaDecoder.js')>('core/DeltaDecoder.js');
  const encoder = new DeltaEncoder();
  const decoder = new DeltaDecoder();
  const rows = SIZES.map(({ label, bytes }) => {
    const rng = seededRng(bytes);
    const doc = makeConversation(1, bytes);
    const base = Buffer.from(JSON.stringify(doc));
    const targets = Array.from({ length: PAIRS }, (_, index) =>
      Buffer.from(JSON.stringify(editConversation(doc, rng, EDITS[index % EDITS.length]))),
    );
    const deltas = targets.map((target) => encoder.encode(base, target));
    const at = <T>(items: readonly T[], index: number): T => items[index % items.length] as T;
    const encode = timed(calls, (index) => encoder.encode(base, at(targets, index)));
    const decode = timed(calls, (index) => decoder.decode(base, at(deltas, index)));
    if (!targets.every((target, index) => decoder.decode(base, at(deltas, index)).equals(target)))
      throw new Error(`${label}: a delta gives another document`);
    const bound = TARGETS[label];
    const worst = Math.max(percentile(encode, 0.99), percentile(decode, 0.99));
    return {
      size: label,
      encodeP50: percentile(encode, 0.5),
      encodeP99: percentile(encode, 0.99),
      decodeP50: percentile(decode, 0.5),
      decodeP99: percentile(decode, 0.99),
      target: bound === undefined ? '' : noMore(worst, bound, `${bound} ms`),
    };
  });
  return {
    caption: 'Bytes to bytes: small edits, ms (lower is better)',
    columns: [
      column('size', 'Document'),
      column('encodeP50', 'encode p50', 'milliseconds'),
      column('encodeP99', 'encode p99', 'milliseconds'),
      column('decodeP50', 'decode p50', 'milliseconds'),
      column('decodeP99', 'decode p99', 'milliseconds'),
      column('target', 'Target, both p99'),
    ],
    rows,
  };
}

async function documentTimes(calls: number): Promise<Table> {
  const { DocumentText } = await builtFile<typeof import('../../../src/core/DocumentText.js')>('core/DocumentText.js');
  const { JsonDocument } = await builtFile<typeof import('../../../src/core/JsonDocument.js')>('core/JsonDocument.js');
  const { crc32Hex, sha1Hex } = await builtFile<typeof import('../../../src/core/checksum.js')>('core/checksum.js');
  const { readSplice, writeSplice } = await builtFile<typeof import('../../../src/core/spliceFormat.js')>('core/spliceFormat.js');
  const { runOnDraft } = await builtFile<typeof import('../../../src/store/draft.js')>('store/draft.js');
  const { DEFAULT_MAX_DEPTH } = await builtFile<typeof import('../../../src/core/json.js')>('core/json.js');
  const rows = [];
  for (const { label, bytes } of SIZES) {
    const first = JsonDocument.parse(DocumentText.of(Buffer.from(JSON.stringify(makeConversation(1, bytes)))));
    // values as `update` makes them: what a change does not touch is shared
    const values = [first.value];
    for (let number = 1; number <= calls + WARM_UP; number += 1)
      values.push(
        await runOnDraft(
          values.at(-1) ?? null,
          (draft) => smallChange(draft as Parameters<typeof smallChange>[0], 7 * number, number),
          DEFAULT_MAX_DEPTH,
        ),
      );
    let written = first;
    const frames: { readonly payload: Buffer; readonly crc: string }[] = [];
    const derive = timed(calls, (index) => {
      const { document, splice } = written.derive(values[index + 1] ?? null);
      written = document;
      const { crc, sha1 } = document.text;
      frames.push({ payload: writeSplice(splice).bytes, crc });
      return sha1;
    });
    let read = first;
    const advance = timed(calls, (index) => {
      const { payload, crc } = frames[index] ?? { payload: Buffer.alloc(0), crc: '' };
      read = read.advance(readSplice(payload), crc).document;
      return read;
    });
    const last = Buffer.from(JSON.stringify(values.at(-1)));
    if (!written.text.bytes().equals(last) || JSON.stringify(read.value) !== last.toString())
      throw new Error(`${label}: the documents are not the same in the end`);
    const whole = timed(Math.min(calls, 200), (index) => {
      const text = Buffer.from(JSON.stringify(values[index + 1]));
      return `${crc32Hex(text)} ${sha1Hex(text)}`;
    });
    rows.push({
      size: label,
      wholeP50: percentile(whole, 0.5),
      deriveP50: percentile(derive, 0.5),
      deriveP99: percentile(derive, 0.99),
      advanceP50: percentile(advance, 0.5),
      advanceP99: percentile(advance, 0.99),
      times: percentile(derive, 0.5) / percentile(whole, 0.5),
    });
  }
  return {
    caption: 'A 20-byte change of a document that is kept with its index, ms (lower is better)',
    columns: [
      column('size', 'Document'),
      column('wholeP50', 'JSON.stringify, CRC-32, SHA-1 p50', 'milliseconds'),
      column('deriveP50', 'derive, splice, checksums p50', 'milliseconds'),
      column('deriveP99', 'p99', 'milliseconds'),
      column('advanceP50', 'read splice, advance p50', 'milliseconds'),
      column('advanceP99', 'p99', 'milliseconds'),
      column('times', 'derive / whole', 'ratio'),
    ],
    rows,
  };
}
