import { expect } from 'chai';
import { Redis } from 'ioredis';
import { type Change, ContextStore, type StoreOptions } from '../../src/index.js';
import { uniqueNamespace } from '../helpers/namespace.js';
import { sharedServer } from '../helpers/RedisServer.js';
import { waitFor } from '../helpers/waitFor.js';

describe('a context that is created again after its log has gone, so that its versions begin anew', function () {
  this.timeout(30_000);
  let redis: Redis;
  let options: StoreOptions;
  let writer: ContextStore;
  let other: ContextStore;

  before(async () => {
    const { url } = await sharedServer();
    redis = new Redis(url);
    options = {
      redis: url,
      namespace: uniqueNamespace('forgotten'),
      heartbeat: '1h',
      log: { tombstone: '1s' },
      workers: 'off',
      logger: false,
    };
    writer = await ContextStore.connect(options);
    other = await ContextStore.connect(options);
  });
  after(async () => {
    await Promise.all([writer.close(), other.close()]);
    redis.disconnect();
  });

  /** Both have it in memory; then it is deleted, and Redis has forgotten it. */
  async function forgotten(id: string): Promise<void> {
    for (const n of [1, 2, 3]) await writer.set(id, { n });
    for (const store of [writer, other]) {
      await waitFor(
        async () => {
          const { hits } = (await store.stats()).replicas;
          await store.get(id);
          return (await store.stats()).replicas.hits > hits;
        },
        { what: 'an answer from memory' },
      );
    }
    expect(await writer.delete(id)).to.deep.equal({ version: 4 });
    await waitFor(async () => (await other.get(id)) === null, { what: 'the deletion to arrive' });
    await waitFor(async () => (await redis.exists(writer.keysOf(id).log)) === 0, { what: 'the end of the log' });
  }

  it('is read by who wrote it, and by the others', async () => {
    await forgotten('read');
    expect((await writer.set('read', { n: 'new' })).version).to.equal(1);
    expect((await writer.get('read'))?.value, 'by the writer').to.deep.equal({ n: 'new' });
    expect((await other.get('read', { fresh: true }))?.value, 'fresh').to.deep.equal({ n: 'new' });
    await waitFor(async () => (await other.get('read')) !== null, { what: 'the other instance to read it' });
  });

  it('is told to watchers that come with an old version, as a reset', async () => {
    await forgotten('watched');
    const watched = [writer, other].map((store) => {
      const watcher = store.watch('watched', { fromVersion: 4 });
      const seen: Change[] = [];
      const reading = (async () => {
        for await (const change of watcher) seen.push(change);
      })();
      return { watcher, seen, reading };
    });
    await writer.set('watched', { n: 'new' });
    for (const { watcher, seen, reading } of watched) {
      await waitFor(() => seen.at(-1)?.value, { what: 'the watcher to be told' });
      expect(seen.at(-1)).to.deep.include({ version: 1, value: { n: 'new' } });
      expect(seen[0]?.kind).to.equal('reset');
      await watcher.return?.();
      await reading;
    }
  });

  it('is told to watchers that were there all the while, as a reset', async () => {
    const seen: Change[] = [];
    const watcher = other.watch('followed');
    const reading = (async () => {
      for await (const change of watcher) seen.push(change);
    })();
    await forgotten('followed');
    await waitFor(() => seen.at(-1)?.kind === 'deleted', { what: 'the deletion to be told' });
    await writer.set('followed', { n: 'new' });
    await waitFor(() => seen.at(-1)?.kind !== 'deleted', { what: 'the new one to be told' });
    expect(seen.at(-1)).to.deep.include({ kind: 'reset', version: 1, value: { n: 'new' } });
    await writer.set('followed', { n: 'newer' });
    await waitFor(() => seen.at(-1)?.version === 2, { what: 'the next one to be told' });
    expect(seen.at(-1)).to.deep.include({ value: { n: 'newer' } });
    await watcher.return?.();
    await reading;
  });
});
