import { expect } from 'chai';
import { crc32Hex } from '../../src/core/checksum.js';
import { type CommitOptions, LuaNamespace, type Reply } from '../helpers/lua.js';
import { frameOf, patchFrom } from './commitFrame.js';

describe('frame and log of lua/commit.lua', () => {
  let lua: LuaNamespace;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
  });
  afterEach(() => lua.close());

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
      const payload = expected === 'patch' ? String(options.patch.text) : next;
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
      const messages = (await lua.published()).filter(({ channel }) => channel.endsWith(id)).map(({ text }) => text);
      expect(messages[1]).to.equal(base);
      const kinds = messages.map((text) => text.split(' ').slice(0, 4).join(' '));
      expect(kinds).to.deep.equal(['lc2 full - 1', base, 'lc2 patch - 0', 'lc2 patch - 0']);
    });

    it('may take three times the document where that is more than its bytes', async () => {
      const large = (n: number): string => JSON.stringify({ n, text: 'y'.repeat(20_000) });
      const memory: number[] = [];
      for (let n = 1; n <= 12; n += 1) {
        const patch = n === 1 ? {} : { patch: patchFrom(n - 1, large(n - 1), `["${'z'.repeat(9000)}"]`) };
        await lua.commit('a', large(n), { ...patch, logBytes: 100 });
        expect((await lua.log('a')).map(({ entry }) => entry)).to.include(`${n}-0`);
        memory.push(await lua.memory(lua.of('a').log));
      }
      expect(Math.max(...memory)).to.be.within(20_000, 3 * large(1).length);
    });

    it('keeps the newest entry whatever that takes', async () => {
      for (let n = 1; n <= 3; n += 1) {
        await lua.commit('a', '1', { logBytes: 1 });
        expect((await lua.log('a')).map(({ entry }) => entry)).to.deep.equal([`${n}-0`]);
      }
    });
  });
});
