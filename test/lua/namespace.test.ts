import { expect } from 'chai';
import { namespaceKey } from '../../src/redis/keys.js';
import { LuaNamespace, type Reply } from '../helpers/lua.js';

describe('lua/namespace.lua', () => {
  let lua: LuaNamespace;
  let key: string;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
    key = namespaceKey(lua.keys.namespace);
  });
  afterEach(async () => {
    await lua.redis.del(key);
    lua.close();
  });

  const open = (shards: number, format: number): Promise<Reply> => lua.run('namespace', [key], [shards, format]);
  /** Opens one that is there: it stays as it is. */
  async function found(fields: Record<string, string | number>): Promise<Reply> {
    await lua.redis.del(key);
    await lua.redis.hset(key, fields);
    const before = await lua.redis.hgetall(key);
    const reply = await open(7, 2);
    expect(await lua.redis.hgetall(key)).to.deep.equal(before);
    expect(await lua.redis.pexpiretime(key)).to.equal(-1);
    return reply;
  }

  it('makes one that is not there, sealed, all of it at once', async () => {
    expect(await open(3, 2)).to.deep.equal(['NAMESPACE', '3', '2', 1]);
    expect(await lua.redis.hgetall(key)).to.deep.equal({ shards: '3', format: '2', sealed: '1' });
    expect(await lua.redis.pexpiretime(key)).to.equal(-1);
    expect(await lua.published()).to.deep.equal([]);
  });

  it('answers what is fixed to whoever opens it next, whatever they would have made', async () => {
    await open(3, 2);
    for (const shards of [1, 3, 9]) expect(await open(shards, 1)).to.deep.equal(['NAMESPACE', '3', '2', 1]);
    expect(await lua.redis.hgetall(key)).to.deep.equal({ shards: '3', format: '2', sealed: '1' });
  });

  it('is made by one of many who open it at the same time', async () => {
    const replies = await Promise.all(Array.from({ length: 50 }, (_, at) => open(at + 1, 2)));
    const { shards } = await lua.redis.hgetall(key);
    for (const reply of replies) expect(reply).to.deep.equal(['NAMESPACE', shards, '2', 1]);
  });

  it('answers of one that older versions made that not everything in it is sealed', async () => {
    expect(await found({ shards: 2, format: 1 })).to.deep.equal(['NAMESPACE', '2', '1', 0]);
    expect(await found({ shards: 2, format: 2 })).to.deep.equal(['NAMESPACE', '2', '2', 0]);
    expect(await found({ shards: 2, format: 2, sealed: 0 })).to.deep.equal(['NAMESPACE', '2', '2', 0]);
    expect(await found({ shards: 2, format: 2, sealed: 1, other: 'x' })).to.deep.equal(['NAMESPACE', '2', '2', 1]);
  });

  it('answers of one that lacks something that it does, and adds nothing', async () => {
    expect(await found({ format: 2 })).to.deep.equal(['NAMESPACE', '', '2', 0]);
    expect(await found({ shards: 2 })).to.deep.equal(['NAMESPACE', '2', '', 0]);
    expect(await found({ sealed: 1 })).to.deep.equal(['NAMESPACE', '', '', 1]);
    expect(await found({ shards: 'x', format: '9' })).to.deep.equal(['NAMESPACE', 'x', '9', 0]);
  });
});
