import { expect } from 'chai';
import fc from 'fast-check';
import { diff } from '../../src/core/diff.js';
import { type JsonObject, type JsonValue, normalize, parseFrozen } from '../../src/core/json.js';
import { applyPatch, jsonEqual, type Patch, validatePatch } from '../../src/core/patch.js';

const AWKWARD = [
  '__proto__',
  '',
  'a/b',
  '~',
  '~1',
  'constructor',
  'toString',
  '0',
  '1',
  '10',
  '01',
  '-',
  '4294967294',
  '4294967295',
  'é',
  '😀',
  'a',
  'b',
  'c',
];

const key = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...AWKWARD) },
  { weight: 1, arbitrary: fc.string({ unit: 'grapheme', maxLength: 3 }) },
);
const scalar = fc.oneof(
  fc.constantFrom(null, true, false, 0, 1, 2, '', 'x'),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.string({ unit: 'grapheme', maxLength: 5 }),
);
const { json, small } = fc.letrec<{ json: JsonValue; small: JsonValue }>((tie) => ({
  json: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    scalar,
    fc.array(tie('json'), { maxLength: 6 }),
    fc.dictionary(key, tie('json'), { maxKeys: 6 }),
  ),
  small: fc.oneof(
    { maxDepth: 1 },
    scalar,
    fc.array(tie('small'), { maxLength: 4 }),
    fc.dictionary(key, tie('small'), { maxKeys: 3 }),
  ),
}));

/** One edit somewhere in a document; the numbers choose where. */
interface Edit {
  readonly path: readonly number[];
  readonly kind: 'set' | 'remove' | 'insert' | 'move' | 'shuffle';
  readonly at: number;
  readonly to: number;
  readonly key: string;
  readonly value: JsonValue;
}
const edit: fc.Arbitrary<Edit> = fc.record({
  path: fc.array(fc.nat({ max: 9 }), { maxLength: 4 }),
  kind: fc.constantFrom('set', 'remove', 'insert', 'move', 'shuffle'),
  at: fc.nat({ max: 50 }),
  to: fc.nat({ max: 50 }),
  key,
  value: small,
});

/** The document with one edit, sharing what it does not touch. */
function edited(value: JsonValue, change: Edit, level = 0): JsonValue {
  if (typeof value !== 'object' || value === null) return change.value;
  const entries: [string, JsonValue][] = Object.entries(value);
  const step = change.path[level];
  const place = entries.length === 0 ? 0 : (step ?? change.at) % entries.length;
  const here = entries[place];
  if (step !== undefined && here !== undefined) {
    entries[place] = [here[0], edited(here[1], change, level + 1)];
  } else if (change.kind === 'insert' || here === undefined) {
    entries.splice(change.at % (entries.length + 1), 0, [change.key, change.value]);
  } else if (change.kind === 'set') {
    entries[place] = [here[0], change.value];
  } else if (change.kind === 'remove') {
    entries.splice(place, 1);
  } else if (change.kind === 'move') {
    entries.splice(place, 1);
    entries.splice(change.to % (entries.length + 1), 0, here);
  } else {
    entries.reverse();
  }
  return Array.isArray(value) ? entries.map(([, child]) => child) : Object.fromEntries(entries);
}

/** Documents with enough in them that a patch is smaller than the whole, and a version with some edits, which shares the rest. */
const related = fc
  .tuple(
    fc.dictionary(key, fc.array(fc.dictionary(key, small, { maxKeys: 4 }), { maxLength: 10 }), { maxKeys: 6 }),
    fc.array(edit, { minLength: 1, maxLength: 4 }),
  )
  .map(([document, edits]) => {
    const before = normalize(document);
    const after = normalize(
      edits.reduce<JsonValue>((value, change) => edited(value, change), before),
      { base: before },
    );
    return [before, after] as const;
  });

const bytes = (value: unknown): number => Buffer.byteLength(JSON.stringify(value));

/** The patch between two values after everything that is always true of it was checked. */
function checkedPatch(a: JsonValue, b: JsonValue): Patch {
  const [textA, textB] = [JSON.stringify(a), JSON.stringify(b)];
  const patch = diff(a, b) as Patch;
  const result = applyPatch(a, patch);
  expect(JSON.stringify(result)).to.equal(textB);
  expect(jsonEqual(result, b)).to.equal(true);
  // as it arrives over the wire, and checked as a caller's patch is
  expect(JSON.stringify(applyPatch(a, parseFrozen(JSON.stringify(patch)) as unknown as Patch))).to.equal(textB);
  expect(JSON.stringify(validatePatch(JSON.parse(JSON.stringify(patch))))).to.equal(JSON.stringify(patch));
  expect(JSON.stringify(a)).to.equal(textA);
  expect(JSON.stringify(b)).to.equal(textB);
  expect(patch.length === 0).to.equal(textA === textB);
  if (patch.length > 0) expect(bytes(patch)).to.be.at.most(bytes([{ op: 'replace', path: '', value: b }]));
  return patch;
}

function checkedBudget(a: JsonValue, b: JsonValue, patch: Patch, budget: number): void {
  const within = diff(a, b, { maxBytes: budget });
  if (within === null) {
    expect(bytes(patch)).to.be.above(budget);
    return;
  }
  expect(bytes(within)).to.be.at.most(budget);
  expect(JSON.stringify(applyPatch(a, within))).to.equal(JSON.stringify(b));
}

function isDeepFrozen(value: JsonValue): boolean {
  return typeof value !== 'object' || value === null || (Object.isFrozen(value) && Object.values(value).every(isDeepFrozen));
}

/** Fails where `result` holds another copy of something that `a` and `b` share in the same place. */
function expectShared(a: JsonValue, b: JsonValue, result: JsonValue): void {
  if (typeof a !== 'object' || a === null || typeof b !== 'object' || b === null) return;
  if (a === b) {
    expect(result).to.equal(a);
    return;
  }
  if (Array.isArray(a) || Array.isArray(b)) return;
  for (const name of Object.keys(a)) {
    if (Object.hasOwn(b, name)) {
      expectShared(
        (a as JsonObject)[name] as JsonValue,
        (b as JsonObject)[name] as JsonValue,
        (result as JsonObject)[name] as JsonValue,
      );
    }
  }
}

describe('diff and applyPatch, for any two values', () => {
  it('lead from one to the other, to the byte', () => {
    fc.assert(
      fc.property(json, json, (x, y) => {
        checkedPatch(normalize(x), normalize(y));
      }),
      { numRuns: 3000 },
    );
  });

  it('keep within any budget that the patch fits', () => {
    fc.assert(
      fc.property(json, json, fc.nat({ max: 300 }), (x, y, budget) => {
        const [a, b] = [normalize(x), normalize(y)];
        const patch = checkedPatch(a, b);
        checkedBudget(a, b, patch, budget);
        checkedBudget(a, b, patch, bytes(patch));
        checkedBudget(a, b, patch, bytes(patch) - 1);
      }),
      { numRuns: 1000 },
    );
  });

  it('lead from one version of a document to the next, with or without identity', () => {
    fc.assert(
      fc.property(related, ([a, b]) => {
        const patch = checkedPatch(a, b);
        const result = applyPatch(a, patch);
        expect(isDeepFrozen(result)).to.equal(true);
        if (!(patch.length === 1 && patch[0]?.path === '')) expectShared(a, b, result);
        checkedPatch(a, parseFrozen(JSON.stringify(b)));
        checkedPatch(b, a);
        checkedBudget(a, b, patch, bytes(b));
      }),
      { numRuns: 800 },
    );
  });

  it('lead from one array of like elements to another', () => {
    const item = fc.oneof(
      fc.integer({ min: 0, max: 3 }),
      fc.record({ id: fc.integer({ min: 0, max: 5 }), value: fc.integer({ min: 0, max: 2 }) }),
      fc.array(fc.integer({ min: 0, max: 2 }), { maxLength: 3 }),
    );
    const items = fc.array(item, { maxLength: 60 });
    fc.assert(
      fc.property(items, items, (x, y) => {
        const [a, b] = [normalize(x), normalize(y)];
        checkedBudget(a, b, checkedPatch(a, b), bytes(b));
      }),
      { numRuns: 500 },
    );
  });

  it('lead from one array of large elements to one where some that stand together were edited', () => {
    const note =
      'large enough that an operation for each edit is smaller than the whole, and so the operations are what is applied';
    const item = fc.record({
      id: fc.nat({ max: 5 }),
      value: fc.nat({ max: 2 }),
      tags: fc.array(fc.nat({ max: 2 }), { maxLength: 3 }),
      note: fc.constant(note),
    });
    const change = fc.record({ at: fc.nat({ max: 7 }), kind: fc.constantFrom('value', 'id', 'tags', 'insert', 'remove'), item });
    fc.assert(
      fc.property(
        fc.array(item, { minLength: 20, maxLength: 40 }),
        fc.nat({ max: 12 }),
        fc.array(change, { maxLength: 8 }),
        (before, start, changes) => {
          const after: JsonObject[] = [...before];
          for (const { at, kind, item: other } of changes) {
            // removals may have left fewer than that
            const place = Math.min(start + at, after.length - 1);
            const here = after[place] as JsonObject;
            if (kind === 'insert') after.splice(place, 0, other);
            else if (kind === 'remove') after.splice(place, 1);
            else after[place] = { ...here, [kind]: other[kind] };
          }
          const a = normalize(before);
          const patch = checkedPatch(a, normalize(after, { base: a }));
          // 300 bytes an edit is room for one element, or for some operations inside of it
          expect(bytes(patch)).to.be.at.most(2 + 300 * changes.length);
          expect(checkedPatch(a, parseFrozen(JSON.stringify(after)))).to.have.lengthOf.at.most(3 * changes.length);
        },
      ),
      { numRuns: 1000 },
    );
  });

  it('lead from one order of a large shared array to another', () => {
    const pool = normalize(Array.from({ length: 150 }, (_, index) => ({ index, text: 'x'.repeat(40) }))) as JsonValue[];
    const cut = fc.tuple(fc.nat({ max: 149 }), fc.nat({ max: 20 }), fc.nat({ max: 149 }));
    fc.assert(
      fc.property(fc.array(cut, { maxLength: 4 }), fc.array(fc.nat({ max: 149 }), { maxLength: 5 }), (cuts, fresh) => {
        const next = [...pool];
        for (const [from, count, to] of cuts) next.splice(to, 0, ...next.splice(from, count));
        for (const at of fresh) next.splice(at, at % 2, normalize({ fresh: at }));
        checkedPatch(pool, normalize(next, { base: pool }));
      }),
      { numRuns: 500 },
    );
  });

  it('find the order of keys with moves and places alone', () => {
    const names = fc.uniqueArray(key, { maxLength: 12 });
    fc.assert(
      fc.property(names, names, (x, y) => {
        const fill = (keys: readonly string[]): JsonValue =>
          normalize(Object.fromEntries(keys.map((name) => [name, `a long enough value for ${name}`])));
        checkedPatch(fill(x), fill(y));
      }),
      { numRuns: 2000 },
    );
  });
});
