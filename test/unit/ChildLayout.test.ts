import { expect } from 'chai';
import fc from 'fast-check';
import { ChildLayout, type Replacement } from '../../src/core/ChildLayout.js';
import { childStarts, containerBytes } from '../../src/core/TextIndex.js';
import { seededRng } from '../helpers/random.js';

const node = (sizes: readonly number[]) => ({ keys: null, sizes: Uint32Array.from(sizes), bytes: 0, nodes: [] });

/** Everything that a layout says, against the plain list of sizes. */
function check(layout: ChildLayout, sizes: readonly number[]): void {
  expect(layout.count).to.equal(sizes.length);
  expect([...layout.sizes()].join()).to.equal(sizes.join());
  expect(layout.bytes).to.equal(containerBytes(Uint32Array.from(sizes)));
  const starts = childStarts(node(sizes));
  const wrong: string[] = [];
  for (let child = 0; child <= sizes.length; child += 1)
    if (layout.start(child) !== starts[child]) wrong.push(`start of ${child}`);
  for (let child = 0; child < sizes.length; child += 1) {
    const [start, size] = [starts[child] as number, sizes[child] as number];
    if (layout.size(child) !== size) wrong.push(`size of ${child}`);
    // the comma, or the bracket, belongs to the child before it
    for (const place of [start, start + size - 1, start + size])
      if (layout.childAt(place) !== child) wrong.push(`child at ${place}`);
  }
  expect(wrong).to.deep.equal([]);
  if (sizes.length > 0) expect(layout.childAt(0)).to.equal(0);
}

describe('ChildLayout', () => {
  it('says the same as a list of sizes, whatever is replaced in it again and again', () => {
    fc.assert(
      fc.property(fc.nat(), (seed) => {
        const rng = seededRng(seed);
        const some = (most: number): number[] => Array.from({ length: rng.int(0, most) }, () => rng.int(1, 300));
        let sizes = some(rng.pick([3, 200, 1_500]));
        let layout = ChildLayout.of(Uint32Array.from(sizes));
        check(layout, sizes);
        for (let round = 0; round < 6; round += 1) {
          const replacements: Replacement[] = [];
          for (let at = rng.chance(0.3) ? 0 : rng.int(0, sizes.length); at <= sizes.length && replacements.length < 12; ) {
            const end = Math.min(sizes.length, at + rng.pick([0, 1, 1, 2, 40, 300]));
            replacements.push({ first: at, end, sizes: rng.chance(0.5) ? some(3) : some(rng.pick([0, 1, 300])) });
            at = end + rng.pick([0, 1, 1, 130, 400]);
          }
          const next = [...sizes];
          for (const { first, end, sizes: put } of replacements.toReversed()) next.splice(first, end - first, ...put);
          const before = [...sizes];
          const replaced = layout.replaced(replacements);
          check(layout, before);
          check(replaced, next);
          [layout, sizes] = [replaced, next];
        }
      }),
      { numRuns: 150, endOnFailure: true },
    );
  });

  it('shares every block that a change does not touch', () => {
    const layout = ChildLayout.of(new Uint32Array(20_000).fill(30));
    const changed = layout.replaced([{ first: 9_000, end: 9_001, sizes: [31] }]);
    const { shared, blocks } = changed.sharedWith(layout);
    expect(blocks - shared).to.equal(1);
    const twice = changed.replaced([
      { first: 5, end: 6, sizes: [1, 2] },
      { first: 19_999, end: 20_000, sizes: [] },
    ]);
    expect(twice.sharedWith(changed).blocks - twice.sharedWith(changed).shared).to.equal(2);
  });

  it('does not fall apart into small blocks where children are put in one by one, in front, behind or between', () => {
    for (const place of [() => 0, (count: number) => count, () => 128, (count: number) => count >> 1]) {
      let layout = ChildLayout.of(new Uint32Array(1_000).fill(9));
      for (let count = 1_000; count < 4_000; count += 1)
        layout = layout.replaced([{ first: place(count), end: place(count), sizes: [7] }]);
      expect(layout.count).to.equal(4_000);
      expect(layout.sharedWith(layout).blocks).to.be.below(64);
    }
  });
});
