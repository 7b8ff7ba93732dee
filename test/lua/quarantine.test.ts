import { expect } from 'chai';
import { crc32Hex } from '../../src/core/checksum.js';
import {
  checkpoint,
  copyKeys,
  FINGERPRINTED,
  fingerprint,
  type QuarantineOptions,
  quarantine,
  repair,
} from '../helpers/integrity.js';
import { LuaNamespace, type Reply } from '../helpers/lua.js';
import { cut, sent } from '../helpers/plans.js';
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
      const { checkpoints = 0, ...accounts } = await lua.accounts();
      const count = await lua.redis.exists(moved);
      expect(accounts).to.deep.equal({ bytes, contexts: 1, quarantine: await lua.memory(moved), quarantined: count });
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
    const reply = await quarantine(lua, 'a', 'put', { version: 2, why: WHY, ...options });
    expect(reply).to.deep.equal(['QUARANTINED', options.version ?? 2]);
    const { why = '', when = '', who = '', ...rest } = await lua.redis.hgetallBuffer(moved);
    expect(Number(when)).to.be.within(from, await lua.now());
    expect([String(why), String(who)]).to.deep.equal([options.why ?? WHY, options.by ?? 'mover']);
    const { who: _, why: __, when: ___, ...before } = was;
    expect(rest).to.deep.equal(before);

    const stub = await lua.redis.hgetall(context);
    const { fence, intent } = Object.fromEntries(Object.entries(was).map(([name, value]) => [name, value.toString()]));
    expect(stub).to.deep.equal({
      ...{ v: String(options.version ?? 2), at: when.toString(), by: String(who), q: String(why) },
      ...(fence === undefined ? {} : { fence }),
      ...(intent === undefined ? {} : { intent }),
    });
    expect(await lua.log('a')).to.deep.equal(entries);
    expect(await lua.ids(exp)).to.deep.equal([]);
    expect(await lua.scores(use)).to.deep.equal('a' in uses ? uses : { a: Number(when) });
    for (const key of [context, moved, log, newest, older])
      expect(await lua.nativeExpiry(key), key).to.equal((await lua.redis.exists(key)) === 1 ? -1 : -2);
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
      for (const field of FINGERPRINTED.filter((name) => name !== 'q')) {
        await damage({ [field]: 'x' });
        await put({ why: `document ${field}` });
        await lua.commit('a', '1');
        await lua.redis.hdel(lua.of('a').context, field);
        await put({ why: `no ${field}` });
        await lua.commit('a', '1');
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
      await damage({ fence: '7', intent: `txn-7 ${(await lua.now()) + 60_000}`, data: '?' });
      await put();
      expect((await lua.refused(() => lua.commit('a', '3', { fence: 6 })))[0]).to.equal('FENCED');
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
      await put();
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

  describe('CHANGED', () => {
    beforeEach(async () => {
      await lua.commit('a', '1');
      await lua.commit('a', '2');
    });
    const refused = (print: string): Promise<Reply> => lua.refused(() => quarantine(lua, 'a', 'put', { print }));

    for (const field of FINGERPRINTED) {
      it(`where ${field} is another than that which was found`, async () => {
        await damage({ data: '?' });
        const print = await fingerprint(lua, 'a');
        await damage({ [field]: '7' });
        expect(await refused(print)).to.deep.equal(['CHANGED']);
        await lua.redis.hdel(lua.of('a').context, field);
        if (!['exp', 'q', 'fence', 'intent', 'chunks'].includes(field)) expect(await refused(print)).to.deep.equal(['CHANGED']);
      });
    }

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

    it('where it is in quarantine already', async () => {
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
    await quarantine(lua, 'a', 'put');
    await quarantine(lua, 'a', 'drop');
    expect(await lua.refused(() => quarantine(lua, 'a', 'drop'))).to.deep.equal(['ABSENT']);
  });
});
