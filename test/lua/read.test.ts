import { expect } from 'chai';
import { crc32Hex } from '../../src/core/checksum.js';
import { LuaNamespace } from '../helpers/lua.js';

describe('lua/read.lua', () => {
  let lua: LuaNamespace;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
  });
  afterEach(() => lua.close());

  const read = (id: string): Promise<(string | number | null)[]> => lua.refused(() => lua.run('read', [lua.of(id).context], []));

  it('FOUND: one that does not expire', async () => {
    await lua.commit('a', '"first"');
    const [, , at] = await lua.commit('a', '"second"');
    expect(await read('a')).to.deep.equal(['FOUND', '"second"', '2', crc32Hex('"second"'), '8', String(at), null]);
  });

  it('FOUND: one that has not expired yet', async () => {
    const [, , at, , , exp] = await lua.commit('a', '1', { ttl: 60_000 });
    expect(await read('a')).to.deep.equal(['FOUND', '1', '1', crc32Hex('1'), '1', String(at), String(exp)]);
  });

  it('FOUND: the bytes as they are', async () => {
    const document = Buffer.from([0, 0x22, 0xff, 0xc3, 0x0d, 0x0a, 0]);
    await lua.commit('a', document);
    const reply = (await lua.runRaw('read', [lua.of('a').context], [])) as Buffer[];
    expect(reply[1]?.equals(document)).to.equal(true);
  });

  it('FOUND: what is stored, damaged or not; the client verifies it', async () => {
    await lua.commit('a', '"one"');
    await lua.redis.hset(lua.of('a').context, 'data', '"two"');
    expect((await read('a')).slice(0, 4)).to.deep.equal(['FOUND', '"two"', '1', crc32Hex('"one"')]);
  });

  it('ABSENT with the time: nothing there, deleted, expired', async () => {
    await lua.commit('deleted', '1');
    await lua.delete('deleted');
    await lua.commit('expired', '1', { ttl: 60_000 });
    await lua.makeExpired('expired', 0);
    for (const id of ['nothing', 'deleted', 'expired']) {
      const before = await lua.now();
      const reply = await read(id);
      expect(reply, id).to.have.length(2);
      expect(reply[0], id).to.equal('ABSENT');
      expect(reply[1], id).to.be.within(before, await lua.now());
    }
  });

  it('ABSENT from the very millisecond of the expiry', async () => {
    const [, , , , , exp] = await lua.commit('a', '1', { ttl: 3 });
    await lua.passed(Number(exp) - 1);
    expect((await read('a'))[0]).to.equal('ABSENT');
  });
});
