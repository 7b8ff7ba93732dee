import { expect } from 'chai';
import { ContextStore } from '../../src/index.js';
import { uniqueNamespace } from '../helpers/namespace.js';
import { RedisServer } from '../helpers/RedisServer.js';
import { TcpProxy } from '../helpers/TcpProxy.js';
import { waitFor } from '../helpers/waitFor.js';
import { type Instance, Rig } from './Rig.js';

const INSTANCES = 3;

describe('replies that are lost under a load of increments', function () {
  this.timeout(90_000);
  let rig: Rig;
  let proxy: TcpProxy;
  let instances: Instance[];
  before(async () => {
    rig = await Rig.start({ contexts: 1 });
    proxy = await TcpProxy.start(rig.server.port);
    instances = await rig.instances(INSTANCES, { redis: proxy.url });
  });
  after(async () => {
    await proxy.close();
    await rig.end();
  });

  const counter = async (): Promise<number> => {
    const data = await rig.redis.hget(`{lc:${rig.namespace}:0}:c:${rig.ids[0]}`, 'data');
    return data === null ? 0 : (JSON.parse(data) as { n: number }).n;
  };

  /** Some seconds of connections that break: anywhere, or after a write has gone to Redis and before its reply has come back. */
  async function cutFor(ms: number): Promise<void> {
    const end = performance.now() + ms;
    while (performance.now() < end) {
      if (rig.rng.chance(0.5)) proxy.cut();
      else proxy.cutAfterNextUpstreamMatch('evalsha').catch(() => {});
      await rig.pause(rig.rng.int(20, 120));
    }
  }

  /** Increments that were acknowledged, and those that nobody knows of. */
  async function count(
    timeoutMs: number,
    pauseMs: number,
  ): Promise<{ acknowledged: number; unknown: number; refused: string[] }> {
    await rig.load(instances, { kind: 'counting', loops: 3, pauseMs, timeoutMs });
    await cutFor(4_000);
    const tallies = await rig.stop(instances);
    return {
      acknowledged: tallies.reduce((sum, tally) => sum + tally.acknowledged, 0),
      unknown: tallies.reduce((sum, tally) => sum + tally.unknown, 0),
      refused: tallies.flatMap((tally) => Object.keys(tally.refused)),
    };
  }

  it('with time to try again the counter is exactly what was acknowledged', async () => {
    // so few that the log still reaches back, however long one of the processes takes to connect again
    const { acknowledged, unknown, refused } = await count(20_000, 25);
    expect(refused).to.deep.equal([]);
    expect(unknown).to.equal(0);
    expect(acknowledged).to.be.above(50);
    expect(await counter()).to.equal(acknowledged);
  });

  it('without it, at most what was said to be unknown comes to it, and nothing was applied twice', async () => {
    const before = await counter();
    const { acknowledged, unknown } = await count(60, 4);
    const added = (await counter()) - before;
    expect(unknown).to.be.above(0);
    expect(added).to.be.within(acknowledged, acknowledged + unknown);
    await rig.finish([]);
  });
});

describe('a write whose reply was lost, and its frame as well', function () {
  this.timeout(30_000);
  let server: RedisServer;
  let proxy: TcpProxy;
  let store: ContextStore;
  let losing = false;

  before(async () => {
    server = await RedisServer.start({ appendOnly: true });
    proxy = await TcpProxy.start(server.port);
    proxy.drop({ direction: 'down', when: (chunk) => losing && chunk.includes('lc2 ') });
    store = await ContextStore.connect({
      redis: proxy.url,
      namespace: uniqueNamespace('reply'),
      heartbeat: '1h',
      attemptTimeout: '200ms',
      workers: 'off',
      logger: false,
    });
  });
  after(async () => {
    await store.close();
    await proxy.close();
    await server.stop();
  });
  afterEach(() => {
    losing = false;
  });

  type Write = (id: string) => Promise<{ readonly version: number } | null>;
  const writes: readonly (readonly [name: string, write: Write])[] = [
    ['set', (id) => store.set(id, { n: 1 })],
    [
      'update',
      (id) =>
        store.update<{ n: number }>(id, (draft) => {
          draft.n = 1;
        }),
    ],
    ['patch', (id) => store.patch(id, [{ op: 'replace', path: '/n', value: 1 }])],
    ['delete', (id) => store.delete(id)],
  ];
  for (const [name, write] of writes) {
    it(`${name}: is what its own process reads after it was acknowledged`, async () => {
      const id = `own-${name}`;
      await store.set(id, { n: 0 });
      await waitFor(
        async () => {
          const { hits } = (await store.stats()).replicas;
          await store.get(id);
          return (await store.stats()).replicas.hits > hits;
        },
        { what: 'an answer from memory' },
      );
      losing = true;
      const lost = proxy.cutAfterNextUpstreamMatch(`:c:${id}`);
      expect((await write(id))?.version).to.equal(2);
      await lost;
      expect((await store.get(id))?.value ?? null).to.deep.equal(name === 'delete' ? null : { n: 1 });
    });
  }
});
