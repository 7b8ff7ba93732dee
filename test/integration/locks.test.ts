/** What locks promise with the data server alone: who gets them and when, what a handle allows, and what becomes of a lock that is lost. */
import { expect } from 'chai';
import type { Redis } from 'ioredis';
import type { ContextStore, Lock } from '../../src/index.js';
import { script } from '../../src/redis/scripts.js';
import { RecordingLogger, refusal, useStores } from '../helpers/stores.js';
import { waitFor } from '../helpers/waitFor.js';

/** A promise that a test settles. */
function gate<T = void>(): { readonly opened: Promise<T>; open(value: T): void } {
  let open = (_: T): void => {};
  const opened = new Promise<T>((resolve) => {
    open = resolve;
  });
  return { opened, open: (value) => open(value) };
}

describe('locks', () => {
  const stores = useStores();
  const bookKey = (id: string): string => `{lc:${stores.namespace}:0}:w:${id}`;
  const entries = async (redis: Redis, id: string, kind: 'h' | 'q'): Promise<string[]> =>
    Object.keys(await redis.hgetall(bookKey(id))).filter((field) => field.startsWith(`${kind}:`));

  /** Waits until so many wait for a context. */
  const waiting = (store: ContextStore, id: string, count: number): Promise<unknown> =>
    waitFor(async () => (await store.locks()).find((lock) => lock.id === id)?.waiters.length === count, {
      what: `${count} waiters for ${id}`,
    });

  describe('lock and tryLock', () => {
    it('give what the function returned, and leave nothing but the last token', async () => {
      const [store, other] = await stores.pair();
      const redis = await stores.redis();
      const seen = await store.lock('x', async (lock) => {
        expect(lock.ids).to.deep.equal(['x']);
        expect(lock.mode).to.equal('write');
        expect(lock.remainingMs).to.be.within(1, 10_000);
        expect(lock.signal.aborted).to.equal(false);
        expect([...lock.fencingTokens]).to.deep.equal([['x', lock.fencingToken]]);
        expect(await other.tryLock('x')).to.equal(null);
        return lock.fencingToken;
      });
      expect(await redis.hgetall(bookKey('x'))).to.deep.equal({ fence: String(seen) });
      const lock = (await other.tryLock('x')) as Lock;
      expect(lock.fencingToken).to.be.above(seen);
      await lock.release();
      await lock.release();
      expect(lock.remainingMs).to.equal(0);
      expect(await entries(redis, 'x', 'h')).to.deep.equal([]);
    });

    it('release when the function throws, and let its error out', async () => {
      const store = await stores.open();
      const error = new Error('mine');
      const caught = await store
        .lock('x', () => {
          throw error;
        })
        .catch((thrown: unknown) => thrown);
      expect(caught).to.equal(error);
      await (await store.tryLock('x'))?.release();
      expect(await store.locks()).to.deep.equal([]);
    });

    it('a lock is disposed of by its block', async () => {
      const store = await stores.open();
      {
        await using lock = await store.tryLock('x');
        expect(lock).to.not.equal(null);
        expect(await store.tryLock('x')).to.equal(null);
      }
      expect(await store.locks()).to.deep.equal([]);
    });

    it('first come, first served, across instances', async () => {
      const open = await stores.openMany(3);
      const [first] = open as [ContextStore];
      const order: number[] = [];
      const held = (await first.tryLock('x')) as Lock;
      const all: Promise<unknown>[] = [];
      for (let turn = 0; turn < 9; turn += 1) {
        const store = open[turn % 3] as ContextStore;
        all.push(store.lock('x', () => void order.push(turn)));
        await waiting(first, 'x', turn + 1);
      }
      await held.release();
      await Promise.all(all);
      expect(order).to.deep.equal([0, 1, 2, 3, 4, 5, 6, 7, 8]);
    });

    it('LOCK_TIMEOUT says who holds it, since when, and at which place one waited', async () => {
      const [store, other] = await stores.pair();
      await store.lock('x', async (lock) => {
        await waitFor(async () => ((await store.locks())[0]?.holders[0]?.ageMs ?? 0) >= 50, {
          what: 'it to be held for a while',
        });
        const error = await refusal('LOCK_TIMEOUT', () => other.lock('x', () => {}, { wait: 50 }));
        expect(error.message).to.match(
          /^x: not locked within 50 ms: \S+ holds it for .* \(write, fencing token \d+\), place 1 of 1/,
        );
        expect(error.details).to.deep.include({ id: 'x', namespace: stores.namespace, place: 1, waiters: 1 });
        expect(error.details.holder).to.deep.include({ instance: store.instanceId, token: lock.fencingToken, mode: 'write' });
        expect(error.details.holder?.ageMs).to.be.at.least(50);
        expect(error.retryable).to.equal(true);
        await waiting(store, 'x', 0);
        // the usual mistake
        const mine = await refusal('LOCK_TIMEOUT', () => store.lock('x', () => {}, { wait: 0 }));
        expect(mine.message).to.include('`within`');
      });
    });

    it('refuse what makes no sense before anything is sent', async () => {
      const store = await stores.open();
      await refusal('INVALID_ARGUMENT', () => store.lock([], () => {}));
      await refusal('INVALID_ID', () => store.lock(['x', ''], () => {}));
      await refusal('INVALID_ARGUMENT', () => store.lock('x', () => {}, { ttl: 99 }));
      await refusal('INVALID_ARGUMENT', () => store.lock('x', () => {}, { ttl: '2m' }));
      await refusal('INVALID_OPTION', () => store.lock('x', () => {}, { wait: 'soon' }));
      await refusal('INVALID_ARGUMENT', () => store.lock('x', () => {}, { mode: 'both' as never }));
      await refusal('INVALID_OPTION', () => store.lock('x', () => {}, { tll: 5 } as never));
      await refusal('INVALID_OPTION', () => store.tryLock('x', { wait: 5 } as never));
      await refusal('LIMIT_EXCEEDED', () =>
        store.lock(
          Array.from({ length: 101 }, (_, n) => `x${n}`),
          () => {},
        ),
      );
      await refusal('ABORTED', () => store.lock('x', () => {}, { signal: AbortSignal.abort() }));
      expect(await store.locks()).to.deep.equal([]);
    });
  });

  describe('several ids', () => {
    it('are taken in one order, so that two who want the same do not wait for each other', async () => {
      const [store, other] = await stores.pair({ shards: 4 });
      const ids = ['a', 'b', 'c', 'd', 'e'];
      let inside = 0;
      const work = async (): Promise<void> => {
        inside += 1;
        expect(inside).to.equal(1);
        await new Promise(setImmediate);
        inside -= 1;
      };
      await Promise.all(
        Array.from({ length: 20 }, (_, turn) =>
          (turn % 2 ? store : other).lock(turn % 3 ? ids : [...ids].reverse(), work, { wait: '15s' }),
        ),
      );
      expect(await store.locks()).to.deep.equal([]);
    });

    it('each has its token, and those that were taken are let go of where one cannot be had', async () => {
      const [store, other] = await stores.pair();
      await store.lock(['b', 'a', 'b'], async (lock) => {
        expect(lock.ids).to.deep.equal(['b', 'a']);
        expect([...lock.fencingTokens.keys()]).to.deep.equal(['b', 'a']);
        expect(lock.fencingToken).to.equal(lock.fencingTokens.get('b'));
        await store.set('a', 1, { lock });
        await store.set('b', 2, { lock });
      });
      const held = (await other.tryLock('m')) as Lock;
      expect(await store.tryLock(['l', 'm', 'n'])).to.equal(null);
      await refusal('LOCK_TIMEOUT', () => store.lock(['l', 'm', 'n'], () => {}, { wait: 20 }));
      await waitFor(async () => (await store.locks()).map(({ id, waiters }) => [id, waiters.length]).join() === 'm,0', {
        what: 'the lock on m alone',
      });
      await held.release();
    });
  });

  describe('readers and writers', () => {
    it('readers share, writers are alone and do not starve', async () => {
      const [store, other] = await stores.pair();
      const reads = [await store.tryLock('x', { mode: 'read' }), await other.tryLock('x', { mode: 'read' })] as Lock[];
      expect(await store.tryLock('x')).to.equal(null);
      const order: string[] = [];
      const writer = store.lock('x', () => void order.push('writer'));
      await waiting(store, 'x', 1);
      const reader = other.lock('x', () => void order.push('reader'), { mode: 'read' });
      await waiting(store, 'x', 2);
      for (const read of reads) await read.release();
      await Promise.all([writer, reader]);
      expect(order).to.deep.equal(['writer', 'reader']);
    });

    it('a read lock does not let its holder write', async () => {
      const store = await stores.open();
      await store.lock(
        'x',
        async (lock) => {
          const error = await refusal('INVALID_ARGUMENT', () => store.set('x', 1, { lock }));
          expect(error.message).to.include('read lock');
        },
        { mode: 'read' },
      );
    });
  });

  describe('within', () => {
    it('what the outer lock covers is not taken again; more comes after it in the order', async () => {
      const store = await stores.open();
      await store.lock(['a', 'c'], async (outer) => {
        await store.lock(
          ['c', 'd'],
          async (inner) => {
            expect(inner.fencingTokens.get('c')).to.equal(outer.fencingTokens.get('c'));
            await store.set('c', 1, { lock: inner });
            await store.set('d', 1, { lock: inner });
            await refusal('INVALID_ARGUMENT', () => store.set('a2', 1, { lock: inner }));
            await store.lock('a', async (third) => void (await store.set('a', 3, { lock: third })), { within: inner });
          },
          { within: outer },
        );
        expect((await store.locks()).map(({ id }) => id)).to.deep.equal(['a', 'c']);
        const error = await refusal('INVALID_ARGUMENT', () => store.lock('b', () => {}, { within: outer }));
        expect(error.message).to.include('b comes before c');
      });
    });

    it('locks within the same outer one keep to the order among each other', async () => {
      const store = await stores.open();
      await store.lock('a', async (outer) => {
        await store.lock(
          'm',
          async (inner) => {
            const error = await refusal('INVALID_ARGUMENT', () => store.lock('k', () => {}, { within: outer }));
            expect(error.message).to.include('k comes before m');
            await store.lock(
              'p',
              async () => void (await refusal('INVALID_ARGUMENT', () => store.lock('n', () => {}, { within: outer }))),
              { within: inner },
            );
            // what is over does not count any more
            await store.lock('n', () => {}, { within: outer });
          },
          { within: outer },
        );
        await store.lock('k', () => {}, { within: outer });
      });
    });

    it('a read lock does not become a write lock', async () => {
      const store = await stores.open();
      await store.lock(
        'a',
        async (outer) => {
          await refusal('INVALID_ARGUMENT', () => store.lock('a', () => {}, { within: outer }));
          await store.lock('a', () => {}, { within: outer, mode: 'read' });
        },
        { mode: 'read' },
      );
    });

    it('an inner lock ends with the outer one', async () => {
      const store = await stores.open();
      const outer = (await store.tryLock('a')) as Lock;
      await store.lock(
        'b',
        async (inner) => {
          await outer.release();
          await refusal('FENCED', () => store.set('b', 1, { lock: inner }));
        },
        { within: outer },
      );
    });

    it('only a lock of this store will do', async () => {
      const [store, other] = await stores.pair();
      const lock = (await other.tryLock('a')) as Lock;
      await refusal('INVALID_ARGUMENT', () => store.lock('b', () => {}, { within: lock }));
      await refusal('INVALID_ARGUMENT', () => store.set('a', 1, { lock }));
      await refusal('INVALID_ARGUMENT', () => store.set('a', 1, { lock: { ids: ['a'], fencingToken: 9e15 } as never }));
    });
  });

  describe('abort', () => {
    it('ends waiting with ABORTED, and the place in the queue with it', async () => {
      const [store, other] = await stores.pair();
      const held = (await store.tryLock('x')) as Lock;
      const abort = new AbortController();
      const given = other.lock('x', () => {}, { signal: abort.signal });
      await waiting(store, 'x', 1);
      abort.abort(new Error('enough'));
      const error = await refusal('ABORTED', () => given);
      expect((error.details.cause as Error).message).to.equal('enough');
      await waiting(store, 'x', 0);
      await held.release();
      expect(await store.locks()).to.deep.equal([]);
    });

    it('lets go of what was taken before', async () => {
      const [store, other] = await stores.pair();
      const held = (await store.tryLock('b')) as Lock;
      const abort = new AbortController();
      const given = other.lock(['a', 'b'], () => {}, { signal: abort.signal });
      await waiting(store, 'b', 1);
      abort.abort();
      await refusal('ABORTED', () => given);
      await waitFor(async () => (await store.locks()).length === 1, { what: 'a to be free' });
      await held.release();
    });
  });

  describe('extension', () => {
    it('keeps a lock for several times its time to live', async () => {
      const [store, other] = await stores.pair();
      const redis = await stores.redis();
      await store.lock(
        'x',
        async (lock) => {
          const [field = ''] = await entries(redis, 'x', 'h');
          const untils = new Set<string>();
          await waitFor(async () => untils.add(String((await redis.hget(bookKey('x'), field))?.split(' ')[1])).size >= 8, {
            what: 'seven extensions',
          });
          expect(lock.signal.aborted).to.equal(false);
          expect(await other.tryLock('x')).to.equal(null);
          await store.set('x', 1, { lock });
        },
        { ttl: 200 },
      );
    });

    it('by hand: more from now on, and never less', async () => {
      const store = await stores.open();
      const lock = (await store.tryLock('x', { ttl: 5_000 })) as Lock;
      expect(lock.remainingMs).to.be.below(5_000);
      await lock.extend('30s');
      expect(lock.remainingMs).to.be.within(20_000, 30_000);
      await lock.extend(1_000);
      expect(lock.remainingMs).to.be.within(20_000, 30_000);
      await refusal('INVALID_ARGUMENT', () => lock.extend('2h'));
      await lock.release();
      await refusal('LOCK_LOST', () => lock.extend());
    });

    it('that does not come through aborts the signal before the time to live is over on the server', async () => {
      const proxy = await stores.proxy();
      const store = await stores.open({ redis: proxy.url, attemptTimeout: 100 });
      const other = await stores.open();
      // a twentieth of it, and what clocks may drift, is what there is for the question below
      const lock = (await store.tryLock('x', { ttl: 5_000 })) as Lock;
      const aborted = gate<boolean>();
      lock.signal.addEventListener('abort', async () => {
        aborted.open((await other.locks()).some(({ id, holders }) => id === 'x' && holders.length === 1));
      });
      proxy.pause();
      expect(await aborted.opened, 'whether it was still held when the signal came').to.equal(true);
      expect((lock.signal.reason as { code?: string }).code).to.equal('LOCK_LOST');
      expect(lock.remainingMs).to.equal(0);
      await refusal('FENCED', () => store.set('x', 1, { lock }));
      await other.lock('x', async (next) => {
        expect(next.fencingToken).to.be.above(lock.fencingToken);
        await other.set('x', 'next', { lock: next });
      });
      proxy.resume();
      expect((await other.get('x'))?.value).to.equal('next');
    });
  });

  it('what was prepared under an earlier lock is settled before the function runs', async () => {
    const store = await stores.open();
    await store.set('x', 1);
    const redis = await stores.redis();
    const { context } = store.keysOf('x');
    await redis.hset(context, 'intent', `gone ${Date.now() + 300} 0 0`);
    await store.lock('x', async () => {
      expect(await redis.hget(context, 'intent')).to.equal(null);
    });
  });

  describe('break', () => {
    it('fences the holder at once, tells it soon, and lets the next one in', async () => {
      const [store, other] = await stores.pair();
      const lock = (await store.tryLock('x', { ttl: 300 })) as Lock;
      await store.set('x', 1, { lock });
      const next = other.lock('x', async (mine) => {
        expect(mine.fencingToken).to.be.above(lock.fencingToken);
        const error = await refusal('FENCED', () => store.set('x', 2, { lock }));
        expect(error.message).to.include('nothing was written');
        await other.set('x', 3, { lock: mine });
      });
      await waiting(other, 'x', 1);
      const [broken, ...more] = await other.breakLock('x');
      expect(more).to.deep.equal([]);
      expect(broken).to.deep.include({ instance: store.instanceId, token: lock.fencingToken, mode: 'write' });
      await next;
      await waitFor(() => lock.signal.aborted, { what: 'the holder to be told' });
      expect((lock.signal.reason as Error).message).to.include('broken');
      expect((await store.get('x', { fresh: true }))?.value).to.equal(3);
      expect(await other.breakLock('x')).to.deep.equal([]);
    });

    it('update, patch, delete and touch are fenced as set is', async () => {
      const [store, other] = await stores.pair();
      await store.set('x', { n: 1 });
      const lock = (await store.tryLock('x')) as Lock;
      await store.update('x', () => ({ n: 2 }), { lock });
      await store.patch('x', [{ op: 'replace', path: '/n', value: 3 }], { lock });
      await store.touch('x', '1h', { lock });
      await other.breakLock('x');
      await refusal('FENCED', () => store.update('x', () => ({ n: 4 }), { lock }));
      await refusal('FENCED', () => store.patch('x', [{ op: 'replace', path: '/n', value: 4 }], { lock }));
      await refusal('FENCED', () => store.delete('x', { lock }));
      await refusal('FENCED', () => store.touch('x', 1, { lock }));
      await refusal('INVALID_ARGUMENT', () => store.touch('y', 1, { lock }));
      expect((await other.get('x', { fresh: true }))?.value).to.deep.equal({ n: 3 });
    });
  });

  describe('lost messages', () => {
    it('a lock whose answer was lost is the same one when it is asked for again', async () => {
      const proxy = await stores.proxy();
      const store = await stores.open({ redis: proxy.url });
      const redis = await stores.redis();
      const sprung = proxy.cutAfterNextUpstreamMatch(bookKey('x'));
      const lock = (await store.tryLock('x')) as Lock;
      await sprung;
      expect(await entries(redis, 'x', 'h')).to.deep.equal([`h:${lock.fencingToken}`]);
      await store.set('x', 1, { lock });
      await lock.release();
    });

    it('a touch whose answer was lost, and the lock after it, does not claim that nothing was done', async () => {
      const proxy = await stores.proxy();
      const store = await stores.open({ redis: proxy.url });
      const other = await stores.open();
      await store.set('x', 1);
      const lock = (await store.tryLock('x', { ttl: '30s' })) as Lock;
      const sprung = proxy.cutAfterNextUpstreamMatch(script('touch').sha);
      const touched = refusal('OUTCOME_UNKNOWN', () => store.touch('x', '1h', { lock }));
      await sprung;
      proxy.pause();
      await other.breakLock('x');
      proxy.resume();
      await touched;
      await store.touch('x', 'none');
      expect((await other.get('x', { fresh: true }))?.expiresAt).to.equal(null);
    });

    it('waiters get their turn without pub/sub', async () => {
      const [store, other] = await stores.pair();
      const redis = await stores.redis();
      const lock = (await store.tryLock('x')) as Lock;
      const next = other.lock('x', () => 'given');
      await waiting(store, 'x', 1);
      // released behind the back of whoever would tell them
      await redis.hdel(bookKey('x'), `h:${lock.fencingToken}`);
      expect(await next).to.equal('given');
      await lock.release();
    });

    it('the result is kept when the release fails', async () => {
      const proxy = await stores.proxy();
      const logger = new RecordingLogger();
      const store = await stores.open({ redis: proxy.url, attemptTimeout: 50, timeout: 150, logger });
      const result = await store.lock('x', () => {
        proxy.pause();
        return 'kept';
      });
      expect(result).to.equal('kept');
      expect(logger.at('warn').map(({ message }) => message)).to.include(
        'a lock could not be released: it ends by its time to live',
      );
      proxy.resume();
    });
  });

  it('the end of a block does not fail with its release: what the block gave is kept, and what it threw', async () => {
    const proxy = await stores.proxy();
    const logger = new RecordingLogger();
    const store = await stores.open({ redis: proxy.url, attemptTimeout: 50, timeout: 150, logger });
    const block = async (id: string, end: () => string): Promise<string> => {
      await using lock = await store.tryLock(id);
      expect(lock).to.not.equal(null);
      proxy.pause();
      return end();
    };
    expect(await block('x', () => 'kept')).to.equal('kept');
    proxy.resume();
    const mine = new Error('mine');
    const thrown = await block('y', () => {
      throw mine;
    }).catch((error: unknown) => error);
    proxy.resume();
    expect(thrown).to.equal(mine);
    const told = logger.at('warn').filter(({ message }) => message.startsWith('a lock could not be released'));
    expect(told.map(({ fields }) => fields.ids)).to.deep.equal([['x'], ['y']]);
  });

  describe('close', () => {
    it('releases what is held and cancels what waits', async () => {
      const [store, other] = await stores.pair();
      const redis = await stores.redis();
      const lock = (await store.tryLock('x')) as Lock;
      const held = (await other.tryLock('y')) as Lock;
      const waits = store.lock('y', () => {});
      await waiting(other, 'y', 1);
      const refused = refusal('CLOSED', () => waits);
      await store.close();
      await refused;
      expect(lock.signal.aborted).to.equal(true);
      expect(await entries(redis, 'x', 'h')).to.deep.equal([]);
      expect(await entries(redis, 'y', 'q')).to.deep.equal([]);
      await held.release();
      await refusal('CLOSED', () => store.lock('x', () => {}));
    });
  });

  describe('store.locks', () => {
    it('looks through the server once, however many shards there are, and takes nothing else for a lock book', async () => {
      const store = await stores.open({ shards: 64 });
      const redis = await stores.redis();
      const lock = (await store.tryLock(['a', 'b'])) as Lock;
      const [entry = ''] = Object.values(await redis.hgetall(store.keysOf('a').context.replace('}:c:', '}:w:'))).slice(-1);
      // one that is of no shard, one in another shard than its id's (3), and the log of a context with a strange id
      const others = ['64}:w:x', '0}:w:a', '0}:l:x}:w:x'];
      for (const key of others) await redis.hset(`{lc:${stores.namespace}:${key}`, 'h:1', entry);
      const scans = async (): Promise<number> =>
        Number(/cmdstat_scan:calls=(\d+)/.exec(await redis.info('commandstats'))?.[1] ?? 0);
      const before = await scans();
      expect((await store.locks()).map(({ id }) => id)).to.deep.equal(['a', 'b']);
      expect((await scans()) - before).to.be.within(1, 63);
      await lock.release();
    });

    it('shows holders and waiters of all shards', async () => {
      const [store, other] = await stores.pair({ shards: 4 });
      const locks = await Promise.all(
        ['a', 'b', 'c', 'd'].map((id) => store.tryLock(id, { mode: id === 'b' ? 'read' : 'write', ttl: 5_000 })),
      );
      const next = other.lock('c', () => {});
      await waiting(store, 'c', 1);
      const shown = await other.locks();
      expect(shown.map(({ id }) => id)).to.deep.equal(['a', 'b', 'c', 'd']);
      for (const [index, { holders }] of shown.entries()) {
        expect(holders[0]).to.deep.include({
          mode: index === 1 ? 'read' : 'write',
          instance: store.instanceId,
          token: locks[index]?.fencingToken,
        });
        expect(holders[0]?.ttlLeftMs).to.be.within(1, 5_000);
      }
      expect(shown[2]?.waiters[0]).to.deep.include({ mode: 'write', instance: other.instanceId });
      await Promise.all(locks.map((lock) => lock?.release()));
      await next;
      expect(await store.locks()).to.deep.equal([]);
    });
  });
});
