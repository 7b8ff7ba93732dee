import { expect } from 'chai';
import { crc32Hex } from '../../src/core/checksum.js';
import { sumFor } from '../helpers/integrity.js';
import { LuaNamespace, TOMBSTONE_MS } from '../helpers/lua.js';
import { headerOf } from './commitFrame.js';

describe('lua/delete.lua', () => {
  let lua: LuaNamespace;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
  });
  afterEach(() => lua.close());

  describe('DELETED', () => {
    it('leaves a tombstone in the log and nothing else of the context', async () => {
      await lua.commit('kept', '"kept"', { ttl: 60_000 });
      const { bytes } = await lua.accounts();
      await lua.commit('a', '"one"');
      await lua.commit('a', '"two"', { ttl: 60_000, fence: 3 });
      await lua.published();

      const before = await lua.now();
      const reply = await lua.delete('a', { op: 'op-3', by: 'deleter' });
      const { context, log, channel, exp, use, size } = lua.of('a');
      const at = Number(reply[2]);
      expect(reply).to.deep.equal(['DELETED', 3, at]);
      expect(at).to.be.within(before, await lua.now());

      expect(await lua.redis.exists(context)).to.equal(0);
      const entries = await lua.log('a');
      expect(entries.map(({ entry, kind }) => `${entry} ${kind}`)).to.deep.equal(['1-0 full', '2-0 full', '3-0 deleted']);
      const tombstone = {
        entry: '3-0',
        kind: 'deleted',
        frame: '',
        base: '-',
        crc: '-',
        sha: '-',
        len: '0',
        op: 'op-3',
        by: 'deleter',
        at: String(at),
        exp: '-',
      };
      expect(entries[2]).to.deep.equal({ ...tombstone, sum: sumFor('a', tombstone) });
      expect(await lua.nativeExpiry(log)).to.be.within(at + TOMBSTONE_MS, at + TOMBSTONE_MS + 5);
      for (const index of [exp, use, size]) expect(await lua.ids(index), index).to.deep.equal(['kept']);
      expect(await lua.accounts()).to.deep.include({ bytes, contexts: 1 });
      expect(await lua.published()).to.deep.equal([
        { channel, text: headerOf(`lc2 deleted - 0 3 - 0 2 ${crc32Hex('"two"')} ${at} - op-3 deleter `) },
      ]);
    });

    it('leaves empty accounts behind the last one', async () => {
      await lua.commit('a', '"one"', { ttl: 60_000 });
      await lua.delete('a');
      expect(await lua.accounts()).to.deep.include({ bytes: 0, contexts: 0 });
      const { log, mem } = lua.of('a');
      expect(Object.keys(await lua.snapshot()).sort()).to.deep.equal([log, mem].sort());
    });

    it('with ifVersion and ifCrc that are right', async () => {
      await lua.commit('a', '"one"');
      expect((await lua.delete('a', { ifVersion: 1, ifCrc: crc32Hex('"one"') }))[0]).to.equal('DELETED');
    });

    it('goes on from a log that is ahead of the context', async () => {
      await lua.commit('a', '"one"');
      const first = await lua.redis.hgetall(lua.of('a').context);
      await lua.commit('a', '"two"');
      await lua.redis.hset(lua.of('a').context, first);
      await lua.published();
      const reply = await lua.delete('a', { op: 'op' });
      expect(reply.slice(0, 2)).to.deep.equal(['DELETED', 3]);
      expect((await lua.log('a')).at(-1)?.entry).to.equal('3-0');
      const words = `lc2 deleted - 0 3 - 0 2 ${crc32Hex('"one"')} ${reply[2]} - op tester `;
      expect((await lua.published())[0]?.text).to.equal(headerOf(words));
    });

    it('where the log is gone, with a new one', async () => {
      await lua.commit('a', '"one"');
      await lua.commit('a', '"two"');
      await lua.redis.del(lua.of('a').log);
      expect((await lua.delete('a')).slice(0, 2)).to.deep.equal(['DELETED', 3]);
      expect((await lua.log('a')).map(({ entry, kind }) => `${entry} ${kind}`)).to.deep.equal(['3-0 deleted']);
    });
  });

  describe('ABSENT', () => {
    it('where there is nothing', async () => {
      expect(await lua.refused(() => lua.delete('a'))).to.deep.equal(['ABSENT']);
      expect(await lua.refused(() => lua.delete('a', { ifVersion: 0 }))).to.deep.equal(['ABSENT']);
    });

    it('where it was deleted', async () => {
      await lua.commit('a', '1');
      await lua.delete('a');
      expect(await lua.refused(() => lua.delete('a'))).to.deep.equal(['ABSENT']);
    });

    it('where it has expired; the sweep says that to subscribers', async () => {
      await lua.commit('a', '1', { ttl: 60_000 });
      await lua.makeExpired('a', 0);
      expect(await lua.refused(() => lua.delete('a'))).to.deep.equal(['ABSENT']);
    });
  });

  describe('CONFLICT', () => {
    beforeEach(() => lua.commit('a', '"one"'));

    it('by version, with the current one', async () => {
      for (const ifVersion of [0, 2])
        expect(await lua.refused(() => lua.delete('a', { ifVersion }))).to.deep.equal(['CONFLICT', 1, crc32Hex('"one"')]);
    });

    it('by checksum', async () => {
      const reply = await lua.refused(() => lua.delete('a', { ifVersion: 1, ifCrc: crc32Hex('"other"') }));
      expect(reply).to.deep.equal(['CONFLICT', 1, crc32Hex('"one"')]);
    });

    it('where there is nothing, or nothing any more', async () => {
      expect(await lua.refused(() => lua.delete('b', { ifVersion: 1 }))).to.deep.equal(['CONFLICT', 0, '-']);
      await lua.commit('c', '1', { ttl: 60_000 });
      await lua.makeExpired('c');
      expect(await lua.refused(() => lua.delete('c', { ifVersion: 1 }))).to.deep.equal(['CONFLICT', 0, '-']);
    });
  });

  it('FENCED for an older token, not for the same one, a newer one or none', async () => {
    for (const [fence, status] of [
      [6, 'FENCED'],
      [7, 'DELETED'],
      [8, 'DELETED'],
      [0, 'DELETED'],
    ] as const) {
      await lua.commit('a', '1', { fence: 7 });
      if (status === 'FENCED') expect(await lua.refused(() => lua.delete('a', { fence }))).to.deep.equal(['FENCED', '7']);
      else expect((await lua.delete('a', { fence }))[0], `with token ${fence}`).to.equal('DELETED');
    }
  });

  it('LOCKED by an intent, whether its deadline has passed or not', async () => {
    await lua.commit('a', '1');
    const deadline = (await lua.now()) + 60_000;
    await lua.redis.hset(lua.of('a').context, 'intent', `txn-7 ${deadline} 1 0`);
    expect(await lua.refused(() => lua.delete('a'))).to.deep.equal(['LOCKED', 'txn-7', deadline, 1, 0]);
    await lua.redis.hset(lua.of('a').context, 'intent', `txn-7 ${(await lua.now()) - 1} 1 0`);
    expect((await lua.refused(() => lua.delete('a')))[0]).to.equal('LOCKED');
  });
});
