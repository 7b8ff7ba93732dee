import { expect } from 'chai';
import { ContextError } from '../../src/core/errors.js';
import { type Splice, SpliceBuilder } from '../../src/core/splice.js';
import { composeSplices } from '../../src/core/spliceCompose.js';
import { applySplice, MAX_PIECES } from '../../src/core/spliceFormat.js';

function splice(baseLength: number, ...pieces: (string | readonly [from: number, length: number])[]): Splice {
  const builder = new SpliceBuilder(baseLength);
  for (const piece of pieces) {
    if (typeof piece === 'string') builder.insert(Buffer.from(piece));
    else builder.copy(...piece);
  }
  return builder.build();
}

function refusal(first: Splice, second: Splice): ContextError {
  try {
    composeSplices(first, second);
  } catch (error) {
    expect(error).to.be.instanceOf(ContextError);
    return error as ContextError;
  }
  throw new Error('they were taken');
}

describe('two splices made one', () => {
  const base = Buffer.from('0123456789');
  const EXAMPLES: readonly (readonly [name: string, first: Splice, second: Splice, together: Splice])[] = [
    ['copies of copies', splice(10, [2, 6]), splice(6, [1, 3]), splice(10, [3, 3])],
    ['a copy over several pieces', splice(10, [0, 3], 'ab', [7, 3]), splice(8, [2, 4]), splice(10, [2, 1], 'ab', [7, 1])],
    ['a copy out of an insert', splice(10, 'abcdef', [0, 1]), splice(7, [2, 3]), splice(10, 'cde')],
    [
      'inserts that meet',
      splice(10, [0, 2], 'abc', [2, 8]),
      splice(13, [0, 3], 'X', [3, 10]),
      splice(10, [0, 2], 'aXbc', [2, 8]),
    ],
    ['an insert that is left out again', splice(10, [0, 5], 'abc', [5, 5]), splice(13, [0, 5], [8, 5]), splice(10, [0, 10])],
    ['pieces that change places', splice(10, [5, 5], [0, 5]), splice(10, [5, 5], [0, 5]), splice(10, [0, 10])],
    ['an empty target between them', splice(10), splice(0, 'a'), splice(10, 'a')],
    ['an empty target in the end', splice(10, [0, 5]), splice(5), splice(10)],
  ];
  for (const [name, first, second, together] of EXAMPLES) {
    it(name, () => {
      const composed = composeSplices(first, second);
      expect(composed).to.deep.equal(together);
      expect(applySplice(base, composed).equals(applySplice(applySplice(base, first), second))).to.equal(true);
    });
  }

  it('are refused where the second is for something else', () => {
    const { code, details } = refusal(splice(10, [0, 5]), splice(6, [0, 1]));
    expect(code).to.equal('BASE_MISMATCH');
    expect(details).to.deep.equal({ expected: 5, found: 6 });
  });

  it('are refused where they have more pieces than a reader takes, before these are made', () => {
    const scattered = Array.from({ length: 30_000 }, (_, index) => [index * 2, 1] as const);
    const first = splice(60_000, ...scattered);
    const all = [0, 30_000] as const;
    expect(composeSplices(first, splice(30_000, all, 'a', all)).pieces).to.have.length(60_001);
    const { code, message } = refusal(first, splice(30_000, ...Array.from({ length: 500 }, () => [all, 'a'] as const).flat()));
    expect(code).to.equal('BAD_FRAME');
    expect(message).to.contain(String(MAX_PIECES));
  });
});
