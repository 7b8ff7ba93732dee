/** Transactions that meet each other, and other writes: what runs again, what waits, what ends. */
import { expect } from 'chai';
import type { ContextStore, StoreOptions, Transaction } from '../../src/index.js';
import { exactAccounts } from '../helpers/accounts.js';
import { SteppingProxy } from '../helpers/SteppingProxy.js';
import { record, refusal, useStores } from '../helpers/stores.js';
import { waitFor } from '../helpers/waitFor.js';

/** In different shards of 16. */
const IDS = ['a', 'b', 'c', 'd'] as const;

describe('transactions that conflict', () => {
  const stores = useStores();

  /** A store whose scripts go through a proxy that can stop it. */
  async function stoppable(options: StoreOptions = {}): Promise<{ store: ContextStore; proxy: SteppingProxy }> {
    const proxy = await SteppingProxy.start(Number(new URL(await stores.url()).port));
    const store = await stores.open({ attemptTimeout: '10s', ...options, redis: proxy.url });
    // its scripts are known, so that each is one call
    await store.transaction((tx) => {
      for (const id of IDS) tx.set(`warm-${id}`, 1);
    });
    return { store, proxy };
  }

  for (const shards of [1, 16]) {
    describe(`over ${shards} shard${shards === 1 ? '' : 's'}`, () => {
      it('run again where something they have read was changed meanwhile', async () => {
        const [store, other] = await stores.pair({ shards });
        await store.set('a', 1);
        const told = record(store, 'context:conflict');
        let runs = 0;
        await store.transaction(async (tx) => {
          runs += 1;
          const a = await tx.get<number>('a');
          if (runs === 1) await other.set('a', 10);
          tx.set('b', (a?.value ?? 0) + 1);
        });
        expect(runs).to.equal(2);
        expect((await store.get('b', { fresh: true }))?.value).to.equal(11);
        expect(told).to.deep.equal([{ id: 'a', expected: 1, found: 2, attempt: 1 }]);
        expect((await store.stats()).transactions).to.include({ committed: 1, conflicts: 1 });
      });

      for (const [what, change] of [
        ['created', (other: ContextStore) => other.set('none', 1)],
        ['deleted', (other: ContextStore) => other.delete('a')],
        ['deleted and created again', (other: ContextStore) => other.delete('a').then(() => other.set('a', 1))],
      ] as const) {
        it(`run again where something was ${what} meanwhile`, async () => {
          const [store, other] = await stores.pair({ shards });
          await store.set('a', 1);
          let runs = 0;
          await store.transaction(async (tx) => {
            runs += 1;
            await tx.getMany(['a', 'none']);
            if (runs === 1) await change(other);
            tx.set('b', runs);
            tx.set('c', runs);
          });
          expect(runs).to.equal(2);
          expect((await store.get('b', { fresh: true }))?.version).to.equal(1);
        });
      }

      it('do not run again for a change of expiry, nor for what they have not read', async () => {
        const [store, other] = await stores.pair({ shards });
        await store.set('a', 1);
        await store.set('c', 1);
        let runs = 0;
        await store.transaction(async (tx) => {
          runs += 1;
          await tx.get('a');
          await other.touch('a', '1h');
          await other.set('c', 2);
          tx.set('b', 1);
          tx.set('c', 3);
        });
        expect(runs).to.equal(1);
        expect((await store.get('c', { fresh: true }))?.version).to.equal(3);
      });

      it('are CONFLICT after as many runs as are allowed', async () => {
        const [store, other] = await stores.pair({ shards });
        await store.set('a', 0);
        const told = record(store, 'context:conflict');
        let runs = 0;
        const error = await refusal('CONFLICT', () =>
          store.transaction(
            async (tx) => {
              runs += 1;
              await tx.get('a');
              await other.set('a', runs);
              tx.set('b', 1);
              tx.delete('c');
            },
            { attempts: 3 },
          ),
        );
        expect(runs).to.equal(3);
        expect(error.details).to.include({ id: 'a', found: 4 });
        expect(error.message).to.include('after 3 attempts');
        expect(told.map(({ attempt, found }) => [attempt, found])).to.deep.equal([
          [1, 2],
          [2, 3],
          [3, 4],
        ]);
        expect(await other.has('b')).to.equal(false);
        await refusal('INVALID_ARGUMENT', () => store.transaction(() => {}, { attempts: 0 }));
      });

      it('run again where the function throws because of what it saw at two moments', async () => {
        const [store, other] = await stores.pair({ shards });
        await store.set('a', 1);
        await store.set('b', 1);
        let runs = 0;
        await store.transaction(async (tx) => {
          runs += 1;
          const a = await tx.get('a');
          if (runs === 1)
            await other.transaction((theirs) => {
              theirs.set('a', 2);
              theirs.set('b', 2);
            });
          const b = await tx.get('b');
          if (a?.value !== b?.value) throw new Error('a mix');
          tx.set('c', a?.value);
        });
        expect(runs).to.equal(2);
        expect((await store.get('c', { fresh: true }))?.value).to.equal(2);
      });

      it('cannot do together what neither would have done after the other (write skew)', async () => {
        const all = await stores.pair({ shards });
        for (let round = 0; round < 10; round += 1) {
          const ids = [`a-${round}`, `b-${round}`] as const;
          for (const id of ids) await all[0].set(id, 1);
          let both = 0;
          await Promise.all(
            all.map((store, index) => {
              let runs = 0;
              return store.transaction(async (tx) => {
                runs += 1;
                const found = await tx.getMany(ids);
                if (runs === 1) {
                  both += 1;
                  await waitFor(() => both === 2, { what: 'both to have read' });
                }
                const sum = found.reduce((total, context) => total + (context?.value as number), 0);
                if (sum === 2) tx.set(ids[index] ?? '', 0);
              });
            }),
          );
          const left = await all[0].getMany(ids, { fresh: true });
          expect(left.map((context) => context?.value).sort(), `round ${round}`).to.deep.equal([0, 1]);
        }
      });

      it('that only read see no mix while others write', async () => {
        const [writer, reader] = await stores.pair({ shards });
        const write = (n: number): Promise<void> =>
          writer.transaction((tx) => {
            for (const id of IDS) tx.set(id, n);
          });
        await write(0);
        let reading = true;
        const wrote = (async () => {
          for (let n = 1; reading; n += 1) {
            await write(n);
            // a reader comes through between two writes, and reads across many
            await new Promise((resolve) => setTimeout(resolve, 3));
          }
        })();
        const seen = new Set<unknown>();
        let last = 0;
        for (let read = 0; read < 15 || seen.size <= 3; read += 1) {
          const found = await reader.transaction(
            async (tx) => {
              const one = await tx.get(IDS[0]);
              return [one, ...(await tx.getMany(IDS.slice(1)))].map((context) => context?.value as number);
            },
            { attempts: 10_000, timeout: '15s' },
          );
          expect(new Set(found), found.join(' ')).to.have.property('size', 1);
          expect(found[0]).to.be.at.least(last);
          last = found[0] ?? 0;
          seen.add(last);
        }
        reading = false;
        await wrote;
        expect(seen.size).to.be.above(3);
      });

      it('increments of several instances at once are all there', async () => {
        const all = await stores.openMany(3, { shards });
        await Promise.all(
          all.flatMap((store) =>
            Array.from({ length: 15 }, () =>
              store.transaction(async (tx) => {
                for (const context of await tx.getMany(['a', 'b'])) void context;
                for (const id of ['a', 'b']) tx.set(id, ((await tx.get<number>(id))?.value ?? 0) + 1);
              }),
            ),
          ),
        );
        const found = await (all[0] as ContextStore).getMany(['a', 'b'], { fresh: true });
        expect(found.map((context) => [context?.value, context?.version])).to.deep.equal([
          [45, 45],
          [45, 45],
        ]);
        await exactAccounts(await stores.redis(), stores.namespace, shards);
      });

      it('TIMEOUT and the signal end them, and nothing is written', async () => {
        const store = await stores.open({ shards });
        const never = (tx: Transaction): Promise<void> => {
          tx.set('a', 1);
          tx.set('b', 1);
          return new Promise(() => {});
        };
        await refusal('TIMEOUT', () => store.transaction(never, { timeout: 50 }));
        const controller = new AbortController();
        const aborted = store.transaction(
          (tx) => {
            controller.abort();
            return never(tx);
          },
          { signal: controller.signal },
        );
        await refusal('ABORTED', () => aborted);
        await refusal('ABORTED', () => store.transaction(never, { signal: AbortSignal.abort() }));
        expect((await store.list()).items).to.deep.equal([]);
      });
    });
  }

  describe('with one that holds its contexts', () => {
    const LATER = { transactions: { recoverAfter: '30s' }, shards: 16 } as const;
    const committing = (store: ContextStore): Promise<string> =>
      store.transaction((tx) => {
        tx.set('a', { n: 'theirs' });
        tx.delete('b');
        tx.set('c', { n: 'theirs' });
        return 'done';
      });

    const writes: readonly (readonly [name: string, write: (store: ContextStore, timeout: number) => Promise<unknown>])[] = [
      ['set', (store, timeout) => store.set('a', { n: 'mine' }, { timeout })],
      ['set of what is to be created', (store, timeout) => store.set('c', { n: 'mine' }, { timeout })],
      ['update', (store, timeout) => store.update<{ n: string }>('a', () => ({ n: 'mine' }), { timeout })],
      ['patch', (store, timeout) => store.patch('a', [{ op: 'replace', path: '/n', value: 'mine' }], { timeout })],
      ['delete', (store, timeout) => store.delete('a', { timeout })],
      ['touch', (store, timeout) => store.touch('a', '1h', { timeout })],
      ['a transaction in one shard', (store, timeout) => store.transaction((tx) => tx.set('a', 'mine'), { timeout })],
      [
        'a transaction over several',
        (store, timeout) => store.transaction((tx) => void ['a', 'd'].map((id) => tx.set(id, 'mine')), { timeout }),
      ],
    ];
    for (const [name, write] of writes) {
      it(`${name} is LOCKED or out of time when its time ends, having written nothing, and else is done after it`, async () => {
        const { store, proxy } = await stoppable(LATER);
        const other = await stores.open(LATER);
        for (const id of ['a', 'b']) await other.set(id, { n: 'first' });
        proxy.stopAt({ hold: ({ script }) => script === 'decide' });
        const theirs = committing(store);
        await waitFor(() => proxy.stopped, { what: 'the first phase' });
        const error = await write(other, 200).catch((thrown: unknown) => thrown);
        expect(error).to.have.property('code').that.is.oneOf(['LOCKED', 'TIMEOUT']);
        // readers do not wait
        const found = await other.getMany(['a', 'b', 'c'], { fresh: true });
        expect(found.map((context) => context?.value ?? null)).to.deep.equal([{ n: 'first' }, { n: 'first' }, null]);
        const mine = write(other, 10_000);
        proxy.resume();
        expect(await theirs).to.equal('done');
        const written = await mine;
        if (name === 'delete') expect(written).to.include({ version: 3 });
        const id = name.includes('created') ? 'c' : 'a';
        const after = await other.get(id, { fresh: true });
        const before = id === 'c' ? 1 : 2;
        expect(after?.version ?? null).to.equal(name === 'delete' ? null : name === 'touch' ? before : before + 1);
      });
    }

    it('is waited for by one that has read what it will write, which then runs again', async () => {
      const { store, proxy } = await stoppable(LATER);
      const other = await stores.open(LATER);
      for (const id of ['a', 'b']) await other.set(id, { n: 'first' });
      proxy.stopAt({ hold: ({ script }) => script === 'decide' });
      const theirs = committing(store);
      await waitFor(() => proxy.stopped, { what: 'the first phase' });
      let runs = 0;
      const mine = other.transaction(async (tx) => {
        runs += 1;
        return (await tx.getMany(['a', 'b', 'c'])).map((context) => context?.value ?? null);
      });
      await waitFor(() => runs === 1, { what: 'it to run' });
      proxy.resume();
      await theirs;
      // before it, or after it
      expect([
        [{ n: 'first' }, { n: 'first' }, null],
        [{ n: 'theirs' }, null, { n: 'theirs' }],
      ]).to.deep.include(await mine);
    });
  });

  for (const [what, script] of [
    ['whose decision is asked for', 'decide'],
    ['that creates what is looked for again', 'versions'],
  ] as const) {
    it(`getMany does not see part of one ${what} when it is done`, async () => {
      const { store, proxy } = await stoppable({ shards: 16 });
      const { store: reader, proxy: slow } = await stoppable({ shards: 16 });
      for (const id of ['a', 'b']) await store.set(id, 1);
      // one of its contexts has an intent, or none has, when they are read
      proxy.stopAt({ hold: (call) => call.script === 'prepare' && call.nth === (script === 'decide' ? 2 : 1) });
      const done = store.transaction((tx) => {
        for (const id of ['a', 'b', 'c']) tx.set(id, 2);
      });
      const redis = await stores.redis();
      const intents = script === 'decide' ? 1 : 0;
      await waitFor(async () => proxy.stopped && (await redis.hexists(store.keysOf('a').context, 'intent')) === intents, {
        what: 'the first phase',
      });
      slow.stopAt({ hold: (call) => call.script === script });
      const read = reader.getMany(['a', 'b', 'c'], { fresh: true });
      await waitFor(() => slow.stopped, { what: 'the question' });
      proxy.resume();
      await done;
      slow.resume();
      expect((await read).map((context) => context?.value ?? null)).to.deep.equal([2, 2, 2]);
    });
  }

  it('that is taken back because its time was over runs again, whatever it expects of the versions', async () => {
    const { store, proxy } = await stoppable({ shards: 16, transactions: { recoverAfter: 300 } });
    const other = await stores.open({ shards: 16 });
    for (const id of ['a', 'b']) for (const n of [1, 2, 3]) await other.set(id, n);
    proxy.stopAt({ hold: ({ script, nth }) => script === 'decide' && nth === 1 });
    let runs = 0;
    const mine = store.transaction((tx) => {
      runs += 1;
      for (const id of ['a', 'b']) {
        tx.expect(id, 3);
        tx.set(id, 4);
      }
    });
    await waitFor(() => proxy.stopped, { what: 'the first phase' });
    // whoever meets it waits for its deadline, and then takes it back
    await other.touch('a', '1h');
    proxy.resume();
    await mine;
    expect(runs).to.equal(2);
    const found = await other.getMany(['a', 'b'], { fresh: true });
    expect(found.map((context) => context?.version)).to.deep.equal([4, 4]);
    expect((await other.stats()).transactions.recovered).to.deep.equal({ committed: 0, aborted: 1 });
  });
});
