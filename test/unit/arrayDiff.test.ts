import { expect } from 'chai';
import fc from 'fast-check';
import { byEdits, commonSubsequence, type Matches } from '../../src/core/arrayDiff.js';

/** Length of the longest common subsequence, by the textbook's table. */
function longest(a: readonly number[], b: readonly number[]): number {
  let row = new Array<number>(b.length + 1).fill(0);
  for (const x of a) {
    const next = [0];
    for (const [index, y] of b.entries()) {
      next.push(x === y ? (row[index] as number) + 1 : Math.max(row[index + 1] as number, next[index] as number));
    }
    row = next;
  }
  return row.at(-1) as number;
}

/** Fails unless the matches are a common subsequence; gives its length. */
function checked(matches: Matches, a: readonly number[], b: readonly number[]): number {
  for (let index = 0; index < matches.length; index += 2) {
    const inA = matches[index] as number;
    const inB = matches[index + 1] as number;
    if (a[inA] === undefined || a[inA] !== b[inB]) expect.fail(`${inA} and ${inB} are not equal`);
    if (index > 0 && !(inA > (matches[index - 2] as number) && inB > (matches[index - 1] as number)))
      expect.fail('they do not rise');
  }
  return matches.length / 2;
}

const common = (a: readonly number[], b: readonly number[]): number =>
  checked(commonSubsequence(Int32Array.from(a), Int32Array.from(b)), a, b);

/** The same numbers in every run. */
function numbers(length: number, below: number, seed: number): number[] {
  let state = seed;
  return Array.from({ length }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  });
}

describe('commonSubsequence', () => {
  const few = fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 30 });

  it('is a longest one', () => {
    fc.assert(
      fc.property(few, few, (a, b) => {
        expect(common(a, b)).to.equal(longest(a, b));
      }),
      { numRuns: 1000 },
    );
  });

  it('leaves nothing of equal arrays and nothing in common of unrelated ones', () => {
    const a = numbers(5000, 1e9, 1);
    expect(common(a, a)).to.equal(5000);
    expect(
      common(
        a,
        numbers(5000, 1e9, 2).map((x) => -x - 1),
      ),
    ).to.equal(0);
    expect(common([], a)).to.equal(0);
  });

  it('is a longest one for large arrays without duplicates', () => {
    const a = Array.from({ length: 20_000 }, (_, index) => index);
    expect(common(a, [...a].reverse())).to.equal(1);
    expect(common(a, [...a.slice(10_000), ...a.slice(0, 10_000)])).to.equal(10_000);
    expect(
      common(
        a,
        a.filter((x) => x % 3 !== 0),
      ),
    ).to.equal(13_333);
  });

  it('is a longest one for large arrays of duplicates that differ little', () => {
    const a = numbers(20_000, 2, 3);
    const b = [...a.slice(0, 100), ...a.slice(103, 9000), 0, 1, 0, ...a.slice(9000)];
    expect(common(a, b)).to.be.at.least(20_000 - 3);
  });

  it('is a common one, and not a bad one, for large arrays of duplicates that differ much', () => {
    const a = numbers(4000, 2, 4);
    const b = numbers(4000, 2, 5);
    expect(common(a, b)).to.be.above(2000).and.to.be.at.most(longest(a, b));
    expect(common(a.slice(0, 900), numbers(300_000, 2, 6))).to.be.above(200);
  });
});

describe('byEdits', () => {
  const few = fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 20 });

  it('is a longest one, or nothing where there are more edits than allowed', () => {
    fc.assert(
      fc.property(few, few, fc.nat({ max: 20 }), (a, b, most) => {
        const matches = byEdits(a.length, b.length, (x, y) => a[x] === b[y], most, Number.POSITIVE_INFINITY);
        const edits = a.length + b.length - 2 * longest(a, b);
        if (matches === null) expect(edits).to.be.above(most);
        else expect(checked(matches, a, b)).to.equal(longest(a, b));
        if (edits <= most) expect(matches).not.to.equal(null);
      }),
      { numRuns: 1000 },
    );
  });

  it('gives up after so many steps', () => {
    let steps = 0;
    const equal = (): boolean => {
      steps++;
      return false;
    };
    expect(byEdits(10_000, 10_000, equal, 10_000, 500)).to.equal(null);
    expect(steps).to.be.at.most(600);
  });
});
