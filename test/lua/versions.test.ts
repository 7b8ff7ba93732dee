import { expect } from 'chai';
import { crc32Hex } from '../../src/core/checksum.js';
import { quarantine, repair } from '../helpers/integrity.js';
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

  describe('says that one is lost', () => {
    const NONE = ['', '', ''];
    const LOST = ['', 'lost', ''];
    const ask = async (...ids: string[]): Promise<unknown[]> => (await lua.refused(() => lua.versions(...ids))).slice(2);
    const lose = (id: string): Promise<number> => lua.redis.del(lua.of(id).context);

    it('where its log says that it should be there, among others that are and that are not', async () => {
      const ids = ['a', 'b', 'ü {x}:c:y', '}:c:}:c:'];
      for (const id of ids) await lua.commit(id, '1');
      for (const id of ids.slice(1)) await lose(id);
      expect(await ask('nothing', ...ids, 'a')).to.deep.equal([
        ...NONE,
        ...['1', crc32Hex('1'), ''],
        ...[...LOST, ...LOST, ...LOST],
        ...['1', crc32Hex('1'), ''],
      ]);
    });

    it('where it expires later by the index, and not from that ms on', async () => {
      await lua.commit('a', '1', { ttl: 60_000 });
      await lose('a');
      expect(await ask('a')).to.deep.equal(LOST);
      const due = (await lua.scores(lua.shard.exp)).a ?? 0;
      for (const [at, answer] of [
        [due - 1, LOST],
        [due, NONE],
        [due + 60_001, NONE],
      ] as const)
        expect((await lua.when(at, () => lua.versions('a'))).slice(2), `${at - due} ms after`).to.deep.equal(answer);
    });

    it('where a touch gave it another expiry than its log tells of', async () => {
      await lua.commit('a', '1');
      await lua.touch('a', 60_000);
      await lose('a');
      expect(await ask('a')).to.deep.equal(LOST);
      await lua.redis.zadd(lua.shard.exp, (await lua.now()) - 1, 'a');
      expect(await ask('a')).to.deep.equal(NONE);
      await lua.commit('b', '1', { ttl: 60_000 });
      await lua.touch('b', 'none');
      await lose('b');
      expect(await ask('b')).to.deep.equal(LOST);
    });

    it('not where Redis has removed it by itself after its time, before a sweep or after it', async () => {
      await lua.commit('a', '1', { ttl: 60_000 });
      await lua.makeExpired('a');
      await lua.redis.pexpire(lua.of('a').context, 1);
      await lua.passed((await lua.now()) + 2);
      expect(await lua.redis.exists(lua.of('a').context)).to.equal(0);
      expect(await ask('a')).to.deep.equal(NONE);
      await lua.expire();
      expect(await ask('a')).to.deep.equal(NONE);
    });

    it('not where it was deleted, whether its log has its time or not', async () => {
      await lua.commit('a', '1', { ttl: 60_000 });
      await lua.delete('a');
      expect(await ask('a')).to.deep.equal(NONE);
      await lua.redis.persist(lua.of('a').log);
      expect(await ask('a')).to.deep.equal(NONE);
    });

    it('not where the index knows of no expiry, and the log will go: somebody has let go of it', async () => {
      await lua.commit('a', '1');
      await lose('a');
      await lua.redis.pexpire(lua.of('a').log, 60_000);
      expect(await ask('a')).to.deep.equal(NONE);
    });

    it('not where its log is gone too, and not where anything is left of its hash', async () => {
      await lua.commit('a', '1');
      await lose('a');
      await lua.redis.hset(lua.of('a').context, 'op', 'x');
      expect(await ask('a')).to.deep.equal(NONE);
      await lua.redis.del(lua.of('a').context, lua.of('a').log);
      await lua.redis.zadd(lua.shard.exp, (await lua.now()) + 60_000, 'a');
      expect(await ask('a')).to.deep.equal(NONE);
    });

    it('no more once it is there again, or a stub is', async () => {
      for (const id of ['a', 'b']) {
        await lua.commit(id, '1');
        await lose(id);
      }
      await repair(lua, 'a', '1');
      expect((await quarantine(lua, 'b', 'put'))[0]).to.equal('QUARANTINED');
      expect(await ask('a', 'b')).to.deep.equal(['1', crc32Hex('1'), '', '1', '-', '']);
    });
  });
});
