/** What a context can hold: it comes out of every door as it went in, to the byte; what JSON cannot hold is refused by name. */
import { expect } from 'chai';
import type { ContextStore, JsonValue } from '../../src/index.js';
import { refusal, unfrozen, untilReplica, useStores, Watched, watchFromNow } from '../helpers/stores.js';

/** Keys that objects inherit, or that pointers escape. */
const KEYS =
  '{"":0,"a/b":1,"~":2,"~1":3,"m~n":4,"constructor":{"prototype":{"polluted":1}},"__proto__":{"polluted":2},"toString":5,"hasOwnProperty":6}';

/** Every code point that a string can hold, in one string: all but the surrogates. */
function allOfUnicode(): string {
  const parts: string[] = [];
  for (let start = 0; start < 0x110000; start += 0x1000) {
    if (start >= 0xd800 && start < 0xe000) continue;
    const end = Math.min(start + 0x1000, start < 0xd800 ? 0xd800 : 0x110000);
    parts.push(String.fromCodePoint(...Array.from({ length: end - start }, (_, index) => start + index)));
  }
  return parts.join('');
}

/** The value, and the bytes it is stored as. */
const DOCUMENTS: readonly (readonly [name: string, value: unknown, text: string])[] = [
  ['null', null, 'null'],
  ['false', false, 'false'],
  ['zero', 0, '0'],
  ['the empty string', '', '""'],
  ['an empty array', [], '[]'],
  ['an empty object', {}, '{}'],
  ['empty containers in containers', { a: [], o: {}, n: [[], {}, [[]]] }, '{"a":[],"o":{},"n":[[],{},[[]]]}'],
  ['a number of more than 53 bits, as JavaScript reads it', JSON.parse('12345678901234567890'), '12345678901234567000'],
  ['the same as a string', '12345678901234567890', '"12345678901234567890"'],
  ['minus zero, as JSON writes it', [-0, { n: -0 }], '[0,{"n":0}]'],
  [
    'the ends of the numbers',
    [Number.MAX_VALUE, Number.MIN_VALUE, -1.5e-7, 1e21],
    '[1.7976931348623157e+308,5e-324,-1.5e-7,1e+21]',
  ],
  ['line separators, escapes and astral characters', '\u2028\u2029\u0000\u001f"\\/😀', '"\u2028\u2029\\u0000\\u001f\\"\\\\/😀"'],
  ['a byte order mark and what is no character', '\ufeff\ufffe\uffff\u{10ffff}', '"\ufeff\ufffe\uffff\u{10ffff}"'],
  ['keys of Unicode, in their order', { z: 1, ä: 2, '😀': 3, '\u2028': 4, a: 5 }, '{"z":1,"ä":2,"😀":3,"\u2028":4,"a":5}'],
  ['keys that look like indexes', { b: 1, 2: 'two', 10: 'ten', 1: 'one' }, '{"1":"one","2":"two","10":"ten","b":1}'],
  ['keys that objects inherit', JSON.parse(KEYS), KEYS],
  ['what is undefined in an object: absent', { a: undefined, b: 1 }, '{"b":1}'],
  ['what toJSON answers', { at: new Date(0) }, '{"at":"1970-01-01T00:00:00.000Z"}'],
];

describe('values', () => {
  const stores = useStores();

  afterEach('nothing has polluted Object.prototype', () => {
    expect(Object.keys(Object.prototype)).to.deep.equal([]);
    expect(({} as Record<string, unknown>).polluted).to.equal(undefined);
  });

  /** What is stored, and what another instance and this one read of it, in text. */
  async function everywhere(id: string, writer: ContextStore, reader: ContextStore): Promise<string[]> {
    const redis = await stores.redis();
    const stored = await redis.hgetBuffer(writer.keysOf(id).context, 'data');
    const texts = [
      (await reader.get(id))?.value,
      (await reader.get(id, { fresh: true }))?.value,
      (await reader.getMany([id]))[0]?.value,
      (await writer.get(id))?.value,
    ].map((value) => JSON.stringify(value));
    return [(stored ?? Buffer.alloc(0)).toString(), (await writer.rawBytes(id))?.toString() ?? '', ...texts];
  }
  const six = (text: string): string[] => [text, text, text, text, text, text];

  for (const [name, value, text] of DOCUMENTS) {
    it(`keeps ${name}, to the byte and by every way`, async () => {
      const [writer, reader] = await stores.pair();
      const redis = await stores.redis();
      await writer.set('set', value);
      expect(await redis.hgetBuffer(writer.keysOf('set').context, 'data')).to.deep.equal(Buffer.from(text));
      expect(await everywhere('set', writer, reader)).to.deep.equal(six(text));

      // as frames: a patch where the document around it is large, the whole otherwise
      await writer.set('frames', { pad: 'p'.repeat(64 + text.length), value: 'none' });
      const watched = new Watched(reader.watch('frames', { fromVersion: 1 }));
      await untilReplica(reader, 'frames');
      await writer.update<{ value: unknown }>('frames', (draft) => {
        draft.value = value;
      });
      await writer.patch('frames', [{ op: 'add', path: '/again', value }]);
      await writer.patch('frames', [
        { op: 'test', path: '/value', value },
        { op: 'replace', path: '', value },
      ]);
      const [updated, patched, replaced] = await watched.count(3);
      expect([updated?.kind, patched?.kind]).to.deep.equal(['patch', 'patch']);
      expect(JSON.stringify(updated?.value)).to.equal(`{"pad":"${'p'.repeat(64 + text.length)}","value":${text}}`);
      expect(JSON.stringify(patched?.value)).to.equal(
        `{"pad":"${'p'.repeat(64 + text.length)}","value":${text},"again":${text}}`,
      );
      expect(JSON.stringify(replaced?.value)).to.equal(text);
      expect(await everywhere('frames', writer, reader)).to.deep.equal(six(text));
      expect((await reader.stats()).checksumFailures).to.equal(0);
    });
  }

  it('keeps every code point of Unicode, as a value and as a key', async () => {
    const [writer, reader] = await stores.pair({ limits: { contextBytes: '8mb' } });
    const value = allOfUnicode();
    expect(Array.from(value)).to.have.lengthOf(0x110000 - 0x800);
    await writer.set('value', value);
    expect((await reader.get('value'))?.value).to.equal(value);
    expect((await reader.rawBytes('value'))?.equals(Buffer.from(JSON.stringify(value)))).to.equal(true);

    const keyed = Object.fromEntries(Array.from(value.slice(0, 0x1000)).map((character, index) => [character, index]));
    await writer.set('keys', keyed);
    expect((await reader.get('keys'))?.value).to.deep.equal(keyed);
  });

  it('lets an id be any Unicode text of up to 512 bytes', async () => {
    const [writer, reader] = await stores.pair({ shards: 3 });
    const ids = [' ', 'a b', 'ä/ö~ü', '日本', '😀'.repeat(128), 'x'.repeat(512), '{tag}', 'c:1', '*?[a]\\', '\u2028', 'constructor', '__proto__']; // biome-ignore format: one list
    for (const id of ids) await writer.set(id, { id });
    expect((await reader.getMany(ids)).map((context) => [context?.id, context?.value])).to.deep.equal(
      ids.map((id) => [id, { id }]),
    );
    expect((await reader.list()).items.map(({ id }) => id).sort()).to.deep.equal([...ids].sort());
    const { length } = ids;
    const watched = ids.map((id) => new Watched(reader.watch(id, { fromVersion: 0 })));
    for (const [index, id] of ids.entries()) await writer.patch(id, [{ op: 'add', path: '/index', value: index }]);
    for (const [index, each] of watched.entries()) {
      expect((await each.version(2)).value, `${index} of ${length}`).to.deep.equal({ id: ids[index], index });
    }
  });

  describe('__proto__ as a key', () => {
    const PROTO = '__proto__';
    const parse = (text: string): unknown => JSON.parse(text);

    it('survives an update of its object, of its own value and of its neighbours', async () => {
      const [writer, reader] = await stores.pair();
      const watched = await watchFromNow(reader, 'u');
      await writer.set('u', parse('{"__proto__":{"n":1,"list":[]},"in":{"__proto__":{"n":2},"x":1},"list":[{"__proto__":3}]}'));
      type Draft = { [PROTO]: { n: number; list: string[] }; in: { x: number; [key: string]: unknown }; list: { y: number }[] };
      await writer.update<Draft>('u', (draft) => {
        const inner = draft[PROTO];
        inner.n = 10;
        inner.list.push('a');
        draft.in.x = 11;
        const [first] = draft.list;
        if (first !== undefined) first.y = 12;
      });
      const text = '{"__proto__":{"n":10,"list":["a"]},"in":{"__proto__":{"n":2},"x":11},"list":[{"__proto__":3,"y":12}]}';
      expect(await everywhere('u', writer, reader)).to.deep.equal(six(text));
      const change = await watched.version(2);
      expect(JSON.stringify(change.value)).to.equal(text);
    });

    it('comes and goes by update and by patch', async () => {
      const [writer, reader] = await stores.pair();
      const watched = await watchFromNow(reader, 'u');
      await writer.set('u', { child: {}, pad: 'p'.repeat(100) });
      await writer.update<{ child: unknown }>('u', (draft) => {
        draft.child = parse('{"__proto__":{"polluted":1}}');
      });
      expect(await writer.rawBytes('u')).to.deep.equal(
        Buffer.from(`{"child":{"__proto__":{"polluted":1}},"pad":"${'p'.repeat(100)}"}`),
      );
      await writer.patch('u', [
        { op: 'add', path: '/__proto__', value: { polluted: 1 } },
        { op: 'replace', path: '/child/__proto__/polluted', value: 2 },
        { op: 'add', path: '/__proto__/more', value: true },
        { op: 'copy', from: '/__proto__', path: '/child/constructor' },
        { op: 'remove', path: '/pad' },
      ]);
      const text =
        '{"child":{"__proto__":{"polluted":2},"constructor":{"polluted":1,"more":true}},"__proto__":{"polluted":1,"more":true}}';
      expect(await everywhere('u', writer, reader)).to.deep.equal(six(text));
      expect(JSON.stringify((await watched.version(3)).value)).to.equal(text);
      await writer.patch('u', [
        { op: 'remove', path: '/__proto__' },
        { op: 'move', from: '/child/__proto__', path: '/child/toString' },
      ]);
      const after = '{"child":{"constructor":{"polluted":1,"more":true},"toString":{"polluted":2}}}';
      expect(await everywhere('u', writer, reader)).to.deep.equal(six(after));
      expect(JSON.stringify((await watched.version(4)).value)).to.equal(after);
      await refusal('PATCH_FAILED', () => writer.patch('u', [{ op: 'replace', path: '/__proto__/x', value: 1 }]));
    });
  });

  describe('what JSON cannot hold is refused with its place', () => {
    class Point {
      x = 1;
    }
    const cycle: Record<string, unknown> = { inner: {} };
    (cycle.inner as Record<string, unknown>).outer = cycle;
    const hole: unknown[] = [1];
    hole.length = 2;
    const cases: readonly (readonly [name: string, value: unknown, pointer: string, says: RegExp])[] = [
      ['undefined', undefined, '', /undefined/],
      ['undefined in an array', { list: [1, undefined] }, '/list/1', /undefined/],
      ['a hole in an array', { list: hole }, '/list/1', /hole/],
      ['a function', { a: { f: () => 1 } }, '/a/f', /function/],
      ['a symbol', [Symbol('s')], '/0', /symbol/],
      ['a BigInt', { 'a/b': [{ '~': 10n }] }, '/a~1b/0/~0', /BigInt/],
      ['NaN', { n: Number.NaN }, '/n', /NaN/],
      ['a number past the largest', { n: Number('1e400') }, '/n', /Infinity/],
      ['minus infinity', [[Number.NEGATIVE_INFINITY]], '/0/0', /-Infinity/],
      ['a Map', { map: new Map([[1, 2]]) }, '/map', /Map/],
      ['a Set', { '': new Set() }, '/', /Set/],
      ['an instance of a class', { points: [new Point()] }, '/points/0', /Point/],
      ['a RegExp', { r: /x/ }, '/r', /RegExp/],
      ['a cycle', cycle, '/inner/outer', /cycle/],
      ['half a surrogate pair in a string', { text: 'a\ud83d' }, '/text', /surrogate/],
      ['half a surrogate pair in a key', { 'a\udc00': 1 }, '/a\udc00', /surrogate/],
    ];

    for (const [name, value, pointer, says] of cases) {
      it(name, async () => {
        const store = await stores.open();
        const before = await store.set('x', { kept: true });
        const calls: (() => Promise<unknown>)[] = [
          () => store.set('x', value),
          () => store.update('y', () => {}, { initial: value }),
        ];
        // an update that returns undefined has changed its draft, or nothing
        if (value !== undefined) calls.push(() => store.update('x', () => value));
        for (const call of calls) {
          const error = await refusal('INVALID_VALUE', call);
          expect(error.details.pointer).to.equal(pointer);
          expect(error.message).to.match(says);
        }
        // in a draft, and in the value of a patch's operation
        const within = await refusal('INVALID_VALUE', () =>
          store.update<{ list: unknown }>('x', (draft) => {
            draft.list = [value];
          }),
        );
        expect(within.details.pointer).to.equal(`/list/0${pointer}`);
        const patch = await refusal('INVALID_PATCH', () =>
          store.patch('x', [
            { op: 'test', path: '/kept', value: true },
            { op: 'add', path: '/new', value },
          ]),
        );
        expect(patch.details.operation).to.equal(1);
        expect(await store.get('x', { fresh: true })).to.include({ version: before.version, checksum: before.checksum });
        expect(await store.get('y')).to.equal(null);
      });
    }
  });

  describe('limits name themselves and what was seen', () => {
    it('bytes of a document', async () => {
      const store = await stores.open({ limits: { contextBytes: 100 } });
      await store.set('x', 'a'.repeat(98));
      const calls = [
        () => store.set('x', 'a'.repeat(99)),
        () => store.set('x', 'ä'.repeat(50)),
        () => store.update('x', (text) => `${String(text)}!`),
        () => store.patch('x', [{ op: 'replace', path: '', value: 'a'.repeat(200) }]),
      ];
      for (const [index, call] of calls.entries()) {
        const error = await refusal('LIMIT_EXCEEDED', call);
        const found = [101, 102, 101, 202][index];
        expect(error.details).to.include({ limit: 'limits.contextBytes', expected: 100, found });
        expect(error.message).to.contain('limits.contextBytes').and.contain(String(found)).and.contain('100');
      }
      expect((await store.get('x'))?.version).to.equal(1);
    });

    it('1 MiB unless said otherwise', async () => {
      const store = await stores.open();
      await store.set('x', 'a'.repeat(1024 * 1024 - 2));
      const error = await refusal('LIMIT_EXCEEDED', () => store.set('x', 'a'.repeat(1024 * 1024 - 1)));
      expect(error.details).to.include({ expected: 1024 * 1024, found: 1024 * 1024 + 1 });
    });

    it('8 MiB where that is configured, and not a byte more', async () => {
      const [writer, reader] = await stores.pair({ limits: { contextBytes: '8mb' } });
      const most = 8 * 1024 * 1024;
      const watched = await watchFromNow(reader, 'x');
      await writer.set('x', 'a'.repeat(most - 2));
      expect((await watched.version(1)).value).to.equal('a'.repeat(most - 2));
      expect((await reader.get('x'))?.value).to.equal('a'.repeat(most - 2));
      expect((await reader.get('x', { fresh: true }))?.value).to.equal('a'.repeat(most - 2));
      expect(await reader.verify('x')).to.include({ ok: true, bytes: most });
      expect((await refusal('LIMIT_EXCEEDED', () => writer.set('x', 'a'.repeat(most - 1)))).details.found).to.equal(most + 1);
      const error = await refusal('INVALID_OPTION', () => stores.open({ limits: { contextBytes: most + 1 } }));
      expect(error.message).to.contain('limits.contextBytes').and.contain(String(most));
    });

    it('depth', async () => {
      const nested = (depth: number): JsonValue => (depth === 0 ? 1 : [nested(depth - 1)]);
      const store = await stores.open();
      await store.set('x', nested(256));
      expect((await store.get('x', { fresh: true }))?.value).to.deep.equal(nested(256));
      const deep = await refusal('LIMIT_EXCEEDED', () => store.set('x', nested(257)));
      expect(deep.details).to.include({ limit: 'depth 256', pointer: '/0'.repeat(256) });
      expect(deep.message).to.contain('256');
      const within = `/${Array(255).fill('0').join('/')}`;
      await refusal('LIMIT_EXCEEDED', () => store.patch('x', [{ op: 'add', path: `${within}/-`, value: [1] }]));
      expect((await store.get('x', { fresh: true }))?.version).to.equal(1);

      const flat = await stores.open({ limits: { depth: 2 } });
      await flat.set('y', [[1]]);
      expect((await refusal('LIMIT_EXCEEDED', () => flat.set('y', [[[1]]]))).details.limit).to.equal('depth 2');
    });

    it('bytes and characters of an id, at every door', async () => {
      const store = await stores.open();
      const long = await refusal('INVALID_ID', () => store.set(`${'ä'.repeat(256)}x`, 1));
      expect(long.details).to.include({ limit: 'limits.idBytes', expected: 512, found: 513 });
      expect(long.message).to.contain('513').and.contain('512');
      const short = await stores.open({ limits: { idBytes: 3 } });
      await short.set('abc', 1);
      expect((await refusal('INVALID_ID', () => short.get('abcd'))).details).to.include({ expected: 3, found: 4 });

      const bad: unknown[] = ['', 'a\nb', '\u0000', 'a\u007f', '\u0085', 'a\ud800', 7, null, undefined, {}];
      for (const id of bad as string[]) {
        const calls = [
          () => store.set(id, 1),
          () => store.get(id),
          () => store.getMany(['fine', id]),
          () => store.has(id),
          () => store.update(id, () => 1, { initial: 0 }),
          () => store.patch(id, []),
          () => store.delete(id),
          () => store.touch(id, '1h'),
          () => store.watch(id),
          () => store.history(id),
          () => store.verify(id),
          () => store.rawBytes(id),
        ];
        for (const call of calls) await refusal('INVALID_ID', call);
      }
      expect((await refusal('INVALID_ID', () => store.get('a\u0007b'))).message).to.contain('control character');
      expect((await store.list()).items.map(({ id }) => id)).to.deep.equal(['abc']);
    });
  });

  describe('who owns a value', () => {
    it('set neither freezes nor keeps what it was given', async () => {
      const [store, reader] = await stores.pair();
      const given = { list: [{ n: 1 }], o: { a: 1 } };
      const written = store.set('x', given);
      given.list.push({ n: 2 });
      await written;
      expect(unfrozen(given)).to.have.lengthOf(5);
      given.o.a = 2;
      for (const each of [store, reader]) {
        expect((await each.get('x'))?.value).to.deep.equal({ list: [{ n: 1 }], o: { a: 1 } });
      }

      const watched = await watchFromNow(reader, 'x');
      const added = { deep: { n: 1 } };
      await store.patch('x', [{ op: 'add', path: '/added', value: added }]);
      const initial = { list: [] as number[] };
      await store.update('y', () => {}, { initial });
      const returned = { fresh: { n: 1 } };
      await store.update('z', () => returned, { initial: null });
      expect([...unfrozen(added), ...unfrozen(initial), ...unfrozen(returned)]).to.have.lengthOf(6);
      added.deep.n = 2;
      initial.list.push(1);
      returned.fresh.n = 2;
      expect((await watched.version(2)).value).to.have.deep.property('added', { deep: { n: 1 } });
      for (const each of [store, reader]) {
        const values = (await each.getMany(['x', 'y', 'z'])).map((context) => context?.value);
        expect(values).to.deep.equal([
          { list: [{ n: 1 }], o: { a: 1 }, added: { deep: { n: 1 } } },
          { list: [] },
          { fresh: { n: 1 } },
        ]);
      }
    });

    it('what comes out is deeply frozen, wherever it comes from', async () => {
      const [writer, reader] = await stores.pair();
      await writer.set('x', { list: [{ n: [1] }], pad: 'p'.repeat(100) });
      const own = new Watched(writer.watch('x', { fromVersion: 0 }));
      const foreign = new Watched(reader.watch('x', { fromVersion: 0 }));
      await untilReplica(reader, 'x');
      const updated = await writer.update<{ list: unknown[] }>('x', (draft) => {
        draft.list.push({ m: { deep: [] } });
      });
      await writer.patch('x', [{ op: 'add', path: '/new', value: { o: { a: [] } } }]);
      await writer.set('x', { other: [[{ o: {} }]] });
      await Promise.all([own.version(4), foreign.version(4)]);
      const out: unknown[] = [
        updated.value,
        await writer.get('x'),
        await reader.get('x'),
        await reader.get('x', { fresh: true }),
        ...(await reader.getMany(['x'])),
      ];
      for (const { changes } of [own, foreign]) {
        expect(changes.map(({ version }) => version)).to.deep.equal([1, 2, 3, 4]);
        for (const { value, patch } of changes) out.push(value, patch);
      }
      expect(out.flatMap((value) => unfrozen(value))).to.deep.equal([]);
      expect(() => {
        (updated.value as unknown as { list: unknown[] }).list.push(1);
      }).to.throw(TypeError);
    });

    it('with `values: copy` each caller gets a copy to change', async () => {
      const [writer, reader] = await stores.pair({ values: 'copy' });
      await writer.set('x', JSON.parse('{"list":[{"n":1}],"__proto__":{"a":1}}'));
      const text = '{"list":[{"n":1}],"__proto__":{"a":1}}';
      const watched = await watchFromNow(reader, 'x');
      await untilReplica(reader, 'x');
      for (const fresh of [false, true, false]) {
        const context = await reader.get<{ list: { n: number }[] }>('x', { fresh });
        const [many] = await reader.getMany(['x'], { fresh });
        for (const value of [context?.value, many?.value as { list: { n: number }[] }]) {
          expect(JSON.stringify(value)).to.equal(text);
          value?.list.push({ n: 2 });
          value?.list.forEach((item) => {
            item.n = 3;
          });
        }
      }
      const { value } = await writer.update<{ list: unknown[] }>('x', (draft) => {
        draft.list.push(2);
      });
      (value as unknown as { list: unknown[] }).list.push('mine');
      const change = await watched.version(2);
      (change.value as unknown as { list: unknown[] }).list.push('mine');
      for (const store of [writer, reader]) {
        expect(JSON.stringify((await store.get('x'))?.value)).to.equal('{"list":[{"n":1},2],"__proto__":{"a":1}}');
      }
    });
  });
});
