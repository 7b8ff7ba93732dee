/** What writes promise: each one whole or not at all, in an order of versions, with what was asked for and nothing else. */
import { expect } from 'chai';
import type { ContextStore, WriteOptions } from '../../src/index.js';
import { record, redisTime, refusal, untilReplica, useStores, Watched } from '../helpers/stores.js';

const HOUR = 3_600_000;

describe('writes', () => {
  const stores = useStores();

  describe('set, get, has, delete', () => {
    it('write, read and remove one context', async () => {
      const [store, other] = await stores.pair();
      const redis = await stores.redis();
      expect(await store.get('x')).to.equal(null);
      expect(await store.has('x')).to.equal(false);
      const before = await redisTime(redis);
      const written = await store.set('x', { a: 1 });
      const after = await redisTime(redis);
      // crc32 of {"a":1}
      expect(written).to.deep.equal({ version: 1, checksum: '561bacaf' });
      for (const reader of [store, other]) {
        const context = await reader.get('x');
        expect(context).to.deep.include({
          id: 'x',
          value: { a: 1 },
          version: 1,
          checksum: '561bacaf',
          expiresAt: null,
          stale: false,
        });
        expect(context?.updatedAt).to.be.within(before, after);
        expect(await reader.has('x')).to.equal(true);
      }
      expect(await store.delete('x')).to.deep.equal({ version: 2 });
      for (const reader of [store, other]) {
        expect(await reader.get('x', { fresh: true })).to.equal(null);
        expect(await reader.has('x')).to.equal(false);
      }
      expect(await store.delete('x')).to.equal(null);
    });

    it('versions go on after a delete, and fromVersion 0 shows why', async () => {
      const [store, other] = await stores.pair();
      expect((await store.set('x', 1)).version).to.equal(1);
      expect((await store.set('x', 2)).version).to.equal(2);
      expect(await other.delete('x')).to.deep.equal({ version: 3 });
      expect((await store.set('x', 4)).version).to.equal(4);
      expect((await other.get('x'))?.version).to.equal(4);
      expect((await store.history('x')).map(({ version, kind }) => `${kind} ${version}`)).to.deep.equal([
        'full 4',
        'deleted 3',
        'full 2',
        'full 1',
      ]);
    });

    it('leave nothing of a deleted context but its log', async () => {
      const store = await stores.open();
      const redis = await stores.redis();
      await store.set('x', { a: 1 }, { ttl: '1h' });
      await store.delete('x');
      const { context, log } = store.keysOf('x');
      expect(await redis.exists(context)).to.equal(0);
      expect(await redis.pttl(log)).to.be.within(1, 24 * HOUR);
      expect((await store.list()).items).to.deep.equal([]);
      const [shard] = (await store.stats()).shards;
      expect(shard).to.include({ contexts: 0, bytes: 0 });
    });

    it('getMany answers in the order of the ids, null where there is none', async () => {
      const [store, other] = await stores.pair({ shards: 4 });
      const ids = Array.from({ length: 50 }, (_, index) => `c-${index}`);
      await Promise.all(ids.filter((_, index) => index % 3 !== 0).map((id) => store.set(id, { id })));
      const asked = [...ids.toReversed(), 'c-1', 'none'];
      const values = (await other.getMany(asked)).map((context) =>
        context === null ? null : (context.value as { id: string }).id,
      );
      expect(values).to.deep.equal(asked.map((id) => (id !== 'none' && Number(id.slice(2)) % 3 !== 0 ? id : null)));
      expect(await other.getMany([])).to.deep.equal([]);
      const many = await refusal('LIMIT_EXCEEDED', () => other.getMany(Array.from({ length: 1001 }, (_, index) => `${index}`)));
      expect(many.message).to.contain('1000').and.contain('1001');
    });

    it('a write by one instance is read by another at once where no replica answers', async () => {
      const [store, other] = await stores.pair({ memory: { local: 0 } });
      for (let version = 1; version <= 20; version += 1) {
        await store.set('x', version);
        expect((await other.get('x'))?.value).to.equal(version);
      }
    });
  });

  describe('list', () => {
    it('pages through a namespace of several shards, each id once, nothing of another namespace', async () => {
      const store = await stores.open({ shards: 3 });
      const elsewhere = await stores.open({ namespace: `${stores.namespace}-2` });
      await elsewhere.set('foreign', 1);
      const ids = Array.from({ length: 600 }, (_, index) => `id-${index}`);
      await Promise.all(ids.map((id, index) => store.set(id, { index }, index % 2 === 0 ? { ttl: '1h' } : {})));
      const seen: string[] = [];
      let pages = 0;
      let cursor: string | null = null;
      do {
        const page: Awaited<ReturnType<typeof store.list>> = await store.list({
          limit: 20,
          ...(cursor === null ? {} : { cursor }),
        });
        seen.push(...page.items.map(({ id }) => id));
        ({ cursor } = page);
        pages += 1;
      } while (cursor !== null);
      expect(seen.sort()).to.deep.equal([...ids].sort());
      expect(pages).to.be.within(10, 30);
      const { items } = await store.list({ prefix: 'id-24' });
      expect(items).to.have.lengthOf(11);
      const item = items.find(({ id }) => id === 'id-24');
      const context = await store.get('id-24');
      expect(item).to.deep.include({
        version: 1,
        checksum: context?.checksum,
        bytes: '{"index":24}'.length,
        updatedAt: context?.updatedAt,
        expiresAt: context?.expiresAt,
      });
      expect(item?.memoryBytes).to.be.greaterThan(100);
    });

    it('takes a prefix literally', async () => {
      const store = await stores.open({ shards: 2 });
      const ids = ['a*b', 'a?b', 'a[b]', 'a\\b', 'a^b', 'a-b', 'ab', 'axb', 'ä/1', 'ä/2', 'b'];
      for (const id of ids) await store.set(id, 1);
      const starting = async (prefix: string): Promise<string[]> =>
        (await store.list({ prefix })).items.map(({ id }) => id).sort();
      for (const prefix of ['a*', 'a?', 'a[', 'a[b]', 'a\\', 'a^', 'a-', 'ab', 'a', 'ä/', 'b', 'none', '']) {
        expect(await starting(prefix), prefix).to.deep.equal(ids.filter((id) => id.startsWith(prefix)).sort());
      }
    });

    it('refuses a cursor and a limit that are none', async () => {
      const store = await stores.open();
      for (const cursor of ['', 'x', '0', '-1:0', '0:x', '99999:0']) {
        expect((await refusal('INVALID_ARGUMENT', () => store.list({ cursor }))).message).to.contain('cursor');
      }
      for (const limit of [0, -1, 1.5, 1001, Number.NaN]) await refusal('INVALID_ARGUMENT', () => store.list({ limit }));
    });
  });

  describe('ttl', () => {
    it('counts from the commit by Redis’s clock, in milliseconds or as a string', async () => {
      const store = await stores.open();
      const redis = await stores.redis();
      const forms: [WriteOptions['ttl'], number | null][] = [
        [undefined, null],
        ['none', null],
        ['keep', null],
        [HOUR, HOUR],
        ['90m', 1.5 * HOUR],
        ['2d', 48 * HOUR],
        ['1.5h', 1.5 * HOUR],
        ['3600000ms', HOUR],
      ];
      for (const [index, [ttl, ms]] of forms.entries()) {
        const id = `x-${index}`;
        const from = await redisTime(redis);
        await store.set(id, 1, ttl === undefined ? {} : { ttl });
        const to = await redisTime(redis);
        const expiresAt = (await store.get(id))?.expiresAt ?? null;
        if (ms === null) expect(expiresAt, id).to.equal(null);
        else expect(expiresAt, id).to.be.within(from + ms, to + ms);
      }
    });

    it('set without it ends an expiry, update and patch keep it, and each can say otherwise', async () => {
      const store = await stores.open();
      const expiry = async (): Promise<number | null | undefined> => (await store.get('x', { fresh: true }))?.expiresAt;
      const increment = (n: unknown): number => Number(n) + 1;
      await store.set('x', 1, { ttl: '1h' });
      const first = await expiry();
      await store.update('x', increment);
      expect(await expiry()).to.equal(first);
      await store.patch('x', [{ op: 'replace', path: '', value: 5 }]);
      expect(await expiry()).to.equal(first);
      await store.set('x', 6, { ttl: 'keep' });
      expect(await expiry()).to.equal(first);
      await store.set('x', 7);
      expect(await expiry()).to.equal(null);

      await store.update('x', increment, { ttl: '2h' });
      const second = await expiry();
      expect(second).to.be.greaterThan(Number(first));
      await store.patch('x', [{ op: 'replace', path: '', value: 9 }], { ttl: 'none' });
      expect(await expiry()).to.equal(null);
      await store.set('x', 10, { ttl: '1h' });
      await store.delete('x');
      await store.set('x', 11, { ttl: 'keep' });
      expect(await expiry()).to.equal(null);
    });

    it('an update that changes nothing but the ttl is a commit', async () => {
      const store = await stores.open();
      await store.set('x', { a: 1 });
      expect((await store.update('x', () => {}, { ttl: '1h' })).version).to.equal(2);
      expect((await store.get('x', { fresh: true }))?.expiresAt).to.be.a('number');
    });

    it('touch gives another expiry without a new version', async () => {
      const [store, other] = await stores.pair();
      const redis = await stores.redis();
      expect(await store.touch('x', '1h')).to.equal(null);
      await store.set('x', 1);
      const from = await redisTime(redis);
      const touched = await store.touch('x', '1h');
      expect(touched?.version).to.equal(1);
      expect(touched?.expiresAt).to.be.within(from + HOUR, (await redisTime(redis)) + HOUR);
      expect(await other.get('x')).to.deep.include({ version: 1, expiresAt: touched?.expiresAt });
      expect(await store.touch('x', 'none')).to.deep.equal({ version: 1, expiresAt: null });
      expect(await other.get('x', { fresh: true })).to.deep.include({ version: 1, expiresAt: null });
      expect(await redis.pttl(store.keysOf('x').context)).to.equal(-1);
    });

    it('refuses what is no duration, and 0', async () => {
      const store = await stores.open();
      await store.set('x', 1);
      for (const ttl of ['', 'soon', '5', '-1s', '1y', -5, Number.NaN, Number.POSITIVE_INFINITY]) {
        await refusal('INVALID_OPTION', () => store.set('x', 2, { ttl }));
        await refusal('INVALID_OPTION', () => store.touch('x', ttl));
      }
      expect((await refusal('INVALID_ARGUMENT', () => store.set('x', 2, { ttl: 0 }))).message).to.contain('delete');
      await refusal('INVALID_ARGUMENT', () => store.touch('x', '0s'));
      expect(await store.get('x', { fresh: true })).to.include({ version: 1, expiresAt: null });
    });
  });

  describe('ifVersion', () => {
    it('commits only onto that version; 0 means that there is none', async () => {
      const [store, other] = await stores.pair();
      const conflicts = record(store, 'context:conflict');
      await refusal('CONFLICT', () => store.set('x', 1, { ifVersion: 1 }));
      expect((await store.set('x', 1, { ifVersion: 0 })).version).to.equal(1);
      const exists = await refusal('CONFLICT', () => store.set('x', 2, { ifVersion: 0 }));
      expect(exists.details).to.include({ namespace: stores.namespace, id: 'x', expected: 0, found: 1, version: 1 });
      expect(exists.message).to.contain('version 1');
      expect(exists.retryable).to.equal(true);
      await other.set('x', 2, { ifVersion: 1 });
      for (const call of [
        () => store.set('x', 3, { ifVersion: 1 }),
        () => store.update('x', () => 3, { ifVersion: 1 }),
        () => store.update('x', () => 3, { ifVersion: 0, initial: 1 }),
        () => store.patch('x', [{ op: 'replace', path: '', value: 3 }], { ifVersion: 1 }),
        () => store.delete('x', { ifVersion: 1 }),
        () => store.delete('x', { ifVersion: 0 }),
      ]) {
        expect((await refusal('CONFLICT', call)).details.found).to.equal(2);
      }
      expect(await other.get('x', { fresh: true })).to.include({ version: 2, value: 2 });
      expect(conflicts).to.have.lengthOf(8);
      expect((await store.update('x', () => 3, { ifVersion: 2 })).version).to.equal(3);
      expect((await store.patch('x', [{ op: 'replace', path: '', value: 4 }], { ifVersion: 3 })).version).to.equal(4);
      expect(await store.delete('x', { ifVersion: 4 })).to.deep.equal({ version: 5 });
    });

    it('a tombstone is no version to build on, whether it is known here or not', async () => {
      const [store, other] = await stores.pair();
      const watched = new Watched(store.watch('x'));
      await store.set('x', 1);
      await store.delete('x');
      await watched.version(2);
      for (const each of [store, other]) {
        await refusal('CONFLICT', () => each.set('x', 3, { ifVersion: 2 }));
        await refusal('CONFLICT', () => each.update('x', () => 3, { ifVersion: 2, initial: 0 }));
      }
      expect(await other.has('x')).to.equal(false);
      expect((await store.update('x', () => 3, { ifVersion: 0, initial: 0 })).version).to.equal(3);
    });

    it('refuses what is no version', async () => {
      const store = await stores.open();
      for (const ifVersion of [-1, 1.5, Number.NaN, '1' as unknown as number, null as unknown as number]) {
        await refusal('INVALID_ARGUMENT', () => store.set('x', 1, { ifVersion }));
        await refusal('INVALID_ARGUMENT', () => store.update('x', () => 1, { initial: 1, ifVersion }));
        await refusal('INVALID_ARGUMENT', () => store.delete('x', { ifVersion }));
      }
      expect(await store.has('x')).to.equal(false);
    });
  });

  describe('update', () => {
    it('changes a draft, or takes what the function returns', async () => {
      const store = await stores.open();
      await store.set('x', { turns: ['a'], n: 1 });
      const result = await store.update<{ turns: string[] }>('x', (draft) => {
        draft.turns.push('b');
      });
      expect(result).to.deep.include({ version: 2, value: { turns: ['a', 'b'], n: 1 } });
      expect((await store.get('x'))?.checksum).to.equal(result.checksum);
      await store.update<{ turns: string[]; n: number }>('x', (draft) => ({ ...draft, turns: [...draft.turns, 'c'], n: 2 }));
      expect((await store.get('x'))?.value).to.deep.equal({ turns: ['a', 'b', 'c'], n: 2 });
      await store.set('y', 'text');
      await store.update('y', (text) => `${String(text)}!`);
      expect(await store.get('y')).to.include({ version: 2, value: 'text!' });
      await store.update('y', () => null);
      await store.update('y', (nothing) => [nothing]);
      expect(await store.get('y')).to.deep.include({ version: 4, value: [null] });
    });

    it('does not take what a short arrow happens to return for the document', async () => {
      const store = await stores.open();
      await store.set('x', { list: [1] });
      const change = (draft: { list: number[] }): unknown => draft.list.includes(1) || draft.list.push(1);
      await refusal('INVALID_ARGUMENT', () => store.update('x', change));
      expect(await store.get('x')).to.deep.include({ version: 1, value: { list: [1] } });
    });

    it('runs a function that waits, and takes its changes once it is done', async () => {
      const store = await stores.open();
      await store.set('x', { list: [] });
      const { value } = await store.update<{ list: number[] }>('x', async (draft) => {
        draft.list.push(1);
        await new Promise((resolve) => setTimeout(resolve, 5));
        draft.list.push(2);
      });
      expect(value).to.deep.equal({ list: [1, 2] });
      expect((await store.update('x', async () => Promise.resolve({ other: true }))).value).to.deep.equal({ other: true });
    });

    it('refuses a function that changes its draft and returns something else as well', async () => {
      const store = await stores.open();
      await store.set('x', { list: [] });
      const error = await refusal('INVALID_ARGUMENT', () => store.update<{ list: number[] }>('x', (draft) => draft.list.push(1)));
      expect(error.message).to.contain('braces');
      // the value of an expression is no document: this would have replaced the whole
      for (const returned of [1, 'text', true, null]) await refusal('INVALID_ARGUMENT', () => store.update('x', () => returned));
      await refusal('INVALID_ARGUMENT', () =>
        store.update<{ list: number[] }>('x', (draft) => {
          draft.list.push(1);
          return { list: [] };
        }),
      );
      expect(await store.get('x')).to.deep.include({ version: 1, value: { list: [] } });
    });

    it('an error of the function passes through, and nothing is changed', async () => {
      const store = await stores.open();
      await store.set('x', { list: [] });
      const boom = new Error('boom');
      const attempts: ((draft: { list: number[] }) => unknown)[] = [
        (draft) => {
          draft.list.push(1);
          throw boom;
        },
        async (draft) => {
          draft.list.push(1);
          await Promise.resolve();
          throw boom;
        },
      ];
      for (const change of attempts) {
        const error = await store.update('x', change).then(
          () => null,
          (reason: unknown) => reason,
        );
        expect(error).to.equal(boom);
      }
      expect(await store.get('x')).to.deep.include({ version: 1, value: { list: [] } });
      // the next one is not held up by it
      expect((await store.update('x', () => [])).version).to.equal(2);
    });

    it('without a context is NOT_FOUND, or begins with `initial`', async () => {
      const store = await stores.open();
      expect((await refusal('NOT_FOUND', () => store.update('x', () => 1))).details.id).to.equal('x');
      const seen: unknown[] = [];
      const append = (draft: unknown[]): void => {
        seen.push(JSON.parse(JSON.stringify(draft)));
        draft.push(seen.length);
      };
      expect(await store.update('x', append as (draft: unknown) => void, { initial: [] })).to.deep.include({
        version: 1,
        value: [1],
      });
      expect(await store.update('x', append as (draft: unknown) => void, { initial: [] })).to.deep.include({
        version: 2,
        value: [1, 2],
      });
      expect(seen).to.deep.equal([[], [1]]);
      // what is given as the first value is written although the function leaves it as it is
      expect(await store.update('y', () => {}, { initial: { a: 1 } })).to.deep.include({ version: 1, value: { a: 1 } });
    });

    it('that changes nothing makes no version', async () => {
      const store = await stores.open();
      const commits = record(store, 'context:committed');
      const { version, checksum } = await store.set('x', { a: [1, { b: 2 }], text: 't' });
      const changes: ((draft: { a: unknown[]; text: string }) => unknown)[] = [
        () => {},
        (draft) => {
          draft.a = [1, { b: 2 }];
        },
        (draft) => {
          draft.text = 'u';
          draft.text = 't';
        },
        (draft) => {
          draft.a.push(3);
          draft.a.pop();
        },
        (draft) => draft,
        () => ({ a: [1, { b: 2 }], text: 't' }),
      ];
      for (const [index, change] of changes.entries()) {
        const result = await store.update('x', change);
        expect(result, `change ${index}`).to.deep.equal({ version, checksum, value: { a: [1, { b: 2 }], text: 't' } });
      }
      expect(commits).to.have.lengthOf(1);
      expect(await store.history('x')).to.have.lengthOf(1);
      // another order of keys is another document
      expect((await store.update('x', () => ({ text: 't', a: [1, { b: 2 }] }))).version).to.equal(2);
    });

    it('runs again on a conflict, on what is there then', async () => {
      const [store, other] = await stores.pair();
      const conflicts = record(store, 'context:conflict');
      await store.set('x', { n: 0, by: [] as string[] });
      const seen: number[] = [];
      const result = await store.update<{ n: number; by: string[] }>('x', async (draft) => {
        seen.push(draft.n);
        if (seen.length <= 2) {
          await other.update<{ n: number }>('x', (theirs) => {
            theirs.n += 10;
          });
        }
        draft.by.push('store');
      });
      expect(seen).to.deep.equal([0, 10, 20]);
      expect(result).to.deep.include({ version: 4, value: { n: 20, by: ['store'] } });
      expect(conflicts).to.deep.equal([
        { id: 'x', expected: 1, found: 2, attempt: 1 },
        { id: 'x', expected: 2, found: 3, attempt: 2 },
      ]);
      expect((await store.stats()).conflicts).to.equal(2);
    });

    it('finds out that the context was deleted, or created, meanwhile', async () => {
      const [store, other] = await stores.pair();
      await store.set('x', { n: 0 });
      let runs = 0;
      const interfere = async (draft: { n: number }): Promise<void> => {
        runs += 1;
        if (runs === 1) await other.delete('x');
        draft.n += 1;
      };
      await refusal('NOT_FOUND', () => store.update('x', interfere));
      expect(await other.has('x')).to.equal(false);
      await store.set('x', { n: 5 });
      runs = 0;
      expect(await store.update('x', interfere, { initial: { n: 100 } })).to.deep.include({ version: 5, value: { n: 101 } });

      runs = 0;
      const create = async (draft: { n: number }): Promise<void> => {
        runs += 1;
        if (runs === 1) await other.set('y', { n: 7 });
        draft.n += 1;
      };
      expect(await store.update('y', create, { initial: { n: 0 } })).to.deep.include({ version: 2, value: { n: 8 } });
    });

    it('gives up with CONFLICT after `attempts` runs', async () => {
      const [store, other] = await stores.pair();
      const conflicts = record(store, 'context:conflict');
      await store.set('x', { n: 0 });
      let runs = 0;
      const losing = async (draft: { n: number }): Promise<void> => {
        runs += 1;
        await other.update<{ n: number }>('x', (theirs) => {
          theirs.n += 1;
        });
        draft.n = -1;
      };
      const error = await refusal('CONFLICT', () => store.update('x', losing, { attempts: 3 }));
      expect(runs).to.equal(3);
      expect(error.message).to.contain('3 attempts');
      expect(conflicts.map(({ attempt }) => attempt)).to.deep.equal([1, 2, 3]);
      expect((await store.get('x', { fresh: true }))?.value).to.deep.equal({ n: 3 });
      runs = 0;
      await refusal('CONFLICT', () => store.update('x', losing, { attempts: 1 }));
      expect(runs).to.equal(1);
    });

    it('64 at once over 4 instances lose nothing, and each makes one version', async function () {
      this.timeout(60_000);
      const instances = await stores.openMany(4);
      const [first] = instances as [ContextStore];
      await first.set('x', { by: {} as Record<string, number>, list: [] as string[] });
      // half of them with a replica
      for (const store of instances.slice(0, 2)) await untilReplica(store, 'x');
      const watched = new Watched(first.watch('x', { fromVersion: 1, queue: 1000 }));
      const versions = await Promise.all(
        Array.from({ length: 64 }, async (_, index) => {
          const store = instances[index % 4] as ContextStore;
          const { version } = await store.update<{ by: Record<string, number>; list: string[] }>(
            'x',
            (draft) => {
              draft.by[`w${index % 8}`] = (draft.by[`w${index % 8}`] ?? 0) + 1;
              draft.list.push(`w${index}`);
            },
            { timeout: '30s', attempts: 1000 },
          );
          return version;
        }),
      );
      expect(versions.sort((a, b) => a - b)).to.deep.equal(Array.from({ length: 64 }, (_, index) => index + 2));
      const value = (await first.get<{ by: Record<string, number>; list: string[] }>('x', { fresh: true }))?.value;
      expect(value?.list.toSorted()).to.deep.equal(Array.from({ length: 64 }, (_, index) => `w${index}`).sort());
      expect(Object.values(value?.by ?? {})).to.deep.equal(Array(8).fill(8));
      await watched.version(65);
      expect(watched.versions).to.deep.equal(Array.from({ length: 64 }, (_, index) => index + 2));
    });
  });

  describe('patch', () => {
    it('applies all six operations, in order', async () => {
      const [store, other] = await stores.pair();
      await store.set('x', { a: [1, 2, 3], o: { k: 'v', 'm/n': { '~': 1 } }, gone: true });
      const result = await store.patch('x', [
        { op: 'test', path: '/o/m~1n/~0', value: 1 },
        { op: 'add', path: '/a/1', value: { new: [] } },
        { op: 'add', path: '/a/-', value: 'end' },
        { op: 'remove', path: '/gone' },
        { op: 'replace', path: '/o/k', value: null },
        { op: 'move', from: '/o/m~1n', path: '/moved' },
        { op: 'copy', from: '/a', path: '/o/copy' },
        { op: 'test', path: '/o/copy/1', value: { new: [] } },
      ]);
      const expected = {
        a: [1, { new: [] }, 2, 3, 'end'],
        o: { k: null, copy: [1, { new: [] }, 2, 3, 'end'] },
        moved: { '~': 1 },
      };
      expect(result).to.have.all.keys('version', 'checksum');
      expect(result.version).to.equal(2);
      expect((await other.get('x'))?.value).to.deep.equal(expected);
      await store.patch('x', [{ op: 'replace', path: '', value: [] }]);
      expect((await other.get('x', { fresh: true }))?.value).to.deep.equal([]);
    });

    it('names the operation that fails, and changes nothing', async () => {
      const store = await stores.open();
      await store.set('x', { a: [1], o: {} });
      const fine = { op: 'add', path: '/o/new', value: 1 };
      const failing: (readonly [operation: object, says: RegExp])[] = [
        [{ op: 'test', path: '/a/0', value: 2 }, /another/],
        [{ op: 'test', path: '/none', value: null }, /none/],
        [{ op: 'remove', path: '/none' }, /none/],
        [{ op: 'remove', path: '/a/1' }, /1/],
        [{ op: 'replace', path: '/o/none', value: 1 }, /none/],
        [{ op: 'add', path: '/none/deeper', value: 1 }, /none/],
        [{ op: 'add', path: '/a/3', value: 1 }, /3/],
        [{ op: 'add', path: '/a/00', value: 1 }, /00/],
        [{ op: 'replace', path: '/a/-', value: 1 }, /-/],
        [{ op: 'move', from: '/none', path: '/b' }, /none/],
        [{ op: 'move', from: '/o', path: '/o/inside' }, /itself/],
        [{ op: 'copy', from: '/a/0/deeper', path: '/b' }, /deeper/],
      ];
      for (const [operation, says] of failing) {
        const error = await refusal('PATCH_FAILED', () => store.patch('x', [fine, operation, fine]));
        expect(error.details.operation, JSON.stringify(operation)).to.equal(1);
        expect(error.message).to.contain('operation 1').and.match(says);
      }
      expect(await store.get('x', { fresh: true })).to.deep.include({ version: 1, value: { a: [1], o: {} } });
    });

    it('refuses what is no patch, with the index of the operation', async () => {
      const store = await stores.open();
      await store.set('x', { a: 1 });
      const fine = { op: 'test', path: '', value: { a: 1 } };
      for (const operation of [
        null,
        1,
        {},
        { op: 'nop', path: '' },
        { op: 'add', path: '/b' },
        { op: 'add', path: 'b', value: 1 },
        { op: 'add', path: '/~2', value: 1 },
        { op: 'move', path: '/b' },
      ]) {
        expect((await refusal('INVALID_PATCH', () => store.patch('x', [fine, operation]))).details.operation).to.equal(1);
      }
      for (const patch of [null, {}, 'x', undefined, { op: 'remove', path: '/a' }])
        await refusal('INVALID_PATCH', () => store.patch('x', patch));
      expect((await store.get('x', { fresh: true }))?.version).to.equal(1);
    });

    it('is NOT_FOUND where there is no context', async () => {
      const store = await stores.open();
      await refusal('NOT_FOUND', () => store.patch('x', [{ op: 'replace', path: '', value: 1 }]));
      expect(await store.has('x')).to.equal(false);
    });

    it('runs again on a conflict: patches of several instances to different places all arrive', async () => {
      const instances = await stores.openMany(4);
      await (instances[0] as ContextStore).set('x', {});
      await Promise.all(
        Array.from({ length: 32 }, (_, index) =>
          (instances[index % 4] as ContextStore).patch('x', [{ op: 'add', path: `/k${index}`, value: index }]),
        ),
      );
      const value = (await (instances[0] as ContextStore).get<Record<string, number>>('x', { fresh: true }))?.value ?? {};
      expect(Object.entries(value).toSorted((a, b) => a[1] - b[1])).to.deep.equal(
        Array.from({ length: 32 }, (_, index) => [`k${index}`, index]),
      );
    });
  });

  describe('options of a call', () => {
    /** Every call that goes to Redis. */
    const calls = (
      store: ContextStore,
      options: { signal?: AbortSignal; timeout?: number | string },
    ): [string, () => Promise<unknown>][] => [
      ['set', () => store.set('x', 1, options)],
      ['get', () => store.get('x', options)],
      ['get from a replica', () => store.get('watched', options)],
      ['getMany', () => store.getMany(['x', 'y'], options)],
      ['has', () => store.has('x', options)],
      ['update', () => store.update('x', () => 2, options)],
      ['patch', () => store.patch('x', [{ op: 'replace', path: '', value: 3 }], options)],
      ['delete', () => store.delete('x', options)],
      ['touch', () => store.touch('x', '1h', options)],
      ['list', () => store.list(options)],
      ['history', () => store.history('x', options)],
      ['verify', () => store.verify('x', options)],
      ['rawBytes', () => store.rawBytes('x', options)],
      ['stats', () => store.stats(options)],
    ];

    it('a signal that was aborted before ends every call, and nothing is sent', async () => {
      const store = await stores.open();
      await store.set('x', 0);
      await store.set('watched', 0);
      await untilReplica(store, 'watched');
      const reason = new Error('enough');
      for (const [name, call] of calls(store, { signal: AbortSignal.abort(reason) })) {
        const error = await refusal('ABORTED', call).catch((other: unknown) => {
          throw new Error(name, { cause: other });
        });
        expect(error.cause, name).to.equal(reason);
      }
      expect(await store.get('x', { fresh: true })).to.include({ version: 1, value: 0 });
    });

    it('a signal ends a call that waits, an update between its runs included', async () => {
      const proxy = await stores.proxy();
      const store = await stores.open({ redis: proxy.url });
      const direct = await stores.open();
      await direct.set('x', { n: 0 });
      for (const [name, call] of ['get', 'set', 'update', 'delete'].map(
        (kind) => [kind, (signal: AbortSignal) => calls(store, { signal }).find(([each]) => each === kind)?.[1]()] as const,
      )) {
        const aborter = new AbortController();
        proxy.pause('down');
        const waiting = refusal('ABORTED', () => call(aborter.signal));
        aborter.abort();
        await waiting.catch((error: unknown) => {
          throw new Error(name, { cause: error });
        });
        proxy.resume('down');
      }

      const aborter = new AbortController();
      let runs = 0;
      await direct.set('y', 0);
      await refusal('ABORTED', () =>
        store.update(
          'y',
          async (n) => {
            runs += 1;
            await direct.update('y', (theirs) => Number(theirs) + 1);
            if (runs === 2) aborter.abort();
            return Number(n) - 1;
          },
          { signal: aborter.signal },
        ),
      );
      expect(runs).to.equal(2);
      expect((await direct.get('y', { fresh: true }))?.value).to.equal(2);
    });

    it('a function of update that never ends does not outlast the timeout or the signal, nor hold up the next', async () => {
      const store = await stores.open();
      await store.set('x', 0);
      const never = (): Promise<never> => new Promise(() => {});
      await refusal('TIMEOUT', () => store.update('x', never, { timeout: 50 }));
      const aborter = new AbortController();
      const waiting = refusal('ABORTED', () => store.update('x', never, { signal: aborter.signal }));
      const behind = refusal('TIMEOUT', () => store.update('x', () => 1, { timeout: 50 }));
      await behind;
      aborter.abort();
      await waiting;
      expect(await store.update('x', () => 2)).to.include({ version: 2, value: 2 });
    });

    it('a timeout ends a call in its time, as TIMEOUT, and leaves the connection to others', async () => {
      const proxy = await stores.proxy();
      const store = await stores.open({ redis: proxy.url });
      await store.set('x', 0);
      const downs = record(store, 'connection:down');
      proxy.delay(60);
      for (const [name, call] of calls(store, { timeout: 30 })) {
        if (name === 'get from a replica') continue;
        await refusal('TIMEOUT', call).catch((error: unknown) => {
          throw new Error(name, { cause: error });
        });
      }
      expect((await refusal('TIMEOUT', () => store.get('y', { timeout: '20ms' }))).message).to.match(/\b20 ms\b/);
      proxy.delay(0);
      expect(await store.has('x')).to.be.a('boolean');
      expect(downs).to.deep.equal([]);
      expect(proxy.accepted).to.equal(2);
    });

    it('a write that timed out says whether it may have been applied', async () => {
      const proxy = await stores.proxy();
      const store = await stores.open({ redis: proxy.url });
      const direct = await stores.open();
      const writes: readonly (readonly [id: string, write: (id: string) => Promise<unknown>])[] = [
        ['set', (id) => store.set(id, 1, { timeout: 100 })],
        ['update', (id) => store.update(id, () => 1, { timeout: 100 })],
        ['patch', (id) => store.patch(id, [{ op: 'replace', path: '', value: 1 }], { timeout: 100 })],
        ['delete', (id) => store.delete(id, { timeout: 100 })],
      ];
      for (const [id] of writes) {
        await store.set(id, 0);
        // so that it is there to build on while no answer comes
        await untilReplica(store, id);
      }
      for (const [id, write] of writes) {
        proxy.pause('down');
        const error = await refusal('TIMEOUT', () => write(id));
        expect(error.message, id).to.contain('may or may not have been applied');
        expect((await direct.get(id))?.value ?? null, id).to.equal(id === 'delete' ? null : 1);
        proxy.resume('down');
      }
    });

    it('a timeout or an option that is none is refused', async () => {
      const store = await stores.open();
      for (const timeout of ['soon', -1, Number.NaN]) {
        for (const [name, call] of calls(store, { timeout })) {
          if (name !== 'get from a replica') await refusal('INVALID_OPTION', call);
        }
      }
      const wrong = { tll: '1h' } as object;
      for (const [name, call] of calls(store, wrong)) {
        const error = await refusal('INVALID_OPTION', call).catch((other: unknown) => {
          throw new Error(name, { cause: other });
        });
        expect(error.message, name).to.contain('tll');
      }
      expect((await refusal('INVALID_OPTION', () => store.watch('x', wrong))).message).to.contain('tll');
      await refusal('INVALID_OPTION', () => store.set('x', 1, { attempts: 3 } as WriteOptions));
      await refusal('INVALID_OPTION', () => store.delete('x', { ttl: '1h' } as object));
      for (const attempts of [0, -1, 1.5, Number.NaN]) {
        await refusal('INVALID_ARGUMENT', () => store.update('x', () => 1, { attempts, initial: 0 }));
      }
      expect(await store.has('x')).to.equal(false);
    });

    it('connect refuses options it does not know, and values it cannot read', async () => {
      const wrong: [object, RegExp][] = [
        [{ namspace: 'x' }, /namspace/],
        [{ memory: { limit: '1gb' } }, /memory.*limit/],
        [{ limits: { bytes: 1 } }, /limits.*bytes/],
        [{ namespace: 'a b' }, /namespace/],
        [{ namespace: '' }, /namespace/],
        [{ timeout: 'soon' }, /timeout/],
        [{ heartbeat: 0 }, /heartbeat/],
        [{ shards: 0 }, /shards/],
        [{ instanceId: 'a b' }, /instanceId/],
        [{ values: 'mine' }, /values/],
        [{ logger: {} }, /logger/],
        [{ redis: 7 }, /redis/],
        [{ limits: { depth: 1001 } }, /depth/],
      ];
      for (const [options, says] of wrong) {
        expect((await refusal('INVALID_OPTION', () => stores.open(options))).message, JSON.stringify(options)).to.match(says);
      }
    });

    it('a namespace keeps the shards it was made with', async () => {
      await stores.open({ shards: 2 });
      const error = await refusal('NAMESPACE_MISMATCH', () => stores.open({ shards: 3 }));
      expect(error.details).to.include({ expected: 3, found: 2 });
      expect((await (await stores.open()).stats()).shards).to.have.lengthOf(2);
    });
  });
});
