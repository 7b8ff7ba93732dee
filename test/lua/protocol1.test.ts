import { expect } from 'chai';
import { crc32Hex, sha1Hex } from '../../src/core/checksum.js';
import { LuaNamespace } from '../helpers/lua.js';
import { cut, sent } from '../helpers/plans.js';
import { patchFrom } from './commitFrame.js';

/** Frames as every instance read them before protocol 2, byte for byte. */
describe('the scripts in a namespace of protocol 1', () => {
  let lua: LuaNamespace;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
  });
  afterEach(() => lua.close());

  const OLD = { protocol: 1 } as const;
  const texts = async (): Promise<string[]> => (await lua.published()).map(({ text }) => text);
  const facts = (document: string): string => `${crc32Hex(document)} ${sha1Hex(document)} ${document.length}`;

  it('a whole document up to 4096 bytes follows its header', async () => {
    for (const document of ['{"n":1}', 'x'.repeat(4096)]) {
      await lua.delete('a');
      await texts();
      const [, version, at, , , exp] = await lua.commit('a', document, { ...OLD, op: 'op-1', ttl: 60_000 });
      const base = Number(version) - 1;
      expect(await texts()).to.deep.equal([
        `lc1 full ${version} ${facts(document)} ${base} - ${at} ${exp} op-1 tester\n${document}`,
      ]);
    }
  });

  it('a longer one is announced, and is a message of its own', async () => {
    const document = 'x'.repeat(4097);
    await lua.commit('a', '"first"', OLD);
    await texts();
    const [, , at] = await lua.commit('a', document, { ...OLD, op: 'op-2' });
    expect(await texts()).to.deep.equal([
      `lc1 follows 2 ${facts(document)} 1 ${crc32Hex('"first"')} ${at} - op-2 tester\n`,
      document,
    ]);
  });

  it('a patch follows its header', async () => {
    const [first, second] = [JSON.stringify('a'.repeat(50)), JSON.stringify('b'.repeat(50))];
    await lua.commit('a', first, OLD);
    await texts();
    const [, , at] = await lua.commit('a', second, { ...OLD, op: 'op-2', patch: patchFrom(1, first, '[1]') });
    expect(await texts()).to.deep.equal([`lc1 patch 2 ${facts(second)} 1 ${crc32Hex(first)} ${at} - op-2 tester\n[1]`]);
  });

  it('a long patch follows its header too: only a whole document was ever announced', async () => {
    const [first, second] = ['a'.repeat(6000), 'b'.repeat(6000)];
    await lua.commit('a', first, OLD);
    await texts();
    const patch = 'p'.repeat(5000);
    const [, , at] = await lua.commit('a', second, { ...OLD, op: 'op-2', patch: patchFrom(1, first, patch) });
    expect(await texts()).to.deep.equal([`lc1 patch 2 ${facts(second)} 1 ${crc32Hex(first)} ${at} - op-2 tester\n${patch}`]);
  });

  it('deleted, touched and expired', async () => {
    const crc = crc32Hex('"one"');
    await lua.commit('a', '"one"', OLD);
    await texts();
    const [, , exp] = await lua.touch('a', 60_000, { ...OLD, op: 'op-t' });
    expect(await texts()).to.deep.equal([`lc1 touch 1 ${crc} - 0 1 ${crc} ${Number(exp) - 60_000} ${exp} op-t tester\n`]);
    const [, , deleted] = await lua.delete('a', { ...OLD, op: 'op-d' });
    expect(await texts()).to.deep.equal([`lc1 deleted 2 - - 0 1 ${crc} ${deleted} - op-d tester\n`]);

    await lua.commit('a', '"one"', { ...OLD, ttl: 60_000 });
    await lua.makeExpired('a');
    await texts();
    const [, , at] = await lua.commit('a', '"two"', { ...OLD, op: 'op-4' });
    expect(await texts()).to.deep.equal([
      `lc1 expired 3 - - 0 3 ${crc} ${at} - - tester\n`,
      `lc1 full 4 ${facts('"two"')} 3 - ${at} - op-4 tester\n"two"`,
    ]);
    const { exp: index, use, size, mem, skip, tag } = lua.shard;
    await lua.touch('a', 60_000, OLD);
    await lua.makeExpired('a');
    await texts();
    const keys = [index, use, size, mem, skip];
    const [, , , , , id, version] = await lua.run('expire', keys, [tag, '9 0', '1000 PUBLISH sweeper 1 0']);
    expect([id, version]).to.deep.equal(['a', 4]);
    const swept = (await lua.log('a')).at(-1)?.at;
    expect(await texts()).to.deep.equal([`lc1 expired 4 - - 0 4 ${crc32Hex('"two"')} ${swept} - - sweeper\n`]);
  });

  it('nothing of an old frame depends on what was written before by protocol 2', async () => {
    const { document, options } = sent(cut('x'.repeat(9000), 1000));
    await lua.commit('a', document, options);
    await texts();
    const next = 'y'.repeat(5000);
    const [, , at] = await lua.commit('a', next, { ...OLD, op: 'op-2' });
    const base = crc32Hex(document);
    expect(await texts()).to.deep.equal([`lc1 follows 2 ${facts(next)} 1 ${base} ${at} - op-2 tester\n`, next]);
  });
});
