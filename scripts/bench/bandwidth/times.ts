/**
 * How long encoding and decoding take: bytes to bytes, as DeltaEncoder and DeltaDecoder do it, and on documents that are kept with an
 * index of their text, as the store does it. Everything from the build, not through tsx.
 */
import { EDIT_KINDS, type EditKind, editConversation, makeConversation, seededRng } from '../../../test/helpers/random.js';
import { builtFile } from '../lib/built.js';
import { median, percentile } from '../lib/rounds.js';
import { column, type Table } from '../lib/table.js';
import { SIZES, smallChange } from './sequences.js';
import { SHAPES } from './shapes.js';
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
  await growthTimes(quick ? 3 : 9),
];

/** Times of so many calls, ms; what each gives is kept from being optimized away by `used`. */
function timed(calls: number, call: (index: number) => unknown, warmUp = WARM_UP): number[] {
  const times: number[] = [];
  for (let index = -warmUp; index < calls; index += 1) {
    const start = performance.now();
    const used = call(index + warmUp);
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
  const conversations = SIZES.map(({ label, bytes }) => ({
    ...{ label, calls, warmUp: WARM_UP },
    make: (): unknown => makeConversation(1, bytes),
    change: (draft: unknown, number: number): void => smallChange(draft as Parameters<typeof smallChange>[0], 7 * number, number),
  }));
  // making a draft of these takes milliseconds, whatever is measured after it
  const wide = SHAPES.map((shape) => ({ ...shape, calls: Math.min(calls, 100), warmUp: 30 }));
  for (const { label, make, change, calls: count, warmUp } of [...conversations, ...wide]) {
    const first = JsonDocument.parse(DocumentText.of(Buffer.from(JSON.stringify(make()))));
    // values as `update` makes them: what a change does not touch is shared
    const values = [first.value];
    for (let number = 1; number <= count + warmUp; number += 1)
      values.push(await runOnDraft(values.at(-1) ?? null, (draft) => change(draft, number), DEFAULT_MAX_DEPTH));
    let written = first;
    const frames: { readonly payload: Buffer; readonly crc: string }[] = [];
    const derive = timed(
      count,
      (index) => {
        const { document, splice } = written.derive(values[index + 1] ?? null);
        written = document;
        const { crc, sha1 } = document.text;
        frames.push({ payload: writeSplice(splice).bytes, crc });
        return sha1;
      },
      warmUp,
    );
    let read = first;
    const advance = timed(
      count,
      (index) => {
        const { payload, crc } = frames[index] ?? { payload: Buffer.alloc(0), crc: '' };
        read = read.advance(readSplice(payload), crc).document;
        return read;
      },
      warmUp,
    );
    const last = Buffer.from(JSON.stringify(values.at(-1)));
    if (!written.text.bytes().equals(last) || JSON.stringify(read.value) !== last.toString())
      throw new Error(`${label}: the documents are not the same in the end`);
    const whole = timed(
      Math.min(count, 200),
      (index) => {
        const text = Buffer.from(JSON.stringify(values[index + 1]));
        return `${crc32Hex(text)} ${sha1Hex(text)}`;
      },
      0,
    );
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

/** What four times as much may take, as a multiple: linear, and room for what the caches of a processor make of it. */
const MOST_GROWTH = 8;

/** Whether finding copies stays linear where what is compared is made to be hard: processor time for n and for 4n. */
async function growthTimes(runs: number): Promise<Table> {
  const { findSplice } = await builtFile<typeof import('../../../src/core/blockMatch.js')>('core/blockMatch.js');
  const rng = seededRng(3);
  const random = (bytes: number): Buffer => Buffer.from(Array.from({ length: bytes }, () => rng.int(0, 255)));
  const every = (bytes: Buffer, step: number): Buffer =>
    bytes.map((byte, index) => (index % step === 0 ? byte ^ 1 : byte)) as Buffer;
  const cases: Readonly<Record<string, (n: number) => readonly [Buffer, Buffer]>> = {
    'unrelated bytes': (n) => [random(n), random(n)],
    'one byte repeated, every 30th changed': (n) => [Buffer.alloc(n, 'a'), every(Buffer.alloc(n, 'a'), 30)],
    'a period of 17, every 50th changed': (n) => [
      Buffer.alloc(n, 'abcdefghijklmnopq'),
      every(Buffer.alloc(n, 'abcdefghijklmnopq'), 50),
    ],
    'blocks of 64 in reverse': (n) => {
      const base = random(n);
      const blocks = Array.from({ length: Math.floor(n / 64) }, (_, index) => base.subarray(index * 64, index * 64 + 64));
      return [base, Buffer.concat(blocks.reverse())];
    },
    'the same block of 100 again and again': (n) => {
      const block = random(100);
      const pairs = Array.from({ length: Math.floor(n / 120) }, () => Buffer.concat([block, random(20)]));
      return [Buffer.concat(pairs), Buffer.concat(pairs.reverse())];
    },
    'numbers in another order': (n) => {
      const numbers = Array.from({ length: Math.floor(n / 6) }, () => rng.int(10_000, 99_999));
      return [Buffer.from(numbers.join()), Buffer.from(numbers.toSorted((a, b) => a - b).join())];
    },
  };
  const rows = Object.entries(cases).map(([label, make]) => {
    const [small, large] = [256 * 1024, 1024 * 1024].map((n) => {
      const [base, target] = make(n);
      const times = Array.from({ length: runs + 1 }, () => {
        const before = process.cpuUsage();
        findSplice(base, target);
        const { user, system } = process.cpuUsage(before);
        return (user + system) / 1000;
      });
      return median(times.slice(1));
    }) as [number, number];
    return { label, small, large, growth: large / small, target: noMore(large / small, MOST_GROWTH) };
  });
  return {
    caption: 'Finding copies where that is hard, processor time, ms (lower is better)',
    columns: [
      column('label', 'From one to the other'),
      column('small', '256 KB', 'milliseconds'),
      column('large', '1 MB', 'milliseconds'),
      column('growth', 'growth', 'ratio'),
      column('target', 'Target'),
    ],
    rows,
  };
}
