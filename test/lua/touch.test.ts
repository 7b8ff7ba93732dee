import { expect } from 'chai';
import { crc32Hex } from '../../src/core/checksum.js';
import { sealFor } from '../helpers/integrity.js';
import { GRACE_MS, LuaNamespace, type Reply, TOMBSTONE_MS } from '../helpers/lua.js';
import { headerOf } from './commitFrame.js';

describe('lua/touch.lua', () => {
  let lua: LuaNamespace;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
  });
  afterEach(() => lua.close());

  const expiries = async (id: string): Promise<unknown[]> => [
    (await lua.fields(id)).exp ?? null,
    await lua.redis.zscore(lua.shard.exp, id),
    await lua.nativeExpiry(lua.of(id).context),
    await lua.nativeExpiry(lua.of(id).log),
  ];

  /** Touches, and checks that nothing but the expiry and the last use has changed. */
  async function touched(ttl: number | 'none'): Promise<Reply> {
    await lua.published();
    const [{ exp: _, seal: __, ...fields }, log] = await Promise.all([lua.fields('a'), lua.log('a')]);
    const before = await lua.now();
    const reply = await lua.touch('a', ttl, { op: 'op-t', by: 'toucher' });
    const after = await lua.now();

    const { exp, seal, ...now } = await lua.fields('a');
    expect(now).to.deep.equal(fields);
    expect(seal).to.equal(sealFor('a', exp === undefined ? now : { ...now, exp }));
    expect(String(await lua.document('a'))).to.equal('"document"');
    expect(await lua.log('a')).to.deep.equal(log);
    expect(Number(await lua.redis.zscore(lua.shard.use, 'a'))).to.be.within(before, after);
    expect(await lua.accounts()).to.deep.equal({
      ...(await lua.accounts()),
      contexts: 1,
      bytes: await lua.memory(lua.of('a').context, lua.of('a').log),
    });
    expect(await lua.redis.zscore(lua.shard.size, 'a')).to.equal(String((await lua.accounts()).bytes));
    const [frame, ...more] = await lua.published();
    expect(more).to.deep.equal([]);
    const at = Number(frame?.text.split(' ')[9]);
    expect(at).to.be.within(before, after);
    const until = ttl === 'none' ? '-' : at + ttl;
    const crc = crc32Hex('"document"');
    expect(frame).to.deep.equal({
      channel: lua.of('a').channel,
      text: headerOf(`lc2 touch - 0 2 ${crc} 0 2 ${crc} ${at} ${until} op-t toucher `),
    });
    expect(reply).to.deep.equal(['TOUCHED', 2, ttl === 'none' ? 0 : until]);
    return reply;
  }

  describe('TOUCHED', () => {
    for (const [name, ttl] of [
      ['that expires', 60_000],
      ['that does not', 'none'],
    ] as const) {
      describe(`a context ${name}`, () => {
        beforeEach(async () => {
          await lua.commit('a', '"first"');
          await lua.commit('a', '"document"', { ttl });
        });

        it('gets another expiry: in the field, the index, and natively behind them', async () => {
          const exp = Number((await touched(5000))[2]);
          expect(await expiries('a')).to.deep.equal([String(exp), String(exp), exp + GRACE_MS, exp + TOMBSTONE_MS]);
        });

        it('gets a later one', async () => {
          const exp = Number((await touched(600_000))[2]);
          expect(await expiries('a')).to.deep.equal([String(exp), String(exp), exp + GRACE_MS, exp + TOMBSTONE_MS]);
        });

        it('does not expire any more', async () => {
          await touched('none');
          expect(await expiries('a')).to.deep.equal([null, null, -1, -1]);
          expect(await lua.redis.exists(lua.shard.exp)).to.equal(0);
        });
      });
    }

    it('twice is as good as once', async () => {
      await lua.commit('a', '"first"');
      await lua.commit('a', '"document"');
      await touched(5000);
      await touched(5000);
    });
  });

  describe('ABSENT', () => {
    it('where there is nothing', async () => {
      expect(await lua.refused(() => lua.touch('a', 5000))).to.deep.equal(['ABSENT']);
    });

    it('where it was deleted', async () => {
      await lua.commit('a', '1');
      await lua.delete('a');
      expect(await lua.refused(() => lua.touch('a', 'none'))).to.deep.equal(['ABSENT']);
    });

    it('where it has expired: it does not come back', async () => {
      await lua.commit('a', '1', { ttl: 60_000 });
      await lua.makeExpired('a', 0);
      expect(await lua.refused(() => lua.touch('a', 'none'))).to.deep.equal(['ABSENT']);
      expect(await lua.refused(() => lua.touch('a', 5000))).to.deep.equal(['ABSENT']);
    });
  });

  it('LOCKED by an intent, also of what is to be created: the transaction may be decided already', async () => {
    const deadline = (await lua.now()) + 60_000;
    const intend = (): Promise<number> => lua.redis.hset(lua.of('a').context, 'intent', `txn-7 ${deadline} 1 0`);
    for (const write of [async () => {}, () => lua.commit('a', '1', { ttl: 60_000 })]) {
      await lua.redis.del(lua.of('a').context);
      await write();
      await intend();
      expect(await lua.refused(() => lua.touch('a', 5000))).to.deep.equal(['LOCKED', 'txn-7', deadline, 1, 0]);
    }
    // a fit is advice, which nobody waits for
    expect((await lua.touch('a', 90_000, { expected: '-' }))[0]).to.equal('TOUCHED');
  });

  it('LATE where its time has passed', async () => {
    await lua.commit('a', '1');
    const till = (await lua.now()) - 1;
    const reply = await lua.refused(() => lua.touch('a', 5000, { till }));
    expect(reply[0]).to.equal('LATE');
    expect(reply[1]).to.be.within(till + 1, await lua.now());
  });
});
