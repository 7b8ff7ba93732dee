import { expect } from 'chai';
import { crc32Hex } from '../../src/core/checksum.js';
import { answerCheck, guardOf } from '../../src/core/seal.js';
import { type CommitOptions, LuaNamespace, operation, type Reply } from '../helpers/lua.js';
import { cut, edited, sent, stored } from '../helpers/plans.js';
import { patchFrom } from './commitFrame.js';

describe('lua/catchup.lua', () => {
  let lua: LuaNamespace;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
  });
  afterEach(() => lua.close());

  interface CaughtUp {
    readonly facts: readonly unknown[];
    readonly now: number;
    /** Entry ids, each with its fields. */
    readonly entries: readonly (readonly [string, Readonly<Record<string, string>>])[];
  }

  /** Its answer; nothing is written, and the time in it is Redis's. */
  async function catchUp(id: string, after: number, most = 100, how: 'all' | 'smaller' = 'smaller'): Promise<CaughtUp> {
    const { context, log } = lua.of(id);
    let reply: Awaited<ReturnType<typeof lua.runRaw>> = null;
    const before = await lua.now();
    const salt = operation();
    const [keys, args] = [
      [context, log],
      [after, most, how],
    ];
    await lua.refused(async () => {
      reply = await lua.runRaw('catchup', keys, [...args, guardOf(salt, [...keys, ...args])]);
      return [];
    });
    const [status, now, v, crc, exp, check, ...entries] = reply as unknown as [
      Buffer,
      number,
      Buffer,
      Buffer,
      Buffer,
      Buffer,
      ...[Buffer, Buffer[]][],
    ];
    expect(now).to.be.within(before, await lua.now());
    // entries have checksums of their own
    expect(String(check)).to.equal(answerCheck(salt, [String(status), now, String(v), String(crc), String(exp)]));
    return {
      facts: [status, v, crc, exp].map(String),
      now,
      entries: entries.map(([entry, fields]) => {
        const words = fields.map((field) => field.toString('latin1'));
        return [
          entry.toString(),
          Object.fromEntries(words.flatMap((word, at) => (at % 2 === 0 ? [[word, words[at + 1] ?? '']] : []))),
        ] as const;
      }),
    };
  }
  const ids = ({ entries }: CaughtUp): string[] => entries.map(([entry]) => entry);

  const document = (n: number): string => JSON.stringify({ text: 'x'.repeat(100), n });
  /** Version `n` by a patch. */
  const commitNth = (n: number, more: CommitOptions = {}): Promise<Reply> =>
    lua.commit('a', document(n), n === 1 ? more : { ...more, patch: patchFrom(n - 1, document(n - 1), `[${n}]`) });
  const commits = async (count: number, more: CommitOptions = {}): Promise<void> => {
    for (let n = 1; n <= count; n += 1) await commitNth(n, more);
  };

  it('gives version, checksum and expiry, and the entries after a version as the log has them', async () => {
    await commits(4);
    const [, , exp] = await lua.touch('a', 60_000);
    const found = await catchUp('a', 2);
    expect(found.facts).to.deep.equal(['LOG', '4', crc32Hex(document(4)), String(exp)]);
    const log = await lua.log('a');
    expect(found.entries.map(([entry, fields]) => ({ entry, ...fields }))).to.deep.equal(log.slice(2));
    expect(found.entries[1]?.[1]).to.deep.include({ kind: 'patch', frame: '[4]', base: crc32Hex(document(3)) });
  });

  it('gives no entries to who is there already, or ahead', async () => {
    await commits(3);
    for (const after of [3, 4, 2 ** 40]) {
      const found = await catchUp('a', after);
      expect(found.facts).to.deep.equal(['LOG', '3', crc32Hex(document(3)), '']);
      expect(ids(found)).to.deep.equal([]);
    }
  });

  it('gives the log from its beginning after 0', async () => {
    await commits(3);
    expect(ids(await catchUp('a', 0, 100, 'all'))).to.deep.equal(['1-0', '2-0', '3-0']);
    // also what stands before any version: the expiry of what was never logged
    await lua.redis.del(lua.of('b').log);
    await lua.redis.xadd(lua.of('b').log, '0-1', 'kind', 'expired', 'frame', '');
    expect(ids(await catchUp('b', 0))).to.deep.equal(['0-1']);
  });

  it('gives so many entries at most, the oldest ones', async () => {
    await commits(5);
    expect(ids(await catchUp('a', 1, 3))).to.deep.equal(['2-0', '3-0', '4-0']);
    expect(ids(await catchUp('a', 1, 4))).to.deep.equal(['2-0', '3-0', '4-0', '5-0']);
  });

  it('gives bytes as they are', async () => {
    const payload = Buffer.from([0, 255, 10, 200, 13]);
    await lua.commit('a', document(1));
    await lua.commit('a', document(2), {
      kind: 'splice',
      encoding: 'br',
      patch: { ...patchFrom(1, document(1), ''), text: payload },
    });
    expect((await catchUp('a', 1)).entries[0]?.[1]).to.deep.include({
      kind: 'splice',
      enc: 'br',
      frame: payload.toString('latin1'),
    });
  });

  describe('WHOLE', () => {
    it('where the frames are longer than the document, by one byte', async () => {
      await lua.commit('a', document(1));
      const { length } = document(1);
      for (const [n, bytes] of [
        [2, length - 60],
        [3, 59],
        [4, 1],
        [5, 1],
      ] as const)
        await lua.commit('a', document(n), { patch: patchFrom(n - 1, document(n - 1), 'p'.repeat(bytes)) });
      expect(ids(await catchUp('a', 1, 3))).to.deep.equal(['2-0', '3-0', '4-0']);
      const found = await catchUp('a', 1);
      expect(found.facts).to.deep.equal(['WHOLE', '5', crc32Hex(document(5)), '']);
      expect(ids(found)).to.deep.equal([]);
      expect(ids(await catchUp('a', 2))).to.deep.equal(['3-0', '4-0', '5-0']);
    });

    it('with the expiry', async () => {
      await commits(3);
      const [, , exp] = await lua.touch('a', 60_000);
      await lua.commit('a', '1');
      expect((await catchUp('a', 0)).facts).to.deep.equal(['WHOLE', '4', crc32Hex('1'), String(exp)]);
    });

    it('not for who asks for all', async () => {
      await commits(3);
      await lua.commit('a', '1');
      expect((await catchUp('a', 0)).facts[0]).to.equal('WHOLE');
      const found = await catchUp('a', 0, 100, 'all');
      expect(found.facts).to.deep.equal(['LOG', '4', crc32Hex('1'), '']);
      expect(ids(found)).to.deep.equal(['1-0', '2-0', '3-0', '4-0']);
    });

    it('by the length of a document in chunks', async () => {
      const first = sent(cut('y'.repeat(900), 100));
      await lua.commit('a', first.document, first.options);
      for (const bytes of [500, 400, 1]) {
        const before = await stored(lua, 'a');
        const { document: next, options } = edited(before, [{ at: 0, remove: 1, insert: Buffer.from('z') }], 100, 'chunked');
        const patch = { text: 'p'.repeat(bytes), baseVersion: before.version, baseCrc: before.crc };
        await lua.commit('a', next, { ...options, patch });
      }
      expect((await catchUp('a', 1, 2)).facts[0]).to.equal('LOG');
      expect((await catchUp('a', 1)).facts[0]).to.equal('WHOLE');
    });
  });

  describe('what is not there', () => {
    it('was never there', async () => {
      const found = await catchUp('a', 0);
      expect(found.facts).to.deep.equal(['LOG', '', '', '']);
      expect(found.entries).to.deep.equal([]);
    });

    it('was deleted: with its tombstone, whatever came before it', async () => {
      await commits(3);
      await lua.delete('a', { op: 'op-d' });
      const found = await catchUp('a', 2);
      expect(found.facts).to.deep.equal(['LOG', '', '', '']);
      expect(ids(found)).to.deep.equal(['3-0', '4-0']);
      expect(found.entries[1]?.[1]).to.deep.include({ kind: 'deleted', op: 'op-d' });
      expect(ids(await catchUp('a', 0))).to.deep.equal(['1-0', '2-0', '3-0', '4-0']);
    });

    it('has expired, and was not swept yet', async () => {
      await commits(2);
      await lua.makeExpired('a', 0);
      const found = await catchUp('a', 1);
      expect(found.facts).to.deep.equal(['LOG', '', '', '']);
      expect(ids(found)).to.deep.equal(['2-0']);
    });

    it('has expired and was swept', async () => {
      await commits(2);
      await lua.makeExpired('a');
      await lua.expire();
      const found = await catchUp('a', 1);
      expect(found.facts).to.deep.equal(['LOG', '', '', '']);
      expect(ids(found)).to.deep.equal(['2-0', '2-1']);
    });

    it('came back: what was before is there too', async () => {
      await commits(2);
      await lua.delete('a');
      await lua.commit('a', document(9));
      const found = await catchUp('a', 2);
      expect(found.facts).to.deep.equal(['LOG', '4', crc32Hex(document(9)), '']);
      expect(found.entries.map(([entry, { kind }]) => `${entry} ${kind}`)).to.deep.equal(['3-0 deleted', '4-0 full']);
    });

    it('is its log: the context is all there is', async () => {
      await commits(2);
      await lua.redis.del(lua.of('a').log);
      const found = await catchUp('a', 1);
      expect(found.facts).to.deep.equal(['LOG', '2', crc32Hex(document(2)), '']);
      expect(found.entries).to.deep.equal([]);
    });
  });
});
