import { readdirSync, readFileSync } from 'node:fs';
import { expect } from 'chai';
import { diff } from '../../src/core/diff.js';
import { type JsonArray, type JsonObject, type JsonValue, normalize, parseFrozen } from '../../src/core/json.js';
import { applyPatch, type Patch } from '../../src/core/patch.js';

const bytes = (value: unknown): number => Buffer.byteLength(JSON.stringify(value));

/** The patch between two values, checked to lead from one to the other, and never to be larger than the whole. */
function patchOf(a: JsonValue, b: JsonValue): Patch {
  const texts = [JSON.stringify(a), JSON.stringify(b)];
  const patch = diff(a, b);
  if (patch === null) throw new Error('there is always a patch where there is no budget');
  expect(JSON.stringify(applyPatch(a, patch))).to.equal(texts[1]);
  expect([JSON.stringify(a), JSON.stringify(b)]).to.deep.equal(texts);
  if (texts[0] !== texts[1]) expect(bytes(patch)).to.be.at.most(bytes([{ op: 'replace', path: '', value: b }]));
  return patch;
}
const between = (a: string, b: string): string => JSON.stringify(patchOf(parseFrozen(a), parseFrozen(b)));

const PADDING = 'so that replacing the whole is the larger patch, which it is for any real document';
const element = (id: number): JsonObject => ({ id, name: `element ${id}`, tags: ['a', 'b'], nested: { x: id, text: PADDING } });
const elements = (count: number): JsonArray =>
  normalize(Array.from({ length: count }, (_, index) => element(index))) as JsonArray;

describe('diff', () => {
  it('is empty for equal values', () => {
    const value = normalize({ a: [1, { b: null }], __proto__: 1 });
    expect(diff(value, value)).to.deep.equal([]);
    expect(between('{"a":[1,{"b":null}]}', '{"a":[1,{"b":null}]}')).to.equal('[]');
    expect(between('1', '1')).to.equal('[]');
    expect(diff(0, -0)).to.deep.equal([]);
  });

  it('replaces a scalar, and a value of another kind', () => {
    expect(between('1', '2')).to.equal('[{"op":"replace","path":"","value":2}]');
    expect(between('1', '"1"')).to.equal('[{"op":"replace","path":"","value":"1"}]');
    expect(between('[]', '{}')).to.equal('[{"op":"replace","path":"","value":{}}]');
    expect(between(`{"a":[],"b":"${PADDING}"}`, `{"a":{},"b":"${PADDING}"}`)).to.equal(
      '[{"op":"replace","path":"/a","value":{}}]',
    );
    expect(between(`{"a":null,"b":"${PADDING}"}`, `{"a":[],"b":"${PADDING}"}`)).to.equal(
      '[{"op":"replace","path":"/a","value":[]}]',
    );
  });

  it('does not look into what is shared', () => {
    const never = Object.freeze(
      Object.defineProperty({}, 'x', { enumerable: true, get: () => expect.fail('it was looked into') }),
    ) as JsonObject;
    const a = Object.freeze({ shared: never, list: Object.freeze([never, 1, never]), n: 1 }) as JsonObject;
    const b = Object.freeze({ shared: never, list: Object.freeze([never, 2, never]), n: 1 }) as JsonObject;
    expect(diff(a, b)).to.deep.equal([{ op: 'replace', path: '/list/1', value: 2 }]);
  });

  it('takes values from the second, not copies, and is frozen', () => {
    const b = normalize({ a: PADDING, new: { x: [1] } }) as JsonObject;
    const patch = patchOf(normalize({ a: PADDING }), b);
    expect(patch).to.have.lengthOf(1);
    expect((patch[0] as { value: JsonValue }).value).to.equal(b.new);
    expect(Object.isFrozen(patch) && Object.isFrozen(patch[0])).to.equal(true);
  });

  describe('of objects', () => {
    const padded = (members: string): string => `{"pad":"${PADDING}${PADDING}"${members === '' ? '' : `,${members}`}}`;

    it('adds at the end, removes and replaces member by member', () => {
      expect(between(padded('"a":1,"b":2,"c":3'), padded('"a":1,"c":4,"d":5'))).to.equal(
        '[{"op":"remove","path":"/b"},{"op":"replace","path":"/c","value":4},{"op":"add","path":"/d","value":5}]',
      );
    });

    it('escapes keys', () => {
      expect(between(padded('"a/b":{"~":1}'), padded('"a/b":{"~":2}'))).to.equal(
        '[{"op":"replace","path":"/a~1b/~0","value":2}]',
      );
      expect(between(padded(''), padded('"__proto__":{"x":1}'))).to.equal('[{"op":"add","path":"/__proto__","value":{"x":1}}]');
      expect(between(padded('"":1,"constructor":1'), padded('"":2'))).to.equal(
        '[{"op":"remove","path":"/constructor"},{"op":"replace","path":"/","value":2}]',
      );
    });

    it('puts new members into their place', () => {
      expect(between(padded('"a":1,"c":3'), padded('"a":1,"b":2,"bb":2,"c":3,"d":4'))).to.equal(
        '[{"op":"add","path":"/b","value":2,"before":"c"},{"op":"add","path":"/bb","value":2,"before":"c"},{"op":"add","path":"/d","value":4}]',
      );
    });

    it('moves the fewest members that give the order', () => {
      const from = padded('"a":1,"b":2,"c":3,"d":4,"e":5');
      expect(between(from, padded('"a":1,"c":3,"d":4,"e":5,"b":2'))).to.equal('[{"op":"move","from":"/b","path":"/b"}]');
      expect(between(from, padded('"a":1,"e":5,"b":2,"c":3,"d":4'))).to.equal(
        '[{"op":"move","from":"/e","path":"/e","before":"b"}]',
      );
    });

    it('moves named members around index keys that come and go', () => {
      expect(between(padded('"1":1,"a":1,"b":2'), padded('"2":2,"b":2,"a":1'))).to.equal(
        '[{"op":"remove","path":"/1"},{"op":"add","path":"/2","value":2},{"op":"move","from":"/a","path":"/a"}]',
      );
    });

    it('moves and changes one member', () => {
      expect(
        JSON.parse(between(padded(`"a":{"x":1,"y":"${PADDING}"},"b":2`), padded(`"b":2,"a":{"x":2,"y":"${PADDING}"}`))),
      ).to.deep.equal([
        { op: 'replace', path: '/a/x', value: 2 },
        { op: 'move', from: '/a', path: '/a' },
      ]);
    });

    it('knows that index keys sort themselves', () => {
      expect(between(padded('"10":1,"b":2'), padded('"10":1,"2":0,"b":2'))).to.equal('[{"op":"add","path":"/2","value":0}]');
      expect(between(padded('"1":1,"2":2'), padded('"2":2,"1":1'))).to.equal('[]');
      // the largest index, and one past it, which is a name
      expect(between(padded('"b":2'), `{"4294967294":1,${padded('"b":2').slice(1)}`)).to.equal(
        '[{"op":"add","path":"/4294967294","value":1}]',
      );
      expect(between(padded('"b":2'), padded('"4294967295":1,"b":2'))).to.equal(
        '[{"op":"add","path":"/4294967295","value":1,"before":"b"}]',
      );
    });

    it('replaces the whole where that is smaller', () => {
      const many = (offset: number): string =>
        `{${Array.from({ length: 20 }, (_, index) => `"k${index}":${index + offset}`).join(',')}}`;
      expect(between(padded(`"o":${many(0)}`), padded(`"o":${many(1)}`))).to.equal(
        `[{"op":"replace","path":"/o","value":${many(1)}}]`,
      );
    });
  });

  describe('of arrays', () => {
    const base = elements(500);
    const edits: readonly (readonly [what: string, edit: (items: JsonValue[]) => void, patch: Patch])[] = [
      ['one in front', (items) => items.unshift('new'), [{ op: 'add', path: '/0', value: 'new' }]],
      ['one at the end', (items) => items.push('new'), [{ op: 'add', path: '/500', value: 'new' }]],
      ['one in the middle', (items) => items.splice(250, 0, 'new'), [{ op: 'add', path: '/250', value: 'new' }]],
      ['the first away', (items) => items.shift(), [{ op: 'remove', path: '/0' }]],
      ['the last away', (items) => items.pop(), [{ op: 'remove', path: '/499' }]],
      [
        'two away, one apart',
        (items) => {
          items.splice(100, 1);
          items.splice(101, 1);
        },
        [
          { op: 'remove', path: '/100' },
          { op: 'remove', path: '/101' },
        ],
      ],
      ['one replaced', (items) => items.splice(7, 1, 'new'), [{ op: 'replace', path: '/7', value: 'new' }]],
      [
        'one in front and the last away',
        (items) => {
          items.unshift('new');
          items.pop();
        },
        [
          { op: 'add', path: '/0', value: 'new' },
          { op: 'remove', path: '/500' },
        ],
      ],
      [
        'some here and there',
        (items) => {
          items.splice(400, 1);
          items.splice(300, 0, 'x', 'y');
          items.splice(200, 1, { ...(items[200] as JsonObject), name: 'other' });
          items.splice(100, 2);
        },
        [
          { op: 'remove', path: '/100' },
          { op: 'remove', path: '/100' },
          { op: 'replace', path: '/198/name', value: 'other' },
          { op: 'add', path: '/298', value: 'x' },
          { op: 'add', path: '/299', value: 'y' },
          { op: 'remove', path: '/400' },
        ],
      ],
    ];
    for (const [what, edit, patch] of edits) {
      it(`knows ${what}, by identity and by content`, () => {
        const items = [...base];
        edit(items);
        const edited = normalize(items, { base });
        expect(patchOf(base, edited)).to.deep.equal(patch);
        expect(patchOf(base, parseFrozen(JSON.stringify(edited)))).to.deep.equal(patch);
      });
    }

    it('looks into an element that was edited, also where others came and went beside it', () => {
      const items: JsonValue[] = [...base];
      items[10] = { ...element(10), name: 'edited' };
      items.splice(10, 0, { a: 1 }, { b: 2 });
      items.splice(14, 2, 'x');
      expect(patchOf(base, normalize(items, { base }))).to.deep.equal([
        { op: 'add', path: '/10', value: { a: 1 } },
        { op: 'add', path: '/11', value: { b: 2 } },
        { op: 'replace', path: '/12/name', value: 'edited' },
        { op: 'replace', path: '/14', value: 'x' },
        { op: 'remove', path: '/15' },
      ]);
    });

    it('tells neighbours apart that were both edited, and look like one another', () => {
      const text = PADDING + PADDING;
      const a = normalize([
        { k: 0, id: 1, v: 1, text },
        { k: 1, id: 2, v: 1, text },
        { k: 2, id: 9, v: 9, text },
      ]) as JsonArray;
      const b = normalize([{ k: 0, id: 2, v: 1, text }, { k: 1, id: 2, v: 3, text }, 'new', a[2]]);
      expect(patchOf(a, b)).to.deep.equal([
        { op: 'replace', path: '/0/id', value: 2 },
        { op: 'replace', path: '/1/v', value: 3 },
        { op: 'add', path: '/2', value: 'new' },
      ]);
    });

    it('does not turn many equal elements around', () => {
      const a = normalize([PADDING, PADDING, ...new Array(100).fill(0), 1, ...new Array(100).fill(0)]) as JsonArray;
      const b = normalize([...a.slice(0, 50), 2, ...a.slice(50, 150), 3, ...a.slice(150)]);
      expect(patchOf(a, b)).to.have.lengthOf(2);
    });

    it('replaces the whole where that is smaller', () => {
      expect(between(`{"p":"${PADDING}","a":[1,2,3,4,5,6,7,8,9]}`, `{"p":"${PADDING}","a":[9]}`)).to.equal(
        '[{"op":"replace","path":"/a","value":[9]}]',
      );
    });
  });

  describe('with a budget', () => {
    const a = normalize({ list: elements(50), text: 'é'.repeat(20) });
    const b = normalize({ list: [{ text: 'ü"\\\u0007😀' }, ...elements(50)], text: 'è'.repeat(20) });

    it('counts the bytes of the patch exactly', () => {
      const size = bytes(patchOf(a, b));
      expect(diff(a, b, { maxBytes: size })).to.deep.equal(diff(a, b));
      expect(diff(a, b, { maxBytes: size - 1 })).to.equal(null);
      expect(diff(a, a, { maxBytes: 2 })).to.deep.equal([]);
    });

    it('stops early', () => {
      let reads = 0;
      const counted = (value: JsonValue): JsonValue =>
        new Proxy(value as object, {
          get(target, key, receiver) {
            reads++;
            return Reflect.get(target, key, receiver);
          },
        }) as JsonValue;
      const from = { list: Array.from({ length: 5000 }, () => ({ x: 'abcdefghij' })) };
      const to = { list: Array.from({ length: 5000 }, () => counted({ y: 'abcdefghij' })) };
      expect(diff(from, to)).not.to.equal(null);
      const all = reads;
      reads = 0;
      expect(diff(from, to, { maxBytes: 500 })).to.equal(null);
      expect(reads).to.be.below(all);
    });
  });

  describe('of the worst there is, in bounded time', () => {
    const range = Array.from({ length: 100_000 }, (_, index) => index);
    let state = 1;
    const random = (): number => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return state / 2 ** 32;
    };
    const nest = (value: JsonValue, levels: number): JsonValue => (levels === 0 ? value : nest([value], levels - 1));
    const cases: Readonly<Record<string, readonly [JsonValue, JsonValue]>> = {
      'two unrelated arrays of numbers, 1 MB': [range, range.map((x) => -x - 1)],
      'two arrays of 500,000 bits': [
        Array.from({ length: 500_000 }, () => Math.round(random())),
        Array.from({ length: 500_000 }, () => Math.round(random())),
      ],
      'an array and its reverse': [range, [...range].reverse()],
      'unrelated arrays of objects': [
        range.slice(0, 10_000).map((x) => ({ id: x, a: `a${random()}` })),
        range.slice(0, 10_000).map((x) => ({ x, b: [random()] })),
      ],
      'objects whose every other key is new': [
        Object.fromEntries(range.slice(0, 20_000).map((x) => [`k${x * 2}`, x])),
        Object.fromEntries(range.slice(0, 40_000).map((x) => [`k${x}`, x])),
      ],
      'a change at the bottom of 200 arrays': [nest(range, 200), nest([...range.slice(0, -1), 0], 200)],
    };
    for (const [what, [a, b]] of Object.entries(cases)) {
      it(what, () => {
        patchOf(parseFrozen(JSON.stringify(a)), parseFrozen(JSON.stringify(b)));
      });
    }
  });
});

describe('diff over real revisions', () => {
  const folder = new URL('../fixtures/sequences/', import.meta.url);
  const load = (name: string): JsonValue[] =>
    readdirSync(new URL(`${name}/`, folder))
      .filter((file) => /^\d/.test(file))
      .sort()
      .map((file) => parseFrozen(readFileSync(new URL(`${name}/${file}`, folder), 'utf8')));
  const steps = (
    revisions: readonly JsonValue[],
  ): { from: JsonValue; to: JsonValue; patch: Patch; ratio: number; full: number; size: number }[] =>
    revisions.slice(1).map((to, index) => {
      const from = revisions[index] as JsonValue;
      const patch = patchOf(from, to);
      return { from, to, patch, size: bytes(patch), full: bytes(to), ratio: bytes(patch) / bytes(to) };
    });
  const total = (all: readonly { size: number; full: number }[]): number =>
    all.reduce((sum, { size }) => sum + size, 0) / all.reduce((sum, { full }) => sum + full, 0);

  it('mime-db: 23 steps of an object in alphabetical order take 4% of the full bytes', () => {
    const all = steps(load('mime-db.db'));
    expect(all).to.have.lengthOf(23);
    for (const { ratio } of all) expect(ratio).to.be.below(0.35);
    expect(all.filter(({ ratio }) => ratio < 0.05)).to.have.lengthOf.at.least(19);
    expect(total(all)).to.be.below(0.04);
  });

  it('spdx-license-ids: 21 steps of an array take the fewest operations there can be', () => {
    const all = steps(load('spdx-license-ids.index'));
    expect(all).to.have.lengthOf(21);
    const without = (list: JsonValue, other: JsonValue): string[] =>
      (list as string[]).filter((id) => !(other as string[]).includes(id));
    const within = (list: JsonValue, other: JsonValue): string[] =>
      (list as string[]).filter((id) => (other as string[]).includes(id));
    const inOrder = all.filter(({ from, to }) => JSON.stringify(within(from, to)) === JSON.stringify(within(to, from)));
    // one revision sorts the list anew, which takes as much as the whole
    expect(inOrder).to.have.lengthOf(20);
    for (const { from, to, patch, ratio } of inOrder) {
      const added = without(to, from).length;
      const removed = without(from, to).length;
      expect(patch.length).to.be.within(Math.max(added, removed), added + removed);
      expect(ratio).to.be.below(0.5);
    }
    expect(total(inOrder)).to.be.below(0.135);
    expect(total(all)).to.be.below(0.165);
  });
});
