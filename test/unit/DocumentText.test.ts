import { createHash } from 'node:crypto';
import { expect } from 'chai';
import { crc32Hex } from '../../src/core/checksum.js';
import { DocumentText } from '../../src/core/DocumentText.js';
import { ContextError } from '../../src/core/errors.js';
import { type Splice, SpliceBuilder } from '../../src/core/splice.js';
import { applySplice } from '../../src/core/spliceFormat.js';
import { seededRng } from '../helpers/random.js';
import { randomBytes } from '../helpers/splices.js';

const sha1 = (bytes: Buffer | string): string => createHash('sha1').update(bytes).digest('hex');
const some = (length: number, seed = 1): Buffer => randomBytes(seededRng(seed), length);
const lengths = (text: DocumentText): number[] => text.chunks.map(({ bytes }) => bytes.length);
const names = (text: DocumentText): string[] => text.chunks.map(({ name }) => name);

/** Copies given as `[from, to]`, inserts as bytes. */
function splice(base: number, ...pieces: readonly ([number, number] | Buffer)[]): Splice {
  const builder = new SpliceBuilder(base);
  for (const piece of pieces) {
    if (Buffer.isBuffer(piece)) builder.insert(piece);
    else builder.copy(piece[0], piece[1] - piece[0]);
  }
  return builder.build();
}

describe('DocumentText.of', () => {
  it('keeps a document of up to 32,768 bytes whole', () => {
    for (const length of [0, 1, 8_000, 32_768]) {
      const bytes = some(length);
      const text = DocumentText.of(bytes);
      expect(text.chunked).to.equal(false);
      expect(names(text)).to.deep.equal(['data']);
      expect(text.manifest).to.equal('');
      expect(text.sha1).to.equal(sha1(bytes));
      expect(text.crc).to.equal(crc32Hex(bytes));
      expect(text.length).to.equal(length);
      expect(text.bytes()).to.deep.equal(bytes);
    }
  });

  it('cuts a longer one into chunks of about 8,000 bytes', () => {
    expect(lengths(DocumentText.of(some(32_769)))).to.deep.equal([8_192, 8_192, 8_192, 8_193]);
    expect(lengths(DocumentText.of(some(40_000)))).to.deep.equal([8_000, 8_000, 8_000, 8_000, 8_000]);
    expect(new Set(lengths(DocumentText.of(Buffer.alloc(2 * 1024 * 1024))))).to.deep.equal(new Set([8_004, 8_005]));
  });

  it('cuts one above 2 MiB into chunks of about 16,000', () => {
    const text = DocumentText.of(Buffer.alloc(2 * 1024 * 1024 + 1));
    expect(text.chunks).to.have.lengthOf(131);
    expect(new Set(lengths(text))).to.deep.equal(new Set([16_008, 16_009]));
  });

  it('lists the chunks in a manifest, whose SHA-1 is that of the document', () => {
    const bytes = some(33_000);
    const text = DocumentText.of(bytes);
    const lines = [0, 1, 2, 3].map((n) => `d${n} 8250 ${sha1(bytes.subarray(n * 8_250, (n + 1) * 8_250))}\n`);
    expect(text.chunked).to.equal(true);
    expect(text.manifest).to.equal(lines.join(''));
    expect(text.sha1).to.equal(sha1(lines.join('')));
    expect(text.crc).to.equal(crc32Hex(bytes));
    expect(text.starts).to.deep.equal([0, 8_250, 16_500, 24_750]);
    expect(text.bytes()).to.deep.equal(bytes);
  });

  it('writes a checksum with its leading zeros', () => {
    // the CRC-32 of these ends up below 2^24
    const short = Array.from({ length: 2_000 }, (_, n) => Buffer.from(`${n}`)).filter((bytes) =>
      crc32Hex(bytes).startsWith('00'),
    );
    expect(short).to.not.have.lengthOf(0);
    for (const bytes of short) expect(DocumentText.of(bytes).crc).to.equal(crc32Hex(bytes));
  });
});

describe('DocumentText.stored', () => {
  it('takes chunks as they are, in the order of the document', () => {
    const parts = [some(5_000, 1), some(100, 2), some(12_000, 3)];
    const text = DocumentText.stored(['d7', 'd0', 'd12'].map((name, n) => ({ name, bytes: parts[n] as Buffer })));
    const bytes = Buffer.concat(parts);
    expect(names(text)).to.deep.equal(['d7', 'd0', 'd12']);
    expect(text.bytes()).to.deep.equal(bytes);
    expect(text.crc).to.equal(crc32Hex(bytes));
    expect(text.starts).to.deep.equal([0, 5_000, 5_100]);
    expect(text.manifest.split('\n').map((line) => line.split(' ', 2).join(' '))).to.deep.equal([
      'd7 5000',
      'd0 100',
      'd12 12000',
      '',
    ]);
  });

  it('takes one that is whole', () => {
    const text = DocumentText.stored([{ name: 'data', bytes: Buffer.from('[1]') }]);
    expect(text.chunked).to.equal(false);
    expect(text.sha1).to.equal(sha1('[1]'));
  });
});

describe('slice and ranges of a DocumentText', () => {
  const bytes = some(50_000);
  const text = DocumentText.of(bytes);

  it('give the bytes between two places, across chunks', () => {
    const starts = [...text.starts, bytes.length];
    const places = starts.flatMap((at) => [at - 1, at, at + 1]).filter((at) => at >= 0 && at <= bytes.length);
    for (const from of places)
      for (const to of places) if (from <= to) expect(text.slice(from, to).equals(bytes.subarray(from, to))).to.equal(true);
    expect(text.slice(0, bytes.length).equals(bytes)).to.equal(true);
  });

  it('copy nothing within a chunk', () => {
    expect(text.slice(10, 20).buffer).to.equal(bytes.buffer);
  });

  it('name the chunks that a range lies in', () => {
    const [, second = 0, third = 0] = text.starts;
    const ranges = [...text.ranges(second - 3, third - second + 5)].map(({ chunk, from, length }) => [chunk.name, from, length]);
    expect(ranges).to.deep.equal([
      ['d0', second - 3, 3],
      ['d1', 0, third - second],
      ['d2', 0, 2],
    ]);
    expect([...text.ranges(100, 0)]).to.deep.equal([]);
  });
});

describe('DocumentText.apply', () => {
  it('refuses a splice for another length', () => {
    for (const text of [DocumentText.of(some(10)), DocumentText.of(some(40_000))]) {
      const other = splice(text.length + 1, [0, 5]);
      expect(() => text.apply(other))
        .to.throw(ContextError)
        .that.deep.includes({ code: 'BASE_MISMATCH' })
        .with.property('details')
        .that.deep.includes({ expected: text.length + 1, found: text.length });
    }
  });

  it('rebuilds the one chunk that an edit touches, and keeps its name', () => {
    const bytes = some(80_000);
    const text = DocumentText.of(bytes);
    const edit = splice(80_000, [0, 20_000], Buffer.from('hello'), [20_001, 80_000]);
    const rewrite = text.apply(edit);
    expect(rewrite.text.bytes().equals(applySplice(bytes, edit))).to.equal(true);
    expect(names(rewrite.text)).to.deep.equal(names(text));
    rewrite.text.chunks.forEach((chunk, n) => {
      expect(chunk === text.chunks[n]).to.equal(n !== 2);
    });
    expect([...rewrite.rebuilt]).to.deep.equal([
      [
        rewrite.text.chunks[2],
        [
          { chunk: 'd2', from: 0, length: 4_000 },
          { chunk: null, from: 0, length: 5 },
          { chunk: 'd2', from: 4_001, length: 3_999 },
        ],
      ],
    ]);
    // the one it was made of is as it was
    expect(text.bytes().equals(bytes)).to.equal(true);
  });

  it('puts an appended piece into the last chunk until that is twice as long, then cuts it', () => {
    let text = DocumentText.of(some(40_000));
    const counts: number[] = [];
    for (let n = 0; n < 9; n += 1) {
      text = text.apply(splice(text.length, [0, text.length], some(1_000, n))).text;
      counts.push(text.chunks.length);
    }
    expect(counts).to.deep.equal([5, 5, 5, 5, 5, 5, 5, 5, 6]);
    expect(names(text)).to.deep.equal(['d0', 'd1', 'd2', 'd3', 'd4', 'd5']);
  });

  it('gives a short rest to the shorter neighbour', () => {
    const text = DocumentText.stored(
      ['d0', 'd1', 'd2'].map((name, n) => ({ name, bytes: some([12_000, 16_000, 9_000][n] as number, n) })),
    );
    // 1,999 bytes of d1 stay: less than a quarter of a chunk
    const { text: next } = text.apply(splice(37_000, [0, 13_999], [28_000, 37_000]));
    expect(next.chunks.map(({ name, bytes }) => [name, bytes.length])).to.deep.equal([
      ['d0', 12_000],
      ['d1', 10_999],
    ]);
    expect(next.chunks[0]).to.equal(text.chunks[0]);
    const { text: enough } = text.apply(splice(37_000, [0, 14_000], [28_000, 37_000]));
    expect(lengths(enough)).to.deep.equal([12_000, 2_000, 9_000]);
  });

  it('keeps chunks that change places, and copies one that is there twice', () => {
    const text = DocumentText.of(some(40_000));
    const [a, b, c, d, e] = text.chunks;
    const moved = text.apply(splice(40_000, [0, 8_000], [24_000, 32_000], [8_000, 24_000], [32_000, 40_000])).text;
    expect(moved.chunks).to.have.ordered.members([a, d, b, c, e]);
    const { text: twice, rebuilt } = text.apply(splice(40_000, [0, 16_000], [8_000, 40_000]));
    expect(names(twice)).to.deep.equal(['d0', 'd1', 'd5', 'd2', 'd3', 'd4']);
    expect(twice.chunks[1]).to.equal(b);
    expect([...rebuilt.values()]).to.deep.equal([[{ chunk: 'd1', from: 0, length: 8_000 }]]);
  });

  it('has chunks above 32,768 bytes, and one field again only at 16,384', () => {
    const grown = DocumentText.of(some(32_768)).apply(splice(32_768, [0, 32_768], Buffer.from('x'))).text;
    expect(grown.chunked).to.equal(true);
    expect(grown.chunks.some(({ name }) => name === 'data')).to.equal(false);
    const shrunk = grown.apply(splice(32_769, [0, 16_385])).text;
    expect(shrunk.chunked).to.equal(true);
    const whole = shrunk.apply(splice(16_385, [1, 16_385])).text;
    expect(names(whole)).to.deep.equal(['data']);
    expect(whole.manifest).to.equal('');
    expect(whole.sha1).to.equal(sha1(whole.bytes()));
    const again = whole.apply(splice(16_384, [0, 16_384], some(16_384))).text;
    expect(again.chunked).to.equal(false);
    expect(again.apply(splice(32_768, [0, 32_768], Buffer.from('x'))).text.chunked).to.equal(true);
  });

  it('makes nothing of all, and something of nothing', () => {
    const nothing = DocumentText.of(some(50_000)).apply(splice(50_000)).text;
    expect(names(nothing)).to.deep.equal(['data']);
    expect(nothing.crc).to.equal('00000000');
    expect(nothing.sha1).to.equal(sha1(''));
    const bytes = some(33_000);
    const { text } = nothing.apply(splice(0, bytes));
    expect(text.bytes().equals(bytes)).to.equal(true);
    expect(text.chunks).to.have.lengthOf(4);
  });

  it('has large chunks in what it builds above 2 MiB', () => {
    const text = DocumentText.of(some(2 * 1024 * 1024));
    const grown = text.apply(splice(text.length, [0, text.length], some(100_000, 2))).text;
    expect(lengths(grown).slice(text.chunks.length)).to.deep.equal([16_666, 16_667, 16_667, 16_666, 16_667, 16_667]);
  });
});
