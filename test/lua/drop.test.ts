import { expect } from 'chai';
import { checkpoint, copyKeys, drop, expectSealed, quarantine, repair } from '../helpers/integrity.js';
import { LuaNamespace } from '../helpers/lua.js';
import { cut, edited, sent, stored } from '../helpers/plans.js';

describe('lua/drop.lua', () => {
  let lua: LuaNamespace;
  let newest: string;
  let older: string;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
    ({ newest, older } = copyKeys(lua, 'a'));
    const first = sent(cut('a'.repeat(2000), 100));
    await lua.commit('a', first.document, first.options);
    await checkpoint(lua, 'a', 'z'.repeat(300));
    for (let n = 0; n < 2; n += 1) await delta();
    await checkpoint(lua, 'a', 'z'.repeat(200));
    await lua.published();
  });
  afterEach(() => lua.close());

  async function delta(): Promise<unknown> {
    const before = await stored(lua, 'a');
    const { document, options } = edited(before, [{ at: 0, remove: 0, insert: Buffer.from('b') }], 150, 'chunked');
    return (await lua.commit('a', document, options))[7];
  }
  async function exact(contexts = 1): Promise<void> {
    const { context, log, size } = lua.of('a');
    const { quarantine: _, quarantined: __, ...accounts } = await lua.accounts();
    const checkpoints = await lua.memory(newest, older);
    const bytes = contexts === 0 ? 0 : await lua.memory(context, log, newest, older);
    expect(accounts).to.deep.equal({ bytes, contexts, checkpoints });
    expect(await lua.scores(size)).to.deep.equal(contexts === 0 ? {} : { a: bytes });
  }
  const entries = async (): Promise<string[]> => (await lua.log('a')).map(({ entry }) => entry);
  const versions = (): Promise<(string | null)[]> => Promise.all([newest, older].map((key) => lua.redis.hget(key, 'v')));

  for (const [copies, left, dropped] of [
    ['k', [null, '1'], 1],
    ['j', ['3', null], 1],
    ['kj', [null, null], 2],
  ] as const) {
    it(`lets go of ${copies}: the accounts are exact, and the next commit asks for a checkpoint`, async () => {
      expect(await versions()).to.deep.equal(['3', '1']);
      expect(await drop(lua, 'a', copies)).to.deep.equal(['DROPPED', 0, dropped]);
      expect(await versions()).to.deep.equal(left);
      await exact();
      await expectSealed(lua, 'a');
      expect(await delta()).to.equal(1);
      expect((await checkpoint(lua, 'a', 'anew'))[0]).to.equal('KEPT');
      expect(await delta()).to.equal(0);
      await exact();
      expect((await lua.published()).map(({ text }) => text.split(' ')[1])).to.deep.equal(['splice', 'splice']);
    });
  }

  it('lets go of entries of the log, and of no others', async () => {
    expect(await drop(lua, 'a', '', ['2-0', '9-9'])).to.deep.equal(['DROPPED', 1, 0]);
    expect(await entries()).to.deep.equal(['1-0', '3-0']);
    await exact();
    expect(await delta()).to.equal(1);
    // the last one, too: versions go on from the context
    expect(await drop(lua, 'a', 'kj', ['4-0'])).to.deep.equal(['DROPPED', 1, 2]);
    expect(await delta()).to.equal(1);
    expect(await entries()).to.deep.equal(['1-0', '3-0', '5-0']);
    await exact();
  });

  it('versions go on from what was dropped, whatever has become of the context', async () => {
    await drop(lua, 'a', 'kj', await entries());
    expect(await entries()).to.deep.equal([]);
    await lua.makeExpired('a');
    expect((await lua.expire()).slice(3)).to.deep.equal([0, 'a', 3]);
    expect(await entries()).to.deep.equal(['3-1']);
    await drop(lua, 'a', '', ['3-1']);
    expect((await lua.commit('a', '4'))[1]).to.equal(4);
    await drop(lua, 'a', '', ['4-0']);
    expect((await lua.delete('a')).slice(0, 2)).to.deep.equal(['DELETED', 5]);
    await drop(lua, 'a', '', ['5-0']);
    expect((await lua.commit('a', '6', { ttl: 60_000 }))[1]).to.equal(6);
    // an older context was put back, and what was ahead of it was damaged
    const older = await lua.redis.hgetall(lua.of('a').context);
    await lua.commit('a', '7');
    await drop(lua, 'a', '', ['7-0']);
    await lua.redis.hset(lua.of('a').context, older);
    expect((await lua.commit('a', '8'))[1]).to.equal(8);
    await expectSealed(lua, 'a');
  });

  it('a repair after it has an entry of its own', async () => {
    await drop(lua, 'a', '', ['3-0']);
    expect((await repair(lua, 'a', '"good"', { version: 3 }))[0]).to.equal('REPAIRED');
    expect(await entries()).to.deep.equal(['1-0', '2-0', '3-1']);
    await drop(lua, 'a', '', ['3-1']);
    expect((await repair(lua, 'a', '"good"', { version: 3 }))[0]).to.equal('REPAIRED');
    expect(await entries()).to.deep.equal(['1-0', '2-0', '3-2']);
    await expectSealed(lua, 'a');
  });

  it('does nothing where there is none of them', async () => {
    const before = await lua.snapshot();
    expect(await lua.refused(() => drop(lua, 'a', '', ['9-0']))).to.deep.equal(['DROPPED', 0, 0]);
    expect(await lua.refused(() => drop(lua, 'b', 'kj', ['1-0']))).to.deep.equal(['DROPPED', 0, 0]);
    expect(await lua.snapshot()).to.deep.equal(before);
  });

  it('leaves a stub in quarantine as it is', async () => {
    await lua.redis.hset(lua.of('a').context, 'crc', '7');
    await quarantine(lua, 'a', 'put');
    const stub = await lua.fields('a');
    expect(await drop(lua, 'a', 'kj', ['3-0'])).to.deep.equal(['DROPPED', 1, 2]);
    expect(await lua.fields('a')).to.deep.equal(stub);
    await exact();
  });

  it('of a context that is lost', async () => {
    await lua.redis.del(lua.of('a').context);
    await drop(lua, 'a', 'k', ['3-0']);
    await exact();
    expect(await lua.redis.exists(lua.of('a').context)).to.equal(0);
  });

  it('of one that was deleted counts no context', async () => {
    await lua.delete('a');
    expect(await drop(lua, 'a', 'kj', ['3-0'])).to.deep.equal(['DROPPED', 1, 0]);
    await exact(0);
  });
});
