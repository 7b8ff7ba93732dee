import { expect } from 'chai';
import fc from 'fast-check';
import { DeltaDecoder } from '../../src/core/DeltaDecoder.js';
import { DeltaEncoder } from '../../src/core/DeltaEncoder.js';
import { ContextError } from '../../src/core/errors.js';
import { type Splice, SpliceBuilder } from '../../src/core/splice.js';
import { composeSplices } from '../../src/core/spliceCompose.js';
import { applySplice, readSplice, writeSplice } from '../../src/core/spliceFormat.js';
import { EDIT_KINDS, editConversation, makeConversation, seededRng } from '../helpers/random.js';

const encoder = new DeltaEncoder();
const decoder = new DeltaDecoder();

/** Of few different bytes, so that much is alike by chance, or of all of them. */
const chunk = fc.oneof(
  fc.array(fc.integer({ min: 97, max: 99 }), { maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
  fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
  fc
    .tuple(fc.constantFrom('a', '{"id":', 'abcdefgh'), fc.integer({ min: 0, max: 60 }))
    .map(([text, times]) => Buffer.from(text.repeat(times))),
);
const bytes = fc.array(chunk, { maxLength: 12 }).map((chunks) => Buffer.concat(chunks));

/** Cuts, moves, repeats and insertions, places as shares of what is there. */
const edit = fc.record({
  kind: fc.constantFrom('put', 'cut', 'move', 'repeat'),
  from: fc.nat(9999),
  length: fc.nat(300),
  to: fc.nat(9999),
  insert: chunk,
});
type Edit = typeof edit extends fc.Arbitrary<infer T> ? T : never;
const edits = fc.array(edit, { maxLength: 6 });

function edited(base: Buffer, steps: readonly Edit[]): Buffer {
  return steps.reduce((before, { kind, from, length, to, insert }) => {
    const start = from % (before.length + 1);
    const block = before.subarray(start, start + length);
    const rest =
      kind === 'put' || kind === 'repeat' ? before : Buffer.concat([before.subarray(0, start), before.subarray(start + length)]);
    const at = kind === 'cut' ? start : to % (rest.length + 1);
    const put = kind === 'move' || kind === 'repeat' ? block : insert;
    return Buffer.concat([rest.subarray(0, at), put, rest.subarray(at)]);
  }, base);
}

function expectRoundTrip(base: Buffer, target: Buffer): void {
  const delta = encoder.encode(base, target);
  expect(decoder.decode(base, delta).equals(target), 'the target').to.equal(true);
  expect(delta.length).to.be.at.most(target.length + 32);
  const splice = readSplice(delta);
  expect(writeSplice(splice).bytes.equals(delta), 'written again').to.equal(true);
}

/** Every piece is there, and together they are the target: applying a splice would fill up what is missing. */
function expectAnnounced(base: Buffer, delta: Buffer, target: Buffer): void {
  const { targetLength, pieces } = readSplice(delta);
  let length = 0;
  for (const piece of pieces) {
    length += piece.bytes === undefined ? piece.length : piece.bytes.length;
    if (piece.bytes !== undefined) continue;
    expect(piece.from).to.be.at.least(0);
    expect(piece.from + piece.length).to.be.at.most(base.length);
  }
  expect(length).to.equal(targetLength);
  expect(target.length).to.equal(targetLength);
}

/** Any splice for a base of `baseLength` bytes, not only what the encoder would make. */
function anySplice(baseLength: number, parts: readonly (Buffer | readonly [number, number])[]): Splice {
  const builder = new SpliceBuilder(baseLength);
  for (const part of parts) {
    if (Buffer.isBuffer(part)) builder.insert(part);
    else if (baseLength > 0) {
      const from = part[0] % baseLength;
      builder.copy(from, Math.min(part[1], baseLength - from));
    }
  }
  return builder.build();
}
const parts = fc.array(fc.oneof(chunk, fc.tuple(fc.nat(9999), fc.nat(200))), { maxLength: 10 });

describe('deltas', () => {
  it('make the target of the base, whatever both are', () => {
    fc.assert(
      fc.property(bytes, bytes, (base, target) => expectRoundTrip(base, target)),
      { numRuns: 500 },
    );
  });

  it('make the target of the base after edits', () => {
    fc.assert(
      fc.property(bytes, edits, (base, steps) => expectRoundTrip(base, edited(base, steps))),
      { numRuns: 1000 },
    );
  });

  it('make the target of the base after edits of JSON', () => {
    const size = fc.integer({ min: 1000, max: 40_000 });
    fc.assert(
      fc.property(fc.nat(), size, fc.array(fc.constantFrom(...EDIT_KINDS), { maxLength: 4 }), (seed, length, kinds) => {
        const rng = seededRng(seed);
        const before = makeConversation(seed, length);
        const after = kinds.reduce((doc, kind) => editConversation(doc, rng, kind), before);
        expectRoundTrip(Buffer.from(JSON.stringify(before)), Buffer.from(JSON.stringify(after)));
      }),
      { numRuns: 150 },
    );
  });

  it('are read as they were written, whoever made the splice', () => {
    fc.assert(
      fc.property(bytes, parts, (base, list) => {
        const splice = anySplice(base.length, list);
        const { bytes: written, literals } = writeSplice(splice);
        expect(readSplice(written)).to.deep.equal(splice);
        const inserted = splice.pieces.flatMap((piece) => piece.bytes ?? []);
        expect(written.subarray(literals).equals(Buffer.concat(inserted)), 'inserted bytes').to.equal(true);
      }),
      { numRuns: 500 },
    );
  });

  it('made one do what they do one after the other', () => {
    fc.assert(
      fc.property(bytes, parts, parts, parts, (base, ...lists) => {
        let document: Buffer = base;
        let together: Splice = anySplice(base.length, [[0, base.length]]);
        for (const list of lists) {
          const splice = anySplice(document.length, list);
          document = applySplice(document, splice);
          together = composeSplices(together, splice);
        }
        const read = readSplice(writeSplice(together).bytes);
        expect(read).to.deep.equal(together);
        expect(applySplice(base, read).equals(document)).to.equal(true);
      }),
      { numRuns: 500 },
    );
  });

  it('that are damaged are refused, or give exactly what they announce', () => {
    const damage = fc.array(
      fc.record({
        kind: fc.constantFrom('flip', 'set', 'cut', 'put', 'end'),
        at: fc.nat(9999),
        value: fc.integer({ min: 0, max: 255 }),
      }),
      { minLength: 1, maxLength: 4 },
    );
    const outcomes = { refused: 0, taken: 0 };
    fc.assert(
      fc.property(bytes, edits, damage, fc.boolean(), (base, steps, damages, atHead) => {
        const delta = damages.reduce(
          (before, { kind, at, value }) => {
            const place = at % Math.min(before.length + 1, atHead ? 12 : Number.POSITIVE_INFINITY);
            if (kind === 'cut') return Buffer.concat([before.subarray(0, place), before.subarray(place + 1)]);
            if (kind === 'put') return Buffer.concat([before.subarray(0, place), Buffer.from([value]), before.subarray(place)]);
            if (kind === 'end') return before.subarray(0, place);
            const after = Buffer.from(before);
            if (place < after.length) after[place] = kind === 'set' ? value : (after[place] as number) ^ (1 << (value % 8));
            return after;
          },
          encoder.encode(base, edited(base, steps)),
        );
        let target: Buffer;
        try {
          target = decoder.decode(base, delta);
        } catch (error) {
          expect(error).to.be.instanceOf(ContextError);
          expect(['BAD_FRAME', 'BASE_MISMATCH']).to.include((error as ContextError).code);
          outcomes.refused += 1;
          return;
        }
        expectAnnounced(base, delta, target);
        outcomes.taken += 1;
      }),
      { numRuns: 3000 },
    );
    expect(outcomes.refused, 'refused').to.be.above(300);
    expect(outcomes.taken, 'taken').to.be.above(30);
  });

  it('of random bytes are refused, or give exactly what they announce', () => {
    const base = Buffer.alloc(20, 'x');
    const head = fc.constantFrom('', '01', '0114', '011414', '01140a02');
    fc.assert(
      fc.property(head, fc.uint8Array({ maxLength: 30 }), (begin, rest) => {
        const delta = Buffer.concat([Buffer.from(begin, 'hex'), rest]);
        let target: Buffer;
        try {
          target = decoder.decode(base, delta);
        } catch (error) {
          expect(error).to.be.instanceOf(ContextError);
          expect(['BAD_FRAME', 'BASE_MISMATCH']).to.include((error as ContextError).code);
          return;
        }
        expectAnnounced(base, delta, target);
      }),
      { numRuns: 3000 },
    );
  });
});
