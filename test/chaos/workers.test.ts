import { Queue } from 'bullmq';
import { expect } from 'chai';
import type { Redis } from 'ioredis';
import { ContextStore, type StoreOptions } from '../../src/index.js';
import { queuePrefix } from '../../src/redis/keys.js';
import { SCRIPT_NAMES } from '../../src/redis/scripts.js';
import { exactAccounts } from '../helpers/accounts.js';
import { uniqueNamespace } from '../helpers/namespace.js';
import { type NodeProcess, spawnNode } from '../helpers/processes.js';
import { RedisServer } from '../helpers/RedisServer.js';
import { redisTime, untilRedisTime } from '../helpers/stores.js';
import { TcpProxy } from '../helpers/TcpProxy.js';
import { waitFor } from '../helpers/waitFor.js';
import type { WorkerCommand } from './workerProcess.js';

const WORKER = new URL('./workerProcess.ts', import.meta.url);
const FIVE_MINUTES = 5 * 60_000;

/** Background work while its processes are killed, doubled, and told a wrong time: nothing that lives goes, everything that expired does. */
describe('workers in trouble', function () {
  this.timeout(180_000);
  let server: RedisServer;
  let redis: Redis;
  let options: StoreOptions;
  let namespace: string;
  const processes: NodeProcess[] = [];

  before(async () => {
    server = await RedisServer.start();
    redis = server.client();
  });
  after(() => server.stop());
  beforeEach(() => {
    namespace = uniqueNamespace('workers');
    options = { redis: server.url, namespace, queues: { sweepEvery: '500ms', reconcileEvery: '1s', scrubEvery: '1s' } };
  });
  afterEach(async () => {
    await Promise.all(processes.splice(0).map((one) => one.kill()));
  });

  async function worker(given: { shiftMs?: number; redis?: string } = {}): Promise<NodeProcess> {
    const { shiftMs = 0, redis: url = server.url } = given;
    const process = await spawnNode(WORKER, { args: [String(shiftMs)] });
    processes.push(process);
    await process.request({ do: 'open', options: { ...options, redis: url } } satisfies WorkerCommand);
    return process;
  }
  const plain = (): Promise<ContextStore> => ContextStore.connect({ ...options, workers: 'external', logger: false });

  /** Some that live, and some that expire within a moment; one of each kind that a sweep has to tell apart. */
  async function fill(
    store: ContextStore,
    round: number,
    ttl = 300,
  ): Promise<{ live: string[]; expiring: string[]; at: number }> {
    const live = Array.from({ length: 8 }, (_, n) => `live-${round}-${n}`);
    const expiring = Array.from({ length: 30 }, (_, n) => `short-${round}-${n}`);
    const document = { round, text: 'x'.repeat(500) };
    await Promise.all([
      ...live.map((id, n) => store.set(id, document, n % 2 === 0 ? {} : { ttl: '1h' })),
      ...expiring.map((id, n) => store.set(id, document, { ttl: ttl + n })),
    ]);
    // expires no more: the index must not be what decides
    await store.touch(live[1] ?? '', 'none');
    await store.touch(live[0] ?? '', '2h');
    return { live, expiring, at: (await redisTime(redis)) + ttl + expiring.length };
  }
  /** Sooner than a dead worker's lock runs out, which would be another way to get there. */
  async function swept(store: ContextStore, expiring: readonly string[], what: string): Promise<void> {
    const contexts = expiring.map((id) => store.keysOf(id).context);
    await waitFor(async () => (await redis.exists(...contexts)) === 0, { what, limitMs: 8_000, everyMs: 20 });
  }
  async function withStore(body: (store: ContextStore) => Promise<void>): Promise<void> {
    const store = await plain();
    try {
      await body(store);
    } finally {
      await store.close();
    }
  }
  /** All that live are there with their values, and the accounts agree to the byte. */
  async function sound(store: ContextStore, live: readonly string[]): Promise<void> {
    expect(await exactAccounts(redis, namespace)).to.deep.equal([...live].sort());
    for (const id of live) {
      expect((await store.verify(id))?.ok, id).to.equal(true);
      expect((await store.get(id, { fresh: true }))?.value, id).to.have.property('round');
    }
  }

  it('SIGKILL at every step of a worker: the next one finishes, and nothing is lost or counted twice', () =>
    withStore(async (store) => {
      const live: string[] = [];
      const found = { expired: 0, swept: 0 };
      // the start of the queues, a sweep, its end, the next: whatever is sent, one more each time, before it arrives or after
      // connecting loads each script
      const connected = SCRIPT_NAMES.length + 13;
      for (let step = 1; step <= 60; step += 4) {
        const proxy = await TcpProxy.start(server.port);
        const filled = await fill(store, step, 50);
        live.push(...filled.live);
        await untilRedisTime(redis, filled.at);
        const victim = await spawnNode(WORKER, { args: ['0'] });
        processes.push(victim);
        let seen = 0;
        const off = proxy.drop({
          direction: 'up',
          when: () => {
            seen += 1;
            if (seen === step + connected) void victim.kill();
            // from then on nothing that the process may have sent after its death gets through
            return seen > step + connected || (seen === step + connected && step % 8 === 1);
          },
        });
        await victim.request({ do: 'open', options: { ...options, redis: proxy.url } }).catch(() => {});
        await victim.exited;
        off();
        await proxy.close();
        const left = await redis.exists(...filled.expiring.map((id) => store.keysOf(id).context));
        found[left > 0 ? 'expired' : 'swept'] += 1;
        // two sweeps, by whoever comes next
        for (let round = 0; round < 2; round += 1) await store.maintenance.sweep();
        await sound(store, live);
      }
      // or the deaths were all too early, or all too late
      expect(found.expired, JSON.stringify(found)).to.be.greaterThan(2);
      expect(found.swept, JSON.stringify(found)).to.be.greaterThan(2);
      console.log(`      killed before its sweep ${found.expired} times, after it ${found.swept} times`);
      // and the queues themselves are not stuck
      const filled = await fill(store, 0);
      live.push(...filled.live);
      await worker();
      await swept(store, filled.expiring, 'the sweep after all those deaths');
      await sound(store, live);
    }));

  it('a worker that is killed in the middle of its work is replaced by the other one', () =>
    withStore(async (store) => {
      const live: string[] = [];
      const [first] = [await worker(), await worker()];
      for (let round = 0; round < 4; round += 1) {
        const filled = await fill(store, round);
        live.push(...filled.live);
        if (round === 1) await first?.kill();
        if (round === 2) await worker();
        await swept(store, filled.expiring, `the sweep of round ${round}`);
      }
      await sound(store, live);
    }));

  it('two workers at once tell each expiry with its last version, and remove nothing else', () =>
    withStore(async (store) => {
      const told = new Map<string, number[]>();
      await Promise.all([worker(), worker()]);
      const filled = await fill(store, 1, 800);
      const watching = filled.expiring.map(async (id) => {
        for await (const change of store.watch(id)) {
          told.set(id, [...(told.get(id) ?? []), change.version]);
          if (change.kind === 'expired') return;
        }
      });
      await Promise.all(watching);
      await swept(store, filled.expiring, 'the sweep');
      expect(Object.fromEntries(told)).to.deep.equal(Object.fromEntries(filled.expiring.map((id) => [id, [1]])));
      await sound(store, filled.live);
    }));

  for (const [name, shiftMs] of [
    ['ahead', FIVE_MINUTES],
    ['behind', -FIVE_MINUTES],
  ] as const) {
    describe(`a clock that is five minutes ${name}`, () => {
      it('of the only worker changes nothing', () =>
        withStore(async (store) => {
          const wrong = await worker({ shiftMs });
          const clock = await wrong.request<number>({ do: 'clock' } satisfies WorkerCommand);
          expect(Math.abs(clock - Date.now() - shiftMs)).to.be.lessThan(60_000);
          const live: string[] = [];
          for (let round = 0; round < 3; round += 1) {
            const filled = await fill(store, round);
            live.push(...filled.live);
            await swept(store, filled.expiring, `sweep ${round}`);
          }
          await sound(store, live);
        }));

      it('of one that made the schedule does not keep the others from it', () =>
        withStore(async (store) => {
          const wrong = await worker({ shiftMs });
          const first = await fill(store, 1);
          await swept(store, first.expiring, 'the sweep by a wrong clock');
          await wrong.kill();
          await worker();
          const second = await fill(store, 2);
          await swept(store, second.expiring, 'the sweep by the right clock, on the schedule of the wrong one');
          await sound(store, [...first.live, ...second.live]);
        }));

      it('of one that takes over from the right one does not keep it from its work', () =>
        withStore(async (store) => {
          const right = await worker();
          const first = await fill(store, 1);
          await swept(store, first.expiring, 'the sweep by the right clock');
          await right.kill();
          await worker({ shiftMs });
          const second = await fill(store, 2);
          await swept(store, second.expiring, 'the sweep by a wrong clock, on the schedule of the right one');
          await sound(store, [...first.live, ...second.live]);
        }));
    });
  }

  it('a schedule that a clock a year ahead has made is made anew', () =>
    withStore(async (store) => {
      const prefix = queuePrefix(namespace);
      const queue = new Queue('reconcile', { connection: redis, prefix });
      const wrong = await worker({ shiftMs: 365 * 24 * 3_600_000 });
      await waitFor(async () => (await queue.getCompletedCount()) > 0, { what: 'a reconciliation by the wrong clock' });
      await wrong.kill();
      await worker();
      const now = await redisTime(redis);
      await waitFor(
        async () => {
          const done = await queue.getCompleted();
          return done.some(({ finishedOn = 0 }) => finishedOn < now + 3_600_000);
        },
        { what: 'a reconciliation today', limitMs: 20_000, everyMs: 50 },
      );
      await queue.close();
      await sound(store, []);
    }));
});
