/**
 * Locks on five independent nodes, while nodes are killed, stopped, started again without data and cut off, and while the data server forgets
 * who holds what; holders that are stopped past their time; and a failover that loses the last tokens.
 */
import { expect } from 'chai';
import { ContextStore, type Lock, type StoreOptions } from '../../src/index.js';
import { uniqueNamespace } from '../helpers/namespace.js';
import { type NodeProcess, spawnNode } from '../helpers/processes.js';
import { RedisServer } from '../helpers/RedisServer.js';
import { type Rng, seededRng } from '../helpers/random.js';
import { refusal } from '../helpers/stores.js';
import { TcpProxy } from '../helpers/TcpProxy.js';
import { waitFor } from '../helpers/waitFor.js';
import type { Interval, LockCommand, LockReport } from './lockInstance.js';

const INSTANCE = new URL('./lockInstance.ts', import.meta.url);
const NODES = 5;
const INSTANCES = 3;
const TTL = 1_000;
const MAX_TTL = 1_500;

describe('locks in trouble', function () {
  this.timeout(180_000);
  let data: RedisServer;
  let nodes: RedisServer[];
  let namespace: string;
  let rng: Rng;
  const processes: NodeProcess[] = [];
  const proxies: TcpProxy[] = [];
  const stores: ContextStore[] = [];

  before(async () => {
    data = await RedisServer.start({ appendOnly: true });
    nodes = await Promise.all(Array.from({ length: NODES }, () => RedisServer.start()));
  });
  after(async () => {
    await Promise.all([data, ...nodes].map((server) => server.stop()));
  });
  beforeEach(async () => {
    for (const node of nodes) if (!node.running) await node.restart();
    namespace = uniqueNamespace('locks');
    const seed = Number(process.env.LUKHAS_CHAOS_SEED ?? Math.floor(Math.random() * 2 ** 31));
    console.log(`      seed ${seed} (LUKHAS_CHAOS_SEED)`);
    rng = seededRng(seed);
  });
  afterEach(async () => {
    for (const node of nodes) if (node.running) node.resume();
    await Promise.all(processes.splice(0).map((one) => one.kill()));
    await Promise.all(stores.splice(0).map((store) => store.close()));
    await Promise.all(proxies.splice(0).map((proxy) => proxy.close()));
  });

  const options = (urls: readonly string[] = nodes.map(({ url }) => url)): StoreOptions => ({
    redis: data.url,
    namespace,
    attemptTimeout: '500ms',
    locks: { nodes: urls, ttl: TTL, maxTtl: MAX_TTL },
  });
  const ask = <T = void>(instance: NodeProcess, command: LockCommand): Promise<T> =>
    instance.request<T>(command, { limitMs: 30_000 });
  const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

  async function open(given: StoreOptions = {}): Promise<ContextStore> {
    const store = await ContextStore.connect({ ...options(), workers: 'off', logger: false, ...given });
    stores.push(store);
    return store;
  }

  /** An instance in a process of its own, with a proxy to each node, and one to the data server. */
  async function spawn(given: StoreOptions = {}): Promise<{ instance: NodeProcess; ways: TcpProxy[]; way: TcpProxy }> {
    const [way, ...ways] = (await Promise.all([data, ...nodes].map(({ port }) => TcpProxy.start(port)))) as [
      TcpProxy,
      ...TcpProxy[],
    ];
    proxies.push(way, ...ways);
    const instance = await spawnNode(INSTANCE);
    processes.push(instance);
    await ask(instance, { do: 'open', options: { ...options(ways.map(({ url }) => url)), redis: way.url, ...given } });
    return { instance, ways, way };
  }

  /** No two were held at the same time, and tokens rise with the time at which they were given. */
  function checkIntervals(reports: readonly LockReport[]): void {
    const all = reports.flatMap(({ intervals }, process) => intervals.map((interval) => ({ ...interval, process })));
    all.sort((a, b) => (a.from < b.from ? -1 : 1));
    let previous: (Interval & { process: number }) | undefined;
    for (const interval of all) {
      if (previous !== undefined) {
        const overlap = Number(previous.to - interval.from) / 1e6;
        expect(overlap, `ms in which ${show(previous)} and ${show(interval)} were both held`).to.be.at.most(0);
        expect(interval.token, `the token of ${show(interval)}, after ${show(previous)}`).to.be.above(previous.token);
      }
      previous = interval;
    }
  }
  const show = ({ token, process, lost }: Interval & { process: number }): string =>
    `${token} (process ${process}${lost ? ', lost' : ''})`;

  /** One fault after the other, each for a while, of at most two nodes at a time. */
  async function trouble(ms: number, ways: readonly (readonly TcpProxy[])[]): Promise<Record<string, number>> {
    const redis = data.client();
    const done: Record<string, number> = {};
    const end = performance.now() + ms;
    while (performance.now() < end) {
      const one = rng.int(0, NODES - 1);
      const picked = rng.chance(0.5) ? [one] : [one, (one + rng.int(1, NODES - 1)) % NODES];
      const what = rng.pick(['kill', 'stop', 'restart', 'partition', 'cut off one', 'forget', 'forget'] as const);
      done[what] = (done[what] ?? 0) + 1;
      if (what === 'kill') {
        for (const node of picked) await nodes[node]?.kill();
        await pause(rng.int(100, 500));
        for (const node of picked) await nodes[node]?.restart();
      } else if (what === 'restart') {
        for (const node of picked) await nodes[node]?.restart();
      } else if (what === 'stop') {
        for (const node of picked) await nodes[node]?.pause();
        await pause(rng.int(100, 1_500));
        for (const node of picked) nodes[node]?.resume();
      } else if (what === 'forget') {
        // as a failover that lost it would: the nodes alone keep others out now, and the clock keeps tokens rising
        await redis.del(`{lc:${namespace}:0}:w:x`);
        await redis.hdel(`{lc:${namespace}:0}:mem`, 'fence');
      } else {
        const cut = what === 'partition' ? ways : [rng.pick(ways)];
        const lanes = cut.flatMap((each) => picked.map((node) => each[node] as TcpProxy));
        for (const lane of lanes) lane.pause(rng.pick(['up', 'down', 'both'] as const));
        await pause(rng.int(100, 1_500));
        for (const lane of lanes) lane.resume();
      }
      await pause(rng.int(200, 600));
    }
    return done;
  }

  it('exclude each other while any minority of the nodes fails and the data server forgets', async () => {
    const first = await open();
    await first.lock('x', (lock) => first.set('x', 0, { lock }));
    const instances = await Promise.all(Array.from({ length: INSTANCES }, () => spawn()));
    for (const { instance } of instances) await ask(instance, { do: 'load', id: 'x', ttl: TTL, loops: 2 });
    const done = await trouble(
      12_000,
      instances.map(({ ways }) => ways),
    );
    const reports = await Promise.all(instances.map(({ instance }) => ask<LockReport>(instance, { do: 'report' })));
    const sum = (of: (report: LockReport) => number): number => reports.reduce((total, report) => total + of(report), 0);
    console.log(
      `      ${JSON.stringify(done)}; ${sum(({ intervals }) => intervals.length)} locks, ${sum(({ intervals }) => intervals.filter(({ lost }) => lost).length)} lost, ${sum(({ fenced }) => fenced)} writes fenced; ${JSON.stringify(reports.map(({ errors }) => errors))}`,
    );
    expect(sum(({ intervals }) => intervals.length)).to.be.above(20);
    for (const { intervals } of reports) expect(intervals.length, 'locks of a process').to.be.above(1);
    const expected = ['LOCK_TIMEOUT', 'LOCK_QUORUM', 'LOCK_LOST', 'FENCED'];
    for (const { errors } of reports) expect(expected).to.include.members(Object.keys(errors));
    checkIntervals(reports);
    const counter = (await first.get<number>('x', { fresh: true }))?.value ?? 0;
    const acknowledged = sum((report) => report.acknowledged);
    expect(counter).to.be.within(acknowledged, acknowledged + sum((report) => report.unknown));
  });

  it('are not given by nodes that came back without what they had promised', async () => {
    const store = await open();
    const lock = (await store.tryLock('x')) as Lock;
    await data.client().del(`{lc:${namespace}:0}:w:x`);
    // a majority, one after the other: each is back before the next goes
    for (const node of nodes.slice(0, 3)) await node.restart();
    const other = await open();
    const error = await refusal('LOCK_QUORUM', () => other.lock('x', () => {}, { wait: 200 }));
    expect(error.message).to.match(/0 of 5 lock nodes|2 of 5 lock nodes have answered, 3 are needed/);
    expect(Object.values(error.details.nodes ?? {}).join()).to.include('started again, and takes part in');
    await refusal('LOCK_QUORUM', () => other.tryLock('x'));
    // after the longest time to live they vote again; by then this one is over, and its holder knows
    await other.lock('x', (next) => {
      expect(lock.signal.aborted).to.equal(true);
      expect(next.fencingToken).to.be.above(lock.fencingToken);
    });
  });

  it('a node that never was there before waits too, once the others are in use', async () => {
    const store = await open({ locks: { nodes: nodes.slice(0, 3).map(({ url }) => url), ttl: TTL, maxTtl: MAX_TTL } });
    await store.lock('x', () => {});
    const more = await open();
    // three vote, two are new
    await more.lock('x', () => {});
    const redis = (nodes[4] as RedisServer).client();
    const marker = `{lc:${namespace}}:node`;
    const ready = Number(Object.values(await redis.hgetall(marker))[0]);
    expect(ready).to.be.above(Number((await redis.time())[0]) * 1000 - 1_000);
    await Promise.all(nodes.slice(0, 3).map((node) => node.pause()));
    await refusal('LOCK_QUORUM', () => more.lock('y', () => {}, { wait: 0 }));
  });

  it('contention and outage are told apart', async () => {
    const [store, other] = await Promise.all([open(), open()]);
    const lock = (await store.tryLock('x')) as Lock;
    await data.client().del(`{lc:${namespace}:0}:w:x`);
    const contention = await refusal('LOCK_TIMEOUT', () => other.lock('x', () => {}, { wait: 50 }));
    expect(contention.message).to.match(/somebody holds it on [3-5] of 5 lock nodes/);
    expect(await other.tryLock('x')).to.equal(null);
    await lock.release();
    await Promise.all(nodes.slice(0, 3).map((node) => node.pause()));
    const outage = await refusal('LOCK_QUORUM', () => other.lock('y', () => {}, { wait: 50 }));
    expect(Object.keys(outage.details.nodes ?? {})).to.have.members(nodes.slice(0, 3).map(({ port }) => `127.0.0.1:${port}`));
    expect([outage.retryable, contention.retryable]).to.deep.equal([true, true]);
    // what was taken on the way is not kept
    await waitFor(async () => (await other.locks()).length === 0, { what: 'the lock book to be empty' });
  });

  it('the signal comes before the time to live is over on any node, when a majority is cut off', async () => {
    const lanes = await Promise.all(nodes.map(({ port }) => TcpProxy.start(port)));
    proxies.push(...lanes);
    const clients = nodes.map((node) => node.client());
    await Promise.all(clients.map((client) => client.ping()));
    const store = await open({ locks: { nodes: lanes.map(({ url }) => url), ttl: TTL, maxTtl: MAX_TTL } });
    const lock = (await store.tryLock('x')) as Lock;
    const left = new Promise<number[]>((resolve) => {
      lock.signal.addEventListener('abort', () => {
        const asked = clients.map(async (client) => Number(await client.pttl(`{lc:${namespace}}:held:x`)));
        void Promise.all(asked).then(resolve);
      });
    });
    for (const lane of lanes.slice(0, 3)) lane.pause();
    // the others are extended for as long as it holds
    for (const ms of await left) expect(ms, 'left of the time to live on a node when the signal came').to.be.above(0);
    await refusal('FENCED', () => store.set('x', 1, { lock }));
  });

  it('a holder that was stopped past its time to live cannot write, whether its clock went on or stood still', async () => {
    for (const clock of ['went on', 'stood still']) {
      const { instance } = await spawn();
      const store = await open();
      const token = await ask<number>(instance, { do: 'hold', id: clock, ttl: 1_000 });
      await ask(instance, { do: 'write', id: clock, value: 'of the first' });
      if (clock === 'stood still') await ask(instance, { do: 'stop the clock' });
      instance.signal('SIGSTOP');
      await store.lock(clock, async (next) => {
        expect(next.fencingToken).to.be.above(token);
        // the first thing it does when it wakes
        const woken = ask(instance, { do: 'write', id: clock, value: 'of the first again' }).catch((thrown: unknown) => thrown);
        instance.signal('SIGCONT');
        const error = (await woken) as Error & { code?: string };
        expect(error.code).to.equal('FENCED');
        // with its clock it would not have known: Redis refuses it, although the next one has not written yet
        if (clock === 'stood still') expect(error.message).to.include(`the newest fencing token is ${next.fencingToken}`);
        await store.set(clock, 'of the second', { lock: next });
      });
      await waitFor(() => ask<boolean>(instance, { do: 'lost' }), { what: 'the first to know' });
      expect((await store.get(clock, { fresh: true }))?.value).to.equal('of the second');
      expect((await store.history(clock)).map(({ version }) => version)).to.deep.equal([2, 1]);
    }
  });

  it('a holder that was killed loses its lock to the next after its time to live', async () => {
    const { instance } = await spawn();
    const store = await open();
    const token = await ask<number>(instance, { do: 'hold', id: 'x', ttl: 500 });
    await instance.kill();
    await store.lock('x', (next) => void expect(next.fencingToken).to.be.above(token));
  });

  it('a write that was sent while the lock was held is refused by Redis when it comes after that', async () => {
    const { instance, way } = await spawn({ attemptTimeout: '20s', timeout: '20s', locks: {} });
    const store = await open({ locks: {} });
    const token = await ask<number>(instance, { do: 'hold', id: 'x', ttl: 500 });
    way.pause('up');
    const late = ask(instance, { do: 'write', id: 'x', value: 'late' }).catch((thrown: unknown) => thrown);
    await store.lock('x', async (next) => {
      expect(next.fencingToken).to.be.above(token);
      // the next one has not written yet
      way.resume('up');
      const error = (await late) as Error & { code?: string };
      expect(error.code).to.equal('FENCED');
      expect(error.message).to.include(`the newest fencing token is ${next.fencingToken}`);
    });
    expect(await store.get('x', { fresh: true })).to.equal(null);
  });

  it('tokens rise across the promotion of a replica that lost the last of them, and when the context is made anew', async () => {
    const master = await RedisServer.start();
    const replica = await RedisServer.start();
    const link = await TcpProxy.start(master.port);
    proxies.push(link);
    try {
      const given = { redis: master.url, locks: {} };
      const tokens: number[] = [];
      const take = async (store: ContextStore): Promise<void> => {
        await store.lock('x', async (lock) => {
          tokens.push(lock.fencingToken);
          await store.set('x', tokens.length, { lock });
        });
      };
      const before = await open(given);
      await take(before);
      await replica.cli('REPLICAOF', '127.0.0.1', String(link.port));
      const counter = `{lc:${namespace}:0}:mem`;
      await waitFor(async () => (await replica.client().hget(counter, 'fence')) === String(tokens[0]), {
        what: 'the replica to have the first token',
        limitMs: 15_000,
      });
      link.refuse(true);
      link.cut();
      await take(before);
      await before.delete('x');
      for (let n = 0; n < 20; n += 1) await take(before);
      await master.kill();
      await replica.cli('REPLICAOF', 'NO', 'ONE');
      expect(await replica.client().hget(counter, 'fence')).to.equal(String(tokens[0]));
      const after = await open({ ...given, redis: replica.url });
      await take(after);
      await after.delete('x');
      await take(after);
      expect(tokens).to.deep.equal([...new Set(tokens)].sort((a, b) => a - b));
    } finally {
      await Promise.all([master.stop(), replica.stop()]);
    }
  });
});
