import { expect } from 'chai';
import fc from 'fast-check';
import fastJsonPatch from 'fast-json-patch';
import { type ContextErrorDetails, isContextError } from '../../src/core/errors.js';
import { type JsonObject, type JsonValue, normalize, parseFrozen } from '../../src/core/json.js';
import { applyPatch, jsonDeepEqual, jsonEqual, type Patch, validatePatch } from '../../src/core/patch.js';

function failure(action: () => unknown): { code: string; message: string; details: ContextErrorDetails } {
  try {
    action();
  } catch (error) {
    if (isContextError(error)) return { code: error.code, message: error.message, details: error.details };
    throw error;
  }
  throw new Error('it should have failed');
}

function isDeepFrozen(value: JsonValue): boolean {
  return typeof value !== 'object' || value === null || (Object.isFrozen(value) && Object.values(value).every(isDeepFrozen));
}

/** The text of what the operations make of a text. */
const applied = (text: string, ...operations: readonly unknown[]): string => {
  const value = parseFrozen(text);
  const result = applyPatch(value, validatePatch(operations));
  expect(JSON.stringify(value)).to.equal(JSON.stringify(JSON.parse(text)));
  expect(isDeepFrozen(result)).to.equal(true);
  // no member that only JSON.stringify leaves out
  expect(jsonEqual(result, normalize(result))).to.equal(true);
  return JSON.stringify(result);
};

describe('validatePatch', () => {
  it('keeps the members that an operation has, and no others', () => {
    const given = [
      { op: 'add', path: '/a', value: { x: -0 }, from: '/z', why: 'so' },
      { op: 'remove', path: '/a', value: 1 },
      { op: 'replace', path: '', value: null, before: 'x' },
      { value: 2, path: '/a', op: 'test' },
      { op: 'move', from: '/a', path: '/b', value: 1 },
      { op: 'copy', from: '', path: '/b', before: 'x' },
    ];
    const patch = validatePatch(given);
    expect(JSON.stringify(patch)).to.equal(
      '[{"op":"add","path":"/a","value":{"x":0}},{"op":"remove","path":"/a"},{"op":"replace","path":"","value":null},' +
        '{"op":"test","path":"/a","value":2},{"op":"move","from":"/a","path":"/b"},{"op":"copy","from":"","path":"/b"}]',
    );
    expect(isDeepFrozen(patch as unknown as JsonValue)).to.equal(true);
  });

  it('shares nothing with what it was given', () => {
    const value = { list: [1] };
    const patch = validatePatch([{ op: 'add', path: '', value }]);
    value.list.push(2);
    expect(JSON.stringify(patch)).to.equal('[{"op":"add","path":"","value":{"list":[1]}}]');
  });

  it('keeps the place of a key, where it is one, on add and move only', () => {
    const patch = validatePatch([
      { op: 'add', path: '/a', value: 1, before: 'b' },
      { op: 'move', from: '/a', path: '/a', before: '' },
      { op: 'add', path: '/a', value: 1, before: 3 },
      { op: 'add', path: '/a', value: 1, before: '\ud800' },
    ]);
    expect(patch.map((operation) => 'before' in operation && operation.before)).to.deep.equal(['b', '', false, false]);
  });

  const refused: readonly (readonly [patch: unknown, operation: number | undefined, says: string])[] = [
    [undefined, undefined, 'undefined'],
    [null, undefined, 'null'],
    [{ op: 'remove', path: '/a' }, undefined, 'array'],
    ['[]', undefined, 'string'],
    [[null], 0, 'not an object'],
    [[{ op: 'remove', path: '/a' }, []], 1, 'not an object'],
    [new Array(1), 0, 'not an object'],
    [[{ path: '/a' }], 0, '"op" is missing'],
    [[{ op: 'spam', path: '/a' }], 0, '"spam"'],
    [[{ op: 'ADD', path: '/a', value: 1 }], 0, '"ADD"'],
    [[{ op: 7, path: '/a' }], 0, 'number'],
    [[Object.create({ op: 'remove', path: '/a' })], 0, '"op" is missing'],
    [[{ op: 'remove' }], 0, '"path" is missing'],
    [[{ op: 'remove', path: ['a'] }], 0, '"path" is not a string'],
    [[{ op: 'remove', path: 'a' }], 0, 'start with "/"'],
    [[{ op: 'remove', path: '/~2' }], 0, '~'],
    [[{ op: 'remove', path: '/\ud800' }], 0, 'surrogate'],
    [[{ op: 'move', path: '/a' }], 0, '"from" is missing'],
    [[{ op: 'copy', path: '/a', from: 1 }], 0, '"from" is not a string'],
    [[{ op: 'copy', path: '/a', from: 'a' }], 0, '"from": '],
    [[{ op: 'add', path: '/a' }], 0, '"value" is missing'],
    [[{ op: 'test', path: '/a', value: undefined }], 0, '"value" is missing'],
    [
      [
        { op: 'test', path: '/a', value: 1 },
        { op: 'add', path: '/a', value: [{ x: Number.NaN }] },
      ],
      1,
      'NaN',
    ],
    [[{ op: 'add', path: '/a', value: new Map() }], 0, 'Map'],
  ];
  for (const [patch, operation, says] of refused) {
    it(`refuses ${JSON.stringify(patch) ?? 'undefined'}: ${says}`, () => {
      const { code, details, message } = failure(() => validatePatch(patch));
      expect(code).to.equal('INVALID_PATCH');
      expect(details.operation).to.equal(operation);
      expect(message).to.contain(says);
      if (operation !== undefined) expect(message).to.contain(`operation ${operation}`);
    });
  }

  it('names the place in a value', () => {
    const { details } = failure(() => validatePatch([{ op: 'add', path: '/a', value: [{ x: Number.NaN }] }]));
    expect(details.pointer).to.equal('/0/x');
  });

  it('bounds the depth of values', () => {
    const { code, details } = failure(() => validatePatch([{ op: 'add', path: '/a', value: [[[]]] }], { maxDepth: 2 }));
    expect(code).to.equal('LIMIT_EXCEEDED');
    expect(details.operation).to.equal(0);
    expect(validatePatch([{ op: 'add', path: '/a', value: [[]] }], { maxDepth: 2 })).to.have.lengthOf(1);
  });
});

describe('applyPatch', () => {
  it('works on awkward keys', () => {
    for (const key of ['__proto__', 'constructor', 'toString', '', 'a/b', '~', '~1', '0', '-', '01', 'é😀', 'hasOwnProperty']) {
      const path = `/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`;
      const name = JSON.stringify(key);
      expect(applied('{"x":1}', { op: 'add', path, value: { y: 1 } }, { op: 'add', path: `${path}/z`, value: 2 })).to.equal(
        JSON.stringify(JSON.parse(`{"x":1,${name}:{"y":1,"z":2}}`)),
      );
      expect(
        applied(
          `{${name}:{"y":1},"x":1}`,
          { op: 'replace', path: `${path}/y`, value: 2 },
          { op: 'test', path: `${path}/y`, value: 2 },
        ),
      ).to.equal(JSON.stringify(JSON.parse(`{${name}:{"y":2},"x":1}`)));
      expect(applied(`{${name}:1,"x":1}`, { op: 'move', from: path, path: '/m' })).to.equal('{"x":1,"m":1}');
      expect(applied(`{${name}:1,"x":1}`, { op: 'remove', path })).to.equal('{"x":1}');
      expect(failure(() => applied('{"x":1}', { op: 'remove', path })).code).to.equal('PATCH_FAILED');
      expect(failure(() => applied('{"x":1}', { op: 'test', path, value: null })).code).to.equal('PATCH_FAILED');
    }
    expect(({} as Record<string, unknown>).y).to.equal(undefined);
  });

  it('keeps a replaced member in its place and appends a new one', () => {
    expect(applied('{"a":1,"b":2}', { op: 'replace', path: '/a', value: 3 })).to.equal('{"a":3,"b":2}');
    expect(applied('{"a":1,"b":2}', { op: 'add', path: '/a', value: 3 })).to.equal('{"a":3,"b":2}');
    expect(applied('{"a":1,"b":2}', { op: 'remove', path: '/a' }, { op: 'add', path: '/a', value: 3 })).to.equal('{"b":2,"a":3}');
    expect(applied('{"a":1,"b":2}', { op: 'move', from: '/a', path: '/b' })).to.equal('{"b":1}');
  });

  it('moves a member onto its own path to the end', () => {
    expect(applied('{"a":1,"b":2,"c":3}', { op: 'move', from: '/a', path: '/a' })).to.equal('{"b":2,"c":3,"a":1}');
    expect(applied('{"5":1,"b":2}', { op: 'move', from: '/5', path: '/5' })).to.equal('{"5":1,"b":2}');
    expect(applied('["a","b"]', { op: 'move', from: '/0', path: '/0' })).to.equal('["a","b"]');
    expect(applied('{"a":1}', { op: 'move', from: '', path: '' })).to.equal('{"a":1}');
    expect(failure(() => applied('{"a":1}', { op: 'move', from: '/b', path: '/b' })).code).to.equal('PATCH_FAILED');
    expect(failure(() => applied('["a"]', { op: 'move', from: '/1', path: '/1' })).code).to.equal('PATCH_FAILED');
  });

  it('puts a member before another', () => {
    expect(applied('{"a":1,"b":2}', { op: 'add', path: '/x', value: 0, before: 'b' })).to.equal('{"a":1,"x":0,"b":2}');
    expect(applied('{"a":1,"b":2}', { op: 'add', path: '/b', value: 0, before: 'a' })).to.equal('{"b":0,"a":1}');
    expect(applied('{"a":1,"b":2,"c":3}', { op: 'move', from: '/c', path: '/c', before: 'a' })).to.equal('{"c":3,"a":1,"b":2}');
    expect(applied('{"a":1,"b":{"c":3}}', { op: 'move', from: '/b/c', path: '/c', before: 'a' })).to.equal(
      '{"c":3,"a":1,"b":{}}',
    );
    expect(applied('{"o":{"a":1}}', { op: 'add', path: '/o/__proto__', value: 0, before: 'a' })).to.equal(
      '{"o":{"__proto__":0,"a":1}}',
    );
  });

  it('ignores a place that is not there, or cannot be had', () => {
    expect(applied('{"a":1}', { op: 'add', path: '/x', value: 0, before: 'nowhere' })).to.equal('{"a":1,"x":0}');
    expect(applied('{"a":1}', { op: 'add', path: '/x', value: 0, before: 'x' })).to.equal('{"a":1,"x":0}');
    expect(applied('{"a":1}', { op: 'add', path: '/x', value: 0, before: 'toString' })).to.equal('{"a":1,"x":0}');
    expect(applied('{"7":1,"a":1}', { op: 'add', path: '/x', value: 0, before: '7' })).to.equal('{"7":1,"a":1,"x":0}');
    expect(applied('{"a":1}', { op: 'add', path: '/7', value: 0, before: 'a' })).to.equal('{"7":0,"a":1}');
    expect(applied('[1,2]', { op: 'add', path: '/0', value: 0, before: '1' })).to.equal('[0,1,2]');
  });

  it('follows many changes of order through one patch', () => {
    expect(
      applied(
        '{"a":1,"b":2,"c":3,"d":4}',
        { op: 'add', path: '/x', value: 0, before: 'b' },
        { op: 'remove', path: '/b' },
        { op: 'add', path: '/y', value: 0, before: 'x' },
        { op: 'add', path: '/b', value: 5 },
        { op: 'move', from: '/d', path: '/d', before: 'y' },
        { op: 'remove', path: '/x' },
        { op: 'add', path: '/x', value: 6 },
        { op: 'add', path: '/1', value: 7 },
        { op: 'replace', path: '/c', value: 8 },
        { op: 'add', path: '/z', value: 0, before: 'a' },
        { op: 'remove', path: '/z' },
      ),
    ).to.equal('{"1":7,"a":1,"d":4,"y":0,"c":8,"b":5,"x":6}');
  });

  it('tests objects in any order of keys, arrays in theirs, and numbers by value', () => {
    const test = (text: string, value: unknown): string => applied(text, { op: 'test', path: '', value });
    expect(() => test('{"a":1,"b":[{"c":2,"d":3}]}', { b: [{ d: 3, c: 2 }], a: 1.0 })).not.to.throw();
    for (const [text, value] of [
      ['[1,2]', [2, 1]],
      ['{"a":1}', { a: 1, b: 2 }],
      ['{"a":1,"b":2}', { a: 1 }],
      ['{"a":1}', { b: 1 }],
      ['{}', []],
      ['[]', {}],
      ['1', '1'],
      ['null', false],
      ['{"toString":1}', { valueOf: 1 }],
      ['{"0":1}', [1]],
    ] as const) {
      expect(failure(() => test(text, value)).code, text).to.equal('PATCH_FAILED');
    }
  });

  const failing: readonly (readonly [text: string, operation: object, says: string])[] = [
    ['{"a":1}', { op: 'remove', path: '' }, 'whole document'],
    ['{"a":1}', { op: 'move', from: '', path: '/a' }, 'into itself'],
    ['{"a":{"b":1}}', { op: 'move', from: '/a', path: '/a/b' }, 'into itself'],
    ['{"a":1}', { op: 'remove', path: '/b' }, '"b"'],
    ['{"a":1}', { op: 'replace', path: '/b', value: 1 }, '"b"'],
    ['{"a":1}', { op: 'replace', path: '/toString', value: 1 }, '"toString"'],
    ['{"a":1}', { op: 'add', path: '/__proto__/x', value: 1 }, '"__proto__"'],
    ['{"a":1}', { op: 'copy', from: '/constructor/prototype', path: '/b' }, '"constructor"'],
    ['{"a":1}', { op: 'add', path: '/a/b', value: 1 }, 'a number'],
    ['{"a":null}', { op: 'add', path: '/a/b', value: 1 }, 'null'],
    ['"text"', { op: 'test', path: '/length', value: 4 }, 'a string'],
    ['[1,2]', { op: 'test', path: '/length', value: 2 }, '"length"'],
    ['[1,2]', { op: 'add', path: '/3', value: 1 }, '3'],
    ['[1,2]', { op: 'add', path: '/00', value: 1 }, 'leading zeros'],
    ['[1,2]', { op: 'add', path: '/+1', value: 1 }, '"+1"'],
    ['[1,2]', { op: 'add', path: '/1.0', value: 1 }, '"1.0"'],
    ['[1,2]', { op: 'add', path: '/', value: 1 }, '""'],
    ['[1,2]', { op: 'add', path: '/9999999999999999999999', value: 1 }, '9999999999999999999999'],
    ['[1,2]', { op: 'remove', path: '/2' }, '2'],
    ['[]', { op: 'remove', path: '/0' }, 'empty'],
    ['[1,2]', { op: 'replace', path: '/-', value: 1 }, '"-"'],
    ['[1,2]', { op: 'remove', path: '/-' }, '"-"'],
    ['[1,2]', { op: 'test', path: '/-', value: 1 }, '"-"'],
    ['[[]]', { op: 'add', path: '/-/0', value: 1 }, '"-"'],
    ['[1,2]', { op: 'test', path: '/0', value: 2 }, 'another'],
  ];
  for (const [text, operation, says] of failing) {
    it(`fails whole and says which: ${JSON.stringify(operation)} on ${text}`, () => {
      const value = parseFrozen(`{"doc":${text}}`);
      const at = (pointer: unknown): string => `/doc${String(pointer)}`;
      const moved = Object.fromEntries(
        Object.entries(operation).map(([name, member]) => [name, name === 'path' || name === 'from' ? at(member) : member]),
      );
      const whole = failure(() => applyPatch(parseFrozen(text), validatePatch([operation])));
      expect(whole.message).to.contain(says);
      const patch = validatePatch([{ op: 'add', path: '/new', value: [] }, { op: 'add', path: '/new/-', value: 1 }, moved]);
      if ((operation as { path: string }).path === '') {
        expect(whole.details).to.include({ operation: 0, pointer: '' });
        return;
      }
      const { code, message, details } = failure(() => applyPatch(value, patch));
      expect(code).to.equal('PATCH_FAILED');
      expect(details.operation).to.equal(2);
      expect(details.pointer).to.equal(moved.path);
      expect(message)
        .to.contain('operation 2')
        .and.to.contain((moved as { op: string }).op)
        .and.to.contain(JSON.stringify(moved.path));
      expect(JSON.stringify(value)).to.equal(`{"doc":${text}}`);
    });
  }

  it('names the operation whose path is no pointer, in a patch that nobody checked', () => {
    const patch = [{ op: 'remove', path: 'a' }] as Patch;
    expect(failure(() => applyPatch({}, patch)).code).to.equal('INVALID_PATCH');
    const unknown = [{ op: 'spam', path: '/a' }] as unknown as Patch;
    expect(failure(() => applyPatch({}, unknown)).code).to.equal('PATCH_FAILED');
  });

  it('copies the way to a change and shares the rest', () => {
    const value = normalize({
      a: { b: { c: 1 }, d: { e: 1 } },
      list: [{ x: 1 }, { y: 2 }, [3]],
      far: { away: {} },
    }) as JsonObject;
    const result = applyPatch(
      value,
      validatePatch([
        { op: 'replace', path: '/a/b/c', value: 2 },
        { op: 'remove', path: '/list/0' },
      ]),
    ) as JsonObject;
    expect(result).not.to.equal(value);
    expect(result.far).to.equal(value.far);
    expect((result.a as JsonObject).d).to.equal((value.a as JsonObject).d);
    expect((result.list as JsonValue[])[0]).to.equal((value.list as JsonValue[])[1]);
    expect((result.list as JsonValue[])[1]).to.equal((value.list as JsonValue[])[2]);
    expect(JSON.stringify(value)).to.contain('{"b":{"c":1}');
    expect(isDeepFrozen(result)).to.equal(true);
  });

  it('gives the value itself where nothing changes', () => {
    const value = normalize({ a: [1, { b: 2 }] });
    expect(applyPatch(value, [])).to.equal(value);
    expect(applyPatch(value, validatePatch([{ op: 'test', path: '/a/1/b', value: 2 }]))).to.equal(value);
  });

  it('keeps the two ends of a copy apart', () => {
    expect(
      applied(
        '{"a":{"n":[1]}}',
        { op: 'add', path: '/a/n/-', value: 2 },
        { op: 'copy', from: '/a', path: '/b' },
        { op: 'add', path: '/a/n/-', value: 'a' },
        { op: 'add', path: '/b/n/-', value: 'b' },
        { op: 'copy', from: '', path: '/c' },
        { op: 'remove', path: '/c/a' },
      ),
    ).to.equal('{"a":{"n":[1,2,"a"]},"b":{"n":[1,2,"b"]},"c":{"b":{"n":[1,2,"b"]}}}');
  });

  it('keeps a value of the patch apart from what is done to it later', () => {
    const patch = validatePatch([
      { op: 'add', path: '/a', value: { n: [] } },
      { op: 'add', path: '/a/n/-', value: 1 },
    ]);
    expect(JSON.stringify(applyPatch({}, patch))).to.equal('{"a":{"n":[1]}}');
    expect(JSON.stringify(applyPatch({}, patch))).to.equal('{"a":{"n":[1]}}');
    expect(JSON.stringify(patch[0])).to.equal('{"op":"add","path":"/a","value":{"n":[]}}');
  });

  it('copies a container once in a patch', () => {
    // each element is looked at when its array is copied
    let looks = 0;
    const watched = new Proxy([1, 2, 3], {
      get(target, name, receiver) {
        if (name === Symbol.iterator) looks++;
        return Reflect.get(target, name, receiver);
      },
    });
    const patch = Array.from({ length: 100 }, (_, index) => ({ op: 'add', path: '/list/0', value: index }) as const);
    const result = applyPatch({ list: watched }, patch) as JsonObject;
    expect(result.list).to.have.lengthOf(103);
    expect(looks).to.equal(1);
  });

  it('moves what it has changed already', () => {
    expect(
      applied(
        '{"a":{"list":[1]},"b":[]}',
        { op: 'add', path: '/a/list/-', value: 2 },
        { op: 'move', from: '/a/list', path: '/b/0' },
        { op: 'add', path: '/b/0/-', value: 3 },
        { op: 'move', from: '/b', path: '/a/deep' },
        { op: 'add', path: '/a/deep/0/-', value: 4 },
        { op: 'test', path: '/a/deep', value: [[1, 2, 3, 4]] },
        { op: 'add', path: '/a/deep/0/-', value: 5 },
      ),
    ).to.equal('{"a":{"deep":[[1,2,3,4,5]]}}');
  });

  it('replaces the whole document, and goes on from there', () => {
    expect(applied('{"a":1}', { op: 'replace', path: '', value: [1] }, { op: 'add', path: '/-', value: 2 })).to.equal('[1,2]');
    expect(applied('[1]', { op: 'add', path: '', value: 'x' })).to.equal('"x"');
    expect(applied('{"a":{"b":1}}', { op: 'move', from: '/a', path: '' })).to.equal('{"b":1}');
    expect(applied('{"a":{"b":1}}', { op: 'copy', from: '/a/b', path: '' })).to.equal('1');
  });

  it('freezes a value of the patch that is not frozen yet', () => {
    const patch: Patch = [{ op: 'add', path: '/a', value: { b: [1] } }];
    expect(isDeepFrozen(applyPatch(normalize({}), patch))).to.equal(true);
  });

  describe('bounds what a short patch can make', () => {
    const limit = (value: JsonValue, operations: readonly object[], maxDepth?: number): string => {
      const patch = validatePatch(operations);
      const { code, details } = failure(() => applyPatch(value, patch, maxDepth === undefined ? {} : { maxDepth }));
      expect(details.operation).to.be.a('number');
      expect(details.limit).to.be.a('string');
      return code;
    };

    it('in depth, by values', () => {
      expect(limit({ a: { b: [] } }, [{ op: 'add', path: '/a/b/0', value: [[]] }], 4)).to.equal('LIMIT_EXCEEDED');
      expect(
        applyPatch({ a: { b: [] } }, validatePatch([{ op: 'add', path: '/a/b/0', value: [[]] }]), { maxDepth: 5 }),
      ).to.deep.equal({
        a: { b: [[[]]] },
      });
    });

    it('in depth, by moves', () => {
      const value = normalize({ a: [[[]]], b: { c: [] } });
      const move = { op: 'move', from: '/a', path: '/b/c/0' };
      expect(limit(value, [move], 5)).to.equal('LIMIT_EXCEEDED');
      expect(applyPatch(value, validatePatch([move]), { maxDepth: 6 })).to.deep.equal({ b: { c: [[[[]]]] } });
    });

    it('in depth, by copies into themselves', () => {
      const operations = Array.from({ length: 20 }, (_, index) => ({ op: 'copy', from: '', path: '/a'.repeat(index + 1) }));
      expect(limit({ a: 1 }, operations, 10)).to.equal('LIMIT_EXCEEDED');
    });

    it('in size, by copies that double it', () => {
      const operations = Array.from({ length: 60 }, (_, index) => ({ op: 'copy', from: '', path: `/k${index}` }));
      expect(limit({ k: 'x' }, operations)).to.equal('LIMIT_EXCEEDED');
      const text = normalize({ text: 'x'.repeat(1_000_000) });
      const copies = Array.from({ length: 30 }, (_, index) => ({ op: 'copy', from: '/text', path: `/k${index}` }));
      expect(limit(text, copies)).to.equal('LIMIT_EXCEEDED');
      expect(applyPatch(text, validatePatch(copies.slice(0, 10)))).to.have.property('k9');
    });
  });
});

describe('applyPatch against fast-json-patch', () => {
  const key = fc.constantFrom('a', 'b', 'c', '', 'a/b', '~', '0', '1');
  const token = fc
    .oneof(key, fc.constantFrom('-', '2', '01', 'x'))
    .map((text) => text.replaceAll('~', '~0').replaceAll('/', '~1'));
  const top = fc.oneof(
    { weight: 5, arbitrary: fc.constantFrom('a', 'b', 'c', '', 'a~1b', '~0') },
    { weight: 1, arbitrary: token },
  );
  const pointer = fc
    .tuple(top, fc.array(token, { maxLength: 1 }))
    .map(([first, more]) => [first, ...more].map((text) => `/${text}`).join(''));
  const { json } = fc.letrec<{ json: JsonValue }>((tie) => ({
    json: fc.oneof(
      { maxDepth: 3 },
      fc.constantFrom(0, 1, 'x', null, true),
      fc.array(tie('json'), { maxLength: 3 }),
      fc.dictionary(key, tie('json'), { maxKeys: 4 }),
    ),
  }));
  const root = fc.record({
    a: json,
    b: fc.array(json, { maxLength: 4 }),
    c: fc.dictionary(key, json),
    '': json,
    'a/b': json,
    '~': json,
  });
  const operation = fc.oneof(
    fc.record({
      op: fc.constantFrom('add' as const, 'add' as const, 'replace' as const, 'test' as const),
      path: pointer,
      value: json,
    }),
    fc.record({ op: fc.constant('remove' as const), path: pointer }),
    fc.record({ op: fc.constantFrom('move' as const, 'copy' as const), from: pointer, path: pointer }),
  );

  it('makes the same of a document where both succeed, and mostly both do or neither', () => {
    let agreed = 0;
    let succeeded = 0;
    let runs = 0;
    fc.assert(
      fc.property(root, fc.array(operation, { minLength: 1, maxLength: 3 }), (document, operations) => {
        runs++;
        let theirs: JsonValue | undefined;
        let ours: JsonValue | undefined;
        try {
          theirs = fastJsonPatch.applyPatch(structuredClone(document), structuredClone(operations) as never, true, true)
            .newDocument as JsonValue;
        } catch {}
        const value = normalize(document);
        try {
          ours = applyPatch(value, validatePatch(operations));
        } catch (error) {
          if (!isContextError(error)) throw error;
        }
        expect(JSON.stringify(value)).to.equal(JSON.stringify(document));
        if ((theirs === undefined) === (ours === undefined)) agreed++;
        if (theirs === undefined || ours === undefined) return;
        succeeded++;
        expect(jsonDeepEqual(ours, normalize(theirs)), `${JSON.stringify(ours)} ${JSON.stringify(theirs)}`).to.equal(true);
        expect(isDeepFrozen(ours)).to.equal(true);
      }),
      { numRuns: 5000 },
    );
    // guards against a test that compares nothing
    expect(succeeded / runs).to.be.above(0.2);
    expect(agreed / runs).to.be.above(0.9);
  });
});

describe('jsonEqual and jsonDeepEqual', () => {
  const cases: readonly (readonly [a: string, b: string, exact: boolean, meaning: boolean])[] = [
    ['{"a":1,"b":2}', '{"a":1,"b":2}', true, true],
    ['{"a":1,"b":2}', '{"b":2,"a":1}', false, true],
    ['[{"a":1,"b":[1,2]}]', '[{"b":[1,2],"a":1}]', false, true],
    ['{"a":1}', '{"a":1,"b":2}', false, false],
    ['{"a":1,"b":2}', '{"a":1}', false, false],
    ['[1,2]', '[2,1]', false, false],
    ['[1]', '[1,2]', false, false],
    ['[]', '{}', false, false],
    ['{}', '[]', false, false],
    ['null', '{}', false, false],
    ['1', '"1"', false, false],
    ['0', '-0', true, true],
    ['"a"', '"a"', true, true],
    ['{"__proto__":1}', '{"__proto__":1}', true, true],
    ['{"__proto__":{}}', '{"x":{}}', false, false],
  ];
  for (const [a, b, exact, meaning] of cases) {
    it(`${a} and ${b}`, () => {
      expect(jsonEqual(parseFrozen(a), parseFrozen(b))).to.equal(exact);
      expect(jsonDeepEqual(parseFrozen(a), parseFrozen(b))).to.equal(meaning);
    });
  }

  it('remembers what was different, and only that', () => {
    const a = parseFrozen('[[1,2],[3,4]]') as JsonValue[];
    const b = parseFrozen('[[1,2],[3,5]]') as JsonValue[];
    const different = new Map<object, object>();
    expect(jsonEqual(a, b, different)).to.equal(false);
    expect(different.get(a)).to.equal(b);
    expect(different.get(a[1] as object)).to.equal(b[1]);
    expect(different.size).to.equal(2);
    expect(jsonEqual(a, b, different)).to.equal(false);
    expect(jsonEqual(a[0] as JsonValue, b[0] as JsonValue, different)).to.equal(true);
    expect(jsonEqual(a, parseFrozen(JSON.stringify(a)), different)).to.equal(true);
  });
});
