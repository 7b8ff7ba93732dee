import { expect } from 'chai';
import { crc32Hex } from '../../src/core/checksum.js';
import { LuaNamespace } from '../helpers/lua.js';

describe('lua/versions.lua', () => {
  let lua: LuaNamespace;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
  });
  afterEach(() => lua.close());

  it('answers version, checksum and expiry of each, in the order of the keys; empty strings for those that are not there', async () => {
    await lua.commit('a', '"first"');
    await lua.commit('a', '"second"');
    const [, , , , , exp] = await lua.commit('expiring', '1', { ttl: 60_000 });
    await lua.commit('deleted', '1');
    await lua.delete('deleted');
    await lua.commit('expired', '1', { ttl: 60_000 });
    await lua.makeExpired('expired', 0);

    const before = await lua.now();
    const reply = await lua.refused(() => lua.versions('nothing', 'a', 'deleted', 'expiring', 'expired', 'a'));
    const now = Number(reply[1]);
    expect(now).to.be.within(before, await lua.now());
    const none = ['', '', ''];
    const second = ['2', crc32Hex('"second"'), ''];
    expect(reply).to.deep.equal([
      ...['VERSIONS', now],
      ...none,
      ...second,
      ...none,
      ...['1', crc32Hex('1'), String(exp)],
      ...none,
      ...second,
    ]);
  });

  it('answers the time alone for no keys', async () => {
    const reply = await lua.versions();
    expect(reply).to.have.length(2);
    expect(reply[0]).to.equal('VERSIONS');
  });

  it('answers for some hundred at once', async () => {
    const ids = Array.from({ length: 500 }, (_, index) => `id-${index}`);
    await Promise.all(ids.filter((_, index) => index % 2 === 0).map((id) => lua.commit(id, `"${id}"`)));
    const reply = await lua.versions(...ids);
    expect(reply).to.have.length(2 + 3 * ids.length);
    for (const [index, id] of ids.entries()) {
      const expected = index % 2 === 0 ? ['1', crc32Hex(`"${id}"`), ''] : ['', '', ''];
      expect(reply.slice(2 + 3 * index, 5 + 3 * index), id).to.deep.equal(expected);
    }
  });
});
