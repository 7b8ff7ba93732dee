/**
 * Every bit of typical replies and requests is flipped on its way, one at a time: no call hangs or gets what belongs to another, and the
 * next one works. Whether the bytes of a document are the right ones is for the layers above.
 */
import { expect } from 'chai';
import type { Redis } from 'ioredis';
import { ContextStore, isContextError, type StoreOptions } from '../../src/index.js';
import { RedisConnection } from '../../src/redis/RedisConnection.js';
import { Subscriptions } from '../../src/redis/Subscriptions.js';
import { DamagedPath } from '../helpers/DamagedPath.js';
import { uniqueNamespace } from '../helpers/namespace.js';
import { type NodeProcess, spawnNode } from '../helpers/processes.js';
import { RedisServer } from '../helpers/RedisServer.js';
import { type Direction, TcpProxy } from '../helpers/TcpProxy.js';
import { waitFor } from '../helpers/waitFor.js';
import type { Found, Trials } from './wireDamageInstance.js';

const ATTEMPT_MS = 100;
/** Long past what a call may take here: one that is there then hangs. */
const HANGS_MS = 3_000;
const LANES = 6;
const SCRIPT = "return {'COMMITTED', 12, 1764083000000, 'full', 180, '-', 512}";
/** What an error of the connection may be called; the calls of a store try again after these. */
const CODED = /^(CONNECTION|TIMEOUT|REDIS_ERROR|REDIS_BUSY|UNSUPPORTED_SERVER)$/;

type Ask = (client: Redis) => Promise<unknown>;

/** What is the same of two answers whose bytes differ. */
function shape(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shape);
  if (Buffer.isBuffer(value) || typeof value === 'string') return 'text';
  // an object's names are bytes as well
  if (typeof value === 'object' && value !== null) return Object.values(value).map(shape);
  return value === null ? null : typeof value;
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** What a call ended with; fails where it does not end. */
async function ended(call: Promise<unknown>, what: string): Promise<{ value: unknown } | { code: string; message: string }> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} hangs`)), HANGS_MS);
  });
  try {
    return { value: await Promise.race([call, late]) };
  } catch (error) {
    if (!isContextError(error)) throw error;
    return { code: error.code, message: error.message };
  } finally {
    clearTimeout(timer);
  }
}

/** A connection of its own on a damaged path. */
class Lane {
  readonly path: DamagedPath;
  readonly connection: RedisConnection;
  downs = 0;

  private constructor(path: DamagedPath) {
    this.path = path;
    this.connection = new RedisConnection(
      { target: path.proxy.url, attemptTimeoutMs: ATTEMPT_MS, clientName: 'wire' },
      {
        up: () => {},
        down: () => {
          this.downs += 1;
        },
      },
    );
  }

  static async open(port: number): Promise<Lane> {
    const lane = new Lane(await DamagedPath.start(port));
    await lane.connection.open(lane.connection.deadline(HANGS_MS));
    return lane;
  }

  ask(run: Ask, timeoutMs = 4 * ATTEMPT_MS): Promise<unknown> {
    return this.connection.attempt(this.connection.deadline(timeoutMs), 'ask', run);
  }

  async close(): Promise<void> {
    await this.connection.close();
    await this.path.close();
  }
}

describe('one flipped bit in the stream', function () {
  this.timeout(120_000);
  let server: RedisServer;
  let direct: Redis;
  let sha: string;
  let lanes: Lane[] = [];

  before(async () => {
    server = await RedisServer.start();
    direct = server.client();
    sha = String(await direct.script('LOAD', SCRIPT));
    lanes = await Promise.all(Array.from({ length: LANES }, () => Lane.open(server.port)));
  });
  after(async () => {
    await Promise.all(lanes.map((lane) => lane.close()));
    await server.stop();
  });
  beforeEach(async () => {
    const document = '{"serial":1,"text":"äöü","list":[1,2]}';
    await direct.hset('doc', { data: document, v: '1', crc: '0a1b2c3d', len: String(document.length), at: '1764083000000' });
    await direct.hset('few', { v: '1', data: '"abc"' });
    for (const [key, a] of [
      ['one', 'first'],
      ['two', 'second'],
    ] as const)
      await direct.hset(key, { a, b: 'neighbour' });
    await direct.del('log');
    for (let version = 1; version <= 2; version += 1) await direct.xadd('log', `${version}-0`, 'kind', 'full', 'crc', '0a1b2c3d');
  });

  const cases: Readonly<Record<string, Ask>> = {
    'array of a script': (client) => client.evalsha(sha, 1, 'doc', '1 2 3'),
    'strings of HMGET': (client) => client.hmgetBuffer('doc', 'data', 'v', 'crc', 'len', 'at', 'exp', 'chunks'),
    'map of HGETALL': (client) => client.hgetallBuffer('few'),
    'levels of XRANGE': (client) => client.xrangeBuffer('log', '-', '+', 'COUNT', 10),
    error: (client) => client.evalsha('0123456789012345678901234567890123456789', 0).catch(({ message }: Error) => [message]),
    integer: (client) => client.hset('few', 'v', '1'),
    'simple string': (client) => client.ping(),
    'string of HGET': (client) => client.hget('doc', 'data'),
  };

  const neighbour =
    (key: string): Ask =>
    (client) =>
      client.hmget(key, 'a', 'b', 'c');

  /** Flips every bit of the bytes that the call sends or gets, and looks at it, at two calls in the same pipeline, and at the next. */
  async function everyBit(direction: Direction, run: Ask): Promise<{ trials: number; resets: number; problems: string[] }> {
    const [first] = lanes as [Lane, ...Lane[]];
    first.path.measure(':commands');
    const right = await first.ask(run);
    first.path.disarm();
    const bytes = first.path.passed(direction);
    expect(bytes).to.be.above(3);
    const problems: string[] = [];
    const before = lanes.reduce((sum, { downs }) => sum + downs, 0);
    let next = 0;
    const trial = async (lane: Lane, place: number): Promise<void> => {
      const [byte, bit] = [place >> 3, place & 7];
      const where = `byte ${byte} bit ${bit}`;
      await lane.connection.ready(lane.connection.deadline(HANGS_MS), 'begin');
      lane.path.arm(':commands', direction, byte, bit);
      const calls = await Promise.all([
        ended(lane.ask(run), where),
        ended(lane.ask(neighbour('one')), `${where}, the first neighbour`),
        ended(lane.ask(neighbour('two')), `${where}, the second neighbour`),
      ]);
      if (lane.path.armed) problems.push(`${where}: nothing was flipped`);
      lane.path.disarm();
      const wanted = [undefined, 'first,neighbour,', 'second,neighbour,'];
      for (const [index, call] of calls.entries()) {
        if ('code' in call) {
          if (!CODED.test(call.code)) problems.push(`${where}: call ${index} says ${call.code} ${call.message}`);
        } else if (index === 0 && direction === 'down') {
          const [found, expected] = [shape(call.value), shape(right)];
          if (JSON.stringify(found) !== JSON.stringify(expected)) problems.push(`${where}: it got ${JSON.stringify(call.value)}`);
        } else if (index > 0 && String(call.value) !== wanted[index]) {
          // its own bytes are not damaged
          problems.push(`${where}: call ${index} got ${JSON.stringify(call.value)}`);
        }
      }
      // the next one works, as soon as the connection is back, or after what still waits for a reply was given up
      await waitFor(async () => String(await lane.ask(neighbour('one')).catch(() => null)) === wanted[1], {
        what: `${where}: the next call`,
        limitMs: HANGS_MS,
        everyMs: 1,
      }).catch((error: unknown) => problems.push(String(error)));
    };
    await Promise.all(
      lanes.map(async (lane) => {
        for (let place = next++; place < bytes * 8; place = next++) await trial(lane, place);
      }),
    );
    return { trials: bytes * 8, resets: lanes.reduce((sum, { downs }) => sum + downs, 0) - before, problems };
  }

  for (const [direction, what] of [
    ['down', 'reply'],
    ['up', 'request'],
  ] as const) {
    for (const [name, run] of Object.entries(cases)) {
      it(`of a ${what} (${name}): nobody hangs, nobody gets what is another's, the next call works`, async () => {
        const { resets, problems } = await everyBit(direction, run);
        expect(problems.slice(0, 10).join('\n')).to.equal('');
        // the test damages something that matters
        expect(resets).to.be.above(5);
      });
    }
  }

  for (const [name, first] of [
    ['a message', 'message'],
    ['a confirmation', 'confirmation'],
  ] as const) {
    it(`of ${name}: the subscriptions go on, on a new connection where it takes one`, async () => {
      const lane = lanes[0] as Lane;
      const got: string[] = [];
      const subscriptions = new Subscriptions(lane.connection, () => {});
      await lane.connection.ready(lane.connection.deadline(HANGS_MS), 'begin', 'subscriptions');
      const channel = '{lc:wire:0}:a';
      const handler = (message: Buffer): void => void got.push(message.toString());
      await subscriptions.subscribe(channel, handler);
      const problems: string[] = [];
      let serial = 0;
      const step = async (): Promise<void> => {
        if (first === 'message') await direct.publish(channel, `message ${++serial} of these`);
        else {
          subscriptions.unsubscribe(channel);
          await Promise.resolve();
          await Promise.race([subscriptions.subscribe(channel, handler).catch(() => {}), pause(2 * ATTEMPT_MS)]);
        }
      };
      lane.path.measure(':subscriptions');
      await step();
      await waitFor(() => lane.path.passed('down') > 0, { what: 'bytes' });
      await pause(20);
      lane.path.disarm();
      const bytes = lane.path.passed('down');
      let resets = 0;
      for (let place = 0; place < bytes * 8; place += 1) {
        const where = `byte ${place >> 3} bit ${place & 7}`;
        await waitFor(() => subscriptions.up, { what: `${where}: the connection`, limitMs: HANGS_MS, everyMs: 1 });
        const before = lane.downs;
        lane.path.arm(':subscriptions', 'down', place >> 3, place & 7);
        await step();
        await waitFor(() => !lane.path.armed || !subscriptions.up, { what: where, limitMs: 500, everyMs: 1 }).catch(() => {});
        // what a store's heartbeat does; without the ping a confirmation that is waited for keeps its time as well
        await subscriptions.ping();
        await waitFor(
          async () => {
            if (!subscriptions.up) return false;
            const word = `message ${++serial} of these`;
            await direct.publish(channel, word);
            await waitFor(() => got.includes(word), { what: word, limitMs: 60, everyMs: 1 }).catch(async () => {
              await subscriptions.ping();
            });
            return got.includes(word);
          },
          { what: `${where}: a message after it`, limitMs: HANGS_MS, everyMs: 1 },
        ).catch((error: unknown) => problems.push(String(error)));
        got.length = 0;
        resets += lane.downs - before;
      }
      subscriptions.unsubscribe(channel);
      expect(problems.slice(0, 10).join('\n')).to.equal('');
      expect(resets).to.be.above(5);
    });
  }
});

describe('one flipped bit under a store, in a process of its own', function () {
  this.timeout(120_000);
  let server: RedisServer;
  let child: NodeProcess;
  before(async () => {
    server = await RedisServer.start();
    child = await spawnNode(new URL('./wireDamageInstance.ts', import.meta.url));
  });
  after(async () => {
    await child.kill();
    await server.stop();
  });

  const found: Found[] = [];
  for (const direction of ['down', 'up'] as const) {
    for (const call of ['set', 'get', 'update', 'delete', 'touch'] as const) {
      it(`${direction === 'up' ? 'requests' : 'replies'} of ${call}: each call ends, no damaged document is stored or returned`, async () => {
        const trials: Trials = { port: server.port, namespace: uniqueNamespace('wire'), direction, call };
        const result = await child.request<Found>(trials, { limitMs: 60_000 });
        found.push(result);
        expect(result.trials).to.be.above(30);
        expect(result.problems.slice(0, 10).join('\n')).to.equal('');
      });
    }
  }

  it('nothing landed elsewhere than it was sent, and no answer has other facts than are stored', () => {
    const astray = found.flatMap((one) => one.astray);
    expect(astray.slice(0, 10).join('\n'), `${astray.length} in all`).to.equal('');
  });

  it('no exception ended the process', async () => {
    await child.request('end');
    expect(await child.exited).to.deep.equal({ code: 0, signal: null });
    expect(child.stderr).to.equal('');
  });
});

describe('what is damaged while a connection is made', function () {
  this.timeout(20_000);
  let server: RedisServer;
  before(async () => {
    server = await RedisServer.start();
  });
  after(() => server.stop());

  it('another database is not taken for the one that was asked for', async () => {
    const proxy = await TcpProxy.start(server.port);
    const digit = 'select\r\n$1\r\n';
    let left = 2;
    proxy.flip((chunk) => {
      const at = left > 0 ? chunk.indexOf(`${digit}3`) : -1;
      if (at < 0) return false;
      left -= 1;
      return { byte: at + digit.length, bit: 1 };
    }, 'up');
    const store = await ContextStore.connect({
      redis: `${proxy.url}/3`,
      namespace: uniqueNamespace('db'),
      workers: 'off',
      logger: false,
    });
    try {
      await store.set('a', 1);
      expect(left).to.equal(0);
      const direct = server.client({ db: 3 });
      expect((await direct.keys('*:c:a')).length).to.equal(1);
      await direct.select(1);
      expect(await direct.keys('*:c:a')).to.deep.equal([]);
    } finally {
      await store.close();
      await proxy.close();
    }
  });

  it('where RESP2 is asked for, all goes over one connection each as well', async () => {
    const proxy = await TcpProxy.start(server.port);
    const options: StoreOptions = {
      redis: { host: '127.0.0.1', port: proxy.port, protocol: 2 },
      namespace: uniqueNamespace('resp2'),
      heartbeat: '30ms',
      workers: 'off',
      logger: false,
    };
    const [writer, reader] = await Promise.all([ContextStore.connect(options), ContextStore.connect(options)]);
    try {
      await writer.set('a', 0);
      for (let value = 1; value <= 10; value += 1) {
        await writer.set('a', value);
        await waitFor(async () => (await reader.get('a'))?.value === value, { what: `${value}`, everyMs: 10 });
      }
      expect((await reader.stats()).replicas.live).to.equal(1);
      expect(proxy.accepted).to.equal(4);
    } finally {
      await Promise.all([writer.close(), reader.close()]);
      await proxy.close();
    }
  });
});
