/** Locks and transactions over several shards: what was prepared under a lock, or without one, when somebody else wants the context. */
import { expect } from 'chai';
import type { ContextStore, Lock } from '../../src/index.js';
import { SteppingProxy } from '../helpers/SteppingProxy.js';
import { refusal, useStores } from '../helpers/stores.js';
import { waitFor } from '../helpers/waitFor.js';

describe('locks and transactions that are not decided', () => {
  const stores = useStores();
  const proxies: SteppingProxy[] = [];
  // after the stores
  afterEach(() => Promise.all(proxies.splice(0).map((proxy) => proxy.close())));
  const ids = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'];

  /** An instance whose transactions can be held before their decision, and another. */
  async function instances(): Promise<{ proxy: SteppingProxy; held: ContextStore; other: ContextStore }> {
    const proxy = await SteppingProxy.start(Number(new URL(await stores.url()).port));
    proxies.push(proxy);
    const held = await stores.open({ redis: proxy.url, shards: 8, attemptTimeout: '20s', timeout: '20s' });
    const other = await stores.open({ shards: 8, timeout: '10s' });
    for (const id of ids) await other.set(id, 'old');
    proxy.stopAt({ hold: ({ script }) => script === 'decide' });
    return { proxy, held, other };
  }

  it('breaking a lock takes back what its holder has prepared, before it answers', async () => {
    const { proxy, held, other } = await instances();
    const lock = (await held.tryLock(ids, { ttl: '30s' })) as Lock;
    const ended = held.transaction(
      (tx) => {
        for (const id of ids) tx.set(id, 'of the broken holder');
      },
      { lock },
    );
    await waitFor(() => proxy.stopped, { what: 'the transaction before its decision' });
    try {
      expect(await other.breakLock('b')).to.have.length(1);
      expect(await other.get('b', { fresh: true })).to.deep.include({ value: 'old', version: 1 });
    } finally {
      proxy.resume();
    }
    await refusal('FENCED', () => ended);
    for (const id of ids) expect((await other.get(id, { fresh: true }))?.value).to.equal('old');
  });

  it('tryLock does not wait for a decision, and lock only as long as it was told', async () => {
    const { proxy, held, other } = await instances();
    const redis = await stores.redis();
    const { context } = other.keysOf('b');
    const intent = async (): Promise<string | null> => redis.hget(context, 'intent');
    const ended = held.transaction((tx) => {
      for (const id of ids) tx.set(id, 'new');
    });
    await waitFor(() => proxy.stopped, { what: 'the transaction before its decision' });
    const [txn = ''] = (await intent())?.split(' ') ?? [];
    try {
      expect(await other.tryLock('b')).to.equal(null);
      for (const wait of [0, 50]) {
        const error = await refusal('LOCK_TIMEOUT', () => other.lock('b', () => {}, { wait }));
        expect(error.message)
          .to.include(`transaction ${txn} `)
          .and.include(wait === 0 ? 'b: not locked: ' : ' within 50 ms');
        expect(error.details).to.deep.include({ id: 'b', namespace: stores.namespace });
      }
      expect(await intent(), 'that nobody has ended it').to.include(txn);
      await waitFor(async () => (await other.locks({ ids: ['b'] })).length === 0, { what: 'what was taken to be free' });
    } finally {
      proxy.resume();
    }
    await other.lock('b', async () => expect((await other.get('b', { fresh: true }))?.value).to.equal('new'));
    await ended;
  });
});
