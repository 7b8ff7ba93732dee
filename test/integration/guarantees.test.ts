import { expect } from 'chai';
import { Redis } from 'ioredis';
import type { Change } from '../../src/index.js';
import { ContextStore } from '../../src/index.js';
import { sharedServer } from '../helpers/RedisServer.js';
import { refusal, useStores } from '../helpers/stores.js';
import { TcpProxy } from '../helpers/TcpProxy.js';
import { waitFor } from '../helpers/waitFor.js';

/** What must hold when several things go wrong at once, or somebody uses the store in a way that is easy to get wrong. */
describe('guarantees', () => {
  const stores = useStores();

  async function behindProxy(options: object = {}) {
    const { url } = await sharedServer();
    const proxy = await TcpProxy.start(Number(new URL(url).port));
    const far = await stores.open({ heartbeat: '100ms' });
    const near = await stores.open({
      redis: proxy.url,
      namespace: far.namespace,
      heartbeat: '100ms',
      attemptTimeout: '200ms',
      ...options,
    });
    return { proxy, far, near };
  }

  const replicated = async (store: ContextStore, id: string): Promise<void> => {
    await waitFor(
      async () => {
        await store.get(id);
        return (await store.stats()).replicas.live >= 1;
      },
      { what: `the replica of ${id}` },
    );
  };

  it('a process that is cut off from Redis does not go on serving old values as healthy', async () => {
    const { proxy, far, near } = await behindProxy();
    try {
      await far.set('x', { n: 0 });
      await replicated(near, 'x');
      proxy.pause();
      await far.set('x', { n: 1 });
      const answer = await waitFor(
        async () => near.get('x', { timeout: '150ms' }).then((context) => (context?.version === 2 ? context : null), String),
        { what: 'an error instead of the old value' },
      );
      expect(answer).to.match(/TIMEOUT|CONNECTION|did not answer|could not be reached/);
      const stale = await near.get('x', { timeout: '150ms', allowStale: true });
      expect(stale).to.include({ version: 1, stale: true });
      proxy.resume();
      await waitFor(async () => (await near.get('x').catch(() => null))?.version === 2, { what: 'the recovery' });
    } finally {
      await near.close();
      await proxy.close();
    }
  });

  it('an update that changes nothing on an old replica is run again on what Redis has', async () => {
    const { proxy, far, near } = await behindProxy();
    try {
      await far.set('x', { flag: true, seen: 0 });
      await replicated(near, 'x');
      const lift = proxy.drop({ direction: 'down', when: (chunk) => chunk.includes('lc2 ') });
      await far.update<{ flag: boolean }>('x', (draft) => {
        draft.flag = false;
      });
      const result = await near.update<{ flag: boolean }>('x', (draft) => {
        draft.flag = true;
      });
      lift();
      expect(result.version).to.equal(3);
      expect((await far.get('x', { fresh: true }))?.value).to.deep.include({ flag: true });
    } finally {
      await near.close();
      await proxy.close();
    }
  });

  it('replicas that grow by frames stay within the memory they are given', async () => {
    const far = await stores.open();
    const near = await stores.open({ namespace: far.namespace, memory: { local: '200kb' } });
    for (let n = 0; n < 20; n += 1) {
      await far.set(`c${n}`, { list: [] });
      await near.get(`c${n}`);
      await near.get(`c${n}`);
    }
    await waitFor(async () => (await near.stats()).replicas.live === 20, { what: 'all replicas' });
    for (let n = 0; n < 20; n += 1) await far.set(`c${n}`, { list: ['x'.repeat(20_000)] });
    const { replicas } = await waitFor(
      async () => {
        const stats = await near.stats();
        return stats.replicas.count < 5 ? stats : null;
      },
      { what: 'room for the grown ones only' },
    );
    expect(replicas.bytes).to.be.within(60_000, 200 * 1024);
  });

  it('a watcher that has seen versions which are gone is told where things stand', async () => {
    const store = await stores.open();
    const changes: Change[] = [];
    const watcher = store.watch('x', { fromVersion: 57 });
    const done = (async () => {
      for await (const change of watcher) changes.push(change);
    })();
    await waitFor(() => changes.length === 1, { what: 'the reset' });
    await store.set('x', 1);
    await waitFor(() => changes.length === 2, { what: 'the first version' });
    await watcher.return?.();
    await done;
    expect(changes.map(({ kind, version }) => [kind, version])).to.deep.equal([
      ['reset', 0],
      ['full', 1],
    ]);
  });

  it('a context whose fields were damaged can be written anew, deleted and touched, and subscribers hear of it', async () => {
    const { url } = await sharedServer();
    const redis = new Redis(url);
    try {
      const store = await stores.open();
      const other = await stores.open({ namespace: store.namespace });
      for (const field of ['crc', 'sha', 'len', 'at', 'by', 'op', 'kf', 'data']) {
        const id = `x-${field}`;
        await store.set(id, { n: 0 });
        const watcher = other.watch(id);
        const { context } = store.keysOf(id);
        await redis.hdel(context, field);
        await store.touch(id, '1h');
        await store.set(id, { n: 1 });
        expect((await watcher.next()).value, field).to.deep.include({ version: 2, value: { n: 1 } });
        await redis.hdel(context, field);
        expect(await store.delete(id)).to.deep.equal({ version: 3 });
        expect((await watcher.next()).value, field).to.include({ version: 3, kind: 'deleted' });
        await watcher.return?.();
      }
    } finally {
      redis.disconnect();
    }
  });

  it('an abort ends a write that waits for its connection', async () => {
    const { proxy, near } = await behindProxy();
    try {
      proxy.refuse(true);
      proxy.cut();
      const abort = new AbortController();
      const write = refusal('ABORTED', () => near.set('x', 1, { signal: abort.signal, timeout: '10s' }));
      abort.abort();
      await write;
    } finally {
      proxy.refuse(false);
      await near.close();
      await proxy.close();
    }
  });

  it('one signal may be shared by any number of calls', async () => {
    const store = await stores.open({ memory: { local: 0 } });
    const warnings: string[] = [];
    const warned = (warning: Error): void => {
      warnings.push(warning.name);
    };
    process.on('warning', warned);
    const { signal } = new AbortController();
    await Promise.all(Array.from({ length: 100 }, (_, n) => store.get(`x${n}`, { signal })));
    await new Promise((resolve) => setImmediate(resolve));
    process.off('warning', warned);
    expect(warnings).to.deep.equal([]);
  });

  it('a listener that fails later is logged, and harms nobody', async () => {
    const lines: object[] = [];
    const quiet = (): void => {};
    const logger = { debug: quiet, info: quiet, warn: quiet, error: (fields: object) => void lines.push(fields) };
    const store = await stores.open({ logger });
    const fails = (): unknown => Promise.reject(new Error('from a listener'));
    store.on('context:committed', fails as () => void);
    await store.set('x', 1);
    await waitFor(() => lines.length === 1, { what: 'the line' });
    expect(lines[0]).to.include({ event: 'context:committed', error: 'from a listener' });
  });

  it('a target that does not say which server is refused, rather than guessed', async () => {
    for (const redis of [{ cluster: [{ host: '127.0.0.1', port: 1 }] }, {}, { hots: 'a' }, 'localhost']) {
      await refusal('INVALID_OPTION', () => ContextStore.connect({ redis: redis as object, logger: false }));
    }
  });

  it('a time to live that no clock shows is refused', async () => {
    const store = await stores.open();
    await refusal('INVALID_ARGUMENT', () => store.set('x', 1, { ttl: Number.MAX_SAFE_INTEGER }));
    await store.set('x', 1, { ttl: '36000d' });
    await store.set('x', 2, { ttl: 'keep' });
    expect((await store.get('x'))?.expiresAt).to.be.greaterThan(Date.now());
  });

  it('a page for a rare prefix may be empty, but never lasts', async () => {
    const store = await stores.open();
    await Promise.all(Array.from({ length: 600 }, (_, n) => store.set(`many-${n}`, n)));
    await store.set('rare', 1);
    const found: string[] = [];
    let cursor: string | null = null;
    do {
      const page = await store.list({ prefix: 'rare', limit: 1, ...(cursor === null ? {} : { cursor }) });
      found.push(...page.items.map(({ id }) => id));
      cursor = page.cursor;
    } while (cursor !== null);
    expect(found).to.deep.equal(['rare']);
  });
});
