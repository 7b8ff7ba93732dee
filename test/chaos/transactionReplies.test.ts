import { expect } from 'chai';
import type { Redis } from 'ioredis';
import { ContextStore, isContextError, type StoreOptions } from '../../src/index.js';
import { Keys } from '../../src/redis/keys.js';
import { type ScriptName, script } from '../../src/redis/scripts.js';
import { exactAccounts } from '../helpers/accounts.js';
import { uniqueNamespace } from '../helpers/namespace.js';
import { RedisServer } from '../helpers/RedisServer.js';
import { seededRng } from '../helpers/random.js';
import { SteppingProxy } from '../helpers/SteppingProxy.js';
import { refusal } from '../helpers/stores.js';
import { TcpProxy } from '../helpers/TcpProxy.js';
import { waitFor } from '../helpers/waitFor.js';

const SHARDS = 16;
const SPREAD = ['a', 'b', 'c'] as const;

describe('replies of transactions that are lost', function () {
  this.timeout(60_000);
  let server: RedisServer;
  let redis: Redis;
  let namespace: string;
  const closing: (() => Promise<unknown>)[] = [];

  before(async () => {
    server = await RedisServer.start();
    redis = server.client();
  });
  after(() => server.stop());
  beforeEach(() => {
    namespace = uniqueNamespace('lost');
  });
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close();
  });

  async function open(options: StoreOptions = {}): Promise<ContextStore> {
    const store = await ContextStore.connect({
      redis: server.url,
      namespace,
      shards: SHARDS,
      heartbeat: '1h',
      timeout: '20s',
      transactions: { recoverAfter: 500 },
      workers: 'off',
      logger: false,
      ...options,
    });
    closing.push(() => store.close());
    return store;
  }
  it('a coordinator that was cut off until nothing is left of its transaction says that it does not know', async () => {
    const proxy = await SteppingProxy.start(server.port);
    closing.push(() => proxy.close());
    const store = await open({ redis: proxy.url, attemptTimeout: 100, transactions: { recoverAfter: 200 } });
    const other = await open({ transactions: { recoverAfter: 200 } });
    for (const id of SPREAD) await other.set(id, { n: 0 });
    proxy.stopAt({ mute: ({ script, nth }) => script === 'decide' && nth === 1 });
    let runs = 0;
    const done = refusal('OUTCOME_UNKNOWN', () =>
      store.transaction(async (tx) => {
        runs += 1;
        const found = await tx.getMany(SPREAD);
        for (const [index, id] of SPREAD.entries())
          tx.set(id, { n: Number((found[index]?.value as { n?: number } | undefined)?.n) + 1 });
      }),
    );
    await waitFor(() => proxy.stopped, { what: 'the decision' });
    proxy.stopAt({ hold: () => true });
    await waitFor(
      async () => {
        await other.maintenance.sweep();
        return (await redis.keys(`{lc:${namespace}:*}:t:*`)).length === 0;
      },
      { what: 'the transaction to be ended and forgotten', everyMs: 50 },
    );
    proxy.resume();
    await done;
    expect(runs).to.equal(1);
    const read = await other.getMany(SPREAD, { fresh: true });
    expect(read.map((context) => context?.value)).to.deep.equal(SPREAD.map(() => ({ n: 1 })));
  });

  /** In one shard there is one context that is written and one that is not there. */
  const idsOf = (name: ScriptName): readonly string[] => (name === 'transact' ? ['a'] : SPREAD);

  async function increment(store: ContextStore, ids: readonly string[], options: { timeout?: number } = {}): Promise<number> {
    let runs = 0;
    await store.transaction(async (tx) => {
      runs += 1;
      const found = await tx.getMany(ids);
      for (const [index, id] of ids.entries()) tx.set(id, { n: ((found[index]?.value as { n: number })?.n ?? 0) + 1 });
    }, options);
    return runs;
  }
  const counts = async (store: ContextStore, ids: readonly string[]): Promise<(number | undefined)[]> =>
    (await store.getMany(ids, { fresh: true })).map((context) => (context?.value as { n: number } | undefined)?.n);
  /** Nothing is held, and nothing is left to be ended. */
  async function settled(store: ContextStore): Promise<void> {
    const keys = new Keys(namespace, SHARDS);
    await waitFor(
      async () => {
        await store.maintenance.sweep();
        const open = await Promise.all(keys.shards.map(({ txn }) => redis.exists(txn)));
        const held = await Promise.all(SPREAD.map((id) => redis.hexists(keys.of(id).context, 'intent')));
        return [...open, ...held].every((found) => found === 0);
      },
      { what: 'nothing to be left', everyMs: 50 },
    );
    await exactAccounts(redis, namespace, SHARDS);
  }

  for (const name of ['transact', 'prepare', 'decide', 'finish'] as const) {
    for (const times of [1, 2]) {
      it(`${name}, ${times === 1 ? 'once' : 'twice in a row'}: it is done once, without another run`, async () => {
        const proxy = await TcpProxy.start(server.port);
        closing.push(() => proxy.close());
        const store = await open({ redis: proxy.url, attemptTimeout: '300ms' });
        const other = await open();
        const ids = idsOf(name);
        await increment(store, ids);
        const lost = Array.from({ length: times }, () => proxy.cutAfterNextUpstreamMatch(script(name).sha));
        if (times === 2) await increment(store, ids);
        expect(await increment(store, ids)).to.equal(1);
        await Promise.all(lost);
        expect(await counts(other, ids)).to.deep.equal(ids.map(() => 1 + times));
        const found = await other.getMany(ids, { fresh: true });
        expect(found.map((context) => context?.version)).to.deep.equal(ids.map(() => 1 + times));
        expect(await counts(store, ids)).to.deep.equal(ids.map(() => 1 + times));
        await settled(other);
      });
    }
  }

  /** What becomes of one whose time ends while it waits for a reply, or for a call that never arrives. */
  const ends: readonly {
    readonly name: ScriptName;
    readonly how: 'mute' | 'hold';
    readonly code: 'TIMEOUT' | 'OUTCOME_UNKNOWN' | 'CORRECT';
    readonly done: boolean;
  }[] = [
    { name: 'transact', how: 'mute', code: 'TIMEOUT', done: true },
    { name: 'transact', how: 'hold', code: 'TIMEOUT', done: false },
    { name: 'prepare', how: 'mute', code: 'TIMEOUT', done: false },
    { name: 'prepare', how: 'hold', code: 'TIMEOUT', done: false },
    { name: 'decide', how: 'mute', code: 'OUTCOME_UNKNOWN', done: true },
    { name: 'decide', how: 'hold', code: 'OUTCOME_UNKNOWN', done: false },
    { name: 'finish', how: 'mute', code: 'CORRECT', done: true },
    { name: 'finish', how: 'hold', code: 'CORRECT', done: true },
  ];
  for (const { name, how, code, done } of ends) {
    const lost = how === 'mute' ? 'whose reply never comes' : 'that never arrives';
    it(`a ${name} ${lost}: ${code === 'CORRECT' ? 'the transaction is done' : code}, and all of it or nothing`, async () => {
      const proxy = await SteppingProxy.start(server.port);
      closing.push(() => proxy.close());
      const store = await open({ redis: proxy.url, attemptTimeout: '5s' });
      const other = await open();
      const ids = idsOf(name);
      await increment(store, ids);
      await settled(other);
      proxy.stopAt({ [how]: ({ script: called }: { script: ScriptName }) => called === name });
      if (code === 'CORRECT') await increment(store, ids, { timeout: 300 });
      else {
        const error = await refusal(code, () => increment(store, ids, { timeout: 300 }));
        const sure = name === 'prepare';
        expect(error.message).to.match(sure ? /nothing of it was written/ : /may or may not have been/);
      }
      expect(proxy.stopped).to.equal(true);
      expect(await counts(other, ids)).to.deep.equal(ids.map(() => (done ? 2 : 1)));
      await settled(other);
      // nothing of it comes later
      proxy.resume();
      expect(await increment(other, ids)).to.equal(1);
      expect(await counts(other, ids)).to.deep.equal(ids.map(() => (done ? 3 : 2)));
      await settled(other);
    });
  }

  it('a signal at the decision: OUTCOME_UNKNOWN, and all of it or nothing', async () => {
    const proxy = await SteppingProxy.start(server.port);
    closing.push(() => proxy.close());
    const store = await open({ redis: proxy.url, attemptTimeout: '5s' });
    await increment(store, SPREAD);
    proxy.stopAt({ mute: ({ script: called }) => called === 'decide' });
    const controller = new AbortController();
    const ended = store.transaction(
      (tx) => {
        for (const id of SPREAD) tx.set(id, { n: 2 });
      },
      { signal: controller.signal },
    );
    await waitFor(() => proxy.stopped, { what: 'the decision' });
    controller.abort();
    await refusal('OUTCOME_UNKNOWN', () => ended);
    const other = await open();
    await waitFor(async () => new Set(await counts(other, SPREAD)).has(2), { what: 'what was decided' });
    expect(await counts(other, SPREAD)).to.deep.equal([2, 2, 2]);
    proxy.resume();
    await settled(other);
  });

  for (const [what, timeout] of [
    ['time to try again', 20_000],
    ['little time', 60],
  ] as const) {
    it(`under a load of increments with ${what}: none is done twice, and none by half`, async () => {
      const rng = seededRng(Number(process.env.LUKHAS_CHAOS_SEED ?? 7));
      const proxy = await TcpProxy.start(server.port);
      closing.push(() => proxy.close());
      const all = await Promise.all([1, 2, 3].map(() => open({ redis: proxy.url, attemptTimeout: '300ms' })));
      const other = await open();
      await increment(other, SPREAD);
      let acknowledged = 0;
      let unknown = 0;
      let stop = false;
      const load = all.map(async (store) => {
        while (!stop) {
          try {
            await increment(store, SPREAD, { timeout });
            acknowledged += 1;
          } catch (error) {
            if (!isContextError(error)) throw error;
            expect(error.code).to.be.oneOf(['TIMEOUT', 'CONNECTION', 'CONFLICT', 'LOCKED', 'OUTCOME_UNKNOWN']);
            if (error.code === 'OUTCOME_UNKNOWN' || error.message.includes('may or may not')) unknown += 1;
          }
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      });
      const end = performance.now() + 3_000;
      while (performance.now() < end || acknowledged < 5) {
        if (rng.chance(0.3)) proxy.cut();
        else proxy.cutAfterNextUpstreamMatch(script(rng.pick(['prepare', 'decide', 'finish'] as const)).sha).catch(() => {});
        await new Promise((resolve) => setTimeout(resolve, rng.int(20, 150)));
        const found = await other.transaction((tx) => tx.getMany(SPREAD), { attempts: 10_000 });
        const seen = found.map((context) => (context?.value as { n: number } | undefined)?.n);
        expect(new Set(seen), seen.join(' ')).to.have.property('size', 1);
      }
      stop = true;
      await Promise.all(load);
      await settled(other);
      const [n = 0, ...rest] = await counts(other, SPREAD);
      expect(rest).to.deep.equal([n, n]);
      expect(n - 1).to.be.within(acknowledged, acknowledged + unknown);
      if (timeout > 1_000) expect(unknown).to.equal(0);
    });
  }
});
