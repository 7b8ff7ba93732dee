/** What `diagnose` says of good and bad servers. Its servers are its own: they are configured badly on purpose. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { ContextStore, type DiagnosisCheck, type StoreOptions } from '../../src/index.js';
import { uniqueNamespace } from '../helpers/namespace.js';
import { freePort } from '../helpers/ports.js';
import { RedisServer, type RedisServerOptions } from '../helpers/RedisServer.js';
import { waitFor } from '../helpers/waitFor.js';

const NAMES = ['reachable', 'version', 'maxmemory-policy', 'persistence', 'clock-skew', 'rights', 'scripts'] as const;

describe('diagnose (servers of its own)', function () {
  this.timeout(30_000);
  const realNow = Date.now;
  let server: RedisServer | undefined;
  afterEach(async () => {
    Date.now = realNow;
    await server?.stop();
    server = undefined;
  });

  async function start(options: RedisServerOptions): Promise<RedisServer> {
    server = await RedisServer.start(options);
    return server;
  }

  async function checks(options: StoreOptions): Promise<Map<string, DiagnosisCheck>> {
    const report = await ContextStore.diagnose({ namespace: uniqueNamespace(), connectTimeout: 1_000, ...options });
    expect(report.ok).to.equal(report.checks.every(({ status }) => status !== 'fail'));
    for (const { status, advice, detail } of report.checks) {
      expect(detail).to.be.a('string').and.not.equal('');
      if (status === 'ok') expect(advice).to.equal(null);
      else expect(advice).to.be.a('string').and.not.equal('');
    }
    return new Map(report.checks.map((check) => [check.name, check]));
  }

  const statuses = (found: Map<string, DiagnosisCheck>): Record<string, string> =>
    Object.fromEntries([...found].map(([name, { status }]) => [name, status]));

  it('a good server: every check is ok, and nothing is left behind', async () => {
    const { url } = await start({ appendOnly: true });
    const found = await checks({ redis: url });
    expect([...found.keys()]).to.deep.equal(NAMES);
    expect(new Set([...found.values()].map(({ status }) => status))).to.deep.equal(new Set(['ok']));
    expect(found.get('version')?.detail).to.match(/Redis \d+\.\d+/);
    expect(await server?.cli('dbsize')).to.equal('0');
    expect(await server?.cli('client', 'list')).to.not.contain('lukhas-context');
  });

  it('without an append-only file: a warning, which is no failure', async () => {
    const { url } = await start({});
    const found = await checks({ redis: url });
    expect(found.get('persistence')).to.deep.include({ status: 'warn' });
    expect(found.get('persistence')?.advice).to.contain('appendonly yes');
    expect(Object.values(statuses(found)).filter((status) => status !== 'ok')).to.deep.equal(['warn']);
  });

  it('a save that failed: a warning', async () => {
    const { url, dir } = await start({ appendOnly: true, config: { dbfilename: 'dump.rdb' } });
    // a folder in the place of the file: the save cannot put it there
    mkdirSync(join(dir, 'dump.rdb', 'in-the-way'), { recursive: true });
    await server?.cli('bgsave');
    await waitFor(async () => (await server?.cli('info', 'persistence'))?.includes('rdb_last_bgsave_status:err'), {
      what: 'the save to fail',
    });
    const found = await checks({ redis: url });
    expect(found.get('persistence')).to.deep.include({ status: 'warn', detail: 'the last save failed' });
  });

  it('another eviction policy fails, with the way out, and the rest is looked at all the same', async () => {
    const { url } = await start({ appendOnly: true, config: { 'maxmemory-policy': 'volatile-ttl', maxmemory: '50mb' } });
    const found = await checks({ redis: url });
    expect(statuses(found)).to.deep.equal({
      ...Object.fromEntries(NAMES.map((name) => [name, 'ok'])),
      'maxmemory-policy': 'fail',
    });
    expect(found.get('maxmemory-policy')?.detail).to.contain('volatile-ttl');
    expect(found.get('maxmemory-policy')?.advice).to.contain('noeviction');
  });

  it('nobody there: one check, which fails and says why', async () => {
    const found = await checks({ redis: `redis://127.0.0.1:${await freePort()}`, connectTimeout: 300 });
    expect(statuses(found)).to.deep.equal({ reachable: 'fail' });
    expect(found.get('reachable')?.detail).to.contain('ECONNREFUSED');
  });

  it('a wrong password: the same, with what to look at', async () => {
    const { port } = await start({ password: 'right' });
    const found = await checks({ redis: `redis://:wrong@127.0.0.1:${port}` });
    expect(statuses(found)).to.deep.equal({ reachable: 'fail' });
    expect(found.get('reachable')?.advice).to.contain('password');
  });

  it('a user without a right: the command is named', async () => {
    await start({ appendOnly: true, acl: ['limited on >secret ~* &* +@all -xtrim'] });
    const found = await checks({ redis: server?.urlFor('limited', 'secret') ?? '' });
    expect(statuses(found)).to.include({ reachable: 'ok', version: 'ok', rights: 'fail' });
    expect(found.get('rights')?.detail).to.contain('XTRIM');
  });

  for (const [offset, word] of [
    [-300_000, 'ahead of'],
    [300_000, 'behind'],
  ] as const) {
    it(`a clock that is ${word} this machine’s by five minutes: a warning with the difference`, async () => {
      const { url } = await start({ appendOnly: true });
      Date.now = () => realNow() + offset;
      const found = await checks({ redis: url });
      expect(found.get('clock-skew')?.status).to.equal('warn');
      const [, ms] = /is (\d+) ms/.exec(found.get('clock-skew')?.detail ?? '') ?? [];
      expect(Number(ms)).to.be.closeTo(300_000, 1_000);
      expect(found.get('clock-skew')?.detail).to.contain(word);
    });
  }

  it('refuses options it does not know, as connect does', async () => {
    const error = await Promise.resolve()
      .then(() => ContextStore.diagnose({ redsi: 'x' } as StoreOptions))
      .then(
        () => null,
        (reason: unknown) => reason,
      );
    expect(error).to.include({ code: 'INVALID_OPTION' });
  });
});
