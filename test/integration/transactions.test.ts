import { expect } from 'chai';
import type { ContextStore } from '../../src/index.js';
import { exactAccounts } from '../helpers/accounts.js';
import { refusal, useStores } from '../helpers/stores.js';

describe('transactions', () => {
  const stores = useStores();

  for (const shards of [1, 16]) {
    describe(`over ${shards} shard${shards === 1 ? '' : 's'}`, () => {
      const open = (): Promise<ContextStore> => stores.open({ shards });

      it('writes, patches, creates and deletes as one', async () => {
        const store = await open();
        await store.set('a', { n: 1 });
        await store.set('b', { list: [1] });
        await store.set('gone', 1);
        const result = await store.transaction(async (tx) => {
          const a = await tx.get<{ n: number }>('a');
          tx.set('a', { n: (a?.value.n ?? 0) + 1 });
          tx.patch('b', [{ op: 'add', path: '/list/-', value: 2 }]);
          tx.set('new', 'x'.repeat(50_000), { ttl: '1h' });
          tx.delete('gone');
          tx.delete('never');
          return 'what it returns';
        });
        expect(result).to.equal('what it returns');
        const read = await store.getMany(['a', 'b', 'new', 'gone', 'never'], { fresh: true });
        expect(read.map((context) => context?.version ?? null)).to.deep.equal([2, 2, 1, null, null]);
        expect(read[0]?.value).to.deep.equal({ n: 2 });
        expect(read[1]?.value).to.deep.equal({ list: [1, 2] });
        expect(read[2]?.expiresAt).to.be.a('number');
        await exactAccounts(await stores.redis(), stores.namespace, shards);
      });

      it('is CONFLICT where an expected version is not there, and nothing is written', async () => {
        const store = await open();
        await store.set('a', 1);
        const error = await refusal('CONFLICT', () =>
          store.transaction((tx) => {
            tx.expect('a', 7);
            tx.set('b', 1);
            tx.set('c', 1);
          }),
        );
        expect(error.details).to.include({ id: 'a', expected: 7, found: 1 });
        expect(await store.getMany(['b', 'c'], { fresh: true })).to.deep.equal([null, null]);
      });

      it('runs again where something it has read was changed meanwhile', async () => {
        const [store, other] = await stores.pair({ shards });
        await store.set('a', 1);
        let runs = 0;
        await store.transaction(async (tx) => {
          runs += 1;
          const a = await tx.get<number>('a');
          if (runs === 1) await other.set('a', 10);
          tx.set('b', (a?.value ?? 0) + 1);
        });
        expect(runs).to.equal(2);
        expect((await store.get('b', { fresh: true }))?.value).to.equal(11);
      });
    });
  }
});

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

  it('takes the lock that the caller holds', async () => {
    const store = await stores.open({ shards: 4 });
    await store.lock(['a', 'b'], async (lock) => {
      await store.transaction(
        (tx) => {
          for (const id of ['a', 'b', 'c']) tx.set(id, 1);
        },
        { lock },
      );
      await store.breakLock('b');
      await refusal('FENCED', () =>
        store.transaction(
          (tx) => {
            for (const id of ['a', 'b', 'c']) tx.set(id, 2);
          },
          { lock },
        ),
      );
    });
    const read = await store.getMany(['a', 'b', 'c'], { fresh: true });
    expect(read.map((context) => context?.value)).to.deep.equal([1, 1, 1]);
  });
});
