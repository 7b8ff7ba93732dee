import { expect } from 'chai';
import { LuaNamespace } from '../helpers/lua.js';

/** Redis's clock decides what has expired and what is late; here it stands at the very millisecond, one before and one after. */
describe('the clock of the Lua scripts', () => {
  let lua: LuaNamespace;
  let exp: number;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
    const reply = await lua.commit('a', '"one"', { ttl: 60_000 });
    exp = Number(reply[5]);
  });
  afterEach(() => lua.close());

  /** The first words that a call answers one millisecond before `at`, at it, and one after it. */
  async function around(at: number, call: () => Promise<unknown[]>): Promise<unknown[]> {
    const words: unknown[] = [];
    for (const now of [at - 1, at, at + 1]) words.push((await lua.when(now, call))[0]);
    return words;
  }

  describe('a context is absent from the millisecond of its expiry on', () => {
    it('to catchup', async () => {
      const { context, log } = lua.of('a');
      const version = async (): Promise<unknown[]> => (await lua.run('catchup', [context, log], [1, 10, 'all'])).slice(2);
      expect(await around(exp, version)).to.deep.equal(['1', '', '']);
    });

    it('to versions', async () => {
      const version = async (): Promise<unknown[]> => (await lua.versions('a')).slice(2);
      expect(await around(exp, version)).to.deep.equal(['1', '', '']);
    });

    it('to commit', async () => {
      const commit = (): Promise<unknown[]> => lua.commit('a', '"two"', { ifVersion: 0 });
      expect((await lua.when(exp - 1, commit))[0]).to.equal('CONFLICT');
      expect((await lua.when(exp, commit)).slice(0, 2)).to.deep.equal(['COMMITTED', 2]);
      expect((await lua.log('a')).map(({ entry }) => entry)).to.deep.equal(['1-0', '1-1', '2-0']);
    });

    it('to delete', async () => {
      expect((await lua.when(exp, () => lua.delete('a')))[0]).to.equal('ABSENT');
      expect((await lua.when(exp - 1, () => lua.delete('a')))[0]).to.equal('DELETED');
    });

    it('to touch', async () => {
      expect((await lua.when(exp, () => lua.touch('a', 1000)))[0]).to.equal('ABSENT');
      expect((await lua.when(exp - 1, () => lua.touch('a', 1000))).slice(0, 3)).to.deep.equal(['TOUCHED', 1, exp + 999]);
    });

    it('to expire', async () => {
      expect(await lua.when(exp - 1, () => lua.expire())).to.deep.equal(['EXPIRED', 0, exp, 0]);
      expect(await lua.when(exp, () => lua.expire())).to.deep.equal(['EXPIRED', 0, 0, 0, 'a', 1]);
    });
  });

  describe('an attempt is in time up to its last millisecond', () => {
    it('of a commit', async () => {
      const commit = (): Promise<unknown[]> => lua.commit('a', '"two"', { till: exp - 1000 });
      expect(await around(exp - 1000, commit)).to.deep.equal(['COMMITTED', 'COMMITTED', 'LATE']);
    });

    it('of a delete', async () => {
      const remove = (): Promise<unknown[]> => lua.delete('a', { till: exp - 1000 });
      expect(await around(exp - 1000, remove)).to.deep.equal(['DELETED', 'ABSENT', 'LATE']);
    });

    it('of a touch', async () => {
      const touch = (): Promise<unknown[]> => lua.touch('a', 'none', { till: exp - 1000 });
      expect(await around(exp - 1000, touch)).to.deep.equal(['TOUCHED', 'TOUCHED', 'LATE']);
    });
  });

  it('an earlier attempt may arrive up to its last millisecond, and the wait ends right after it', async () => {
    const previousTill = exp - 1000;
    const again = (): Promise<unknown[]> => lua.commit('a', '"two"', { previousTill, firstSent: previousTill - 10 });
    expect(await lua.when(previousTill - 1, again)).to.deep.equal(['PENDING', 2]);
    expect(await lua.when(previousTill, again)).to.deep.equal(['PENDING', 1]);
    expect((await lua.when(previousTill + 1, again))[0]).to.equal('COMMITTED');
  });

  it('an entry of the millisecond of the first attempt may have come after it', async () => {
    await lua.commit('a', '"two"', { logBytes: 1 });
    const [oldest] = await lua.log('a');
    const again = (firstSent: number): Promise<unknown[]> => lua.commit('a', '"three"', { previousTill: 1, firstSent });
    expect(oldest?.entry).to.equal('2-0');
    expect(await again(Number(oldest?.at))).to.deep.equal(['UNCERTAIN', 2]);
    expect((await again(Number(oldest?.at) + 1))[0]).to.equal('COMMITTED');
  });

  for (const script of ['commit', 'delete'] as const) {
    it(`an intent holds off a ${script}, whatever the time`, async () => {
      const deadline = exp - 1000;
      await lua.redis.hset(lua.of('a').context, 'intent', `txn-7 ${deadline} 1 0`);
      const write = (): Promise<unknown[]> => (script === 'commit' ? lua.commit('a', '"two"') : lua.delete('a'));
      for (const time of [deadline - 1, deadline, deadline + 1])
        expect(await lua.when(time, write)).to.deep.equal(['LOCKED', 'txn-7', deadline, 1, 0]);
    });
  }

  it('a time is whole milliseconds, whatever the microseconds', async () => {
    for (const [now, at] of [
      [1_795_449_849_000, 1_795_449_849_000],
      [1_795_449_849_000.999, 1_795_449_849_000],
      [1_795_449_849_999.999, 1_795_449_849_999],
    ] as const)
      expect((await lua.when(now, () => lua.versions()))[1]).to.equal(at);
  });
});
