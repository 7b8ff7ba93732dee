import { expect } from 'chai';
import { crc32Hex, sha1Hex } from '../../src/core/checksum.js';
import { exactAccounts } from '../helpers/accounts.js';
import { drop, gone, look, quarantine } from '../helpers/integrity.js';
import { LuaNamespace, type Reply } from '../helpers/lua.js';
import { cut, edited, sent, stored } from '../helpers/plans.js';
import {
  commit,
  decide,
  expected,
  finish,
  intentOf,
  KEEP_MS,
  prepare,
  recordOf,
  remove,
  type TxMember,
  type TxPart,
} from '../helpers/transactions.js';

const CHUNKED = JSON.stringify('chunked '.repeat(5000));

describe('lua/prepare.lua', () => {
  let lua: LuaNamespace;
  let part: TxPart;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
    part = { txn: 'txn-1_a', deadline: (await lua.now()) + 60_000, parts: [0, 5, 7] };
    for (const id of ['a', 'b', 'read']) await lua.commit(id, `"${id}"`, { ttl: id === 'b' ? 60_000 : 'keep', fence: 7 });
    await lua.commit('deleted', '1');
    await lua.delete('deleted');
  });
  afterEach(() => lua.close());

  const MEMBERS = [commit('a', '"new"', { ifVersion: 1 }), remove('b'), commit('new', '1'), remove('never'), expected('read', 1)];
  const WRITTEN = ['a', 'b', 'new', 'never'];

  describe('PREPARED', () => {
    it('leaves a record, its name in the list, and an intent in each that is to be written; nothing else changes', async () => {
      await lua.published();
      const before = await lua.snapshot();
      const at = await lua.now();
      expect(await lua.when(at, () => prepare(lua, part, MEMBERS))).to.deep.equal(['PREPARED', at]);
      const after = await lua.snapshot();
      for (const id of WRITTEN) {
        expect((await lua.fields(id)).intent, id).to.equal(intentOf(part));
        await lua.redis.hdel(lua.of(id).context, 'intent');
      }
      expect((await lua.fields('read')).intent).to.equal(undefined);
      const { [recordOf(lua, part)]: record, [lua.shard.txn]: open, ...rest } = await lua.snapshot();
      const contents = (all: Record<string, unknown>): unknown =>
        Object.entries(all).map(([key, value]) => [key, (value as { content: unknown }).content]);
      expect(contents(rest)).to.deep.equal(contents(before));
      expect(open).to.deep.equal({ content: { 'txn-1_a.0': part.deadline }, expiry: -1 });
      expect(record).to.deep.equal(after[recordOf(lua, part)]);
      const { expiry, content } = record as { expiry: number; content: [string, string][] };
      expect(expiry).to.equal(-1);
      const { members, ...fields } = Object.fromEntries(content);
      expect(members).to.equal('commit:6 delete:4 commit:6 delete:4 expect:3');
      expect(fields).to.deep.include({
        ...{ txn: part.txn, part: '0', home: '0', deadline: String(part.deadline), by: 'tester', parts: '0 5 7', at: String(at) },
        ...{ a1: '"new"', a11: '1', a21: 'read' },
      });
      expect(Object.keys(fields).filter((name) => /^a\d/.test(name))).to.have.length(23);
      expect(await lua.published()).to.deep.equal([]);
    });

    it('again, with nothing written, to a repetition: also after the decision, and after all is over', async () => {
      const at = await lua.now();
      await lua.when(at, () => prepare(lua, part, MEMBERS));
      const again = (): Promise<Reply> => lua.refused(() => prepare(lua, part, MEMBERS));
      expect(await again()).to.deep.equal(['PREPARED', at]);
      expect(await lua.refused(() => lua.when(part.deadline + 1, () => prepare(lua, part, MEMBERS)))).to.deep.equal([
        'PREPARED',
        at,
      ]);
      await decide(lua, part, 'commit');
      expect(await again()).to.deep.equal(['PREPARED', at]);
      await finish(lua, part, 'commit');
      expect((await again())[0]).to.equal('PREPARED');
      await finish(lua, part, 'forget');
      expect((await again())[0]).to.equal('PREPARED');
    });

    it('and others are held off by it, whatever the time', async () => {
      await prepare(lua, part, MEMBERS);
      const answer = ['LOCKED', part.txn, part.deadline, 0, 0];
      for (const at of [part.deadline - 1, part.deadline + 1])
        for (const id of WRITTEN)
          for (const write of [() => lua.commit(id, '1'), () => lua.delete(id)])
            expect(await lua.refused(() => lua.when(at, write))).to.deep.equal(answer);
      const other = { ...part, txn: 'other' };
      for (const id of WRITTEN)
        for (const one of [commit(id, '1'), remove(id), expected(id, 1)])
          expect(await lua.refused(() => prepare(lua, other, [commit('z', '1'), one]))).to.deep.equal(['REFUSED', 2, ...answer]);
      expect((await lua.commit('read', '1'))[0]).to.equal('COMMITTED');
    });
  });

  describe('ABORTED', () => {
    it('after its deadline', async () => {
      const ask = (at: number): Promise<Reply> => lua.when(at, () => prepare(lua, part, MEMBERS));
      expect(await lua.refused(() => ask(part.deadline + 1))).to.deep.equal(['ABORTED']);
      expect((await ask(part.deadline))[0]).to.equal('PREPARED');
    });

    it('where it was decided before it came', async () => {
      expect((await decide(lua, part, 'abort'))[0]).to.equal('ABORTED');
      expect(await lua.refused(() => prepare(lua, part, MEMBERS))).to.deep.equal(['ABORTED']);
    });

    it('where it was decided since', async () => {
      await prepare(lua, part, MEMBERS);
      await decide(lua, part, 'abort');
      expect(await lua.refused(() => prepare(lua, part, MEMBERS))).to.deep.equal(['ABORTED']);
      await finish(lua, part, 'abort');
      expect(await lua.refused(() => prepare(lua, part, MEMBERS))).to.deep.equal(['ABORTED']);
    });
  });

  describe('is refused, with nothing written, as a commit is', () => {
    const refuses = async (member: TxMember, ...words: (string | number)[]): Promise<void> => {
      for (const at of [0, 2, 5]) {
        const members = [...MEMBERS.slice(0, at), member, ...MEMBERS.slice(at)];
        const reply = await lua.refused(() => prepare(lua, part, members));
        expect(reply).to.deep.equal(['CHECKSUM', 'LATE'].includes(String(words[0])) ? words : ['REFUSED', at + 1, ...words]);
      }
      expect((await prepare(lua, part, MEMBERS))[0]).to.equal('PREPARED');
    };
    const crc = crc32Hex('"x"');
    beforeEach(() => lua.commit('x', '"x"', { fence: 7 }));

    it('with CONFLICT', () => refuses(commit('x', '1', { ifVersion: 2 }), 'CONFLICT', 1, crc));
    it('with CONFLICT of a deletion', () => refuses(remove('x', { ifVersion: 2 }), 'CONFLICT', 1, crc));
    it('with CONFLICT of what was read', () => refuses(expected('x', 2), 'CONFLICT', 1, crc));
    it('with FENCED', () => refuses(commit('x', '1', { fence: 6 }), 'FENCED', '7'));
    it('with CHECKSUM', () => refuses(commit('x', '1', { claims: { length: 2 } }), 'CHECKSUM', sha1Hex('1'), 1));
    it('with LATE', async () => {
      const reply = await lua.refused(() =>
        lua.when(2000, () => prepare(lua, part, [...MEMBERS, commit('x', '1', { till: 1000 })])),
      );
      expect(reply).to.deep.equal(['LATE', 2000]);
    });
    it('with DAMAGED', async () => {
      await lua.redis.hset(lua.of('x').context, 'len', '7');
      await refuses(commit('x', '1'), 'DAMAGED');
    });
    it('with BASE_MISMATCH', async () => {
      const { document, options } = sent(cut(CHUNKED, 8000));
      await lua.commit('x', document, options);
      const other = edited(await stored(lua, 'x'), [{ at: 9, remove: 2, insert: Buffer.from('new') }], 8000, 'chunked');
      await lua.redis.hset(lua.of('x').context, 'd0', 'damaged');
      await refuses(commit('x', other.document, other.options), 'BASE_MISMATCH', 2, crc32Hex(CHUNKED), 'd0');
    });
  });

  describe('what a transaction is about to create', () => {
    const HELD = [commit('deleted', '"again"'), commit('new', '1'), remove('never')];
    const IDS = ['deleted', 'new', 'never'];
    beforeEach(async () => {
      expect((await prepare(lua, part, HELD))[0]).to.equal('PREPARED');
      for (const id of IDS) expect(await lua.redis.hkeys(lua.of(id).context)).to.deep.equal(['intent']);
    });
    afterEach(async () => {
      await decide(lua, part, 'commit');
      expect((await finish(lua, part, 'commit'))[0]).to.equal('FINISHED');
      expect(await exactAccounts(lua.redis, lua.keys.namespace)).to.deep.equal(['a', 'b', 'deleted', 'new', 'read']);
    });

    it('is in no index and no account', async () => {
      for (const index of [lua.shard.exp, lua.shard.use, lua.shard.size])
        expect(await lua.ids(index)).to.not.include.members(IDS);
      expect((await lua.accounts()).contexts).to.equal(3);
    });

    it('is absent to versions, catchup, touch, inspect and look', async () => {
      const none = ['', '', ''];
      expect((await lua.versions(...IDS)).slice(2)).to.deep.equal([...none, ...none, ...none]);
      for (const id of IDS) {
        const { context, log } = lua.of(id);
        expect((await lua.run('catchup', [context, log], [10, 10, 'all'])).slice(2, 5)).to.deep.equal(none);
        expect(await lua.refused(() => lua.touch(id, 5000, { sealed: 1 }))).to.deep.equal(['ABSENT']);
        const { lost, hashes } = await look(lua, id);
        expect([lost, hashes[0]]).to.deep.equal([false, { intent: intentOf(part) }]);
      }
      expect(await lua.run('inspect', [lua.of('new').context], [])).to.deep.equal([
        `absent; a transaction is about to create it: ${intentOf(part)}`,
      ]);
    });

    it('is nothing damaged to scrub, and nothing to mend to reconcile', async () => {
      const keys = IDS.map((id) => lua.of(id).context);
      expect(await lua.refused(() => lua.run('scrub', keys, [1_000_000, '-', 1]))).to.deep.equal(['SCRUBBED', 0, '-', 3, 0, 0]);
      const { exp, use, size, mem, tag } = lua.shard;
      const mended = (at: number): Promise<Reply> =>
        lua.refused(() =>
          lua.when(at, () => lua.run('reconcile', [exp, use, size, mem], [tag, '60000 60000 PUBLISH tester 2 1', ...IDS])),
        );
      for (const at of [part.deadline - 1, part.deadline + 1])
        expect((await mended(at)).slice(0, 11)).to.deep.equal(['RECONCILED', ...Array.from({ length: 10 }, () => 0)]);
    });

    it('is nothing that has expired', async () => {
      for (const id of IDS) await lua.redis.zadd(lua.shard.exp, 'NX', 1, id);
      const reply = await lua.expire(10, 1);
      expect(reply[3], 'damaged').to.equal(0);
      for (const id of IDS) expect((await lua.fields(id)).intent, id).to.equal(intentOf(part));
      await lua.redis.zrem(lua.shard.exp, ...IDS);
    });

    it('is nothing that could be moved aside, taken away, or accounted', async () => {
      for (const id of IDS) {
        expect(await lua.refused(() => quarantine(lua, id, 'put'))).to.deep.equal(['CHANGED']);
        expect(await lua.refused(() => gone(lua, id))).to.deep.equal(['CHANGED']);
        expect(await lua.refused(() => drop(lua, id, 'kj', ['1-0']))).to.deep.equal(['DROPPED', 0, 0]);
      }
    });
  });

  describe('where Redis would remove a context by itself', () => {
    it('it stays as long as it is held, and is what it was decided to be', async () => {
      const begun = (await lua.now()) - 200_000;
      await lua.commit('x', '"x"', { ttl: 60_000 });
      const members = [commit('x', '"y"', { ifVersion: 1 }), commit('b', '"b2"')];
      expect((await lua.when(begun, () => prepare(lua, part, members)))[0]).to.equal('PREPARED');
      for (const id of ['x', 'b'])
        expect(await lua.nativeExpiry(lua.of(id).context), id).to.be.greaterThan(part.deadline + KEEP_MS);
      expect(await lua.nativeExpiry(lua.of('a').context)).to.equal(-1);
      const exp = await lua.makeExpired('x', 100_000);
      await decide(lua, part, 'commit');
      // written although it would be gone, to be taken out then as any other
      const reply = await finish(lua, part, 'commit');
      expect(reply.slice(3, 9)).to.deep.equal(['x', '2', 'full', '3', String(exp), '0']);
      await exactAccounts(lua.redis, lua.keys.namespace);
      expect((await lua.expire(10, 1)).slice(3)).to.deep.equal([0, 'x', 2]);
    });

    it('and is removed then as it was to be', async () => {
      const at = await lua.now();
      await prepare(lua, part, [commit('b', '"b2"')]);
      await decide(lua, part, 'commit');
      await finish(lua, part, 'commit');
      const exp = Number((await lua.fields('b')).exp);
      expect(await lua.nativeExpiry(lua.of('b').context)).to.equal(exp + 60_000);
      expect(exp).to.be.lessThan(at + 61_000);
    });
  });
});
