import { randomInt } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import type { StoreOptions } from '../../src/index.js';
import { type Operation, readHistory } from '../helpers/history.js';
import { expectLinearizable, findViolation } from '../helpers/linearizability.js';
import { type ContextInput, type ContextOutput, contextModel } from '../helpers/linearizabilityModels.js';
import { uniqueNamespace } from '../helpers/namespace.js';
import { type NodeProcess, spawnNode } from '../helpers/processes.js';
import { RedisServer } from '../helpers/RedisServer.js';
import { seededRng } from '../helpers/random.js';
import { TcpProxy } from '../helpers/TcpProxy.js';
import { waitFor } from '../helpers/waitFor.js';
import type { RecordedCommand, RecordedLoad } from './recordingInstance.js';

const INSTANCE = new URL('./recordingInstance.ts', import.meta.url);
const IDS = Array.from({ length: 6 }, (_, number) => `context-${number}`);

type Recorded = Operation<ContextInput, ContextOutput>;

describe('recorded histories of single contexts', function () {
  this.timeout(120_000);
  const seed = Number(process.env.LUKHAS_CHAOS_SEED ?? randomInt(2 ** 30));
  const rng = seededRng(seed);
  let folder: string;
  let server: RedisServer;
  let proxy: TcpProxy;
  let namespace: string;
  let files: string[];
  let instances: NodeProcess[];
  before(() => console.log(`      seed ${seed} (LUKHAS_CHAOS_SEED)`));
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'lukhas-histories-'));
    server = await RedisServer.start({ appendOnly: true });
    proxy = await TcpProxy.start(server.port);
    namespace = uniqueNamespace('history');
    files = [];
    instances = [];
  });
  afterEach(async function () {
    await Promise.all(instances.map((instance) => instance.kill()));
    await proxy.close();
    await server.stop();
    if (this.currentTest?.state === 'failed') console.log(`      the history is in ${folder}`);
    else rmSync(folder, { recursive: true, force: true });
  });

  const ask = <T = void>(instance: NodeProcess, command: RecordedCommand): Promise<T> =>
    instance.request<T>(command, { limitMs: 30_000 });
  const history = (): Recorded[] => readHistory<ContextInput, ContextOutput>(files);
  const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

  async function start(options: StoreOptions = {}): Promise<NodeProcess> {
    const name = `p${files.length}`;
    const file = join(folder, name);
    files.push(file);
    const instance = await spawnNode(INSTANCE);
    instances.push(instance);
    const common = { redis: proxy.url, namespace, attemptTimeout: '1s', connectTimeout: '15s', timeout: '10s' };
    const store: StoreOptions = { ...common, heartbeat: '200ms', workers: 'off', logger: false, ...options };
    await ask(instance, { do: 'open', options: store, name, file });
    return instance;
  }

  async function load(instance: NodeProcess): Promise<void> {
    const given: RecordedLoad = { ids: IDS, seed: rng.int(0, 2 ** 30), loops: 3, pauseMs: 25, timeoutMs: 400 };
    await ask(instance, { do: 'load', load: given });
  }

  /** Connections break anywhere, or after a write has gone to Redis and before its reply has come back; or replies are late. */
  async function disturb(ms: number): Promise<void> {
    const end = performance.now() + ms;
    while (performance.now() < end) {
      const dice = rng.next();
      if (dice < 0.2) proxy.cut();
      else if (dice < 0.7) proxy.cutAfterNextUpstreamMatch('evalsha').catch(() => {});
      else {
        proxy.pause('down');
        await pause(rng.int(50, 400));
        proxy.resume('down');
      }
      await pause(rng.int(30, 200));
    }
  }

  const unknown = (recorded: readonly Recorded[]): number => recorded.filter(({ output }) => output === undefined).length;
  /** Until there is enough to check: operations, and among them some whose outcome nobody knows (or that are open just now). */
  async function disturbUntilEnough(): Promise<void> {
    for (let round = 0; round < 20; round += 1) {
      const recorded = history();
      if (recorded.length > 1_000 && unknown(recorded) > 30) return;
      await disturb(1_000);
    }
  }

  /** Ends the loads, and reads what is left of everything, so that what was acknowledged last cannot be missing unseen. */
  async function finish(running: readonly NodeProcess[]): Promise<Recorded[]> {
    for (const instance of running) expect(await ask<string[]>(instance, { do: 'stop' })).to.deep.equal([]);
    for (const id of IDS) for (const instance of running) await ask(instance, { do: 'read', id, fresh: true });
    const recorded = history();
    console.log(`      ${recorded.length} operations, ${unknown(recorded)} of unknown outcome`);
    for (const what of ['get', 'set', 'update', 'patch', 'delete']) {
      expect(recorded.filter(({ input, output }) => input.do === what && output !== undefined).length, what).to.be.above(10);
    }
    for (const id of IDS) expect(recorded.filter(({ key }) => key === id).length, id).to.be.above(50);
    expect(unknown(recorded), 'writes of unknown outcome').to.be.above(5);
    return recorded;
  }

  it('are linearizable, with replies that are lost and a process that is killed', async () => {
    const survivors = await Promise.all([start(), start(), start()]);
    const victim = await start();
    for (const instance of [...survivors, victim]) await load(instance);
    await disturb(3_000);
    expect(await victim.kill()).to.include({ signal: 'SIGKILL' });
    const heir = await start();
    await load(heir);
    await disturb(2_000);
    await disturbUntilEnough();
    expectLinearizable(contextModel, await finish([...survivors, heir]));
  });

  it('are linearizable over crashes of a Redis that acknowledges what is on its disk', async () => {
    const running = await Promise.all([start(), start(), start()]);
    for (const instance of running) await load(instance);
    for (let round = 0; round < 2; round += 1) {
      await disturb(1_000);
      await server.kill();
      await pause(rng.int(0, 500));
      await server.restart();
    }
    await disturbUntilEnough();
    expectLinearizable(contextModel, await finish(running));
  });

  it('are refused where replicas answered while their subscription hung: the check sees what is stale', async () => {
    const writer = await start({ redis: server.url });
    const reader = await start({ heartbeat: '1h' });
    const id = 'stale';
    await ask(writer, { do: 'write', id });
    const answer = async (fresh: boolean): Promise<number> => {
      await ask(reader, { do: 'read', id, fresh });
      const { output } = history().findLast(({ process }) => process === 'p1') ?? {};
      return output !== null && typeof output === 'object' && 'version' in output ? output.version : 0;
    };
    // a third read is answered from memory
    for (let read = 0; read < 3; read += 1) expect(await answer(false)).to.equal(1);
    const dropped = proxy.drop({ direction: 'down', when: (chunk) => chunk.includes('lc') && chunk.includes('message') });
    await ask(writer, { do: 'write', id });
    await waitFor(() => proxy.faults.dropped > 0, { what: 'the frame to be lost' });
    expect(findViolation(contextModel, history()), 'before anything stale was read').to.equal(null);
    expect(await answer(false)).to.equal(1);
    dropped();
    const violation = findViolation(contextModel, history());
    expect(violation?.key).to.equal(id);
    expect(violation?.operation).to.deep.include({
      process: 'p1',
      input: { do: 'get' },
      output: { version: 1, value: { n: 1, by: 'p0-1' } },
    });
    expect(violation?.explanation).to.contain("{ do: 'update', by: 'p0-2' }");
    // and a fresh read is not stale
    expect(await answer(true)).to.equal(2);
  });
});
