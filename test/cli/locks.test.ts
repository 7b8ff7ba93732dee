import { spawnSync } from 'node:child_process';
import { expect } from 'chai';
import { ContextStore, type Lock, type LockInfo } from '../../src/index.js';
import { uniqueNamespace } from '../helpers/namespace.js';
import { RedisServer } from '../helpers/RedisServer.js';
import { CliProcess, type CliResult, runCli } from '../helpers/runCli.js';
import { refusal } from '../helpers/stores.js';
import { waitFor } from '../helpers/waitFor.js';

describe('the command line: locks', function () {
  this.timeout(60_000);
  let server: RedisServer;
  let store: ContextStore;
  let namespace: string;
  before(async () => {
    server = await RedisServer.start();
  });
  after(() => server.stop());
  beforeEach(async () => {
    namespace = uniqueNamespace('cli');
    store = await ContextStore.connect({ redis: server.url, namespace, workers: 'off', logger: false, instanceId: 'host-1' });
  });
  afterEach(() => store.close());

  const run = (...args: string[]): Promise<CliResult> => runCli(args, { url: server.url, namespace });
  async function fails(code: number, ...args: string[]): Promise<Record<string, unknown>> {
    const result = await run(...args, '--json');
    expect({ code: result.code, stdout: result.stdout }, args.join(' ')).to.deep.equal({ code, stdout: '' });
    return (JSON.parse(result.stderr) as { error: Record<string, unknown> }).error;
  }

  it('shows holders with their tokens, and waiters in their order', async () => {
    expect(await run('locks', '--json')).to.deep.equal({ code: 0, stdout: '[]\n', stderr: '' });
    expect(await run('locks')).to.deep.equal({ code: 0, stdout: '', stderr: 'No locks.\n' });
    const lock = (await store.tryLock('user-42')) as Lock;
    const read = (await store.tryLock('user-43', { mode: 'read' })) as Lock;
    const waits = store.lock('user-42', () => {});
    await waitFor(async () => (await store.locks({ ids: ['user-42'] }))[0]?.waiters.length === 1, { what: 'a waiter' });
    const [result, text] = await Promise.all([run('locks', '--json'), run('locks')]);
    const shown = JSON.parse(result.stdout) as LockInfo[];
    expect(shown.map(({ id, holders, waiters }) => [id, holders.length, waiters.length])).to.deep.equal([
      ['user-42', 1, 1],
      ['user-43', 1, 0],
    ]);
    expect(shown[0]?.holders[0]).to.deep.include({ mode: 'write', instance: 'host-1', token: lock.fencingToken });
    expect(shown[0]?.holders[0]).to.have.all.keys('mode', 'instance', 'token', 'since', 'ageMs', 'ttlLeftMs');
    expect(shown[0]?.waiters[0]).to.have.all.keys('mode', 'instance', 'since', 'ageMs');
    const lines = text.stdout.split('\n');
    expect(lines[0]).to.match(/^ID +WHO +MODE +INSTANCE +TOKEN +AGE +LEFT$/);
    expect(lines[1]).to.match(new RegExp(`^user-42 +holds +write +host-1 +${lock.fencingToken} +\\S+ m?s +\\S+ m?s$`));
    expect(lines[2]).to.match(/^user-42 +waits 1 +write +host-1 +\S+ m?s$/);
    expect(lines[3]).to.match(new RegExp(`^user-43 +holds +read +host-1 +${read.fencingToken} `));
    await Promise.all([lock.release(), read.release()]);
    await waits;
  });

  it('break fences the holder, with --yes; without a terminal it is refused otherwise', async () => {
    const lock = (await store.tryLock('user-42')) as Lock;
    const error = await fails(2, 'locks', 'break', 'user-42');
    expect(error).to.include({ code: 'USAGE' });
    expect(error.message).to.include('--yes');
    await store.set('user-42', 1, { lock });

    const result = await run('locks', 'break', 'user-42', '--yes', '--json');
    expect(result).to.deep.include({ code: 0, stderr: '' });
    const { id, broken } = JSON.parse(result.stdout) as { id: string; broken: LockInfo['holders'] };
    expect([id, broken.length]).to.deep.equal(['user-42', 1]);
    expect(broken[0]).to.deep.include({ instance: 'host-1', token: lock.fencingToken });
    await refusal('FENCED', () => store.set('user-42', 2, { lock }));
    expect(await fails(3, 'locks', 'break', 'user-42', '--yes')).to.include({ code: 'NOT_FOUND', id: 'user-42' });

    await store.lock('user-42', async (next) => {
      const text = await run('locks', 'break', 'user-42', '--yes');
      expect(text.stdout).to.match(
        new RegExp(`^user-42 {2}broken {2}host-1 \\(write, fencing token ${next.fencingToken}, for .* left`),
      );
    });
  });

  it('break on a terminal shows the holder and asks: only a yes breaks the lock', async function () {
    if (spawnSync('script', ['--version']).status !== 0) this.skip();
    const lock = (await store.tryLock('user-42', { ttl: '30s' })) as Lock;
    const asked = async (answer: string): Promise<CliResult> => {
      const cli = new CliProcess(['locks', 'break', 'user-42'], { url: server.url, namespace, terminal: true });
      await cli.answer('[y/N]', answer);
      return cli.result();
    };
    for (const no of ['', 'n', 'yesterday']) {
      const { code, stdout } = await asked(no);
      expect(code, stdout).to.equal(3);
      expect(stdout).to.match(new RegExp(`user-42 is held by\\s+host-1 \\(write, fencing token ${lock.fencingToken}, for `));
      expect(stdout).to.include('user-42: the lock was left as it is');
    }
    await store.set('user-42', 1, { lock });
    const { code, stdout } = await asked('y');
    expect(code, stdout).to.equal(0);
    expect(stdout).to.match(/user-42 {2}broken {2}host-1 \(write/);
    await refusal('FENCED', () => store.set('user-42', 2, { lock }));
  });

  it('has help with examples, for both', async () => {
    const [help, inner] = await Promise.all([run('locks', '--help'), run('locks', 'break', '--help')]);
    expect([help.code, inner.code]).to.deep.equal([0, 0]);
    expect(help.stdout).to.include('lukhas-context locks break user-42').and.include('Exit codes:');
    expect(inner.stdout).to.include('--yes').and.include('--redis').and.include('Exit codes:');
  });
});
