import { expect } from 'chai';
import { namespaceKey, probeKeys } from '../../src/redis/keys.js';
import { scriptSource } from '../../src/redis/scripts.js';
import { checkpoint, damageDocument, damageEntries, drop, gone, look, quarantine, repair } from '../helpers/integrity.js';
import { LuaNamespace, type Reply } from '../helpers/lua.js';
import { RedisServer } from '../helpers/RedisServer.js';

/** A server that is at its maxmemory: what makes room, reads or checks goes on; what would fill it is refused before it writes. */
describe('the scripts on a server over its maxmemory', () => {
  let server: RedisServer;
  let lua: LuaNamespace;
  beforeEach(async () => {
    server = await RedisServer.start();
    lua = await LuaNamespace.open(server.url);
    await lua.commit('a', '"one"', { ttl: 60_000 });
    await lua.commit('b', '"two"', { ttl: 60_000 });
    for (const name of ['commit', 'touch', 'checkpoint']) await lua.redis.script('LOAD', scriptSource(name));
    await lua.redis.config('SET', 'maxmemory', 1);
    expect(await lua.redis.set('{x}', '1').catch((error: unknown) => String(error))).to.match(/OOM/);
  });
  afterEach(async () => {
    lua.close();
    await server.stop();
  });

  async function room(during: () => Promise<unknown>): Promise<void> {
    await lua.redis.config('SET', 'maxmemory', 0);
    await during();
    await lua.redis.config('SET', 'maxmemory', 1);
  }

  async function refusedByRedis(call: () => Promise<Reply>): Promise<void> {
    const reply = await lua.refused(() => call().catch((error: unknown) => [error instanceof Error ? error.message : '']));
    expect(reply[0]).to.match(/^OOM command not allowed/);
  }

  it('commit is refused up front, with nothing written', async () => {
    await refusedByRedis(() => lua.commit('a', '"three"'));
    await refusedByRedis(() => lua.commit('new', '1'));
    await room(async () => {
      expect((await lua.commit('a', '"three"')).slice(0, 2)).to.deep.equal(['COMMITTED', 2]);
      await lua.makeExpired('a');
    });
    await refusedByRedis(() => lua.commit('a', '"four"'));
  });

  it('touch is refused up front, with nothing written', () => refusedByRedis(() => lua.touch('a', 5000)));

  it('checkpoint is refused up front, with nothing written', () => refusedByRedis(() => checkpoint(lua, 'a', 'z')));

  it('repair and quarantine work: what is damaged does not wait for room', async () => {
    await room(() => damageDocument(lua, 'b'));
    expect((await repair(lua, 'a', '"good"')).slice(0, 2)).to.deep.equal(['REPAIRED', 1]);
    expect((await lua.log('a')).at(-1)?.kind).to.equal('repaired');
    expect(await quarantine(lua, 'b', 'put')).to.deep.equal(['QUARANTINED', 1]);
    expect(await lua.accounts()).to.deep.include({ contexts: 2, quarantined: 1 });
    expect((await quarantine(lua, 'b', 'drop'))[0]).to.equal('DROPPED');
  });

  it('drop, gone and look work, and a namespace opens: whoever begins must be able to delete', async () => {
    await room(() => damageEntries(lua, 'a', ['1-0']));
    expect(await drop(lua, 'a', '', ['1-0'])).to.deep.equal(['DROPPED', 1, 0]);
    await room(() => lua.redis.xadd(lua.of('b').log, '2-0', 'kind', 'deleted'));
    expect(await gone(lua, 'b')).to.deep.equal(['REMOVED', 2]);
    expect(await lua.accounts()).to.deep.include({ contexts: 1 });
    expect((await look(lua, 'a')).entries).to.deep.equal([]);
    expect(await lua.run('namespace', [namespaceKey(lua.keys.namespace)], [1, 2])).to.deep.equal(['NAMESPACE', '1', '2', 1]);
  });

  it('delete works', async () => {
    expect((await lua.delete('a')).slice(0, 2)).to.deep.equal(['DELETED', 2]);
    expect((await lua.log('a')).at(-1)).to.deep.include({ entry: '2-0', kind: 'deleted' });
    expect(await lua.accounts()).to.deep.include({ contexts: 1 });
    expect((await lua.published()).at(-1)?.text).to.match(/^lc2 deleted - 0 2 /);
  });

  it('expire works', async () => {
    await room(() => lua.makeExpired('a'));
    expect((await lua.expire()).slice(3)).to.deep.equal([0, 'a', 1]);
    expect((await lua.log('a')).at(-1)).to.deep.include({ entry: '1-1', kind: 'expired' });
    expect(await lua.accounts()).to.deep.include({ contexts: 1 });
  });

  it('catchup, versions, probe and inspect work', async () => {
    const { context, log } = lua.of('a');
    expect((await lua.run('catchup', [context, log], [1, 10, 'all']))[2]).to.equal('1');
    expect((await lua.versions('a', 'b')).slice(0, 3)).to.deep.include('VERSIONS');
    const { keys, channel } = probeKeys(lua.keys.namespace);
    expect((await lua.run('probe', keys, [channel, 'PUBLISH']))[0]).to.equal('OK');
    expect((await lua.runSource(scriptSource('inspect'), [lua.of('a').context], [])).at(-1)).to.equal('OK');
  });
});
