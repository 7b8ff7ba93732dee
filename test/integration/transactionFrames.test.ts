/** What others see of a transaction: watchers, replicas and frames get each context's change as of any commit; what it counts, tells and stores. */
import { expect } from 'chai';
import type { Redis } from 'ioredis';
import type { ContextStore, StoreOptions } from '../../src/index.js';
import { Keys } from '../../src/redis/keys.js';
import { exactAccounts } from '../helpers/accounts.js';
import { SteppingProxy } from '../helpers/SteppingProxy.js';
import {
  RecordingLogger,
  record,
  redisTime,
  refusal,
  untilRedisTime,
  untilReplica,
  useStores,
  watchFromNow,
} from '../helpers/stores.js';
import { waitFor } from '../helpers/waitFor.js';
import { expectEverywhere, Follower, prose, replicaAt, type Talk, talk } from './deltaSupport.js';

describe('what others see of a transaction', () => {
  const stores = useStores();
  /** They are right, but while a checkpoint is written behind a commit. */
  const accounts = (redis: Redis, shards: number): Promise<unknown> =>
    waitFor(() => exactAccounts(redis, stores.namespace, shards), { what: 'exact accounts' });

  for (const shards of [1, 16]) {
    describe(`over ${shards} shard${shards === 1 ? '' : 's'}`, () => {
      /** One change of each kind. */
      const change = (store: ContextStore): Promise<void> =>
        store.transaction(async (tx) => {
          await tx.get('a');
          tx.patch('a', [{ op: 'replace', path: '/n', value: 1 }]);
          tx.set('b', { other: 'than before' });
          tx.delete('c');
          tx.set('d', { n: 1 }, { ttl: '1h' });
          tx.delete('e');
        });
      async function prepared(options: StoreOptions = {}): Promise<[ContextStore, ContextStore]> {
        const pair = await stores.pair({ shards, ...options });
        await pair[0].set('a', { n: 0, text: prose(1, 400) });
        await pair[0].set('b', { n: 0 });
        await pair[0].set('c', { n: 0 });
        return pair;
      }

      it('watchers of other instances are told each change once, as of any commit', async () => {
        const [store, other] = await prepared();
        const watched = await Promise.all(['a', 'b', 'c', 'd', 'e'].map((id) => watchFromNow(other, id)));
        const own = await watchFromNow(store, 'a');
        await change(store);
        for (const one of watched.slice(0, 4)) await one.count(1);
        await own.count(1);
        await store.set('e', 1);
        await watched[4]?.count(1);
        const kinds = watched.map((one) => one.kinds.join(', '));
        expect(kinds).to.deep.equal(['patch 2', 'full 2', 'deleted 2', 'full 1', 'full 1']);
        expect(own.kinds).to.deep.equal(['patch 2']);
        expect(watched[0]?.last?.value).to.include({ n: 1 });
      });

      it('replicas of other instances follow by frames, and its own process reads it at once', async () => {
        const [store, other] = await prepared();
        for (const one of [store, other]) for (const id of ['a', 'b', 'c']) await untilReplica(one, id);
        const { resyncs } = await other.stats();
        await change(store);
        // from memory where it has a replica, else from Redis
        const own = await Promise.all(['a', 'b', 'c', 'd', 'e'].map((id) => store.get(id)));
        expect(own.map((context) => context?.version ?? null)).to.deep.equal([2, 2, null, 1, null]);
        for (const id of ['a', 'b']) await replicaAt(other, id, 2);
        await waitFor(async () => (await other.get('c')) === null, { what: 'the deletion' });
        expect((await other.stats()).resyncs).to.equal(resyncs);
        expect((await other.stats()).checksumFailures).to.equal(0);
      });

      for (const delta of ['on', 'shadow', 'off'] as const) {
        it(`changes of small and large documents come as frames and are stored as ever, with delta ${delta}`, async () => {
          const [store, other] = await stores.pair({ shards, delta });
          const redis = await stores.redis();
          const values: Record<string, Talk> = { small: talk(2_000), large: talk(100_000), other: talk(60_000) };
          for (const [id, value] of Object.entries(values)) await store.set(id, value);
          for (const id of Object.keys(values)) await untilReplica(store, id);
          const followers = new Map<string, Follower>();
          for (const id of Object.keys(values)) followers.set(id, await Follower.start(stores, store, id));
          for (let version = 2; version <= 4; version += 1) {
            await store.transaction(async (tx) => {
              for (const [id, value] of Object.entries(values)) {
                const read = await tx.get<Talk>(id);
                expect(read?.version).to.equal(version - 1);
                const turn = { text: prose(version, 300) };
                const n = value.n + 1;
                values[id] = { n, turns: [...value.turns, turn] };
                if (id === 'other') tx.set(id, values[id]);
                else
                  tx.patch(id, [
                    { op: 'replace', path: '/n', value: n },
                    { op: 'add', path: '/turns/-', value: turn },
                  ]);
              }
            });
            for (const [id, value] of Object.entries(values)) {
              const follower = followers.get(id);
              const stored = await expectEverywhere(value, version, {
                redis,
                id,
                stores: [store, other],
                ...(follower === undefined ? {} : { follower }),
              });
              expect(stored.form, id).to.equal(id === 'small' ? 'whole' : 'chunked');
            }
          }
          const sent = [...followers.values()].reduce((sum, { bytes }) => sum + bytes, 0);
          if (delta === 'on') expect(sent, 'bytes of nine changes').to.be.below(20_000);
          await accounts(redis, shards);
        });
      }

      it('in a namespace of protocol 1', async () => {
        const redis = await stores.redis();
        await redis.hset(`{lc:${stores.namespace}}:ns`, 'shards', shards, 'format', 1);
        const [store, other] = await prepared();
        expect((await store.stats()).delta.protocol).to.equal(1);
        const follower = await Follower.start(stores, store, 'a');
        if (shards === 1) {
          await change(store);
          expect((await follower.version(2))?.toString()).to.include('"n":1');
          expect(new Set(follower.protocols)).to.deep.equal(new Set([1]));
          expect((await other.get('a', { fresh: true }))?.value).to.include({ n: 1 });
        } else {
          // older instances know no intents
          await refusal('NAMESPACE_MISMATCH', () => change(store));
          await store.transaction((tx) => tx.set('a', { n: 1 }));
          await refusal('NAMESPACE_MISMATCH', () => change(store));
          expect((await other.getMany(['a', 'b'], { fresh: true })).map((context) => context?.version)).to.deep.equal([2, 1]);
        }
      });

      it('counts and tells what it does', async () => {
        const [store, other] = await prepared();
        const committed = record(store, 'context:committed');
        await change(store);
        await store.transaction((tx) => tx.get('a'));
        expect(committed.map(({ id, version }) => `${id} ${version}`).sort()).to.deep.equal(['a 2', 'b 2', 'c 2', 'd 1']);
        const { transactions, commits } = await store.stats();
        expect(transactions).to.deep.equal({
          committed: 1,
          distributed: shards === 1 ? 0 : 1,
          conflicts: 0,
          recovered: { committed: 0, aborted: 0 },
        });
        expect(commits).to.equal(3 + 4);
        expect((await other.stats()).transactions.recovered).to.deep.equal({ committed: 0, aborted: 0 });
        const history = await other.history('a');
        expect(history.map(({ version }) => version)).to.deep.equal([2, 1]);
      });

      it('is as large as several scripts take: 40 members, or more than 1 MiB', async () => {
        const [store, other] = await prepared();
        const ids = Array.from({ length: 40 }, (_, n) => `many-${n}`);
        await store.transaction((tx) => {
          for (const id of ids) tx.set(id, id);
        });
        const large = ['large-1', 'large-2', 'large-3'];
        await store.transaction((tx) => {
          for (const id of large) tx.set(id, prose(3, 600_000));
        });
        expect((await store.stats()).transactions).to.include({ committed: 2, distributed: 2 });
        const found = await other.getMany([...ids, ...large], { fresh: true });
        expect(found.map((context) => context?.value)).to.deep.equal([...ids, ...large.map(() => prose(3, 600_000))]);
        await accounts(await stores.redis(), shards);
      });
    });
  }

  describe('in Redis, while it is under way', () => {
    it('record, list and intents can be read with plain commands, and are gone after it', async () => {
      const proxy = await SteppingProxy.start(Number(new URL(await stores.url()).port));
      const store = await stores.open({ shards: 16, redis: proxy.url, transactions: { recoverAfter: '30s' } });
      const redis = await stores.redis();
      const keys = new Keys(stores.namespace, 16);
      const ids = ['a', 'b'] as const;
      for (const id of ids) await store.set(id, { n: 0 });
      await store.transaction((tx) => ids.map((id) => tx.set(id, { n: 1 })));
      proxy.stopAt({ hold: ({ script }) => script === 'decide' });
      const done = store.transaction((tx) => ids.map((id) => tx.set(id, { n: 2 })));
      await waitFor(() => proxy.stopped, { what: 'the first phase' });
      const home = keys.shardOf('a').shard;
      for (const [part, id] of ids.entries()) {
        const { context, txn: list, tag } = keys.of(id);
        const [name, deadline] = await redis.zrange(list, '0', '-1', 'WITHSCORES');
        const txn = /^(\w+)\.\d$/.exec(name ?? '')?.[1];
        expect(await redis.hget(context, 'intent')).to.equal(`${txn} ${deadline} ${part} ${home}`);
        const fields = await redis.hgetall(`${tag}:t:${txn}.${part}`);
        expect(fields).to.include({ txn, part: String(part), home: String(home), deadline, by: store.instanceId });
        expect(Object.values(fields)).to.include('{"n":2}');
        expect(fields.parts).to.equal(ids.map((each) => keys.shardOf(each).shard).join(' '));
        expect(fields).to.not.have.property('state');
        expect(await redis.hget(context, 'data')).to.equal('{"n":1}');
      }
      proxy.resume();
      await done;
      for (const id of ids) expect(await redis.hexists(keys.of(id).context, 'intent')).to.equal(0);
      await waitFor(
        async () => (await Promise.all(ids.map((id) => redis.exists(keys.of(id).txn)))).every((there) => there === 0),
        { what: 'the list to be empty' },
      );
    });

    it('who ends it for somebody else tells that, once a part', async () => {
      const proxy = await SteppingProxy.start(Number(new URL(await stores.url()).port));
      const options = { shards: 16, transactions: { recoverAfter: 400 } } as const;
      const store = await stores.open({ ...options, redis: proxy.url, attemptTimeout: '10s', timeout: '10s' });
      const logger = new RecordingLogger();
      const other = await stores.open({ ...options, logger });
      const redis = await stores.redis();
      await store.transaction((tx) => ['a', 'b'].map((id) => tx.set(id, 1)));
      const told = record(other, 'transaction:recovered');
      for (const [stop, outcome, value] of [
        ['finish', 'committed', 2],
        ['decide', 'aborted', 2],
      ] as const) {
        await waitFor(
          async () =>
            (await Promise.all(['a', 'b'].map((id) => redis.exists(new Keys(stores.namespace, 16).of(id).txn)))).every(
              (n) => n === 0,
            ),
          { what: 'what was before to be over' },
        );
        proxy.stopAt({ hold: ({ script }) => script === stop });
        const done = store.transaction((tx) => ['a', 'b'].map((id) => tx.set(id, stop === 'finish' ? 2 : 3)));
        await waitFor(() => proxy.stopped, { what: 'it to be held' });
        if (outcome === 'aborted') await untilRedisTime(redis, (await redisTime(redis)) + 401);
        const found = await other.getMany(['a', 'b'], { fresh: true });
        expect(found.map((context) => context?.value)).to.deep.equal([value, value]);
        expect(told.splice(0).map((event) => event.outcome)).to.deep.equal([outcome, outcome]);
        expect(logger.at('info').filter(({ fields }) => fields.outcome === outcome)).to.have.length(2);
        expect((await other.stats()).transactions.recovered).to.have.property(outcome, 2);
        proxy.resume();
        await done;
      }
      expect((await other.get('a', { fresh: true }))?.value).to.equal(3);
      expect((await store.stats()).transactions.recovered).to.deep.equal({ committed: 0, aborted: 0 });
    });
  });
});
