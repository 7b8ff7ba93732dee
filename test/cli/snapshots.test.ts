/** The commands preserve, snapshots and restore --snapshot. */
import { expect } from 'chai';
import { ContextStore } from '../../src/index.js';
import { cliHere } from '../helpers/cliHere.js';
import { uniqueNamespace } from '../helpers/namespace.js';
import { sharedServer } from '../helpers/RedisServer.js';
import { type CliResult, runCli } from '../helpers/runCli.js';

describe('the commands preserve, snapshots and restore --snapshot', function () {
  this.timeout(60_000);
  let url: string;
  let namespace: string;
  let store: ContextStore;

  beforeEach(async () => {
    ({ url } = await sharedServer());
    namespace = uniqueNamespace('cli');
    store = await ContextStore.connect({ redis: url, namespace, workers: 'off', logger: false });
    await store.set('user-42', { turns: [] });
    await store.set('user-43', 1);
  });
  afterEach(() => store.close());

  const run = (...args: string[]): Promise<CliResult> => runCli(args, { url, namespace });
  const json = async <T>(...args: string[]): Promise<T> => {
    const result = await cliHere([...args, '--json'], { url, namespace });
    expect(result, args.join(' ')).to.deep.include({ code: 0, stderr: '' });
    return JSON.parse(result.stdout) as T;
  };

  it('keep, list, bring back and let go', async () => {
    expect((await run('snapshots')).stderr).to.equal('No snapshots.\n');
    expect((await run('preserve', 'trip', 'user-42', 'cart-42')).stdout).to.match(
      /^trip {2}2 contexts \(1 of them did not exist\), 12 b, kept until \d{4}-.*Z\n$/,
    );
    expect(await json('preserve', 'all', '--prefix', 'user-', '--ttl', 'none')).to.deep.include({
      ...{ name: 'all', contexts: 2, bytes: 13, expiresAt: null, absent: [] },
    });
    await store.set('user-42', 'changed');
    await store.set('cart-42', 'new');
    expect((await run('snapshots')).stdout).to.match(
      /^NAME +CONTEXTS +BYTES +MADE +BY +EXPIRES\nall +2 +13 .* never\ntrip +2 +12 .*Z\n$/,
    );
    const restored = await run('restore', '--snapshot', 'trip');
    expect(restored).to.include({ code: 0, stdout: 'restored  user-42\ndeleted   cart-42  it did not exist\n' });
    expect((await store.get('user-42', { fresh: true }))?.value).to.deep.equal({ turns: [] });
    expect(await json('restore', '--snapshot', 'all', '--ttl', '1h')).to.deep.include({
      ...{ restored: ['user-42', 'user-43'], deleted: [], expired: [] },
    });
    expect((await store.get('user-43', { fresh: true }))?.expiresAt).to.be.greaterThan(0);
    await store.set('user-44', 'new');
    const dry = await run('restore', '--snapshot', 'all', '--dry-run');
    expect(dry.stdout).to.equal('restored  user-42\nrestored  user-43\ndeleted   user-44  it was created since\n');
    expect(dry.stderr).to.match(/; nothing was written\n$/);
    expect((await run('restore', '--snapshot', 'all', '--keep-new')).stdout).to.include(
      'left      user-44  it was created since',
    );
    expect(await store.has('user-44')).to.equal(true);
    expect(await json('restore', '--snapshot', 'all')).to.deep.include({ dryRun: false, createdSince: ['user-44'] });
    expect(await store.has('user-44')).to.equal(false);
    expect(await json<object[]>('snapshots')).to.have.length(2);
    expect(await json('snapshots', '--drop', 'all')).to.deep.equal({ dropped: ['all'], missing: [] });
    expect(await run('snapshots', '--drop', 'all', 'trip')).to.include({ code: 3, stdout: 'dropped  trip\nmissing  all\n' });
  });

  it('tell by their exit code what was in the way', async () => {
    const code = async (...args: string[]): Promise<number | null> => (await cliHere(args, { url, namespace })).code;
    expect(await code('preserve', 'trip')).to.equal(2);
    expect(await code('preserve', 'trip', 'a', '--prefix', 'b')).to.equal(2);
    expect(await code('preserve', 'trip', '--prefix', 'nobody')).to.equal(3);
    expect(await code('preserve', 'trip', 'user-42')).to.equal(0);
    expect(await code('preserve', 'trip', 'user-42')).to.equal(3);
    expect(await code('preserve', 'trip', 'user-42', '--replace')).to.equal(0);
    expect(await code('restore')).to.equal(2);
    expect(await code('restore', 'user-42', '--value', '1', '--dry-run')).to.equal(2);
    expect(await code('restore', 'user-42', '--snapshot', 'trip')).to.equal(2);
    expect(await code('restore', '--snapshot', 'nothing')).to.equal(3);
  });
});
