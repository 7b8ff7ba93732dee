/** lua/touch.lua as a fit: one expiry of what several instances need (lua/include/fit.lua). */
import { expect } from 'chai';
import { GRACE_MS, LuaNamespace, type Reply, TOMBSTONE_MS } from '../helpers/lua.js';

const MINUTE = 60_000;
const HOUR = 3_600_000;

describe('lua/touch.lua as a fit', () => {
  let lua: LuaNamespace;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
  });
  afterEach(() => lua.close());

  const expiry = async (): Promise<number> => Number((await lua.fields('a')).exp);
  const needs = async (): Promise<Record<string, number>> => {
    const words = (await lua.fields('a')).need?.split(' ').slice(2) ?? [];
    return Object.fromEntries(words.flatMap((word, at) => (at % 2 === 0 ? [[word, Number(words[at + 1])]] : [])));
  };
  /** A fit of an instance that saw the expiry as it is. */
  const need = async (by: string, ttl: number, expected?: number | '-' | 'hold'): Promise<Reply> =>
    lua.touch('a', ttl, { by, expected: expected ?? (await expiry()) });
  /** Connections that listen to the context as replicas do. */
  async function listen(count: number, check: () => Promise<void>): Promise<void> {
    const clients = Array.from({ length: count }, () => lua.redis.duplicate());
    try {
      for (const client of clients) await client.subscribe(lua.of('a').channel);
      await check();
    } finally {
      for (const client of clients) client.disconnect();
    }
  }
  async function expectOneExpiry(): Promise<void> {
    const exp = await expiry();
    expect(await lua.redis.zscore(lua.shard.exp, 'a')).to.equal(String(exp));
    expect(await lua.nativeExpiry(lua.of('a').context)).to.equal(exp + GRACE_MS);
    expect(await lua.nativeExpiry(lua.of('a').log)).to.equal(exp + TOMBSTONE_MS);
    const bytes = await lua.memory(lua.of('a').context, lua.of('a').log);
    expect((await lua.accounts()).bytes).to.equal(bytes);
    expect(await lua.redis.zscore(lua.shard.size, 'a')).to.equal(String(bytes));
  }

  describe('of a context that expires in an hour', () => {
    beforeEach(() => lua.commit('a', '"document"', { ttl: HOUR }));

    it('TOUCHED later where an instance needs it longer, whatever it saw', async () => {
      const before = await lua.now();
      const reply = await need('one', 2 * HOUR, '-');
      expect(reply[0]).to.equal('TOUCHED');
      expect(reply[2]).to.be.within(before + 2 * HOUR, (await lua.now()) + 2 * HOUR);
      expect(await expiry()).to.equal(reply[2]);
      expect(await needs()).to.deep.equal({ one: reply[2] });
      expect((await lua.published()).filter(({ text }) => text.includes(' touch '))).to.have.length(1);
      await expectOneExpiry();
    });

    it('TOUCHED earlier where it saw the expiry that is', async () => {
      const reply = await need('one', MINUTE);
      expect(reply[0]).to.equal('TOUCHED');
      expect(await expiry()).to.equal(reply[2]);
      expect(reply[2]).to.be.at.most((await lua.now()) + MINUTE);
      await expectOneExpiry();
    });

    it('KEPT where it saw another one, or did not ask for an earlier one: what it needs is noted, and nobody is told', async () => {
      const exp = await expiry();
      await lua.published();
      for (const expected of [exp - 1, exp + 1, '-'] as const)
        expect(await need('one', MINUTE, expected)).to.deep.equal(['KEPT', 1, exp]);
      expect(await expiry()).to.equal(exp);
      expect((await needs()).one).to.be.at.most((await lua.now()) + MINUTE);
      expect(await lua.published()).to.deep.equal([]);
      await expectOneExpiry();
    });

    it('never earlier than another instance needs it', async () => {
      await need('busy', 30 * MINUTE, '-');
      const { busy } = await needs();
      const reply = await need('idle', MINUTE);
      expect(reply).to.deep.equal(['TOUCHED', 1, busy]);
      expect(await need('idle', MINUTE)).to.deep.equal(['KEPT', 1, busy]);
      // and the other way round: what is needed for longer counts whoever comes last
      expect((await need('idle', 2 * MINUTE))[2]).to.equal(busy);
    });

    it('as early as is needed still when the one that needed it longer needs it less', async () => {
      await need('one', 30 * MINUTE, '-');
      await need('two', 2 * MINUTE, '-');
      const { two } = await needs();
      const exp = Number((await need('one', MINUTE))[2]);
      expect(exp).to.equal(two);
    });

    it('for a hold: never earlier, and never later', async () => {
      const exp = await expiry();
      expect(await need('new', 5 * HOUR, 'hold')).to.deep.equal(['KEPT', 1, exp]);
      expect(await needs()).to.deep.equal({ new: exp });
      expect(await need('other', MINUTE)).to.deep.equal(['KEPT', 1, exp]);
    });

    it('for a hold: as late as was written, where others had brought it nearer before', async () => {
      const written = await expiry();
      await need('one', MINUTE);
      await need('one', 2 * MINUTE);
      expect(await expiry()).to.be.below(written);
      expect(await need('new', 5, 'hold')).to.deep.equal(['TOUCHED', 1, written]);
      await expectOneExpiry();
    });

    it('for a hold: what was given last counts as written, by a commit or by a touch', async () => {
      await need('one', MINUTE);
      await lua.touch('a', 2 * MINUTE);
      const touched = await expiry();
      expect(await need('new', 5, 'hold')).to.deep.equal(['KEPT', 1, touched]);
      await lua.commit('a', '"next"', { ttl: 3 * MINUTE });
      const committed = await expiry();
      expect(await need('newer', 5, 'hold')).to.deep.equal(['KEPT', 2, committed]);
    });

    it('not earlier while somebody listens who has said nothing: it may use it in silence', async () => {
      const exp = await expiry();
      await listen(2, async () => {
        expect(await need('one', MINUTE)).to.deep.equal(['KEPT', 1, exp]);
      });
      await listen(1, async () => {
        expect((await need('one', MINUTE))[0]).to.equal('TOUCHED');
      });
      expect(await expiry()).to.be.below(exp);
    });

    it('earlier with two that listen, once both have said what they need', async () => {
      await listen(2, async () => {
        await need('one', MINUTE, '-');
        expect((await need('two', 2 * MINUTE))[0]).to.equal('TOUCHED');
      });
      expect(await expiry()).to.equal((await needs()).two);
    });

    it('not earlier for more than sixteen that need it, all of which cannot be remembered', async () => {
      for (let at = 1; at <= 16; at += 1) await need(`i${at}`, MINUTE, '-');
      const exp = await expiry();
      expect(await need('last', MINUTE)).to.deep.equal(['KEPT', 1, exp]);
      expect(Object.keys(await needs())).to.have.length(16);
    });

    it('what was needed is forgotten only for want of room', async () => {
      for (let at = 1; at <= 20; at += 1) await need(`i${at}`, 1, '-');
      await lua.passed((await lua.now()) + 1);
      expect((await need('last', MINUTE))[0]).to.equal('TOUCHED');
      const names = Object.keys(await needs());
      expect(names).to.have.length(16);
      expect(names[0]).to.equal('last');
    });

    it('what is needed outlasts commits: small, large, and as a whole', async () => {
      await need('one', MINUTE, '-');
      const before = await needs();
      for (const document of ['"small"', JSON.stringify('x'.repeat(20_000)), JSON.stringify('y'.repeat(20_000)), '"small"']) {
        await lua.commit('a', document, { ttl: 'keep' });
        expect(await needs(), document.slice(0, 9)).to.deep.equal(before);
      }
      await expectOneExpiry();
    });

    it('what is needed ends with the context', async () => {
      await need('one', 2 * HOUR, '-');
      await lua.delete('a');
      await lua.commit('a', '"again"', { ttl: HOUR });
      expect(await needs()).to.deep.equal({});
    });

    it('an explicit touch is not asked what anybody needs', async () => {
      await need('one', 2 * HOUR, '-');
      const [, , exp] = await lua.touch('a', MINUTE);
      expect(await expiry()).to.equal(exp);
      expect(exp).to.be.at.most((await lua.now()) + MINUTE);
    });
  });

  it('KEPT where there is no expiry: it does not get one, and nothing is written', async () => {
    await lua.commit('a', '"document"');
    for (const expected of ['-', 'hold', 5] as const)
      expect(await lua.refused(() => need('one', MINUTE, expected))).to.deep.equal(['KEPT', 1, 0]);
  });

  it('ABSENT where it has expired: it does not come back', async () => {
    await lua.commit('a', '1', { ttl: HOUR });
    const exp = await lua.makeExpired('a', 0);
    expect(await lua.refused(() => need('one', HOUR, exp))).to.deep.equal(['ABSENT']);
  });
});
