import { runInNewContext } from 'node:vm';
import { expect } from 'chai';
import { type ContextErrorDetails, isContextError } from '../../src/core/errors.js';
import { copyMembers, deepFreeze, type JsonObject, type JsonValue, normalize, parseFrozen, setKey } from '../../src/core/json.js';

function refusal(
  value: unknown,
  options?: Parameters<typeof normalize>[1],
): { code: string; message: string; details: ContextErrorDetails } {
  try {
    normalize(value, options);
  } catch (error) {
    if (isContextError(error)) return { code: error.code, message: error.message, details: error.details };
    throw error;
  }
  throw new Error('it should have been refused');
}

function isDeepFrozen(value: JsonValue): boolean {
  return typeof value !== 'object' || value === null || (Object.isFrozen(value) && Object.values(value).every(isDeepFrozen));
}

const own = (key: string, value: unknown): Record<string, unknown> =>
  Object.defineProperty({}, key, { value, enumerable: true, configurable: true, writable: true });

describe('normalize', () => {
  const document = (): Record<string, unknown> => ({
    text: 'é 日本 😀 "\\\u0000\u2028',
    numbers: [0, 1.5, -3e-7, 1e21, Number('12345678901234567890')],
    nothing: null,
    flags: [true, false],
    empty: [[], {}],
    '': 1,
    'a/b': 2,
    '~': 3,
    constructor: { prototype: 4 },
    toString: 5,
    10: 'ten',
    2: 'two',
  });

  it('gives what JSON.stringify sees, deeply frozen, as a copy', () => {
    const given = document();
    const result = normalize(given);
    expect(JSON.stringify(result)).to.equal(JSON.stringify(given));
    expect(isDeepFrozen(result)).to.equal(true);
    (given.numbers as number[])[0] = 99;
    (given.constructor as unknown as Record<string, unknown>).prototype = 99;
    expect(JSON.stringify(result)).to.equal(JSON.stringify(document()));
  });

  it('leaves what it was given as it was', () => {
    const given = document();
    normalize(given);
    expect(Object.isFrozen(given)).to.equal(false);
    expect(Object.isFrozen(given.numbers)).to.equal(false);
  });

  for (const scalar of [null, true, false, 0, -1.5, '', 'x']) {
    it(`takes ${JSON.stringify(scalar)} as a whole document`, () => expect(normalize(scalar)).to.equal(scalar));
  }

  it('writes -0 as 0, like JSON', () => {
    expect(Object.is(normalize(-0), 0)).to.equal(true);
    expect(Object.is((normalize([-0]) as number[])[0], 0)).to.equal(true);
  });

  it('leaves out properties that are undefined, and symbol keys', () => {
    const result = normalize({ a: 1, b: undefined, [Symbol('s')]: 2, c: { toJSON: () => undefined }, d: undefined });
    expect(Object.keys(result as object)).to.deep.equal(['a']);
    expect(Object.getOwnPropertySymbols(result)).to.deep.equal([]);
  });

  it('calls toJSON with the key, once, and takes its answer as it is', () => {
    const keys: unknown[] = [];
    const spy = (): object => ({
      toJSON(key: unknown) {
        keys.push(key);
        return { inner: key };
      },
    });
    expect(normalize({ a: spy(), list: [spy()] })).to.deep.equal({ a: { inner: 'a' }, list: [{ inner: '0' }] });
    expect(normalize(spy())).to.deep.equal({ inner: '' });
    expect(keys).to.deep.equal(['a', '0', '']);
    const date = new Date(0);
    expect(normalize({ date, bad: new Date(Number.NaN), url: new URL('http://a/b') })).to.deep.equal({
      date: '1970-01-01T00:00:00.000Z',
      bad: null,
      url: 'http://a/b',
    });
    class Money {
      toJSON(): string {
        return '5 EUR';
      }
    }
    expect(normalize([new Money()])).to.deep.equal(['5 EUR']);
  });

  it('takes a toJSON that is not a function as data', () => {
    expect(normalize({ toJSON: 1 })).to.deep.equal({ toJSON: 1 });
  });

  it('reads an accessor once', () => {
    let reads = 0;
    const given = {
      get a() {
        reads++;
        return reads;
      },
    };
    expect(normalize(given)).to.deep.equal({ a: 1 });
    expect(reads).to.equal(1);
  });

  it('lets what an accessor or a toJSON throws pass', () => {
    const error = new RangeError('mine');
    const thrower = {
      toJSON() {
        throw error;
      },
    };
    expect(() => normalize([thrower])).to.throw(error);
  });

  it('neither loses nor obeys __proto__', () => {
    const given = JSON.parse('{"__proto__":{"polluted":true},"a":[{"__proto__":null}]}') as unknown;
    const result = normalize(given);
    expect(JSON.stringify(result)).to.equal(JSON.stringify(given));
    expect(Object.getPrototypeOf(result)).to.equal(Object.prototype);
    expect((result as Record<string, unknown>).polluted).to.equal(undefined);
    expect(({} as Record<string, unknown>).polluted).to.equal(undefined);
    expect(normalize(given, { base: result })).to.equal(result);
  });

  it('takes objects without a prototype, and arrays and objects of another realm', () => {
    expect(normalize(Object.assign(Object.create(null), { a: 1 }))).to.deep.equal({ a: 1 });
    const foreign = runInNewContext('({ a: [1, { b: 2 }] })');
    expect(JSON.stringify(normalize(foreign))).to.equal('{"a":[1,{"b":2}]}');
  });

  it('takes an object that stands in two places', () => {
    const shared = { x: [1] };
    expect(normalize({ a: shared, b: shared })).to.deep.equal({ a: { x: [1] }, b: { x: [1] } });
  });

  const holes: unknown[] = [1, 2];
  holes.length = 3;
  const cycle: Record<string, unknown> = { a: [{}] };
  ((cycle.a as unknown[])[0] as Record<string, unknown>).back = cycle;
  class Point {
    x = 1;
  }
  class List extends Array {}
  const selfish = new Point() as Point & { toJSON?: unknown };
  Object.defineProperty(selfish, 'toJSON', { value: () => selfish });
  const refused: readonly (readonly [what: string, value: unknown, pointer: string, says: string])[] = [
    ['undefined', undefined, '', 'is undefined'],
    ['undefined in an array', { a: [1, undefined] }, '/a/1', 'is undefined'],
    ['a hole in an array', [holes], '/0/2', 'hole'],
    ['a toJSON that answers undefined in an array', [{ toJSON: () => undefined }], '/0', 'is undefined'],
    ['a function', { 'a/b': { '~': () => 1 } }, '/a~1b/~0', 'is a function'],
    ['a symbol', [Symbol('x')], '/0', 'is a symbol'],
    ['a BigInt', { n: 1n }, '/n', 'BigInt'],
    ['NaN', { a: { b: Number.NaN } }, '/a/b', 'NaN'],
    ['an infinity', [[Number.NEGATIVE_INFINITY]], '/0/0', '-Infinity'],
    ['a cycle', cycle, '/a/0/back', 'cycle'],
    ['a lone surrogate in a string', ['ok', 'a\ud800b'], '/1', 'lone surrogate'],
    ['a lone surrogate as the value', '\udc00', '', 'lone surrogate'],
    ['a lone surrogate in a key', { a: { '\ud83d': 1 } }, '/a/\ud83d', 'key with a lone surrogate'],
    ['a Map', { m: new Map() }, '/m', 'instance of Map'],
    ['a Set', [new Set()], '/0', 'instance of Set'],
    ['a class instance', { p: new Point() }, '/p', 'instance of Point'],
    ['a toJSON that answers a class instance', { p: selfish }, '/p', 'instance of Point'],
    ['a subclass of Array', { l: new List() }, '/l', 'instance of List'],
    ['a typed array', [new Uint8Array(2)], '/0', 'instance of Uint8Array'],
    ['a boxed number', [new Number(1)], '/0', 'instance of Number'],
    ['a boxed string', [new String('a')], '/0', 'instance of String'],
    ['an error', { e: new Error('x') }, '/e', 'instance of Error'],
    ['a promise', [Promise.resolve(1)], '/0', 'instance of Promise'],
    ['a regular expression', /x/, '', 'instance of RegExp'],
  ];
  for (const [what, value, pointer, says] of refused) {
    it(`refuses ${what} and names the place`, () => {
      const { code, message, details } = refusal(value);
      expect(code).to.equal('INVALID_VALUE');
      expect(details.pointer).to.equal(pointer);
      expect(message)
        .to.contain(says)
        .and.to.contain(pointer === '' ? 'the value itself' : JSON.stringify(pointer));
    });
  }

  const nested = (depth: number): unknown => {
    let value: unknown = 1;
    for (let level = 0; level < depth; level++) value = level % 2 === 0 ? [value] : { a: value };
    return value;
  };

  it('counts containers as depth', () => {
    expect(normalize(1, { maxDepth: 0 })).to.equal(1);
    expect(refusal([], { maxDepth: 0 }).code).to.equal('LIMIT_EXCEEDED');
    expect(() => normalize(nested(256))).not.to.throw();
    const { code, details, message } = refusal(nested(257));
    expect(code).to.equal('LIMIT_EXCEEDED');
    expect(details.limit).to.equal('depth 256');
    expect((details.pointer as string).split('/')).to.have.lengthOf(257);
    expect(message).to.contain('256');
    expect(() => normalize(nested(1000), { maxDepth: 1000 })).not.to.throw();
  });

  it('survives 100,000 levels, and a toJSON without end', () => {
    expect(refusal(nested(100_000)).code).to.equal('LIMIT_EXCEEDED');
    expect(refusal(nested(100_000), { maxDepth: 1000 }).code).to.equal('LIMIT_EXCEEDED');
    const endless = (): object => ({ toJSON: () => ({ next: endless() }) });
    expect(refusal(endless()).code).to.equal('LIMIT_EXCEEDED');
  });

  it('gives up on a value that references itself over and over', () => {
    let value: unknown = [];
    for (let level = 0; level < 60; level++) value = [value, value];
    const { code, details } = refusal(value);
    expect(code).to.equal('LIMIT_EXCEEDED');
    expect(details.limit).to.equal('containers 4194304');
  });

  it('refuses a sparse array without end before it copies it', () => {
    const sparse: unknown[] = [];
    sparse[4_000_000_000] = 1;
    expect(refusal({ a: sparse }).details).to.deep.equal({ pointer: '/a', limit: 'elements 4194304' });
  });

  for (const maxDepth of [-1, 1.5, 1001, Number.NaN]) {
    it(`refuses a depth limit of ${maxDepth}`, () => expect(refusal(1, { maxDepth }).code).to.equal('INVALID_OPTION'));
  }

  describe('with a base', () => {
    const base = normalize({
      kept: { deep: [1, { x: 1 }] },
      list: [{ id: 0 }, { id: 1 }, { id: 2 }, { id: 3 }],
      last: { y: 1 },
    }) as JsonObject;
    const list = base.list as readonly JsonValue[];
    const trap = (): object =>
      Object.freeze(Object.defineProperty({}, 'never', { enumerable: true, get: () => expect.fail('it was walked') }));

    it('gives the base itself for itself', () => expect(normalize(base, { base })).to.equal(base));

    it('shares what stands in the same place, without walking it', () => {
      const unread = trap() as unknown as JsonValue;
      const trusted = Object.freeze({ a: unread, b: 1 });
      const result = normalize({ a: unread, b: 2 }, { base: trusted }) as JsonObject;
      expect(result.a).to.equal(unread);
      expect(result.b).to.equal(2);
    });

    it('shares elements wherever they went in their array', () => {
      const unread = Array.from({ length: 6 }, trap) as unknown as JsonValue[];
      const trusted = Object.freeze([...unread]);
      const given = [{ new: 1 }, unread[5], unread[0], { new: 2 }, unread[1], unread[3], unread[2]];
      const result = normalize(given, { base: trusted }) as JsonValue[];
      expect(result.map((element) => unread.indexOf(element))).to.deep.equal([-1, 5, 0, -1, 1, 3, 2]);
      expect(Object.isFrozen(result[0])).to.equal(true);
    });

    for (const [what, edit] of [
      ['at the head', (items: unknown[]) => items.unshift({ id: 9 })],
      ['at the end', (items: unknown[]) => items.push({ id: 9 })],
      ['in the middle', (items: unknown[]) => items.splice(2, 0, { id: 9 })],
      ['in place of one', (items: unknown[]) => items.splice(1, 1, { id: 9 })],
    ] as const) {
      it(`keeps the elements around a new one ${what}`, () => {
        const items: unknown[] = [...list];
        edit(items);
        const result = normalize({ ...base, list: items }, { base }) as JsonObject;
        expect(JSON.stringify(result.list)).to.equal(JSON.stringify(items));
        expect((result.list as JsonValue[]).filter((item) => list.includes(item))).to.have.lengthOf(items.length - 1);
        expect(result.kept).to.equal(base.kept);
        expect(isDeepFrozen(result)).to.equal(true);
      });
    }

    it('copies what moved to another depth, and checks it there', () => {
      const deep = normalize({ a: [[[1]]] }, { maxDepth: 4 }) as JsonObject;
      expect(refusal({ a: { b: deep.a } }, { base: deep, maxDepth: 4 }).code).to.equal('LIMIT_EXCEEDED');
      expect(normalize({ b: deep.a }, { base: deep, maxDepth: 4 })).to.deep.equal({ b: [[[1]]] });
    });

    it('becomes the base where it is equal, part by part', () => {
      const apart = JSON.parse(JSON.stringify(base)) as Record<string, unknown>;
      expect(normalize(apart, { base })).to.equal(base);
      const result = normalize({ ...apart, last: { y: 2 } }, { base }) as JsonObject;
      expect(result).not.to.equal(base);
      expect(result.kept).to.equal(base.kept);
      expect(result.list).to.equal(base.list);
      expect(result.last).to.deep.equal({ y: 2 });
    });

    it('does not take a value for its base because only the order of keys, or a key, differs', () => {
      const two = normalize({ a: 1, b: 2 });
      expect(JSON.stringify(normalize({ b: 2, a: 1 }, { base: two }))).to.equal('{"b":2,"a":1}');
      expect(JSON.stringify(normalize({ a: 1 }, { base: two }))).to.equal('{"a":1}');
      const [x, y, ...rest] = list;
      expect(normalize([y, x, ...rest], { base: list })).to.deep.equal([y, x, ...rest]);
      expect(normalize([y, x, y, ...rest], { base: list })).to.deep.equal([y, x, y, ...rest]);
      expect(JSON.stringify(normalize([1], { base: normalize([1, 2]) }))).to.equal('[1]');
      expect(JSON.stringify(normalize([1, 2], { base: normalize([1]) }))).to.equal('[1,2]');
    });

    it('does not trust what the prototype of the base has', () => {
      const empty = normalize({});
      expect(refusal({ constructor: Object }, { base: empty }).details.pointer).to.equal('/constructor');
      const given = own('__proto__', Object.prototype);
      const result = normalize(given, { base: empty });
      expect(JSON.stringify(result)).to.equal('{"__proto__":{}}');
      expect(Object.getOwnPropertyDescriptor(result, '__proto__')?.value).not.to.equal(Object.prototype);
    });
  });
});

describe('parseFrozen and deepFreeze', () => {
  it('give the parsed value, deeply frozen', () => {
    const text = '{"a":[1,{"b":null}],"__proto__":{"c":[[]]},"10":"x"}';
    const value = parseFrozen(text);
    expect(JSON.stringify(value)).to.equal(JSON.stringify(JSON.parse(text)));
    expect(isDeepFrozen(value)).to.equal(true);
    expect(isDeepFrozen(Object.getOwnPropertyDescriptor(value as object, '__proto__')?.value)).to.equal(true);
    expect(Object.getPrototypeOf(value)).to.equal(Object.prototype);
    expect(Object.isFrozen(Object.prototype)).to.equal(false);
  });

  it('take scalars', () => {
    expect(parseFrozen('null')).to.equal(null);
    expect(deepFreeze('x')).to.equal('x');
  });

  it('throw what JSON.parse throws', () => {
    expect(() => parseFrozen('{')).to.throw(SyntaxError);
  });

  it('parse to a depth of 1,000, whatever is around it', () => {
    for (const [open, close] of [
      ['[', ']'],
      ['{"a":', '}'],
    ] as const) {
      const nested = (depth: number): string => `[1,${open.repeat(depth - 1)}1${close.repeat(depth - 1)},2]`;
      expect(parseFrozen(nested(1_000))).to.be.an('array');
      expect(() => parseFrozen(nested(1_001))).to.throw(SyntaxError, 'more than 1000 deep');
      expect(() => parseFrozen(nested(100_000))).to.throw(SyntaxError);
    }
  });

  it('freeze to any depth', () => {
    const depth = 100_000;
    const value = deepFreeze(JSON.parse('['.repeat(depth) + ']'.repeat(depth)) as JsonValue);
    let levels = 0;
    for (let at: JsonValue | undefined = value; at !== undefined; at = (at as JsonValue[])[0]) {
      if (!Object.isFrozen(at)) expect.fail(`level ${levels} is not frozen`);
      levels++;
    }
    expect(levels).to.equal(depth);
  });

  it('freeze in place', () => {
    const value = { a: [{}] };
    expect(deepFreeze(value)).to.equal(value);
    expect(isDeepFrozen(value)).to.equal(true);
  });
});

describe('members', () => {
  it('are set and copied whatever their names', () => {
    for (const key of ['__proto__', 'constructor', 'toString', 'hasOwnProperty', '', 'a']) {
      const object: Record<string, JsonValue> = {};
      setKey(object, key, { x: 1 });
      expect(Object.keys(object)).to.deep.equal([key]);
      const copy = copyMembers(object);
      expect(JSON.stringify(copy)).to.equal(JSON.stringify(object));
      expect(Object.getPrototypeOf(copy)).to.equal(Object.prototype);
    }
  });

  it('are set in their place where they are there', () => {
    const object: Record<string, JsonValue> = { a: 1, b: 2 };
    setKey(object, 'a', 3);
    expect(JSON.stringify(object)).to.equal('{"a":3,"b":2}');
  });
});
