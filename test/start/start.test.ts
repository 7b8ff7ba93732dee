import { once } from 'node:events';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { expect } from 'chai';
import { waitFor } from '../helpers/waitFor.js';
import { isAlive, Project } from './project.js';

describe('scripts/start', function () {
  this.timeout(60_000);
  let project: Project;
  beforeEach(() => {
    project = new Project();
  });
  afterEach(() => project.remove());

  describe('with a redis-server on the PATH', () => {
    it('runs the demo on a private Redis, ends with its code, and keeps the data', async () => {
      const first = await project.start({ DEMO_MS: '300', DEMO_CODE: '3' }, '--rate', 'a b').ended;
      expect(first.code, first.err).to.equal(3);
      expect(JSON.parse(first.out)).to.deep.include({ args: ['demo', '--rate', 'a b'] });
      expect(first.out).to.contain(':1\\r\\n$-1');
      expect(project.redisPid()).to.equal(undefined);

      const second = await project.start({ DEMO_MS: '300' }).ended;
      expect(second.code, second.err).to.equal(0);
      expect(second.out).to.contain(':2\\r\\n$-1');
      expect(readdirSync(project.data)).to.not.include.members(['redis.port', 'install.lock', 'redis.lock']);
    });

    for (const [signal, code] of [
      ['SIGINT', 130],
      ['SIGTERM', 143],
    ] as const) {
      it(`passes ${signal} on once, waits for the demo, stops Redis and loses nothing`, async () => {
        const run = project.start();
        await run.ready();
        const redis = project.redisPid();
        expect(redis).to.be.a('number');
        run.signal(signal);
        const end = await run.ended;
        expect(end.code, end.err).to.equal(code);
        expect(end.out.match(/demo got/g)).to.have.length(1);
        expect(end.out).to.contain(`demo got ${signal}`);
        expect(isAlive(redis ?? 0)).to.equal(false);
        // What the demo wrote on its way out was acknowledged, and is there at the next start.
        expect((await project.start({ DEMO_MS: '200' }).ended).out).to.contain('$1\\r\\n1');
      });
    }

    it('ends with the code of a demo that fails when it is interrupted', async () => {
      const run = project.start({ DEMO_CODE: '9' });
      await run.ready();
      run.signal('SIGINT');
      expect((await run.ended).code).to.equal(9);
    });

    it('ends a demo that does not listen at the second signal', async () => {
      const run = project.start({ DEAF: 'yes' });
      await run.ready();
      run.signal('SIGINT');
      await waitFor(() => run.out.includes('demo got SIGINT'), { what: 'the demo to get the signal' });
      run.signal('SIGINT');
      const end = await run.ended;
      expect(end.code, end.err).to.equal(137);
      expect(project.redisPid()).to.equal(undefined);
    });

    it('ends what the demo left behind', async () => {
      const { out } = await project.start({ LEAVE_BEHIND: 'yes', DEMO_MS: '300' }).ended;
      const pid = Number(/left behind (\d+)/.exec(out)?.[1]);
      await waitFor(() => !isAlive(pid), { what: `process ${pid} to end` });
    });

    it('shares the Redis of a start that runs, and the last one out stops it', async () => {
      const first = project.start();
      const { port } = await first.ready();
      const redis = project.redisPid();
      const second = project.start();
      expect((await second.ready()).port).to.equal(port);
      expect((await second.ready()).redis).to.match(/^:2/);
      const third = project.start();
      await third.ready();

      second.signal('SIGINT');
      expect((await second.ended).err).to.contain('Redis stays');
      expect(project.redisPid()).to.equal(redis);
      first.signal('SIGINT');
      await first.ended;
      expect(project.redisPid()).to.equal(redis);
      third.signal('SIGINT');
      expect((await third.ended).err).to.contain('Stopped Redis');
      expect(project.redisPid()).to.equal(undefined);
    });

    it('two starts at once share one Redis', async () => {
      const runs = [project.start(), project.start(), project.start()];
      const ports = await Promise.all(runs.map(async (run) => (await run.ready()).port));
      expect(new Set(ports).size).to.equal(1);
      for (const run of runs) run.signal('SIGINT');
      await Promise.all(runs.map((run) => run.ended));
      expect(project.redisPid()).to.equal(undefined);
    });

    it('takes over the Redis of a start that was killed', async () => {
      const first = project.start();
      await first.ready();
      const redis = project.redisPid();
      await first.kill();
      const second = await project.start({ DEMO_MS: '200' }).ended;
      expect(second.err).to.contain('Using the Redis that stands');
      expect(second.out).to.match(/:2/);
      expect(isAlive(redis ?? 0)).to.equal(false);
    });

    it('starts no second Redis on the data of one that hangs', async () => {
      const first = project.start();
      await first.ready();
      const redis = project.redisPid() ?? 0;
      process.kill(redis, 'SIGSTOP');
      try {
        const second = await project.start({ DEMO_MS: '200' }).ended;
        expect(second.code).to.equal(1);
        expect(second.err).to.contain(`process ${redis}) runs but does not answer`);
      } finally {
        process.kill(redis, 'SIGCONT');
      }
    });

    it('does not take another Redis on the recorded port for its own', async () => {
      const other = new Project();
      try {
        const theirs = other.start();
        const { port } = await theirs.ready();
        expect((await project.start({ DEMO_MS: '100' }).ended).code).to.equal(0);
        project.write('.data/redis.port', `${port}\n`);
        const end = await project.start({ DEMO_MS: '200' }).ended;
        expect(end.code, end.err).to.equal(0);
        expect(end.out).to.match(/:2/);
        expect(JSON.parse(end.out).port).to.not.equal(port);
        expect(other.redisPid()).to.be.a('number');
      } finally {
        await other.remove();
      }
    });

    it('an interruption during the set-up leaves nothing behind', async () => {
      project.write('build.js', `console.log('building'); setTimeout(() => {}, 1500);`);
      const run = project.start();
      await waitFor(() => run.err.includes('building'), { what: 'the build to run', limitMs: 15_000 });
      expect(project.redisPid()).to.be.a('number');
      run.signal('SIGINT');
      expect((await run.ended).code).to.equal(130);
      expect(project.redisPid()).to.equal(undefined);
      expect(readdirSync(join(project.data, 'users'))).to.deep.equal([]);
    });
  });

  describe('sets up', () => {
    it('installs and builds once, and again when something changed', async () => {
      rmSync(join(project.root, 'node_modules'), { recursive: true });
      const env = { DEMO_MS: '100' };
      const first = await project.start(env).ended;
      expect(first.code, first.err).to.equal(0);
      expect(first.err).to.contain('npm ci').and.contain('Building');
      expect((await project.start(env).ended).err).to.not.match(/npm ci|Building/);
      project.write('src/more.js', '');
      expect((await project.start(env).ended).err).to.contain('Building');
      rmSync(join(project.root, 'src/more.js'));
      expect((await project.start(env).ended).err).to.contain('Building');
      project.write('node_modules/.package-lock.json', '{"packages":{}}');
      expect((await project.start(env).ended).err).to.contain('npm ci');
    });

    it('installs Redis with the first package manager there is', async () => {
      project.withhold('redis-server');
      project.fake('sudo', '[ "$1" = -n ] && shift; exec "$@"');
      project.fake('dnf', 'exit 1');
      project.fake(
        'apk',
        `echo "$@" > "${project.bin}/apk.log"; ln -s "$(PATH='${process.env.PATH}' command -v redis-server)" "${project.bin}/redis-server"`,
      );
      const end = await project.start({ DEMO_MS: '100' }).ended;
      expect(end.code, end.err).to.equal(0);
      expect(end.err).to.contain('installing it with apk');
      expect(existsSync(join(project.bin, 'apk.log'))).to.equal(true);
    });
  });

  describe('says in one sentence what is missing', () => {
    async function refused(env: Record<string, string> = {}): Promise<string> {
      const end = await project.start({ DEMO_MS: '100', ...env }).ended;
      expect(end.code, end.err).to.equal(1);
      expect(end.out).to.equal('');
      expect(project.redisPid()).to.equal(undefined);
      const lines = end.err.trim().split('\n');
      return lines.at(-1) ?? '';
    }

    it('no Node', async () => {
      project.withhold('node');
      expect(await refused()).to.match(/^Node\.js was not found: install Node\.js 20\.19 or later .* run this again\.$/);
    });

    for (const version of ['v18.20.4', 'v20.18.3', 'v8.0.0']) {
      it(`a Node that is too old (${version})`, async () => {
        project.fake('node', `echo ${version}`);
        expect(await refused()).to.equal(
          `Node.js ${version.slice(1)} is too old: install Node.js 20.19 or later from https://nodejs.org (or with a version manager: nvm install 22), then run this again.`,
        );
      });
    }

    it('no npm', async () => {
      project.withhold('npm');
      expect(await refused()).to.match(/^npm was not found .* run this again\.$/);
    });

    it('no way to the registry', async () => {
      project.fake('npm', 'echo "npm error code ENOTFOUND" >&2; exit 1');
      rmSync(join(project.root, 'node_modules'), { recursive: true });
      expect(await refused()).to.match(/^The dependencies could not be installed .* run this again\.$/);
    });

    it('no Redis, no package manager, no Docker', async () => {
      project.withhold('redis-server');
      expect(await refused()).to.match(
        /^Redis 7\.0 or later is needed: redis-server is not on the PATH, and there is none of apt-get.* no Docker engine answers\. .* run this again\.$/,
      );
    });

    it('an installation that fails', async () => {
      project.withhold('redis-server');
      project.fake('sudo', '[ "$1" = -n ] && shift; exec "$@"');
      project.fake('apt-get', '[ "$1" = update ] || { echo "E: Unable to locate package redis-server" >&2; exit 100; }');
      expect(await refused()).to.contain('apt-get could not install it (E: Unable to locate package redis-server)');
    });

    it('no right to install', async () => {
      project.withhold('redis-server');
      project.fake('id', 'echo 1000');
      project.fake('apt-get', 'exit 0');
      expect(await refused()).to.contain('apt-get needs root rights and there is no sudo');
    });

    it('a Redis that is too old', async () => {
      project.fake('redis-server', 'echo "Redis server v=6.2.14 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64 build=0"');
      expect(await refused()).to.match(/is version 6\.2\.14, and 7\.0 or later is needed/);
    });

    it('a Redis that does not start', async () => {
      project.fake('redis-server', '[ "$1" = --version ] && echo "Redis server v=7.2.0 bits=64" || exit 1');
      expect(await refused()).to.contain('did not start');
    });

    it('a REDIS_URL that is none, or where nobody answers', async () => {
      expect(await refused({ REDIS_URL: 'localhost' })).to.match(/^REDIS_URL is not a URL/);
      expect(await refused({ REDIS_URL: 'http://localhost' })).to.match(/^REDIS_URL begins with http:/);
      expect(await refused({ REDIS_URL: 'redis://127.0.0.1:1' })).to.equal(
        'REDIS_URL (127.0.0.1:1) cannot be reached: ECONNREFUSED - start it, correct REDIS_URL, or unset it for a private Redis.',
      );
    });

    it('a REDIS_URL with a Redis that is too old, or that refuses', async () => {
      let answer = '';
      const server = createServer((socket) => socket.on('error', () => {}).on('data', () => socket.write(answer)));
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      const address = server.address();
      const REDIS_URL = `redis://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`;
      try {
        answer = '$19\r\nredis_version:6.0.9\r\n';
        expect(await refused({ REDIS_URL })).to.match(/is Redis 6\.0, and 7\.0 or later is needed/);
        answer = '-NOAUTH Authentication required.\r\n';
        expect(await refused({ REDIS_URL })).to.match(/refuses: NOAUTH .* - check the user, the password/);
        answer = 'HTTP/1.1 400 Bad Request\r\n';
        expect(await refused({ REDIS_URL })).to.match(/cannot be reached: what answers there is not Redis/);
      } finally {
        server.close();
      }
    });
  });

  it('uses the Redis of REDIS_URL and leaves it alone', async () => {
    const other = new Project();
    try {
      const { port } = await other.start().ready();
      const end = await project.start({ REDIS_URL: `redis://127.0.0.1:${port}/`, DEMO_MS: '100' }).ended;
      expect(end.code, end.err).to.equal(0);
      expect(end.out).to.match(/:2/);
      expect(end.err).to.contain('Using the Redis of REDIS_URL');
      expect(existsSync(join(project.data, 'redis'))).to.equal(false);
      expect(other.redisPid()).to.be.a('number');
    } finally {
      await other.remove();
    }
  });
});
