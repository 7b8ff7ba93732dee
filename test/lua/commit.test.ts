import { expect } from 'chai';
import { crc32Hex, sha1Hex } from '../../src/core/checksum.js';
import { type CommitOptions, GRACE_MS, LuaNamespace, operation, type Reply, TOMBSTONE_MS } from '../helpers/lua.js';

const ABSENT = { version: 0, crc: '-' };

/** Above so many bytes a whole document is a message of its own, and its frame a header that announces it. */
const JOINED_BYTES = 4096;

/** The frame of a commit as it is published, one message; bytes of the payload as latin1. */
function frameOf(
  kind: 'full' | 'patch',
  version: number,
  document: string | Buffer,
  more: { base?: { version: number; crc: string }; at: unknown; exp?: unknown; op: string; by?: string; payload?: string },
): string {
  const { base = ABSENT, at, exp = '-', op, by = 'tester', payload = Buffer.from(document).toString('latin1') } = more;
  const sums = `${crc32Hex(document)} ${sha1Hex(document)} ${Buffer.byteLength(document)}`;
  return `lc1 ${kind} ${version} ${sums} ${base.version} ${base.crc} ${at} ${exp} ${op} ${by}\n${payload}`;
}

/** The messages of a commit with a whole document. */
function messagesOf(version: number, document: Buffer, more: Parameters<typeof frameOf>[3]): string[] {
  const joined = frameOf('full', version, document, more);
  if (document.length <= JOINED_BYTES) return [joined];
  return [
    frameOf('full', version, document, { ...more, payload: '' }).replace('lc1 full', 'lc1 follows'),
    document.toString('latin1'),
  ];
}

const patchFrom = (baseVersion: number, base: string, text: string): NonNullable<CommitOptions['patch']> => ({
  text,
  baseVersion,
  baseCrc: crc32Hex(base),
});

/** Shadows `redis` for the script: from its own write of the document on, reading it back gives other bytes. */
const DAMAGED_READ_BACK = `
local real, damaged = redis, false
local redis = setmetatable({
  call = function(...)
    local command, _, field = ...
    local reply = real.call(...)
    if command == 'HSET' and field == 'data' then
      damaged = not damaged
    elseif command == 'HGET' and field == 'data' and damaged then
      return 'X' .. string.sub(reply, 2)
    end
    return reply
  end,
}, { __index = real })
`;

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
      expect(reply).to.deep.equal(['COMMITTED', 1, at, 'full', document.length, 0, used]);
      expect(at).to.be.within(before, after);

      const sums = { crc: crc32Hex(document), sha: sha1Hex(document), len: String(document.length) };
      const common = { ...sums, at: String(at), by: 'instance-1', op: 'op-1' };
      expect(await lua.redis.hgetall(context)).to.deep.equal({ ...common, data: document, v: '1', kf: '1' });
      expect(await lua.log('user-42')).to.deep.equal([
        { ...common, entry: '1-0', kind: 'full', frame: document, base: '-', exp: '-' },
      ]);
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

  describe('the frame', () => {
    const base = `{"text":"${'x'.repeat(200)}","n":1}`;
    const next = base.replace('"n":1', '"n":2');
    const patch = '[{"op":"replace","path":"/n","value":2}]';

    /** Commits `next` over `base` with a patch, and checks reply, log and frame against each other. */
    async function kindWith(change: Partial<CommitOptions>, expected: 'patch' | 'full'): Promise<void> {
      await lua.commit('a', base);
      await lua.published();
      const options = { op: 'op-2', patch: patchFrom(1, base, patch), ...change };
      const reply = await lua.commit('a', next, options);
      const payload = expected === 'patch' ? options.patch.text : next;
      expect(reply.slice(0, 5)).to.deep.equal(['COMMITTED', 2, reply[2], expected, payload.length]);
      expect((await lua.log('a'))[1]).to.deep.include({ kind: expected, frame: payload, len: String(next.length) });
      expect(String(await lua.document('a'))).to.equal(next);
      expect((await lua.fields('a')).kf).to.equal(expected === 'patch' ? '1' : '2');
      const published = frameOf(expected, 2, next, {
        base: { version: 1, crc: crc32Hex(base) },
        at: reply[2],
        op: 'op-2',
        payload,
      });
      expect((await lua.published()).map(({ text }) => text)).to.deep.equal([published]);
    }

    it('is the patch where its base is what is stored', () => kindWith({}, 'patch'));
    it('is the document where the patch has another base version', () => kindWith({ patch: patchFrom(2, base, patch) }, 'full'));
    it('is the document where the patch has another base checksum', () =>
      kindWith({ patch: patchFrom(1, `${base} `, patch) }, 'full'));
    it('is the patch where that is one byte smaller', () =>
      kindWith({ patch: patchFrom(1, base, patch.padEnd(next.length - 1)) }, 'patch'));
    it('is the document where the patch is as large', () =>
      kindWith({ patch: patchFrom(1, base, patch.padEnd(next.length)) }, 'full'));
    it('is the document where there is no patch', () => kindWith({ patch: patchFrom(1, base, '') }, 'full'));

    it('is the document where the base has expired', async () => {
      await lua.commit('a', base, { ttl: 60_000 });
      await lua.makeExpired('a');
      const reply = await lua.commit('a', next, { patch: patchFrom(1, base, patch) });
      expect(reply.slice(3, 5)).to.deep.equal(['full', next.length]);
    });

    it('is the document where the base was deleted', async () => {
      await lua.commit('a', base);
      await lua.delete('a');
      const reply = await lua.commit('a', next, { patch: patchFrom(1, base, patch) });
      expect(reply.slice(1, 4)).to.deep.equal([3, reply[2], 'full']);
    });
  });

  describe('the log', () => {
    const document = (n: number): string => `{"text":"${'x'.repeat(200)}","n":${n}}`;
    const commitNth = (n: number, more: CommitOptions = {}): Promise<Reply> =>
      lua.commit('a', document(n), n === 1 ? more : { ...more, patch: patchFrom(n - 1, document(n - 1), `[${n}]`) });

    it('holds a whole document every 32 versions, while the frames stay patches', async () => {
      for (let n = 1; n <= 70; n += 1) await commitNth(n, { logKeep: 64 });
      const log = await lua.log('a');
      expect(log).to.have.length(70);
      expect(log.filter(({ kind }) => kind === 'full').map(({ entry }) => entry)).to.deep.equal(['1-0', '33-0', '65-0']);
      expect(log[32]?.frame).to.equal(document(33));
      expect(log[31]?.frame).to.equal('[32]');
      expect((await lua.fields('a')).kf).to.equal('65');
      const kinds = (await lua.published()).map(({ text }) => text.split(' ')[1]);
      expect(kinds).to.deep.equal(['full', ...Array(69).fill('patch')]);
    });

    it('counts from the last whole document, also where a commit came without a patch', async () => {
      for (let n = 1; n <= 12; n += 1) await (n === 5 ? lua.commit('a', document(n)) : commitNth(n, { keyframe: 4 }));
      const kinds = (await lua.log('a')).map(({ kind }) => (kind === 'full' ? 'F' : '.')).join('');
      expect(kinds).to.equal('F...F...F...');
    });

    it('keeps so many entries and the distance of two whole documents, and not many more', async function () {
      this.timeout(30_000);
      for (let n = 1; n <= 150; n += 1) await commitNth(n, { logKeep: 3, keyframe: 4 });
      const log = await lua.log('a');
      // Redis cuts whole nodes of its stream, which hold 100 entries at most
      expect(log.length).to.be.within(7, 106);
      expect(log.map(({ entry }) => entry)).to.deep.equal(log.map((_, index) => `${151 - log.length + index}-0`));
      // what it keeps can be replayed to the end, through so many entries at least
      expect(log.length - log.findIndex(({ kind }) => kind === 'full')).to.be.at.least(4);
    });

    it('is cut until it fits its bytes, and begins again with a whole document', async () => {
      const limit = 24_000;
      const large = (n: number): string => JSON.stringify({ n, text: 'y'.repeat(2900) });
      const lengths: number[] = [];
      for (let n = 1; n <= 24; n += 1) {
        const patch = n === 1 ? {} : { patch: patchFrom(n - 1, large(n - 1), `["${'z'.repeat(1500)}"]`) };
        const reply = await lua.commit('a', large(n), { ...patch, logBytes: limit });
        const log = await lua.log('a');
        lengths.push(log.length);
        expect(await lua.memory(lua.of('a').log)).to.be.at.most(limit);
        expect(log.at(-1)?.entry).to.equal(`${n}-0`);
        const whole = log.findLast(({ kind }) => kind === 'full');
        const { kf } = await lua.fields('a');
        expect(kf, `after version ${n}`).to.equal(whole === undefined ? '0' : whole.entry.replace('-0', ''));
        expect(Number(reply[6])).to.equal(await lua.memory(lua.of('a').context, lua.of('a').log));
        expect(await lua.accounts()).to.deep.equal({ bytes: Number(reply[6]), contexts: 1 });
      }
      expect(
        lengths.some((length, n) => length < (lengths[n - 1] ?? 0)),
        'it was cut',
      ).to.equal(true);
      expect(Math.max(...lengths)).to.be.greaterThan(3);
    });

    it('holds the entry alone of a document that would fill an eighth of it, and the next patch brings the document', async () => {
      const base = 'x'.repeat(5000);
      for (const [logBytes, frame, kf] of [
        [40_000, base, '1'],
        [39_999, '', '0'],
      ] as const) {
        const id = `log of ${logBytes}`;
        await lua.commit(id, base, { logBytes });
        expect((await lua.log(id))[0]).to.deep.include({ kind: 'full', frame, crc: crc32Hex(base), len: '5000' });
        expect((await lua.fields(id)).kf).to.equal(kf);
      }
      const id = 'log of 39999';
      const next = 'y'.repeat(5000);
      await lua.commit(id, next, { logBytes: 39_999, patch: patchFrom(1, base, '[2]') });
      expect((await lua.log(id))[1]).to.deep.include({ kind: 'full', frame: next });
      expect((await lua.fields(id)).kf).to.equal('2');
      await lua.commit(id, base, { logBytes: 39_999, patch: patchFrom(2, next, '[3]') });
      expect((await lua.log(id))[2]).to.deep.include({ kind: 'patch', frame: '[3]' });
      // what was published is the document, then the patches
      const kinds = (await lua.published()).filter(({ channel }) => channel.endsWith(id)).map(({ text }) => text.split(' ')[1]);
      expect(kinds).to.deep.equal(['follows', undefined, 'patch', 'patch']);
    });

    it('may take twice the document where that is more than its bytes', async () => {
      const large = (n: number): string => JSON.stringify({ n, text: 'y'.repeat(20_000) });
      const memory: number[] = [];
      for (let n = 1; n <= 12; n += 1) {
        const patch = n === 1 ? {} : { patch: patchFrom(n - 1, large(n - 1), `["${'z'.repeat(9000)}"]`) };
        await lua.commit('a', large(n), { ...patch, logBytes: 100 });
        expect((await lua.log('a')).map(({ entry }) => entry)).to.include(`${n}-0`);
        memory.push(await lua.memory(lua.of('a').log));
      }
      expect(Math.max(...memory)).to.be.within(20_000, 2 * large(1).length);
    });

    it('keeps the newest entry whatever that takes', async () => {
      for (let n = 1; n <= 3; n += 1) {
        await lua.commit('a', '1', { logBytes: 1 });
        expect((await lua.log('a')).map(({ entry }) => entry)).to.deep.equal([`${n}-0`]);
      }
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
      expect((await lua.published())[1]?.text.split(' ')[9]).to.equal('-');
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
        `lc1 expired 2 - - 0 2 ${crc} ${at} - - later\n`,
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
      expect(Object.keys(await lua.fields('a')).sort()).to.deep.equal(['at', 'by', 'crc', 'kf', 'len', 'op', 'sha', 'v']);
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
      await lua.redis.del(lua.of('a').context);
      const reply = await lua.commit('a', '"three"');
      expect(reply.slice(0, 2)).to.deep.equal(['COMMITTED', 3]);
      expect(await lua.accounts()).to.deep.include({ bytes: Number(reply[6]), contexts: 1 });
      expect(await lua.redis.zcard(lua.shard.exp)).to.equal(0);
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
      await lua.redis.hset(lua.of('a').context, 'exp', (await lua.now()) - 5);
      expect((await lua.commit('a', '"four"')).slice(0, 2)).to.deep.equal(['COMMITTED', 4]);
    });
  });

  describe('CONFLICT', () => {
    beforeEach(() => lua.commit('a', '"one"'));

    it('by version, with the current one', async () => {
      for (const ifVersion of [0, 2, 7]) {
        const reply = await lua.refused(() => lua.commit('a', '"two"', { ifVersion }));
        expect(reply).to.deep.equal(['CONFLICT', 1, crc32Hex('"one"')]);
      }
    });

    it('by checksum: the version came back with other content', async () => {
      const reply = await lua.refused(() => lua.commit('a', '"two"', { ifVersion: 1, ifCrc: crc32Hex('"other"') }));
      expect(reply).to.deep.equal(['CONFLICT', 1, crc32Hex('"one"')]);
    });

    it('where there is nothing', async () => {
      expect(await lua.refused(() => lua.commit('b', '1', { ifVersion: 1 }))).to.deep.equal(['CONFLICT', 0, '-']);
    });

    it('with what has expired: nothing is touched, not even its leftover', async () => {
      await lua.commit('b', '1', { ttl: 60_000 });
      await lua.makeExpired('b');
      expect(await lua.refused(() => lua.commit('b', '2', { ifVersion: 1 }))).to.deep.equal(['CONFLICT', 0, '-']);
    });

    it('with what was deleted', async () => {
      await lua.delete('a');
      expect(await lua.refused(() => lua.commit('a', '2', { ifVersion: 1 }))).to.deep.equal(['CONFLICT', 0, '-']);
    });
  });

  describe('FENCED', () => {
    // as large as tokens get: microseconds
    const token = 1_795_449_849_614_123;
    beforeEach(() => lua.commit('a', '"one"', { fence: token }));

    it('for an older token', async () => {
      const reply = await lua.refused(() => lua.commit('a', '"two"', { fence: token - 1 }));
      expect(reply).to.deep.equal(['FENCED', String(token)]);
    });

    it('not for the same one or a newer one, which is remembered', async () => {
      expect((await lua.commit('a', '"two"', { fence: token }))[0]).to.equal('COMMITTED');
      expect((await lua.commit('a', '"three"', { fence: token + 1 }))[0]).to.equal('COMMITTED');
      expect((await lua.fields('a')).fence).to.equal(String(token + 1));
      expect((await lua.refused(() => lua.commit('a', '"four"', { fence: token })))[0]).to.equal('FENCED');
    });

    it('not for a commit without a lock, and the token stays', async () => {
      expect((await lua.commit('a', '"two"'))[0]).to.equal('COMMITTED');
      expect((await lua.fields('a')).fence).to.equal(String(token));
    });
  });

  describe('LOCKED', () => {
    beforeEach(() => lua.commit('a', '"one"'));
    const intend = async (deadline: number): Promise<unknown> =>
      lua.redis.hset(lua.of('a').context, 'intent', `txn-7 ${deadline}`);

    it('by the intent of a live transaction', async () => {
      const deadline = (await lua.now()) + 60_000;
      await intend(deadline);
      expect(await lua.refused(() => lua.commit('a', '"two"'))).to.deep.equal(['LOCKED', 'txn-7', deadline]);
    });

    it('not once its deadline has passed', async () => {
      await intend((await lua.now()) - 1);
      expect((await lua.commit('a', '"two"')).slice(0, 2)).to.deep.equal(['COMMITTED', 2]);
    });
  });

  describe('CHECKSUM', () => {
    const document = '{"a":"é"}';
    for (const present of [false, true]) {
      describe(present ? 'over a context' : 'where there is none', () => {
        beforeEach(async () => {
          if (present) await lua.commit('a', '"one"', { ttl: 60_000 });
        });

        it('for another SHA-1, with what arrived', async () => {
          const reply = await lua.refused(() => lua.commit('a', document, { claims: { sha: sha1Hex('{"a":"e"}') } }));
          expect(reply).to.deep.equal(['CHECKSUM', sha1Hex(document), 10]);
        });

        it('for another length', async () => {
          const reply = await lua.refused(() => lua.commit('a', document, { claims: { length: 9 } }));
          expect(reply).to.deep.equal(['CHECKSUM', sha1Hex(document), 10]);
        });
      });
    }

    it('leaves the leftover of an expired context alone', async () => {
      await lua.commit('a', '"one"', { ttl: 60_000 });
      await lua.makeExpired('a');
      expect((await lua.refused(() => lua.commit('a', '2', { claims: { length: 2 } })))[0]).to.equal('CHECKSUM');
    });
  });

  describe('WRITE_CORRUPT', () => {
    const corrupt = (document: string, more: CommitOptions = {}): Promise<Reply> =>
      lua.commit('a', document, { prelude: DAMAGED_READ_BACK, ...more });

    it('leaves the old bytes, log and accounts', async () => {
      await lua.commit('a', '"one"', { ttl: 60_000 });
      await lua.commit('a', '"two"', { ttl: 'keep' });
      const patch = patchFrom(2, '"two"', '[]');
      const reply = await lua.refused(() => corrupt('"three"', { ttl: 'none', fence: 9, patch }));
      expect(reply).to.deep.equal(['WRITE_CORRUPT', 2]);
    });

    it('leaves nothing where there was nothing', async () => {
      expect(await lua.refused(() => corrupt('"one"'))).to.deep.equal(['WRITE_CORRUPT', 0]);
      expect(await lua.snapshot()).to.deep.equal({});
    });

    for (const size of [500, 5000]) {
      it(`leaves a document of ${size} bytes with its log as it is, also one that is about to be cut`, async () => {
        const log = { logKeep: 1, keyframe: 2, ttl: 60_000, fence: 3 };
        const lengths: number[] = [];
        for (let n = 1; n <= 30; n += 1) {
          await lua.commit('a', `${n}`.padEnd(size), log);
          lengths.push((await lua.log('a')).length);
          const reply = await lua.refused(() => corrupt(`${n}!`.padEnd(size), log));
          expect(reply).to.deep.equal(['WRITE_CORRUPT', n]);
        }
        expect(lengths.at(-1), 'entries at the end: it was cut').to.be.lessThan(30);
      });
    }

    it('leaves a small document where a large one was to come, and the other way round', async () => {
      await lua.commit('a', '"small"', { ttl: 60_000, fence: 3 });
      expect((await lua.refused(() => corrupt('x'.repeat(50_000))))[0]).to.equal('WRITE_CORRUPT');
      await lua.commit('a', 'x'.repeat(50_000));
      expect((await lua.refused(() => corrupt('"small"')))[0]).to.equal('WRITE_CORRUPT');
    });

    it('does not stand in the way of the next commit', async () => {
      await lua.commit('a', '"one"');
      await corrupt('"two"');
      const reply = await lua.commit('a', '"two"');
      expect(reply.slice(0, 2)).to.deep.equal(['COMMITTED', 2]);
      expect((await lua.log('a')).map(({ entry }) => entry)).to.deep.equal(['1-0', '2-0']);
      expect(await lua.accounts()).to.deep.include({ bytes: Number(reply[6]), contexts: 1 });
    });

    it('does not stand in the way of the first commit', async () => {
      await corrupt('"one"');
      expect((await lua.commit('a', '"one"')).slice(0, 2)).to.deep.equal(['COMMITTED', 1]);
    });

    it('over an expired context leaves that as any expired one is left', async () => {
      await lua.commit('a', '"one"', { ttl: 60_000 });
      await lua.makeExpired('a');
      await lua.published();
      expect(await corrupt('"two"')).to.deep.equal(['WRITE_CORRUPT', 0]);
      expect((await lua.log('a')).map(({ entry }) => entry)).to.deep.equal(['1-0', '1-1']);
      expect((await lua.published()).map(({ text }) => text.split(' ').slice(1, 3).join(' '))).to.deep.equal(['expired 1']);
      expect(await lua.accounts()).to.deep.include({ bytes: 0, contexts: 0 });
      expect(await lua.redis.exists(lua.of('a').context, lua.shard.exp, lua.shard.use, lua.shard.size)).to.equal(0);
    });
  });

  it('fails with nothing written where the log cannot be written', async () => {
    for (const id of ['there', 'new']) {
      if (id === 'there') await lua.commit(id, '"one"');
      await lua.redis.del(lua.of(id).log);
      await lua.redis.set(lua.of(id).log, 'not a stream');
      const before = await lua.snapshot();
      await lua.published();
      const failure = await lua.commit(id, '"two"').catch((error: unknown) => String(error));
      expect(failure).to.match(/WRONGTYPE/);
      expect(await lua.snapshot()).to.deep.equal(before);
      expect(await lua.published()).to.deep.equal([]);
    }
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
