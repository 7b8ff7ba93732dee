import { expect } from 'chai';
import { crc32Hex } from '../../src/core/checksum.js';
import { LuaNamespace, type Reply } from '../helpers/lua.js';
import { commit, finish, prepare, validate } from '../helpers/transactions.js';

describe('lua/validate.lua', () => {
  let lua: LuaNamespace;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
    await lua.commit('a', '"one"', { ttl: 60_000 });
    await lua.commit('b', '"b"');
    await lua.commit('deleted', '1');
    await lua.delete('deleted');
  });
  afterEach(() => lua.close());

  const ONE = crc32Hex('"one"');
  const ask = (...reads: Parameters<typeof validate> extends [unknown, ...infer R] ? R : never): Promise<Reply> =>
    lua.refused(() => validate(lua, ...reads));

  it('VALID where all is as it was read', async () => {
    expect(await ask(['a', 1, ONE], ['b', 1], ['deleted', 0], ['never', 0], ['never', 0, 'any'])).to.deep.equal(['VALID']);
    expect(await ask()).to.deep.equal(['VALID']);
  });

  it('REFUSED with CONFLICT, and which it was, by version, checksum, and what is there or is not', async () => {
    for (const [read, words] of [
      [
        ['a', 2, ONE],
        [1, ONE],
      ],
      [
        ['a', 1, crc32Hex('"two"')],
        [1, ONE],
      ],
      [
        ['a', 0],
        [1, ONE],
      ],
      [
        ['deleted', 1],
        [0, '-'],
      ],
      [
        ['deleted', 2],
        [0, '-'],
      ],
      [
        ['never', 1, ONE],
        [0, '-'],
      ],
    ] as const) {
      expect(await ask(read, ['b', 1])).to.deep.equal(['REFUSED', 1, 'CONFLICT', ...words]);
      expect(await ask(['b', 1], ['never', 0], read)).to.deep.equal(['REFUSED', 3, 'CONFLICT', ...words]);
    }
  });

  it('by a new version, a deletion, and one that came back with other content', async () => {
    await lua.commit('b', '"b"');
    expect(await ask(['a', 1], ['b', 1])).to.deep.equal(['REFUSED', 2, 'CONFLICT', 2, crc32Hex('"b"')]);
    await lua.delete('b');
    expect(await ask(['b', 2])).to.deep.equal(['REFUSED', 1, 'CONFLICT', 0, '-']);
    await lua.redis.del(lua.of('b').log);
    await lua.commit('b', '"other"');
    expect(await ask(['b', 1])).to.deep.equal(['VALID']);
    expect((await ask(['b', 1, crc32Hex('"b"')]))[2]).to.equal('CONFLICT');
  });

  it('a touch changes nothing that was read', async () => {
    await lua.touch('a', 90_000);
    expect(await ask(['a', 1, ONE])).to.deep.equal(['VALID']);
  });

  it('from the millisecond of its expiry on it is absent', async () => {
    const exp = Number((await lua.fields('a')).exp);
    const at = (ms: number, version: number): Promise<Reply> => lua.when(ms, () => ask(['a', version]));
    expect([await at(exp - 1, 1), await at(exp, 0)]).to.deep.equal([['VALID'], ['VALID']]);
    expect(await at(exp - 1, 0)).to.deep.equal(['REFUSED', 1, 'CONFLICT', 1, ONE]);
    expect(await at(exp, 1)).to.deep.equal(['REFUSED', 1, 'CONFLICT', 0, '-']);
  });

  it('REFUSED with LOCKED by what another is about to write or create, until that is settled', async () => {
    const part = { txn: 'other', deadline: (await lua.now()) + 60_000, part: 2, parts: [7, 1, 0] };
    await prepare(lua, part, [commit('b', '1'), commit('never', '1')]);
    for (const at of [part.deadline, part.deadline + 1]) {
      for (const id of ['b', 'never'])
        for (const version of [0, 1, 9])
          expect(await lua.when(at, () => ask(['deleted', 0], [id, version]))).to.deep.equal([
            ...['REFUSED', 2, 'LOCKED', 'other', part.deadline, 2, 7],
          ]);
    }
    await finish(lua, part, 'abort');
    expect(await ask(['b', 1], ['never', 0])).to.deep.equal(['VALID']);
  });

  it('an intent that is malformed is none', async () => {
    await lua.redis.hset(lua.of('b').context, 'intent', 'other soon');
    expect(await ask(['b', 1])).to.deep.equal(['VALID']);
  });
});
