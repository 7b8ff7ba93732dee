import { expect } from 'chai';
import { Tally } from '../../src/cli/demo/Tally.js';
import { uniqueNamespace } from '../helpers/namespace.js';
import { RedisServer } from '../helpers/RedisServer.js';
import { CliProcess, runCli } from '../helpers/runCli.js';
import { waitFor } from '../helpers/waitFor.js';

interface Report {
  readonly ok: boolean;
  readonly seed: string;
  readonly namespace: string;
  readonly revisions: number;
  readonly instances: readonly {
    readonly instance: string;
    readonly pid: number;
    readonly versions: number;
    readonly written: number;
    readonly frames: {
      readonly splice: number;
      readonly patch: number;
      readonly full: number;
      readonly bytes: number;
      readonly documentBytes: number;
    };
    readonly lag: { readonly samples: number; readonly p50: number; readonly p99: number; readonly max: number };
    readonly missed: number;
    readonly duplicates: number;
    readonly resets: number;
    readonly checksumFailures: number;
  }[];
  readonly totals: { readonly saved: number; readonly frames: { readonly bytes: number; readonly documentBytes: number } };
  readonly comparison: { readonly contexts: number; readonly equal: number; readonly compared: number };
  readonly contexts: readonly {
    readonly id: string;
    readonly version: number;
    readonly bytes: number;
    readonly checksum: string;
    readonly equal: boolean;
    readonly differences: readonly { readonly where: string; readonly what: string }[];
  }[];
}

describe('the demo', function () {
  this.timeout(90_000);
  let server: RedisServer;

  before(async () => {
    server = await RedisServer.start();
  });
  after(() => server.stop());

  /** The keys of the contexts of the demo with this seed. */
  async function keys(seed: string): Promise<string[]> {
    return server.client().keys(`{lc:demo-${seed}-*}:c:*`);
  }

  /** Process ids of the instances, as the progress records on stderr name them. */
  async function pids(demo: CliProcess): Promise<number[]> {
    const line = await waitFor(
      () => {
        if (demo.child.exitCode !== null) throw new Error(`ended with ${demo.child.exitCode}: ${demo.stderr}`);
        return demo.stderr.split('\n').find((text) => text.startsWith('{') && text.endsWith('}'));
      },
      { what: 'a progress record', limitMs: 20_000 },
    );
    const record = JSON.parse(line) as { event: string; instances: { pid: number }[] };
    expect(record.event).to.equal('progress');
    return record.instances.map(({ pid }) => pid);
  }

  it('ends with every copy in four processes equal to Redis, and far fewer bytes than documents', async () => {
    const seed = uniqueNamespace('s');
    const result = await runCli(['demo', '--json', '--rate', '0', '--seed', seed], { url: server.url });
    expect(result.stderr).to.equal('');
    const report = JSON.parse(result.stdout) as Report;
    expect(result.code, result.stdout).to.equal(0);
    expect(report).to.include({ ok: true, seed, revisions: 24 + 22 + 3 * 60 });
    expect(report.comparison).to.include({ contexts: 5, equal: 5, compared: 20 });
    expect(report.contexts.map(({ id, version }) => `${id} ${version}`)).to.have.members([
      'mime-db.db 24',
      'spdx-license-ids.index 22',
      'conversation-1 60',
      'conversation-2 60',
      'conversation-3 60',
    ]);
    expect(report.instances).to.have.length(4);
    expect(new Set(report.instances.map(({ pid }) => pid)).size).to.equal(4);
    expect(report.instances.reduce((sum, { written }) => sum + written, 0)).to.equal(report.revisions);
    for (const row of report.instances) {
      expect(row, row.instance).to.include({ missed: 0, duplicates: 0, checksumFailures: 0 });
      if (row.resets === 0) expect(row.versions).to.equal(report.revisions);
      expect(row.written).to.be.greaterThan(0);
      expect(row.frames.splice + row.frames.patch).to.be.greaterThan(row.frames.full);
      expect(row.frames.bytes).to.be.lessThan(row.frames.documentBytes / 4);
      expect(row.lag.samples).to.be.greaterThan(0);
      expect(row.lag.p50).to.be.greaterThan(0).and.at.most(row.lag.p99);
    }
    expect(report.totals.saved).to.be.greaterThan(0.75);
    expect(await keys(seed)).to.deep.equal([]);
  });

  it('writes the same documents for the same seed, and leaves them with --keep', async () => {
    const seed = uniqueNamespace('s');
    const args = ['demo', '--json', '--rate', '0', '--seed', seed, '--instances', '2', '--revisions', '2', '--turns', '8'];
    const reports: Report[] = [];
    for (const keep of [[], ['--keep']]) {
      const { code, stdout } = await runCli([...args, ...keep], { url: server.url });
      expect(code, stdout).to.equal(0);
      reports.push(JSON.parse(stdout) as Report);
    }
    const [first, second] = reports.map(({ contexts }) =>
      contexts.map(({ id, version, checksum }) => ({ id, version, checksum })),
    );
    expect(first).to.deep.equal(second);
    expect(await keys(seed)).to.have.length(5);
    const kept = reports[1]?.contexts.find(({ id }) => id === 'conversation-1');
    const read = await runCli(['get', 'conversation-1', '--json', '--namespace', reports[1]?.namespace ?? ''], {
      url: server.url,
    });
    expect(JSON.parse(read.stdout)).to.include({ version: 8, checksum: kept?.checksum, expiresAt: null });
  });

  it('prints tables and a summary for people', async () => {
    const { code, stdout } = await runCli(['demo', '--rate', '0', '--instances', '2', '--revisions', '3', '--turns', '5'], {
      url: server.url,
    });
    expect(code, stdout).to.equal(0);
    expect(stdout).to.match(/INSTANCE .*LAG P50/);
    expect(stdout).to.match(/^instance-2 /m);
    expect(stdout).to.match(/^mime-db\.db .* equal$/m);
    expect(stdout).to.match(/on the wire instead of .* saved$/m);
    expect(stdout).to.match(/^All 10 copies equal Redis/m);
    expect(stdout).to.not.include('\x1b');
  });

  it('ends with 4 where a stored document was damaged', async () => {
    const seed = uniqueNamespace('s');
    const args = ['demo', '--json', '--rate', '12', '--seed', seed, '--conversations', '1', '--turns', '2', '--instances', '2'];
    const demo = new CliProcess(args, { url: server.url });
    const redis = server.client();
    // It has had its last revision early; the sequences keep the demo going for seconds.
    const key = await waitFor(
      async () => {
        const found = (await keys(seed)).find((name) => name.endsWith(':c:conversation-1'));
        return found !== undefined && (await redis.hget(found, 'v')) === '2' && found;
      },
      { what: 'the last turn of the conversation', limitMs: 20_000 },
    );
    const data = (await redis.hget(key, 'data')) ?? '';
    await redis.hset(key, 'data', data.replace('"turns":2', '"turns":3'));
    const { code, stdout } = await demo.result();
    const report = JSON.parse(stdout) as Report;
    expect(code).to.equal(4);
    expect(report.ok).to.equal(false);
    const context = report.contexts.find(({ id }) => id === 'conversation-1');
    expect(context?.equal).to.equal(false);
    expect(context?.differences.map(({ where, what }) => `${where}: ${what}`)).to.include.members([
      'redis: integrity',
      'instance-1: watched bytes',
    ]);
    expect(report.contexts.filter(({ equal }) => !equal)).to.have.length(1);
  });

  it('fails with one sentence where a process dies', async () => {
    const seed = uniqueNamespace('s');
    const demo = new CliProcess(['demo', '--json', '--progress', '--seed', seed, '--instances', '3'], { url: server.url });
    const [, victim, ...others] = await pids(demo);
    process.kill(victim ?? 0, 'SIGKILL');
    const { code, stdout, stderr } = await demo.result();
    expect({ code, stdout }).to.deep.equal({ code: 1, stdout: '' });
    const { error } = JSON.parse(stderr.trimEnd().split('\n').at(-1) ?? '') as { error: { code: string; message: string } };
    expect(error.code).to.equal('INSTANCE_DIED');
    expect(error.message).to.include('instance-2').and.include(String(victim)).and.include('SIGKILL');
    for (const pid of others) expect(() => process.kill(pid, 0)).to.throw(/ESRCH/);
    expect(await keys(seed)).to.deep.equal([]);
  });

  it('ends its processes and removes its contexts on Ctrl-C', async () => {
    const seed = uniqueNamespace('s');
    const demo = new CliProcess(['demo', '--json', '--progress', '--seed', seed], { url: server.url });
    const instances = await pids(demo);
    await waitFor(async () => (await keys(seed)).length > 0, { what: 'contexts' });
    // A terminal signals everybody in the foreground; what becomes of it is for the parent to say.
    for (const pid of instances) process.kill(pid, 'SIGINT');
    const records = demo.stderr.split('\n').length;
    await waitFor(() => demo.stderr.split('\n').length > records + 1, { what: 'two more records', limitMs: 10_000 });
    demo.child.kill('SIGINT');
    const { code, stdout } = await demo.result();
    expect({ code, stdout }).to.deep.equal({ code: 130, stdout: '' });
    for (const pid of instances) expect(() => process.kill(pid, 0)).to.throw(/ESRCH/);
    expect(await keys(seed)).to.deep.equal([]);
  });
});

describe("the demo's tally", () => {
  const instances = [
    { name: 'one', pid: 1 },
    { name: 'two', pid: 2 },
  ];

  it('counts what was missed, what came twice, and what a reset stands for', () => {
    const tally = new Tally(instances, 1);
    for (let version = 1; version <= 6; version++) tally.committed(0, 0, version, version);
    for (const [version, reset] of [
      [1, false],
      [3, false],
      [3, false],
      [2, false],
      [6, true],
    ] as const) {
      tally.seen(1, [0, version, reset, 10]);
    }
    expect(tally.rows()[1]).to.include({ versions: 5, missed: 1, duplicates: 2, resets: 1 });
    expect(tally.rows()[0]).to.include({ written: 6, versions: 0, missed: 0 });
  });

  it('is settled once every instance has seen the last version of every context', () => {
    const tally = new Tally(instances, 2);
    tally.committed(0, 1, 1, 0);
    tally.seen(0, [1, 1, false, 1]);
    expect(tally.settled).to.equal(false);
    expect(tally.unseen(['a', 'b'])).to.deep.equal(['two: b at version 0 of 1']);
    tally.seen(1, [1, 1, false, 1]);
    expect(tally.settled).to.equal(true);
    expect(tally.unseen(['a', 'b'])).to.deep.equal([]);
  });

  it('measures the lag in the other instances only, whichever of commit and sighting it hears of first', () => {
    const tally = new Tally(instances, 1);
    tally.committed(0, 0, 1, 1000);
    tally.seen(0, [0, 1, false, 1001]);
    tally.seen(1, [0, 1, false, 1004]);
    tally.seen(1, [0, 2, false, 1012]);
    tally.seen(0, [0, 2, false, 1099]);
    tally.committed(0, 0, 2, 1010);
    const [writer, other] = tally.rows().map(({ lag }) => lag);
    expect(writer).to.include({ samples: 0 });
    expect(other).to.include({ samples: 2 });
    expect(other?.p50).to.be.closeTo(2, 0.01);
    expect(other?.max).to.be.closeTo(4, 0.01);
    expect(tally.lag()).to.deep.equal(other);
  });
});
