import { expect } from 'chai';
import type { Redis } from 'ioredis';
import { ContextStore, type StoreOptions } from '../../src/index.js';
import { uniqueNamespace } from '../helpers/namespace.js';
import { RedisServer } from '../helpers/RedisServer.js';
import { waitFor } from '../helpers/waitFor.js';
import { HoldingProxy } from './HoldingProxy.js';

/**
 * The order that must never do harm: a first attempt is held on its way, another one is made, somebody else commits, and only then does
 * the first attempt arrive.
 */
describe('an attempt that arrives after another one and after a foreign commit', function () {
  this.timeout(30_000);
  let server: RedisServer;
  let redis: Redis;
  let proxy: HoldingProxy;
  let options: StoreOptions;
  let foreign: ContextStore;
  const opened: ContextStore[] = [];
  let serial = 0;

  before(async () => {
    server = await RedisServer.start({ appendOnly: true });
    redis = server.client();
    proxy = await HoldingProxy.start(server.port);
    options = {
      redis: server.url,
      namespace: uniqueNamespace('late'),
      heartbeat: '1h',
      timeout: '10s',
      workers: 'off',
      logger: false,
    };
    foreign = await ContextStore.connect(options);
  });
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((store) => store.close()));
  });
  after(async () => {
    await foreign.close();
    await proxy.close();
    await server.stop();
  });

  async function open(attemptTimeout: string): Promise<ContextStore> {
    const store = await ContextStore.connect({ ...options, redis: proxy.url, attemptTimeout });
    opened.push(store);
    return store;
  }

  /** All that a second application would change. */
  const everything = async (id: string): Promise<unknown> => {
    const { context, log } = foreign.keysOf(id);
    return [await redis.hgetall(context), await redis.xrange(log, '-', '+'), await redis.pexpiretime(context)];
  };

  async function operations(id: string): Promise<string[]> {
    const entries = await redis.xrange(foreign.keysOf(id).log, '-', '+');
    return entries.map(([, fields]) => fields[fields.indexOf('op') + 1] ?? '').filter((op) => op !== '-');
  }

  type Write = (store: ContextStore, id: string) => Promise<{ readonly version: number } | null>;
  const writes: readonly (readonly [name: string, write: Write])[] = [
    ['set', (store, id) => store.set(id, { by: 'late', n: 0 })],
    [
      'update',
      (store, id) =>
        store.update<{ n: number; late?: number }>(id, (draft) => {
          draft.n += 1;
          draft.late = (draft.late ?? 0) + 1;
        }),
    ],
    ['patch', (store, id) => store.patch(id, [{ op: 'add', path: '/late', value: true }])],
    ['delete', (store, id) => store.delete(id)],
    ['touch', (store, id) => store.touch(id, '1h')],
  ];

  for (const [name, write] of writes) {
    it(`${name}: after its time it changes nothing`, async () => {
      const id = `${name}-${++serial}`;
      const store = await open('200ms');
      await foreign.set(id, { by: 'first', n: 0 });
      await store.get(id);
      const caught = proxy.hold(id, 'silent');
      const written = write(store, id);
      const held = await caught;
      const result = await written;
      expect(result?.version).to.equal(name === 'touch' ? 1 : 2);
      await foreign.set(id, { by: 'foreign', n: 5 });
      const before = await everything(id);
      expect(await held.release()).to.include('LATE');
      expect(await everything(id)).to.deep.equal(before);
      expect((await foreign.verify(id))?.ok).to.equal(true);
    });
  }

  for (const name of ['set', 'delete'] as const) {
    it(`${name}: within its time, while the next one waits, it is the one that counts, and the only one`, async () => {
      const id = `${name}-${++serial}`;
      const write = writes.find(([known]) => known === name)?.[1] as Write;
      const store = await open('1s');
      await foreign.set(id, { by: 'first', n: 0 });
      const caught = proxy.hold(id, 'cut');
      const written = write(store, id);
      const held = await caught;
      // the next attempt has reached Redis, which cannot tell yet what becomes of the first
      await waitFor(() => proxy.seen >= 2, { what: 'the next attempt' });
      await foreign.set(id, { by: 'foreign', n: 5 });
      expect(await held.release()).to.match(/COMMITTED|DELETED/);
      const after = await foreign.set(id, { by: 'foreign', n: 6 });
      expect((await written)?.version).to.equal(3);
      expect(after.version).to.equal(4);
      const found = await operations(id);
      expect(found).to.have.length(4);
      expect(new Set(found).size).to.equal(4);
      expect((await foreign.get(id, { fresh: true }))?.value).to.deep.equal({ by: 'foreign', n: 6 });
    });
  }

  it('update: where somebody else was faster than all its attempts, it is made again from what is there, once', async () => {
    const id = `update-${++serial}`;
    const store = await open('300ms');
    await foreign.set(id, { n: 0 });
    const caught = proxy.hold(id, 'cut');
    const written = store.update<{ n: number }>(id, (draft) => {
      draft.n += 1;
    });
    const held = await caught;
    await foreign.update<{ n: number }>(id, (draft) => {
      draft.n += 10;
    });
    expect((await written).value).to.deep.equal({ n: 11 });
    expect(await held.release()).to.match(/LATE|CONFLICT/);
    expect((await foreign.get(id, { fresh: true }))?.value).to.deep.equal({ n: 11 });
  });
});
