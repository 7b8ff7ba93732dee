import { expect } from 'chai';
import type { ContextStore, Lock } from '../../src/index.js';
import { refusal, useStores } from '../helpers/stores.js';
import { waitFor } from '../helpers/waitFor.js';

describe('transactions under locks', () => {
  const stores = useStores();

  for (const shards of [1, 16]) {
    it(`hot contexts of ${shards} shards: nobody conflicts, nobody waits for ever`, async () => {
      const instances = await stores.openMany(3, { shards });
      const ids = ['a', 'b', 'c', 'd'];
      for (const id of ids) await instances[0]?.set(id, 0);
      const add = (store: ContextStore, chosen: readonly string[]): Promise<void> =>
        store.transaction(
          async (tx) => {
            for (const id of chosen) tx.set(id, ((await tx.get<number>(id))?.value ?? 0) + 1);
          },
          { lock: true, attempts: 1, timeout: '15s' },
        );
      await Promise.all(
        Array.from({ length: 30 }, (_, n) => {
          const store = instances[n % 3] as ContextStore;
          // in every order, so that locks taken in it would wait for each other
          return add(store, [ids[n % 4], ids[(n * 3 + 1) % 4], ids[(n + 2) % 4]] as string[]);
        }),
      );
      const read = await instances[1]?.getMany(ids, { fresh: true });
      const total = read?.reduce((sum, context) => sum + Number(context?.value), 0);
      expect(total).to.equal(
        Array.from({ length: 30 }, (_, n) => new Set([n % 4, (n * 3 + 1) % 4, (n + 2) % 4]).size).reduce((a, b) => a + b, 0),
      );
    });
  }

  it('a lock that was broken ends it with FENCED, and nothing is written', async () => {
    const [store, other] = await stores.pair({ shards: 16 });
    await refusal('FENCED', () =>
      store.transaction(
        async (tx) => {
          tx.set('a', (await tx.get('a')) === null ? 1 : 2);
          await other.breakLock('a');
          tx.set('b', 1);
        },
        { lock: true },
      ),
    );
    expect(await other.getMany(['a', 'b'], { fresh: true })).to.deep.equal([null, null]);
  });

  for (const shards of [1, 16]) {
    it(`takes the lock that the caller holds, over ${shards} shards: it is refused once that is broken`, async () => {
      const [store, other] = await stores.pair({ shards });
      const ids = ['a', 'b', 'c'];
      const write = (value: number, lock: Lock): Promise<void> =>
        store.transaction(
          (tx) => {
            for (const id of ids) tx.set(id, value);
          },
          { lock },
        );
      await store.lock(ids, async (lock) => {
        await write(1, lock);
        await other.breakLock('b');
        const error = await refusal('FENCED', () => write(2, lock));
        expect(error.message).to.contain('b');
        const next = (await other.tryLock('b')) as Lock;
        await refusal('FENCED', () => write(3, lock));
        await next.release();
      });
      const read = await other.getMany(ids, { fresh: true });
      expect(read.map((context) => context?.value)).to.deep.equal([1, 1, 1]);
    });
  }

  it('a lock within another carries the tokens of both', async () => {
    const [store, other] = await stores.pair({ shards: 4 });
    const outer = (await store.tryLock('a')) as Lock;
    await store.lock(
      'z',
      async (inner) => {
        await store.transaction((tx) => tx.set('a', 1), { lock: inner });
        await other.breakLock('a');
        await refusal('FENCED', () => store.transaction((tx) => tx.set('a', 2), { lock: inner }));
      },
      { within: outer },
    );
    expect((await other.get('a', { fresh: true }))?.value).to.equal(1);
  });

  it('refuses what the lock does not cover, one that is over, and what is none of this store', async () => {
    const [store, other] = await stores.pair();
    const write = (lock: unknown, by = store): Promise<void> =>
      by.transaction((tx) => tx.set('result', 1), { lock: lock as Lock });
    const lock = (await store.tryLock('job')) as Lock;
    await refusal('INVALID_ARGUMENT', () => write(lock));
    await refusal('INVALID_ARGUMENT', () => write(lock, other));
    for (const none of [{}, 'yes', 1]) await refusal('INVALID_ARGUMENT', () => write(none));
    await lock.release();
    await refusal('LOCK_LOST', () => store.transaction((tx) => tx.get('job'), { lock }));
    expect(await store.has('result')).to.equal(false);
  });

  it('begins anew with all its locks whatever the function makes of that, and is told in words', async () => {
    const [store, other] = await stores.pair();
    const held = (await other.tryLock('b')) as Lock;
    let seen: unknown;
    let runs = 0;
    const done = store.transaction(
      async (tx) => {
        runs += 1;
        tx.set('a', runs);
        try {
          await tx.get('b');
        } catch (error) {
          seen = error;
          throw new Error('of the business');
        }
      },
      { lock: true },
    );
    await waitFor(() => seen !== undefined, { what: 'the lock to be missing' });
    await held.release();
    await done;
    expect(seen).to.have.property('code', 'LOCKED');
    expect(runs).to.equal(2);
    expect((await other.get('a', { fresh: true }))?.value).to.equal(2);
  });

  it('waits no longer for its locks than the call may take', async () => {
    const [store, other] = await stores.pair();
    const held = (await other.tryLock('b')) as Lock;
    await refusal('LOCK_TIMEOUT', () => store.transaction((tx) => tx.get('b'), { lock: true, timeout: 300 }));
    await held.release();
  });
});
