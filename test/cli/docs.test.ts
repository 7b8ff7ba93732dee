import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { ContextStore } from '../../src/index.js';
import { RedisServer, sharedServer } from '../helpers/RedisServer.js';
import { SteppingProxy } from '../helpers/SteppingProxy.js';
import { waitFor } from '../helpers/waitFor.js';

/** The commands of a page's ```sh blocks, one a line; `follow` blocks run until they are ended. */
function commandsOf(page: string): { readonly command: string; readonly follow: boolean }[] {
  return [...page.matchAll(/^```sh( follow)?\n([\s\S]*?)^```$/gm)].flatMap(([, follow, body]) =>
    (body ?? '')
      .split('\n')
      .filter((line) => line !== '')
      .map((command) => ({ command, follow: follow !== undefined })),
  );
}

/** The JSON of a document that is stored in chunks. */
const LIBRARY = JSON.stringify({ books: Array.from({ length: 2_000 }, (_, index) => `the title of book ${index}`) });

const run = promisify(execFile);

/** The pages say plain `redis-cli`: in this environment it goes to a server of the tests. */
async function environment(url: string): Promise<{ readonly bin: string; readonly env: NodeJS.ProcessEnv }> {
  const bin = mkdtempSync(join(tmpdir(), 'lukhas-docs-'));
  const { stdout } = await run('bash', ['-c', 'command -v redis-cli']);
  writeFileSync(join(bin, 'redis-cli'), `#!/bin/sh\nexec ${stdout.trim()} -u '${url}' "$@"\n`, { mode: 0o755 });
  // without the packages' own commands: one of them is called crc32, too
  const path = (process.env.PATH ?? '').split(delimiter).filter((folder) => !folder.includes('node_modules'));
  return { bin, env: { ...process.env, PATH: [bin, ...path].join(delimiter) } };
}

describe('docs/REDIS_CLI.md', () => {
  const commands = commandsOf(readFileSync('docs/REDIS_CLI.md', 'utf8'));
  let store: ContextStore;
  let bin: string;
  let env: NodeJS.ProcessEnv;

  before(async () => {
    const { url } = await sharedServer();
    ({ bin, env } = await environment(url));
    store = await ContextStore.connect({ redis: url, namespace: 'agents', workers: 'off', logger: false });
    await store.set('library', JSON.parse(LIBRARY));
    await store.delete('user-42');
    await store.set('user-42', { turns: ['the first of the turns, long enough for a patch to be smaller'] }, { ttl: '30s' });
    await store.update<{ turns: string[] }>('user-42', (draft) => {
      draft.turns.push('é');
    });
    await store.tryLock('user-42');
    const kept = async (): Promise<boolean> => (await shell("redis-cli EXISTS '{lc:agents:0}:k:library'")) === '1';
    await waitFor(kept, { what: 'the checkpoint of the document in chunks' });
  });

  after(async () => {
    await store.delete('user-42');
    await store.delete('library');
    await store.close();
    rmSync(bin, { recursive: true });
  });

  const shell = async (command: string): Promise<string> =>
    (await run('bash', ['-o', 'pipefail', '-c', command], { env })).stdout.trim();
  const output = async (part: string): Promise<string> => {
    const found = commands.filter(({ command }) => command.includes(part));
    expect(found, `commands with ${part}`).to.have.length(1);
    return shell(found[0]?.command ?? 'false');
  };

  it('runs every command as written, and none of them answers with an error', async () => {
    expect(commands.length).to.be.greaterThan(15);
    for (const { command } of commands.filter(({ follow }) => !follow)) {
      const { stdout, stderr } = await run('bash', ['-o', 'pipefail', '-c', command], { env });
      expect(stdout.trim(), command).to.not.match(/^\(?(ERR|error|NOSCRIPT|WRONGTYPE)/i);
      expect(stdout.trim(), command).to.not.equal('');
      expect(stderr, command).to.equal('');
    }
  });

  it('shows the checksums that the system tools compute', async () => {
    const [crc, sha, length] = (await output("user-42' crc sha len")).split('\n');
    expect(await output('data | head -c -1 | sha1sum')).to.equal(`${sha}  -`);
    expect((await output('crc32')).split(/\s/)[0]).to.equal(crc);
    expect(await output('data | head -c -1 | wc -c')).to.equal(length);
    expect(await output('while read -r chunk')).to.equal(String(LIBRARY.length));
  });

  it('shows the seal, and the checksums of a checkpoint', async () => {
    const seal = await output("user-42' seal");
    expect(seal).to.match(/^[0-9a-f]{40}$/);
    expect(await output('printf %s user-42')).to.equal(`${seal}  -`);
    const [, , , length, , , encoding, zsum] = (await output("library' v crc sha len")).split('\n');
    expect(await output('z | head -c -1 | sha1sum')).to.equal(`${zsum}  -`);
    expect(encoding).to.equal('br');
    expect(length).to.equal(String(LIBRARY.length));
    expect(await output('brotliDecompress')).to.equal(length);
  });

  it('shows who holds a lock', async () => {
    const [held] = await store.locks({ ids: ['user-42'] });
    const token = String(held?.holders[0]?.token);
    expect(await output("HGETALL '{lc:agents:0}:w:user-42'"))
      .to.include(`h:${token}`)
      .and.include(store.instanceId);
    expect(await output('w:*')).to.include('{lc:agents:0}:w:user-42');
    expect(await output("mem' fence")).to.equal(token);
  });

  it('lists, verifies and measures the context', async () => {
    expect(await output("ZREVRANGE '{lc:agents:0}:use'")).to.include('user-42');
    expect(await output('inspect.lua')).to.match(/OK$/);
    expect(await output('-inf')).to.include('user-42');
    const page = await store.list({ prefix: 'user-42' });
    const measured = await Promise.all([output(":c:user-42' SAMPLES"), output(":l:user-42' SAMPLES")]);
    expect(measured.map(Number).reduce((sum, bytes) => sum + bytes, 0)).to.equal(page.items[0]?.memoryBytes);
  });

  for (const { command } of commands.filter(({ follow }) => follow)) {
    it(`shows frames as text: ${command}`, async () => {
      let text = '';
      // exec: the signal must reach redis-cli itself
      const child: ChildProcess = spawn('bash', ['-c', `exec ${command}`], { env });
      child.stdout?.on('data', (chunk: Buffer) => {
        text += chunk.toString();
      });
      try {
        await waitFor(() => text.includes('subscribe'), { what: 'the subscription' });
        await store.update<{ turns: string[] }>('user-42', (draft) => {
          draft.turns.push('another');
        });
        await waitFor(() => text.includes('another'), { what: 'the frame' });
        expect(text).to.match(/^lc2 splice - 0 \d+ [0-9a-f]{8} \d+ \d+ [0-9a-f]{8} \d+ \d+ \S+ \S+ [0-9a-f]{8}$/m);
      } finally {
        child.kill('SIGTERM');
      }
    });
  }
});

describe('docs/TRANSACTIONS.md', () => {
  const commands = commandsOf(readFileSync('docs/TRANSACTIONS.md', 'utf8'));

  it('shows a transaction that is on its way, by every command as written', async () => {
    // namespace `bank` as the page has it
    const server = await RedisServer.start();
    const proxy = await SteppingProxy.start(server.port);
    const { bin, env } = await environment(server.url);
    const options = { namespace: 'bank', shards: 16, workers: 'off', logger: false } as const;
    const store = await ContextStore.connect({
      ...options,
      redis: proxy.url,
      transactions: { recoverAfter: '30s' },
      timeout: '20s',
    });
    try {
      const ids = ['account-1', 'account-2'];
      expect(ids.map((id) => store.keysOf(id).context)).to.deep.equal(['{lc:bank:0}:c:account-1', '{lc:bank:10}:c:account-2']);
      const transfer = (): Promise<unknown> => store.transaction((tx) => ids.map((id) => tx.set(id, { balance: 1 })));
      await transfer();
      proxy.stopAt({ hold: ({ script }) => script === 'decide' });
      const done = transfer();
      await waitFor(() => proxy.stopped, { what: 'the first phase' });
      const outputs: string[] = [];
      for (const { command } of commands) {
        const { stdout, stderr } = await run('bash', ['-o', 'pipefail', '-c', command], { env });
        expect(stderr, command).to.equal('');
        outputs.push(stdout.trim());
      }
      const [intent = '', open, all, records] = outputs;
      const [, txn, deadline] = /^(\w+) (\d+) 0 0$/.exec(intent) ?? [];
      expect(open?.split('\n')).to.deep.equal([`${txn}.0`, deadline]);
      expect(all?.split('\n').filter((line) => line !== '')).to.deep.equal([`${txn}.0`, deadline, `${txn}.1`, deadline]);
      expect(records).to.include(`{lc:bank:10}:t:${txn}.1\n${store.instanceId}\n${deadline}\n0 10`);
      expect(outputs).to.have.length(4);
      proxy.resume();
      await done;
    } finally {
      proxy.resume();
      await store.close();
      await proxy.close();
      await server.stop();
      rmSync(bin, { recursive: true });
    }
  });
});
