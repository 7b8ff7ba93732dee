import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { ContextStore } from '../../src/store/ContextStore.js';
import { cliHere } from '../helpers/cliHere.js';
import { uniqueNamespace } from '../helpers/namespace.js';
import { RedisServer } from '../helpers/RedisServer.js';
import { type CliOptions, CliProcess, type CliResult, runCli } from '../helpers/runCli.js';

const COMMANDS = [
  'get', 'set', 'patch', 'delete', 'touch', 'list', 'watch', 'history', 'inspect', 'verify', 'repair', 'restore', 'quarantine',
  'locks', 'stats', 'doctor', 'upgrade', 'preserve', 'snapshots', 'export', 'import', 'demo',
]; // biome-ignore format: one list

// `run` is a process that loads the sources, most of a second on a small machine; `json` is none.
describe('the command line', function () {
  this.timeout(60_000);
  let server: RedisServer;
  let namespace: string;
  let folder: string;

  before(async () => {
    server = await RedisServer.start();
    folder = mkdtempSync(join(tmpdir(), 'lukhas-cli-'));
  });
  after(async () => {
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  beforeEach(() => {
    namespace = uniqueNamespace('cli');
  });

  const run = (args: readonly string[], options: Partial<CliOptions> = {}): Promise<CliResult> =>
    runCli(args, { url: server.url, namespace, ...options });

  /** Runs a command that must succeed, with `--json` and in this process, and gives back what it printed. */
  async function json<T>(...args: string[]): Promise<T> {
    const result = await cliHere([...args, '--json'], { url: server.url, namespace });
    expect(result, args.join(' ')).to.deep.include({ code: 0, stderr: '' });
    return JSON.parse(result.stdout) as T;
  }

  /** Runs a command that must fail, with `--json`, and gives back the error object. */
  async function fails(
    args: readonly string[],
    code: number,
    options: Partial<CliOptions> = {},
  ): Promise<Record<string, unknown>> {
    const result = await run([...args, '--json'], options);
    expect({ code: result.code, stdout: result.stdout }, args.join(' ')).to.deep.equal({ code, stdout: '' });
    const { error } = JSON.parse(result.stderr) as { error: Record<string, unknown> };
    expect(error.message)
      .to.be.a('string')
      .and.match(/\S.{10,}/);
    return error;
  }

  /** Changes a byte of the stored document behind the store's back. */
  async function damage(id: string, copies?: 'and its copies'): Promise<void> {
    const { keys } = await json<{ keys: { context: string; log: string } }>('inspect', id);
    if (copies !== undefined) await server.client().del(keys.log);
    const redis = server.client();
    const data = (await redis.hget(keys.context, 'data')) ?? '';
    await redis.hset(keys.context, 'data', `${data.slice(0, 1)}!${data.slice(2)}`);
  }

  describe('set and get', () => {
    it('takes a value as an argument, from a file and from stdin', async () => {
      const value = { text: 'Zürich 日本 ✅', list: [], none: null, n: -1.5e-7 };
      const file = join(folder, 'value.json');
      writeFileSync(file, `\uFEFF${JSON.stringify(value, null, 2)}\n`);
      const compact = JSON.stringify(value);
      const written = await Promise.all([
        run(['set', 'argument', compact]),
        run(['set', 'file', `@${file}`]),
        run(['set', 'dash', '-'], { input: compact }),
        run(['set', 'stdin'], { input: compact }),
        run(['set', 'negative', '-1']),
      ]);
      expect(written.map(({ code }) => code)).to.deep.equal([0, 0, 0, 0, 0]);
      for (const id of ['argument', 'file', 'dash', 'stdin']) {
        expect((await run(['get', id])).stdout).to.equal(`${compact}\n`);
      }
      expect((await run(['get', 'negative'])).stdout).to.equal('-1\n');
    });

    it('answers with version and checksum', async () => {
      const first = await json<{ id: string; version: number; checksum: string }>('set', 'x', '{"a":1}');
      expect(first).to.include({ id: 'x', version: 1 });
      expect(first.checksum).to.match(/^[0-9a-f]{8}$/);
      const second = await run(['set', 'x', '{"a":2}']);
      expect(second.stdout).to.match(/^x {2}version 2 {2}checksum [0-9a-f]{8}\n$/);
      const read = await json<Record<string, unknown>>('get', 'x');
      expect(Object.keys(read)).to.have.members(['id', 'value', 'version', 'checksum', 'updatedAt', 'expiresAt']);
      expect(read).to.deep.include({ id: 'x', value: { a: 2 }, version: 2, expiresAt: null });
    });

    it('prints the stored bytes with --raw and the rest with --meta', async () => {
      await run(['set', 'x', '{ "a" : [ 1, "é" ] }']);
      expect((await run(['get', 'x', '--raw'])).stdout).to.equal('{"a":[1,"é"]}');
      expect((await run(['get', 'x', '--meta'])).stdout).to.match(/version +1\n.*checksum +[0-9a-f]{8}\n/s);
      expect(await json<object>('get', 'x', '--meta')).to.not.have.property('value');
      expect((await run(['get', 'y', '--raw'])).code).to.equal(3);
    });

    it('ends with 3 where there is no such context', async () => {
      const error = await fails(['get', 'nobody'], 3);
      expect(error).to.deep.include({ code: 'NOT_FOUND', id: 'nobody', namespace });
      expect(await run(['get', 'nobody'])).to.deep.equal({
        code: 3,
        stdout: '',
        stderr: `NOT_FOUND: ${String(error.message)}\n`,
      });
    });

    it('commits only on top of --if-version, and 0 means it must not exist', async () => {
      await run(['set', 'x', '1', '--if-version', '0']);
      const error = await fails(['set', 'x', '2', '--if-version', '0'], 3);
      expect(error).to.include({ code: 'CONFLICT', id: 'x' });
      expect((await run(['set', 'x', '2', '--if-version', '1'])).code).to.equal(0);
      expect((await run(['get', 'x'])).stdout).to.equal('2\n');
    });

    it('sets a time to live', async () => {
      await run(['set', 'x', '1', '--ttl', '1h']);
      const { updatedAt, expiresAt } = await json<{ updatedAt: number; expiresAt: number }>('get', 'x');
      expect(expiresAt - updatedAt).to.equal(3_600_000);
      await run(['set', 'y', '1', '--ttl', '90000']);
      const y = await json<{ updatedAt: number; expiresAt: number }>('get', 'y');
      expect(y.expiresAt - y.updatedAt).to.equal(90_000);
    });

    it('ends with 4 where the stored bytes are damaged and nobody has a good copy', async () => {
      await run(['set', 'x', '{"a":1}']);
      await damage('x', 'and its copies');
      expect((await run(['get', 'x', '--raw'])).stdout).to.equal('{!a":1}');
      expect(await fails(['get', 'x'], 4)).to.include({ code: 'CORRUPT', id: 'x' });
    });

    it('reads what the log says where the stored bytes are damaged', async () => {
      await run(['set', 'x', '{"a":1}']);
      await damage('x');
      expect(await run(['get', 'x'])).to.deep.include({ code: 0, stdout: '{"a":1}\n' });
      expect((await run(['get', 'x', '--raw'])).stdout).to.equal('{"a":1}');
    });
  });

  describe('patch', () => {
    it('applies a JSON Patch', async () => {
      await run(['set', 'x', '{"list":[1]}']);
      const result = await json<{ version: number }>('patch', 'x', '[{"op":"add","path":"/list/-","value":2}]');
      expect(result.version).to.equal(2);
      await run(['patch', 'x'], { input: '[{"op":"remove","path":"/list/0"}]' });
      expect((await run(['get', 'x'])).stdout).to.equal('{"list":[2]}\n');
    });

    it('changes nothing and ends with 3 where an operation fails', async () => {
      await run(['set', 'x', '{"a":1}']);
      const patch = '[{"op":"replace","path":"/a","value":2},{"op":"test","path":"/a","value":3}]';
      expect(await fails(['patch', 'x', patch], 3)).to.include({ code: 'PATCH_FAILED', operation: 1 });
      expect(await json<object>('get', 'x')).to.deep.include({ value: { a: 1 }, version: 1 });
      expect((await run(['patch', 'nobody', patch])).code).to.equal(3);
      expect((await run(['patch', 'x', '[]', '--if-version', '7'])).code).to.equal(3);
    });

    it('refuses what is no JSON Patch with 2', async () => {
      await run(['set', 'x', '{"a":1}']);
      for (const patch of ['{"op":"add"}', '[{"op":"swap","path":"/a"}]', '[{"op"']) {
        expect((await fails(['patch', 'x', patch], 2)).code).to.equal('INVALID_PATCH');
      }
    });
  });

  it('delete removes a context once', async () => {
    await run(['set', 'x', '1']);
    expect((await fails(['delete', 'x', '--if-version', '9'], 3)).code).to.equal('CONFLICT');
    expect(await json<object>('delete', 'x', '--if-version', '1')).to.deep.equal({ id: 'x', version: 2, deleted: true });
    expect((await fails(['delete', 'x'], 3)).code).to.equal('NOT_FOUND');
    expect((await json<{ version: number }>('set', 'x', '2')).version).to.equal(3);
  });

  it('touch sets and clears the expiry', async () => {
    await run(['set', 'x', '1']);
    const before = Date.now();
    const touched = await json<{ expiresAt: number }>('touch', 'x', '10m');
    expect(touched.expiresAt).to.be.within(before + 590_000, Date.now() + 610_000);
    expect(await json<object>('touch', 'x', 'none')).to.include({ id: 'x', expiresAt: null });
    expect((await run(['touch', 'nobody', '1s'])).code).to.equal(3);
    expect((await run(['touch', 'x', 'soon'])).code).to.equal(2);
  });

  it('list gives pages whose cursors lead through all contexts, each once', async () => {
    const ids = ['a-1', 'a-2', 'a-3', 'b-1', 'ü', ...Array.from({ length: 300 }, (_, n) => `many-${n}`)];
    const store = await ContextStore.connect({ redis: server.url, namespace, workers: 'off', logger: false });
    try {
      await Promise.all(ids.map((id) => store.set(id, id)));
    } finally {
      await store.close();
    }
    const seen: string[] = [];
    let pages = 0;
    for (let cursor: string | null | undefined; cursor !== null; pages++) {
      const page: { items: { id: string }[]; cursor: string | null } = await json(
        'list',
        '--limit',
        '120',
        ...(cursor === undefined ? [] : ['--cursor', cursor]),
      );
      seen.push(...page.items.map(({ id }) => id));
      cursor = page.cursor;
    }
    expect(pages).to.be.within(2, 4);
    expect([...new Set(seen)].sort()).to.deep.equal([...ids].sort());

    const all = await json<{ items: Record<string, unknown>[]; cursor: null }>(
      'list',
      '--all',
      '--limit',
      '50',
      '--prefix',
      'a-',
    );
    expect(all.cursor).to.equal(null);
    expect(all.items.map(({ id }) => id)).to.deep.equal(['a-1', 'a-2', 'a-3']);
    expect(all.items[0]).to.have.all.keys('id', 'version', 'checksum', 'bytes', 'memoryBytes', 'updatedAt', 'expiresAt');
    expect(all.items[0]).to.include({ version: 1, bytes: 5, expiresAt: null });

    const text = await run(['list', '--all', '--prefix', 'b-']);
    expect(text.stdout).to.match(/^ID +VERSION +CHECKSUM.*\nb-1 +1 +[0-9a-f]{8} +5 .* never\n$/);
    expect((await run(['list', '--all', '--prefix', 'zz'])).stderr).to.equal('No contexts.\n');
  });

  it('keeps namespaces apart, and --namespace wins over the environment', async () => {
    await run(['set', 'x', '1', '--namespace', `${namespace}-2`]);
    expect((await run(['get', 'x'])).code).to.equal(3);
    expect((await run(['--namespace', `${namespace}-2`, 'get', 'x'])).stdout).to.equal('1\n');
  });

  describe('watch', () => {
    it('replays from a version and ends after --count changes', async () => {
      for (const value of ['{"n":1}', '{"n":2}', '{"n":3}']) await run(['set', 'x', value]);
      const result = await run(['watch', 'x', '--from-version', '1', '--count', '2', '--json']);
      expect(result.code).to.equal(0);
      const changes = result.stdout
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as Record<string, unknown>);
      expect(changes.map(({ id, version, value }) => ({ id, version, value }))).to.deep.equal([
        { id: 'x', version: 2, value: { n: 2 } },
        { id: 'x', version: 3, value: { n: 3 } },
      ]);
      expect(changes[0]).to.have.all.keys('id', 'version', 'kind', 'patch', 'value', 'checksum', 'at');
      const [line] = (await run(['watch', 'x', '--from-version', '2', '--count', '1', '--json', '--no-value'])).stdout.split(
        '\n',
      );
      expect(JSON.parse(line ?? '')).to.not.have.property('value');
    });

    it('follows a context from before it exists until it is deleted', async () => {
      const watching = new CliProcess(['watch', 'x', '--from-version', '0', '--count', '3'], { url: server.url, namespace });
      await run(['set', 'x', '{"n":1}']);
      await watching.lines(1);
      await run(['patch', 'x', '[{"op":"replace","path":"/n","value":2}]']);
      await watching.lines(2);
      await run(['delete', 'x']);
      const { code, stdout } = await watching.result();
      expect(code).to.equal(0);
      expect(stdout).to.match(/^\S+ \S+Z {2}v1 {2}full .*\n\S+ \S+Z {2}v2 {2}(patch|full) .*\n\S+ \S+Z {2}v3 {2}deleted\n$/);
    });

    for (const [signal, code] of [
      ['SIGINT', 130],
      ['SIGTERM', 143],
    ] as const) {
      it(`closes its store and ends with ${code} on ${signal}`, async () => {
        await run(['set', 'x', '1']);
        const watching = new CliProcess(['watch', 'x', '--from-version', '0'], { url: server.url, namespace });
        await watching.lines(1);
        watching.child.kill(signal);
        const result = await watching.result();
        expect({ code: result.code, stderr: result.stderr }).to.deep.equal({ code, stderr: '' });
      });
    }

    it('ends quietly when the reader of its output goes away', async () => {
      await run(['set', 'x', '1']);
      const watching = new CliProcess(['watch', 'x', '--from-version', '0'], { url: server.url, namespace });
      await watching.lines(1);
      watching.child.stdout?.destroy();
      await run(['set', 'x', '2']);
      const result = await watching.result();
      expect({ code: result.code, stderr: result.stderr }).to.deep.equal({ code: 0, stderr: '' });
    });
  });

  it('history shows the log, the newest first, also of a deleted context', async () => {
    for (const value of ['{"n":1}', '{"n":2}']) await run(['set', 'x', value]);
    const { id, entries } = await json<{ id: string; entries: Record<string, unknown>[] }>('history', 'x');
    expect(id).to.equal('x');
    expect(entries.map(({ version }) => version)).to.deep.equal([2, 1]);
    expect(entries[0]).to.have.all.keys(
      'version',
      'kind',
      'sound',
      'at',
      'by',
      'operation',
      'checksum',
      'sha1',
      'bytes',
      'frameBytes',
      'patch',
    );
    expect((await json<{ entries: object[] }>('history', 'x', '--limit', '1')).entries).to.have.length(1);
    expect((await run(['history', 'x'])).stdout).to.match(/^VERSION +KIND.*\n +2 .*\n +1 .*\n$/);
    await run(['delete', 'x']);
    expect((await json<{ entries: { kind: string }[] }>('history', 'x')).entries[0]?.kind).to.equal('deleted');
    expect((await run(['history', 'nobody'])).code).to.equal(3);
  });

  describe('inspect', () => {
    it('shows keys, checks, expiry and log', async () => {
      await run(['set', 'x', '{"a":1,"b":[]}', '--ttl', '1h']);
      const report = await json<Record<string, unknown> & { keys: Record<string, string> }>('inspect', 'x');
      expect(report).to.have.all.keys('id', 'namespace', 'keys', 'context', 'summary', 'verification', 'log');
      expect(report).to.deep.include({ id: 'x', namespace });
      expect(report.context).to.deep.include({ value: { a: 1, b: [] }, version: 1 });
      expect(report.summary).to.include({ id: 'x', bytes: 14 });
      expect(report.verification).to.include({ ok: true, version: 1 });
      expect(await server.client().hget(report.keys.context ?? '', 'data')).to.equal('{"a":1,"b":[]}');
      const { stdout } = await run(['inspect', 'x']);
      for (const part of [report.keys.context, report.keys.log, 'sha1', 'crc32', 'an object of 2: "a", "b"', 'full']) {
        expect(stdout).to.include(part);
      }
      expect((await run(['inspect', 'nobody'])).code).to.equal(3);
    });

    it('shows a damaged context too, and ends with 4', async () => {
      await run(['set', 'x', '{"a":1}']);
      await damage('x');
      const [text, object] = await Promise.all([run(['inspect', 'x']), run(['inspect', 'x', '--json'])]);
      expect([text.code, object.code]).to.deep.equal([4, 4]);
      expect(text.stdout).to.match(/BAD crc32 +stored [0-9a-f]{8}, computed [0-9a-f]{8}/);
      expect(JSON.parse(object.stdout)).to.deep.include({ id: 'x', context: null });
    });
  });

  it('verify tells good, bad and missing contexts apart', async () => {
    await Promise.all(['a', 'b', 'c'].map((id) => run(['set', id, '{"n":1}'])));
    expect(await json<object>('verify', 'a', 'b')).to.deep.include({ ok: true, verified: 2, bad: 0, missing: [] });
    expect(await run(['verify', '--all'])).to.deep.include({ code: 0, stdout: '3 verified, 0 bad\n' });
    const missing = await run(['verify', 'a', 'nobody']);
    expect(missing.code).to.equal(3);
    expect(missing.stdout).to.match(/^ok {2}a .*\nmissing {2}nobody\n$/);

    await damage('b');
    for (const args of [
      ['a', 'b', 'nobody'],
      ['--prefix', 'b'],
    ]) {
      const { code, stdout } = await run(['verify', ...args]);
      expect(code, args.join(' ')).to.equal(4);
      expect(stdout).to.match(/BAD {2}b .*\n +BAD /);
    }
    const result = await run(['verify', '--all', '--json']);
    const report = JSON.parse(result.stdout) as { ok: boolean; bad: number; results: { id: string; ok: boolean }[] };
    expect(report).to.deep.include({ ok: false, verified: 3, bad: 1 });
    expect(report.results.filter(({ ok }) => !ok).map(({ id }) => id)).to.deep.equal(['b']);
    expect((await run(['verify'])).code).to.equal(2);
    expect((await run(['verify', 'a', '--all'])).code).to.equal(2);
  });

  it('repair puts right what is damaged, and says where that came from', async () => {
    await Promise.all(['a', 'b'].map((id) => run(['set', id, '{"n":1}'])));
    await damage('b');
    const { code, stdout } = await run(['repair', 'a', 'b']);
    expect(code).to.equal(0);
    expect(stdout).to.match(
      /^sound {2}a {2}version 1\nrepaired {2}b {2}version 1 {2}from what is stored.*, first at byte 1\n {5}document checksum: /,
    );
    expect((await run(['verify', 'b'])).code).to.equal(0);
    expect(await json<object[]>('repair', 'b')).to.deep.equal([
      { id: 'b', outcome: 'sound', source: null, version: 1, findings: [], offset: null },
    ]);
    expect((await run(['repair', 'nobody'])).code).to.equal(3);
  });

  it('what nobody has a good copy of is in quarantine, and restored by hand', async () => {
    expect(await run(['quarantine'])).to.deep.include({ code: 0, stdout: 'nothing is in quarantine\n' });
    await run(['set', 'x', '{"n":1}']);
    await run(['set', 'x', '{"n":2}']);
    await damage('x', 'and its copies');
    const repaired = await run(['repair', 'x']);
    expect(repaired.code).to.equal(4);
    expect(repaired.stdout).to.match(/^QUARANTINED {2}x {2}version 2\n/);
    const listed = await run(['quarantine', '--json']);
    expect(listed.code).to.equal(4);
    expect((JSON.parse(listed.stdout) as object[])[0]).to.deep.include({ id: 'x', version: 2, bytes: 7 });
    expect((await run(['quarantine'])).stdout).to.match(/^id +version +bytes .*\nx +2 +7 /);
    expect((await run(['inspect', 'x'])).stdout).to.match(/BAD quarantine/);
    await fails(['restore', 'x', '--from-version', '2'], 3);
    await fails(['restore', 'x', '--quarantined'], 3);
    await fails(['restore', 'x'], 2);
    expect(await json<object>('restore', 'x', '--value', '{"n":3}')).to.include({ id: 'x', version: 3 });
    expect((await run(['get', 'x'])).stdout).to.equal('{"n":3}\n');
    await run(['set', 'x', '{"n":4}']);
    expect((await run(['restore', 'x', '--from-version', '3'])).stdout).to.equal('x  restored as version 5\n');
    expect((await run(['get', 'x'])).stdout).to.equal('{"n":3}\n');
    expect((await run(['quarantine', '--drop', 'x'])).code).to.equal(3);
  });

  it('stats gives the accounts of each shard', async () => {
    await run(['set', 'x', '1']);
    const { namespace: name, shards } = await json<{ namespace: string; shards: Record<string, number>[] }>('stats');
    expect(name).to.equal(namespace);
    expect(shards[0]).to.include({ shard: 0, contexts: 1 });
    expect(shards[0]?.bytes).to.be.greaterThan(0);
    expect((await run(['stats'])).stdout).to.match(/^SHARD +CONTEXTS +MEMORY.*\n0 +1 /);
  });

  describe('doctor', () => {
    it('finds a fit server fit', async () => {
      const report = await json<{ ok: boolean; checks: { name: string; status: string }[] }>('doctor');
      expect(report.ok).to.equal(true);
      expect(report.checks.map(({ name }) => name)).to.include.members([
        'reachable',
        'version',
        'maxmemory-policy',
        'persistence',
        'rights',
        'scripts',
      ]);
      expect(report.checks[0]).to.have.all.keys('name', 'status', 'detail', 'advice');
      expect((await run(['doctor'])).stdout).to.match(/^ok {4}reachable .*\d+ ok, \d+ to look at, 0 failed\n$/s);
    });

    it('ends with 5 and says what to do where one is not', async () => {
      const unfit = await RedisServer.start({ config: { 'maxmemory-policy': 'allkeys-lru', maxmemory: '100mb' } });
      try {
        const [text, object] = await Promise.all([
          run(['doctor'], { url: unfit.url }),
          run(['doctor', '--json'], { url: unfit.url }),
        ]);
        expect([text.code, object.code]).to.deep.equal([5, 5]);
        expect(text.stdout).to.match(/^FAIL {2}maxmemory-policy .*allkeys-lru.*\n +\S/m);
        const { ok, checks } = JSON.parse(object.stdout) as {
          ok: boolean;
          checks: { name: string; status: string; advice: string | null }[];
        };
        expect(ok).to.equal(false);
        expect(checks.find(({ name }) => name === 'maxmemory-policy'))
          .to.include({ status: 'fail' })
          .and.have.property('advice')
          .that.includes('noeviction');
      } finally {
        await unfit.stop();
      }
      const nobody = await run(['doctor', '--json', '--timeout', '500ms'], { url: 'redis://127.0.0.1:1' });
      expect(nobody.code).to.equal(5);
      expect((JSON.parse(nobody.stdout) as { checks: object[] }).checks[0]).to.include({ name: 'reachable', status: 'fail' });
    });
  });

  describe('bad usage and input', () => {
    const file = (): string => {
      const path = join(folder, 'latin1.json');
      writeFileSync(path, Buffer.from('"\xfc"', 'latin1'));
      return path;
    };
    const cases: [what: string, args: () => string[], code: string][] = [
      ['an unknown option', () => ['get', 'x', '--bogus'], 'USAGE'],
      ['an unknown command', () => ['gett', 'x'], 'USAGE'],
      ['a missing argument', () => ['get'], 'USAGE'],
      ['an argument too many', () => ['get', 'x', 'y'], 'USAGE'],
      ['a count that is none', () => ['list', '--limit', '1.5'], 'USAGE'],
      ['a value that is not JSON', () => ['set', 'x', '{bad'], 'INVALID_VALUE'],
      ['an empty value', () => ['set', 'x'], 'INVALID_VALUE'],
      ['half a surrogate pair', () => ['set', 'x', '"\\ud800"'], 'INVALID_VALUE'],
      ['a file that is not there', () => ['set', 'x', '@/nowhere/x.json'], 'INVALID_ARGUMENT'],
      ['a file that is not UTF-8', () => ['set', 'x', `@${file()}`], 'INVALID_ARGUMENT'],
      ['an empty id', () => ['get', ''], 'INVALID_ID'],
      ['a namespace with a brace', () => ['get', 'x', '--namespace', 'a}b'], 'INVALID_OPTION'],
      ['a duration that is none', () => ['get', 'x', '--timeout', 'soon'], 'INVALID_OPTION'],
    ];
    for (const [what, args, code] of cases) {
      it(`ends with 2 on ${what}`, async () => {
        expect((await fails(args(), 2)).code).to.equal(code);
      });
    }

    it('shows the help on stderr where no command is given', async () => {
      const { code, stdout, stderr } = await run([]);
      expect({ code, stdout }).to.deep.equal({ code: 2, stdout: '' });
      expect(stderr).to.include('Commands:').and.include('no command given');
    });
  });

  describe('Redis out of reach', () => {
    it('ends with 5 where nobody listens', async () => {
      const error = await fails(['get', 'x', '--timeout', '500ms'], 5, { url: 'redis://127.0.0.1:1' });
      expect(error.code).to.equal('CONNECTION');
    });

    it('ends with 5 on a wrong password, and does not print the one it used', async () => {
      const locked = await RedisServer.start({ password: 'right' });
      try {
        const url = locked.urlFor('default', 'wr0ng-secret');
        expect((await fails(['get', 'x'], 5, { url })).code).to.equal('AUTH');
        const verbose = await run(['get', 'x', '--verbose'], { url });
        expect(verbose.stderr).to.not.include('wr0ng-secret');
        expect((await run(['set', 'x', '1'], { url: locked.url })).code).to.equal(0);
      } finally {
        await locked.stop();
      }
    });

    it('ends within --timeout on a server that hangs', async () => {
      const hanging = await RedisServer.start();
      try {
        await hanging.pause();
        const { code, stderr } = await run(['get', 'x', '--timeout', '300ms'], { url: hanging.url });
        expect(code, stderr).to.be.oneOf([5, 6]);
        expect(stderr).to.match(/^(CONNECTION|TIMEOUT): /);
      } finally {
        hanging.resume();
        await hanging.stop();
      }
    });
  });

  describe('help', () => {
    it('is there for every command, with examples and exit codes', async () => {
      const general = await run(['--help']);
      expect(general.code).to.equal(0);
      for (const command of COMMANDS) expect(general.stdout).to.match(new RegExp(`^ {2}${command} `, 'm'));
      const helps = await Promise.all(COMMANDS.map(async (command) => ({ command, ...(await run([command, '--help'])) })));
      for (const { command, code, stdout, stderr } of helps) {
        expect({ code, stderr }, command).to.deep.equal({ code: 0, stderr: '' });
        expect(stdout, command).to.match(new RegExp(`\\nExamples:\\n(?: {2}# .*\\n)? {2}lukhas-context ${command}`));
        expect(stdout, command).to.match(/\nExit codes:\n {2}0 .*\n(?:.*\n)* {2}5 /);
        for (const option of ['--redis', '--namespace', '--json', '--timeout']) expect(stdout, command).to.include(option);
      }
    });

    it('--version prints the version of the package', async () => {
      const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string };
      expect((await run(['--version'])).stdout).to.equal(`${version}\n`);
    });
  });

  it('--verbose logs to stderr and prints the stack of an error; stdout stays as it is', async () => {
    await run(['set', 'x', '1']);
    const good = await run(['get', 'x', '--verbose']);
    expect(good).to.deep.include({ code: 0, stdout: '1\n' });
    const bad = await run(['patch', 'x', '[{"op":"remove","path":"/a"}]', '--verbose']);
    expect(bad.code).to.equal(3);
    expect(bad.stderr).to.match(/\n {4}at /);
  });

  it('prints no colours where stdout is no terminal', async () => {
    await run(['set', 'x', '1']);
    const { stdout } = await run(['inspect', 'x'], { env: { FORCE_COLOR: '1' } });
    expect(stdout).to.include('Keys in Redis').and.not.include('\x1b');
  });
});
