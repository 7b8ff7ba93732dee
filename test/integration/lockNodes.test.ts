/** Locks on nodes that are all well, and what a node must be to get a vote. What happens when they are not: test/chaos/locks.test.ts. */
import { expect } from 'chai';
import type { ContextStore, Lock, StoreOptions } from '../../src/index.js';
import { RedisServer } from '../helpers/RedisServer.js';
import { refusal, useStores } from '../helpers/stores.js';
import { TcpProxy } from '../helpers/TcpProxy.js';
import { waitFor } from '../helpers/waitFor.js';

describe('locks with nodes', () => {
  const stores = useStores();
  let nodes: RedisServer[];
  before(async () => {
    nodes = await Promise.all(Array.from({ length: 3 }, () => RedisServer.start()));
  });
  after(() => Promise.all(nodes.map((node) => node.stop())));

  const withNodes = (urls: readonly string[] = nodes.map(({ url }) => url), options: StoreOptions = {}): Promise<ContextStore> =>
    stores.open({ ...options, locks: { nodes: urls, maxTtl: '20s', ...options.locks } });
  const heldOn = (id: string): Promise<string[][]> =>
    Promise.all(nodes.map((node) => node.client().zrange(`{lc:${stores.namespace}}:held:${id}`, '0', '-1')));
  const names = (): string => nodes.map(({ port }) => `127.0.0.1:${port}`).join(' ');

  it('are held on the nodes as long as on the data server, and let go of there', async () => {
    const [store, other] = await Promise.all([withNodes(), withNodes()]);
    await store.lock('x', async (lock) => {
      await waitFor(async () => (await heldOn('x')).every(([value]) => /^w:\w+$/.test(value ?? '')), {
        what: 'all three to vote',
      });
      expect(lock.remainingMs).to.be.within(1, 10_000);
      expect(await other.tryLock('x')).to.equal(null);
      await store.set('x', 1, { lock });
    });
    await waitFor(async () => (await heldOn('x')).every((values) => values.length === 0), { what: 'the nodes to be free' });
    const redis = await stores.redis();
    expect(await redis.hgetall(`{lc:${stores.namespace}}:nodes`)).to.include({ maxTtl: '20000', names: names() });
  });

  it('readers share them, a writer has them alone', async () => {
    const [store, other] = await Promise.all([withNodes(), withNodes()]);
    const reads = [await store.tryLock('x', { mode: 'read' }), await other.tryLock('x', { mode: 'read' })] as Lock[];
    await waitFor(async () => (await heldOn('x')).every((values) => values.length === 2), { what: 'two readers on each node' });
    expect(await other.tryLock('x')).to.equal(null);
    for (const read of reads) await read.release();
    await (await other.tryLock('x'))?.release();
  });

  it('are extended on the nodes as well', async () => {
    const store = await withNodes();
    const redis = (nodes[0] as RedisServer).client();
    await store.lock(
      'x',
      async (lock) => {
        const scores = new Set<string>();
        const key = `{lc:${stores.namespace}}:held:x`;
        await waitFor(async () => scores.add((await redis.zrange(key, '0', '-1', 'WITHSCORES')).join()).size >= 6, {
          what: 'five extensions',
        });
        expect(lock.signal.aborted).to.equal(false);
      },
      { ttl: 200 },
    );
  });

  it('a lock that most nodes have lost is lost, and its signal says so', async () => {
    const store = await withNodes();
    const lock = (await store.tryLock('x', { ttl: 300 })) as Lock;
    for (const node of nodes.slice(0, 2)) await node.client().del(`{lc:${stores.namespace}}:held:x`);
    await waitFor(() => lock.signal.aborted, { what: 'the signal' });
    expect((lock.signal.reason as Error).message).to.include('most of the lock nodes do not have it any more');
    await refusal('FENCED', () => store.set('x', 1, { lock }));
    await store.lock('x', () => {});
  });

  it('an answer that was damaged on its way is no vote', async () => {
    const lanes = await Promise.all(nodes.map(({ port }) => TcpProxy.start(port)));
    try {
      const store = await withNodes(lanes.map(({ url }) => url));
      await store.lock('x', () => {});
      // VOTED becomes another word, on two of three
      for (const lane of lanes.slice(0, 2)) lane.flip((chunk) => chunk.indexOf('VOTED'));
      const error = await refusal('LOCK_QUORUM', () => store.tryLock('y'));
      expect(Object.values(error.details.nodes ?? {})).to.have.length(2);
      expect(await store.locks({ ids: ['y'] })).to.deep.equal([]);
    } finally {
      await Promise.all(lanes.map((lane) => lane.close()));
    }
  });

  it('a node that may evict what it has promised gets no vote', async () => {
    const evicting = await Promise.all([1, 2].map(() => RedisServer.start({ config: { 'maxmemory-policy': 'allkeys-lru' } })));
    try {
      const store = await withNodes([...evicting.map(({ url }) => url), nodes[0]?.url ?? '']);
      const error = await refusal('LOCK_QUORUM', () => store.lock('x', () => {}, { wait: 100 }));
      expect(Object.values(error.details.nodes ?? {}).join()).to.include('maxmemory-policy is allkeys-lru');
      // set right, it votes; without a restart
      for (const node of evicting) await node.cli('CONFIG', 'SET', 'maxmemory-policy', 'noeviction');
      const later = await refusal('LOCK_QUORUM', () => store.lock('x', () => {}, { wait: 1_000 }));
      expect(later.message).to.include('takes part in');
    } finally {
      await Promise.all(evicting.map((node) => node.stop()));
    }
  });

  it('waiting ends with the signal, and close leaves no connection behind', async () => {
    const [store, other] = await Promise.all([withNodes(), withNodes()]);
    const lock = (await store.tryLock('x')) as Lock;
    await (await stores.redis()).del(`{lc:${stores.namespace}:0}:w:x`);
    const abort = new AbortController();
    const waits = other.lock('x', () => {}, { signal: abort.signal });
    await waitFor(async () => (await other.locks({ ids: ['x'] }))[0]?.holders.length === 1, { what: 'the turn of the other' });
    abort.abort();
    await refusal('ABORTED', () => waits);
    await waitFor(async () => (await other.locks({ ids: ['x'] })).length === 0, { what: 'the turn to be given up' });
    await Promise.all([store.close(), other.close()]);
    expect(lock.signal.aborted).to.equal(true);
    for (const node of nodes) {
      const connected = async (): Promise<boolean> =>
        (await node.cli('CLIENT', 'LIST')).includes(`lukhas-context:${stores.namespace}:`);
      await waitFor(async () => !(await connected()), { what: 'the connections to be gone' });
    }
    expect((await heldOn('x')).flat()).to.deep.equal([]);
  });
});
