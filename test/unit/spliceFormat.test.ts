import { expect } from 'chai';
import { ContextError } from '../../src/core/errors.js';
import { type Splice, SpliceBuilder } from '../../src/core/splice.js';
import { applySplice, MAX_PIECES, readSplice, writeSplice } from '../../src/core/spliceFormat.js';

const MIB = 1024 * 1024;

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');
const text = (bytes: Buffer): string => bytes.toString('latin1');

function splice(baseLength: number, ...pieces: (string | readonly [from: number, length: number])[]): Splice {
  const builder = new SpliceBuilder(baseLength);
  for (const piece of pieces) {
    if (typeof piece === 'string') builder.insert(Buffer.from(piece, 'latin1'));
    else builder.copy(...piece);
  }
  return builder.build();
}

function refusal(bytes: Buffer): string {
  try {
    readSplice(bytes);
  } catch (error) {
    expect(error).to.be.instanceOf(ContextError);
    expect((error as ContextError).code).to.equal('BAD_FRAME');
    return (error as ContextError).message;
  }
  throw new Error('it was taken');
}

const varint = (value: number): number[] =>
  value < 0x80 ? [value] : [(value % 0x80) + 0x80, ...varint(Math.floor(value / 0x80))];

/** A splice with these instructions. */
const built = (baseLength: number, targetLength: number, instructions: readonly number[], literals = ''): Buffer =>
  Buffer.from([
    1,
    ...varint(baseLength),
    ...varint(targetLength),
    ...varint(instructions.length),
    ...instructions,
    ...Buffer.from(literals),
  ]);

describe('the binary form of a splice', () => {
  describe('has exactly these bytes', () => {
    const EXAMPLES: readonly (readonly [name: string, splice: Splice, hex: string, literals: number])[] = [
      ['nothing from nothing', splice(0), '01 00 00 00', 4],
      ['nothing from something', splice(5), '01 05 00 00', 4],
      ['all of the base, which goes without saying', splice(5, [0, 5]), '01 05 05 00', 4],
      ['the end of the base', splice(5, [3, 2]), '01 05 02 00', 4],
      ['the beginning of the base', splice(5, [0, 3]), '01 05 03 02 06 00', 6],
      ['something from nothing', splice(0, 'abc'), '01 00 03 01 07 61 62 63', 5],
      ['a byte put in', splice(10, [0, 4], 'x', [4, 6]), '01 0a 0b 03 08 00 03 78', 7],
      ['a byte replaced', splice(10, [0, 4], 'x', [5, 5]), '01 0a 0a 03 08 00 03 78', 7],
      ['bytes left out', splice(10, [0, 4], [7, 3]), '01 0a 07 02 08 00', 6],
      ['bytes at the end', splice(10, [0, 10], 'xy'), '01 0a 0c 03 14 00 05 78 79', 7],
      ['two inserts, both behind the instructions', splice(9, 'a', [0, 4], 'b', [4, 5]), '01 09 0b 04 03 08 00 03 61 62', 8],
      ['a copy further on: 3 beyond the one before', splice(9, [0, 2], [5, 2]), '01 09 04 04 04 00 04 06', 8],
      ['a copy further back: 7 before the end of the one before', splice(9, [5, 3], [1, 2]), '01 09 05 04 06 0a 04 0d', 8],
      ['numbers of two bytes', splice(200, [0, 100], 'x', [100, 100]), '01 c8 01 c9 01 04 c8 01 00 03 78', 10],
      ['the end of the base in the middle', splice(4, [2, 2], 'x'), '01 04 03 03 04 04 03 78', 7],
    ];
    for (const [name, value, bytes, literals] of EXAMPLES) {
      it(name, () => {
        const written = writeSplice(value);
        expect(written.bytes.toString('hex')).to.equal(hex(bytes).toString('hex'));
        expect(written.literals).to.equal(literals);
        expect(readSplice(hex(bytes))).to.deep.equal(value);
      });
    }

    it('lengths up to 2^32', () => {
      const value = splice(2 ** 32, [2 ** 32 - 10, 10]);
      expect(writeSplice(value).bytes.toString('hex')).to.equal('0180808080100a00');
      expect(readSplice(hex('01 80 80 80 80 10 0a 00'))).to.deep.equal(value);
    });
  });

  it('reads inserts that follow each other as one, and copies likewise', () => {
    expect(readSplice(built(9, 4, [3, 5, 3], 'abcd'))).to.deep.equal(splice(9, 'abcd'));
    expect(readSplice(built(9, 6, [4, 0, 8, 0]))).to.deep.equal(splice(9, [0, 6]));
  });

  it('joins 65,536 inserts without copying the first for each', () => {
    // one by one they would take the copying of half a terabyte
    const bytes = built(0, 16 * MIB, Array.from({ length: MAX_PIECES }, () => varint(256 * 2 + 1)).flat());
    const { pieces } = readSplice(Buffer.concat([bytes, Buffer.alloc(16 * MIB, 'x')]));
    expect(pieces.map((piece) => piece.bytes?.length)).to.deep.equal([16 * MIB]);
  });

  describe('is refused', () => {
    const REFUSED: readonly (readonly [name: string, bytes: Buffer, says: RegExp])[] = [
      ['empty', hex(''), /format is absent/],
      ['in another version', hex('02 00 00 00'), /format is 2, not 1/],
      ['that ends inside its head', hex('01 05 80'), /ends inside its target length/],
      ['with a number of six bytes', hex('01 05 80 80 80 80 80 01 00'), /target length is too long/],
      ['with a number padded to six bytes', hex('01 85 80 80 80 80 00 05 00'), /base length is too long/],
      ['with a number above 2^32', hex('01 81 80 80 80 10 00 00'), /base length is too large/],
      ['with a length of 2^53', hex('01 05 80 80 80 80 80 80 80 10 00'), /target length is too long/],
      ['with a target above 16 MiB', built(5, 16 * MIB + 1, [0x7f]), /16777217 bytes, more than 16777216/],
      ['with instructions beyond its end', built(5, 5, [8, 0]).subarray(0, 5), /instructions are longer/],
      ['with an instruction that ends too early', built(5, 5, [0x88]), /inside its instruction/],
      ['with a copy without a distance', built(5, 4, [8]), /inside its distance/],
      ['with an instruction that goes on in the inserted bytes', built(5, 5, [0x89], '\x01'), /inside its instruction/],
      ['with an empty insert', built(5, 5, [1]), /empty piece/],
      ['with an empty copy', built(5, 5, [0, 0]), /empty piece/],
      ['with a copy past the end', built(5, 6, [12, 0]), /outside of its base/],
      ['with a copy that begins past the end', built(5, 2, [2, 10, 2, 0]), /outside of its base/],
      ['with a copy from before the beginning', built(5, 2, [4, 1]), /outside of its base/],
      ['with more than its target by a copy', built(5, 3, [8, 0]), /more than its target/],
      ['with more than its target by an insert', built(5, 3, [6, 0, 3], 'x'), /more than its target/],
      ['with more than its target by two inserts', built(5, 3, [5, 5], 'abcd'), /more than its target/],
      ['with an insert beyond its end', built(5, 3, [7], 'ab'), /does not have/],
      ['with bytes left over', built(5, 5, [], 'a'), /nothing inserts/],
      ['with an end longer than the base', built(5, 7, [3], 'a'), /less than its target/],
      [
        'with more than 65,536 pieces',
        built(5, MAX_PIECES + 1, Array(MAX_PIECES + 1).fill(3), 'a'.repeat(MAX_PIECES + 1)),
        /65536 pieces/,
      ],
    ];
    for (const [name, bytes, says] of REFUSED) {
      it(name, () => {
        expect(refusal(bytes)).to.match(says);
      });
    }
  });

  it('takes 65,536 pieces', () => {
    const bytes = built(5, MAX_PIECES, Array(MAX_PIECES).fill(3), 'a'.repeat(MAX_PIECES));
    expect(readSplice(bytes).targetLength).to.equal(MAX_PIECES);
  });

  it('is applied to its base', () => {
    const base = Buffer.from('0123456789');
    expect(text(applySplice(base, splice(10, [0, 2], 'ab', [8, 2], [0, 1])))).to.equal('01ab890');
    expect(text(applySplice(base, splice(10)))).to.equal('');
    const copy = applySplice(base, splice(10, [0, 10]));
    copy.fill(0);
    expect(text(base)).to.equal('0123456789');
  });

  it('is not applied to a base of another length', () => {
    for (const base of ['012345678', '0123456789a', '']) {
      expect(() => applySplice(Buffer.from(base), splice(10, [0, 2])))
        .to.throw(ContextError)
        .that.includes({ code: 'BASE_MISMATCH' })
        .and.has.property('details')
        .that.deep.equals({ expected: 10, found: base.length });
    }
  });
});
