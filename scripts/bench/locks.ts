/**
 * What a lock costs: taken and released, on the data server alone and on five nodes, beside `redlock` alone and the least that can be called
 * one (`SET NX PX`, and a script that deletes the key if it is still ours). And the hand-over: how long after a holder lets go the next one,
 * which was waiting, has it. A lock of ours is fair, fenced, extended by itself, and cancelled with its caller; none of the others is.
 */
import { randomBytes } from 'node:crypto';
import { Redis } from 'ioredis';
import Redlock, { type Client } from 'redlock';
import type { ContextStore } from '../../src/index.js';
import { RedisServer } from '../../test/helpers/RedisServer.js';
import { waitFor } from '../../test/helpers/waitFor.js';
import type { Benchmark, Setting } from './lib/benchmark.js';
import { alternate, median, percentile, ratio, throughput } from './lib/rounds.js';
import { openStore } from './lib/stores.js';
import { column, type Table } from './lib/table.js';

const NODES = 5;
const TTL_MS = 10_000;
/** `redlock`'s own defaults, but for the number of attempts: who waits shall get it. */
const WAITING = { retryCount: -1, retryDelay: 200, retryJitter: 100 };
const COMPARE_AND_DELETE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

export const locks: Benchmark = { name: 'locks', run: measure };

/** Takes a lock and lets go of it. */
type Cycle = (id: string) => Promise<unknown>;
/** Takes a lock, waiting for it, and gives what releases it. */
type Take = (id: string) => Promise<() => Promise<unknown>>;

async function measure(setting: Setting): Promise<Table[]> {
  const nodes = await Promise.all(Array.from({ length: NODES }, () => RedisServer.start()));
  const clients = [setting.url, ...nodes.map(({ url }) => url)].map((url) => new Redis(url, { enableAutoPipelining: true }));
  const [data, ...others] = clients as [Redis, ...Redis[]];
  const five = { locks: { nodes: nodes.map(({ url }) => url) } };
  const open = (namespace: string, options = {}): Promise<ContextStore> => openStore(setting.url, namespace, options);
  const stores = await Promise.all([
    open('bench-locks'),
    open('bench-locks'),
    open('bench-locks-5', five),
    open('bench-locks-5', five),
  ]);
  const redlock = (of: readonly Redis[]): Redlock => new Redlock(of as unknown as Client[], WAITING);
  try {
    const [one, oneMore, quorum, quorumMore] = stores as [ContextStore, ContextStore, ContextStore, ContextStore];
    const [redlock1, redlock5] = [redlock([data]), redlock(others)];
    await quorum.lock('warm', () => {});
    await quorumMore.lock('warm', () => {});
    const cycles: Record<string, Cycle> = {
      'SET NX PX, compare and delete': async (id) => {
        const value = randomBytes(16).toString('hex');
        await data.set(`set-${id}`, value, 'PX', TTL_MS, 'NX');
        await data.eval(COMPARE_AND_DELETE, 1, `set-${id}`, value);
      },
      'redlock, 1 node': async (id) => redlock1.release(await redlock1.acquire([`one-${id}`], TTL_MS)),
      'lock, the data server alone': (id) => one.lock(id, () => {}),
      'redlock, 5 nodes': async (id) => redlock5.release(await redlock5.acquire([`five-${id}`], TTL_MS)),
      'lock, the data server and 5 nodes': (id) => quorum.lock(id, () => {}),
    };
    const takers: Record<string, { first: Take; second: Take; waits: (id: string) => Promise<unknown> }> = {
      'redlock, 1 node': both((id) => byRedlock(redlock1, `one-${id}`)),
      'lock, the data server alone': { first: byStore(one), second: byStore(oneMore), waits: untilWaiting(one) },
      'redlock, 5 nodes': both((id) => byRedlock(redlock5, `five-${id}`)),
      'lock, the data server and 5 nodes': { first: byStore(quorum), second: byStore(quorumMore), waits: untilWaiting(quorum) },
    };
    return [await taken(setting, cycles), await handedOver(setting, takers)];
  } finally {
    await Promise.all(stores.map((store) => store.close()));
    for (const client of clients) client.disconnect();
    await Promise.all(nodes.map((node) => node.stop()));
  }
}

const byRedlock = async (redlock: Redlock, id: string): Promise<() => Promise<unknown>> => {
  const lock = await redlock.acquire([id], TTL_MS);
  return () => redlock.release(lock);
};

const byStore =
  (store: ContextStore): Take =>
  (id) =>
    new Promise((resolve, reject) => {
      const over = store.lock(id, (lock) => {
        return new Promise<void>((end) => {
          resolve(() => {
            end();
            return over;
          });
          lock.signal.addEventListener('abort', () => reject(lock.signal.reason));
        });
      });
      over.catch(reject);
    });

/** Who waits with redlock tries now and then: that it has begun to is all that can be waited for. */
const both = (take: Take) => ({ first: take, second: take, waits: () => new Promise((resolve) => setTimeout(resolve, 5)) });

const untilWaiting = (store: ContextStore) => (id: string) =>
  waitFor(async () => (await store.locks({ ids: [id] }))[0]?.waiters.length === 1, { what: 'a waiter', everyMs: 1 });

async function taken({ rounds, roundMs }: Setting, cycles: Readonly<Record<string, Cycle>>): Promise<Table> {
  const rows: Record<string, string | number | ReturnType<typeof ratio> | null>[] = [];
  for (const concurrency of [1, 16]) {
    const results = await alternate(
      rounds,
      Object.fromEntries(
        Object.entries(cycles).map(([name, cycle]) => [
          name,
          () => throughput(concurrency, roundMs, (worker) => cycle(`x${worker}`)),
        ]),
      ),
    );
    const reference = Object.values(results)[0] ?? [];
    for (const [name, perSecond] of Object.entries(results)) {
      const rival =
        results[name.replace(/^lock, the data server alone/, 'redlock, 1 node').replace(/^lock, .* 5 nodes/, 'redlock, 5 nodes')];
      rows.push({
        what: name,
        concurrency,
        perSecond: median(perSecond),
        each: (1e6 * concurrency) / median(perSecond),
        toReference: perSecond === reference ? null : ratio(perSecond, reference),
        toRedlock: rival === undefined || rival === perSecond ? null : ratio(perSecond, rival),
      });
    }
  }
  return {
    caption: 'Locks taken and released a second, one at a time and 16 side by side on as many contexts (higher is better)',
    columns: [
      column('what', 'What'),
      column('concurrency', 'Side by side', 'number'),
      column('perSecond', 'Locks', 'perSecond'),
      column('each', 'Each', 'microseconds'),
      column('toReference', 'To SET NX PX', 'ratio'),
      column('toRedlock', 'To redlock', 'ratio'),
    ],
    rows,
  };
}

async function handedOver(
  { rounds, quick }: Setting,
  takers: Readonly<
    Record<string, { readonly first: Take; readonly second: Take; readonly waits: (id: string) => Promise<unknown> }>
  >,
): Promise<Table> {
  const times = quick ? 3 : 8;
  let ids = 0;
  const results = await alternate(
    rounds,
    Object.fromEntries(
      Object.entries(takers).map(([name, { first, second, waits }]) => [
        name,
        async () => {
          const all: number[] = [];
          for (let n = 0; n < times; n += 1) {
            ids += 1;
            const id = `hand-over-${ids}`;
            const release = await first(id);
            const next = second(id).then((letGo) => ({ at: performance.now(), letGo }));
            await waits(id);
            // anywhere between two of redlock's attempts
            await new Promise((resolve) => setTimeout(resolve, Math.random() * 50));
            const from = performance.now();
            const released = release();
            const { at, letGo } = await next;
            all.push(at - from);
            await released;
            await letGo();
          }
          return all;
        },
      ]),
    ),
  );
  const rows = Object.entries(results).map(([name, perRound]) => {
    const rival =
      results[name.replace(/^lock, the data server alone/, 'redlock, 1 node').replace(/^lock, .* 5 nodes/, 'redlock, 5 nodes')] ??
      perRound;
    const middle = (of: readonly (readonly number[])[]): number[] => of.map((each) => percentile(each, 0.5));
    return {
      what: name,
      p50: percentile(perRound.flat(), 0.5),
      p99: percentile(perRound.flat(), 0.99),
      times: rival === perRound ? null : ratio(middle(rival), middle(perRound)),
    };
  });
  return {
    caption: 'From the call that releases a lock until the next one, who waits, has it (lower is better)',
    columns: [
      column('what', 'What'),
      column('p50', 'p50', 'milliseconds'),
      column('p99', 'p99', 'milliseconds'),
      column('times', 'times faster than redlock', 'ratio'),
    ],
    rows,
  };
}
