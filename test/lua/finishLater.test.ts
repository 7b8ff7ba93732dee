import { expect } from 'chai';
import { crc32Hex } from '../../src/core/checksum.js';
import { exactAccounts } from '../helpers/accounts.js';
import { damageDocument, expectSealed, quarantine, repair } from '../helpers/integrity.js';
import { LuaNamespace, type Reply } from '../helpers/lua.js';
import { type Chunk, cut, edited, sent, stored, verified } from '../helpers/plans.js';
import { commit, decide, finish, intentOf, prepare, remove, type TxMember, type TxPart } from '../helpers/transactions.js';
import { headerOf } from './commitFrame.js';

const CHUNKED = JSON.stringify('chunked '.repeat(5000));
const CHUNKS: readonly Chunk[] = cut(CHUNKED, 8000);

/** What can happen to a context between the two phases, and what becomes of it then. */
describe('lua/finish.lua of contexts that have changed since they were prepared', () => {
  let lua: LuaNamespace;
  let part: TxPart;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
    part = { txn: 'txn', deadline: (await lua.now()) + 60_000 };
    for (const id of ['a', 'b', 'c']) await lua.commit(id, `"${id}"`, { op: id, ttl: 600_000 });
    const { document, options } = sent(CHUNKS);
    await lua.commit('chunked', document, { ...options, ttl: 600_000 });
  });
  afterEach(() => lua.close());

  const inPlace = async (): Promise<TxMember> => {
    const { document, options } = edited(
      await stored(lua, 'chunked'),
      [{ at: 9, remove: 2, insert: Buffer.from('new') }],
      8000,
      'chunked',
    );
    return commit('chunked', document, options);
  };
  const prepared = async (...members: TxMember[]): Promise<void> => {
    expect((await prepare(lua, part, members))[0]).to.equal('PREPARED');
    expect((await decide(lua, part, 'commit'))[0]).to.equal('COMMITTED');
  };
  const applied = (reply: Reply): unknown[] => reply.slice(3).filter((_, at) => at % 6 < 3);
  const exact = (): Promise<string[]> => exactAccounts(lua.redis, lua.keys.namespace);
  const held = async (id: string): Promise<void> => {
    expect((await lua.fields(id)).intent, id).to.equal(intentOf(part));
  };
  /** What a repair needs to know. */
  const facts = async (id: string): Promise<{ op: string; at: number; exp: number }> => {
    const { op = '', at, exp } = await lua.fields(id);
    return { op, at: Number(at), exp: Number(exp) };
  };

  describe('damaged', () => {
    const refused = async (id: string, ...words: (string | number)[]): Promise<void> => {
      for (const _ of [1, 2])
        expect(await lua.refused(() => finish(lua, part, 'commit'))).to.deep.equal(['REFUSED', id, ...words]);
    };

    it('is refused by name, nothing is written, and it is applied once it is healed', async () => {
      await prepared(commit('a', '"new"'), commit('b', '"newer"', { sealed: 1 }), remove('c'));
      const known = await facts('b');
      await lua.redis.hset(lua.of('b').context, 'len', '7');
      await refused('b', 'DAMAGED');
      expect((await repair(lua, 'b', '"b"', known))[0]).to.equal('REPAIRED');
      await held('b');
      expect(applied(await finish(lua, part, 'commit'))).to.deep.equal(['a', '2', 'full', 'b', '2', 'full', 'c', '2', 'deleted']);
      expect(applied(await finish(lua, part, 'commit'))).to.have.length(9);
      expect(await exact()).to.deep.equal(['a', 'b', 'chunked']);
      expect((await lua.log('b')).map(({ entry }) => entry)).to.deep.equal(['1-0', '1-1', '2-0']);
    });

    it('in a chunk that its plan takes from', async () => {
      await prepared(commit('a', '"new"'), await inPlace());
      const known = await facts('chunked');
      await lua.redis.hset(lua.of('chunked').context, 'd0', 'damaged');
      await refused('chunked', 'BASE_MISMATCH', 1, crc32Hex(CHUNKED), 'd0');
      expect((await repair(lua, 'chunked', CHUNKS, known))[0]).to.equal('REPAIRED');
      await held('chunked');
      expect(applied(await finish(lua, part, 'commit'))).to.deep.equal(['a', '2', 'full', 'chunked', '2', 'splice']);
      expect((await verified(lua, 'chunked'))?.document.toString()).to.equal(`${CHUNKED.slice(0, 9)}new${CHUNKED.slice(11)}`);
      await exact();
    });

    it('in bytes that are written anew is of no account', async () => {
      await prepared(commit('a', '"new"'), commit('chunked', '"small"'));
      for (const id of ['a', 'chunked']) await damageDocument(lua, id);
      expect(applied(await finish(lua, part, 'commit'))).to.deep.equal(['a', '2', 'full', 'chunked', '2', 'full']);
      await exact();
    });

    it('is deleted all the same', async () => {
      await prepared(remove('a', { ifVersion: 1, sealed: 1 }));
      await lua.redis.hset(lua.of('a').context, 'len', '7');
      expect(applied(await finish(lua, part, 'commit'))).to.deep.equal(['a', '2', 'deleted']);
      await exact();
    });

    it('and taken back where it was aborted, with nothing else changed of it', async () => {
      await prepare(lua, part, [commit('a', '"new"'), remove('b')]);
      await lua.redis.hset(lua.of('a').context, 'len', '7');
      const before = await lua.fields('a');
      expect(await finish(lua, part, 'abort')).to.deep.equal(['ABORTED', 2]);
      const { intent: _, ...rest } = before;
      expect(await lua.fields('a')).to.deep.equal(rest);
      await exact();
    });

    it('by memory that gives back other bytes: all is as it was, the intents too', async () => {
      const { document, options } = sent(CHUNKS);
      await prepared(
        commit('a', '"new"'),
        await inPlace(),
        commit('new', '1'),
        commit('large', document, options),
        commit('b', '"newer"'),
      );
      for (const id of ['a', 'chunked', 'new', 'large', 'b']) {
        const { context } = lua.of(id);
        const prelude = `
local real, written = redis, false
local redis = setmetatable({
  call = function(...)
    local command, key, field = ...
    local reply = real.call(...)
    if key == '${context}' and command == 'HSET' and string.find(field, '^d') then
      written = true
    elseif key == '${context}' and command == 'HGET' and string.find(field, '^d') and written then
      return 'X' .. string.sub(reply, 2)
    end
    return reply
  end,
}, { __index = real })
`;
        const reply = await lua.refused(() => finish(lua, part, 'commit', '', prelude));
        expect(reply).to.deep.equal(['REFUSED', id, 'WRITE_CORRUPT', ['new', 'large'].includes(id) ? 0 : 1]);
      }
      expect((await finish(lua, part, 'commit'))[0]).to.equal('FINISHED');
      expect(await exact()).to.deep.equal(['a', 'b', 'c', 'chunked', 'large', 'new']);
    });
  });

  it('written by a script that ended in its midst is not written again', async () => {
    await prepared(commit('a', '"new"'), commit('b', '"newer"'));
    await lua.redis.hdel(lua.of('a').context, 'intent');
    expect((await lua.commit('a', '"new"', { op: 'txn' }))[1]).to.equal(2);
    await lua.redis.hset(lua.of('a').context, 'intent', intentOf(part));
    expect(applied(await finish(lua, part, 'commit'))).to.deep.equal(['a', '2', 'full', 'b', '2', 'full']);
    for (const id of ['a', 'b']) {
      expect((await lua.fields(id)).intent, id).to.equal(undefined);
      expect((await lua.log(id)).map(({ entry }) => entry)).to.deep.equal(['1-0', '2-0']);
    }
    await exact();
  });

  describe('expired', () => {
    /** Prepared 100 s ago, when they were there. */
    const earlier = async (...members: TxMember[]): Promise<Record<string, number>> => {
      const now = await lua.now();
      const at = now - 100_000;
      part = { ...part, deadline: now + 60_000 };
      expect((await lua.when(at, () => prepare(lua, part, members)))[0]).to.equal('PREPARED');
      await decide(lua, part, 'commit');
      const exp: Record<string, number> = {};
      for (const { id } of members) exp[id] = await lua.makeExpired(id, 90_000);
      return exp;
    };

    it('is written as it was decided: with its expiry, where that was kept, or another', async () => {
      const exp = await earlier(
        commit('a', '"a2"'),
        commit('b', '"b2"', { ttl: 5000 }),
        await inPlace(),
        commit('c', '"c2"', { ttl: 'none' }),
      );
      // until then nobody takes them out
      expect((await lua.refused(() => lua.expire(10, 1))).slice(3)).to.deep.equal([0]);
      expect(await lua.refused(() => lua.commit('a', '1'))).to.deep.equal(['LOCKED', 'txn', part.deadline, 0, 0]);
      await lua.published();
      const at = await lua.now();
      const reply = await lua.when(at, () => finish(lua, part, 'commit'));
      const expiries = reply.slice(3).filter((_, place) => place % 6 === 4);
      expect(expiries).to.deep.equal([exp.a, at + 5000, exp.chunked, 0].map(String));
      for (const id of ['a', 'b', 'c', 'chunked']) {
        await expectSealed(lua, id);
        expect((await lua.log(id)).map(({ entry, kind }) => `${entry} ${kind}`)[1], id).to.match(/^2-0 (full|splice)$/);
      }
      await exact();
      expect((await lua.published()).map(({ text }) => text.split(' ')[1])).to.not.include('expired');
      // and goes as any other
      expect((await lua.expire(10, 1)).slice(3).sort()).to.deep.equal([0, 2, 2, 'a', 'chunked']);
      expect(await exact()).to.deep.equal(['b', 'c']);
    });

    it('is deleted', async () => {
      await earlier(remove('a'), remove('b', { ifVersion: 1 }));
      expect(applied(await finish(lua, part, 'commit'))).to.deep.equal(['a', '2', 'deleted', 'b', '2', 'deleted']);
      expect(await exact()).to.deep.equal(['c', 'chunked']);
    });

    it('before it was prepared: its tombstone comes first', async () => {
      const exp = await lua.makeExpired('a');
      await prepared(commit('a', '"again"', { ifVersion: 0 }), remove('a2'));
      await lua.published();
      const at = exp + 50;
      expect(applied(await lua.when(at, () => finish(lua, part, 'commit')))).to.deep.equal(['a', '2', 'full', 'a2', '0', 'none']);
      expect((await lua.log('a')).map(({ entry, kind }) => `${entry} ${kind}`)).to.deep.equal([
        '1-0 full',
        '1-1 expired',
        '2-0 full',
      ]);
      expect((await lua.published())[0]?.text).to.equal(headerOf(`lc2 expired - 0 1 - 0 1 ${crc32Hex('"a"')} ${at} - - tester `));
      await exact();
    });

    it('before, by memory that gives back other bytes: its tombstone is there, and it is still held', async () => {
      await lua.makeExpired('a');
      await prepared(commit('a', '"again"'), commit('b', '"b2"'));
      const prelude = `
local real = redis
local redis = setmetatable({
  call = function(...)
    local command, key, field = ...
    if key == '${lua.of('b').context}' and command == 'HGET' and field == 'data' then
      return '?'
    end
    return real.call(...)
  end,
}, { __index = real })
`;
      expect(await finish(lua, part, 'commit', '', prelude)).to.deep.equal(['REFUSED', 'b', 'WRITE_CORRUPT', 1]);
      expect(await lua.redis.hkeys(lua.of('a').context)).to.deep.equal(['intent']);
      for (const id of ['a', 'b']) await held(id);
      await lua.redis.hset(lua.of('b').context, 'data', '"b"');
      expect(applied(await finish(lua, part, 'commit'))).to.deep.equal(['a', '2', 'full', 'b', '2', 'full']);
      expect((await lua.log('a')).map(({ entry, kind }) => `${entry} ${kind}`)).to.deep.equal([
        '1-0 full',
        '1-1 expired',
        '2-0 full',
      ]);
      await exact();
    });

    it('and taken back is the sweep’s', async () => {
      await lua.makeExpired('a');
      await prepare(lua, part, [commit('a', '"again"')]);
      await finish(lua, part, 'abort');
      await exact();
      expect((await lua.expire(10, 1)).slice(3)).to.deep.equal([0, 'a', 1]);
      expect(await exact()).to.deep.equal(['b', 'c', 'chunked']);
    });
  });

  describe('gone', () => {
    it('after its expiry is created anew', async () => {
      await prepared(commit('a', '"a2"'), remove('b'), await inPlace());
      for (const id of ['a', 'b']) {
        await lua.makeExpired(id);
        await lua.redis.del(lua.of(id).context);
      }
      const created = ['a', '2', 'full', 'b', '0', 'none'];
      expect(applied(await finish(lua, part, 'commit'))).to.deep.equal([...created, 'chunked', '2', 'splice']);
      expect((await lua.expire(10, 1)).slice(3)).to.deep.equal([0, 'b', 1]);
      expect(await exact()).to.deep.equal(['a', 'c', 'chunked']);
    });

    it('before it is DAMAGED, and applied once it is there again', async () => {
      await prepared(commit('a', '"a2"'), commit('b', '"b2"'));
      const known = await facts('a');
      await lua.redis.del(lua.of('a').context);
      expect(await lua.refused(() => finish(lua, part, 'commit'))).to.deep.equal(['REFUSED', 'a', 'DAMAGED']);
      await repair(lua, 'a', '"a"', known);
      expect(applied(await finish(lua, part, 'commit'))).to.deep.equal(['a', '2', 'full', 'b', '2', 'full']);
      await exact();
    });
  });

  for (const outcome of ['commit', 'abort'] as const) {
    describe(`touched, repaired or moved aside keeps its intent until ${outcome}`, () => {
      const ends = async (): Promise<void> => {
        for (const id of ['a', 'chunked', 'c']) await held(id);
        expect((await lua.commit('a', '1'))[0]).to.equal('LOCKED');
        await decide(lua, part, outcome);
        const reply = await finish(lua, part, outcome);
        if (outcome === 'abort') expect(reply).to.deep.equal(['ABORTED', 3]);
        else expect(applied(reply)).to.deep.equal(['a', '2', 'full', 'chunked', '2', 'full', 'c', '2', 'deleted']);
        for (const id of ['a', 'chunked', 'c']) expect((await lua.fields(id)).intent, id).to.equal(undefined);
        expect(await exact()).to.deep.equal(outcome === 'commit' ? ['a', 'b', 'chunked'] : ['a', 'b', 'c', 'chunked']);
      };
      beforeEach(() => prepare(lua, part, [commit('a', '"a2"'), commit('chunked', '"c2"'), remove('c')]));

      it('touched', async () => {
        for (const ttl of [5000, 'none', 90_000] as const)
          for (const id of ['a', 'chunked', 'c']) expect((await lua.touch(id, ttl))[0]).to.equal('TOUCHED');
        const { exp } = await lua.fields('a');
        await ends();
        expect((await lua.fields('a')).exp).to.equal(exp);
        expect(await lua.nativeExpiry(lua.of('a').context)).to.be.greaterThan(Number(exp));
      });

      it('repaired', async () => {
        for (const id of ['a', 'chunked', 'c']) {
          const known = await facts(id);
          await damageDocument(lua, id);
          const document = id === 'chunked' ? CHUNKS : `"${id}"`;
          expect((await repair(lua, id, document, known))[0]).to.equal('REPAIRED');
        }
        await ends();
      });

      it('moved aside', async () => {
        for (const id of ['a', 'chunked', 'c']) {
          await damageDocument(lua, id);
          const exp = Number((await lua.fields(id)).exp);
          expect((await quarantine(lua, id, 'put', { exp }))[0]).to.equal('QUARANTINED');
        }
        await ends();
        expect((await lua.fields('a')).q).to.equal(outcome === 'commit' ? undefined : 'document seal');
      });
    });
  }
});
