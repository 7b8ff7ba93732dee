import { once } from 'node:events';
import { expect } from 'chai';
import { ContextStore } from '../../src/index.js';
import { uniqueNamespace } from '../helpers/namespace.js';
import { RedisServer } from '../helpers/RedisServer.js';
import { CliProcess, type CliResult, runCli } from '../helpers/runCli.js';
import { waitFor } from '../helpers/waitFor.js';

describe('lukhas-context worker, scrub and reconcile', function () {
  this.timeout(60_000);
  let server: RedisServer;
  let namespace: string;
  let store: ContextStore;
  before(async () => {
    server = await RedisServer.start();
  });
  after(() => server.stop());
  beforeEach(async () => {
    namespace = uniqueNamespace('cli');
    store = await ContextStore.connect({ redis: server.url, namespace, workers: 'external', logger: false });
  });
  afterEach(() => store.close());

  const cli = (...args: string[]): Promise<CliResult> => runCli(args, { url: server.url, namespace });
  const json = async (...args: string[]): Promise<{ code: number | null; answer: Record<string, unknown> }> => {
    const { code, stdout, stderr } = await cli(...args, '--json');
    expect(stderr).to.equal('');
    return { code, answer: JSON.parse(stdout) as Record<string, unknown> };
  };
  async function damage(id: string): Promise<void> {
    await server.cli('hset', store.keysOf(id).context, 'data', '"damaged"');
  }

  it('worker: does the work of the namespace, a line for each, until SIGTERM ends it in order', async () => {
    await store.set('a', 1, { ttl: 1 });
    const worker = new CliProcess(['worker', '--json', '--sweep-every', '300ms', '--reconcile-every', '1s'], {
      url: server.url,
      namespace,
    });
    const [first = ''] = await worker.lines(1);
    expect(JSON.parse(first)).to.deep.include({ namespace, queues: ['sweep', 'scrub', 'reconcile'] });
    const lines = await waitFor(
      () => {
        const found = worker.stdout
          .split('\n')
          .slice(1, -1)
          .map((line) => JSON.parse(line) as { queue: string; result?: object });
        return ['sweep', 'scrub', 'reconcile'].every((name) => found.some(({ queue }) => queue === name)) && found;
      },
      { what: 'a line of each queue', limitMs: 15_000 },
    );
    expect(lines.find(({ queue }) => queue === 'sweep')?.result).to.include({ removed: 1 });
    worker.child.kill('SIGTERM');
    expect((await worker.result()).code).to.equal(143);
    expect(worker.stderr).to.equal('');
    expect(await server.cli('keys', `{lc:${namespace}}:bull:*:lock`)).to.equal('');
  });

  it('worker: SIGINT, text, and only the queues that are named', async () => {
    const worker = new CliProcess(['worker', '--queues', 'reconcile', '--concurrency', '2'], { url: server.url, namespace });
    const [first, second] = await worker.lines(2);
    expect(first).to.include(namespace).and.to.include('reconcile').and.to.not.include('sweep');
    expect(second).to.match(/^\d{4}-\d\d-\d\d .* {2}reconcile +\d+ ms {2}checked 0/);
    worker.child.kill('SIGINT');
    await once(worker.child, 'close');
    expect(worker.child.exitCode).to.equal(130);
    expect(worker.stderr).to.include('stopping');
    expect(await server.cli('keys', `{lc:${namespace}}:bull:sweep*`)).to.equal('');
  });

  it('only the sweep takes out what has expired: no command does it by the way, nor a worker that has other queues', async () => {
    await store.set('a', 1, { ttl: 1 });
    await store.set('b', 1);
    const there = async (): Promise<boolean> => (await server.cli('exists', store.keysOf('a').context)) === '1';
    const worker = new CliProcess(['worker', '--queues', 'scrub', '--scrub-every', '1s', '--json'], {
      url: server.url,
      namespace,
    });
    const watching = new CliProcess(['watch', 'b', '--from-version', '0', '--count', '2'], { url: server.url, namespace });
    const [code] = (await Promise.all([cli('list'), cli('stats'), cli('scrub'), cli('get', 'b'), watching.lines(1)])).map(
      (done) => (done as CliResult).code,
    );
    expect(code).to.equal(0);
    // three scrubs are two seconds, and as many heartbeats of each process
    await worker.lines(4);
    expect(await there(), 'the context that has expired').to.equal(true);
    await store.set('b', 2);
    expect((await watching.result()).code).to.equal(0);
    worker.child.kill('SIGTERM');
    await worker.result();
    expect(await there(), 'after they have ended').to.equal(true);
    const sweeping = new CliProcess(['worker', '--queues', 'sweep', '--json'], { url: server.url, namespace });
    await waitFor(async () => !(await there()), { what: 'the sweep of a worker', limitMs: 15_000 });
    sweeping.child.kill('SIGTERM');
    await sweeping.result();
  });

  it('worker: refuses what makes no sense, and says where Redis is not', async () => {
    for (const [args, text] of [
      [['--queues', 'sweep,swoop'], 'swoop'],
      [['--concurrency', '0'], 'at least 1'],
      [['--sweep-every', '1ms'], 'queues.sweepEvery'],
      [['--scrub-rate', 'fast'], 'scrubRate'],
    ] as const) {
      const { code, stderr } = await cli('worker', ...args);
      expect(code, text).to.equal(2);
      expect(stderr).to.include(text);
    }
    const { code } = await runCli(['worker', '--timeout', '300ms'], { url: 'redis://127.0.0.1:1', namespace });
    expect(code).to.equal(5);
  });

  it('scrub: 0 where all is sound', async () => {
    await store.set('a', { n: 1 });
    await store.set('large', 'y'.repeat(100_000));
    const { code, stdout, stderr } = await cli('scrub', '--rate', '64mb');
    expect([code, stderr]).to.deep.equal([0, '']);
    expect(stdout).to.match(/^2 contexts, .* all sound\n$/);
    const { answer } = await json('scrub');
    expect(answer).to.deep.include({ ok: true, complete: true, checked: 2, damaged: 0, healed: 0, quarantined: 0, damage: [] });
    expect(answer.bytes).to.be.greaterThan(100_000);
  });

  it('scrub: 4 where something in quarantine is left, and an empty namespace is sound', async () => {
    expect((await json('scrub')).answer).to.deep.include({ ok: true, checked: 0 });
    await store.set('a', { n: 1 });
    await server.cli('hset', store.keysOf('a').context, 'q', 'sha1');
    const { code, answer } = await json('scrub');
    expect(code).to.equal(4);
    expect(answer).to.deep.include({ ok: false, damaged: 0, quarantined: 1 });
  });

  it('scrub: names what is damaged, and whether it was healed', async () => {
    await store.set('a', { n: 1 });
    await store.set('b', { n: 2 });
    await damage('a');
    const { code, answer } = await json('scrub');
    const [found] = answer.damage as { id: string; what: string; healed: boolean }[];
    expect(found).to.deep.include({ id: 'a', what: 'length' });
    expect(answer).to.deep.include({ damaged: 1, checked: 2, ok: found?.healed });
    expect(code).to.equal(found?.healed ? 0 : 4);
    expect(await store.maintenance.sound('a')).to.equal(found?.healed);
  });

  it('scrub: refuses a rate that is none', async () => {
    expect((await cli('scrub', '--rate', '1kb')).code).to.equal(2);
    expect((await cli('scrub', '--rate', 'fast')).code).to.equal(2);
  });

  it('reconcile: says what it mended, then that there is nothing', async () => {
    await store.set('a', { n: 1 });
    await server.cli('del', `{lc:${namespace}:0}:use`);
    await server.cli('hset', `{lc:${namespace}:0}:mem`, 'bytes', '1');
    const { code, stdout } = await cli('reconcile');
    expect(code).to.equal(0);
    expect(stdout).to.match(
      /1 {2}contexts that an index did not have\n +1 {2}totals that were not the sum\n\d looked at, mended\n$/,
    );
    expect((await json('reconcile')).answer).to.deep.include({
      ok: true,
      complete: true,
      fixed: {},
      lost: [],
      damaged: 0,
      unsettled: 0,
    });
  });

  it('reconcile: rebuilds a context that vanished, and ends with 4 where it cannot', async () => {
    const value = { text: Array.from({ length: 3_000 }, (_, n) => (n * 7_919).toString(36)).join(' ') };
    await store.set('a', { n: 1 });
    await store.set('b', value);
    await server.cli('del', store.keysOf('a').context);
    const first = await json('reconcile');
    expect([first.code, first.answer.recovered, first.answer.lost]).to.deep.equal([0, 1, []]);
    expect((await store.get('a', { fresh: true }))?.value).to.deep.equal({ n: 1 });
    const { context } = store.keysOf('b');
    for (const kind of ['c', 'k', 'j']) await server.cli('del', context.replace('}:c:', `}:${kind}:`));
    const { code, answer } = await json('reconcile');
    expect(code).to.equal(4);
    expect(answer).to.deep.include({ ok: false, lost: ['b'] });
  });

  it('have help with examples and exit codes', async () => {
    for (const name of ['worker', 'scrub', 'reconcile']) {
      const { code, stdout } = await cli(name, '--help');
      expect(code).to.equal(0);
      expect(stdout).to.include('Examples:').and.to.include('Exit codes:').and.to.include(`lukhas-context ${name}`);
    }
  });
});
