import { createHash } from 'node:crypto';
import { expect } from 'chai';
import { DocumentText, type Rewrite } from '../../src/core/DocumentText.js';
import { SpliceBuilder } from '../../src/core/splice.js';
import { fullPlan, storagePlan as planned } from '../../src/core/storagePlan.js';
import { seededRng } from '../helpers/random.js';
import { randomBytes } from '../helpers/splices.js';

const sha1 = (bytes: Buffer): string => createHash('sha1').update(bytes).digest('hex');
const some = (length: number): Buffer => randomBytes(seededRng(length), length);
const LITERALS = { inserted: 1, offset: 9, firstChunk: 7 };
const storagePlan = (base: DocumentText, made: Rewrite, given: typeof LITERALS): string => planned(base, made, given).plan;

function rewrite(text: DocumentText, ...pieces: readonly ([number, number] | Buffer)[]): Rewrite {
  const builder = new SpliceBuilder(text.length);
  for (const piece of pieces) {
    if (Buffer.isBuffer(piece)) builder.insert(piece);
    else builder.copy(piece[0], piece[1] - piece[0]);
  }
  return text.apply(builder.build());
}
const line = (text: DocumentText, index: number): string => {
  const { name, bytes } = text.chunks[index] as { name: string; bytes: Buffer };
  return `${name} ${bytes.length} ${sha1(bytes)}`;
};
/** Bytes of the list's lines up to before a chunk. */
const offset = (text: DocumentText, index: number): number =>
  text.manifest
    .split('\n')
    .slice(0, index)
    .reduce((sum, { length }) => sum + length + 1, 0);

describe('storagePlan', () => {
  const text = DocumentText.of(some(40_000));
  const whole = DocumentText.of(Buffer.from('[1,2,3]'));

  it('replaces the line of a chunk that was edited', () => {
    const made = rewrite(text, [0, 10_000], Buffer.from('abc'), [10_001, 40_000]);
    expect(storagePlan(text, made, LITERALS)).to.equal(
      [`@ ${offset(text, 1)} ${offset(text, 2) - offset(text, 1)}`, `${line(made.text, 1)} d1:0:2000 #1:9:3 d1:2001:5999`].join(
        '\n',
      ),
    );
  });

  it('adds a chunk at the end, and at the beginning', () => {
    const after = rewrite(text, [0, 40_000], some(5_000));
    expect(storagePlan(text, after, { inserted: 7, offset: 0, firstChunk: 8 })).to.equal(
      `@ ${offset(text, 5)} 0\n${line(after.text, 5)} #7:0:5000`,
    );
    const before = rewrite(text, some(5_000), [0, 40_000]);
    expect(storagePlan(text, before, LITERALS)).to.equal(`@ 0 0\n${line(before.text, 0)} #1:9:5000`);
    expect(before.text.chunks.map(({ name }) => name)).to.deep.equal(['d5', 'd0', 'd1', 'd2', 'd3', 'd4']);
  });

  it('takes out lines of chunks that go, and names them', () => {
    const made = rewrite(text, [0, 8_000], [24_000, 40_000]);
    expect(storagePlan(text, made, LITERALS)).to.equal(`@ ${offset(text, 1)} ${offset(text, 3) - offset(text, 1)}\n- d1\n- d2`);
  });

  it('lists a chunk again that stands before another than it did', () => {
    const made = rewrite(text, [32_000, 40_000], [0, 32_000]);
    expect(storagePlan(text, made, LITERALS)).to.equal(
      [`@ 0 ${offset(text, 4)}`, `@ ${offset(text, 5)} 0`, ...[0, 1, 2, 3].map((n) => `= ${line(text, n)}`)].join('\n'),
    );
  });

  it('is not empty where nothing changed: that would be no plan', () => {
    expect(storagePlan(text, rewrite(text, [0, 40_000]), LITERALS)).to.equal('@ 0 0');
  });

  it('makes a whole document from a whole one', () => {
    const made = rewrite(whole, [0, 3], Buffer.from('9'), [4, 7]);
    expect(storagePlan(whole, made, LITERALS)).to.equal(`data 7 ${sha1(Buffer.from('[1,9,3]'))} data:0:3 #1:9:1 data:4:3`);
  });

  it('makes a whole document from chunks, all of which go', () => {
    const made = rewrite(text, [7_990, 8_010]);
    expect(storagePlan(text, made, LITERALS)).to.equal(
      [`data 20 ${sha1(text.bytes().subarray(7_990, 8_010))} d0:7990:10 d1:0:10`, '- d0', '- d1', '- d2', '- d3', '- d4'].join(
        '\n',
      ),
    );
  });

  it('makes chunks from a whole document, which goes', () => {
    const made = rewrite(whole, [0, 7], some(33_000));
    const [first = 0, second = 0] = made.text.chunks.map(({ bytes }) => bytes.length);
    const lines = storagePlan(whole, made, LITERALS).split('\n');
    expect(lines).to.have.lengthOf(6);
    expect(lines[0]).to.equal('@ 0 0');
    expect(lines[1]).to.equal(`${line(made.text, 0)} data:0:7 #1:9:${first - 7}`);
    expect(lines[2]).to.equal(`${line(made.text, 1)} #1:${9 + first - 7}:${second}`);
    expect(lines[5]).to.equal('- data');
  });
});

describe('fullPlan', () => {
  it('takes each chunk from an argument', () => {
    const text = DocumentText.of(some(33_000));
    expect(fullPlan(text, 7)).to.equal(['@ 0 0', ...[0, 1, 2, 3].map((n) => `${line(text, n)} #${7 + n}:0:8250`)].join('\n'));
    const whole = DocumentText.of(Buffer.from('[1]'));
    expect(fullPlan(whole, 2)).to.equal(`data 3 ${sha1(Buffer.from('[1]'))} #2:0:3`);
  });
});

describe('storagePlan of very many pieces', () => {
  /** So many single bytes replaced, evenly over a stretch. */
  const edited = (text: DocumentText, edits: number, from = 0, to = text.length): Rewrite => {
    const pieces: ([number, number] | Buffer)[] = [];
    const step = Math.floor((to - from) / edits);
    let at = 0;
    for (let n = 0; n < edits; n += 1) {
      const place = from + n * step + Math.floor(step / 2);
      pieces.push([at, place], Buffer.from('x'));
      at = place + 1;
    }
    return rewrite(text, ...pieces, [at, text.length]);
  };
  const piecesOf = (plan: string): number => plan.split(/ (?=#?\w+:\d+:\d+)/).length - 1;

  it('sends a chunk whole that would be made of more than 256, and only that one', () => {
    const text = DocumentText.of(some(640_000));
    const few = planned(text, edited(text, 120, 0, 8_000), LITERALS);
    expect(few.chunks).to.deep.equal([]);
    const many = edited(text, 130, 0, 8_000);
    const { plan, chunks } = planned(text, many, LITERALS);
    expect(chunks).to.have.lengthOf(1);
    expect(plan).to.contain(' #7:0:8000');
    const [made] = many.rebuilt.keys();
    expect(chunks[0]?.equals(made?.bytes ?? Buffer.alloc(0))).to.equal(true);
  });

  it('never has more than 4,096, however many edits there are', () => {
    const text = DocumentText.of(some(4_000_000));
    for (const edits of [1_000, 2_000, 4_000, 30_000]) {
      const made = edited(text, edits);
      const { plan, chunks } = planned(text, made, LITERALS);
      expect(piecesOf(plan), `${edits} edits`).to.be.at.most(4_096);
      expect(plan.split('\n').length).to.be.at.most(1_024);
      // and what it costs follows what is changed: never the document beside its pieces
      expect(plan.length + chunks.reduce((sum, { length }) => sum + length, 0)).to.be.lessThan(
        text.length + 96 * made.rebuilt.size,
      );
    }
  });
});
