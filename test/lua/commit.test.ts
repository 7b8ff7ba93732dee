import { expect } from 'chai';
import { crc32Hex, sha1Hex } from '../../src/core/checksum.js';
import { quarantine, repair, sealFor, sumFor } from '../helpers/integrity.js';
import { GRACE_MS, LuaNamespace, operation, TOMBSTONE_MS } from '../helpers/lua.js';
import { ABSENT, frameOf, headerOf, messagesOf, patchFrom } from './commitFrame.js';

describe('lua/commit.lua', () => {
  let lua: LuaNamespace;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
  });
  afterEach(() => lua.close());

  describe('COMMITTED', () => {
    it('writes a new context: fields, log entry, indexes, accounts and frame', async () => {
      const document = '{"turns":[],"n":1}';
      const before = await lua.now();
      const reply = await lua.commit('user-42', document, { op: 'op-1', by: 'instance-1' });
      const after = await lua.now();
      const { context, log, channel, exp, use, size, mem } = lua.of('user-42');

      const used = await lua.memory(context, log);
      const at = Number(reply[2]);
      expect(reply).to.deep.equal(['COMMITTED', 1, at, 'full', document.length, 0, used, 0]);
      expect(at).to.be.within(before, after);

      const sums = { crc: crc32Hex(document), sha: sha1Hex(document), len: String(document.length) };
      const common = { ...sums, at: String(at), by: 'instance-1', op: 'op-1' };
      const seal = sealFor('user-42', { ...common, v: '1' });
      expect(await lua.redis.hgetall(context)).to.deep.equal({ ...common, data: document, v: '1', kf: '1', seal });
      const entry = { ...common, entry: '1-0', kind: 'full', frame: document, base: '-', exp: '-' };
      expect(await lua.log('user-42')).to.deep.equal([{ ...entry, sum: sumFor('user-42', entry) }]);
      expect(await lua.scores(use)).to.deep.equal({ 'user-42': at });
      expect(await lua.scores(size)).to.deep.equal({ 'user-42': used });
      expect(await lua.redis.exists(exp)).to.equal(0);
      expect(await lua.accounts()).to.deep.equal({ bytes: used, contexts: 1 });
      expect(await Promise.all([context, log, use, size, mem].map((key) => lua.nativeExpiry(key)))).to.deep.equal([
        -1, -1, -1, -1, -1,
      ]);
      expect(await lua.published()).to.deep.equal([
        { channel, text: frameOf('full', 1, document, { at, op: 'op-1', by: 'instance-1' }) },
      ]);
      expect(Object.keys(await lua.snapshot()).sort()).to.deep.equal([context, log, use, size, mem].sort());
    });

    it('gives the next version to the next one, whoever it comes from', async () => {
      await lua.commit('a', '"one"', { by: 'x' });
      await lua.published();
      const reply = await lua.commit('a', '"second"', { op: 'op-2', by: 'y' });

      expect(reply.slice(0, 6)).to.deep.equal(['COMMITTED', 2, reply[2], 'full', 8, 0]);
      expect(await lua.fields('a')).to.deep.include({ v: '2', op: 'op-2', by: 'y', at: String(reply[2]), kf: '2' });
      expect((await lua.log('a')).map(({ entry, base }) => [entry, base])).to.deep.equal([
        ['1-0', '-'],
        ['2-0', crc32Hex('"one"')],
      ]);
      expect(await lua.accounts()).to.deep.equal({ contexts: 1, bytes: Number(reply[6]) });
      const base = { version: 1, crc: crc32Hex('"one"') };
      expect((await lua.published()).map(({ text }) => text)).to.deep.equal([
        frameOf('full', 2, '"second"', { base, at: reply[2], op: 'op-2', by: 'y' }),
      ]);
    });

    it('keeps contexts apart', async () => {
      const first = await lua.commit('a', '"a"');
      const second = await lua.commit('b', '"bb"', { ttl: 60_000 });
      expect([first[1], second[1]]).to.deep.equal([1, 1]);
      expect(await lua.accounts()).to.deep.equal({ bytes: Number(first[6]) + Number(second[6]), contexts: 2 });
      expect(await lua.ids(lua.shard.exp)).to.deep.equal(['b']);
      expect(await lua.redis.zcard(lua.shard.use)).to.equal(2);
    });

    it('writes the last use to the second', async () => {
      const [, , first] = await lua.commit('a', '1');
      expect(await lua.scores(lua.shard.use)).to.deep.equal({ a: first });
      await lua.commit('a', '2');
      const second = Number((await lua.commit('a', '3'))[2]);
      expect(Math.floor(((await lua.scores(lua.shard.use)).a ?? 0) / 1000)).to.equal(Math.floor(second / 1000));
      await lua.passed(Math.ceil((second + 1) / 1000) * 1000);
      const [, , next] = await lua.commit('a', '4');
      expect(await lua.scores(lua.shard.use)).to.deep.equal({ a: next });
    });

    it('keeps what other fields hold', async () => {
      for (const [id, document] of [
        ['small', '1'],
        ['large', 'x'.repeat(5000)],
      ] as const) {
        await lua.commit(id, document, { fence: 7, ttl: 60_000 });
        const { fence, exp } = await lua.fields(id);
        const native = await lua.nativeExpiry(lua.of(id).context);
        await lua.commit(id, document, { ttl: 'keep' });
        expect(await lua.fields(id), id).to.deep.include({ fence, exp, v: '2' });
        expect(await lua.nativeExpiry(lua.of(id).context), id).to.equal(native);
        expect(await lua.redis.exists(lua.of(id).old), id).to.equal(0);
      }
    });

    it('takes ifVersion and ifCrc that are right, and ifVersion 0 where there is nothing', async () => {
      expect((await lua.commit('a', '"one"', { ifVersion: 0 }))[0]).to.equal('COMMITTED');
      expect((await lua.commit('a', '"two"', { ifVersion: 1 }))[1]).to.equal(2);
      expect((await lua.commit('a', '"three"', { ifVersion: 2, ifCrc: crc32Hex('"two"') }))[1]).to.equal(3);
    });

    it('takes ifVersion 0 over an expired context', async () => {
      await lua.commit('a', '"one"', { ttl: 60_000 });
      await lua.makeExpired('a');
      expect((await lua.commit('a', '"two"', { ifVersion: 0 })).slice(0, 2)).to.deep.equal(['COMMITTED', 2]);
    });
  });

  describe('expiry', () => {
    const expiries = async (id: string): Promise<unknown[]> => [
      (await lua.fields(id)).exp ?? null,
      await lua.redis.zscore(lua.shard.exp, id),
      await lua.nativeExpiry(lua.of(id).context),
      await lua.nativeExpiry(lua.of(id).log),
    ];
    const all = (exp: number): unknown[] => [String(exp), String(exp), exp + GRACE_MS, exp + TOMBSTONE_MS];
    const NONE = [null, null, -1, -1];

    it('is set by a ttl: in the field, the index, the log, the frame, and natively behind them', async () => {
      const reply = await lua.commit('a', '1', { ttl: 60_000, op: 'op-1' });
      const exp = Number(reply[2]) + 60_000;
      expect(reply[5]).to.equal(exp);
      expect(await expiries('a')).to.deep.equal(all(exp));
      expect((await lua.log('a'))[0]?.exp).to.equal(String(exp));
      expect((await lua.published())[0]?.text).to.equal(frameOf('full', 1, '1', { at: reply[2], exp, op: 'op-1' }));
    });

    it('is set on a context that had none', async () => {
      await lua.commit('a', '1');
      expect(await expiries('a')).to.deep.equal(NONE);
      const reply = await lua.commit('a', '2', { ttl: 1000 });
      expect(await expiries('a')).to.deep.equal(all(Number(reply[2]) + 1000));
    });

    it('is counted from this commit on', async () => {
      await lua.commit('a', '1', { ttl: 60_000 });
      const reply = await lua.commit('a', '2', { ttl: 5000 });
      expect(await expiries('a')).to.deep.equal(all(Number(reply[2]) + 5000));
    });

    it('is kept', async () => {
      const first = await lua.commit('a', '1', { ttl: 60_000 });
      const reply = await lua.commit('a', '2', { ttl: 'keep' });
      expect(reply[5]).to.equal(first[5]);
      expect(await expiries('a')).to.deep.equal(all(Number(first[5])));
      expect((await lua.log('a'))[1]?.exp).to.equal(String(first[5]));
    });

    it('is kept as none where there was none', async () => {
      await lua.commit('a', '1');
      expect((await lua.commit('a', '2', { ttl: 'keep' }))[5]).to.equal(0);
      expect(await expiries('a')).to.deep.equal(NONE);
    });

    it('is removed', async () => {
      await lua.commit('a', '1', { ttl: 60_000 });
      const reply = await lua.commit('a', '2', { ttl: 'none' });
      expect(reply[5]).to.equal(0);
      expect(await expiries('a')).to.deep.equal(NONE);
      expect((await lua.log('a'))[1]?.exp).to.equal('-');
      expect((await lua.published())[1]?.text.split(' ')[10]).to.equal('-');
    });

    it('of a tombstone is taken off the log by the next commit', async () => {
      await lua.commit('a', '1');
      await lua.delete('a');
      expect(await lua.nativeExpiry(lua.of('a').log)).to.be.greaterThan(0);
      await lua.commit('a', '2');
      expect(await expiries('a')).to.deep.equal(NONE);
      await lua.delete('a');
      const reply = await lua.commit('a', '3', { ttl: 1000 });
      expect(await expiries('a')).to.deep.equal(all(Number(reply[2]) + 1000));
    });
  });

  describe('over what is no longer there', () => {
    it('gives an expired context its tombstone and its frame first', async () => {
      await lua.commit('a', '"old"', { fence: 7 });
      await lua.commit('a', '"older"', { ttl: 60_000 });
      await lua.makeExpired('a');
      await lua.published();
      const reply = await lua.commit('a', '"new"', { op: 'op-3', by: 'later', ttl: 'keep' });
      const at = String(reply[2]);

      expect(reply.slice(0, 6)).to.deep.equal(['COMMITTED', 3, reply[2], 'full', 5, 0]);
      const crc = crc32Hex('"older"');
      expect((await lua.published()).map(({ text }) => text)).to.deep.equal([
        headerOf(`lc2 expired - 0 2 - 0 2 ${crc} ${at} - - later `),
        frameOf('full', 3, '"new"', { base: { version: 2, crc: '-' }, at, op: 'op-3', by: 'later' }),
      ]);
      const log = await lua.log('a');
      expect(log.map(({ entry, kind, base }) => [entry, kind, base])).to.deep.equal([
        ['1-0', 'full', '-'],
        ['2-0', 'full', crc32Hex('"old"')],
        ['2-1', 'expired', '-'],
        ['3-0', 'full', '-'],
      ]);
      expect(log[2]).to.deep.include({ frame: '', crc: '-', sha: '-', len: '0', op: '-', by: 'later', at, exp: '-' });
      // nothing of the old one is left: neither its fence nor its expiry
      expect(Object.keys(await lua.fields('a')).sort()).to.deep.equal(['at', 'by', 'crc', 'kf', 'len', 'op', 'seal', 'sha', 'v']);
      expect(await lua.redis.zcard(lua.shard.exp)).to.equal(0);
      expect(await lua.nativeExpiry(lua.of('a').log)).to.equal(-1);
      expect(await lua.nativeExpiry(lua.of('a').context)).to.equal(-1);
      expect(await lua.accounts()).to.deep.include({ bytes: Number(reply[6]), contexts: 1 });
      expect(await lua.redis.zscore(lua.shard.size, 'a')).to.equal(String(reply[6]));
    });

    it('takes a context as expired from the very millisecond of its expiry', async () => {
      const first = await lua.commit('a', '1', { ttl: 2 });
      await lua.passed(Number(first[5]) - 1);
      expect((await lua.commit('a', '2', { ifVersion: 0 })).slice(0, 2)).to.deep.equal(['COMMITTED', 2]);
      expect((await lua.log('a')).map(({ entry }) => entry)).to.deep.equal(['1-0', '1-1', '2-0']);
    });

    it('goes on from the tombstone of a deleted one', async () => {
      await lua.commit('a', '1');
      await lua.delete('a');
      await lua.published();
      const reply = await lua.commit('a', '3', { op: 'op-3' });
      expect(reply[1]).to.equal(3);
      expect((await lua.log('a')).map(({ entry, kind }) => `${entry} ${kind}`)).to.deep.equal([
        '1-0 full',
        '2-0 deleted',
        '3-0 full',
      ]);
      expect((await lua.published()).map(({ text }) => text)).to.deep.equal([
        frameOf('full', 3, '3', { base: { version: 2, crc: '-' }, at: reply[2], op: 'op-3' }),
      ]);
    });

    it('goes on from the log of one that Redis removed natively, and puts its accounts right', async () => {
      await lua.commit('a', '"one"', { ttl: 60_000 });
      await lua.commit('a', '"two"');
      await lua.makeExpired('a');
      await lua.redis.del(lua.of('a').context);
      const reply = await lua.commit('a', '"three"');
      expect(reply.slice(0, 2)).to.deep.equal(['COMMITTED', 3]);
      expect(await lua.accounts()).to.deep.include({ bytes: Number(reply[6]), contexts: 1 });
      expect(await lua.redis.zcard(lua.shard.exp)).to.equal(0);
    });

    describe('DAMAGED where it is lost: its log says that it should be there', () => {
      const lose = (): Promise<number> => lua.redis.del(lua.of('a').context);
      async function refused(): Promise<void> {
        for (const sealed of [0, 1] as const) {
          for (const options of [{ sealed }, { sealed, ifVersion: 0 }, { sealed, ifVersion: 1 }, { sealed, fence: 7, ttl: 5000 }])
            expect(await lua.refused(() => lua.commit('a', '"new"', options))).to.deep.equal(['DAMAGED']);
          const patch = patchFrom(1, '"one"', '[]');
          expect(await lua.refused(() => lua.commit('a', '"new"', { sealed, patch }))).to.deep.equal(['DAMAGED']);
        }
      }

      it('and does not expire', async () => {
        await lua.commit('a', '"one"');
        await lose();
        await refused();
        // also where the indexes have lost it with the hash
        await lua.redis.del(lua.shard.use, lua.shard.size, lua.shard.mem);
        await refused();
      });

      it('and expires later, as the index knows', async () => {
        await lua.commit('a', '"one"', { ttl: 60_000 });
        await lose();
        await refused();
        const due = (await lua.scores(lua.shard.exp)).a ?? 0;
        const at = (ms: number): Promise<unknown> => lua.when(ms, () => lua.commit('a', '"new"'));
        expect(await at(due - 1)).to.deep.equal(['DAMAGED']);
        expect(((await at(due)) as unknown[]).slice(0, 2)).to.deep.equal(['COMMITTED', 2]);
      });

      it('and a repetition of what was its last operation', async () => {
        await lua.commit('a', '"one"', { op: 'op' });
        await lose();
        const firstSent = await lua.now();
        expect(await lua.refused(() => lua.commit('a', '"one"', { op: 'op', firstSent, previousTill: 1 }))).to.deep.equal([
          'DAMAGED',
        ]);
      });

      it('and was created again after a delete', async () => {
        await lua.commit('a', '"one"');
        await lua.delete('a');
        await lua.commit('a', '"three"');
        await lose();
        await refused();
      });

      it('until it is repaired, or a stub stands for it', async () => {
        await lua.commit('a', '"one"');
        await lose();
        await repair(lua, 'a', '"one"');
        expect((await lua.commit('a', '"two"'))[1]).to.equal(2);
        await lose();
        await refused();
        expect(await quarantine(lua, 'a', 'put', { version: 2 })).to.deep.equal(['QUARANTINED', 2]);
        expect((await lua.commit('a', '"three"'))[1]).to.equal(3);
      });
    });

    describe('COMMITTED where it is absent, not lost', () => {
      const committed = async (version: number): Promise<void> => {
        await lua.redis.del(lua.of('a').context);
        const reply = await lua.commit('a', '"new"');
        expect(reply.slice(0, 2)).to.deep.equal(['COMMITTED', version]);
        expect(await lua.accounts()).to.deep.include({ bytes: Number(reply[6]), contexts: 1 });
      };

      it('after a delete, whose tombstone would stay for ever', async () => {
        await lua.commit('a', '"one"', { ttl: 60_000 });
        await lua.delete('a');
        await lua.redis.persist(lua.of('a').log);
        await committed(3);
      });

      it('after a sweep', async () => {
        await lua.commit('a', '"one"', { ttl: 60_000 });
        await lua.makeExpired('a');
        await lua.expire();
        await committed(2);
      });

      it('where somebody has let go of it: the index knows no expiry, and the log will go', async () => {
        await lua.commit('a', '"one"', { ttl: 60_000 });
        await lua.redis.zrem(lua.shard.exp, 'a');
        expect(await lua.nativeExpiry(lua.of('a').log)).to.be.greaterThan(0);
        await committed(2);
      });

      it('where Redis removed it after the time that a touch gave it', async () => {
        await lua.commit('a', '"one"');
        await lua.touch('a', 60_000);
        await lua.redis.zadd(lua.shard.exp, (await lua.now()) - 1, 'a');
        await committed(2);
      });

      it('where its log is empty', async () => {
        await lua.commit('a', '"one"');
        await lua.redis.xtrim(lua.of('a').log, 'MAXLEN', 0);
        await committed(2);
      });
    });

    it('begins at 1 again where the log is gone as well', async () => {
      await lua.commit('a', '1');
      await lua.delete('a');
      await lua.redis.del(lua.of('a').log);
      expect((await lua.commit('a', '2'))[1]).to.equal(1);
    });
  });

  describe('with a log that is ahead of the context', () => {
    // what a failover leaves that had the log's last entries, but not the context's
    beforeEach(async () => {
      await lua.commit('a', '"one"');
      const first = await lua.redis.hgetall(lua.of('a').context);
      await lua.commit('a', '"two"');
      await lua.commit('a', '"three"');
      await lua.redis.hset(lua.of('a').context, first);
      await lua.published();
    });

    it('goes on from the log, with the whole document', async () => {
      const patch = patchFrom(1, '"one"', '[]');
      const reply = await lua.commit('a', '"four"', { op: 'op-4', patch });
      expect(reply.slice(0, 5)).to.deep.equal(['COMMITTED', 4, reply[2], 'full', 6]);
      expect(await lua.fields('a')).to.deep.include({ v: '4', kf: '4', crc: crc32Hex('"four"') });
      expect((await lua.log('a')).map(({ entry, kind }) => `${entry} ${kind}`)).to.deep.equal([
        '1-0 full',
        '2-0 full',
        '3-0 full',
        '4-0 full',
      ]);
      const base = { version: 3, crc: crc32Hex('"one"') };
      expect((await lua.published()).map(({ text }) => text)).to.deep.equal([
        frameOf('full', 4, '"four"', { base, at: reply[2], op: 'op-4' }),
      ]);
      expect(Number(reply[6])).to.equal(await lua.memory(lua.of('a').context, lua.of('a').log));
      expect(await lua.commit('a', '"five"')).to.deep.include.members(['COMMITTED', 5]);
    });

    it('goes on from the log over an expired context too', async () => {
      await lua.makeExpired('a');
      expect((await lua.commit('a', '"four"')).slice(0, 2)).to.deep.equal(['COMMITTED', 4]);
    });
  });

  describe('takes any bytes as they are:', () => {
    const MIB = 1024 * 1024;
    const everyByte = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
    const documents: [string, Buffer][] = [
      ['not UTF-8', Buffer.from([0x22, 0xff, 0xfe, 0xc3, 0x28, 0x22])],
      ['NUL', Buffer.from('"a\0b\0"')],
      ['CR LF', Buffer.from('{\r\n"a":\r\n1}\r\n')],
      ['every byte', everyByte],
      ['one byte', Buffer.from('1')],
      ['4096 bytes', Buffer.alloc(4096, everyByte)],
      ['4097 bytes', Buffer.alloc(4097, everyByte)],
      ['1 MiB', Buffer.alloc(MIB, everyByte)],
      ['8 MiB', Buffer.alloc(8 * MIB, everyByte)],
    ];
    for (const [name, document] of documents) {
      it(name, async () => {
        for (const version of [1, 2]) {
          const op = operation();
          const base = version === 1 ? ABSENT : { version: 1, crc: crc32Hex(document) };
          const reply = await lua.commit('a', document, { op, logBytes: 8 * 8 * MIB });
          expect(reply.slice(0, 5)).to.deep.equal(['COMMITTED', version, reply[2], 'full', document.length]);
          const stored = await lua.document('a');
          expect(stored?.equals(document), 'the stored bytes').to.equal(true);
          expect(await lua.fields('a')).to.deep.include({ crc: crc32Hex(document), len: String(document.length) });
          const entry = (await lua.log('a')).at(-1);
          expect(entry?.frame === document.toString('latin1'), 'the bytes in the log').to.equal(true);
          const messages = (await lua.published()).map(({ text }) => text);
          const expected = messagesOf(version, document, { base, at: reply[2], op });
          expect(messages).to.have.length(expected.length);
          expect(
            messages.every((text, index) => text === expected[index]),
            'what was published',
          ).to.equal(true);
          expect(await lua.accounts()).to.deep.include({ bytes: await lua.memory(lua.of('a').context, lua.of('a').log) });
        }
        expect(await lua.redis.exists(lua.of('a').old)).to.equal(0);
      });
    }

    it('a patch', async () => {
      const base = Buffer.alloc(1000, everyByte);
      const patch = Buffer.from('["\0\r\nü"]').toString();
      await lua.commit('a', base);
      const reply = await lua.commit('a', '"next"'.padEnd(500), {
        patch: { text: patch, baseVersion: 1, baseCrc: crc32Hex(base) },
      });
      expect(reply.slice(3, 5)).to.deep.equal(['patch', Buffer.byteLength(patch)]);
      expect((await lua.log('a'))[1]?.frame).to.equal(Buffer.from(patch).toString('latin1'));
      expect((await lua.published())[1]?.text.endsWith(`\n${Buffer.from(patch).toString('latin1')}`)).to.equal(true);
    });
  });

  it('takes any id', async () => {
    for (const id of ['a b', 'ü/~0"\'', '{x}', '*?[a]', '%d%s', 'x'.repeat(512), '-', '1']) {
      const reply = await lua.commit(id, '1', { ttl: 60_000 });
      expect(reply[0], id).to.equal('COMMITTED');
      expect((await lua.published()).map(({ channel }) => channel)).to.deep.equal([lua.of(id).channel]);
      expect(await lua.redis.zscore(lua.shard.exp, id)).to.equal(String(reply[5]));
      expect(await lua.redis.zscore(lua.shard.size, id)).to.equal(String(reply[6]));
    }
  });
});
