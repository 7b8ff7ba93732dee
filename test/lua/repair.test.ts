import { expect } from 'chai';
import { crc32Hex, sha1Hex } from '../../src/core/checksum.js';
import {
  checkpoint,
  copyKeys,
  damageEntries,
  drop,
  expectSealed,
  fingerprint,
  quarantine,
  type RepairOptions,
  refusesEachChangedField,
  repair,
  sealFor,
  sumFor,
} from '../helpers/integrity.js';
import { GRACE_MS, LuaNamespace, type Reply, TOMBSTONE_MS } from '../helpers/lua.js';
import { type Chunk, cut, joined, manifestOf, sent, stored } from '../helpers/plans.js';
import { headerOf } from './commitFrame.js';

/** Shadows `redis`: what is written into a context is read back as other bytes. */
const DAMAGED_READ_BACK = `
local real = redis
local redis = setmetatable({
  call = function(...)
    local reply = real.call(...)
    if (...) == 'HGET' and reply then return 'X' .. string.sub(reply, 2) end
    return reply
  end,
}, { __index = real })
`;

describe('lua/repair.lua', () => {
  let lua: LuaNamespace;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
  });
  afterEach(() => lua.close());

  const GOOD = '{"balance":100}';
  const at = async (): Promise<number> => Number((await lua.log('a')).findLast(({ entry }) => entry === '2-0')?.at);
  const damage = (fields: Record<string, string | number>): Promise<number> => lua.redis.hset(lua.of('a').context, fields);

  /** Repairs version 2 of `a`, and checks all that there is afterwards. @param dropped - entries that go with it */
  async function repaired(
    document: string | readonly Chunk[] = GOOD,
    options: RepairOptions = {},
    dropped: readonly string[] = [],
  ): Promise<Reply> {
    const { context, log, channel, exp: expiries, use, old } = lua.of('a');
    const { newest, older } = copyKeys(lua, 'a');
    const [entries, before, uses] = await Promise.all([lua.log('a'), lua.redis.hgetall(context), lua.scores(use)]);
    const committed = options.at ?? (await at());
    const copies = await lua.redis.exists(newest, older);
    await lua.published();
    const from = await lua.now();
    const reply = await repair(lua, 'a', document, { version: 2, op: 'op-2', at: committed, ...options });
    const to = await lua.now();
    const bytes = typeof document === 'string' ? Buffer.from(document) : joined(document);
    const version = options.version ?? 2;
    const { exp = null, by = 'mender', source = 'log' } = options;

    // the document, and what stands around it
    const found = await stored(lua, 'a');
    expect(found.document.equals(bytes)).to.equal(true);
    const crc = crc32Hex(bytes);
    const sha = typeof document === 'string' ? sha1Hex(document) : sha1Hex(manifestOf(document));
    const facts = { v: String(version), crc, sha, len: String(bytes.length), at: String(committed) };
    const until = exp === null ? {} : { exp: String(exp) };
    const { chunks, kf, fence, intent, need, ...fields } = await lua.fields('a');
    expect(Object.fromEntries(Object.entries(fields).filter(([name]) => !/^d\d+$/.test(name)))).to.deep.equal({
      ...{ ...facts, ...until, by, op: 'op-2' },
      seal: sealFor('a', { ...facts, ...until }),
    });
    expect(chunks).to.equal(typeof document === 'string' ? undefined : manifestOf(document));
    expect({ fence, intent, need }).to.deep.equal({ fence: before.fence, intent: before.intent, need: before.need });
    expect(Number(kf)).to.equal(Math.min(version, Number(before.kf ?? 0)));

    // an entry beside the version's own, in the place of those that go
    const now = await lua.log('a');
    const told = now.at(-1);
    expect(now.slice(0, -1)).to.deep.equal(entries.filter((each) => !dropped.includes(each.entry)));
    const last = entries.at(-1)?.entry.split('-').map(Number) ?? [0, 0];
    const entry = `${version}-${last[0] === version ? (last[1] ?? 0) + 1 : 1}`;
    const repairedAt = Number(told?.at);
    expect(repairedAt).to.be.within(from, to);
    const expected = {
      ...{ entry, kind: 'repaired', frame: source, base: crc, crc, sha, len: facts.len, op: '-', by, at: String(repairedAt) },
      exp: exp === null ? '-' : String(exp),
    };
    expect(told).to.deep.equal({ ...expected, sum: sumFor('a', expected) });

    // indexes, native expiries, accounts
    expect(await lua.scores(expiries)).to.deep.equal(exp === null ? {} : { a: exp });
    expect(await lua.scores(use)).to.deep.equal('a' in uses ? uses : { a: repairedAt });
    const native = exp === null ? [-1, -1] : [exp + GRACE_MS, exp + TOMBSTONE_MS];
    expect([await lua.nativeExpiry(context), await lua.nativeExpiry(log)]).to.deep.equal(native);
    if (copies > 0) expect(await lua.nativeExpiry(newest)).to.equal(native[1]);
    if (copies > 1) expect(await lua.nativeExpiry(older)).to.equal(native[1]);
    expect(await lua.redis.exists(old)).to.equal(0);
    await exact(reply[2]);
    expect(reply).to.deep.equal(['REPAIRED', version, reply[2]]);

    const words = `lc2 touch - 0 ${version} ${crc} 0 ${version} ${crc} ${repairedAt} ${exp ?? '-'} - ${by} `;
    expect(await lua.published()).to.deep.equal([{ channel, text: headerOf(words) }]);
    return reply;
  }

  /** The accounts are those of one context, also once everything was read. */
  async function exact(bytes: unknown): Promise<void> {
    const { context, log, size } = lua.of('a');
    const { newest, older } = copyKeys(lua, 'a');
    for (let round = 0; round < 2; round += 1) {
      expect(bytes).to.equal(await lua.memory(context, log, newest, older));
      expect(await lua.scores(size)).to.deep.equal({ a: bytes });
      const { checkpoints = 0, quarantine: _, quarantined: __, ...accounts } = await lua.accounts();
      expect(accounts).to.deep.equal({ bytes, contexts: 1 });
      expect(checkpoints).to.equal(await lua.memory(newest, older));
      await lua.redis.hmget(context, ...Array.from({ length: 1000 }, (_, n) => `d${n}`));
    }
  }

  describe('REPAIRED', () => {
    beforeEach(async () => {
      await lua.commit('a', '1');
      await lua.commit('a', GOOD, { op: 'op-2' });
    });

    const damages: [string, Record<string, string>][] = [
      ['other bytes', { data: '{"balance":900}' }],
      ['no bytes', { data: '' }],
      ['another version', { v: '3' }],
      ['a version that is none', { v: 'x' }],
      ['another checksum', { crc: '00000000' }],
      ['another length', { len: '16' }],
      ['an expiry that it did not have', { exp: '1795449849000' }],
      ['another seal', { seal: sha1Hex('1') }],
      ['a list of chunks that it did not have', { chunks: `d0 1 ${sha1Hex('1')}\n`, d0: '1' }],
    ];
    for (const [name, fields] of damages) {
      it(`over a context with ${name}`, async () => {
        await damage(fields);
        await repaired();
        expect((await lua.commit('a', '3')).slice(0, 2)).to.deep.equal(['COMMITTED', 3]);
        await expectSealed(lua, 'a');
      });
    }

    it('over one that has lost a field', async () => {
      for (const field of ['data', 'v', 'crc', 'sha', 'len', 'at', 'seal', 'op', 'by', 'kf']) {
        await lua.redis.hdel(lua.of('a').context, field);
        await repaired();
      }
      expect((await lua.log('a')).map(({ entry }) => entry)).to.deep.equal([
        ...['1-0', '2-0'],
        ...Array.from({ length: 10 }, (_, n) => `2-${n + 1}`),
      ]);
    });

    it('twice: the second entry stands beside the first', async () => {
      for (const [source, entry] of [
        ['log', '2-1'],
        ['peer', '2-2'],
        ['redis-replica', '2-3'],
      ] as const) {
        await damage({ data: '?' });
        await repaired(GOOD, { source, by: 'another' });
        expect((await lua.log('a')).at(-1)?.entry).to.equal(entry);
      }
    });

    it('with an expiry: in field, index and natively, of context, log and checkpoints', async () => {
      const now = await lua.now();
      await checkpoint(lua, 'a', 'first');
      await damage({ data: '?' });
      await repaired(GOOD, { exp: now + 60_000 });
      await damage({ data: '?' });
      await repaired(GOOD, { exp: now + 90_000 });
      // and without one again
      await damage({ data: '?' });
      await repaired(GOOD);
    });

    it('keeps who holds it: fence and intent', async () => {
      await damage({ fence: '7', intent: `txn-7 ${(await lua.now()) + 60_000} 0 0`, data: '?' });
      await repaired();
      expect(await lua.fields('a')).to.include({ fence: '7' });
      expect((await lua.refused(() => lua.commit('a', '3', { fence: 8 })))[0]).to.equal('LOCKED');
    });

    it('in chunks, of any number, over a whole document and over chunks: the accounts are exact', async () => {
      for (const size of [1, 2, 7, 70, 300]) {
        const chunks = cut(Buffer.from('x'.repeat(600)), size);
        await damage({ crc: '00000000' });
        await repaired(chunks);
        await damage({ crc: '00000000' });
        await repaired(`"whole again after ${size}"`);
      }
      const chunks = cut('y'.repeat(90_000), 60);
      await damage({ len: '7' });
      await repaired(chunks);
    });

    it('at a version before that of the damaged one, whose keyframe is not believed', async () => {
      await damage({ v: '9', kf: '9' });
      await repaired();
      expect((await lua.fields('a')).kf).to.equal('2');
    });

    it('where the context is gone', async () => {
      await lua.redis.del(lua.of('a').context);
      await repaired();
      expect((await lua.fields('a')).kf).to.equal('0');
      expect((await lua.commit('a', '3'))[1]).to.equal(3);
    });

    it('where it is gone with its place in the indexes', async () => {
      const { context, use, size, mem } = lua.of('a');
      await lua.redis.del(context, use, size, mem);
      await repaired();
    });

    it('where its log is gone: it begins with the repair', async () => {
      const committed = await at();
      await lua.redis.del(lua.of('a').log);
      await damage({ data: '?' });
      await repaired(GOOD, { at: committed });
      expect((await lua.log('a')).map(({ entry }) => entry)).to.deep.equal(['2-1']);
      expect((await lua.commit('a', '3'))[1]).to.equal(3);
    });

    it('where both are gone', async () => {
      const committed = await at();
      await lua.redis.del(lua.of('a').log, lua.of('a').context);
      await repaired(GOOD, { at: committed, exp: (await lua.now()) + 60_000 });
    });

    it('where the log ends before that version', async () => {
      await repaired(GOOD, { version: 5 });
      expect((await lua.log('a')).at(-1)?.entry).to.equal('5-1');
      expect((await lua.commit('a', '3'))[1]).to.equal(6);
    });

    it('in the place of what was moved to quarantine, which stays there', async () => {
      const committed = await at();
      await damage({ data: '?', fence: '7' });
      await quarantine(lua, 'a', 'put', { version: 2, why: 'document sha: found something that it should not be, for sure' });
      const moved = await lua.redis.hgetall(lua.keys.quarantineOf('a'));
      await repaired(GOOD, { at: committed, source: 'restored' });
      expect(await lua.redis.hgetall(lua.keys.quarantineOf('a'))).to.deep.equal(moved);
      expect((await lua.accounts()).quarantined).to.equal(1);
    });

    describe('with entries at the end of the log', () => {
      it('lets go of those that are damaged', async () => {
        await damageEntries(lua, 'a', ['2-0']);
        await damage({ data: '?' });
        await repaired(GOOD, { at: 1_795_449_849_000, tail: ['2-0'] }, ['2-0']);
        expect((await lua.log('a')).map(({ entry }) => entry)).to.deep.equal(['1-0', '2-1']);
        expect((await lua.commit('a', '3'))[1]).to.equal(3);
        await expectSealed(lua, 'a');
      });

      it('several of them, and the repair of a repair', async () => {
        await repair(lua, 'a', GOOD, { version: 2 });
        await damageEntries(lua, 'a', ['1-0', '2-0', '2-1'], 'sha');
        await lua.redis.del(lua.of('a').context);
        await repaired(GOOD, { at: 1_795_449_849_000, tail: ['1-0', '2-0', '2-1'] }, ['1-0', '2-0', '2-1']);
        expect((await lua.log('a')).map(({ entry }) => entry)).to.deep.equal(['2-2']);
      });

      it('keeps those that are sound, or not there', async () => {
        await damageEntries(lua, 'a', ['1-0']);
        await damage({ data: '?' });
        await repaired(GOOD, { tail: ['2-0', '2-1', '9-9'] });
        // as well where some go
        await damageEntries(lua, 'a', ['2-1']);
        await damage({ data: '?' });
        await repaired(GOOD, { tail: ['2-0', '2-1'] }, ['2-1']);
        expect((await lua.log('a')).map(({ entry }) => entry)).to.deep.equal(['1-0', '2-0', '2-2']);
      });

      it('without a sum: only where every entry has one', async () => {
        await damageEntries(lua, 'a', ['2-0'], 'sum', null);
        await damage({ data: '?' });
        await repaired(GOOD, { tail: ['2-0'], sealed: 0 });
        await damage({ data: '?' });
        await repaired(GOOD, { tail: ['2-0'], sealed: 1 }, ['2-0']);
      });

      it('keeps them all where it is refused', async () => {
        await damageEntries(lua, 'a', ['2-0']);
        const tail = ['2-0'];
        const refused = (options: RepairOptions): Promise<Reply> =>
          lua.refused(() => repair(lua, 'a', GOOD, { version: 2, tail, ...options }));
        expect(await refused({ print: 'another' })).to.deep.equal(['CHANGED']);
        expect(await refused({ version: 1 })).to.deep.equal(['CHANGED']);
        expect((await refused({ claims: { length: 7 } }))[0]).to.equal('CHECKSUM');
        expect((await refused({ prelude: DAMAGED_READ_BACK }))[0]).to.equal('WRITE_CORRUPT');
      });
    });

    it('keeps what instances need it for', async () => {
      const exp = (await lua.now()) + 60_000;
      await damage({ need: `${exp} ${exp} tester ${exp}`, data: '?' });
      await repaired(GOOD, { exp });
      expect((await lua.fields('a')).need).to.equal(`${exp} ${exp} tester ${exp}`);
      await lua.redis.del(lua.of('a').context);
      await repaired();
      expect((await lua.fields('a')).need).to.equal(undefined);
    });

    it('whose keyframe was written meanwhile: that is no other context', async () => {
      await damage({ data: '?' });
      const print = await fingerprint(lua, 'a');
      await damage({ kf: '2' });
      await repaired(GOOD, { print });
      expect((await lua.fields('a')).kf).to.equal('2');
    });

    it('over one that is sound, where that is what was seen', async () => {
      await repaired('"restored"');
    });
  });

  it('writes no seal and no sum in a namespace of protocol 1', async () => {
    await lua.commit('a', '"one"', { protocol: 1 });
    await damage({ data: '?' });
    await lua.published();
    const reply = await repair(lua, 'a', '"one"', { protocol: 1, version: 1 });
    expect(reply.slice(0, 2)).to.deep.equal(['REPAIRED', 1]);
    expect((await lua.fields('a')).seal).to.equal(undefined);
    expect((await lua.log('a')).map(({ kind, sum }) => [kind, sum])).to.deep.equal([
      ['full', undefined],
      ['repaired', undefined],
    ]);
    const crc = crc32Hex('"one"');
    const mended = (await lua.log('a')).at(-1)?.at;
    expect((await lua.published()).map(({ text }) => text)).to.deep.equal([
      `lc1 touch 1 ${crc} - 0 1 ${crc} ${mended} - - mender\n`,
    ]);
  });

  describe('CHANGED', () => {
    beforeEach(async () => {
      await lua.commit('a', '1');
      await lua.commit('a', GOOD);
    });
    const refused = async (print: string, version = 2): Promise<Reply> =>
      lua.refused(() => repair(lua, 'a', GOOD, { print, version }));

    refusesEachChangedField(() => lua, refused);

    it('where somebody has written it since', async () => {
      const print = await fingerprint(lua, 'a');
      await lua.commit('a', '3');
      expect(await refused(print)).to.deep.equal(['CHANGED']);
      expect(await refused(print, 9)).to.deep.equal(['CHANGED']);
    });

    it('where somebody has touched, repaired, moved or deleted it since', async () => {
      for (const change of [
        () => lua.touch('a', 60_000),
        () => repair(lua, 'a', '"other"', { version: 2 }),
        () => quarantine(lua, 'a', 'put', { version: 2 }),
        () => lua.delete('a'),
      ]) {
        await damage({ data: '?' });
        const print = await fingerprint(lua, 'a');
        await change();
        expect(await refused(print, 9)).to.deep.equal(['CHANGED']);
      }
    });

    it('where it is there, and was not; and where it is not there, and was', async () => {
      const print = await fingerprint(lua, 'b');
      expect(await refused(print)).to.deep.equal(['CHANGED']);
      const found = await fingerprint(lua, 'a');
      await lua.redis.del(lua.of('a').context);
      expect(await refused(found)).to.deep.equal(['CHANGED']);
    });

    it('where the log is further: its context was deleted, or a version was lost with it', async () => {
      const print = await fingerprint(lua, 'a');
      await lua.redis.xadd(lua.of('a').log, '3-0', 'kind', 'deleted');
      expect(await refused(print)).to.deep.equal(['CHANGED']);
      expect((await repair(lua, 'a', GOOD, { print, version: 3 }))[0]).to.equal('REPAIRED');
    });

    it('where the log has given a later version, whatever became of its entry', async () => {
      await lua.commit('a', '3');
      await damage({ data: '?' });
      const print = await fingerprint(lua, 'a');
      await damageEntries(lua, 'a', ['3-0']);
      expect(await refused(print)).to.deep.equal(['CHANGED']);
      await drop(lua, 'a', '', ['3-0']);
      expect((await lua.log('a')).map(({ entry }) => entry)).to.deep.equal(['1-0', '2-0']);
      expect(await refused(await fingerprint(lua, 'a'))).to.deep.equal(['CHANGED']);
      // trimmed, and of a hash that is gone
      await lua.redis.xtrim(lua.of('a').log, 'MAXLEN', 0);
      await lua.redis.del(lua.of('a').context);
      expect(await refused(await fingerprint(lua, 'a'))).to.deep.equal(['CHANGED']);
      expect((await repair(lua, 'a', GOOD, { version: 3 }))[0]).to.equal('REPAIRED');
    });
  });

  describe('CHECKSUM', () => {
    beforeEach(async () => {
      await lua.commit('a', '1');
      await damage({ data: '?' });
    });
    const refused = (document: string | readonly Chunk[], claims: NonNullable<RepairOptions['claims']>): Promise<Reply> =>
      lua.refused(() => repair(lua, 'a', document, { claims }));

    it('where another document arrived', async () => {
      expect(await refused('2', { sha: sha1Hex('1') })).to.deep.equal(['CHECKSUM', sha1Hex('2'), 1]);
      expect(await refused('1', { length: 2 })).to.deep.equal(['CHECKSUM', sha1Hex('1'), 1]);
    });

    it('where other chunks arrived', async () => {
      const chunks = cut('one two three', 5);
      const listed = sha1Hex(manifestOf(chunks));
      expect(await refused(chunks, { sha: sha1Hex('1') })).to.deep.equal(['CHECKSUM', listed, 13]);
      expect(await refused(chunks, { length: 12 })).to.deep.equal(['CHECKSUM', listed, 13]);
      const { text } = sent(chunks).options.plan;
      const { context, log, exp, use, size, mem, old, channel } = lua.of('a');
      const call = (plan: string, ...documents: string[]): Promise<Reply> =>
        lua.refused(async () => {
          const words = `${await fingerprint(lua, 'a')} 1 ${crc32Hex('one two three')} ${listed} 13 1795449849000 -`;
          const guarded = [`${words} op by 1000 1000 PUBLISH 2 log mender 1`, plan, 'a', channel, ''];
          return lua.run('repair', [context, log, exp, use, size, mem, old], [...guarded, ...documents], '', guarded);
        });
      const plan = text.replace(/#(\d)/g, (_, n) => `#${Number(n) - 1}`);
      expect(await call(plan, 'one t', 'wo_th', 'ree')).to.deep.equal(['CHECKSUM', 'd1', 0]);
      expect(await call(`${plan}what is this\n`, 'one t', 'wo th', 'ree')).to.deep.equal(['CHECKSUM', 'malformed', 0]);
      // it builds on nothing that is stored
      expect(await call(`= d0 1 ${sha1Hex('1')}\n`)).to.deep.equal(['CHECKSUM', 'malformed', 0]);
      expect((await call(plan.replace('#7', 'data'), 'one t', 'wo th', 'ree')).slice(0, 2)).to.deep.equal(['CHECKSUM', 'd1']);
    });
  });

  describe('WRITE_CORRUPT', () => {
    it('leaves what was there, and nothing where there was nothing', async () => {
      const chunks = cut('one two three', 5);
      for (const [id, ttl] of [
        ['a', 60_000],
        ['b', 'none'],
      ] as const) {
        await lua.commit(id, '"one"', { ttl, fence: 3 });
        await lua.redis.hset(lua.of(id).context, 'data', '?');
        for (const document of ['"one"', chunks])
          expect(await lua.refused(() => repair(lua, id, document, { version: 4, prelude: DAMAGED_READ_BACK }))).to.deep.equal([
            'WRITE_CORRUPT',
            4,
          ]);
        await lua.redis.del(lua.of(id).context);
        for (const document of ['"one"', chunks])
          expect((await lua.refused(() => repair(lua, id, document, { prelude: DAMAGED_READ_BACK })))[0]).to.equal(
            'WRITE_CORRUPT',
          );
      }
    });
  });
});
