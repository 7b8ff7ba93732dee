import { expect } from 'chai';
import {
  checkpoint,
  copyKeys,
  damageDocument,
  FINGERPRINTED,
  fingerprint,
  gone,
  quarantine,
  sumFor,
} from '../helpers/integrity.js';
import { LuaNamespace, type Reply, TOMBSTONE_MS } from '../helpers/lua.js';
import { cut, sent } from '../helpers/plans.js';

describe('lua/gone.lua', () => {
  let lua: LuaNamespace;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
  });
  afterEach(() => lua.close());

  /** What a failover leaves that had the log's last entry, but not the context's removal. */
  async function ghost(
    end: () => Promise<unknown> = () => lua.delete('a'),
    make: () => Promise<unknown> = () => lua.commit('a', '1', { ttl: 60_000 }),
  ): Promise<void> {
    const { context, exp, use, size, mem } = lua.of('a');
    const { newest, older } = copyKeys(lua, 'a');
    await make();
    await checkpoint(lua, 'a', 'first');
    const fields = new Map(Object.entries(await lua.redis.hgetallBuffer(context)));
    const copy = new Map(Object.entries(await lua.redis.hgetallBuffer(newest)));
    const [due, uses] = [await lua.scores(exp), await lua.scores(use)];
    await end();
    await lua.redis.hset(context, fields);
    await lua.redis.hset(newest, copy);
    await lua.redis.hset(older, copy);
    if (due.a !== undefined) await lua.redis.zadd(exp, due.a, 'a');
    await lua.redis.zadd(use, uses.a ?? 1, 'a');
    const bytes = await lua.memory(context, lua.of('a').log, newest, older);
    await lua.redis.zadd(size, bytes, 'a');
    await lua.redis.hset(mem, { bytes, contexts: 1, checkpoints: await lua.memory(newest, older) });
    await lua.published();
  }

  /** Takes it away, and checks that nothing of it is left but its log, as it was. */
  async function removed(version: number): Promise<void> {
    const { context, log, exp, use, size } = lua.of('a');
    const { newest, older } = copyKeys(lua, 'a');
    const entries = await lua.log('a');
    const before = await lua.accounts();
    const from = await lua.now();
    expect(await gone(lua, 'a')).to.deep.equal(['REMOVED', version]);
    expect(await lua.log('a')).to.deep.equal(entries);
    expect(await lua.nativeExpiry(log)).to.be.within(from + TOMBSTONE_MS, (await lua.now()) + TOMBSTONE_MS);
    expect(await lua.redis.exists(context, newest, older)).to.equal(0);
    for (const index of [exp, use, size]) expect(await lua.ids(index)).to.deep.equal([]);
    expect(await lua.accounts()).to.deep.equal({ ...before, bytes: 0, contexts: 0, checkpoints: 0 });
    expect(await lua.published()).to.deep.equal([]);
  }

  it('takes away what was deleted: the log says so, and nobody is told again', async () => {
    await ghost();
    await removed(2);
    expect((await lua.commit('a', '3')).slice(0, 2)).to.deep.equal(['COMMITTED', 3]);
  });

  it('takes away what has expired', async () => {
    await ghost(async () => {
      await lua.makeExpired('a');
      await lua.expire();
    });
    expect((await lua.log('a')).at(-1)?.entry).to.equal('1-1');
    await removed(1);
    expect((await lua.commit('a', '2'))[1]).to.equal(2);
  });

  it('in chunks, without an expiry, without a place in the indexes', async () => {
    const planned = sent(cut('x'.repeat(600), 20));
    await ghost(undefined, () => lua.commit('a', planned.document, planned.options));
    await removed(2);
    await lua.redis.hset(lua.of('a').context, 'v', 1);
    await removed(2);
  });

  it('whatever is damaged of it', async () => {
    for (const field of FINGERPRINTED.filter((name) => name !== 'q')) {
      await lua.redis.del(lua.of('a').log);
      await ghost();
      await lua.redis.hset(lua.of('a').context, field, 'x');
      await removed(2);
      await lua.redis.del(lua.of('a').log);
      await ghost();
      await lua.redis.hdel(lua.of('a').context, field);
      await removed(2);
    }
  });

  it('keeps what is in quarantine of it', async () => {
    await lua.commit('a', '"first"');
    await damageDocument(lua, 'a');
    await quarantine(lua, 'a', 'put');
    const { moved } = copyKeys(lua, 'a');
    const before = await lua.redis.hgetall(moved);
    await ghost();
    await removed(3);
    expect(await lua.redis.hgetall(moved)).to.deep.equal(before);
    expect(await lua.accounts()).to.deep.include({ quarantine: await lua.memory(moved), quarantined: 1 });
  });

  it('writes no tombstone, in neither protocol: there is one', async () => {
    for (const protocol of [1, 2] as const) {
      await lua.redis.del(lua.of('a').log);
      await ghost();
      expect(await gone(lua, 'a', { protocol })).to.deep.equal(['REMOVED', 2]);
      const [, last, ...more] = await lua.log('a');
      expect(more).to.deep.equal([]);
      if (last === undefined) throw new Error('there is no tombstone');
      expect(last.sum).to.equal(sumFor('a', last));
    }
  });

  describe('CHANGED', () => {
    const refused = async (print: string): Promise<Reply> => lua.refused(() => gone(lua, 'a', { print }));

    for (const field of FINGERPRINTED) {
      it(`where ${field} is another than that which was found`, async () => {
        await ghost();
        const print = await fingerprint(lua, 'a');
        await lua.redis.hset(lua.of('a').context, field, '7');
        expect(await refused(print)).to.deep.equal(['CHANGED']);
      });
    }

    it('where somebody has written it since', async () => {
      await ghost();
      const print = await fingerprint(lua, 'a');
      expect((await lua.commit('a', '3'))[1]).to.equal(3);
      expect(await refused(print)).to.deep.equal(['CHANGED']);
      expect(await refused(await fingerprint(lua, 'a'))).to.deep.equal(['CHANGED']);
    });

    it('where the log does not say that it is gone, or there is none', async () => {
      await lua.commit('a', '1');
      await lua.delete('a');
      await lua.commit('a', '3');
      expect(await refused(await fingerprint(lua, 'a'))).to.deep.equal(['CHANGED']);
      await lua.redis.del(lua.of('a').log);
      expect(await refused(await fingerprint(lua, 'a'))).to.deep.equal(['CHANGED']);
    });

    it('where it is gone already', async () => {
      await ghost();
      const print = await fingerprint(lua, 'a');
      await gone(lua, 'a');
      expect(await refused(print)).to.deep.equal(['CHANGED']);
      expect(await refused(await fingerprint(lua, 'a'))).to.deep.equal(['CHANGED']);
    });
  });
});
