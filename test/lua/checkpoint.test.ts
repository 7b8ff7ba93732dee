import { randomBytes } from 'node:crypto';
import { expect } from 'chai';
import { crc32Hex, sha1Hex } from '../../src/core/checksum.js';
import { type CheckpointOptions, checkpoint, copyKeys, sealFor } from '../helpers/integrity.js';
import { LuaNamespace, type Reply, TOMBSTONE_MS } from '../helpers/lua.js';
import { cut, edited, sent, stored } from '../helpers/plans.js';
import { patchFrom } from './commitFrame.js';

describe('lua/checkpoint.lua', () => {
  let lua: LuaNamespace;
  let newest: string;
  let older: string;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
    ({ newest, older } = copyKeys(lua, 'a'));
  });
  afterEach(() => lua.close());

  const document = (n: number): string => JSON.stringify({ text: 'x'.repeat(100), n });
  /** Versions up to `n`, each but the first by a patch. */
  async function versions(n: number, from = 1): Promise<void> {
    for (let v = from; v <= n; v += 1)
      await lua.commit('a', document(v), v === 1 ? {} : { patch: patchFrom(v - 1, document(v - 1), `[${v}]`) });
  }
  /** What the log says of a version, as a client tells it that made its copy from there. */
  async function factsAt(version: number): Promise<NonNullable<CheckpointOptions['facts']>> {
    const found = (await lua.log('a')).find(({ entry }) => entry === `${version}-0`);
    const { crc = '', sha = '', len = '', at = '', exp = '' } = found ?? { entry: '' };
    return { v: String(version), crc, sha, len, at, exp };
  }
  const kept = async (z: Buffer | string, options: CheckpointOptions = {}): Promise<Reply> => {
    await lua.published();
    const reply = await checkpoint(lua, 'a', z, options);
    expect(reply).to.deep.equal(['KEPT', await lua.memory(newest, older)]);
    expect(await lua.published()).to.deep.equal([]);
    await exact();
    return reply;
  };
  const refused = (z: Buffer | string, options: CheckpointOptions = {}): Promise<Reply> =>
    lua.refused(() => checkpoint(lua, 'a', z, options));
  /** The accounts are those of one context, also once everything was read. */
  async function exact(): Promise<void> {
    const { context, log, size } = lua.of('a');
    for (let round = 0; round < 2; round += 1) {
      const bytes = await lua.memory(context, log, newest, older);
      expect(await lua.accounts()).to.deep.equal({ bytes, contexts: 1, checkpoints: await lua.memory(newest, older) });
      expect(await lua.scores(size)).to.deep.equal({ a: bytes });
      for (const key of [context, newest, older])
        for (let n = 0; n < 20; n += 1) await lua.redis.hmget(key, 'v', 'z', 'exp', 'x');
    }
  }

  describe('KEPT', () => {
    it('keeps the copy as it came, with the facts of its version under a seal of their own', async () => {
      await versions(3);
      const { seal: before, ...fields } = await lua.fields('a');
      const z = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
      await kept(z);
      const { at = '' } = fields;
      const facts = { v: '3', crc: crc32Hex(document(3)), sha: sha1Hex(document(3)), len: String(document(3).length), at };
      const { z: copy, ...rest } = await lua.redis.hgetall(newest);
      expect((await lua.redis.hgetBuffer(newest, 'z'))?.equals(z), `the copy (${copy?.length})`).to.equal(true);
      expect(rest).to.deep.equal({ ...facts, enc: 'br', zsum: sha1Hex(z), seal: sealFor('a', facts) });
      // of the context nothing has changed but what it says of its replay
      expect(await lua.fields('a')).to.deep.equal({ ...fields, kf: '3', seal: before });
      expect(await lua.redis.exists(older)).to.equal(0);
    });

    it('with the expiry that the version had', async () => {
      await lua.commit('a', '1', { ttl: 60_000 });
      const facts = await factsAt(1);
      await lua.touch('a', 90_000);
      const { exp } = await lua.fields('a');
      await kept('z', { facts });
      const copy = await lua.redis.hgetall(newest);
      expect(copy.exp).to.equal(facts.exp).and.not.equal(exp);
      expect(copy.seal).to.equal(sealFor('a', copy));
      expect(await lua.nativeExpiry(newest)).to.equal(Number(exp) + TOMBSTONE_MS);
    });

    it('of an older version that the log still has', async () => {
      await versions(5);
      await kept('z', { facts: await factsAt(2) });
      expect(await lua.redis.hget(newest, 'v')).to.equal('2');
      expect((await lua.fields('a')).kf).to.equal('2');
    });

    it('and the one before, as it was; no third', async () => {
      await versions(2);
      await kept('first');
      const first = await lua.redis.hgetall(newest);
      await versions(4, 3);
      await kept('second');
      expect(await lua.redis.hgetall(older)).to.deep.equal(first);
      const second = await lua.redis.hgetall(newest);
      await versions(5, 5);
      await kept('third');
      expect(await lua.redis.hgetall(older)).to.deep.equal(second);
      expect(await lua.redis.hmget(newest, 'v', 'z')).to.deep.equal(['5', 'third']);
    });

    it('without an expiry after one that had one, and the other way round', async () => {
      const expiries = (): Promise<number[]> => Promise.all([newest, older].map((key) => lua.nativeExpiry(key)));
      await lua.commit('a', '1', { ttl: 60_000 });
      await kept('first');
      await lua.commit('a', '2', { ttl: 'none' });
      await kept('second');
      expect(await lua.redis.hexists(newest, 'exp')).to.equal(0);
      expect(await lua.redis.hexists(older, 'exp')).to.equal(1);
      expect(await expiries()).to.deep.equal([-1, -1]);
      const [, , , , , exp] = await lua.commit('a', '3', { ttl: 60_000 });
      await kept('third');
      expect(await expiries()).to.deep.equal(Array(2).fill(Number(exp) + TOMBSTONE_MS));
    });

    it('leaves a keyframe that the log has from later', async () => {
      await versions(3);
      await lua.commit('a', document(4));
      expect((await lua.fields('a')).kf).to.equal('4');
      await kept('z', { facts: await factsAt(3) });
      expect((await lua.fields('a')).kf).to.equal('4');
    });

    it('of any size, and of a context in chunks: the accounts are exact', async () => {
      for (const [n, bytes] of [0, 1, 63, 64, 65, 1000, 100_000].entries()) {
        const planned = sent(cut(randomBytes(3000).toString('hex'), 70));
        await lua.commit('a', planned.document, planned.options);
        await kept(randomBytes(bytes), { facts: { enc: n % 2 === 0 ? 'gz' : '-' } });
        const { document: next, options } = edited(
          await stored(lua, 'a'),
          [{ at: 0, remove: 0, insert: Buffer.from('b') }],
          70,
          'chunked',
        );
        await lua.commit('a', next, options);
        await exact();
      }
    });

    it('of a version that was repaired, by the entry that tells of it', async () => {
      await versions(2);
      const entry = ['kind', 'repaired', 'frame', 'peer', 'base', '-', 'crc', '01234567', 'sha', sha1Hex('other'), 'len', '9'];
      await lua.redis.xadd(lua.of('a').log, '2-1', ...entry);
      const facts = { crc: '01234567', sha: sha1Hex('other'), len: '9' };
      await lua.redis.hset(lua.of('a').context, facts);
      await lua.seal('a');
      const before = await lua.accounts();
      expect((await checkpoint(lua, 'a', 'z'))[0]).to.equal('KEPT');
      expect(await lua.accounts()).to.not.deep.equal(before);
    });
  });

  describe('STALE', () => {
    beforeEach(() => versions(3));

    it('where there is nothing, or nothing any more', async () => {
      const facts = await factsAt(3);
      const stale = async (): Promise<void> => {
        expect(await refused('z', { facts })).to.deep.equal(['STALE']);
      };
      await lua.makeExpired('a', 0);
      await stale();
      await lua.expire();
      await stale();
      await lua.commit('a', '1');
      await lua.delete('a');
      await stale();
      await lua.redis.del(lua.of('a').log);
      await stale();
    });

    it('for a version that is ahead of the context', async () => {
      expect(await refused('z', { facts: { ...(await factsAt(3)), v: '4' } })).to.deep.equal(['STALE']);
    });

    it('for a version that the log does not have any more', async () => {
      const facts = await factsAt(1);
      await lua.redis.xtrim(lua.of('a').log, 'MAXLEN', 2);
      expect(await refused('z', { facts })).to.deep.equal(['STALE']);
      await lua.redis.del(lua.of('a').log);
      expect(await refused('z')).to.deep.equal(['STALE']);
    });

    it('for a version that was another: after a failover, or in another life of the context', async () => {
      for (const other of [{ crc: '01234567' }, { sha: sha1Hex('other') }])
        expect(await refused('z', { facts: { ...(await factsAt(2)), ...other } })).to.deep.equal(['STALE']);
    });

    it('for one that is there already, or an older one', async () => {
      await kept('z');
      expect(await refused('again')).to.deep.equal(['STALE']);
      expect(await refused('z', { facts: await factsAt(2) })).to.deep.equal(['STALE']);
    });

    it('for what is in quarantine', async () => {
      await lua.redis.hset(lua.of('a').context, 'q', 'why');
      expect(await refused('z')).to.deep.equal(['STALE']);
    });
  });

  describe('DAMAGED', () => {
    beforeEach(() => versions(2));

    it('where the stored fields do not have their seal', async () => {
      const facts = await factsAt(2);
      for (const field of ['v', 'crc', 'sha', 'len', 'at', 'exp', 'seal']) {
        const before = await lua.redis.hget(lua.of('a').context, field);
        await lua.redis.hset(lua.of('a').context, field, '7');
        expect(await refused('z', { facts }), field).to.deep.equal(['DAMAGED']);
        if (before === null) await lua.redis.hdel(lua.of('a').context, field);
        else await lua.redis.hset(lua.of('a').context, field, before);
      }
      await kept('z', { facts });
    });

    it('where there is no seal and there should be one', async () => {
      await lua.redis.hdel(lua.of('a').context, 'seal');
      expect(await refused('z', { sealed: 1 })).to.deep.equal(['DAMAGED']);
      expect((await checkpoint(lua, 'a', 'z', { sealed: 0 }))[0]).to.equal('KEPT');
    });
  });

  it('CHECKSUM where another copy arrived', async () => {
    await versions(1);
    const reply = await refused('the cooy', { facts: { zsum: sha1Hex('the copy') } });
    expect(reply).to.deep.equal(['CHECKSUM', sha1Hex('the cooy'), 8]);
  });
});
