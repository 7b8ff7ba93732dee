import { expect } from 'chai';
import { ContextStore, type StoreOptions } from '../../src/index.js';
import { uniqueNamespace } from '../helpers/namespace.js';
import { RedisServer } from '../helpers/RedisServer.js';
import type { Rng } from '../helpers/random.js';
import { TcpProxy } from '../helpers/TcpProxy.js';
import { waitFor } from '../helpers/waitFor.js';
import { Rig } from './Rig.js';

/** A place in the header or the payload of the first frame of a chunk, -1 where there is none. */
function inFrame(chunk: Buffer, rng: Rng): number {
  const header = chunk.indexOf('lc2 ');
  if (header < 0 || chunk.length < header + 90) return -1;
  const payload = chunk.indexOf('\n', header) + 1;
  const hasPayload = payload > 0 && chunk.length > payload + 20 && (chunk[payload] === 0x5b || chunk[payload] === 0x7b);
  return hasPayload && rng.chance(0.7) ? payload + rng.int(0, 15) : header + 4 + rng.int(0, 60);
}

describe('frames with flipped bits under load', function () {
  this.timeout(90_000);
  let rig: Rig;
  let proxy: TcpProxy;
  before(async () => {
    rig = await Rig.start();
    proxy = await TcpProxy.start(rig.server.port);
  });
  after(async () => {
    await proxy.close();
    await rig.end();
  });

  it('are noticed: no reader gets what was never committed, and all replicas equal Redis in the end', async () => {
    const instances = await rig.instances(3, { redis: proxy.url });
    const subscriptions = new Set<number>();
    // a connection says its name before anything else
    proxy.drop({
      direction: 'up',
      when: (chunk, index) => {
        if (chunk.includes(':subscriptions')) subscriptions.add(index);
        return false;
      },
    });
    proxy.cut();
    await rig.watch(instances);
    await rig.warm(instances);
    // in the frames themselves; what damage around them does is tried bit by bit below, for some of it ends ioredis's parser
    const heal = proxy.flip((chunk, index) => (subscriptions.has(index) && rig.rng.chance(0.3) ? inFrame(chunk, rig.rng) : -1));
    await rig.load(instances, { pauseMs: 6 });
    await rig.pause(5_000);
    heal();
    await rig.stop(instances);
    expect(proxy.faults.flipped).to.be.above(50);
    const stats = await Promise.all(instances.map((instance) => rig.stats(instance)));
    expect(stats.reduce((sum, { checksumFailures }) => sum + checksumFailures, 0)).to.be.above(0);
    await rig.finish(instances, { watching: instances });
  });
});

describe('one flipped bit in the protocol around a message', function () {
  this.timeout(30_000);
  let server: RedisServer;
  let writer: ContextStore;
  let written = 0;
  let options: StoreOptions;

  before(async () => {
    server = await RedisServer.start();
    options = {
      redis: server.url,
      namespace: uniqueNamespace('flip'),
      heartbeat: '100ms',
      attemptTimeout: '200ms',
      timeout: '2s',
      workers: 'off',
      logger: false,
    };
    writer = await ContextStore.connect(options);
  });
  after(async () => {
    await writer.close();
    await server.stop();
  });

  /**
   * Flips a bit of one byte that `place` finds in what comes on a connection whose name ends so, while writes go on; then the store that
   * got it must read what is there.
   */
  async function survives(
    connection: 'commands' | 'subscriptions',
    bit: number,
    place: (chunk: Buffer) => number,
  ): Promise<void> {
    const proxy = await TcpProxy.start(server.port);
    const named = new Set<number>();
    proxy.drop({
      direction: 'up',
      when: (chunk, index) => {
        if (chunk.includes(`:${connection}`)) named.add(index);
        return false;
      },
    });
    const store = await ContextStore.connect({ ...options, redis: proxy.url });
    await writer.set('a', { serial: ++written });
    await writer.set('b', 'y'.repeat(200));
    let going = true;
    const load = (async () => {
      while (going) {
        await writer.set('a', { serial: ++written, text: 'x'.repeat(200) });
        // what is asked here keeps bytes coming on the other connection too
        store.get('b', { fresh: true, timeout: '300ms' }).catch(() => {});
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    })();
    try {
      for (let use = 0; use < 3; use += 1) await store.getMany(['a', 'b']);
      await waitFor(async () => (await store.stats()).replicas.live === 2, { what: 'the replicas' });
      let flipped = false;
      // nothing is dropped: the chunk goes on as it is left here
      proxy.drop({
        direction: 'down',
        when: (chunk, index) => {
          const at = flipped || !named.has(index) ? -1 : place(chunk);
          if (at >= 0) chunk.writeUInt8(chunk.readUInt8(at) ^ (1 << bit), at);
          flipped ||= at >= 0;
          return false;
        },
      });
      await waitFor(() => flipped, { what: 'the bit to be flipped' });
      for (const fresh of [false, true]) {
        const least = written + 5;
        await waitFor(
          async () => {
            const context = await store.get<{ serial: number }>('a', { fresh });
            return context !== null && context.value.serial >= least;
          },
          { what: 'the store to read what was written after that, while writes go on', limitMs: 6_000 },
        );
      }
    } finally {
      going = false;
      await load;
      await store.close();
      await proxy.close();
    }
  }

  it('a message with one part too few ends nothing but the connection', () =>
    // `>3` becomes `>2`
    survives('subscriptions', 0, (chunk) => {
      const at = chunk.indexOf('>3\r\n$7\r\nmessage');
      return at < 0 ? -1 : at + 1;
    }));

  // the end of a length of three digits becomes an M, and what follows counts as its digits: longer than all that will ever come
  const endOfLength = (chunk: Buffer): number => {
    const at = chunk.toString('latin1').search(/\$\d{3}\r/);
    return at < 0 ? -1 : at + 4;
  };

  it('a length without an end on the subscription connection is noticed, although bytes keep coming', () =>
    survives('subscriptions', 6, endOfLength));

  it('a length without an end on the command connection is noticed, although bytes keep coming', () =>
    survives('commands', 6, endOfLength));
});
