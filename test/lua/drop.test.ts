import { expect } from 'chai';
import {
  checkpoint,
  copyKeys,
  damageCopies,
  damageEntries,
  drop,
  expectSealed,
  quarantine,
  repair,
} from '../helpers/integrity.js';
import { LuaNamespace, type Reply } from '../helpers/lua.js';
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
  /** Damages entries and lets go of them. */
  async function dropEntries(...ids: string[]): Promise<Reply> {
    await damageEntries(lua, 'a', ids);
    return drop(lua, 'a', '', ids);
  }
  const versions = (): Promise<(string | null)[]> => Promise.all([newest, older].map((key) => lua.redis.hget(key, 'v')));

  for (const [copies, left, dropped] of [
    ['k', [null, '1'], 1],
    ['j', ['3', null], 1],
    ['kj', [null, null], 2],
  ] as const) {
    it(`lets go of ${copies}: the accounts are exact, and the next commit asks for a checkpoint`, async () => {
      expect(await versions()).to.deep.equal(['3', '1']);
      await damageCopies(lua, 'a', copies);
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
    await damageEntries(lua, 'a', ['2-0']);
    expect(await drop(lua, 'a', '', ['2-0', '9-9'])).to.deep.equal(['DROPPED', 1, 0]);
    expect(await entries()).to.deep.equal(['1-0', '3-0']);
    await exact();
    expect(await delta()).to.equal(1);
    // the last one, too: versions go on from the context
    await damageEntries(lua, 'a', ['4-0']);
    await damageCopies(lua, 'a', 'kj');
    expect(await drop(lua, 'a', 'kj', ['4-0'])).to.deep.equal(['DROPPED', 1, 2]);
    expect(await delta()).to.equal(1);
    expect(await entries()).to.deep.equal(['1-0', '3-0', '5-0']);
    await exact();
  });

  it('versions go on from what was dropped, whatever has become of the context', async () => {
    expect((await dropEntries(...(await entries()))).slice(1)).to.deep.equal([3, 0]);
    expect(await entries()).to.deep.equal([]);
    await lua.makeExpired('a');
    expect((await lua.expire()).slice(3)).to.deep.equal([0, 'a', 3]);
    expect(await entries()).to.deep.equal(['3-1']);
    expect((await dropEntries('3-1'))[1]).to.equal(1);
    expect((await lua.commit('a', '4'))[1]).to.equal(4);
    expect((await dropEntries('4-0'))[1]).to.equal(1);
    expect((await lua.delete('a')).slice(0, 2)).to.deep.equal(['DELETED', 5]);
    expect((await dropEntries('5-0'))[1]).to.equal(1);
    expect((await lua.commit('a', '6', { ttl: 60_000 }))[1]).to.equal(6);
    // an older context was put back, and what was ahead of it was damaged
    const older = await lua.redis.hgetall(lua.of('a').context);
    await lua.commit('a', '7');
    expect((await dropEntries('7-0'))[1]).to.equal(1);
    await lua.redis.hset(lua.of('a').context, older);
    expect((await lua.commit('a', '8'))[1]).to.equal(8);
    await expectSealed(lua, 'a');
  });

  it('a repair after it has an entry of its own', async () => {
    expect((await dropEntries('3-0'))[1]).to.equal(1);
    expect((await repair(lua, 'a', '"good"', { version: 3 }))[0]).to.equal('REPAIRED');
    expect(await entries()).to.deep.equal(['1-0', '2-0', '3-1']);
    expect((await dropEntries('3-1'))[1]).to.equal(1);
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
    await damageEntries(lua, 'a', ['3-0']);
    await damageCopies(lua, 'a', 'kj');
    expect(await drop(lua, 'a', 'kj', ['3-0'])).to.deep.equal(['DROPPED', 1, 2]);
    expect(await lua.fields('a')).to.deep.equal(stub);
    await exact();
  });

  it('of a context that is lost', async () => {
    await lua.redis.del(lua.of('a').context);
    await damageEntries(lua, 'a', ['3-0']);
    await damageCopies(lua, 'a', 'k');
    expect(await drop(lua, 'a', 'k', ['3-0'])).to.deep.equal(['DROPPED', 1, 1]);
    await exact();
    expect(await lua.redis.exists(lua.of('a').context)).to.equal(0);
  });

  it('of one that was deleted counts no context', async () => {
    await lua.delete('a');
    await damageEntries(lua, 'a', ['3-0']);
    expect(await drop(lua, 'a', 'kj', ['3-0'])).to.deep.equal(['DROPPED', 1, 0]);
    await exact(0);
  });

  it('leaves what is sound: nobody but Redis says what is damaged', async () => {
    await repair(lua, 'a', '"good"', { version: 3 });
    await lua.commit('a', '4', { kind: 'full', encoding: 'gz', patch: { text: 'packed', baseVersion: 0, baseCrc: '-' } });
    await lua.commit('a', '5');
    await lua.published();
    const all = await entries();
    expect(all).to.deep.equal(['1-0', '2-0', '3-0', '3-1', '4-0', '5-0']);
    for (const sealed of [0, 1] as const)
      expect(await lua.refused(() => drop(lua, 'a', 'kj', all, sealed))).to.deep.equal(['DROPPED', 0, 0]);
    // beside those that are damaged, too
    await damageEntries(lua, 'a', ['2-0', '4-0']);
    await damageCopies(lua, 'a', 'j');
    expect(await drop(lua, 'a', 'kj', all)).to.deep.equal(['DROPPED', 2, 1]);
    expect(await entries()).to.deep.equal(['1-0', '3-0', '3-1', '5-0']);
    expect(await versions()).to.deep.equal(['3', null]);
    await exact();
    await lua.delete('a');
    expect(await lua.refused(() => drop(lua, 'a', 'kj', ['6-0']))).to.deep.equal(['DROPPED', 0, 0]);
  });

  it('lets go of an entry whatever field of it is damaged, or gone', async () => {
    const fields = ['kind', 'enc', 'frame', 'base', 'crc', 'sha', 'len', 'at', 'exp', 'op', 'by', 'sum'];
    for (const value of ['x', null]) {
      for (const field of fields) {
        await lua.commit('a', '"whole"');
        await delta();
        const last = (await entries()).at(-1) ?? '';
        const before = (await lua.log('a')).length;
        // an entry in which a field is not there at all loses nothing; no expiry is what `-` says
        const word = (await lua.log('a')).at(-1)?.[field];
        const has = word !== undefined && !(value === null && word === '-');
        await damageEntries(lua, 'a', [last], field, value);
        expect(await drop(lua, 'a', '', [last]), `${field} ${value}`).to.deep.equal(['DROPPED', has ? 1 : 0, 0]);
        expect((await lua.log('a')).length).to.equal(before - (has ? 1 : 0));
        await exact();
      }
    }
  });

  it('lets go of a whole document that has a right sum, but other bytes or another length', async () => {
    await lua.commit('a', '"whole"');
    await damageEntries(lua, 'a', ['4-0'], 'frame', '"Whole"');
    expect(await drop(lua, 'a', '', ['4-0'])).to.deep.equal(['DROPPED', 1, 0]);
    await lua.commit('a', '"whole"');
    await damageEntries(lua, 'a', ['5-0'], 'frame', '"whole" ');
    expect(await drop(lua, 'a', '', ['5-0'])).to.deep.equal(['DROPPED', 1, 0]);
    await exact();
  });

  it('lets go of an entry without a sum only where every entry has one', async () => {
    await damageEntries(lua, 'a', ['2-0'], 'sum', null);
    expect(await lua.refused(() => drop(lua, 'a', '', ['2-0'], 0))).to.deep.equal(['DROPPED', 0, 0]);
    expect(await drop(lua, 'a', '', ['2-0'], 1)).to.deep.equal(['DROPPED', 1, 0]);
    await exact();
  });

  it('lets go of a copy whatever field of it is damaged, or gone', async () => {
    const { size, mem, context, log } = lua.of('a');
    const kept = await lua.redis.hgetallBuffer(newest);
    for (const field of ['v', 'crc', 'sha', 'len', 'at', 'exp', 'seal', 'z', 'zsum']) {
      for (const damage of [() => lua.redis.hset(newest, field, 'x'), () => lua.redis.hdel(newest, field)]) {
        await lua.redis.hset(newest, kept);
        const changed = await lua.redis.hget(newest, field);
        await damage();
        // a table that has just grown moves on with every look
        await lua.redis.hmget(newest, ...Array.from({ length: 100 }, (_, n) => `f${n}`));
        const bytes = await lua.memory(context, log, newest, older);
        await lua.redis.zadd(size, bytes, 'a');
        await lua.redis.hset(mem, { bytes, checkpoints: await lua.memory(newest, older) });
        const has = changed !== null || (await lua.redis.hexists(newest, field)) === 1;
        expect((await drop(lua, 'a', 'k'))[2], field).to.equal(has ? 1 : 0);
        if (has) expect(await versions()).to.deep.equal([null, '1']);
        await exact();
      }
    }
    // and put back as it was, it is sound again
    await lua.redis.hset(newest, kept);
    expect(await drop(lua, 'a', 'kj')).to.deep.equal(['DROPPED', 0, 0]);
    expect(await versions()).to.deep.equal(['3', '1']);
  });
});
