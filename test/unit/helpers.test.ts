import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { Redis } from 'ioredis';
import { uniqueNamespace } from '../helpers/namespace.js';
import { freePort } from '../helpers/ports.js';
import { spawnNode } from '../helpers/processes.js';
import { RedisServer, sharedServer } from '../helpers/RedisServer.js';
import { RespSplitter } from '../helpers/RespSplitter.js';
import { EDIT_KINDS, editConversation, makeConversation, seededRng } from '../helpers/random.js';
import { TcpProxy } from '../helpers/TcpProxy.js';
import { waitFor } from '../helpers/waitFor.js';

/** What `promise` was rejected with; fails where it was not. */
async function failure(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    return error as Error;
  }
  throw new Error('it should have been rejected');
}

/** False for a zombie too: an orphan is one until its new parent looks. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch (error) {
    // where there is no /proc, the signal alone has to tell
    return (error as NodeJS.ErrnoException).code === 'ENOENT' && !existsSync('/proc/self/stat');
  }
}

/** A client without patience: one connection, no reconnect, nothing sent twice. */
function fragileClient(url: string): Redis {
  const client = new Redis(url, {
    retryStrategy: () => null,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    enableReadyCheck: false,
  });
  client.on('error', () => {});
  return client;
}

const CHILD = new URL('../helpers/childForTests.ts', import.meta.url);

describe('helpers', () => {
  describe('waitFor', () => {
    it('gives the first truthy value', async () => {
      let looks = 0;
      expect(await waitFor(() => ++looks >= 3 && { looks }, { what: 'the third look' })).to.deep.equal({ looks: 3 });
    });

    it('says what it waited for and the last value', async () => {
      const error = await failure(waitFor(() => 0, { what: 'a change', limitMs: 20 }));
      expect(error.message).to.equal('waited 20 ms for a change; last value: 0');
    });

    it('takes errors as not yet, and ends with the last one as cause', async () => {
      let looks = 0;
      const flaky = () => {
        if (++looks < 3) throw new Error('not there');
        return 'there';
      };
      expect(await waitFor(flaky, { what: 'it' })).to.equal('there');
      const cause = new Error('never there');
      const error = await failure(waitFor(() => Promise.reject(cause), { what: 'it', limitMs: 20 }));
      expect(error.message).to.contain('last error: never there');
      expect(error.cause).to.equal(cause);
    });

    it('outlasts a condition that hangs', async () => {
      const error = await failure(waitFor(() => new Promise<true>(() => {}), { what: 'it', limitMs: 20 }));
      expect(error.message).to.contain('the condition never answered');
    });
  });

  describe('uniqueNamespace', () => {
    it('never repeats and has only [a-z0-9-]', () => {
      const names = Array.from({ length: 1000 }, () => uniqueNamespace('load'));
      expect(new Set(names).size).to.equal(1000);
      for (const name of names) expect(name).to.match(/^load-[a-z0-9-]+$/);
      expect(() => uniqueNamespace('a:b')).to.throw('[a-z0-9-]');
    });
  });

  describe('cleanup', () => {
    it('ends what is left, the youngest first, once, and tells what failed after all had their turn', async () => {
      const child = await spawnNode(CHILD);
      expect(await child.request(['end all'])).to.deep.equal({
        ended: ['last', 'second', 'second now', 'first'],
        failures: ['second would not end'],
      });
      await child.kill();
    });

    for (const how of ['exit in order', 'SIGTERM', 'SIGINT'] as const) {
      it(`leaves no server and no directory after ${how}`, async () => {
        const child = await spawnNode(CHILD);
        const { pid, dir } = await child.request<{ pid: number; dir: string }>(['start a server']);
        expect(isAlive(pid)).to.equal(true);
        expect(existsSync(dir)).to.equal(true);
        if (how === 'exit in order') await failure(child.request(['exit in order']));
        else expect(await child.kill(how)).to.deep.equal({ code: null, signal: how });
        await child.exited;
        await waitFor(() => !isAlive(pid), { what: `redis-server ${pid} to be gone` });
        expect(existsSync(dir)).to.equal(false);
      });
    }
  });

  describe('RedisServer', () => {
    it('starts with nothing persisted and no eviction, and answers a client and redis-cli', async () => {
      const server = await RedisServer.start();
      expect(await server.client().set('a', '1')).to.equal('OK');
      expect(await server.cli('get', 'a')).to.equal('1');
      expect(await server.cli('config', 'get', 'maxmemory-policy')).to.equal('maxmemory-policy\nnoeviction');
      expect(await server.cli('config', 'get', 'save')).to.equal('save\n');
      expect(await server.cli('config', 'get', 'appendonly')).to.equal('appendonly\nno');
      expect(await server.cli('info', 'server'))
        .to.contain(`process_id:${server.pid}`)
        .and.to.contain(`tcp_port:${server.port}`);
      expect(await server.cli('config', 'get', 'dir')).to.equal(`dir\n${server.dir}`);
      expect(await server.cli('--raw', 'echo', 'text\n')).to.equal('text\n');
      await server.stop();
    });

    it('passes on config and args, the latter winning', async () => {
      const server = await RedisServer.start({
        config: { 'maxmemory-policy': 'allkeys-lru', maxmemory: '50mb', 'slowlog-max-len': '7' },
        args: ['--slowlog-max-len', '9'],
      });
      expect(await server.cli('config', 'get', 'maxmemory-policy')).to.contain('allkeys-lru');
      expect(await server.cli('config', 'get', 'maxmemory')).to.contain(String(50 * 1024 * 1024));
      expect(await server.cli('config', 'get', 'slowlog-max-len')).to.contain('9');
      await server.stop();
    });

    it('has redis-cli reject an error answer', async () => {
      const server = await RedisServer.start();
      expect((await failure(server.cli('nonsense'))).message).to.contain('unknown command');
      await server.stop();
    });

    it('starts twelve at once, each on a port and in a directory of its own', async () => {
      const servers = await Promise.all(Array.from({ length: 12 }, () => RedisServer.start()));
      expect(new Set(servers.map((server) => server.port)).size).to.equal(12);
      expect(new Set(servers.map((server) => server.dir)).size).to.equal(12);
      await Promise.all(servers.map((server, n) => server.cli('set', 'n', String(n))));
      const found = await Promise.all(servers.map((server) => server.cli('get', 'n')));
      expect(found).to.deep.equal(servers.map((_, n) => String(n)));
      await Promise.all(servers.map((server) => server.stop()));
    });

    it('leaves no process, directory or client after stop', async () => {
      const server = await RedisServer.start();
      const client = server.client();
      await client.ping();
      const { pid, dir } = server;
      await server.stop();
      expect(isAlive(pid)).to.equal(false);
      expect(existsSync(dir)).to.equal(false);
      await waitFor(() => client.status === 'end', { what: 'the client to have ended' });
      expect(server.running).to.equal(false);
      expect(() => server.pid).to.throw('not running');
      await server.stop();
    });

    it('keeps a directory that was given', async () => {
      const dir = mkdtempSync(join(tmpdir(), 'lukhas-given-'));
      try {
        const server = await RedisServer.start({ dir, appendOnly: true });
        await server.cli('set', 'a', '1');
        await server.stop();
        const second = await RedisServer.start({ dir, appendOnly: true });
        expect(await second.cli('get', 'a')).to.equal('1');
        await second.stop();
        expect(existsSync(dir)).to.equal(true);
      } finally {
        rmSync(dir, { recursive: true });
      }
    });

    it('has every acknowledged write after SIGKILL and restart, with appendOnly, and the client comes back', async () => {
      const server = await RedisServer.start({ appendOnly: true });
      const client = server.client();
      for (let n = 1; n <= 100; n++) await client.incr('n');
      const { port, pid } = server;
      await server.kill();
      expect(isAlive(pid)).to.equal(false);
      await server.restart();
      expect(server.port).to.equal(port);
      expect(server.pid).not.to.equal(pid);
      expect(await client.get('n')).to.equal('100');
      await server.stop();
    });

    it('restarts while it runs, and after a stop that keeps its data', async () => {
      const server = await RedisServer.start({ appendOnly: true });
      await server.cli('set', 'a', '1');
      await server.restart();
      expect(await server.cli('get', 'a')).to.equal('1');
      await server.stop({ keepData: true });
      await server.restart();
      expect(await server.cli('get', 'a')).to.equal('1');
      await server.stop();
    });

    it('comes back empty after a SIGKILL without appendOnly', async () => {
      const server = await RedisServer.start();
      await server.cli('set', 'a', '1');
      await server.kill();
      await server.restart();
      expect(await server.cli('exists', 'a')).to.equal('0');
      await server.stop();
    });

    it('has its port back although a client tries to reconnect all the time', async () => {
      const server = await RedisServer.start();
      const client = server.client({ retryStrategy: () => 1, maxRetriesPerRequest: null });
      await server.kill();
      const answer = client.ping();
      await server.restart();
      expect(await answer).to.equal('PONG');
      await server.stop();
    });

    it('takes another port when somebody was faster', async () => {
      const first = await RedisServer.start();
      const ports = [first.port, first.port];
      const second = await RedisServer.start({}, async () => ports.pop() ?? freePort());
      expect(ports).to.deep.equal([]);
      expect(second.port).not.to.equal(first.port);
      expect(await second.cli('info', 'server')).to.contain(`process_id:${second.pid}`);
      await Promise.all([first.stop(), second.stop()]);
    });

    it('waits with a restart for its port, and fails where somebody keeps it', async () => {
      const server = await RedisServer.start();
      await server.kill();
      const squat = async () => {
        const squatter = createServer((socket) => socket.destroy()).listen(server.port, '127.0.0.1');
        await once(squatter, 'listening');
        return squatter;
      };
      const brief = await squat();
      const restarted = server.restart();
      await waitFor(() => server.log.includes('already in use'), { what: 'a first attempt to fail' });
      brief.close();
      await restarted;
      expect(await server.cli('ping')).to.equal('PONG');

      await server.kill();
      const lasting = await squat();
      expect((await failure(server.restart())).message).to.equal(`port ${server.port} is taken`);
      lasting.close();
      await server.restart();
      await server.stop();
    });

    it('hangs a PING from pause until resume', async () => {
      const server = await RedisServer.start();
      const client = server.client();
      await client.ping();
      const impatient = server.client({ commandTimeout: 200 });
      await impatient.ping();
      await server.pause();
      const ping = client.ping();
      expect((await failure(impatient.ping())).message).to.equal('Command timed out');
      const other = connect(server.port, '127.0.0.1');
      await once(other, 'connect'); // the kernel still takes connections
      other.destroy();
      server.resume();
      expect(await ping).to.equal('PONG');
      await server.stop();
    });

    it('stops and kills a paused server', async () => {
      const server = await RedisServer.start();
      await server.pause();
      await server.kill();
      await server.restart();
      await server.pause();
      await server.stop();
      expect(server.running).to.equal(false);
    });

    it('asks for the password, and has it in its url', async () => {
      const server = await RedisServer.start({ password: 'a "b" c/@:\\é' });
      const client = new Redis(server.url);
      expect(await client.ping()).to.equal('PONG');
      client.disconnect();
      expect(await server.client().ping()).to.equal('PONG');
      expect(await server.cli('ping')).to.equal('PONG');
      const stranger = fragileClient(`redis://127.0.0.1:${server.port}`);
      expect((await failure(stranger.ping())).message).to.contain('NOAUTH');
      stranger.disconnect();
      await server.stop();
    });

    it('has the users that were asked for, and keeps its own access when the default user is off', async () => {
      const server = await RedisServer.start({ acl: ['alice on >s3cret ~a:* &* +get +ping', 'default off'] });
      const alice = fragileClient(server.urlFor('alice', 's3cret'));
      expect(await alice.get('a:1')).to.equal(null);
      expect((await failure(alice.set('a:1', '1'))).message).to.contain('NOPERM');
      expect((await failure(alice.get('b'))).message).to.contain('NOPERM');
      alice.disconnect();
      expect(await server.client().set('b', '1')).to.equal('OK');
      expect(await server.cli('get', 'b')).to.equal('1');
      await server.restart();
      expect(await server.cli('acl', 'whoami')).to.equal('harness');
      await server.stop();
    });

    it('says what the server printed when it does not start, and leaves nothing behind', async () => {
      const temporary = mkdtempSync(join(tmpdir(), 'lukhas-given-'));
      const child = await spawnNode(CHILD, { env: { TMPDIR: temporary } });
      try {
        const error = await failure(child.request(['start a server', { config: { 'no-such-setting': '1' } }]));
        expect(error.message).to.contain('redis-server did not start: exit code 1').and.to.contain('no-such-setting');
        expect(readdirSync(temporary).filter((name) => name.startsWith('lukhas'))).to.deep.equal([]);
        const { dir } = await child.request<{ dir: string }>(['start a server']);
        expect(dir.startsWith(join(temporary, 'lukhas-redis-'))).to.equal(true);
      } finally {
        await child.kill('SIGTERM');
        rmSync(temporary, { recursive: true });
      }
    });

    it('says what to do where there is no redis-server', async () => {
      const child = await spawnNode(CHILD, { env: { LUKHAS_REDIS_SERVER: '/nowhere/redis-server' } });
      const error = await failure(child.request(['start a server']));
      expect(error.message).to.contain('/nowhere/redis-server was not found: install redis-server');
      await child.kill();
    });
  });

  describe('sharedServer', () => {
    it('is one server for all', async () => {
      const [a, b] = await Promise.all([sharedServer(), sharedServer()]);
      expect(a.url).to.equal(b.url);
      const client = new Redis(a.url);
      expect(await client.ping()).to.equal('PONG');
      client.disconnect();
    });

    it('is the one that the environment names', async () => {
      const child = await spawnNode(CHILD, { env: { LUKHAS_TEST_REDIS_URL: 'redis://elsewhere:1' } });
      expect(await child.request(['shared server'])).to.equal('redis://elsewhere:1');
      await child.kill();
    });
  });

  describe('TcpProxy', () => {
    let server: RedisServer;
    let proxy: TcpProxy;
    let direct: Redis;
    const clients: Redis[] = [];
    const through = (client: Redis): Redis => {
      clients.push(client);
      return client;
    };

    before(async () => {
      server = await RedisServer.start();
      direct = server.client();
    });
    beforeEach(async () => {
      proxy = await TcpProxy.start(server.port);
    });
    afterEach(async () => {
      for (const client of clients.splice(0)) client.disconnect();
      await proxy.close();
    });
    after(() => server.stop());

    it('passes everything on, in both directions, and counts it', async () => {
      const client = through(fragileClient(proxy.url));
      await client.ping();
      proxy.resetCounters();
      const large = randomBytes(3_000_000);
      await client.set('large', large);
      const back = await client.getBuffer('large');
      expect(back?.equals(large)).to.equal(true);
      const overhead = 100;
      expect(proxy.bytesUp).to.be.within(large.length, large.length + overhead);
      expect(proxy.bytesDown).to.be.within(large.length, large.length + overhead);
      expect(proxy.connections).to.equal(1);
    });

    it('passes on the end of a connection from either side', async () => {
      const client = through(fragileClient(proxy.url));
      await client.ping();
      const id = await client.client('ID');
      client.disconnect();
      await waitFor(async () => !((await direct.client('LIST')) as string).includes(`id=${id} `), {
        what: 'the server to lose the connection',
      });
      await waitFor(() => proxy.connections === 0, { what: 'the proxy to have no connection' });

      const second = through(fragileClient(proxy.url));
      await second.ping();
      await direct.client('KILL', 'ID', await second.client('ID'));
      await waitFor(() => second.status === 'end', { what: 'the client to be disconnected' });
    });

    it('cut resets what is open; the next connection works', async () => {
      const client = through(new Redis(proxy.url, { retryStrategy: () => 5 }));
      const errors: string[] = [];
      client.on('error', (error: NodeJS.ErrnoException) => errors.push(String(error.code)));
      await client.ping();
      proxy.cut();
      await waitFor(() => errors.length > 0, { what: 'the client to see the reset' });
      expect(errors).to.deep.equal(['ECONNRESET']);
      expect(await client.ping()).to.equal('PONG');
      expect(proxy.accepted).to.equal(2);
    });

    it('refuses new connections, keeps the old ones, and lets them in again', async () => {
      const old = through(fragileClient(proxy.url));
      await old.ping();
      proxy.refuse(true);
      const late = through(fragileClient(proxy.url));
      await failure(late.ping());
      expect(await old.ping()).to.equal('PONG');
      proxy.refuse(false);
      expect(await through(fragileClient(proxy.url)).ping()).to.equal('PONG');
    });

    for (const direction of ['up', 'down', 'both'] as const) {
      it(`pause(${direction}) hangs a command until resume, and the order stays`, async () => {
        const client = through(fragileClient(proxy.url));
        const impatient = through(new Redis(proxy.url, { commandTimeout: 100 }));
        await Promise.all([client.ping(), impatient.ping()]);
        const key = uniqueNamespace();
        proxy.pause(direction);
        const pushes = [1, 2, 3].map((n) => client.rpush(key, n));
        expect((await failure(impatient.ping())).message).to.equal('Command timed out');
        // held on the way to the server, or done with only the reply held
        if (direction === 'down')
          await waitFor(async () => (await direct.llen(key)) === 3, { what: 'the commands to be executed' });
        else expect(await direct.llen(key)).to.equal(0);
        expect(proxy.connections).to.equal(2);
        proxy.resume();
        expect(await Promise.all(pushes)).to.deep.equal([1, 2, 3]);
        expect(await direct.lrange(key, 0, -1)).to.deep.equal(['1', '2', '3']);
      });
    }

    it('a paused proxy hides that the server has closed the connection', async () => {
      const client = through(fragileClient(proxy.url));
      const id = await client.client('ID');
      proxy.pause('down');
      await direct.client('KILL', 'ID', id);
      await direct.ping();
      expect(client.status).to.equal('ready');
      proxy.resume();
      await waitFor(() => client.status === 'end', { what: 'the client to be disconnected' });
    });

    it('delays every chunk, in order, until told otherwise', async () => {
      const client = through(fragileClient(proxy.url));
      await client.ping();
      proxy.delay(60);
      const from = performance.now();
      expect(await Promise.all([client.echo('a'), client.echo('b')])).to.deep.equal(['a', 'b']);
      expect(performance.now() - from).to.be.at.least(119); // both ways; a lower bound holds on any machine
      const impatient = through(new Redis(proxy.url, { commandTimeout: 30 }));
      impatient.on('error', () => {}); // what it asks by itself is late as well
      expect((await failure(impatient.ping())).message).to.equal('Command timed out');
      proxy.delay(0);
      expect(await client.ping()).to.equal('PONG');
    });

    it('drops the chunks that a rule names, until the rule is lifted', async () => {
      const client = through(new Redis(proxy.url, { commandTimeout: 200 }));
      await client.ping();
      const seen = new Set<number>();
      const lift = proxy.drop({
        direction: 'down',
        when: (chunk, index) => {
          seen.add(index);
          return chunk.includes('secret');
        },
      });
      expect(await client.echo('open')).to.equal('open');
      expect((await failure(client.echo('secret'))).message).to.equal('Command timed out');
      expect(proxy.faults.dropped).to.equal(1);
      expect(seen).to.deep.equal(new Set([0]));
      lift();
      const fresh = through(fragileClient(proxy.url));
      expect(await fresh.echo('secret')).to.equal('secret');
    });

    it('drops what is sent up: the command is never executed', async () => {
      const client = through(new Redis(proxy.url, { commandTimeout: 200 }));
      await client.ping();
      const key = uniqueNamespace();
      proxy.drop({ direction: 'up', when: (chunk) => chunk.includes(key) });
      expect((await failure(client.set(key, '1'))).message).to.equal('Command timed out');
      expect(await direct.exists(key)).to.equal(0);
    });

    it('flips the lowest bit of the byte that a rule names, and nothing else', async () => {
      const client = through(fragileClient(proxy.url));
      await client.ping();
      const lift = proxy.flip((chunk) => chunk.indexOf('e'));
      expect(await client.echo('hello hello')).to.equal('hdllo hello');
      expect(await client.echo('all')).to.equal('all');
      expect(proxy.faults.flipped).to.equal(1);
      lift();
      expect(await client.echo('hello')).to.equal('hello');
      proxy.flip((chunk) => chunk.indexOf('stored'), 'up');
      const key = uniqueNamespace();
      await client.set(key, 'stored');
      expect(await direct.get(key)).to.equal('rtored');
    });

    it('flips by chance: one bit in a chunk, the same ones for the same seed', async () => {
      const received = async (seed: number): Promise<{ bytes: Buffer; flipped: number }> => {
        const echo = createEchoServer();
        const port = await echo.port;
        const damaging = await TcpProxy.start(port, { seed });
        damaging.flip(0.5, 'down');
        const socket = connect(damaging.port, '127.0.0.1');
        const answers: Buffer[] = [];
        for (let n = 0; n < 40; n++) {
          socket.write(Buffer.alloc(16));
          const [answer] = (await once(socket, 'data')) as [Buffer];
          answers.push(answer);
        }
        socket.destroy();
        await damaging.close();
        await echo.close();
        return { bytes: Buffer.concat(answers), flipped: damaging.faults.flipped };
      };
      const first = await received(7);
      const bits = [...first.bytes].reduce((sum, byte) => sum + byte.toString(2).replaceAll('0', '').length, 0);
      expect(first.flipped).to.be.within(1, 39);
      expect(bits).to.equal(first.flipped);
      expect((await received(7)).bytes.equals(first.bytes)).to.equal(true);
      expect((await received(8)).bytes.equals(first.bytes)).to.equal(false);
    });

    it('cutAfterNextUpstreamMatch loses the reply of a command that the server has executed, once', async () => {
      const client = through(fragileClient(proxy.url));
      const bystander = through(fragileClient(proxy.url));
      await Promise.all([client.ping(), bystander.ping()]);
      const key = uniqueNamespace();
      const lost = proxy.cutAfterNextUpstreamMatch(key);
      expect(await client.echo('something else')).to.equal('something else');
      await failure(client.incr(key));
      await lost;
      expect(client.status).to.equal('end');
      expect(await direct.get(key)).to.equal('1');
      expect(await bystander.incr(key)).to.equal(2);
    });

    it('cutAfterNextUpstreamMatch hands on the whole of a large command, however slowly', async () => {
      const client = through(fragileClient(proxy.url));
      await client.ping();
      const key = uniqueNamespace();
      const lost = proxy.cutAfterNextUpstreamMatch(Buffer.from(key));
      proxy.delay(20);
      await failure(client.set(key, Buffer.alloc(5_000_000, 'x')));
      await lost;
      expect(await direct.strlen(key)).to.equal(5_000_000);
    });

    it('cutAfterNextUpstreamMatch finds a pattern that lies across two chunks, and passes over half a command', async () => {
      const key = uniqueNamespace();
      const command = `*3\r\n$3\r\nSET\r\n$${key.length}\r\n${key}\r\n$1\r\n1\r\n`;
      const lost = proxy.cutAfterNextUpstreamMatch(key);
      const half = connect({ port: proxy.port, host: '127.0.0.1', noDelay: true });
      await once(half, 'connect');
      half.end(command.slice(0, -3));
      await once(half.resume(), 'close');

      const whole = connect({ port: proxy.port, host: '127.0.0.1', noDelay: true });
      await once(whole, 'connect');
      const cut = once(whole, 'error');
      for (const part of [command.slice(0, 30), command.slice(30)]) {
        const before = proxy.bytesUp;
        whole.write(part);
        await waitFor(() => proxy.bytesUp === before + part.length, { what: 'the proxy to pass it on' });
      }
      const [error] = (await cut) as [NodeJS.ErrnoException];
      expect(error.code).to.equal('ECONNRESET');
      await lost;
      expect(await direct.get(key)).to.equal('1');
    });

    it('close ends every connection, and a trap that nobody met', async () => {
      const client = through(fragileClient(proxy.url));
      await client.ping();
      const lost = proxy.cutAfterNextUpstreamMatch('never sent');
      await proxy.close();
      expect((await failure(lost)).message).to.contain('never sent');
      await waitFor(() => client.status === 'end', { what: 'the client to be disconnected' });
      expect(proxy.connections).to.equal(0);
      await failure(through(fragileClient(proxy.url)).ping());
    });

    it('resets a client whose server is not there', async () => {
      const gone = await RedisServer.start();
      const dead = await TcpProxy.start(gone.port);
      await gone.stop();
      await failure(through(fragileClient(dead.url)).ping());
      await dead.close();
    });
  });

  describe('RespSplitter', () => {
    it('finds the ends of commands however the bytes are cut', () => {
      const commands = [
        '*1\r\n$4\r\nPING\r\n',
        '*3\r\n$3\r\nSET\r\n$1\r\na\r\n$8\r\n*1\r\n$1\r\n\r\n',
        'PING\r\n',
        '*2\r\n$4\r\nECHO\r\n$0\r\n\r\n',
      ];
      const bytes = Buffer.from(commands.join(''));
      const ends = commands.map((_, n) => commands.slice(0, n + 1).join('').length);
      for (let size = 1; size <= bytes.length; size++) {
        const splitter = new RespSplitter();
        const found: number[] = [];
        for (let at = 0; at < bytes.length; at += size) found.push(...splitter.feed(bytes.subarray(at, at + size)));
        expect(found).to.deep.equal(ends);
        expect(splitter.offset).to.equal(bytes.length);
      }
    });
  });

  describe('spawnNode', () => {
    it('runs a TypeScript file, with arguments and environment, and asks it', async () => {
      const child = await spawnNode(CHILD, { args: ['one', 'two words'], env: { LUKHAS_PROBE: 'set' } });
      expect(await child.request(['arguments'])).to.deep.equal(['one', 'two words']);
      expect(await child.request(['environment', 'LUKHAS_PROBE'])).to.equal('set');
      const value = { bytes: new Uint8Array([1, 2]), map: new Map([['a', 1n]]), nothing: undefined };
      expect(await child.request(['echo', value])).to.deep.equal(value);
      expect(await Promise.all([1, 2, 3].map((n) => child.request(['echo', n])))).to.deep.equal([1, 2, 3]);
      expect(await child.kill()).to.deep.equal({ code: null, signal: 'SIGKILL' });
      expect(isAlive(child.pid ?? 0)).to.equal(false);
    });

    it('passes on what the script throws, with its code', async () => {
      const child = await spawnNode(CHILD);
      const error = await failure(child.request(['fail', 'not today']));
      expect(error).to.include({ message: 'not today', code: 'ON_PURPOSE' });
      expect(error.stack).to.contain('childForTests.ts');
      await child.kill();
    });

    it('passes on events in order', async () => {
      const child = await spawnNode(CHILD);
      const events: unknown[] = [];
      const off = child.onEvent((event) => events.push(event));
      await child.request(['count', 100]);
      expect(events).to.deep.equal(Array.from({ length: 100 }, (_, n) => n + 1));
      off();
      await child.request(['count', 1]);
      expect(events).to.have.length(100);
      await child.kill();
    });

    it('rejects what was asked of a process that ends, with its stderr', async () => {
      const child = await spawnNode(CHILD);
      const waiting = failure(child.request(['hang']));
      const error = await failure(child.request(['complain', 'out of cheese']));
      expect(error.message).to.contain('ended before it answered (exit code 3)').and.to.contain('out of cheese');
      expect((await waiting).message).to.contain('out of cheese');
      expect(await child.exited).to.deep.equal({ code: 3, signal: null });
      expect((await failure(child.request(['echo', 1]))).message).to.contain('had ended');
    });

    it('ends with its parent, even where that is killed', async () => {
      const parent = await spawnNode(CHILD);
      const pid = await parent.request<number>(['start another']);
      expect(isAlive(pid)).to.equal(true);
      await parent.kill('SIGKILL');
      await waitFor(() => !isAlive(pid), { what: 'the grandchild to be gone' });
    });

    it('gives up on an answer after the limit', async () => {
      const child = await spawnNode(CHILD);
      expect((await failure(child.request(['hang'], { limitMs: 30 }))).message).to.contain('did not answer within 30 ms');
      await child.kill();
    });

    it('stops and continues by signal', async () => {
      const child = await spawnNode(CHILD);
      child.signal('SIGSTOP');
      await failure(child.request(['echo', 1], { limitMs: 100 }));
      child.signal('SIGCONT');
      expect(await child.request(['echo', 2])).to.equal(2);
      await child.kill();
    });

    it('shows why a script did not start', async () => {
      const error = await failure(spawnNode(new URL('../helpers/no-such-file.ts', import.meta.url)));
      expect(error.message)
        .to.contain('no-such-file.ts ended before it answered (exit code 1)')
        .and.to.contain('Cannot find module');
    });
  });

  describe('random', () => {
    it('repeats itself for a seed, and only for that', () => {
      const draw = (seed: number) => {
        const rng = seededRng(seed);
        return Array.from({ length: 20 }, () => rng.int(0, 1000));
      };
      expect(draw(1)).to.deep.equal(draw(1));
      expect(draw(1)).not.to.deep.equal(draw(2));
    });

    it('is mulberry32', () => {
      const rng = seededRng(1);
      expect([rng.next(), rng.next()].map((n) => Math.floor(n * 2 ** 32))).to.deep.equal([2693262067, 11749833]);
    });

    it('draws every integer of a range about as often', () => {
      const rng = seededRng(3);
      const counts = [0, 0, 0, 0, 0];
      for (let n = 0; n < 5000; n++) {
        const drawn = rng.int(-2, 2) + 2;
        counts[drawn] = (counts[drawn] ?? 0) + 1;
      }
      for (const count of counts) expect(count).to.be.within(850, 1150);
    });

    for (const bytes of [1000, 1024, 10_240, 102_400, 1_000_000]) {
      it(`makes a conversation of exactly ${bytes} bytes, plain JSON`, () => {
        for (let seed = 0; seed < (bytes > 200_000 ? 2 : 40); seed++) {
          const doc = makeConversation(seed, bytes);
          const text = JSON.stringify(doc);
          expect(Buffer.byteLength(text)).to.equal(bytes);
          expect(JSON.parse(text)).to.deep.equal(doc);
        }
        expect(makeConversation(5, bytes)).to.deep.equal(makeConversation(5, bytes));
        expect(makeConversation(5, bytes)).not.to.deep.equal(makeConversation(6, bytes));
      });
    }

    it('has a text of 5 KB, tool calls and characters beyond ASCII from 16 KB on', () => {
      const doc = makeConversation(1, 20_000);
      expect(Math.max(...doc.turns.map((turn) => turn.text.length))).to.be.at.least(5 * 1024);
      expect(doc.turns.some((turn) => (turn.toolCalls ?? []).length > 0)).to.equal(true);
      expect(JSON.stringify(doc)).to.contain('東京').and.to.contain('🙂');
    });

    it('each kind of edit changes what it says and leaves the original as it was', () => {
      const doc = makeConversation(2, 30_000);
      const original = structuredClone(doc);
      const ids = doc.turns.map((turn) => turn.id);
      for (const kind of EDIT_KINDS) {
        for (let seed = 0; seed < 20; seed++) {
          const next = editConversation(doc, seededRng(seed), kind);
          const nextIds = next.turns.map((turn) => turn.id);
          expect(doc).to.deep.equal(original);
          expect(next).not.to.deep.equal(original);
          expect(JSON.parse(JSON.stringify(next))).to.deep.equal(next);
          if (kind === 'append') expect(nextIds.slice(0, -1)).to.deep.equal(ids);
          else if (kind === 'head') expect(nextIds.slice(1)).to.deep.equal(ids);
          else if (kind === 'delete') {
            expect(nextIds).to.have.length(ids.length - 1);
            expect([nextIds[0], nextIds.at(-1)]).to.deep.equal([ids[0], ids.at(-1)]);
          } else expect(nextIds).to.deep.equal(ids);
          if (kind === 'text') {
            const changed = next.turns.filter((turn, n) => turn.text !== doc.turns[n]?.text);
            expect(changed).to.have.length(1);
            expect(changed[0]?.text.length).to.be.within(4900, 5600);
          }
        }
      }
    });

    it('grows a conversation over many edits, the same way for the same seed', () => {
      const grow = () => {
        const rng = seededRng(9);
        let doc = makeConversation(9, 2000);
        for (let n = 0; n < 300; n++) doc = editConversation(doc, rng);
        return doc;
      };
      expect(grow()).to.deep.equal(grow());
      expect(grow().turns.length).to.be.above(100);
    });
  });
});

/** Sends back what it is sent, on a free port. */
function createEchoServer(): { readonly port: Promise<number>; close(): Promise<void> } {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.pipe(socket);
  });
  server.listen(0, '127.0.0.1');
  return {
    port: once(server, 'listening').then(() => (server.address() as AddressInfo).port),
    close: async () => {
      const closed = once(server, 'close');
      server.close();
      await closed;
    },
  };
}
