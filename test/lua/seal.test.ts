import { expect } from 'chai';
import { crc32Hex, sha1Hex } from '../../src/core/checksum.js';
import { checkpoint, expectSealed, repair, sealFor } from '../helpers/integrity.js';
import { type CommitOptions, LuaNamespace, type Reply } from '../helpers/lua.js';
import { cut, edited, type Planned, sent, stored } from '../helpers/plans.js';
import { patchFrom } from './commitFrame.js';

/** What binds the checksums of a context to its id, version and times, and those of a log entry to its place. */
describe('seals and sums of the Lua scripts', () => {
  let lua: LuaNamespace;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
  });
  afterEach(() => lua.close());

  /** A commit that must succeed, after which seal and sums are those that src/core/seal.ts computes. */
  async function committed(id: string, document: string | Buffer, options: CommitOptions = {}): Promise<Reply> {
    const reply = await lua.commit(id, document, { sealed: 1, ...options });
    expect(reply[0]).to.equal('COMMITTED');
    await expectSealed(lua, id);
    return reply;
  }
  const planned = (id: string, { document, options }: Planned, more: CommitOptions = {}): Promise<Reply> =>
    committed(id, document, { ...options, ...more });
  const text = (n: number): string => JSON.stringify({ text: 'x'.repeat(200), n });

  describe('are what src/core/seal.ts computes', () => {
    it('for whole documents of any size and any bytes', async () => {
      const everyByte = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
      for (const document of [
        '1',
        '"é"',
        everyByte,
        Buffer.alloc(4096, everyByte),
        Buffer.alloc(5000, everyByte),
        'x'.repeat(200_000),
      ])
        for (let version = 1; version <= 2; version += 1) await committed('a', document, { logBytes: 400_000 });
    });

    it('for patches, splices and whole documents as deltas, packed or not, and for keyframes', async () => {
      await committed('a', text(1));
      for (const [n, kind, encoding] of [
        [2, 'patch', '-'],
        [3, 'splice', '-'],
        [4, 'splice', 'br'],
        [5, 'patch', 'gz'],
        [6, 'full', 'br'],
      ] as const) {
        const payload = Buffer.from([n, 0, 255, 10, 13]);
        const patch = { ...patchFrom(n - 1, text(n - 1), ''), text: payload };
        await committed('a', text(n), { kind, encoding, patch });
        expect((await lua.log('a')).at(-1)).to.deep.include({ kind, frame: payload.toString('latin1') });
        expect((await lua.log('a')).at(-1)?.enc).to.equal(encoding === '-' ? undefined : encoding);
      }
      await committed('a', text(7), { keyframe: 1, patch: patchFrom(6, text(6), '[7]') });
      expect((await lua.log('a')).at(-1)).to.deep.include({ kind: 'full', frame: text(7) });
      // whose frame the log does not keep
      await committed('a', text(8), { logBytes: 100 });
      expect((await lua.log('a')).at(-1)).to.deep.include({ kind: 'full', frame: '' });
    });

    it('for chunks, sent and changed in place, in both forms', async () => {
      await planned('a', sent(cut(text(1), 40)));
      await planned('a', sent(cut(text(2), 70)));
      for (const form of ['chunked', 'whole', 'whole', 'chunked'] as const)
        await planned('a', edited(await stored(lua, 'a'), [{ at: 9, remove: 2, insert: Buffer.from('??') }], 40, form));
    });

    it('with an expiry that is set, kept and removed, and a fence', async () => {
      for (const document of ['1', 'x'.repeat(5000)])
        for (const ttl of [60_000, 'keep', 'none', 'keep', 5000] as const) await committed('a', document, { ttl, fence: 3 });
      expect((await lua.log('a')).map(({ exp }) => exp === '-')).to.deep.equal([
        ...[false, false, true, true, false],
        ...[false, false, true, true, false],
      ]);
    });

    it('with an expiry that is further away than a number of Lua is written as it is', async () => {
      for (const ttl of [90_000_000_000_000, 99_999_999_999_999, Number.MAX_SAFE_INTEGER]) {
        const last = 99_999_999_999_999;
        const [, , at, , , exp] = await committed('a', '1', { ttl });
        expect(exp).to.equal(Math.min(Number(at) + ttl, last));
        expect(await lua.fields('a')).to.include({ exp: String(exp) });
        expect((await lua.published()).at(-1)?.text).to.include(` ${at} ${exp} `);
        const [, , touched] = await lua.touch('a', ttl);
        expect(touched).to.be.within(Number(exp), last);
        expect(await lua.fields('a')).to.include({ exp: String(touched) });
        expect((await lua.published()).at(-1)?.text).to.include(` ${touched} `);
        await expectSealed(lua, 'a');
      }
    });

    it('for any id', async () => {
      for (const id of ['a b', 'ü/~0"\'', '{x}', '*?[a]', '%d%s', 'x'.repeat(512), '-', '1']) {
        await committed(id, '1', { ttl: 60_000 });
        await lua.touch(id, 'none');
        await expectSealed(lua, id);
        await lua.delete(id);
        await expectSealed(lua, id);
      }
    });

    it('over what has expired, or was deleted, and from a log that is ahead', async () => {
      await committed('a', '1', { ttl: 60_000 });
      await lua.makeExpired('a');
      await committed('a', '2');
      const older = await lua.redis.hgetall(lua.of('a').context);
      await lua.delete('a');
      await committed('a', '4');
      await lua.redis.hset(lua.of('a').context, older);
      await committed('a', '5');
      expect((await lua.log('a')).map(({ entry, kind }) => `${entry} ${kind}`)).to.deep.equal([
        ...['1-0 full', '1-1 expired', '2-0 full', '3-0 deleted', '4-0 full', '5-0 full'],
      ]);
    });

    it('after a touch: of the new expiry', async () => {
      await committed('a', '1');
      for (const ttl of [60_000, 90_000, 'none', 'none', 1000] as const) {
        await lua.touch('a', ttl, { sealed: 1 });
        await expectSealed(lua, 'a');
        expect((await lua.fields('a')).exp !== undefined).to.equal(ttl !== 'none');
      }
    });

    it('after a sweep', async () => {
      await committed('a', '1', { ttl: 60_000 });
      await lua.makeExpired('a');
      await lua.expire(100, 1);
      await expectSealed(lua, 'a');
      expect(await lua.log('a')).to.have.length(2);
    });

    it('after a checkpoint and a repair', async () => {
      await committed('a', '1');
      await checkpoint(lua, 'a', 'z');
      await expectSealed(lua, 'a');
      await repair(lua, 'a', '1', { exp: (await lua.now()) + 60_000 });
      await expectSealed(lua, 'a');
      expect(await lua.log('a')).to.have.length(2);
    });
  });

  describe('of protocol 1', () => {
    const OLD = { protocol: 1 } as const;
    const unsealed = async (): Promise<void> => {
      expect((await lua.fields('a')).seal).to.equal(undefined);
      for (const { entry, sum } of await lua.log('a')) expect(sum, entry).to.equal(undefined);
    };

    it('there are none', async () => {
      await lua.commit('a', text(1), OLD);
      await unsealed();
      await lua.commit('a', text(2), { ...OLD, patch: patchFrom(1, text(1), '[2]'), ttl: 60_000 });
      await unsealed();
      await lua.touch('a', 90_000, OLD);
      await unsealed();
      await lua.makeExpired('a');
      await lua.commit('a', text(3), OLD);
      await unsealed();
      await lua.delete('a', OLD);
      await unsealed();
      await lua.commit('a', text(5), { ...OLD, ttl: 60_000 });
      await lua.makeExpired('a');
      const { exp, use, size, mem, skip, tag } = lua.shard;
      await lua.run('expire', [exp, use, size, mem, skip], [tag, '9 0', '1000 PUBLISH sweeper 1 0']);
      await unsealed();
      expect(await lua.log('a')).to.have.length(7);
    });

    for (const [name, document] of [
      ['a small document', '1'],
      ['a large one', 'x'.repeat(5000)],
    ] as const) {
      it(`one that was there is taken away with the fields that it was of: ${name}`, async () => {
        await committed('a', document);
        expect((await lua.commit('a', document, OLD))[1]).to.equal(2);
        expect((await lua.fields('a')).seal).to.equal(undefined);
        expect((await lua.commit('a', document, { sealed: 0 }))[1]).to.equal(3);
        expect((await lua.fields('a')).seal).to.equal(sealFor('a', await lua.fields('a')));
      });
    }

    it('a touch does not make one, and keeps one that is there', async () => {
      await lua.commit('a', '1', OLD);
      await lua.touch('a', 5000);
      expect((await lua.fields('a')).seal).to.equal(undefined);
      await lua.commit('a', '2');
      await lua.touch('a', 9000, OLD);
      expect((await lua.fields('a')).seal).to.equal(sealFor('a', await lua.fields('a')));
    });
  });

  describe('a damaged field', () => {
    const document = text(1);
    const others: Readonly<Record<string, string>> = {
      ...{
        v: '2',
        crc: crc32Hex('1'),
        sha: sha1Hex('1'),
        len: '7',
        at: '1795449849000',
        exp: '9795449849000',
        seal: sha1Hex('1'),
      },
    };
    for (const ttl of ['none', 60_000] as const) {
      describe(ttl === 'none' ? 'of one that does not expire' : 'of one that expires', () => {
        beforeEach(() => committed('a', document, { ttl }));
        /** What may be asked of it while it is damaged. */
        async function refused(sealed: 0 | 1 = 1): Promise<void> {
          const damaged = ['DAMAGED'];
          const patch = patchFrom(1, document, '[]');
          const base = { sealed, patch, kind: 'splice', plan: { text: '', data: '', baseSha: sha1Hex(document) } } as const;
          for (const options of [
            { sealed },
            { sealed, ifVersion: 1 },
            { sealed, patch },
            base,
            { ...sent(cut('1', 1)).options, sealed },
          ])
            expect(await lua.refused(() => lua.commit('a', '1', options)), JSON.stringify(options)).to.deep.equal(damaged);
          for (const other of [5000, 'none'] as const)
            expect(await lua.refused(() => lua.touch('a', other, { sealed }))).to.deep.equal(damaged);
          for (const ifVersion of [0, 1, 2])
            expect(await lua.refused(() => lua.delete('a', { ifVersion, sealed }))).to.deep.equal(damaged);
        }
        /** Whoever wants it gone gets that, and it can be created anew. */
        async function removable(sealed: 0 | 1 = 1): Promise<void> {
          await lua.published();
          expect((await lua.delete('a', { sealed })).slice(0, 2)).to.deep.equal(['DELETED', 2]);
          const [frame] = await lua.published();
          // what its checksum was is not known
          expect(frame?.text).to.match(/^lc2 deleted - 0 2 - 0 1 - /);
          await expectSealed(lua, 'a');
          expect(await lua.accounts()).to.deep.include({ bytes: 0, contexts: 0 });
          expect(await lua.ids(lua.shard.exp)).to.deep.equal([]);
          await committed('a', document, { ttl });
          expect((await lua.fields('a')).v).to.equal('3');
        }

        for (const field of ['v', 'crc', 'sha', 'len', 'at', 'exp', 'seal'] as const) {
          it(`is found: another ${field}`, async () => {
            await lua.redis.hset(lua.of('a').context, field, others[field] ?? '');
            for (const sealed of [0, 1] as const) await refused(sealed);
            await removable();
          });

          if (field === 'exp' && ttl === 'none') continue;
          it(`is found: no ${field}`, async () => {
            await lua.redis.hdel(lua.of('a').context, field);
            await refused(1);
            if (field !== 'seal') await refused(0);
            await removable();
          });
        }

        it('by one bit of each', async () => {
          for (const [field, value] of Object.entries(await lua.fields('a'))) {
            if (['op', 'by', 'kf'].includes(field)) continue;
            for (const bit of [0, 4]) {
              const bytes = Buffer.from(value);
              bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ (1 << bit);
              await lua.redis.hset(lua.of('a').context, field, bytes);
              expect(await lua.refused(() => lua.commit('a', '1')), field).to.deep.equal(['DAMAGED']);
            }
            await lua.redis.hset(lua.of('a').context, field, value);
          }
          await committed('a', '1');
        });
      });
    }

    it('a missing seal is none where seals need not be', async () => {
      await lua.commit('a', '1');
      await lua.redis.hdel(lua.of('a').context, 'seal');
      expect((await lua.touch('a', 5000, { sealed: 0 }))[0]).to.equal('TOUCHED');
      expect((await lua.fields('a')).seal).to.equal(undefined);
      expect((await lua.commit('a', '2', { sealed: 0 }))[1]).to.equal(2);
      await expectSealed(lua, 'a');
      await lua.redis.hdel(lua.of('a').context, 'seal');
      expect((await lua.delete('a', { sealed: 0, ifVersion: 2 }))[0]).to.equal('DELETED');
    });

    it('what is in other fields is not under the seal, and does not stand in the way', async () => {
      await lua.commit('a', '1', { fence: 7 });
      for (const [field, value] of [
        ['fence', 'x'],
        ['kf', 'x'],
        ['by', 'x'],
        ['op', 'x'],
        ['intent', 'x'],
      ] as const)
        await lua.redis.hset(lua.of('a').context, field, value);
      await committed('a', '2', { fence: 3 });
      expect((await lua.fields('a')).fence).to.equal('3');
    });

    it('an operation that was carried out is not told of from damaged fields', async () => {
      await lua.commit('a', '1', { op: 'op' });
      await lua.redis.hset(lua.of('a').context, 'crc', '00000000');
      expect(await lua.refused(() => lua.commit('a', '1', { op: 'op' }))).to.deep.equal(['DAMAGED']);
    });

    it('of one that has expired is found before it would be removed', async () => {
      await lua.commit('a', '1', { ttl: 60_000 });
      await lua.makeExpired('a');
      await lua.redis.hset(lua.of('a').context, 'len', '2');
      expect(await lua.refused(() => lua.commit('a', '2'))).to.deep.equal(['DAMAGED']);
      expect(await lua.refused(() => lua.touch('a', 5000))).to.deep.equal(['DAMAGED']);
      expect((await lua.delete('a')).slice(0, 2)).to.deep.equal(['DELETED', 2]);
    });

    it('of what little is left', async () => {
      await lua.commit('a', 'x'.repeat(500), sent(cut('x'.repeat(500), 20)).options);
      await lua.redis.hdel(lua.of('a').context, 'v', 'crc', 'sha', 'len', 'at', 'seal');
      for (const field of ['op', 'chunks']) {
        for (const sealed of [0, 1] as const)
          expect(await lua.refused(() => lua.commit('a', '1', { sealed })), `without ${field}`).to.deep.equal(['DAMAGED']);
        if (field === 'op') await lua.redis.hdel(lua.of('a').context, field);
      }
      expect((await lua.delete('a')).slice(0, 2)).to.deep.equal(['DELETED', 2]);
      await committed('a', '1');
      await stored(lua, 'a');
    });
  });

  describe('what is sound in itself, but in another place', () => {
    beforeEach(async () => {
      for (const id of ['a', 'b']) for (const document of [`"${id}1"`, `"${id}2"`]) await committed(id, document);
    });

    it('a context that was swapped with another', async () => {
      const [a, b] = [lua.of('a').context, lua.of('b').context];
      await lua.redis.rename(a, `${a}-x`);
      await lua.redis.rename(b, a);
      await lua.redis.rename(`${a}-x`, b);
      for (const id of ['a', 'b']) {
        expect(await lua.refused(() => lua.commit(id, '3'))).to.deep.equal(['DAMAGED']);
        expect(await lua.refused(() => lua.touch(id, 5000))).to.deep.equal(['DAMAGED']);
      }
    });

    it('the same document at the same version of another id', async () => {
      for (const id of ['c', 'd']) await lua.when(1_795_449_849_000, () => lua.commit(id, '"same"', { op: 'op' }));
      const [c, d] = [await lua.fields('c'), await lua.fields('d')];
      expect({ ...c, seal: null }).to.deep.equal({ ...d, seal: null });
      await lua.redis.hset(lua.of('c').context, d);
      expect(await lua.refused(() => lua.commit('c', '3'))).to.deep.equal(['DAMAGED']);
    });

    it('fields of another version of its own', async () => {
      const older = await lua.redis.hgetall(lua.of('a').context);
      await committed('a', '"a3"');
      const newer = await lua.redis.hgetall(lua.of('a').context);
      for (const field of ['v', 'crc', 'sha', 'at', 'seal']) {
        await lua.redis.hset(lua.of('a').context, field, older[field] ?? '');
        if (older[field] !== newer[field])
          expect(await lua.refused(() => lua.commit('a', '4')), field).to.deep.equal(['DAMAGED']);
        await lua.redis.hset(lua.of('a').context, newer);
      }
    });

    it('an older version as a whole has its seal: its log is ahead, and nothing that builds on the newer one is written', async () => {
      const older = await lua.redis.hgetall(lua.of('a').context);
      const newer = await committed('a', '"a3"');
      const before = await stored(lua, 'a');
      await lua.redis.hset(lua.of('a').context, older);
      const plan = edited(before, [{ at: 1, remove: 1, insert: Buffer.from('?') }], 10, 'whole');
      expect(await lua.refused(() => lua.commit('a', plan.document, plan.options))).to.deep.equal([
        ...['BASE_MISMATCH', 2, crc32Hex('"a2"'), '-'],
      ]);
      expect(await lua.refused(() => lua.commit('a', '4', { ifVersion: Number(newer[1]) }))).to.deep.equal([
        ...['CONFLICT', 2, crc32Hex('"a2"')],
      ]);
      // the version that was lost is not given again
      expect((await committed('a', '"a4"'))[1]).to.equal(4);
    });

    it('an entry of the log of another context, of another version, or changed in any field', async () => {
      const entries = await lua.log('a');
      await expectSealed(lua, 'a');
      const fields = (await lua.redis.xrange(lua.of('a').log, '2-0', '2-0'))[0]?.[1] ?? [];
      const put = async (id: string, entry: string, words: string[]): Promise<unknown> => {
        await lua.redis.del(lua.of(id).log);
        await lua.redis.xadd(lua.of(id).log, entry, ...words);
        return expectSealed(lua, id).then(
          () => 'sound',
          () => 'damaged',
        );
      };
      expect(entries).to.have.length(2);
      expect(await put('a', '2-0', fields)).to.equal('sound');
      expect(await put('b', '2-0', fields)).to.equal('damaged');
      expect(await put('a', '3-0', fields)).to.equal('damaged');
      expect(await put('a', '2-1', fields)).to.equal('damaged');
      for (const name of ['kind', 'base', 'crc', 'sha', 'len', 'op', 'by', 'at', 'exp', 'sum'])
        expect(
          await put(
            'a',
            '2-0',
            fields.map((word, at) => (at % 2 === 1 && fields[at - 1] === name ? `${word}1` : word)),
          ),
          name,
        ).to.equal('damaged');
    });
  });
});
