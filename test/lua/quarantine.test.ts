import { expect } from 'chai';
import { crc32Hex } from '../../src/core/checksum.js';
import {
  checkpoint,
  copyKeys,
  damageDocument,
  damageEntries,
  fingerprint,
  type QuarantineOptions,
  quarantine,
  refusesEachChangedField,
  repair,
} from '../helpers/integrity.js';
import { GRACE_MS, LuaNamespace, type Reply, TOMBSTONE_MS } from '../helpers/lua.js';
import { cut, sent } from '../helpers/plans.js';
import { flip } from '../helpers/seals.js';
import { patchFrom } from './commitFrame.js';

const WHY = 'document sha: expected 356a192b7913b04c54574d18c28d46e6395428ab, found da4b9237bacccdf19c0760cab7aec4a8359010b0';

describe('lua/quarantine.lua', () => {
  let lua: LuaNamespace;
  let moved: string;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
    ({ moved } = copyKeys(lua, 'a'));
  });
  afterEach(() => lua.close());

  const damage = (fields: Record<string, string | number>): Promise<number> => lua.redis.hset(lua.of('a').context, fields);

  /** The accounts are those of one context and of what was moved of it, also once everything was read. */
  async function exact(): Promise<void> {
    const { context, log, size } = lua.of('a');
    const { newest, older } = copyKeys(lua, 'a');
    for (let round = 0; round < 2; round += 1) {
      const bytes = await lua.memory(context, log, newest, older);
      expect(await lua.scores(size)).to.deep.equal({ a: bytes });
      const { checkpoints = 0, quarantine: aside = 0, quarantined = 0, ...accounts } = await lua.accounts();
      expect(accounts).to.deep.equal({ bytes, contexts: 1 });
      expect([aside, quarantined]).to.deep.equal([await lua.memory(moved), await lua.redis.exists(moved)]);
      expect(checkpoints).to.equal(await lua.memory(newest, older));
      for (const key of [context, moved]) await lua.redis.hmget(key, ...Array.from({ length: 2000 }, (_, n) => `d${n}`));
    }
  }

  /** Moves `a`, and checks all that there is afterwards. */
  async function put(options: QuarantineOptions = {}): Promise<Record<string, string>> {
    const { context, log, exp, use } = lua.of('a');
    const { newest, older } = copyKeys(lua, 'a');
    const [was, entries, uses] = await Promise.all([lua.redis.hgetallBuffer(context), lua.log('a'), lua.scores(use)]);
    await lua.published();
    const from = await lua.now();
    const before = await lua.redis.hgetallBuffer(moved);
    const reply = await quarantine(lua, 'a', 'put', { version: 2, why: WHY, ...options });
    expect(reply).to.deep.equal(['QUARANTINED', options.version ?? 2]);
    const lost = Object.keys(was).length === 0;
    const stub = await lua.redis.hgetall(context);
    expect(Number(stub.at)).to.be.within(from, await lua.now());
    const aside = await lua.redis.hgetallBuffer(moved);
    // of what is gone nothing is moved, and what was moved before stays
    if (lost) expect(aside).to.deep.equal(before);
    else {
      const { why = '', when = '', who = '', ...rest } = aside;
      expect([String(why), String(when), String(who)]).to.deep.equal([options.why ?? WHY, stub.at, options.by ?? 'mover']);
      const { who: _, why: __, when: ___, ...fields } = was;
      expect(rest).to.deep.equal(fields);
    }

    const { exp: expires = null } = options;
    const { fence, intent } = Object.fromEntries(Object.entries(was).map(([name, value]) => [name, value.toString()]));
    expect(stub).to.deep.equal({
      ...{ v: String(options.version ?? 2), at: stub.at, by: options.by ?? 'mover', q: options.why ?? WHY },
      ...(expires === null ? {} : { exp: String(expires) }),
      ...(fence === undefined ? {} : { fence }),
      ...(intent === undefined ? {} : { intent }),
    });
    expect(await lua.log('a')).to.deep.equal(entries);
    expect(await lua.scores(exp)).to.deep.equal(expires === null ? {} : { a: expires });
    expect(await lua.scores(use)).to.deep.equal('a' in uses ? uses : { a: Number(stub.at) });
    expect(await lua.nativeExpiry(context)).to.equal(expires === null ? -1 : expires + GRACE_MS);
    for (const key of [moved, log, newest, older]) {
      const there = (await lua.redis.exists(key)) === 1;
      expect(await lua.nativeExpiry(key), key).to.equal(!there ? -2 : expires === null ? -1 : expires + TOMBSTONE_MS);
    }
    expect(await lua.published()).to.deep.equal([]);
    await exact();
    return stub;
  }

  describe('QUARANTINED', () => {
    beforeEach(async () => {
      await lua.commit('a', '1');
      await lua.commit('a', '{"balance":100}', { ttl: 60_000 });
    });

    it('moves the hash as it is, and leaves a stub that says why', async () => {
      await damage({ data: Buffer.from([0, 255, 10]).toString('latin1') });
      await put();
    });

    it('whatever is damaged, or gone, of it', async () => {
      for (const field of ['v', 'crc', 'sha', 'len', 'at', 'exp', 'seal', 'data'] as const) {
        await damage({ [field]: 'x' });
        await put({ why: `document ${field}` });
        await lua.commit('a', '1', { ttl: 60_000 });
        await lua.redis.hdel(lua.of('a').context, field);
        await put({ why: `no ${field}` });
        await lua.commit('a', '1', { ttl: 60_000 });
      }
    });

    it('with chunks of which one, their list or their number is damaged, or gone', async () => {
      const { context } = lua.of('a');
      const planned = sent(cut('x'.repeat(500), 20));
      const list = (text: string): Promise<unknown> => lua.redis.hset(context, 'chunks', text);
      for (const change of [
        () => flip(lua, context, 'd0'),
        () => flip(lua, context, 'd24', 77),
        () => lua.redis.hset(context, 'd9', 'x'.repeat(21)),
        () => lua.redis.hdel(context, 'd12'),
        () => lua.redis.hdel(context, 'chunks'),
        () => flip(lua, context, 'chunks', 11),
        () => list(''),
        async () => list(`${await lua.redis.hget(context, 'chunks')}d0 20 x\n`),
      ]) {
        await lua.commit('a', planned.document, planned.options);
        await change();
        await put();
      }
    });

    it('of any number of chunks, with a reason of any length: the accounts are exact', async () => {
      for (const [size, why] of [
        [1, '-'],
        [7, WHY],
        [12, WHY.repeat(3)],
        [70, '-'],
        [600, WHY],
      ] as const) {
        const planned = sent(cut('x'.repeat(600), size));
        await lua.commit('a', planned.document, planned.options);
        await damage({ crc: '00000000' });
        await put({ why });
      }
    });

    it('for any number of fields that it has', async () => {
      for (let n = 1; n <= 70; n += 1) {
        await lua.commit('a', 'x'.repeat(n > 35 ? 500 : 5));
        await damageDocument(lua, 'a');
        await damage(Object.fromEntries(Array.from({ length: n }, (_, index) => [`f${index}`, 'x'])));
        await put({ why: '-' });
      }
    });

    it('keeps log and checkpoints, natively too: what they lead to may be the only good document', async () => {
      await checkpoint(lua, 'a', 'first');
      await lua.commit('a', '{"balance":50}');
      await checkpoint(lua, 'a', 'second');
      expect(await lua.nativeExpiry(copyKeys(lua, 'a').older)).to.be.greaterThan(0);
      await damage({ data: '?' });
      await put({ version: 3 });
    });

    it('keeps who holds it: fence and intent', async () => {
      await damage({ fence: '7', intent: `txn-7 ${(await lua.now()) + 60_000} 0 0`, data: '?' });
      await put();
      expect((await lua.refused(() => lua.commit('a', '3', { fence: 8 })))[0]).to.equal('LOCKED');
    });

    it('at the version that its log knows, whatever its own says', async () => {
      await damage({ v: '99' });
      await put({ version: 2 });
      expect((await lua.commit('a', '3'))[1]).to.equal(3);
    });

    it('with no place in the indexes', async () => {
      const { exp, use, size, mem } = lua.of('a');
      await lua.redis.del(exp, use, size, mem);
      await damageDocument(lua, 'a');
      await put();
    });

    it('where the hash is gone: a stub, and nothing that was moved', async () => {
      await lua.redis.del(lua.of('a').context);
      await put();
      expect(await lua.redis.exists(moved)).to.equal(0);
      expect(await lua.redis.hexists(lua.shard.mem, 'quarantined')).to.equal(0);
      expect((await lua.commit('a', '3'))[1]).to.equal(3);
    });

    it('where the hash is gone, with an expiry, its copies, or without its place in the indexes', async () => {
      await checkpoint(lua, 'a', 'copy');
      await lua.redis.del(lua.of('a').context);
      await put({ exp: (await lua.now()) + 60_000 });
      const { context, exp, use, size, mem } = lua.of('a');
      await lua.redis.del(context, exp, use, size, mem);
      // the accounts begin anew, with what they have
      await lua.redis.hset(mem, 'checkpoints', await lua.memory(copyKeys(lua, 'a').newest));
      await put();
    });

    it('where the hash is gone of what was moved before, which stays', async () => {
      await damage({ data: 'first' });
      await put();
      await lua.commit('a', '3');
      await lua.redis.del(lua.of('a').context);
      await put({ version: 3, exp: (await lua.now()) + 60_000 });
      expect(await lua.redis.hget(moved, 'data')).to.equal('first');
    });

    it('where the last entry of its log is damaged, too', async () => {
      await lua.redis.del(lua.of('a').context);
      await damageEntries(lua, 'a', ['2-0'], 'kind', 'x');
      await put();
    });

    it('that is sound but for its seal, only where every context has one', async () => {
      await lua.redis.hdel(lua.of('a').context, 'seal');
      expect(await lua.refused(() => quarantine(lua, 'a', 'put', { version: 2, sealed: 0 }))).to.deep.equal(['SOUND']);
      await put({ sealed: 1 });
      await lua.commit('a', '3', { protocol: 1 });
      await damage({ data: '?' });
      await put({ version: 3, sealed: 0 });
    });

    describe('with an expiry', () => {
      it('lives no longer than the context would have: stub, log, copies and what was moved', async () => {
        await checkpoint(lua, 'a', 'first');
        await lua.commit('a', '{"balance":50}');
        await checkpoint(lua, 'a', 'second');
        await damage({ data: '?' });
        const exp = (await lua.now()) + 90_000;
        await put({ version: 3, exp });
      });

      it('gets another one, or none, by the next that is moved', async () => {
        const now = await lua.now();
        for (const exp of [now + 60_000, null, now + 90_000, now + 60_000]) {
          await damage({ data: '?', crc: 'x' });
          await put({ exp });
          await lua.commit('a', '3', { ttl: 'none' });
        }
      });

      it('keeps who holds it', async () => {
        await damage({ fence: '7', data: '?' });
        await put({ exp: (await lua.now()) + 60_000 });
      });

      it('is swept by its time, but for what was moved, and the accounts are exact', async () => {
        await checkpoint(lua, 'a', 'copy');
        await damage({ data: '?' });
        const exp = (await lua.now()) + 40;
        await put({ exp });
        expect(await lua.expire(10, 1)).to.deep.equal(['EXPIRED', 0, exp, 0]);
        await lua.passed(exp);
        await lua.published();
        expect(await lua.expire(10, 1)).to.deep.equal(['EXPIRED', 0, 0, 0, 'a', 2]);
        expect((await lua.published()).map(({ text }) => text.split(' ').slice(0, 8).join(' '))).to.deep.equal([
          'lc2 expired - 0 2 - 0 2',
        ]);
        const { context, log, use, size } = lua.of('a');
        const { newest, older } = copyKeys(lua, 'a');
        expect(await lua.redis.exists(context, newest, older)).to.equal(0);
        expect((await lua.log('a')).map(({ entry, kind }) => `${entry} ${kind}`)).to.deep.equal([
          ...['1-0 full', '2-0 full', '2-1 expired'],
        ]);
        for (const index of [lua.shard.exp, use, size]) expect(await lua.ids(index)).to.deep.equal([]);
        expect(await lua.nativeExpiry(moved)).to.equal(exp + TOMBSTONE_MS);
        expect(await lua.nativeExpiry(log)).to.be.within(exp + TOMBSTONE_MS, (await lua.now()) + TOMBSTONE_MS);
        const bytes = await lua.memory(moved);
        expect(await lua.accounts()).to.deep.equal({ bytes: 0, contexts: 0, checkpoints: 0, quarantine: bytes, quarantined: 1 });
        expect(await quarantine(lua, 'a', 'drop')).to.deep.equal(['DROPPED', bytes]);
        expect(await lua.accounts()).to.deep.include({ quarantine: 0, quarantined: 0 });
        // and a new one goes on from its tombstone
        expect((await lua.commit('a', '3'))[1]).to.equal(3);
      });

      it('is expired before a sweep as well: nobody has it, and a commit goes on after it', async () => {
        await damage({ data: '?' });
        const exp = (await lua.now()) + 20;
        await put({ exp });
        await lua.passed(exp);
        expect((await lua.versions('a')).slice(2)).to.deep.equal(['', '', '']);
        expect(await lua.refused(() => lua.delete('a'))).to.deep.equal(['ABSENT']);
        await lua.published();
        expect((await lua.commit('a', '3', { ttl: 60_000 })).slice(0, 2)).to.deep.equal(['COMMITTED', 3]);
        expect((await lua.published()).map(({ text }) => text.split(' ')[1])).to.deep.equal(['expired', 'full']);
        expect((await lua.fields('a')).q).to.equal(undefined);
        await exact();
      });
    });

    it('over what was moved before: the newer one stays', async () => {
      await damage({ data: 'first' });
      await put();
      await lua.commit('a', '"second"'.padEnd(500));
      await damage({ data: 'second' });
      await put({ version: 3 });
      expect(await lua.redis.hget(moved, 'data')).to.equal('second');
    });
  });

  describe('SOUND', () => {
    const refused = async (options: QuarantineOptions = {}): Promise<void> => {
      for (const sealed of [0, 1] as const)
        expect(await lua.refused(() => quarantine(lua, 'a', 'put', { version: 1, sealed, ...options }))).to.deep.equal(['SOUND']);
    };

    it('where it has its checksums, whole or in chunks, with an expiry or none', async () => {
      for (const ttl of [60_000, 'none'] as const) {
        await lua.commit('a', '1', { ttl });
        await refused();
        await lua.commit('a', '', { ttl });
        await refused({ exp: (await lua.now()) + 60_000 });
        for (const size of [1, 20, 600]) {
          const planned = sent(cut('x'.repeat(600), size));
          await lua.commit('a', planned.document, { ...planned.options, ttl });
          await refused();
        }
      }
    });

    it('where what has no checksum is another: operation, fence, intent, checkpoint, what nobody knows', async () => {
      await lua.commit('a', '1');
      for (const field of ['op', 'by', 'fence', 'intent', 'kf', 'need', 'other']) {
        await damage({ [field]: '7' });
        await refused();
      }
    });

    it('where it has expired: it is the sweep that takes it', async () => {
      await lua.commit('a', '1', { ttl: 60_000 });
      await lua.makeExpired('a');
      await refused();
    });

    it('where its log or a copy is damaged, not it', async () => {
      await lua.commit('a', '1');
      await checkpoint(lua, 'a', 'copy');
      await damageEntries(lua, 'a', ['1-0']);
      await lua.redis.hset(copyKeys(lua, 'a').newest, 'z', '?');
      await refused();
    });

    it('where it was written back meanwhile as it was', async () => {
      await lua.commit('a', '1');
      await damage({ data: '?' });
      const print = await fingerprint(lua, 'a');
      await damage({ data: '1' });
      await refused({ print });
    });
  });

  describe('CHANGED', () => {
    beforeEach(async () => {
      await lua.commit('a', '1');
      await lua.commit('a', '2');
    });
    const refused = (print: string): Promise<Reply> => lua.refused(() => quarantine(lua, 'a', 'put', { print }));

    refusesEachChangedField(() => lua, refused);

    it('where somebody has written, touched or repaired it since', async () => {
      for (const change of [
        () => lua.commit('a', '3'),
        () => lua.touch('a', 60_000),
        () => repair(lua, 'a', '"other"', { version: 3 }),
      ]) {
        const print = await fingerprint(lua, 'a');
        await change();
        expect(await refused(print)).to.deep.equal(['CHANGED']);
      }
    });

    it('where it is gone, and where it never was', async () => {
      const print = await fingerprint(lua, 'a');
      await lua.delete('a');
      expect(await refused(print)).to.deep.equal(['CHANGED']);
      expect(await refused(await fingerprint(lua, 'a'))).to.deep.equal(['CHANGED']);
    });

    it('where it has expired since, was swept, or its log is gone with it', async () => {
      await lua.makeExpired('a');
      await lua.expire();
      expect(await refused(await fingerprint(lua, 'a'))).to.deep.equal(['CHANGED']);
      await lua.redis.del(lua.of('a').log);
      expect(await refused(await fingerprint(lua, 'a'))).to.deep.equal(['CHANGED']);
    });

    it('where it is there again, and was gone', async () => {
      const print = await fingerprint(lua, 'b');
      expect(await refused(print)).to.deep.equal(['CHANGED']);
    });

    it('where it is in quarantine already', async () => {
      await damage({ data: '?' });
      await quarantine(lua, 'a', 'put');
      expect(await refused(await fingerprint(lua, 'a'))).to.deep.equal(['CHANGED']);
    });
  });

  describe('what is in quarantine', () => {
    beforeEach(async () => {
      await lua.commit('a', '1');
      await lua.commit('a', '{"balance":100}', { ttl: 60_000 });
      await checkpoint(lua, 'a', 'copy');
      await damage({ data: '?' });
      await put();
    });
    const written = async (call: () => Promise<Reply>): Promise<void> => {
      expect((await call()).slice(0, 2)).to.deep.equal(['COMMITTED', 3]);
      expect((await lua.fields('a')).q).to.equal(undefined);
      await exact();
      expect(await lua.redis.hget(moved, 'data')).to.equal('?');
      await lua.delete('a');
      expect((await lua.accounts()).quarantined).to.equal(1);
    };

    it('is written over by a whole document', () => written(() => lua.commit('a', '3')));
    it('by a large one', () => written(() => lua.commit('a', 'x'.repeat(5000))));
    it('by one in chunks', () => written(() => lua.commit('a', 'x'.repeat(500), sent(cut('x'.repeat(500), 20)).options)));
    it('with a new expiry, and a fence', () => written(() => lua.commit('a', '3', { ttl: 60_000, fence: 4 })));
    it('by one whose delta nobody could apply: as a whole', () =>
      written(() => lua.commit('a', '{"balance":200}', { patch: patchFrom(2, '{"balance":100}', '[]') })));
    it('by who knows its version', () => written(() => lua.commit('a', '3', { ifVersion: 2 })));

    it('is not written by a plan on what was there', async () => {
      const patch = { text: '', baseVersion: 2, baseCrc: crc32Hex('{"balance":100}') };
      const plan = { text: '', data: '', baseSha: 'x' };
      expect(await lua.refused(() => lua.commit('a', '3', { patch, plan }))).to.deep.equal(['BASE_MISMATCH', 2, '-', '-']);
    });

    it('is not touched', async () => {
      expect(await lua.refused(() => lua.touch('a', 5000))).to.deep.equal(['DAMAGED']);
    });

    it('is a conflict by another version, or by a checksum', async () => {
      expect(await lua.refused(() => lua.commit('a', '3', { ifVersion: 1 }))).to.deep.equal(['CONFLICT', 2, '-']);
      expect(await lua.refused(() => lua.commit('a', '3', { ifVersion: 2, ifCrc: '0' }))).to.deep.equal(['CONFLICT', 2, '-']);
      expect(await lua.refused(() => lua.delete('a', { ifVersion: 1 }))).to.deep.equal(['CONFLICT', 2, '-']);
    });

    it('is deleted, but for what was moved', async () => {
      const before = await lua.memory(moved);
      expect((await lua.delete('a')).slice(0, 2)).to.deep.equal(['DELETED', 3]);
      expect(await lua.accounts()).to.deep.equal({ bytes: 0, contexts: 0, checkpoints: 0, quarantine: before, quarantined: 1 });
      expect(await lua.memory(moved)).to.equal(before);
    });

    it('is there for versions and catchup, without a checksum', async () => {
      expect((await lua.versions('a')).slice(2)).to.deep.equal(['2', '-', '']);
      const { context, log } = lua.of('a');
      const reply = await lua.run('catchup', [context, log], [2, 10, 'all']);
      expect(reply.slice(2)).to.deep.equal(['2', '-', '']);
    });

    it('does not expire', async () => {
      await lua.redis.zadd(lua.shard.exp, 1, 'a');
      expect(await lua.expire(10, 1)).to.deep.equal(['EXPIRED', 0, 0, 0]);
      expect(await lua.ids(lua.shard.exp)).to.deep.equal([]);
      expect((await lua.fields('a')).q).to.equal(WHY);
    });
  });

  describe('DROPPED', () => {
    it('lets go of what was moved, and of nothing else', async () => {
      await lua.commit('a', '1');
      await lua.commit('a', 'x'.repeat(500));
      await damage({ data: '?'.repeat(500) });
      await put();
      const bytes = await lua.memory(moved);
      const { [moved]: _, [lua.shard.mem]: __, ...rest } = await lua.snapshot();
      expect(await quarantine(lua, 'a', 'drop')).to.deep.equal(['DROPPED', bytes]);
      const { [lua.shard.mem]: ___, ...now } = await lua.snapshot();
      expect(now).to.deep.equal(rest);
      expect(await lua.published()).to.deep.equal([]);
      await exact();
    });

    it('after the context is gone too: empty accounts', async () => {
      await lua.commit('a', '1');
      await damage({ data: '?' });
      await quarantine(lua, 'a', 'put');
      await lua.delete('a');
      expect((await quarantine(lua, 'a', 'drop'))[0]).to.equal('DROPPED');
      expect(await lua.accounts()).to.deep.equal({ bytes: 0, contexts: 0, quarantine: 0, quarantined: 0 });
    });
  });

  it('ABSENT where nothing was moved', async () => {
    await lua.commit('a', '1');
    expect(await lua.refused(() => quarantine(lua, 'a', 'drop'))).to.deep.equal(['ABSENT']);
    expect(await lua.refused(() => quarantine(lua, 'b', 'drop'))).to.deep.equal(['ABSENT']);
    await damage({ data: '?' });
    await quarantine(lua, 'a', 'put');
    await quarantine(lua, 'a', 'drop');
    expect(await lua.refused(() => quarantine(lua, 'a', 'drop'))).to.deep.equal(['ABSENT']);
  });
});
