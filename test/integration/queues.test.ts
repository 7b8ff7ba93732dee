import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Queue } from 'bullmq';
import { expect } from 'chai';
import { reconcilePass } from '../../queues/reconcile.js';
import { type ScrubProgress, savedProgress, scrubPass } from '../../queues/scrub.js';
import { type WorkDone, Workers, type WorkersOptions } from '../../queues/Workers.js';
import { QUEUE_NAMES, type QueueName } from '../../queues/work.js';
import type { ContextStore, StoreOptions } from '../../src/index.js';
import { queuePrefix } from '../../src/redis/keys.js';
import { InlineWorkers } from '../../src/store/workersHook.js';
import { exactAccounts } from '../helpers/accounts.js';
import { RedisServer } from '../helpers/RedisServer.js';
import { RecordingLogger, record, redisTime, untilRedisTime, useStores } from '../helpers/stores.js';
import { TcpProxy } from '../helpers/TcpProxy.js';
import { waitFor } from '../helpers/waitFor.js';

const FAST = { sweepEvery: '300ms', reconcileEvery: '1s', scrubEvery: '1s' } as const;
const never = new AbortController().signal;

describe('background queues', function () {
  this.timeout(60_000);
  const stores = useStores();
  const running: Workers[] = [];
  const queues: Queue[] = [];
  afterEach(async () => {
    await Promise.all(running.splice(0).map((workers) => workers.close()));
    await Promise.all(queues.splice(0).map((queue) => queue.close()));
  });

  async function work(
    store: ContextStore,
    options: Partial<WorkersOptions> = {},
  ): Promise<{ workers: Workers; done: WorkDone[] }> {
    const done: WorkDone[] = [];
    const logger = new RecordingLogger();
    const workers = await Workers.start(store.maintenance, { logger, done: (one) => done.push(one), ...options });
    running.push(workers);
    return { workers, done };
  }
  async function look(name: QueueName): Promise<Queue> {
    const queue = new Queue(name, { connection: await stores.redis(), prefix: queuePrefix(stores.namespace) });
    queues.push(queue);
    return queue;
  }
  const external = (options: StoreOptions = {}): Promise<ContextStore> =>
    stores.open({ workers: 'external', queues: FAST, ...options });
  const gone = (store: ContextStore, id: string): Promise<unknown> =>
    waitFor(async () => (await (await stores.redis()).exists(store.keysOf(id).context)) === 0, { what: `${id} to be swept` });

  describe('one schedule', () => {
    it('stands once, however many processes take part, and each job is done by one of them', async () => {
      const [a, b, c] = await Promise.all([external(), external(), external()]);
      const all = [await work(a as ContextStore), await work(b as ContextStore), await work(c as ContextStore)];
      const queue = await look('reconcile');
      const jobs = (): string[] => all.flatMap(({ done }) => done.map(({ job }) => job));
      await waitFor(() => jobs().filter((job) => job.includes('reconcile')).length >= 3, {
        what: 'three reconciliations',
        limitMs: 15_000,
      });
      expect(await queue.getJobSchedulersCount()).to.equal(1);
      expect(await queue.getDelayedCount()).to.be.at.most(1);
      expect(new Set(jobs()).size, 'jobs done twice').to.equal(jobs().length);
    });

    it('comes back when its keys are lost', async () => {
      const store = await external();
      const { done } = await work(store, { queues: ['sweep'] });
      await waitFor(() => done.length > 0, { what: 'a sweep' });
      const redis = await stores.redis();
      const keys = await redis.keys(`${queuePrefix(stores.namespace)}:*`);
      await redis.del(...keys);
      const before = done.length;
      await waitFor(() => done.length > before + 1, { what: 'sweeps after that', limitMs: 10_000 });
    });
  });

  describe('sweep', () => {
    it('takes out what expires, soon after it does, and tells it once', async () => {
      const store = await external();
      const events = record(store, 'context:expired');
      await work(store, { queues: ['sweep'] });
      for (let n = 0; n < 20; n += 1) await store.set(`s${n}`, n, { ttl: 100 + 10 * n });
      await store.set('live', 1, { ttl: '1h' });
      await store.set('for ever', 1);
      for (let n = 0; n < 20; n += 1) await gone(store, `s${n}`);
      await waitFor(() => events.length === 20, { what: 'an event for each' });
      expect(events.map(({ id, version }) => `${id} ${version}`).sort()).to.deep.equal(
        Array.from({ length: 20 }, (_, n) => `s${n} 1`).sort(),
      );
      expect(await exactAccounts(await stores.redis(), stores.namespace)).to.deep.equal(['for ever', 'live']);
    });

    it('is done by `inline` stores, and not by `external` ones', async () => {
      const bystander = await external({ heartbeat: '20ms' });
      const told = record(bystander, 'context:expired');
      await bystander.set('a', 1, { ttl: 1 });
      const redis = await stores.redis();
      // several heartbeats of the one that leaves it to others
      for (let beat = 0; beat < 3; beat += 1) {
        const { commands } = (await bystander.stats()).connection;
        expect(commands).to.equal('up');
        await new Promise((resolve) => setTimeout(resolve, 25));
      }
      expect(await redis.exists(bystander.keysOf('a').context)).to.equal(1);
      expect(told).to.deep.equal([]);
      await stores.open({ workers: 'inline', queues: FAST });
      await gone(bystander, 'a');
    });

    it('is done by the heartbeat where there are no queues', async () => {
      const store = await stores.open({ workers: 'off', heartbeat: '20ms' });
      await store.set('a', 1, { ttl: 1 });
      await gone(store, 'a');
      expect(await (await stores.redis()).keys(`${queuePrefix(stores.namespace)}*`)).to.deep.equal([]);
    });
  });

  describe('scrub', () => {
    async function fill(store: ContextStore, count: number, bytes: number): Promise<void> {
      for (let n = 0; n < count; n += 1) await store.set(`c${n}`, { n, text: 'x'.repeat(bytes) });
    }
    const all = async (store: ContextStore, more: object = {}): Promise<ScrubProgress> =>
      scrubPass(store.maintenance, { signal: never, rate: 1e9, heal: async () => false, ...more });

    it('looks at every context, however they are stored, and finds what is damaged', async () => {
      const store = await external({ shards: 3 });
      await fill(store, 300, 200);
      await store.set('large', 'y'.repeat(100_000));
      await store.update('large', (draft) => `${String(draft)}z`);
      expect(await all(store)).to.deep.include({ checked: 301, total: 301, damaged: 0, quarantined: 0 });
      const redis = await stores.redis();
      const bytes = await redis.hgetBuffer(store.keysOf('c77').context, 'data');
      (bytes as Buffer)[50] = ((bytes as Buffer)[50] ?? 0) ^ 4;
      await redis.hset(store.keysOf('c77').context, 'data', bytes as Buffer);
      await redis.hset(store.keysOf('large').context, 'd2', 'gone');
      const found: string[] = [];
      const asked: string[] = [];
      const result = await all(store, {
        found: ({ id, what }: { id: string; what: string }) => found.push(`${id}: ${what}`),
        heal: async (id: string) => {
          asked.push(id);
          return id === 'c77';
        },
      });
      expect(result).to.deep.include({ checked: 301, damaged: 2, healed: 1 });
      expect(found.sort()).to.deep.equal(['c77: sha1', 'large: chunk d2']);
      expect(asked.sort()).to.deep.equal(['c77', 'large']);
    });

    it('keeps to its rate', async () => {
      const store = await external();
      await fill(store, 40, 10_000);
      const rate = 1024 * 1024;
      const begun = performance.now();
      const { bytes } = await all(store, { rate });
      // at least: never faster than it may be (a quarter of a second's bytes come at once)
      expect(performance.now() - begun).to.be.at.least((1000 * bytes) / rate - 500);
      expect(bytes).to.be.greaterThan(400_000);
    });

    it('that is closed gives its job back, unlocked, and the next worker goes on where it was', async () => {
      const slow = await external({ queues: { ...FAST, scrubEvery: '1h', scrubRate: '64kb' } });
      await fill(slow, 200, 2_000);
      const { workers } = await work(slow, { queues: ['scrub'] });
      const queue = await look('scrub');
      const saved = await waitFor(
        async () => {
          const [job] = await queue.getActive();
          const progress = savedProgress(job?.progress);
          return progress !== null && progress.position?.cursor !== '0' && progress;
        },
        { what: 'progress past the first page', limitMs: 20_000 },
      );
      await workers.close();
      expect([await queue.getActiveCount(), await queue.getWaitingCount(), await queue.getFailedCount()]).to.deep.equal([
        0, 1, 0,
      ]);
      expect(await (await stores.redis()).keys(`${queuePrefix(stores.namespace)}:*:lock`)).to.deep.equal([]);
      const quick = await external({ queues: { ...FAST, scrubEvery: '1h', scrubRate: '64mb' } });
      const { done } = await work(quick, { queues: ['scrub'] });
      const [first] = await waitFor(() => done.length > 0 && done, { what: 'the end of the scrub', limitMs: 15_000 });
      const checked = (first?.result as ScrubProgress | undefined)?.checked;
      // the page in which it was stopped is done twice; begun anew it would be all that was done before
      expect(saved.checked).to.be.at.least(50);
      expect(checked).to.be.within(200, 260);
    });

    it('takes up only what it has saved itself', () => {
      const good = {
        position: { shard: 0, cursor: '12' },
        checked: 1,
        total: 2,
        bytes: 3,
        damaged: 0,
        healed: 0,
        quarantined: 0,
      };
      expect(savedProgress(good)).to.deep.equal(good);
      for (const bad of [
        0,
        null,
        {},
        'x',
        { ...good, checked: 'x' },
        { ...good, position: null },
        { ...good, position: { shard: 0, cursor: '*' } },
      ])
        expect(savedProgress(bad), JSON.stringify(bad)).to.equal(null);
    });
  });

  describe('reconcile', () => {
    const all = (store: ContextStore) =>
      reconcilePass(store.maintenance, {
        signal: never,
        heal: async () => false,
        recover: (id) => store.maintenance.recover(id),
      });

    it('finds nothing to mend in what the store has written, through all its ways of writing', async () => {
      const store = await external({ shards: 2 });
      for (let n = 0; n < 60; n += 1) await store.set(`c${n}`, { n }, n % 3 === 0 ? { ttl: '1h' } : {});
      await store.set('large', 'y'.repeat(100_000));
      await store.update('large', (draft) => `${String(draft)}z`);
      await store.touch('c1', '2h');
      await store.delete('c2');
      expect((await all(store)).fixed).to.not.have.any.keys(
        'indexed',
        'dropped',
        'expiries',
        'sizes',
        'tombstones',
        'leftovers',
        'expired',
      );
      await exactAccounts(await stores.redis(), stores.namespace, 2);
      expect(await all(store)).to.deep.include({ fixed: {}, lost: 0, damaged: 0, unsettled: 0 });
    });

    it('mends everything in one pass, wherever it hides: indexes, totals, and keys that no index knows', async () => {
      const store = await external({ shards: 2 });
      for (let n = 0; n < 40; n += 1) await store.set(`c${n}`, { n }, { ttl: '1h' });
      const redis = await stores.redis();
      const tagOf = (id: string): string => store.keysOf(id).context.split(':c:')[0] ?? '';
      await redis.zrem(`${tagOf('c1')}:use`, 'c1');
      await redis.del(`${tagOf('c2')}:exp`);
      await redis.hset(`${tagOf('c3')}:mem`, 'bytes', 5, 'contexts', -3);
      await redis.zadd(`${tagOf('ghost')}:size`, 700, 'ghost');
      await redis.zadd(`${tagOf('spook')}:exp`, 4e12, 'spook');
      await redis.hset(`${tagOf('bit')}:o:bit`, 'data', 'x');
      await redis.hset(`${tagOf('old')}:k:old`, 'data', 'x');
      await redis.del(store.keysOf('c4').context);
      const result = await all(store);
      expect(result.fixed).to.include({ indexed: 1, dropped: 3, leftovers: 2 });
      expect(result.fixed.expiries).to.be.greaterThan(0);
      // of what vanished one is put together again from its log, of the other there is none
      expect(result).to.include({ recovered: 1, lost: 0, damaged: 0 });
      expect((await store.get('c4', { fresh: true }))?.value).to.deep.equal({ n: 4 });
      const ids = Array.from({ length: 40 }, (_, n) => `c${n}`);
      expect((await exactAccounts(redis, stores.namespace, 2)).sort()).to.deep.equal(ids.sort());
      expect(await redis.exists(`${tagOf('bit')}:o:bit`, `${tagOf('old')}:k:old`)).to.equal(0);
      expect(await redis.zscore(`${tagOf('c2')}:exp`, 'c2')).to.not.equal(null);
      expect(await all(store)).to.deep.include({ fixed: {}, lost: 0 });
    });

    it('sums a shard that is too large for one call over several, and leaves it while accounts change', async () => {
      const store = await external();
      for (let n = 0; n < 5_100; n += 100) await Promise.all(Array.from({ length: 100 }, (_, at) => store.set(`c${n + at}`, n)));
      const redis = await stores.redis();
      const mem = `${store.keysOf('c0').context.split(':c:')[0]}:mem`;
      const right = await redis.hgetall(mem);
      expect(await all(store)).to.deep.include({ fixed: {}, unsettled: 0 });
      await redis.hset(mem, 'bytes', 77, 'contexts', 1);
      expect(await all(store)).to.deep.include({ fixed: { totals: 2 }, unsettled: 0 });
      expect(await redis.hgetall(mem)).to.deep.equal(right);
      // somebody writes whenever the totals are looked at
      await redis.hset(mem, 'bytes', 77);
      let writing = true;
      const writer = (async () => {
        for (let n = 0; writing; n += 1) await store.set(`w${n}`, 'x'.repeat(n % 50));
      })();
      const result = await all(store);
      writing = false;
      await writer;
      if (result.unsettled === 0) expect(result.fixed.totals).to.be.greaterThan(0);
      else expect(result.unsettled).to.be.at.most(4);
      expect((await all(store)).unsettled).to.equal(0);
      const sum = (await redis.zrange(`${mem.slice(0, -4)}:size`, '0', '-1', 'WITHSCORES')).filter((_, at) => at % 2 === 1);
      expect(Number(await redis.hget(mem, 'bytes'))).to.equal(sum.reduce((total, each) => total + Number(each), 0));
    });

    it('tells what Redis removed by itself, with its last version', async () => {
      const store = await external();
      await store.set('a', 1, { ttl: '1h' });
      const watched: string[] = [];
      const watching = (async () => {
        for await (const { kind, version } of store.watch('a')) {
          watched.push(`${kind} ${version}`);
          if (kind === 'expired') return;
        }
      })();
      await store.set('a', 2, { ttl: 50 });
      const redis = await stores.redis();
      await untilRedisTime(redis, (await redisTime(redis)) + 60);
      await redis.del(store.keysOf('a').context);
      expect((await all(store)).fixed).to.deep.equal({ expired: 1 });
      await watching;
      expect(watched.at(-1)).to.equal('expired 2');
      await exactAccounts(redis, stores.namespace);
    });

    it('runs as a job and says what it did', async () => {
      const store = await external();
      await store.set('a', 1);
      const redis = await stores.redis();
      await redis.zincrby(`${store.keysOf('a').context.split(':c:')[0]}:size`, 3, 'a');
      const { done } = await work(store, { queues: ['reconcile'] });
      await waitFor(() => done.some(({ result }) => (result as { fixed?: { sizes?: number } } | undefined)?.fixed?.sizes === 1), {
        what: 'the account to be mended',
      });
      await exactAccounts(redis, stores.namespace);
    });
  });

  describe('with Redis in trouble', () => {
    let server: RedisServer;
    beforeEach(async () => {
      server = await RedisServer.start({ appendOnly: true });
    });
    afterEach(() => server.stop());

    it('go on by themselves after a restart', async () => {
      const store = await external({ redis: server.url, timeout: '10s' });
      await work(store, { queues: ['sweep'] });
      await store.set('a', 1, { ttl: 200 });
      const redis = server.client();
      const swept = (id: string): Promise<unknown> =>
        waitFor(async () => (await redis.exists(store.keysOf(id).context)) === 0, { what: `${id} to be swept`, limitMs: 20_000 });
      await swept('a');
      await server.kill();
      await server.restart();
      await store.set('b', 1, { ttl: 200 });
      await swept('b');
    });

    it('outlive flipped bits in what Redis sends them', async () => {
      const proxy = await TcpProxy.start(server.port);
      try {
        const store = await external({ redis: server.url });
        const away = await external({ redis: proxy.url, timeout: '20s' });
        const { done } = await work(away, { queues: ['sweep', 'reconcile'] });
        await waitFor(() => done.length > 0, { what: 'some work' });
        const off = proxy.flip(0.05);
        await waitFor(() => proxy.faults.flipped > 15, { what: 'bits to be flipped', limitMs: 20_000 });
        off();
        await store.set('a', 1, { ttl: 50 });
        const redis = server.client();
        await waitFor(async () => (await redis.exists(store.keysOf('a').context)) === 0, { what: 'the sweep', limitMs: 30_000 });
      } finally {
        await proxy.close();
      }
    });

    it('close all the same when it is dead', async () => {
      const store = await external({ redis: server.url });
      const { workers, done } = await work(store, { closeMs: 500 });
      await waitFor(() => done.length > 0, { what: 'some work' });
      await server.kill();
      await workers.close();
      await store.close();
    });

    for (const [name, paused] of [
      ['before their connection stands', true],
      ['while the schedules are being made', false],
    ] as const)
      it(`end at once where they are closed ${name}, and Redis does not answer`, async () => {
        const store = await external({ redis: server.url, attemptTimeout: '500ms' });
        const logger = new RecordingLogger();
        if (paused) await server.pause();
        const inline = new InlineWorkers();
        inline.begin(store.maintenance, logger);
        if (!paused) {
          const client = server.client();
          await waitFor(async () => /name=\S*:queues /.test(String(await client.client('LIST'))), { what: 'their connection' });
          await server.pause();
        }
        let closed = '';
        void inline
          .close()
          .then(() => {
            closed = 'workers';
            return store.close();
          })
          .then(() => {
            closed = 'store';
          });
        // one attempt and a little; a start that is waited for takes ten seconds more
        await waitFor(() => closed === 'store', { what: `the end (so far: ${closed})`, limitMs: 7_000 });
        server.resume();
        expect(logger.at('error')).to.deep.equal([]);
        expect(inline.up).to.equal(false);
      });

    it('let the process end by itself although Redis is dead', async () => {
      const script = fileURLToPath(new URL('../helpers/closingWorkers.ts', import.meta.url));
      const { stdout } = await promisify(execFile)(
        process.execPath,
        ['--import', 'tsx', script, server.url, stores.namespace, String(server.pid)],
        { timeout: 30_000, killSignal: 'SIGKILL' },
      );
      expect(stdout).to.equal('working\nclosed\n');
    });
  });

  it('let the process end by itself, and leave nothing on the server', async () => {
    const server = await RedisServer.start();
    try {
      const script = fileURLToPath(new URL('../helpers/closingStore.ts', import.meta.url));
      const args = [server.url, stores.namespace, JSON.stringify({ workers: 'inline', queues: FAST })];
      const { stdout, stderr } = await promisify(execFile)(process.execPath, ['--import', 'tsx', script, ...args], {
        timeout: 20_000,
        killSignal: 'SIGKILL',
      });
      expect({ stdout, stderr }).to.deep.equal({ stdout: 'change 1\nchange 2\nclosed\n', stderr: '' });
      expect(await server.cli('client', 'list'))
        .to.not.contain('bull')
        .and.not.contain('lukhas-context');
      expect(await server.cli('keys', `${queuePrefix(stores.namespace)}:*:lock`)).to.equal('');
    } finally {
      await server.stop();
    }
  });

  describe('as a Redis user', () => {
    let server: RedisServer;
    before(async () => {
      const rule =
        '~{lc:* &{lc:* +@read +@write +@scripting +@pubsub +@connection +memory|usage +info +time +script|load -@dangerous +info';
      server = await RedisServer.start({ acl: [`app on >secret ${rule}`, `less on >secret ${rule} -incr`] });
    });
    after(() => server.stop());

    it('with the rights that the README names run all three', async () => {
      const store = await external({ redis: server.urlFor('app', 'secret') });
      const redis = server.client();
      const corrupt = record(store, 'context:corrupt');
      const repaired = record(store, 'context:repaired');
      await store.set('healed', { n: 1, text: 'x'.repeat(300) });
      await store.set('mended', { n: 2 });
      await store.set('checked', { n: 3 });
      await store.set('gone', 1, { ttl: 50 });
      const flip = (id: string): Promise<number> => redis.hset(store.keysOf(id).context, 'data', '"damaged"');
      await flip('healed');
      const { done } = await work(store);
      await waitFor(() => QUEUE_NAMES.every((name) => done.some(({ queue, result }) => queue === name && result !== undefined)), {
        what: 'each queue to have worked',
        limitMs: 10_000,
      });
      await waitFor(() => repaired.some(({ id }) => id === 'healed'), { what: 'the scrub to have it healed', limitMs: 10_000 });
      expect(corrupt[0]).to.include({ id: 'healed', where: 'scrub' });
      await waitFor(async () => (await redis.exists(store.keysOf('gone').context)) === 0, { what: 'the sweep' });
      // and what the workers do not do
      await flip('mended');
      expect((await store.get('mended', { fresh: true }))?.value).to.deep.equal({ n: 2 });
      await flip('checked');
      expect((await store.verify('checked'))?.ok).to.equal(false);
      expect((await store.repair('checked')).outcome).to.be.oneOf(['repaired', 'sound']);
      for (const id of ['healed', 'mended', 'checked']) {
        expect((await store.verify(id))?.ok, id).to.equal(true);
        expect(await store.maintenance.sound(id), id).to.equal(true);
      }
      expect(done.filter(({ error }) => error !== undefined)).to.deep.equal([]);
    });

    it('without them say so, and the heartbeat sweeps', async () => {
      const logger = new RecordingLogger();
      const redis = server.urlFor('less', 'secret');
      const store = await stores.open({ redis, workers: 'inline', queues: FAST, heartbeat: '20ms', logger });
      const [line] = await waitFor(() => logger.at('error').length > 0 && logger.at('error'), { what: 'an error to be logged' });
      expect(line?.message).to.include('docs/QUEUES.md');
      expect(line?.fields.error).to.include('this Redis user may not run the background queues');
      await store.set('a', 1, { ttl: 1 });
      const client = server.client();
      await waitFor(async () => (await client.exists(store.keysOf('a').context)) === 0, { what: 'the sweep' });
    });
  });
});
