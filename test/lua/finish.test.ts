import { expect } from 'chai';
import { crc32Hex } from '../../src/core/checksum.js';
import { exactAccounts } from '../helpers/accounts.js';
import { expectSealed } from '../helpers/integrity.js';
import { LuaNamespace, type Reply } from '../helpers/lua.js';
import { cut, edited, sent, stored } from '../helpers/plans.js';
import {
  commit,
  decide,
  expected,
  finish,
  KEEP_MS,
  prepare,
  recordOf,
  remove,
  type TxMember,
  type TxPart,
} from '../helpers/transactions.js';
import { expectTwins } from '../helpers/twins.js';
import { patchFrom } from './commitFrame.js';

const LARGE = JSON.stringify('large '.repeat(2000));
const CHUNKED = JSON.stringify('chunked '.repeat(5000));

describe('lua/finish.lua', () => {
  let lua: LuaNamespace;
  let start: number;
  let part: TxPart;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
    start = (await lua.now()) - 40_000;
    part = { txn: 'txn', deadline: start + 80_000, parts: [0, 4] };
    await begin(lua);
  });
  afterEach(() => lua.close());

  async function begin(each: LuaNamespace): Promise<void> {
    await each.when(start, async () => {
      for (const id of ['small', 'gone', 'read', 'patched'])
        await each.commit(id, `"${id}"`, { op: id, ttl: id === 'small' ? 90_000 : 'keep', fence: 7 });
      await each.commit('large', LARGE, { op: 'large', ttl: 90_000 });
      for (const id of ['chunked', 'pieces']) {
        const { document, options } = sent(cut(CHUNKED, 8000));
        await each.commit(id, document, { op: id, ...options });
      }
      await each.commit('deleted', '1', { op: '1' });
      await each.delete('deleted', { op: '2' });
      await each.commit('expired', '"old"', { op: '3', ttl: 1000 });
    });
  }

  async function members(): Promise<TxMember[]> {
    const plan = edited(await stored(lua, 'chunked'), [{ at: 9000, remove: 7, insert: Buffer.from('new') }], 8000, 'chunked');
    const { document, options } = sent(cut(CHUNKED, 8000));
    return [
      commit('small', '"new"', { ifVersion: 1 }),
      expected('read', 1),
      commit('patched', '"later"', { ttl: 5000, patch: patchFrom(1, '"patched"', '[1]'), fence: 8 }),
      remove('gone', { ifVersion: 1 }),
      commit('large', LARGE.replace('large', 'other')),
      commit('chunked', plan.document, {
        ...plan.options,
        patch: { text: 'splice', baseVersion: 1, baseCrc: crc32Hex(CHUNKED) },
      }),
      commit('pieces', '"in one field again"'),
      commit('new', document, options),
      remove('never'),
      commit('deleted', '"again"'),
      commit('expired', '"once more"', { ifVersion: 0 }),
    ];
  }
  const WRITTEN = ['small', 'patched', 'gone', 'large', 'chunked', 'pieces', 'new', 'never', 'deleted', 'expired'];
  const HAS = ['chunked', 'deleted', 'expired', 'large', 'new', 'patched', 'pieces', 'read', 'small'];

  const prepared = async (at = start + 70_000, by = part): Promise<void> => {
    const all = await members();
    expect((await lua.when(at, () => prepare(lua, by, all)))[0]).to.equal('PREPARED');
  };
  const decided = (want: 'commit' | 'abort'): Promise<Reply> => lua.when(part.deadline, () => decide(lua, part, want));
  const noIntents = async (): Promise<void> => {
    for (const id of WRITTEN) expect((await lua.fields(id)).intent, id).to.equal(undefined);
  };

  describe('of what was committed', () => {
    for (const number of [0, 1]) {
      it(`leaves what one script for each member leaves, and the result in the record of part ${number}`, async () => {
        const mine = { ...part, part: number };
        const other = await LuaNamespace.open();
        await begin(other);
        const written = (await members()).filter(({ kind }) => kind !== 'expect');
        await prepared(start + 70_000, mine);
        if (number === 0) await decided('commit');
        await Promise.all([lua.published(), other.published()]);

        const at = part.deadline + 5;
        const reply = await lua.when(at, () => finish(lua, mine, 'commit'));
        const splice = (await lua.log('chunked')).at(-1)?.frame?.length;
        const words = [
          ...['small', '2', 'full', '5', String(start + 90_000), '0'],
          ...['patched', '2', 'patch', '3', String(at + 5000), '0'],
          ...['gone', '2', 'deleted', '0', '0', '0'],
          ...['large', '2', 'full', String(LARGE.length), String(start + 90_000), '0'],
          ...['chunked', '2', 'splice', String(splice), '0', '1'],
          ...['pieces', '2', 'full', '20', '0', '0'],
          ...['new', '1', 'full', String(CHUNKED.length), '0', '1'],
          ...['never', '0', 'none', '0', '0', '0'],
          ...['deleted', '3', 'full', '7', '0', '0'],
          ...['expired', '2', 'full', '11', '0', '0'],
        ];
        expect(reply).to.deep.equal(['FINISHED', at, 0, ...words]);
        for (const member of written)
          await other.when(at, () =>
            member.kind === 'commit'
              ? other.commit(member.id, member.document, { op: 'txn', ...member.options })
              : other.delete(member.id, { op: 'txn' }),
          );
        // with an intent the table of a hash may have grown
        await expectTwins(lua, other, false);
        await noIntents();
        for (const id of HAS) await expectSealed(lua, id);
        expect(await exactAccounts(lua.redis, lua.keys.namespace)).to.deep.equal(HAS);

        // again and again
        for (const met of ['', 'small', 'gone', 'never'])
          expect(await lua.refused(() => finish(lua, mine, 'commit', met))).to.deep.equal(['FINISHED', at, 1, ...words]);

        const record = await lua.redis.hgetall(recordOf(lua, mine));
        const common = { txn: 'txn', at: String(at), done: words.join(' ') };
        const state = { state: 'committed', decided: String(part.deadline), parts: '0 4', deadline: String(part.deadline) };
        expect(record).to.deep.equal(number === 0 ? { ...common, ...state } : common);
        const forgotten = await lua.nativeExpiry(recordOf(lua, mine));
        if (number === 0) expect([forgotten, await lua.ids(lua.shard.txn)]).to.deep.equal([-1, ['txn.0']]);
        else expect(forgotten).to.be.closeTo((await lua.now()) + KEEP_MS, 10_000);
        expect((await finish(lua, mine, 'forget'))[0]).to.equal('NOTHING');
        expect(await lua.nativeExpiry(recordOf(lua, mine))).to.be.closeTo((await lua.now()) + KEEP_MS, 10_000);
        expect(await lua.redis.exists(lua.shard.txn)).to.equal(0);
        other.close();
      });
    }
  });

  describe('of what was aborted', () => {
    for (const number of [0, 1]) {
      it(`leaves all as it was before part ${number} was prepared`, async () => {
        const mine = { ...part, part: number };
        await lua.published();
        const before = await lua.snapshot();
        await prepared(start + 70_000, mine);
        expect(await finish(lua, mine, 'abort')).to.deep.equal(['ABORTED', 10]);
        await noIntents();
        const { [recordOf(lua, mine)]: record, ...after } = (await lua.snapshot()) as Record<string, { content: unknown }>;
        for (const [key, { content }] of Object.entries(before as typeof after))
          if (![lua.shard.size, lua.shard.mem].includes(key)) expect(after[key]?.content, key).to.deep.equal(content);
        expect(Object.keys(after).sort()).to.deep.equal(Object.keys(before).sort());
        expect(await lua.published()).to.deep.equal([]);
        expect((await exactAccounts(lua.redis, lua.keys.namespace)).sort()).to.deep.equal(
          [...HAS.filter((id) => !['new', 'deleted'].includes(id)), 'gone'].sort(),
        );
        // part 0 is asked for the decision as long as somebody may ask
        if (number === 1) expect(record).to.equal(undefined);
        else {
          const fields = await lua.redis.hgetall(recordOf(lua, mine));
          expect(fields).to.deep.include({ txn: 'txn', state: 'aborted', parts: '0 4' });
          expect(await lua.nativeExpiry(recordOf(lua, mine))).to.be.closeTo((await lua.now()) + KEEP_MS, 10_000);
        }
        for (const met of ['', 'small', 'never'])
          expect(await lua.refused(() => finish(lua, mine, 'abort', met))).to.deep.equal(['NOTHING']);
        expect((await lua.commit('small', '1'))[0]).to.equal('COMMITTED');
      });
    }

    it('takes back no intent of another', async () => {
      await prepared();
      const { context } = lua.of('small');
      for (const intent of [`other ${part.deadline} 0 0`, `txn ${part.deadline} 1 0`, `txn1 ${part.deadline} 0 0`]) {
        await lua.redis.hset(context, 'intent', intent);
        await finish(lua, part, 'abort', 'small');
        expect(await lua.redis.hget(context, 'intent')).to.equal(intent);
      }
    });

    it('takes a transaction by its name, whatever letters that has', async () => {
      for (const txn of ['a.b', 'a%w', 'a-b', '^a$', '(a)', '[a]']) {
        const mine = { ...part, txn };
        await prepared(start + 70_000, mine);
        expect(await finish(lua, mine, 'abort')).to.deep.equal(['ABORTED', 10]);
      }
      await lua.redis.hset(lua.of('small').context, 'intent', `axb ${part.deadline} 0 0`);
      expect(await finish(lua, { ...part, txn: 'a.b' }, 'abort', 'small')).to.deep.equal(['NOTHING']);
      expect((await lua.fields('small')).intent).to.equal(`axb ${part.deadline} 0 0`);
    });
  });

  describe('where the record is gone', () => {
    for (const outcome of ['commit', 'abort'] as const) {
      it(`${outcome}: NOTHING, or DROPPED where an intent is met and taken back`, async () => {
        await prepared();
        await lua.redis.del(recordOf(lua, part));
        expect(await lua.refused(() => finish(lua, part, outcome))).to.deep.equal(['NOTHING']);
        expect(await lua.refused(() => finish(lua, part, outcome, 'read'))).to.deep.equal(['NOTHING']);
        for (const id of WRITTEN) {
          expect(await finish(lua, part, outcome, id)).to.deep.equal(['DROPPED']);
          expect(await lua.refused(() => finish(lua, part, outcome, id))).to.deep.equal(['NOTHING']);
        }
        await noIntents();
        expect((await exactAccounts(lua.redis, lua.keys.namespace)).includes('new')).to.equal(false);
        expect((await lua.fields('small')).v).to.equal('1');
      });
    }
  });

  it('takes back an intent that is met after its part was finished', async () => {
    await prepared();
    await decided('commit');
    await finish(lua, part, 'commit');
    for (const id of ['small', 'chunked', 'gone']) {
      await lua.redis.hset(lua.of(id).context, 'intent', `txn ${part.deadline} 0 0`);
      expect((await finish(lua, part, 'commit', id)).slice(0, 1)).to.deep.equal(['FINISHED']);
      expect((await lua.fields(id)).intent, id).to.equal(undefined);
    }
    expect(await exactAccounts(lua.redis, lua.keys.namespace)).to.deep.equal(HAS);
  });

  for (const outcome of ['commit', 'abort'] as const) {
    it(`${outcome}: leaves exact accounts where the intent made the table of a hash grow, also once it is read`, async () => {
      // with the ten other fields a table of 64, and an intent is one more
      for (const count of [53, 54, 55]) {
        const id = `c${count}`;
        const { document, options } = sent(cut('chunk '.repeat(count * 20), 120));
        await lua.commit(id, document, options);
        const plan = edited(await stored(lua, id), [{ at: 9, remove: 2, insert: Buffer.from('ab') }], 120, 'chunked');
        const mine = { ...part, txn: `txn-${count}` };
        expect((await lua.when(start, () => prepare(lua, mine, [commit(id, plan.document, plan.options)])))[0]).to.equal(
          'PREPARED',
        );
        await lua.when(start, () => decide(lua, mine, outcome));
        await finish(lua, mine, outcome);
        for (let n = 0; n < 100; n += 1) await lua.redis.hget(lua.of(id).context, 'v');
        await exactAccounts(lua.redis, lua.keys.namespace);
      }
    });
  }

  it('is not asked again what it was prepared under: version, fence, time and what was read', async () => {
    await prepared();
    await decided('commit');
    await lua.redis.hset(lua.of('small').context, { fence: '999' });
    await lua.commit('read', '"since"');
    const reply = await lua.when(part.deadline + 10_000_000, () => finish(lua, part, 'commit'));
    expect(reply.slice(0, 1)).to.deep.equal(['FINISHED']);
  });
});
