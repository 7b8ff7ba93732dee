import { expect } from 'chai';
import { lockNodesKey, nodeKeys, nodeMarkerKey } from '../../src/redis/keys.js';
import { nodeVote } from '../helpers/locks.js';
import { LuaNamespace, type Reply } from '../helpers/lua.js';

describe('lua/nodelock.lua, nodeextend.lua, nodeunlock.lua, nodemark.lua, nodes.lua', () => {
  let lua: LuaNamespace;
  let marker: string;
  let held: string;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
    marker = nodeMarkerKey(lua.keys.namespace);
    held = nodeKeys(lua.keys.namespace, 'a')[1];
  });
  afterEach(() => lua.close());

  const mark = (run: string, waitMs: number): Promise<Reply> => lua.run('nodemark', [marker], [run, waitMs]);
  const nodes = (maxTtl: number, names = 'a b'): Promise<Reply> =>
    lua.run('nodes', [lockNodesKey(lua.keys.namespace)], [maxTtl, names]);
  const take = (value: string, mode: 'w' | 'r' = 'w', run = 'run'): Promise<Reply> =>
    nodeVote(lua, 'nodelock', value, [1_000], 'a', { mode, run });

  describe('a node that was not marked, or waits', () => {
    it('does not vote, and says so', async () => {
      expect(await lua.refused(() => take('one'))).to.deep.equal(['NEW']);
      const at = await lua.now();
      expect(await lua.when(at, () => mark('run', 5_000))).to.deep.equal(['MARKED', 5_000]);
      expect(await lua.when(at + 4_999, () => lua.refused(() => take('one')))).to.deep.equal(['COLD', 1]);
      expect((await lua.when(at + 5_000, () => take('one')))[0]).to.equal('VOTED');
    });

    it('another run of the server is another node: what was marked before does not count', async () => {
      await mark('run', 0);
      expect(await lua.refused(() => take('one', 'w', 'run2'))).to.deep.equal(['NEW']);
      await mark('run2', 5_000);
      expect((await take('one', 'w', 'run2'))[0]).to.equal('COLD');
      expect(Object.keys(await lua.redis.hgetall(marker))).to.deep.equal(['run2']);
    });

    it('the first to mark it decides, but for who knows that no lock was ever given', async () => {
      await mark('run', 5_000);
      const [, left] = await mark('run', 60_000);
      expect(left).to.be.within(1, 5_000);
      expect(await mark('run', 0)).to.deep.equal(['MARKED', 0]);
      expect(await mark('run', 60_000)).to.deep.equal(['MARKED', 0]);
    });
  });

  describe('a node that votes', () => {
    beforeEach(() => mark('run', 0));

    it('gives a writer the resource alone, until its time is over', async () => {
      const at = await lua.now();
      expect(await lua.when(at, () => take('one'))).to.deep.equal(['VOTED', at + 1_000]);
      expect(await lua.redis.zrange(held, '0', '-1', 'WITHSCORES')).to.deep.equal(['w:one', String(at + 1_000)]);
      expect(await lua.nativeExpiry(held)).to.equal(at + 1_000);
      for (const mode of ['w', 'r'] as const)
        expect(await lua.when(at + 10, () => lua.refused(() => take('two', mode)))).to.deep.equal(['HELD', 990]);
      // asked again by the same
      expect((await lua.when(at + 10, () => take('one')))[0]).to.equal('VOTED');
      expect((await lua.when(at + 1_009, () => take('two')))[0]).to.equal('HELD');
      expect((await lua.when(at + 1_010, () => take('two')))[0]).to.equal('VOTED');
    });

    it('gives readers the resource together', async () => {
      await take('r1', 'r');
      await take('r2', 'r');
      expect((await take('w1'))[0]).to.equal('HELD');
      await nodeVote(lua, 'nodeunlock', 'r1', [], 'a', { mode: 'r' });
      expect((await take('w1'))[0]).to.equal('HELD');
      await nodeVote(lua, 'nodeunlock', 'r2', [], 'a', { mode: 'r' });
      expect((await take('w1'))[0]).to.equal('VOTED');
    });

    it('extends what is held, never to less, and is GONE for what is not', async () => {
      const at = await lua.now();
      const extend = (ttl: number, value = 'one'): Promise<Reply> => nodeVote(lua, 'nodeextend', value, [ttl]);
      await lua.when(at, () => take('one'));
      expect(await lua.when(at + 500, () => extend(1_000))).to.deep.equal(['VOTED', at + 1_500]);
      expect(await lua.when(at + 500, () => extend(10))).to.deep.equal(['VOTED', at + 1_500]);
      expect(await lua.nativeExpiry(held)).to.equal(at + 1_500);
      expect(await lua.refused(() => extend(1_000, 'two'))).to.deep.equal(['GONE']);
      expect(await lua.when(at + 1_500, () => lua.refused(() => extend(1_000)))).to.deep.equal(['GONE']);
    });

    it('takes back what a value holds, and nothing else', async () => {
      await take('one');
      expect(await lua.refused(() => nodeVote(lua, 'nodeunlock', 'two'))).to.deep.equal(['VOTED', 0]);
      expect(await nodeVote(lua, 'nodeunlock', 'one')).to.deep.equal(['VOTED', 1]);
      expect(await lua.redis.exists(held)).to.equal(0);
    });
  });

  it('the data server tells one that it is the first, and keeps the longest time to live', async () => {
    expect(await nodes(1_000)).to.deep.equal(['NODES', 1, 1_000]);
    expect(await nodes(500, 'c')).to.deep.equal(['NODES', 0, 1_000]);
    expect(await nodes(2_000)).to.deep.equal(['NODES', 0, 2_000]);
    expect(await nodes(1_000)).to.deep.equal(['NODES', 0, 2_000]);
    expect(await lua.redis.hgetall(lockNodesKey(lua.keys.namespace))).to.include({ names: 'a b', maxTtl: '2000' });
  });
});
