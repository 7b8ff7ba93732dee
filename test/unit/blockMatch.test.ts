import { createHash } from 'node:crypto';
import { expect } from 'chai';
import { findSplice } from '../../src/core/blockMatch.js';
import type { Piece } from '../../src/core/splice.js';
import { applySplice, MAX_PIECES, readSplice, writeSplice } from '../../src/core/spliceFormat.js';
import { editConversation, makeConversation, seededRng } from '../helpers/random.js';

const MIB = 1024 * 1024;

/** Bytes that resemble nothing, the same for the same seed. */
function noise(seed: number, bytes: number): Buffer {
  const blocks = Array.from({ length: Math.ceil(bytes / 64) }, (_, index) =>
    createHash('sha512').update(`${seed}/${index}`).digest(),
  );
  return Buffer.concat(blocks).subarray(0, bytes);
}

const conversation = (seed: number, bytes: number): Buffer => Buffer.from(JSON.stringify(makeConversation(seed, bytes)));

/** The pieces, copies as `from+length`. */
const pieces = (base: string, target: string): string[] =>
  findSplice(Buffer.from(base), Buffer.from(target)).pieces.map((piece: Piece) =>
    piece.bytes === undefined ? `${piece.from}+${piece.length}` : piece.bytes.toString(),
  );

/** Bytes that the splice takes; that it makes the target is made sure of. */
function size(base: Buffer, target: Buffer): number {
  const { bytes } = writeSplice(findSplice(base, target));
  const splice = readSplice(bytes);
  expect(applySplice(base, splice).equals(target), 'the target').to.equal(true);
  expect(bytes.length, 'beside the inserted bytes').to.be.at.most(target.length + 32);
  return bytes.length;
}

/** Puts something else in the place of `remove` bytes, every `every` bytes. */
function scattered(base: Buffer, every: number, remove: number, insert: string): Buffer {
  const parts: Buffer[] = [];
  let at = 0;
  for (let next = every; next + remove < base.length; next += every) {
    parts.push(base.subarray(at, next), Buffer.from(insert));
    at = next + remove;
  }
  return Buffer.concat([...parts, base.subarray(at)]);
}

describe('what two documents have in common', () => {
  describe('is, in these pieces', () => {
    it('nothing, or everything', () => {
      expect(pieces('', '')).to.deep.equal([]);
      expect(pieces('abc', '')).to.deep.equal([]);
      expect(pieces('', 'abc')).to.deep.equal(['abc']);
      expect(pieces('abc', 'xyz')).to.deep.equal(['xyz']);
      expect(pieces('abc', 'abc')).to.deep.equal(['0+3']);
      expect(pieces('a', 'a')).to.deep.equal(['0+1']);
    });

    it('the beginning and the end', () => {
      expect(pieces('hello world', 'hello, world')).to.deep.equal(['0+5', ',', '5+6']);
      expect(pieces('hello world', 'hello')).to.deep.equal(['0+5']);
      expect(pieces('hello world', 'world')).to.deep.equal(['6+5']);
      expect(pieces('hello world', 'hello world!')).to.deep.equal(['0+11', '!']);
      expect(pieces('hello world', 'held')).to.deep.equal(['0+3', '10+1']);
    });

    it('not both at once where they overlap', () => {
      expect(pieces('aaaa', 'aaa')).to.deep.equal(['0+3']);
      expect(pieces('aaaa', 'aaaaa')).to.deep.equal(['0+4', 'a']);
      expect(pieces('abab', 'ababab')).to.deep.equal(['0+4', 'ab']);
    });

    it('no beginning of a single byte, whose instruction is longer', () => {
      expect(pieces('[1]', '[2]')).to.deep.equal(['[2', '2+1']);
      expect(pieces('[12]', '[13]')).to.deep.equal(['0+2', '3', '3+1']);
    });

    it('what goes on after small edits', () => {
      const base = '{"state":{"step":7,"status":"planning"},"budget":{"tokens":90000,"spent":12}}';
      const target = '{"state":{"step":8,"status":"planning"},"budget":{"tokens":100000,"spent":12}}';
      expect(pieces(base, target)).to.deep.equal(['0+17', '8', '18+41', '10', '60+17']);
    });

    it('a block that has moved', () => {
      const [a, b] = ['the first of two sentences. ', 'and here comes the second one!'];
      expect(pieces(a + b, b + a)).to.deep.equal(['28+30', '0+28']);
    });

    it('a block that is repeated', () => {
      const a = 'a sentence to repeat. ';
      expect(pieces(`${a}end`, `${a}${a}${a}end`)).to.deep.equal(['0+22', '0+22', '0+25']);
    });
  });

  describe('takes few bytes', () => {
    it('where a block has moved', () => {
      for (const bytes of [4_000, 100_000, 1_000_000]) {
        const base = noise(1, bytes);
        const cut = Math.floor(bytes / 3);
        expect(size(base, Buffer.concat([base.subarray(cut), base.subarray(0, cut)])), `${bytes} bytes`).to.be.at.most(22);
        const inner = Buffer.concat([
          base.subarray(0, 500),
          base.subarray(2500, 3500),
          base.subarray(500, 2500),
          base.subarray(3500),
        ]);
        expect(size(base, inner), `within ${bytes} bytes`).to.be.at.most(24);
      }
    });

    it('where a block is repeated', () => {
      for (const bytes of [4_000, 100_000, 1_000_000]) {
        const base = noise(2, bytes);
        const block = base.subarray(bytes / 2, bytes / 2 + 1500);
        const target = Buffer.concat([base.subarray(0, 300), block, base.subarray(300), block]);
        expect(size(base, target), `${bytes} bytes`).to.be.at.most(32);
        expect(size(base, Buffer.concat([base, base, base])), `${bytes} bytes three times`).to.be.at.most(28);
      }
    });

    it('where edits of a few bytes are scattered', () => {
      const base = noise(3, 1_000_000);
      // 9 edits: for each a copy of 2 + 1 to 2 bytes, an instruction of 1 byte and the insert
      expect(size(base, scattered(base, 100_000, 7, 'changed'))).to.be.at.most(9 * 13 + 12);
      expect(size(base, scattered(base, 100_000, 3, 'longer than it was'))).to.be.at.most(9 * 24 + 12);
      expect(size(base, scattered(base, 100_000, 20, ''))).to.be.at.most(9 * 6 + 12);
      expect(size(base, scattered(base, 1_000, 4, 'four'))).to.be.at.most(999 * 8 + 12);
      expect(size(base, scattered(base, 60, 1, '.'))).to.be.at.most(16_666 * 4 + 12);
    });

    it('where two edits are close together in a document too long to be searched for them', () => {
      const base = noise(12, 1_000_000);
      const [before, between, after] = [base.subarray(0, 500_000), base.subarray(500_004, 500_034), base.subarray(500_038)];
      expect(size(base, Buffer.concat([before, Buffer.from('one'), between, Buffer.from('three'), after]))).to.be.at.most(24);
    });

    it('where blocks are out of order', () => {
      const base = noise(4, 200_000);
      const rng = seededRng(4);
      const blocks = Array.from({ length: 100 }, (_, index) => base.subarray(index * 2000, index * 2000 + 2000));
      const shuffled = blocks.map((block) => ({ block, order: rng.next() })).sort((a, b) => a.order - b.order);
      expect(size(base, Buffer.concat(shuffled.map(({ block }) => block)))).to.be.at.most(100 * 5 + 12);
    });

    it('where one turn of a conversation is put in, changed or removed', () => {
      const limits = { append: 600, field: 100, head: 600, delete: 40, text: 150, subtree: 600 } as const;
      for (const bytes of [5_000, 100_000, 1_000_000]) {
        const conversation = makeConversation(5, bytes);
        const base = Buffer.from(JSON.stringify(conversation));
        for (const kind of Object.keys(limits) as (keyof typeof limits)[]) {
          const target = Buffer.from(JSON.stringify(editConversation(conversation, seededRng(bytes), kind)));
          expect(size(base, target), `${kind}, ${bytes} bytes`).to.be.at.most(limits[kind]);
        }
      }
    });
  });

  it('is at most 32 bytes longer than the target where there is nothing', () => {
    for (const bytes of [1, 11, 12, 100, 5_000, 300_000]) {
      expect(size(noise(6, bytes), noise(7, bytes))).to.be.at.most(bytes + 14);
      expect(size(Buffer.alloc(0), noise(7, bytes))).to.be.at.most(bytes + 14);
    }
  });

  it('is the same whatever was compared before', () => {
    // small and large in turn: memory of one index is used for the next
    const pairs = [3_000, 200_000, 9_000, 60_000].map((bytes) => [conversation(13, bytes), conversation(14, bytes)] as const);
    const alone = pairs.map(([base, target]) => {
      findSplice(Buffer.alloc(300_000), noise(15, 300_000));
      return writeSplice(findSplice(base, target)).bytes;
    });
    const inTurn = [...pairs, ...pairs].map(([base, target]) => writeSplice(findSplice(base, target)).bytes);
    inTurn.forEach((bytes, index) => {
      expect(bytes.equals(alone[index % pairs.length] as Buffer), `pair ${index}`).to.equal(true);
    });
  });

  it('is used where two documents of a kind share phrases only', () => {
    expect(size(conversation(8, 100_000), conversation(9, 100_000))).to.be.below(50_000);
  });

  describe('has no more pieces than a reader takes, and is found within the limits of a test', () => {
    const all = Buffer.alloc(8 * MIB, 'a');
    const periodic = Buffer.alloc(8 * MIB, 'abcdefghijklmnopq');
    const HOSTILE: readonly (readonly [name: string, base: Buffer, target: Buffer])[] = [
      ['the same byte, one more', all, Buffer.concat([all, Buffer.from('a')])],
      ['the same byte with another in the middle', all, Buffer.concat([all.subarray(MIB), Buffer.from('b'), all.subarray(MIB)])],
      ['the same byte, every 30th another', all, scattered(all, 30, 1, 'b')],
      ['every 30th byte another, which is taken back', scattered(all, 30, 1, 'b'), all],
      ['every 1000th byte another, then every 30th', scattered(all, 1000, 1, 'b'), scattered(all, 30, 1, 'b')],
      ['a period that changes', periodic, Buffer.alloc(8 * MIB, 'abcdefghijklmnopqr')],
      ['a period, every 17th byte another', periodic, scattered(periodic, 17, 1, '-')],
      ['noise and noise', noise(10, 8 * MIB), noise(11, 8 * MIB)],
    ];
    for (const [name, base, target] of HOSTILE) {
      it(name, () => {
        const splice = findSplice(base, target);
        expect(splice.pieces.length).to.be.at.most(MAX_PIECES);
        const { bytes } = writeSplice(splice);
        expect(bytes.length).to.be.at.most(target.length + 32);
        expect(applySplice(base, readSplice(bytes)).equals(target)).to.equal(true);
      });
    }
  });
});
