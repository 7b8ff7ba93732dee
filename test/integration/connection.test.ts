/**
 * What happens when Redis is not there, not right or not quick, and that the store goes on by itself afterwards. These tests kill, stop and
 * reconfigure servers, so each starts its own.
 */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createConnection, createServer, type Server } from 'node:net';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { Redis } from 'ioredis';
import { ContextStore, type ErrorCode, isContextError } from '../../src/index.js';
import { freePort } from '../helpers/ports.js';
import { RedisServer, type RedisServerOptions } from '../helpers/RedisServer.js';
import { RecordingLogger, record, refusal, untilReplica, useStores, Watched, watchFromNow } from '../helpers/stores.js';
import { waitFor } from '../helpers/waitFor.js';

/** Long past any timeout in these tests: a call that is still there then hangs. */
const LIMIT_MS = 5_000;

/** Fails where the call has not settled long after its time. */
async function settled<T>(call: Promise<T>, what: string): Promise<T> {
  let done = false;
  const mark = (): void => {
    done = true;
  };
  call.then(mark, mark);
  await waitFor(() => done, { what: `${what} to settle`, limitMs: LIMIT_MS });
  return call;
}

const codeOf = (error: unknown): ErrorCode | string => (isContextError(error) ? error.code : String(error));

/** What a call ended with: `ok`, or its code. */
const outcome = (call: Promise<unknown>): Promise<string> => call.then(() => 'ok', codeOf);

describe('connection (servers of its own)', function () {
  this.timeout(60_000);
  let server: RedisServer;
  const stores = useStores(() => server);

  /** A server for the tests of a `describe`. */
  function useServer(options: RedisServerOptions = {}): void {
    before(async () => {
      server = await RedisServer.start(options);
    });
    after(() => server.stop());
  }

  describe('connect says what is wrong', () => {
    useServer({
      password: 'right',
      acl: [
        'nopublish on >secret ~* &* +@all -publish',
        'nokeys on >secret ~other:* &* +@all',
        'nochannel on >secret ~* resetchannels &other:* +@all',
        'nostream on >secret ~* &* +@all -xadd',
        'noscript on >secret ~* &* +@all -evalsha -eval',
        'nosubscribe on >secret ~* &* +@all -subscribe',
        'scoped on >secret ~{lc:scoped* resetchannels &{lc:scoped* +@all',
      ],
    });

    it('nobody listens: CONNECTION, with the reason', async () => {
      const port = await freePort();
      const error = await settled(
        refusal('CONNECTION', () => stores.open({ redis: `redis://127.0.0.1:${port}`, connectTimeout: 300 })),
        'connect',
      );
      expect(error.message).to.contain('ECONNREFUSED').and.contain(String(port));
      expect(error.retryable).to.equal(true);
    });

    it('a host that is none: CONNECTION', async () => {
      await settled(
        refusal('CONNECTION', () => stores.open({ redis: 'redis://no-such-host.invalid:6379', connectTimeout: 500 })),
        'connect',
      );
    });

    it('somebody listens and says nothing: TIMEOUT or CONNECTION, in its time', async () => {
      const mute = createServer(() => {});
      mute.listen(0, '127.0.0.1');
      await once(mute, 'listening');
      const { port } = mute.address() as AddressInfo;
      const call = outcome(stores.open({ redis: `redis://127.0.0.1:${port}`, connectTimeout: 400, attemptTimeout: 100 }));
      expect(await settled(call, 'connect')).to.match(/^(TIMEOUT|CONNECTION)$/);
      mute.close();
    });

    it('wrong or missing password: AUTH, without waiting for the timeout', async () => {
      for (const redis of [server.urlFor('default', 'wrong'), `redis://127.0.0.1:${server.port}`, server.urlFor('nobody', 'x')]) {
        const error = await settled(
          refusal('AUTH', () => stores.open({ redis, connectTimeout: '1h' })),
          'connect',
        );
        expect(error.message).to.contain('password');
        expect(error.retryable).to.equal(false);
      }
    });

    const missing: [user: string, says: RegExp][] = [
      ['nopublish', /publish/i],
      ['nokeys', /key/i],
      ['nochannel', /channel/i],
      ['nostream', /xadd/i],
      ['noscript', /evalsha/i],
      ['nosubscribe', /subscribe/i],
    ];
    for (const [user, says] of missing) {
      it(`a user without what it takes: NO_PERMISSION that names it (${user})`, async () => {
        const error = await settled(
          refusal('NO_PERMISSION', () => stores.open({ redis: server.urlFor(user, 'secret') })),
          'connect',
        );
        expect(error.message).to.match(says);
        const report = await ContextStore.diagnose({ redis: server.urlFor(user, 'secret'), namespace: stores.namespace });
        expect(report.ok).to.equal(false);
        expect(report.checks.filter(({ status }) => status === 'fail').map(({ name }) => name)).to.include('rights');
      });
    }

    it('a user with the namespace’s keys and channels alone can do everything', async () => {
      const options = { redis: server.urlFor('scoped', 'secret'), namespace: 'scoped-1', heartbeat: '50ms' };
      const store = await stores.open(options);
      const other = await stores.open(options);
      const watched = await watchFromNow(other, 'x');
      await store.set('x', { a: 1 }, { ttl: '1h' });
      await store.update<{ a: number }>('x', (draft) => {
        draft.a = 2;
      });
      await untilReplica(other, 'x');
      await store.touch('x', 'none');
      expect((await store.list()).items).to.have.lengthOf(1);
      expect((await store.verify('x'))?.ok).to.equal(true);
      await store.stats();
      await store.set('brief', 1, { ttl: 50 });
      await waitFor(async () => (await other.stats()).shards[0]?.contexts === 1, { what: 'the sweep' });
      await store.delete('x');
      await watched.version(3);
      expect(watched.kinds).to.deep.equal(['full 1', 'full 2', 'deleted 3']);
      await refusal('NO_PERMISSION', () => stores.open({ ...options, namespace: 'elsewhere' }));
    });

    it('leaves nothing open when it fails', async () => {
      const redis = server.client();
      const connections = async (): Promise<number> =>
        String(await redis.client('LIST'))
          .split('\n')
          .filter((line) => line.includes('lukhas-context')).length;
      await refusal('NO_PERMISSION', () => stores.open({ redis: server.urlFor('nostream', 'secret') }));
      await waitFor(async () => (await connections()) === 0, { what: 'the connections to be closed' });
    });
  });

  describe('a server that is too old', () => {
    /** No Redis before 7.0 is at hand, so this speaks just as much of the protocol as `connect` needs to ask for the version. */
    async function oldServer(version: string, hello: boolean): Promise<Server> {
      const info = `# Server\r\nredis_version:${version}\r\nloading:0\r\nrole:master\r\nmaxmemory_policy:noeviction\r\n`;
      const bulk = (text: string): string => `$${Buffer.byteLength(text)}\r\n${text}\r\n`;
      const answer = (command: string, argument: string): string => {
        if (command === 'INFO') return bulk(info);
        if (command === 'HELLO')
          return hello ? `%2\r\n${bulk('version')}${bulk(version)}${bulk('proto')}:3\r\n` : `-ERR unknown command \`HELLO\`\r\n`;
        if (command === 'CLIENT') return argument === 'SETINFO' ? '-ERR Unknown subcommand\r\n' : '+OK\r\n';
        if (command === 'PING') return '+PONG\r\n';
        return `-ERR unknown command \`${command}\`\r\n`;
      };
      const old = createServer((socket) => {
        let words: string[] = [];
        let expected = 0;
        let rest = '';
        socket.on('error', () => {});
        socket.on('data', (chunk) => {
          const lines = (rest + chunk.toString()).split('\r\n');
          rest = lines.pop() ?? '';
          for (const line of lines) {
            if (expected === 0 && line.startsWith('*')) expected = Number(line.slice(1));
            else if (!line.startsWith('$')) words.push(line);
            if (expected > 0 && words.length === expected) {
              socket.write(answer(words[0]?.toUpperCase() ?? '', words[1]?.toUpperCase() ?? ''));
              words = [];
              expected = 0;
            }
          }
        });
      });
      old.listen(0, '127.0.0.1');
      await once(old, 'listening');
      return old;
    }

    for (const [version, hello] of [
      ['6.2.0', true],
      ['6.2.14', true],
      ['5.0.14', false],
    ] as const) {
      it(`is refused with its version: ${version}`, async () => {
        const old = await oldServer(version, hello);
        try {
          const redis = `redis://127.0.0.1:${(old.address() as AddressInfo).port}`;
          const error = await settled(
            refusal('UNSUPPORTED_SERVER', () => stores.open({ redis })),
            'connect',
          );
          expect(error.message).to.contain('7.0');
          if (hello) expect(error.details).to.include({ expected: '7.0', found: version });
          const report = await ContextStore.diagnose({ redis });
          expect(report.ok).to.equal(false);
        } finally {
          old.close();
        }
      });
    }
  });

  describe('an eviction policy', () => {
    useServer({ config: { 'maxmemory-policy': 'allkeys-lru', maxmemory: '100mb' } });

    it('other than noeviction is refused, and accepted with a warning where that is asked for', async () => {
      const error = await refusal('EVICTION_POLICY', () => stores.open());
      expect(error.details).to.include({ expected: 'noeviction', found: 'allkeys-lru' });
      expect(error.message).to.contain('CONFIG SET maxmemory-policy noeviction');
      const logger = new RecordingLogger();
      const store = await stores.open({ evictionPolicy: 'warn', logger });
      expect((await store.set('x', 1)).version).to.equal(1);
      expect(logger.at('warn').map(({ fields }) => fields)).to.deep.include({ policy: 'allkeys-lru' });
      await server.cli('config', 'set', 'maxmemory-policy', 'noeviction');
      await stores.open();
    });
  });

  describe('refusals of Redis', () => {
    useServer();

    it('no memory left: REDIS_MEMORY for what adds, while reads and deletes go on', async () => {
      const store = await stores.open();
      await store.set('x', 1);
      await server.cli('config', 'set', 'maxmemory', '1');
      try {
        expect((await refusal('REDIS_MEMORY', () => store.set('y', 1))).retryable).to.equal(true);
        expect((await store.get('x', { fresh: true }))?.value).to.equal(1);
        expect(await store.delete('x')).to.deep.equal({ version: 2 });
      } finally {
        await server.cli('config', 'set', 'maxmemory', '0');
      }
      expect((await store.set('y', 1)).version).to.equal(1);
    });

    it('a replica that takes no writes: REDIS_READONLY; a write that has time goes on when it is a master again', async () => {
      const store = await stores.open();
      await store.set('x', 1);
      const nobody = await freePort();
      await server.cli('replicaof', '127.0.0.1', String(nobody));
      let waiting: Promise<unknown>;
      try {
        await settled(
          refusal('REDIS_READONLY', () => store.set('x', 2, { timeout: '2s' })),
          'set',
        );
        await settled(
          refusal('REDIS_READONLY', () => stores.open({ connectTimeout: 500 })),
          'connect',
        );
        const downs = record(store, 'connection:down');
        waiting = store.set('x', 3, { timeout: '30s' });
        waiting.catch(() => {});
        await waitFor(() => downs.length > 0, { what: 'it to look for the master' });
      } finally {
        await server.cli('replicaof', 'no', 'one');
      }
      expect(await settled(waiting, 'the write')).to.include({ version: 2 });
    });

    it('a flushed script cache is filled again by the call that finds it so', async () => {
      const store = await stores.open();
      const flush = (): Promise<string> => server.cli('script', 'flush');
      await flush();
      expect((await store.set('x', 1)).version).to.equal(1);
      await flush();
      expect((await store.update('x', () => 2)).version).to.equal(2);
      await flush();
      expect(await store.has('x')).to.equal(true);
      await flush();
      expect((await store.touch('x', '1h'))?.version).to.equal(2);
      await flush();
      const watched = new Watched(store.watch('x', { fromVersion: 0 }));
      await watched.version(2);
      await flush();
      const results = await Promise.all(Array.from({ length: 20 }, (_, index) => store.set(`y-${index}`, index)));
      expect(results.map(({ version }) => version)).to.deep.equal(Array(20).fill(1));
      await flush();
      expect(await store.delete('x')).to.deep.equal({ version: 3 });
    });
  });

  describe('what `redis` can be', () => {
    useServer({ password: 'right' });

    it('a URL, options of ioredis, or a client, which stays its owner’s', async () => {
      const client = new Redis(server.url, { keyPrefix: 'mine:' });
      for (const redis of [server.url, { host: '127.0.0.1', port: server.port, password: 'right' }, client]) {
        const store = await stores.open({ redis });
        await store.set('x', 1);
        expect(await server.cli('exists', store.keysOf('x').context)).to.equal('1');
        await store.delete('x');
        await store.close();
      }
      expect(await client.ping()).to.equal('PONG');
      client.disconnect();
    });
  });

  describe('a connection that hangs', () => {
    useServer();
    const attemptTimeout = 400;
    afterEach(() => server.resume());

    it('a stopped server: every call ends in its time, and all go on by themselves afterwards', async () => {
      const store = await stores.open({ attemptTimeout, heartbeat: '100ms' });
      const other = await stores.open({ attemptTimeout, heartbeat: '100ms' });
      await store.set('x', 0);
      await untilReplica(other, 'x');
      const watched = await watchFromNow(other, 'x');
      const downs = record(store, 'connection:down');
      await server.pause();
      const timeout = 300;
      const calls: [string, Promise<unknown>][] = [
        ['get', store.get('none', { timeout })],
        ['getMany', store.getMany(['none'], { timeout })],
        ['has', store.has('none', { timeout })],
        ['set', store.set('y', 1, { timeout })],
        ['update', store.update('z', () => 1, { initial: 0, timeout })],
        ['patch', store.patch('x', [{ op: 'replace', path: '', value: 1 }], { timeout })],
        ['delete', store.delete('none', { timeout })],
        ['touch', store.touch('none', '1h', { timeout })],
        ['list', store.list({ timeout })],
        ['history', store.history('x', { timeout })],
        ['verify', store.verify('x', { timeout })],
        ['stats', store.stats({ timeout })],
        ['connect', stores.open({ connectTimeout: timeout, attemptTimeout })],
      ];
      const outcomes = calls.map(([name, call]) => [name, outcome(call)] as const);
      for (const [name, call] of outcomes) expect(await settled(call, name), name).to.match(/^(TIMEOUT|CONNECTION)$/);
      await waitFor(() => downs.length > 0, { what: 'the silence to be noticed' });
      const waiting = store.set('x', 'waited', { timeout: '20s' });
      server.resume();
      await settled(waiting, 'the write that had time');
      await waitFor(async () => (await other.get('x'))?.value === 'waited', { what: 'the other instance' });
      await waitFor(() => watched.last?.value === 'waited', { what: 'the watcher' });
      expect(watched.versions).to.deep.equal(watched.versions.toSorted((a, b) => a - b));
      expect(new Set(watched.versions).size).to.equal(watched.versions.length);
    });

    it('a write whose attempts all reached a stopped server is applied exactly once', async () => {
      const store = await stores.open({ attemptTimeout });
      await store.set('x', []);
      const accepted = async (): Promise<number> =>
        Number(/total_connections_received:(\d+)/.exec(await server.cli('info', 'stats'))?.[1]);
      const before = await accepted();
      await server.pause();
      const append = store.update<number[]>(
        'x',
        (draft) => {
          draft.push(1);
        },
        { timeout: '30s' },
      );
      append.catch(() => {});
      const downs = record(store, 'connection:down');
      await waitFor(() => downs.length > 0, { what: 'the first attempt to be given up' });
      server.resume();
      expect(await settled(append, 'the update')).to.deep.include({ version: 2, value: [1] });
      expect(await accepted()).to.be.greaterThan(before + 1);
      const other = await stores.open();
      expect(await other.get('x')).to.deep.include({ version: 2, value: [1] });
      expect(await other.history('x')).to.have.lengthOf(2);
    });

    it('a silent network path is noticed and made anew, also where the calls are given less time than an attempt', async () => {
      const proxy = await stores.proxy();
      const store = await stores.open({ redis: proxy.url, attemptTimeout, heartbeat: '1h' });
      await store.set('x', 1);
      const { accepted } = proxy;
      // what comes back on the connections that stand is lost for ever; new ones are well
      const end = proxy.drop({ direction: 'down', when: (_, connection) => connection < accepted });
      await refusal('TIMEOUT', () => store.get('y', { timeout: 60 }));
      await waitFor(async () => (await outcome(store.get('y', { timeout: 60 }))) === 'ok', {
        what: 'the connection to be made anew',
      });
      expect((await store.get('x', { fresh: true }))?.value).to.equal(1);
      end();
    });

    it('a silent subscription is noticed by the heartbeat, and what was published is fetched', async () => {
      const proxy = await stores.proxy();
      const near = await stores.open({ redis: proxy.url, attemptTimeout, heartbeat: '50ms' });
      const writer = await stores.open();
      await writer.set('x', 1);
      const watched = await watchFromNow(near, 'x');
      await untilReplica(near, 'x');
      const downs = record(near, 'connection:down');
      // the second connection is the one for subscriptions: its frames are the only ones with these words
      let subscriptions = -1;
      const look = proxy.drop({
        direction: 'down',
        when: (chunk, connection) => {
          if (chunk.includes('lc2 ')) subscriptions = connection;
          return false;
        },
      });
      await writer.set('x', 2);
      await watched.version(2);
      look();
      const end = proxy.drop({ direction: 'down', when: (_, connection) => connection === subscriptions });
      await writer.set('x', 3);
      await writer.set('x', 4);
      await watched.version(4);
      expect(watched.versions).to.deep.equal([2, 3, 4]);
      await waitFor(() => downs.some(({ connection }) => connection === 'subscriptions'), { what: 'the silence to be noticed' });
      expect(downs.map(({ connection }) => connection)).to.not.include('commands');
      await waitFor(async () => (await near.stats()).connection.subscriptions === 'up', { what: 'another connection' });
      await writer.set('x', 5);
      await watched.version(5);
      end();
    });

    it('a handshake that is never answered does not keep it from trying again', async () => {
      const proxy = await stores.proxy();
      const store = await stores.open({ redis: proxy.url, attemptTimeout });
      await store.set('x', 1);
      const end = proxy.drop({ direction: 'down', when: () => true });
      const { accepted } = proxy;
      proxy.cut();
      await waitFor(() => proxy.accepted >= accepted + 2 && proxy.faults.dropped >= 2, {
        what: 'both to connect again, in vain',
      });
      await refusal('CONNECTION', () => store.get('x', { timeout: 100, fresh: true }));
      // whoever is stuck in this handshake will not hear of it any more
      end();
      const reached = waitFor(async () => (await outcome(store.get('x', { fresh: true, timeout: 200 }))) === 'ok', {
        what: 'the store to connect again',
        limitMs: 10_000,
      });
      await reached;
      await waitFor(async () => (await store.stats()).connection.subscriptions === 'up', {
        what: 'the subscriptions to connect again',
        limitMs: 10_000,
      });
    });
  });

  describe('a server that goes and comes back with its data', () => {
    useServer({ appendOnly: true });

    for (const how of ['restart', 'crash'] as const) {
      it(`${how}: nothing acknowledged is lost, and readers, watchers and writers go on`, async () => {
        const [store, other] = await stores.pair({ heartbeat: '100ms', timeout: '20s' });
        const ups = record(store, 'connection:up');
        const downs = record(store, 'connection:down');
        await store.set('x', { n: 0 });
        await store.set('y', 'y', { ttl: '1h' });
        const watched = await watchFromNow(other, 'x');
        await untilReplica(other, 'x');
        const acknowledged: number[] = [];
        let writing = true;
        const loop = (async () => {
          while (writing) {
            const { version } = await store.update<{ n: number }>('x', (draft) => {
              draft.n += 1;
            });
            acknowledged.push(version);
          }
        })();
        await waitFor(() => acknowledged.length > 20, { what: 'some writes' });
        if (how === 'restart') await server.restart();
        else {
          await server.kill();
          await server.restart();
        }
        const then = acknowledged.length;
        await waitFor(() => acknowledged.length > then + 20, { what: 'writes after the restart', limitMs: 20_000 });
        writing = false;
        await loop;
        const last = acknowledged.at(-1) ?? 0;
        expect(acknowledged).to.deep.equal(Array.from({ length: acknowledged.length }, (_, index) => index + 2));
        expect((await store.get('x', { fresh: true }))?.value).to.deep.equal({ n: last - 1 });
        await watched.version(last);
        expect(watched.versions).to.deep.equal(acknowledged);
        await waitFor(async () => (await other.get('x'))?.version === last, { what: 'the replica' });
        expect((await other.get('y'))?.value).to.equal('y');
        expect(new Set(downs.map(({ connection }) => connection))).to.deep.equal(new Set(['commands', 'subscriptions']));
        await waitFor(() => new Set(ups.map(({ connection }) => connection)).size === 2, { what: 'both to be up' });
        for (const { reason } of downs) expect(reason).to.be.a('string').and.not.equal('');
      });
    }

    it('while it is away calls wait as long as they may, and then say CONNECTION; a write says that nothing was written', async () => {
      const store = await stores.open();
      await store.set('x', 1);
      await server.stop({ keepData: true });
      try {
        await waitFor(async () => (await outcome(store.get('x', { timeout: 20 }))) === 'CONNECTION', {
          what: 'the loss to be known',
        });
        const error = await settled(
          refusal('CONNECTION', () => store.set('x', 2, { timeout: 100 })),
          'set',
        );
        expect(error.message).to.contain('could not be reached');
        await settled(
          refusal('CONNECTION', () => store.update('x', () => 2, { timeout: 100 })),
          'update',
        );
      } finally {
        await server.restart();
      }
      const waited = await settled(store.set('x', 3, { timeout: '20s' }), 'set');
      expect(waited.version).to.equal(2);
    });
  });

  describe('a lost reply', () => {
    useServer();

    const writes: readonly (readonly [name: string, expected: unknown, result: object])[] = [
      ['set', { list: ['lost-reply'] }, { version: 2 }],
      ['update', { list: ['first', 'lost-reply'] }, { version: 2 }],
      ['patch', { list: ['first', 'lost-reply'] }, { version: 2 }],
      ['delete', undefined, { version: 2 }],
    ];
    const write = (store: ContextStore, name: string): Promise<unknown> => {
      if (name === 'set') return store.set('x', { list: ['lost-reply'] });
      if (name === 'patch') return store.patch('x', [{ op: 'add', path: '/list/-', value: 'lost-reply' }]);
      if (name === 'delete') return store.delete('x');
      return store.update<{ list: string[] }>('x', (draft) => {
        draft.list.push('lost-reply');
      });
    };
    for (const [name, expected, result] of writes) {
      it(`of ${name}: it is applied exactly once, and answered`, async () => {
        const proxy = await stores.proxy();
        const near = await stores.open({ redis: proxy.url, instanceId: 'near' });
        const other = await stores.open({ instanceId: 'other' });
        await other.set('x', { list: ['first'] });
        const watched = new Watched(other.watch('x', { fromVersion: 1 }));
        const conflicts = record(near, 'context:conflict');
        const committed = record(near, 'context:committed');
        const trap = proxy.cutAfterNextUpstreamMatch(name === 'delete' ? 'near - -' : 'lost-reply');
        const answer = await settled(write(near, name), name);
        await trap;
        expect(answer).to.deep.include(result);
        expect((await other.get('x', { fresh: true }))?.value).to.deep.equal(expected);
        expect((await other.history('x')).map(({ version, by }) => [version, by])).to.deep.equal([
          [2, 'near'],
          [1, 'other'],
        ]);
        expect(conflicts).to.deep.equal([]);
        expect(committed.map(({ version }) => version)).to.deep.equal([2]);
        await other.set('x', 'end');
        await watched.version(3);
        expect(watched.versions).to.deep.equal([2, 3]);
        // and what this instance believes is right
        await waitFor(async () => (await near.get('x'))?.value === 'end', { what: 'the end' });
      });
    }

    it('followed by the writes of others: it is found in the log, not done again', async () => {
      const proxy = await stores.proxy();
      const near = await stores.open({ redis: proxy.url });
      const other = await stores.open();
      await other.set('x', { n: 0 });
      const trap = proxy.cutAfterNextUpstreamMatch('"near"');
      proxy.refuse(true);
      const answer = near.patch('x', [{ op: 'add', path: '/by', value: 'near' }]);
      answer.catch(() => {});
      await trap;
      for (let n = 1; n <= 10; n += 1) await other.patch('x', [{ op: 'replace', path: '/n', value: n }]);
      await other.patch('x', [{ op: 'remove', path: '/by' }]);
      proxy.refuse(false);
      expect((await settled(answer, 'the patch')).version).to.equal(2);
      expect((await other.get('x', { fresh: true }))?.value).to.deep.equal({ n: 10 });
      expect((await near.get('x', { fresh: true }))?.version).to.equal(13);
    });

    it('of a write that was conditional: the second attempt does not take the first for a conflict', async () => {
      const proxy = await stores.proxy();
      const near = await stores.open({ redis: proxy.url });
      const trap = proxy.cutAfterNextUpstreamMatch('only-once');
      expect((await settled(near.set('x', 'only-once', { ifVersion: 0 }), 'set')).version).to.equal(1);
      await trap;
      expect((await near.get('x'))?.value).to.equal('only-once');
    });

    it('a request that was lost is sent again, and applied once', async () => {
      const proxy = await stores.proxy();
      const near = await stores.open({ redis: proxy.url, attemptTimeout: 200 });
      const other = await stores.open();
      const end = proxy.drop({ direction: 'up', when: (chunk) => chunk.includes('lost-request') && proxy.faults.dropped === 0 });
      expect((await settled(near.set('x', 'lost-request'), 'set')).version).to.equal(1);
      end();
      expect(proxy.faults.dropped).to.equal(1);
      expect(await other.get('x')).to.include({ value: 'lost-request', version: 1 });
      expect(await other.history('x')).to.have.lengthOf(1);
    });

    it('a request that arrives after its time, when others have written already, is not applied any more', async () => {
      const proxy = await stores.proxy();
      const near = await stores.open({ redis: proxy.url, attemptTimeout: 300 });
      const other = await stores.open();
      await other.set('x', 'before');
      let late = Buffer.alloc(0);
      const end = proxy.drop({
        direction: 'up',
        when: (chunk) => {
          if (late.length > 0 || !chunk.includes('late-request')) return false;
          late = Buffer.from(chunk);
          return true;
        },
      });
      expect((await settled(near.set('x', 'late-request'), 'set')).version).to.equal(2);
      end();
      await other.set('x', 'after');
      // what the network held back is delivered now, by a connection that nobody listens to any more
      const socket = createConnection(server.port, '127.0.0.1');
      let reply = '';
      socket.setEncoding('utf8').on('data', (text: string) => {
        reply += text;
      });
      socket.write(late);
      await waitFor(() => reply.includes('\r\n'), { what: 'the reply to the late request' });
      socket.destroy();
      expect(reply).to.contain('LATE');
      expect(await other.get('x', { fresh: true })).to.include({ value: 'after', version: 3 });
      expect(await other.history('x')).to.have.lengthOf(3);
    });

    it('while connections are cut all the time, every write that is acknowledged is there exactly once', async () => {
      const proxy = await stores.proxy();
      const near = await stores.open({ redis: proxy.url, attemptTimeout: 200, timeout: '20s' });
      const other = await stores.open();
      await other.set('x', []);
      for (let n = 0; n < 40; n += 1) {
        // before the request is on its way, while it is, or when the reply is
        if (n % 3 === 0) setTimeout(() => proxy.cut(), (n / 3) % 4);
        const { value } = await near.update<number[]>('x', (draft) => {
          draft.push(n);
        });
        expect(value).to.have.lengthOf(n + 1);
      }
      expect(await other.get('x', { fresh: true })).to.deep.include({
        version: 41,
        value: Array.from({ length: 40 }, (_, n) => n),
      });
      expect(proxy.accepted).to.be.greaterThan(4);
    });
  });

  describe('close', () => {
    useServer();

    it('refuses every later call with CLOSED, and can be called again', async () => {
      const store = await stores.open();
      await store.set('x', 1);
      await untilReplica(store, 'x');
      const closing = store.close();
      const calls: [string, () => Promise<unknown>][] = [
        ['get', () => store.get('x')],
        ['fresh get', () => store.get('x', { fresh: true })],
        ['getMany', () => store.getMany(['x'])],
        ['has', () => store.has('x')],
        ['set', () => store.set('x', 2)],
        ['update', () => store.update('x', () => 2)],
        ['patch', () => store.patch('x', [])],
        ['delete', () => store.delete('x')],
        ['touch', () => store.touch('x', '1h')],
        ['list', () => store.list()],
        ['history', () => store.history('x')],
        ['verify', () => store.verify('x')],
        ['rawBytes', () => store.rawBytes('x')],
        ['stats', () => store.stats()],
      ];
      for (const round of ['while it closes', 'once it is closed']) {
        for (const [name, call] of calls) expect(await settled(outcome(call()), name), `${name} ${round}`).to.equal('CLOSED');
        await closing;
      }
      await store.close();
      expect((await refusal('CLOSED', () => store.set('x', 1))).message).to.contain('ContextStore.connect');
      const other = await stores.open();
      expect(await other.get('x')).to.include({ version: 1, value: 1 });
    });

    it('ends the calls that are in flight: each is done, or refused and not applied', async () => {
      const [store, other] = await stores.pair();
      const writes = Array.from({ length: 100 }, (_, index) => store.set(`x-${index}`, index).then(() => 'done', codeOf));
      const reads = Array.from({ length: 20 }, (_, index) => outcome(store.get(`x-${index}`)));
      const update = outcome(store.update('u', () => 1, { initial: 0 }));
      await new Promise((resolve) => setImmediate(resolve));
      await settled(store.close(), 'close');
      const results = await settled(Promise.all(writes), 'the writes');
      for (const [index, result] of results.entries()) {
        const there = await other.has(`x-${index}`);
        expect([result, there], `write ${index}`).to.deep.equal(there ? ['done', true] : ['CLOSED', false]);
      }
      for (const result of await settled(Promise.all([...reads, update]), 'the rest')) expect(result).to.match(/^(ok|CLOSED)$/);
    });

    it('does not wait for a server that does not answer, nor for one that is not there', async () => {
      const own = await RedisServer.start();
      const options = { redis: own.url, attemptTimeout: 300 };
      const [hung, away] = [await stores.open(options), await stores.open(options)];
      await own.pause();
      const waiting = outcome(hung.set('x', 1, { timeout: '1h' }));
      await settled(hung.close(), 'close');
      expect(await settled(waiting, 'the write')).to.equal('CLOSED');
      own.resume();
      await own.kill();
      const reading = outcome(away.get('x', { timeout: '1h' }));
      await settled(away.close(), 'close');
      expect(await settled(reading, 'the read')).to.equal('CLOSED');
      await own.stop();
    });

    it('leaves nothing on the server, and lets the process end by itself', async () => {
      const script = fileURLToPath(new URL('../helpers/closingStore.ts', import.meta.url));
      // killed past the limit, which makes it reject
      const { stdout, stderr } = await promisify(execFile)(
        process.execPath,
        ['--import', 'tsx', script, server.url, stores.namespace],
        {
          timeout: 20_000,
          killSignal: 'SIGKILL',
        },
      );
      expect({ stdout, stderr }).to.deep.equal({ stdout: 'change 1\nchange 2\nclosed\n', stderr: '' });
      const clients = await server.cli('client', 'list');
      expect(clients).to.not.contain('lukhas-context');
    });
  });
});
