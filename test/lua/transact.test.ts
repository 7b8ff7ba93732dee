import { expect } from 'chai';
import { crc32Hex } from '../../src/core/checksum.js';
import { exactAccounts } from '../helpers/accounts.js';
import { expectSealed } from '../helpers/integrity.js';
import { LuaNamespace, operation, type Reply } from '../helpers/lua.js';
import { cut, edited, sent, stored, verified } from '../helpers/plans.js';
import { commit, expected, remove, type TxMember, transact } from '../helpers/transactions.js';
import { expectTwins } from '../helpers/twins.js';
import { patchFrom } from './commitFrame.js';

const LARGE = JSON.stringify('large '.repeat(2000));
const CHUNKED = JSON.stringify('chunked '.repeat(5000));

describe('lua/transact.lua', () => {
  let lua: LuaNamespace;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
  });
  afterEach(() => lua.close());

  const chunked = (id: string, text = CHUNKED): TxMember => {
    const { document, options } = sent(cut(text, 8000));
    return commit(id, document, options);
  };
  const inPlace = async (id: string, at = 9000): Promise<TxMember> => {
    const { document, options } = edited(await stored(lua, id), [{ at, remove: 7, insert: Buffer.from('new') }], 8000, 'chunked');
    return commit(id, document, {
      ...options,
      patch: { ...(options.patch ?? { baseVersion: 0, baseCrc: '-' }), text: 'splice' },
    });
  };
  const single = (other: LuaNamespace, member: TxMember, op: string): Promise<Reply> => {
    if (member.kind === 'commit') return other.commit(member.id, member.document, { op, ...member.options });
    return member.kind === 'delete' ? other.delete(member.id, { op, ...member.options }) : other.versions(member.id);
  };
  const begin = async (each: LuaNamespace): Promise<void> => {
    for (const id of ['small', 'expiring', 'gone', 'read', 'fenced'])
      await each.commit(id, `"${id}"`, { op: id, ttl: id === 'expiring' ? 90_000 : 'keep', fence: id === 'fenced' ? 7 : 0 });
    await each.commit('large', LARGE, { op: 'large' });
    for (const id of ['chunked', 'pieces']) {
      const { document, options } = sent(cut(CHUNKED, 8000));
      await each.commit(id, document, { op: id, ...options });
    }
    await each.commit('deleted', '1', { op: '1' });
    await each.delete('deleted', { op: '2' });
    await each.commit('expired', '"old"', { op: '3', ttl: 60_000 });
  };

  describe('DONE', () => {
    it('leaves what one script for each member leaves: fields, logs, indexes, accounts and frames', async () => {
      const other = await LuaNamespace.open();
      const start = (await lua.now()) - 100_000;
      for (const each of [lua, other]) await each.when(start, () => begin(each));
      const members: TxMember[] = [
        commit('small', '"new"', { ifVersion: 1, ifCrc: crc32Hex('"small"') }),
        expected('read', 1, crc32Hex('"read"')),
        commit('expiring', '"later"', { ttl: 80_000, patch: patchFrom(1, '"expiring"', '[1]') }),
        remove('gone', { ifVersion: 1 }),
        commit('large', LARGE.replace('large', 'other')),
        await inPlace('chunked'),
        commit('pieces', '"in one field again"'),
        expected('nowhere', 0),
        chunked('new'),
        remove('never'),
        commit('deleted', '"again"'),
        commit('fenced', '"fenced"', { fence: 8, ttl: 1000 }),
        // it has expired by then
        commit('expired', '"once more"', { ifVersion: 0 }),
      ];
      const at = start + 70_000;
      await Promise.all([lua.published(), other.published()]);
      const reply = await lua.when(at, () => transact(lua, members, { op: 'txn' }));
      for (const member of members) await other.when(at, () => single(other, member, 'txn'));
      await expectTwins(lua, other);
      const splice = (await lua.log('chunked')).at(-1)?.frame?.length;
      expect(reply).to.deep.equal([
        ...['DONE', at],
        ...[2, 'full', 5, 0, 0],
        ...[2, 'patch', 3, at + 80_000, 0],
        ...[2, 'deleted', 0, 0, 0],
        ...[2, 'full', LARGE.length, 0, 0],
        ...[2, 'splice', splice, 0, 1],
        ...[2, 'full', 20, 0, 0],
        ...[1, 'full', CHUNKED.length, 0, 1],
        ...[0, 'none', 0, 0, 0],
        ...[3, 'full', 7, 0, 0],
        ...[2, 'full', 8, at + 1000, 0],
        ...[2, 'full', 11, 0, 0],
      ]);
      for (const id of ['small', 'expiring', 'large', 'chunked', 'pieces', 'new', 'deleted', 'fenced', 'expired'])
        await expectSealed(lua, id);
      expect((await verified(lua, 'chunked'))?.document.toString()).to.contain('new');
      await exactAccounts(lua.redis, lua.keys.namespace);
      other.close();
    });

    it('takes 32 members', async () => {
      const other = await LuaNamespace.open();
      const ids = Array.from({ length: 32 }, (_, n) => `c${n}`);
      const members = ids.map((id, n) => (n % 8 === 7 ? remove(id) : commit(id, `"${n}"`, n % 3 === 0 ? { ttl: 60_000 } : {})));
      const at = await lua.now();
      for (const round of [0, 1]) {
        const reply = await lua.when(at + round, () => transact(lua, members, { op: `txn-${round}` }));
        for (const member of members) await other.when(at + round, () => single(other, member, `txn-${round}`));
        expect([reply[0], reply.length]).to.deep.equal(['DONE', 2 + 5 * 32]);
        await expectTwins(lua, other);
      }
      expect(await exactAccounts(lua.redis, lua.keys.namespace)).to.have.length(28);
      other.close();
    });

    it('writes nothing where nothing is to be deleted, or all is only read', async () => {
      await begin(lua);
      const at = await lua.now();
      const nothing = (members: TxMember[]): Promise<Reply> => lua.refused(() => lua.when(at, () => transact(lua, members)));
      expect(await nothing([remove('never'), remove('deleted')])).to.deep.equal([
        'DONE',
        at,
        0,
        'none',
        0,
        0,
        0,
        0,
        'none',
        0,
        0,
        0,
      ]);
      expect(await nothing([expected('small', 1), expected('deleted', 0, 'any'), expected('never', 0)])).to.deep.equal([
        'DONE',
        at,
      ]);
    });

    it('takes as absent what has expired, from that millisecond on', async () => {
      const exp = Number((await lua.commit('a', '"old"', { ttl: 60_000 }))[5]);
      const ask = (at: number, members: TxMember[]): Promise<Reply> => lua.when(at, () => transact(lua, members));
      const crc = crc32Hex('"old"');
      expect((await ask(exp - 1, [expected('a', 1, crc)]))[0]).to.equal('DONE');
      expect(await ask(exp - 1, [expected('a', 0)])).to.deep.equal(['REFUSED', 1, 'CONFLICT', 1, crc]);
      expect(await ask(exp, [expected('a', 1, crc)])).to.deep.equal(['REFUSED', 1, 'CONFLICT', 0, '-']);
      expect((await ask(exp, [expected('a', 0)]))[0]).to.equal('DONE');
      expect((await lua.refused(() => ask(exp, [remove('a')]))).slice(2, 4)).to.deep.equal([0, 'none']);
      const before = await ask(exp, [commit('a', '"b"', { ifVersion: 1 }), commit('b', '1')]);
      expect(before).to.deep.equal(['REFUSED', 1, 'CONFLICT', 0, '-']);
      expect((await ask(exp, [commit('b', '1'), commit('a', '"new"', { ifVersion: 0 })])).slice(7, 9)).to.deep.equal([2, 'full']);
      expect((await lua.log('a')).map(({ entry, kind }) => `${entry} ${kind}`)).to.deep.equal([
        '1-0 full',
        '1-1 expired',
        '2-0 full',
      ]);
      await exactAccounts(lua.redis, lua.keys.namespace);
    });
  });

  describe('APPLIED to an attempt that is sent again', () => {
    const op = operation();
    const members = [
      commit('a', '"a"', { ifVersion: 1 }),
      commit('b', LARGE),
      remove('c'),
      expected('read', 1),
      remove('never'),
      commit('new', '1', { ttl: 60_000 }),
    ];
    let at: number;
    const again = (more: { previousTill?: number; till?: number; of?: readonly TxMember[] } = {}): Promise<Reply> =>
      transact(lua, more.of ?? members, { op, firstSent: at, previousTill: at, ...more });
    beforeEach(async () => {
      for (const id of ['a', 'b', 'c', 'read']) await lua.commit(id, `"first ${id}"`);
      at = await lua.now();
      expect((await lua.when(at, () => transact(lua, members, { op })))[0]).to.equal('DONE');
    });
    const applied = async (versions: number[], more: Parameters<typeof again>[0] = {}): Promise<void> => {
      expect(await lua.refused(() => again(more))).to.deep.equal(['APPLIED', at, ...versions]);
    };

    it('at once, with what it has made', async () => {
      await applied([2, 2, 2, 0, 1]);
      // late, or before the lost one is certain not to come any more
      await applied([2, 2, 2, 0, 1], { till: 1 });
      await applied([2, 2, 2, 0, 1], { previousTill: at + 60_000 });
      await applied([2, 2, 2, 0, 1].reverse(), { of: [...members].reverse() });
    });

    it('where all of them were written again since', async () => {
      for (const id of ['a', 'b', 'c', 'new', 'read', 'never']) await lua.commit(id, '"since"', { ttl: 'none' });
      await applied([2, 2, 2, 0, 1]);
      for (const one of [commit('read', '1', { ifVersion: 1 }), expected('read', 1), remove('never', { ifVersion: 0 })])
        await applied(one.kind === 'expect' ? [2] : [0, 2], { of: [one, commit('a', '"a"', { ifVersion: 1 })] });
    });

    it('where they were deleted or have expired since', async () => {
      for (const id of ['a', 'b']) await lua.delete(id);
      await lua.makeExpired('new');
      await applied([2, 2, 2, 0, 1]);
      await lua.expire();
      await applied([2, 2, 2, 0, 1]);
    });

    it('where only one of them can tell, whatever has become of the others', async () => {
      await lua.commit('a', '"since"', { logBytes: 1 });
      await lua.redis.del(lua.of('b').context);
      await lua.redis.hset(lua.of('new').context, { len: '7', intent: 'other 1 0 0' });
      await lua.commit('read', '"since"');
      await lua.redis.del(lua.of('c').log);
      await applied([0, 2, 0, 0, 1]);
      // a context knows its own last operation, whatever its log does
      await lua.redis.del(lua.of('new').log);
      await lua.redis.hset(lua.of('new').context, { len: '1' });
      await applied([1, 0], { of: [commit('new', '1'), commit('a', '"a"', { ifVersion: 1 })] });
    });
  });

  describe('of an attempt that is sent again and was not applied', () => {
    let begun: number;
    beforeEach(async () => {
      begun = (await lua.now()) - 1000;
      for (const id of ['a', 'b']) await lua.when(begun - 1000, () => lua.commit(id, `"${id}"`));
    });
    const members = [expected('b', 1), remove('a'), commit('new', '1'), commit('b', '2')];
    const again = (previousTill: number, list = members): Promise<Reply> =>
      transact(lua, list, { previousTill, firstSent: begun });

    it('PENDING as long as the first may still come', async () => {
      for (const list of [members, [...members].reverse(), [remove('never')]]) {
        expect(await lua.refused(() => lua.when(begun + 10, () => again(begun + 10, list)))).to.deep.equal(['PENDING', 1]);
        expect(await lua.refused(() => lua.when(begun, () => again(begun + 10, list)))).to.deep.equal(['PENDING', 11]);
      }
      expect((await lua.when(begun + 11, () => again(begun + 10)))[0]).to.equal('DONE');
    });

    it('UNCERTAIN where no log reaches back', async () => {
      for (const id of ['a', 'b', 'new']) for (const n of [1, 2]) await lua.commit(id, `${n}`, { logBytes: 1 });
      const reply = await lua.refused(() => again(begun));
      expect(reply).to.deep.equal(['UNCERTAIN', 3]);
      // a deletion leaves nothing where there was nothing: that it is in no log does not tell
      expect((await lua.refused(() => again(begun, [...members, remove('never')])))[0]).to.equal('UNCERTAIN');
    });

    it('is done where the log of one reaches back: it has none of them', async () => {
      for (const id of ['a', 'new']) for (const n of [1, 2]) await lua.commit(id, `${n}`, { logBytes: 1 });
      // but it may still come
      const later = (await lua.now()) + 60_000;
      for (const list of [members, [...members].reverse()])
        expect((await lua.refused(() => again(later, list)))[0]).to.equal('PENDING');
      expect((await again(begun)).slice(0, 1)).to.deep.equal(['DONE']);
      for (const id of ['a', 'new', 'b']) for (const n of [1, 2]) await lua.commit(id, `${n}`, { logBytes: 1 });
      expect((await again(begun, [commit('fresh', '1'), commit('b', '3')]))[0]).to.equal('DONE');
    });
  });
});
