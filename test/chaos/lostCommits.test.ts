import { expect } from 'chai';
import type { Redis } from 'ioredis';
import { type Change, ContextStore, type StoreOptions } from '../../src/index.js';
import { uniqueNamespace } from '../helpers/namespace.js';
import { RedisServer } from '../helpers/RedisServer.js';
import { TcpProxy } from '../helpers/TcpProxy.js';
import { waitFor } from '../helpers/waitFor.js';

/** A failover to a server that had not got the last commits: the same version numbers come back with other content. */
describe('a server that has lost its last commits', function () {
  this.timeout(30_000);
  let server: RedisServer;
  let redis: Redis;
  let proxy: TcpProxy;
  let writer: ContextStore;
  let reader: ContextStore;
  let losing = false;

  before(async () => {
    server = await RedisServer.start();
    redis = server.client();
    proxy = await TcpProxy.start(server.port);
    proxy.drop({ direction: 'down', when: (chunk) => losing && chunk.includes('lc2 ') });
    const options: StoreOptions = {
      redis: server.url,
      namespace: uniqueNamespace('lost'),
      heartbeat: '1h',
      workers: 'off',
      logger: false,
    };
    writer = await ContextStore.connect({ ...options, memory: { local: 0 } });
    reader = await ContextStore.connect({ ...options, redis: proxy.url });
  });
  after(async () => {
    await Promise.all([writer.close(), reader.close()]);
    await proxy.close();
    await server.stop();
  });

  const keys = (id: string): string[] => [writer.keysOf(id).context, writer.keysOf(id).log];

  /** Runs `lost`, and then takes the context back to what it was before. */
  async function losesCommits(id: string, lost: () => Promise<unknown>): Promise<void> {
    const dumps = await Promise.all(keys(id).map((key) => redis.dumpBuffer(key)));
    await lost();
    for (const [index, key] of keys(id).entries()) await redis.restore(key, 0, dumps[index] ?? Buffer.alloc(0), 'REPLACE');
  }

  interface Followed {
    readonly seen: Change[];
    end(): Promise<void>;
  }

  function follow(id: string): Followed {
    const watcher = reader.watch(id, { fromVersion: 0 });
    const seen: Change[] = [];
    const reading = (async () => {
      for await (const change of watcher) seen.push(change);
    })();
    return {
      seen,
      end: async () => {
        await watcher.return?.();
        await reading;
      },
    };
  }

  const told = ({ seen }: Followed): string[] => seen.map(({ kind, version }) => `${kind} ${version}`);

  it('is noticed by the frame that comes with a version that is there already', async () => {
    const followed = follow('same');
    await writer.set('same', { n: 1 });
    await losesCommits('same', async () => {
      await writer.set('same', { n: 'lost' });
      await waitFor(() => followed.seen.length === 2, { what: 'the commit that will be lost' });
    });
    await writer.set('same', { n: 'other' });
    await waitFor(() => followed.seen.length === 3, { what: 'the commit after it' });
    expect(told(followed)).to.deep.equal(['full 1', 'full 2', 'reset 2']);
    expect((await reader.get('same'))?.value).to.deep.equal({ n: 'other' });
    await followed.end();
  });

  it('is noticed by the base of a frame, where the number would fit: nothing is taken for the next version that is not', async () => {
    const followed = follow('next');
    await writer.set('next', { n: 1 });
    await losesCommits('next', async () => {
      await writer.set('next', { n: 'lost' });
      await waitFor(() => followed.seen.length === 2, { what: 'the commit that will be lost' });
    });
    losing = true;
    await writer.set('next', { n: 'other' });
    losing = false;
    await writer.set('next', { n: 'after it' });
    await waitFor(() => followed.seen.length === 3, { what: 'the commit after it' });
    expect(told(followed)).to.deep.equal(['full 1', 'full 2', 'reset 3']);
    expect((await reader.get('next'))?.value).to.deep.equal({ n: 'after it' });
    await followed.end();
  });

  it('no update goes onto what is only in memory: version and checksum of the base are compared', async () => {
    await writer.set('base', { n: 1 });
    for (let use = 0; use < 3; use += 1) await reader.get('base');
    await losesCommits('base', async () => {
      await writer.set('base', { n: 'lost' });
      await waitFor(async () => (await reader.get('base'))?.version === 2, { what: 'the commit that will be lost' });
    });
    losing = true;
    await writer.set('base', { n: 'other' });
    losing = false;
    const { version, value } = await reader.update<{ n: string; more?: boolean }>('base', (draft) => {
      draft.more = true;
    });
    expect({ version, value }).to.deep.equal({ version: 3, value: { n: 'other', more: true } });
  });
});
