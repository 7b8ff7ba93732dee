/** What the function of a transaction sees and stages, and what is refused before anything is written. */
import { expect } from 'chai';
import type { ContextStore, ErrorCode, Transaction } from '../../src/index.js';
import { exactAccounts } from '../helpers/accounts.js';
import { refusal, unfrozen, useStores } from '../helpers/stores.js';

describe('transactions', () => {
  const stores = useStores();

  for (const shards of [1, 16]) {
    describe(`over ${shards} shard${shards === 1 ? '' : 's'}`, () => {
      let store: ContextStore;
      beforeEach(async () => {
        store = await stores.open({ shards });
      });
      const versions = async (...ids: string[]): Promise<(number | null)[]> =>
        (await store.getMany(ids, { fresh: true })).map((context) => context?.version ?? null);
      const values = async (...ids: string[]): Promise<unknown[]> =>
        (await store.getMany(ids, { fresh: true })).map((context) => context?.value ?? null);

      it('writes, patches, creates and deletes as one', async () => {
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

      it('reads are repeatable: each context is read once', async () => {
        const other = await stores.open({ shards });
        await store.set('a', 1);
        await store.set('b', 1);
        let runs = 0;
        const seen = await store.transaction(async (tx) => {
          runs += 1;
          const first = await tx.get('a');
          const [many, missing] = await tx.getMany(['a', 'none']);
          if (runs === 1) {
            await other.set('a', 2);
            await other.set('none', 2);
          }
          const again = await tx.getMany(['a', 'none', 'a', 'b']);
          return [first, many, missing, ...again, await tx.get('a')].map((context) => context?.value ?? null);
        });
        // of two moments the first is not what comes back
        expect(runs).to.equal(2);
        expect(seen).to.deep.equal([2, 2, 2, 2, 2, 2, 1, 2]);
        let first: unknown[] = [];
        await refusal('CONFLICT', () =>
          store.transaction(
            async (tx) => {
              const before = await tx.get('a');
              await other.set('a', 3);
              first = [before?.value, (await tx.get('a'))?.value, (await tx.getMany(['a', 'b']))[0]?.value];
              tx.set('b', 0);
            },
            { attempts: 1 },
          ),
        );
        expect(first).to.deep.equal([2, 2, 2]);
      });

      it('sees what it has staged itself', async () => {
        await store.set('a', { n: 1 });
        await store.set('b', { n: 1 });
        await store.set('c', { n: 1 });
        const before = await store.get('a', { fresh: true });
        await store.transaction(async (tx) => {
          tx.set('a', { n: 2 });
          tx.patch('b', [{ op: 'replace', path: '/n', value: 2 }]);
          tx.delete('c');
          tx.set('new', { n: 2 });
          const read = await tx.getMany(['a', 'b', 'c', 'new', 'never']);
          expect(read.map((context) => context?.value ?? null)).to.deep.equal([{ n: 2 }, { n: 2 }, null, { n: 2 }, null]);
          expect((await tx.get('a'))?.value).to.deep.equal({ n: 2 });
          expect((await tx.get('new'))?.version).to.equal(0);
          // nothing of that is anywhere yet
          expect(await store.get('a', { fresh: true })).to.deep.equal(before);
          expect(await store.get('new', { fresh: true })).to.equal(null);
        });
        expect(await values('a', 'b', 'c', 'new')).to.deep.equal([{ n: 2 }, { n: 2 }, null, { n: 2 }]);
      });

      it('a patch of what was not read builds on what is there when it commits', async () => {
        const other = await stores.open({ shards });
        await store.set('a', { list: [1] });
        await store.set('b', 0);
        await store.transaction(async (tx) => {
          tx.patch('a', [{ op: 'add', path: '/list/-', value: 3 }]);
          tx.set('b', 1);
          await other.set('a', { list: [1, 2] });
        });
        expect(await values('a', 'b')).to.deep.equal([{ list: [1, 2, 3] }, 1]);
      });

      it('later writes of a context build on earlier ones', async () => {
        await store.set('set then patch', { n: 0 });
        await store.set('patch then set', { n: 0 });
        await store.set('patch twice', { n: 0, list: [] });
        await store.set('delete then set', { n: 0 });
        await store.set('set then delete', { n: 0 });
        const changed = [{ op: 'replace', path: '/n', value: 7 }];
        await store.transaction(async (tx) => {
          tx.set('set then patch', { n: 1, m: 1 }, { ttl: '1h' });
          tx.patch('set then patch', changed);
          tx.patch('patch then set', changed);
          tx.set('patch then set', { m: 2 });
          tx.patch('patch twice', changed);
          tx.patch('patch twice', [{ op: 'add', path: '/list/-', value: 1 }]);
          tx.delete('delete then set');
          tx.set('delete then set', { m: 4 });
          tx.set('set then delete', 1);
          tx.delete('set then delete');
          await refusal('NOT_FOUND', () => tx.patch('set then delete', changed));
        });
        const ids = ['set then patch', 'patch then set', 'patch twice', 'delete then set', 'set then delete'];
        expect(await values(...ids)).to.deep.equal([{ n: 7, m: 1 }, { m: 2 }, { n: 7, list: [1] }, { m: 4 }, null]);
        // each is one version, whatever happened in between
        expect(await versions(...ids)).to.deep.equal([2, 2, 2, 2, null]);
        expect((await store.get('set then patch', { fresh: true }))?.expiresAt).to.be.a('number');
      });

      it('keeps, takes away or gives an expiry as set and patch do', async () => {
        const ids = ['set', 'kept', 'patched', 'none', 'shorter'];
        for (const id of ids) await store.set(id, { n: 0 }, { ttl: '1h' });
        const before = await store.getMany(ids, { fresh: true });
        const changed = [{ op: 'replace', path: '/n', value: 1 }];
        await store.transaction((tx) => {
          tx.set('set', { n: 1 });
          tx.set('kept', { n: 1 }, { ttl: 'keep' });
          tx.patch('patched', changed);
          tx.patch('none', changed, { ttl: 'none' });
          tx.patch('shorter', changed, { ttl: 60_000 });
        });
        const after = await store.getMany(ids, { fresh: true });
        const kept = after.map((context, index) => {
          if (context?.expiresAt === null) return 'none';
          return context?.expiresAt === before[index]?.expiresAt ? 'kept' : 'other';
        });
        expect(kept).to.deep.equal(['none', 'kept', 'kept', 'none', 'other']);
        expect((after[4]?.expiresAt ?? 0) - (after[4]?.updatedAt ?? 0)).to.equal(60_000);
      });

      describe('expect', () => {
        beforeEach(async () => {
          await store.set('a', 1);
          await store.set('a', 2);
        });

        it('lets it pass where the versions are there, written or not', async () => {
          await store.transaction((tx) => {
            tx.expect('a', 2);
            tx.expect('none', 0);
            tx.set('b', 1);
            tx.set('c', 1);
          });
          await store.transaction((tx) => {
            tx.expect('a', 2);
            tx.expect('d', 0);
            tx.set('a', 3);
            tx.set('d', 1);
          });
          await store.transaction((tx) => tx.expect('a', 3));
          expect(await versions('a', 'b', 'c', 'd', 'none')).to.deep.equal([3, 1, 1, 1, null]);
        });

        const wrong: readonly (readonly [what: string, id: string, version: number, found: number])[] = [
          ['another version', 'a', 7, 2],
          ['an earlier version', 'a', 1, 2],
          ['one where there is none', 'none', 1, 0],
          ['none where there is one', 'a', 0, 2],
        ];
        for (const [what, id, version, found] of wrong) {
          it(`ends it with CONFLICT, at once and with nothing written: ${what}`, async () => {
            for (const how of ['alone', 'written', 'read'] as const) {
              let runs = 0;
              const error = await refusal('CONFLICT', () =>
                store.transaction(async (tx) => {
                  runs += 1;
                  tx.expect(id, version);
                  if (how === 'read') await tx.get(id);
                  if (how === 'written') tx.set(id, 'written');
                  tx.set('b', 1);
                  tx.set('c', 1);
                }),
              );
              expect(error.details, how).to.include({ id, expected: version, found });
              expect(runs, how).to.equal(1);
            }
            expect(await versions('a', 'b', 'c', 'none')).to.deep.equal([2, null, null, null]);
          });
        }

        it('of a context without any write is held against Redis, too', async () => {
          await refusal('CONFLICT', () => store.transaction((tx) => tx.expect('a', 1)));
        });
      });

      it('writes nothing where its function throws, and throws that', async () => {
        await store.set('a', 1);
        const mine = new Error('mine');
        for (const late of [true, false]) {
          const failed = await store
            .transaction(async (tx) => {
              tx.set('a', 2);
              tx.set('b', 2);
              if (late) await tx.get('a');
              throw mine;
            })
            .catch((error: unknown) => error);
          expect(failed).to.equal(mine);
        }
        expect(await versions('a', 'b')).to.deep.equal([1, null]);
      });

      it('patches of what is not there, or does not fit, are refused where they are asked for or at the commit', async () => {
        await store.set('a', { n: 1 });
        const missing = [{ op: 'replace', path: '/m', value: 1 }];
        const patching =
          (id: string) =>
          (tx: Transaction): void => {
            tx.set('b', 1);
            tx.patch(id, missing);
          };
        await refusal('NOT_FOUND', () => store.transaction(patching('none')));
        await refusal('PATCH_FAILED', () => store.transaction(patching('a')));
        await store.transaction(async (tx) => {
          await tx.getMany(['a', 'none']);
          await refusal('NOT_FOUND', () => tx.patch('none', missing));
          await refusal('PATCH_FAILED', () => tx.patch('a', missing));
          await refusal('INVALID_PATCH', () => tx.patch('a', [{ op: 'twist', path: '/n' }]));
        });
        expect(await versions('a', 'b')).to.deep.equal([1, null]);
      });

      describe('limits', () => {
        const refused: readonly (readonly [what: string, code: ErrorCode, run: (tx: Transaction) => unknown])[] = [
          [
            '101 contexts',
            'LIMIT_EXCEEDED',
            (tx) => {
              for (let n = 0; n <= 100; n += 1) n % 2 === 0 ? tx.set(`x${n}`, n) : tx.delete(`x${n}`);
            },
          ],
          ['101 contexts that are read', 'LIMIT_EXCEEDED', (tx) => tx.getMany(Array.from({ length: 101 }, (_, n) => `x${n}`))],
          ['an invalid id', 'INVALID_ID', (tx) => tx.set('', 1)],
          ['an invalid id that is read', 'INVALID_ID', (tx) => tx.get('a\n')],
          ['an invalid value', 'INVALID_VALUE', (tx) => tx.set('x1', { at: Number.NaN })],
          ['a document above limits.contextBytes', 'LIMIT_EXCEEDED', (tx) => tx.set('x1', 'x'.repeat(2 * 1024 * 1024))],
          ['a version that is none', 'INVALID_ARGUMENT', (tx) => tx.expect('x1', -1)],
          [
            'two versions of one context',
            'INVALID_ARGUMENT',
            (tx) => {
              tx.expect('x1', 1);
              tx.expect('x1', 2);
            },
          ],
        ];
        for (const [what, code, run] of refused) {
          it(`${what}: ${code}, before anything is written`, async () => {
            await refusal(code, () =>
              store.transaction(async (tx) => {
                tx.set('x0', 0);
                await run(tx);
              }),
            );
            expect((await store.list()).items).to.deep.equal([]);
          });
        }

        it('100 contexts are as many as there may be', async () => {
          const ids = Array.from({ length: 100 }, (_, n) => `x${n}`);
          await store.transaction((tx) => {
            for (const id of ids) tx.set(id, id);
          });
          expect(await values(...ids)).to.deep.equal(ids);
          expect((await store.stats()).transactions).to.include({ committed: 1, distributed: 1 });
        });

        it('more than 32 MiB: LIMIT_EXCEEDED, before anything is written', async () => {
          const large = await stores.open({ shards, limits: { contextBytes: '8mb' } });
          const text = 'x'.repeat(7 * 1024 * 1024);
          const error = await refusal('LIMIT_EXCEEDED', () =>
            large.transaction((tx) => {
              for (const id of ['a', 'b', 'c', 'd', 'e']) tx.set(id, text);
            }),
          );
          expect(error.details).to.include({ limit: 'transaction.bytes', expected: 32 * 1024 * 1024 });
          expect((await store.list()).items).to.deep.equal([]);
        });
      });

      it('what is asked of it after its end is refused', async () => {
        await store.set('a', 1);
        let kept: Transaction | undefined;
        await store.transaction((tx) => {
          kept = tx;
        });
        const over = kept as Transaction;
        await refusal('INVALID_ARGUMENT', () => over.set('a', 2));
        await refusal('INVALID_ARGUMENT', () => over.get('a'));
        await refusal('INVALID_ARGUMENT', () => over.delete('a'));
        await refusal('INVALID_ARGUMENT', () => over.expect('a', 1));
        expect(await versions('a')).to.deep.equal([1]);
      });

      it('what it gets is frozen, or a copy of its own', async () => {
        await store.set('a', { list: [{ n: 1 }] });
        await store.transaction(async (tx) => {
          tx.set('b', { list: [] });
          for (const context of await tx.getMany(['a', 'b'])) expect(unfrozen(context?.value)).to.deep.equal([]);
        });
        const copying = await stores.open({ shards, values: 'copy' });
        await copying.transaction(async (tx) => {
          const a = await tx.get<{ list: { n: number }[] }>('a');
          a?.value.list.push({ n: 2 });
          tx.set('b', a?.value);
          a?.value.list.push({ n: 3 });
          expect((await tx.get('a'))?.value).to.deep.equal({ list: [{ n: 1 }] });
          expect((await tx.get('b'))?.value).to.deep.equal({ list: [{ n: 1 }, { n: 2 }] });
        });
        expect(await values('a', 'b')).to.deep.equal([{ list: [{ n: 1 }] }, { list: [{ n: 1 }, { n: 2 }] }]);
      });
    });
  }
});
