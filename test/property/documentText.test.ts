import { expect } from 'chai';
import fc from 'fast-check';
import { crc32Hex, sha1Hex } from '../../src/core/checksum.js';
import { type Chunk, DocumentText, type Rewrite } from '../../src/core/DocumentText.js';
import { type Splice, SpliceBuilder } from '../../src/core/splice.js';
import { applySplice } from '../../src/core/spliceFormat.js';
import { fullPlan, storagePlan } from '../../src/core/storagePlan.js';
import { type Fields, fieldsOf, runPlan } from '../helpers/planInterpreter.js';
import { type Rng, seededRng } from '../helpers/random.js';
import { insertedBytes, randomBytes, randomSplice, type SpliceKind } from '../helpers/splices.js';

const ROOM = 150_000;
/** A quarter of the smallest target size, and twice that size: what a chunk can be. */
const [SHORTEST, LONGEST] = [2_000, 16_000];

/** Holds everything that is true of a rewrite against a computation that knows nothing of chunks. */
function checkRewrite(text: DocumentText, bytes: Buffer, splice: Splice, { text: next, rebuilt }: Rewrite): Buffer {
  const expected = applySplice(bytes, splice);
  expect(next.bytes().equals(expected), 'bytes').to.equal(true);
  expect(next.length).to.equal(expected.length);
  expect(next.crc).to.equal(crc32Hex(expected));
  const names = next.chunks.map(({ name }) => name);
  expect(new Set(names).size, 'names that come twice').to.equal(names.length);
  // between the two limits a document stays in the form it has
  const chunked = expected.length > 32_768 || (text.chunked && expected.length > 16_384);
  expect(next.chunked, `chunks for ${expected.length} bytes`).to.equal(chunked);
  if (chunked) {
    expect(next.manifest).to.equal(next.chunks.map((c) => `${c.name} ${c.bytes.length} ${sha1Hex(c.bytes)}\n`).join(''));
    expect(next.sha1).to.equal(sha1Hex(next.manifest));
    for (const name of names) expect(name).to.match(/^d(0|[1-9]\d*)$/);
    for (const { bytes: chunk } of next.chunks)
      expect(chunk.length, 'length of a chunk').to.be.within(next.chunks.length === 1 ? 1 : SHORTEST, LONGEST);
  } else {
    expect(names).to.deep.equal(['data']);
    expect(next.manifest).to.equal('');
    expect(next.sha1).to.equal(sha1Hex(expected));
  }
  // what is not rebuilt is the very chunk that was there; what is, consists of what it says
  const inserted = insertedBytes(splice);
  const before = new Map(text.chunks.map((chunk) => [chunk.name, chunk]));
  for (const chunk of next.chunks) {
    const sources = rebuilt.get(chunk);
    if (sources === undefined) expect(before.get(chunk.name)).to.equal(chunk);
    else {
      const parts = sources.map((s) =>
        (s.chunk === null ? inserted : (before.get(s.chunk) as Chunk).bytes).subarray(s.from, s.from + s.length),
      );
      expect(Buffer.concat(parts).equals(chunk.bytes), 'sources of a chunk').to.equal(true);
      expect(chunk.sha1).to.equal(sha1Hex(chunk.bytes));
    }
  }
  for (const chunk of rebuilt.keys()) expect(next.chunks).to.include(chunk);
  return expected;
}

/** The chunks that an edit `[from, to)` does not touch, nor any next to those that it does, are the same ones afterwards. */
function checkUntouched(text: DocumentText, next: DocumentText, from: number, to: number): void {
  const stay = new Set(next.chunks);
  text.chunks.forEach((chunk, index) => {
    const start = text.starts[index] as number;
    const end = start + chunk.bytes.length;
    const neighbours = [text.chunks[index - 1], text.chunks[index + 1]].map((c) => c?.bytes.length ?? 0);
    if (end < from - (neighbours[1] ?? 0) || start > to + (neighbours[0] ?? 0))
      expect(stay.has(chunk), `chunk at ${start}`).to.equal(true);
  });
}

const start = (rng: Rng): DocumentText =>
  DocumentText.of(randomBytes(rng, rng.pick([0, 100, 20_000, 32_768, 32_769, 60_000, 120_000])));
const step = (rng: Rng, text: DocumentText, kind?: SpliceKind): Splice => randomSplice(rng, text.length, text.starts, ROOM, kind);

describe('DocumentText, for any splices one after the other', () => {
  it('has the bytes, checksums, chunks and sources that it should', () => {
    fc.assert(
      fc.property(fc.nat(), (seed) => {
        const rng = seededRng(seed);
        let text = start(rng);
        let bytes = text.bytes();
        for (let n = 0; n < 12; n += 1) {
          const splice = step(rng, text);
          const rewrite = text.apply(splice);
          bytes = checkRewrite(text, bytes, splice, rewrite);
          text = rewrite.text;
        }
      }),
      { numRuns: 150, endOnFailure: true },
    );
  });

  it('does not touch chunks that an edit is far from', () => {
    fc.assert(
      fc.property(fc.nat(), (seed) => {
        const rng = seededRng(seed);
        let text = DocumentText.of(randomBytes(rng, 140_000));
        for (let n = 0; n < 20; n += 1) {
          const from = rng.chance(0.3) ? rng.pick(text.starts) : rng.int(0, text.length);
          const to = Math.min(text.length, from + rng.pick([0, 1, 100, 9_000]));
          const builder = new SpliceBuilder(text.length);
          builder.copy(0, from);
          builder.insert(randomBytes(rng, rng.pick([0, 1, 3_000, 9_000])));
          builder.copy(to, text.length - to);
          const { text: next } = text.apply(builder.build());
          if (next.chunked) checkUntouched(text, next, from, to);
          text = next;
          if (!text.chunked) return;
        }
      }),
      { numRuns: 60, endOnFailure: true },
    );
  });

  it('is the same where the same was done to the same', () => {
    fc.assert(
      fc.property(fc.nat(), (seed) => {
        const rng = seededRng(seed);
        let text = start(rng);
        for (let n = 0; n < 6; n += 1) {
          // as another process has it: read from Redis
          const other = DocumentText.stored(text.chunks.map(({ name, bytes }) => ({ name, bytes: Buffer.from(bytes) })));
          const splice = step(rng, text);
          text = text.apply(splice).text;
          const same = other.apply(splice).text;
          expect(same.manifest).to.equal(text.manifest);
          expect(same.sha1).to.equal(text.sha1);
          expect(same.crc).to.equal(text.crc);
        }
      }),
      { numRuns: 60, endOnFailure: true },
    );
  });

  it('keeps chunks within their bounds for thousands of edits', () => {
    const rng = seededRng(7);
    let text = DocumentText.of(randomBytes(rng, 100_000));
    let bytes = text.bytes();
    const counts = new Set<number>();
    for (let n = 0; n < 4_000; n += 1) {
      const kind = text.length < 40_000 ? 'copy' : rng.pick(['edits', 'edits', 'append', 'insert', 'delete', 'move'] as const);
      const splice = step(rng, text, kind);
      const rewrite = text.apply(splice);
      text = rewrite.text;
      bytes = applySplice(bytes, splice);
      for (const { bytes: chunk } of text.chunked ? text.chunks : []) {
        if (chunk.length < (text.chunks.length === 1 ? 1 : SHORTEST) || chunk.length > LONGEST)
          expect.fail(`a chunk of ${chunk.length} bytes after ${n} edits`);
      }
      counts.add(text.chunks.length);
    }
    expect(text.crc).to.equal(crc32Hex(bytes));
    expect(text.bytes().equals(bytes)).to.equal(true);
    // it was about more than one layout
    expect(counts.size).to.be.above(10);
  });
});

describe('storagePlan and fullPlan, for any splices one after the other', () => {
  const argument = (literals: Buffer, offset: number): Buffer => Buffer.concat([Buffer.alloc(offset, '#'), literals]);
  const sorted = (fields: Fields): [string, string][] =>
    [...fields].map(([name, bytes]): [string, string] => [name, bytes.toString('latin1')]).sort(([a], [b]) => (a < b ? -1 : 1));

  it('lead from the stored fields to those of the new text, and name every chunk that goes', () => {
    const forms = new Set<string>();
    fc.assert(
      fc.property(fc.nat(), fc.nat({ max: 40 }), (seed, offset) => {
        const rng = seededRng(seed);
        let text = start(rng);
        const all = fullPlan(text, 3);
        let fields = runPlan(null, all, [Buffer.from('no'), Buffer.from('no'), ...text.chunks.map(({ bytes }) => bytes)]).fields;
        expect(sorted(fields)).to.deep.equal(sorted(fieldsOf(text)));
        for (let n = 0; n < 10; n += 1) {
          const splice = step(rng, text);
          const rewrite = text.apply(splice);
          const { plan, chunks } = storagePlan(text, rewrite, { inserted: 2, offset, firstChunk: 3 });
          const outcome = runPlan(fields, plan, [
            Buffer.from('not this one'),
            argument(insertedBytes(splice), offset),
            ...chunks,
          ]);
          expect(sorted(outcome.fields)).to.deep.equal(sorted(fieldsOf(rewrite.text)));
          expect(outcome.sha).to.equal(rewrite.text.sha1);
          // what is not rebuilt is not written
          expect([...outcome.written].sort()).to.deep.equal([...rewrite.rebuilt.keys()].map(({ name }) => name).sort());
          forms.add(`${text.chunked} ${rewrite.text.chunked} ${plan.includes('\n= ') ? 'listed again' : ''}`.trim());
          text = rewrite.text;
          fields = outcome.fields;
        }
      }),
      { numRuns: 200, endOnFailure: true },
    );
    expect([...forms].sort()).to.deep.equal(['false false', 'false true', 'true false', 'true true', 'true true listed again']);
  });
});
