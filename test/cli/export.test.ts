/** The commands export and import: files, pipes, kills and signals in the middle, exit codes. */
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { gunzipSync, gzipSync } from 'node:zlib';
import { expect } from 'chai';
import { ContextStore, verifyExport } from '../../src/index.js';
import { cliHere } from '../helpers/cliHere.js';
import { uniqueNamespace } from '../helpers/namespace.js';
import { RedisServer } from '../helpers/RedisServer.js';
import { type CliOptions, CliProcess, type CliResult, PROGRAM, runCli } from '../helpers/runCli.js';
import { TcpProxy } from '../helpers/TcpProxy.js';
import { waitFor } from '../helpers/waitFor.js';

const CONTEXTS = 1_000;
/** Some 4 MB in all of them: more than is read at a time. */
const TEXT = 'so '.repeat(1_400);

interface Hold {
  readonly direction: 'up' | 'down';
  readonly measure: (chunk: Buffer) => number;
  readonly most: number;
}
/** Of the four of an export. */
const THREE_MEGABYTES: Hold = { direction: 'down', measure: (chunk) => chunk.length, most: 3_000_000 };
/** Only what writes a context names its channel. */
const SOME_HUNDRED_CONTEXTS: Hold = {
  direction: 'up',
  measure: (chunk) => chunk.toString('latin1').split('}:ch:c-').length - 1,
  most: 300,
};

describe('the commands export and import', function () {
  this.timeout(120_000);
  let server: RedisServer;
  let namespace: string;
  let folder: string;
  let file: string;
  let proxy: TcpProxy;
  const opened: ContextStore[] = [];

  before(async () => {
    server = await RedisServer.start();
    proxy = await TcpProxy.start(server.port);
  });
  after(async () => {
    await proxy.close();
    await server.stop();
  });
  beforeEach(() => {
    namespace = uniqueNamespace('cli');
    folder = mkdtempSync(join(tmpdir(), 'lukhas-export-'));
    file = join(folder, 'all.ndjson');
  });
  afterEach(async () => {
    proxy.resume();
    for (const store of opened.splice(0)) await store.close();
    rmSync(folder, { recursive: true, force: true });
  });

  async function open(name = namespace): Promise<ContextStore> {
    const store = await ContextStore.connect({ redis: server.url, namespace: name, workers: 'off', logger: false });
    opened.push(store);
    return store;
  }

  async function filled(count: number, text = ''): Promise<ContextStore> {
    const store = await open();
    for (let from = 0; from < count; from += 250)
      await Promise.all(
        Array.from({ length: Math.min(250, count - from) }, (_, n) => store.set(`c-${from + n}`, { n: from + n, text })),
      );
    return store;
  }

  const run = (args: readonly string[], options: Partial<CliOptions> = {}): Promise<CliResult> =>
    runCli(args, { url: server.url, namespace, ...options });
  /** Through a proxy that lets no more through once so much has passed, until it is resumed: it is certainly under way then. */
  function start(args: readonly string[], { direction, measure, most }: Hold, name = namespace): CliProcess {
    let passed = 0;
    const end = proxy.drop({
      direction,
      when: (chunk) => {
        passed += measure(chunk);
        if (passed > most) {
          proxy.pause(direction);
          end();
        }
        return false;
      },
    });
    return new CliProcess(args, { url: proxy.url, namespace: name });
  }
  const into = (name: string, ...args: string[]): Promise<CliResult> => run(args, { namespace: name });

  async function json<T = Record<string, unknown>>(args: readonly string[], name = namespace, code = 0): Promise<T> {
    const result = await into(name, ...args, '--json');
    expect(result, args.join(' ')).to.deep.include({ code, stderr: '' });
    return JSON.parse(result.stdout) as T;
  }

  async function refused(args: readonly string[], code: number, options: Partial<CliOptions> = {}): Promise<string> {
    const result = await run(args, options);
    expect({ code: result.code, stdout: result.stdout }, `${args.join(' ')}: ${result.stderr}`).to.deep.equal({
      code,
      stdout: '',
    });
    return result.stderr;
  }

  const here = (args: readonly string[], name = namespace): Promise<CliResult> =>
    cliHere(args, { url: server.url, namespace: name });
  /** As {@link refused}, in this process. */
  const told = async (args: readonly string[], code: number, name = namespace): Promise<string> => {
    const { stderr, ...result } = await here(args, name);
    expect(result, `${args.join(' ')}: ${stderr}`).to.deep.equal({ code, stdout: '' });
    return stderr;
  };

  const verified = (bytes: Buffer): Promise<{ contexts: number; complete: boolean }> => verifyExport([bytes]);

  it('write a file, compressed or not, or stdout, and read all of them', async () => {
    await filled(3);
    expect((await run(['export', '--out', file])).stdout).to.match(/all\.ndjson {2}3 contexts, 51 b in [\d.]+ s\n$/);
    expect(await json(['export', '--out', `${file}.gz`])).to.include({ ok: true, file: `${file}.gz`, contexts: 3, damaged: 0 });
    const piped = await run(['export', '--prefix', 'c-1']);
    expect(piped).to.include({ code: 0 });
    expect(piped.stderr).to.match(/^1 contexts?, .* s\n$/);
    expect(await verified(Buffer.from(piped.stdout))).to.include({ contexts: 1 });
    expect(await verified(readFileSync(file))).to.include({ contexts: 3 });
    expect(await verified(gunzipSync(readFileSync(`${file}.gz`)))).to.include({ contexts: 3 });
    expect(existsSync(`${file}.partial`)).to.equal(false);
    const [plain, compressed, stdin] = [uniqueNamespace('to'), uniqueNamespace('to'), uniqueNamespace('to')];
    expect((await into(plain, 'import', file)).stdout).to.match(/^3 contexts, 51 b in [\d.]+ s: 3 created\n$/);
    expect(await json(['import', `${file}.gz`], compressed)).to.include({ ok: true, created: 3, complete: true });
    expect((await run(['import'], { namespace: stdin, input: readFileSync(file) })).stdout).to.include('3 created');
    expect((await run(['import', '--gzip', '-'], { namespace: stdin, input: readFileSync(`${file}.gz`) })).stdout).to.include(
      '3 there already',
    );
    for (const name of [plain, compressed, stdin])
      expect((await into(name, 'get', 'c-2', '--raw')).stdout).to.equal('{"n":2,"text":""}');
  });

  it('go on with an export that was killed in the middle, wherever its file was cut off or damaged', async () => {
    await filled(CONTEXTS, TEXT);
    const killed = start(['export', '--out', file], THREE_MEGABYTES);
    await waitFor(() => existsSync(`${file}.partial`) && statSync(`${file}.partial`).size > 1_000_000, {
      what: 'the first megabyte of the export',
      limitMs: 30_000,
    });
    killed.child.kill('SIGKILL');
    await killed.result();
    proxy.resume();
    expect(existsSync(file), 'it was not killed in the middle').to.equal(false);
    const partial = readFileSync(`${file}.partial`);
    // as it is; cut within a line; a damaged byte far behind the first mark
    const third = Buffer.from(partial);
    third[800_000] = (third[800_000] ?? 0) ^ 4;
    const cases = [partial, partial.subarray(0, 700_001), third];
    for (const [index, bytes] of cases.entries()) {
      writeFileSync(`${file}.partial`, bytes);
      const result = await json(['export', '--out', file, '--resume']);
      expect(result).to.include({ contexts: CONTEXTS });
      const whole = readFileSync(file);
      expect(await verified(whole), `case ${index}`).to.include({ contexts: CONTEXTS, complete: true });
      expect(whole.subarray(0, 300_000).equals(partial.subarray(0, 300_000)), 'what was there is kept').to.equal(true);
      rmSync(file);
    }
    // nothing to go on with
    expect((await run(['export', '--out', file, '--resume'])).stderr).to.include('it is begun');
    // ended between its last line and its name
    const whole = readFileSync(file);
    rmSync(file);
    writeFileSync(`${file}.partial`, whole);
    expect(await json(['export', '--out', file, '--resume'])).to.include({ contexts: CONTEXTS });
    expect(existsSync(`${file}.partial`)).to.equal(false);
  });

  it('go on with an import that was killed in the middle', async () => {
    await filled(CONTEXTS, 'x');
    await json(['export', '--out', file]);
    const target = uniqueNamespace('to');
    const store = await open(target);
    const contexts = async (): Promise<number> => (await store.stats()).shards[0]?.contexts ?? 0;
    const killed = start(['import', file], SOME_HUNDRED_CONTEXTS, target);
    await waitFor(async () => (await contexts()) >= 100, { what: '100 contexts of the import', limitMs: 30_000 });
    killed.child.kill('SIGKILL');
    await killed.result();
    proxy.resume();
    const there = await contexts();
    expect(there, 'it was not killed in the middle').to.be.within(100, CONTEXTS - 1);
    expect(await json(['import', file, '--if-exists', 'replace'], target)).to.include({
      created: CONTEXTS - there,
      same: there,
      replaced: 0,
    });
    expect(await contexts()).to.equal(CONTEXTS);
  });

  it('end in order at a Ctrl-C, and say how to go on', async () => {
    await filled(CONTEXTS, TEXT);
    const exporting = start(['export', '--out', file], THREE_MEGABYTES);
    await waitFor(() => existsSync(`${file}.partial`) && statSync(`${file}.partial`).size > 0, {
      what: 'the export',
      limitMs: 30_000,
    });
    exporting.child.kill('SIGINT');
    proxy.resume();
    const stopped = await exporting.result();
    expect(stopped.code).to.equal(130);
    expect(stopped.stderr).to.match(/^stopped after [\d,]+ contexts: go on with --resume\n$/);
    await json(['export', '--out', file, '--resume']);
    const target = uniqueNamespace('to');
    const store = await open(target);
    const importing = start(['import', file], SOME_HUNDRED_CONTEXTS, target);
    await waitFor(async () => ((await store.stats()).shards[0]?.contexts ?? 0) > 0, { what: 'the import', limitMs: 30_000 });
    importing.child.kill('SIGINT');
    proxy.resume();
    const ended = await importing.result();
    expect(ended).to.include({ code: 130, stdout: '' });
    expect(ended.stderr).to.match(/^stopped: run the same command again to go on/);
    await json(['import', file], target);
    expect((await store.stats()).shards[0]?.contexts).to.equal(CONTEXTS);
  });

  it('write nothing of a file that is damaged or incomplete anywhere, and pass over damage where that is asked', async () => {
    const store = await filled(200);
    await json(['export', '--out', file]);
    const bytes = readFileSync(file);
    const target = uniqueNamespace('to');
    const looked = await open(target);
    const line =
      bytes
        .toString()
        .split('\n')
        .findIndex((text) => text.includes('"n":150')) + 1;
    writeFileSync(file, bytes.toString().replace('"n":150', '"n":151'));
    expect(await refused(['import', file], 4, { namespace: target })).to.match(
      new RegExp(`^CORRUPT: line ${line} is damaged: its sum`),
    );
    const compressed = gzipSync(bytes);
    compressed[compressed.length >> 1] = (compressed[compressed.length >> 1] ?? 0) ^ 1;
    writeFileSync(`${file}.gz`, compressed);
    expect(await refused(['import', `${file}.gz`], 4, { namespace: target })).to.match(/^CORRUPT: /);
    writeFileSync(`${file}.gz`, gzipSync(bytes).subarray(0, -20));
    expect(await refused(['import', `${file}.gz`], 4, { namespace: target })).to.include('it ends too early');
    const cut = join(folder, 'cut.ndjson');
    writeFileSync(cut, bytes);
    truncateSync(cut, bytes.length - 100);
    expect(await refused(['import', cut], 4, { namespace: target })).to.include('no trailer');
    expect((await looked.list()).items).to.deep.equal([]);
    const passed = await json<{ damaged: { line: number }[] }>(['import', file, '--skip-damaged'], target, 4);
    expect(passed).to.include({ ok: false, created: 199, damagedCount: 1 });
    expect(passed.damaged[0]?.line).to.equal(line);
    const gone = join(folder, 'gone.ndjson');
    writeFileSync(gone, readFileSync(file, 'utf8').replace(/^.*"n":(11|12),.*\n/gm, ''));
    const missing = await run(['import', gone, '--skip-damaged', '--dry-run'], { namespace: target });
    expect(missing.code).to.equal(4);
    expect(missing.stdout).to.match(/197 there already, 2 passed over, 2 missing\n$/);
    expect(await json(['import', cut, '--partial'], target)).to.include({ created: 1, same: 199, complete: false });
    expect((await store.get('c-150'))?.checksum).to.equal((await looked.get('c-150'))?.checksum);
  });

  it('tell by their exit code what was left out, was there already, or makes no sense', async () => {
    const store = await filled(3);
    await json(['export', '--out', file]);
    await store.set('c-1', 'another');
    expect(await told(['import', file, '--if-exists', 'fail'], 3)).to.match(/^CONFLICT: import: c-1/);
    expect(await json(['import', file, '--dry-run', '--if-exists', 'replace'])).to.include({
      dryRun: true,
      replaced: 1,
      same: 2,
    });
    expect((await store.get('c-1', { fresh: true }))?.value).to.equal('another');
    expect(await told(['import', file, '--context-bytes', '10b'], 2, uniqueNamespace('to'))).to.match(
      /^LIMIT_EXCEEDED: import: line \d: the document of c-\d has \d+ bytes/,
    );
    const redis = server.client();
    const keys = store.keysOf('c-2');
    await redis.del(keys.log);
    await redis.hset(keys.context, 'data', '{"n":9,"text":""}');
    const left = await here(['export', '--out', file, '--json']);
    expect({ code: left.code, stderr: left.stderr }).to.deep.equal({ code: 4, stderr: '' });
    expect(JSON.parse(left.stdout)).to.deep.include({ ok: false, contexts: 2, damaged: 1, left: ['c-2'] });
    expect((await here(['export', '--out', file])).stderr).to.match(/^left out {2}c-2: /);
    expect(await told(['export', '--resume'], 2)).to.include('--resume needs --out');
    expect(await told(['export', '--json'], 2)).to.include('--out');
    expect(await told(['export', '--out', `${file}.gz`, '--resume'], 2)).to.include('cannot be gone on with');
    expect(await told(['export', '--out', join(folder, 'no', 'x')], 2)).to.match(/^INVALID_ARGUMENT: cannot write /);
    expect(await told(['import', join(folder, 'nothing')], 2)).to.match(/^INVALID_ARGUMENT: cannot read /);
    expect(await told(['export', '--out', folder], 2)).to.equal(`INVALID_ARGUMENT: cannot write ${folder}: it is a folder\n`);
    expect(existsSync(`${folder}.partial`)).to.equal(false);
    expect(await told(['import', folder], 2)).to.equal(`INVALID_ARGUMENT: cannot read ${folder}: it is a folder\n`);
    expect(await refused(['import', '-'], 4)).to.include('the export is empty');
    writeFileSync(file, gzipSync('x'));
    expect(await told(['import', file], 2)).to.include('compressed');
  });

  it('show progress on a pipe only where that is asked', async () => {
    await filled(3);
    expect((await run(['export', '--out', file])).stderr).to.equal('');
    expect((await run(['export', '--out', file, '--progress'])).stderr).to.match(/^exporting \[[#.]{24}\] \d+% .*\/s\n/);
    expect((await run(['import', file])).stderr).to.equal('');
    expect((await run(['import', file, '--progress'])).stderr).to.match(/^verifying \[[#.]{24}\] 100% .*\/s\n/);
  });

  it('do what docs/BACKUP.md says, command by command', async () => {
    const store = await open('agents');
    await store.set('user-42', { turns: [] });
    const words = [process.execPath, ...PROGRAM].map((word) => `'${word}'`).join(' ');
    const program = `#!/bin/sh\nexec ${words} "$@"\n`;
    writeFileSync(join(folder, 'lukhas-context'), program, { mode: 0o755 });
    const env = { ...process.env, PATH: [folder, process.env.PATH].join(delimiter), REDIS_URL: server.url };
    const commands = [...readFileSync('docs/BACKUP.md', 'utf8').matchAll(/^```sh\n([\s\S]*?)^```$/gm)].flatMap(([, body = '']) =>
      body.split('\n').filter((line) => line !== ''),
    );
    expect(commands).to.have.length.greaterThan(6);
    for (const command of commands) await promisify(execFile)('bash', ['-o', 'pipefail', '-c', command], { env, cwd: folder });
    await store.delete('user-42');
  });
});
