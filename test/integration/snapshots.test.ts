/** Snapshots: of one moment, there whole or not at all, restored whole or not at all, damage found wherever it is. */
import { expect } from 'chai';
import fc from 'fast-check';
import type { Redis } from 'ioredis';
import { crc32Hex, sha1Hex } from '../../src/core/checksum.js';
import { writeRecord } from '../../src/core/exportFormat.js';
import { type ContextStore, isContextError } from '../../src/index.js';
import { seededRng } from '../helpers/random.js';
import { randomBytes } from '../helpers/splices.js';
import { forgetCopies, redisTime, refusal, untilRedisTime, useStores } from '../helpers/stores.js';
import { waitFor } from '../helpers/waitFor.js';

const HOUR = 3_600_000;

describe('snapshots', function () {
  this.timeout(60_000);
  const stores = useStores();

  const value = async (store: ContextStore, id: string): Promise<unknown> => (await store.get(id, { fresh: true }))?.value;

  /** The key of a snapshot, by its name; null where there is none. */
  async function keyOf(redis: Redis, name: string): Promise<string> {
    const keys = await redis.keys(`{lc:${stores.namespace}:*}:p:${name}`);
    expect(keys).to.have.length(1);
    return keys[0] ?? '';
  }

  it('bring everything back, over shards, to the byte, and delete what did not exist', async () => {
    const [store, other] = await stores.pair({ shards: 5 });
    const spelled = Buffer.from('{"z":1.0,"a":12345678901234567890}');
    const facts = { version: 1, at: 1, expiresAt: null, crc: crc32Hex(spelled), sha: sha1Hex(spelled) };
    await store.import(
      [
        writeRecord({ kind: 'header', namespace: '', shards: 1, prefix: '', at: 1, run: '' }),
        writeRecord({ kind: 'context', id: 'spelled', data: spelled, ...facts }),
      ],
      { partial: true },
    );
    const large = { rows: Array.from({ length: 20_000 }, (_, n) => ({ n, text: `row ${n} é` })) };
    await store.set('large', large);
    await store.set('short', 1, { ttl: '1h' });
    await store.set(' id \u2028 of blanks ', { a: 1 });
    await store.set('same', 'same');
    const before = await Promise.all(['spelled', 'large'].map((id) => store.rawBytes(id)));
    const expiry = (await store.get('short', { fresh: true }))?.expiresAt ?? 0;
    const ids = ['spelled', 'large', 'short', ' id \u2028 of blanks ', 'same', 'not there', 'nor there'];
    const kept = await store.preserve('first', ids);
    expect(kept).to.deep.include({ name: 'first', contexts: 7, by: store.instanceId, absent: ['not there', 'nor there'] });
    expect(kept.expiresAt).to.be.closeTo(kept.at + 7 * 24 * HOUR, 1_000);
    await store.set('spelled', 'another');
    await store.update<typeof large>('large', (draft) => void draft.rows.splice(10_000, 1));
    await store.set('short', 2);
    await store.delete(' id \u2028 of blanks ');
    await store.set('not there', 'it is now');
    const restored = await other.restoreSnapshot('first');
    expect(restored).to.deep.include({ name: 'first', at: kept.at, deleted: ['not there', 'nor there'], expired: [] });
    expect(restored.restored).to.have.members(ids.slice(0, 5));
    expect(await Promise.all(['spelled', 'large'].map((id) => store.rawBytes(id)))).to.deep.equal(before);
    expect(await value(store, ' id \u2028 of blanks ')).to.deep.equal({ a: 1 });
    expect(await store.has('not there')).to.equal(false);
    const short = await store.get('short', { fresh: true });
    expect(short).to.include({ value: 1, version: 3 });
    expect(short?.expiresAt).to.be.closeTo(expiry, 1_000);
    for (const id of ids.slice(0, 5)) expect((await store.verify(id))?.ok, id).to.equal(true);
  });

  for (const shards of [1, 8]) {
    it(`are of one moment where a context is changed between two reads, in ${shards} shards`, async () => {
      const proxy = await stores.proxy();
      const limits = { contextBytes: '4mb' };
      const slow = { redis: proxy.url, shards, limits, attemptTimeout: '10s', timeout: '30s' };
      const [store, writer] = [await stores.open(slow), await stores.open({ shards, limits })];
      // too large to be read together
      const pad = 'x'.repeat(1_500_000);
      const write = (text: string): Promise<unknown> =>
        writer.transaction((tx) => ['a', 'b'].forEach((id) => void tx.set(id, { is: `${text} ${id}`, pad })));
      await write('old');
      let met: () => void = () => {};
      const between = new Promise<void>((resolve) => {
        met = resolve;
      });
      const end = proxy.drop({
        direction: 'down',
        when: (chunk) => {
          if (!chunk.includes('"old a"')) return false;
          // what is asked after this answer does not get through until it is written
          proxy.pause('up');
          end();
          met();
          return false;
        },
      });
      const preserving = store.preserve('moment', ['a', 'b']);
      await between;
      await write('new');
      proxy.resume('up');
      await preserving;
      await write('last');
      await writer.restoreSnapshot('moment');
      for (const id of ['a', 'b']) expect(await value(writer, id)).to.deep.equal({ is: `new ${id}`, pad });
    });
  }

  it('are of one moment while others write all the time', async () => {
    const [store, writer] = await stores.pair({ shards: 4 });
    const ids = ['a', 'b', 'c', 'd'];
    const write = (n: number): Promise<unknown> => writer.transaction((tx) => ids.forEach((id) => void tx.set(id, n)));
    await write(0);
    let going = true;
    const writing = (async () => {
      for (let n = 1; going; n += 1) await write(n);
      return true;
    })();
    const seen = new Set<unknown>();
    for (let round = 0; round < 15; round += 1) {
      await store.preserve('moment', ids, { replace: true, timeout: '20s' });
      // the writer's next write would be over what is restored
      const probe = await stores.redis();
      const list = (await probe.hget(await keyOf(probe, 'moment'), 'contexts')) ?? '';
      const documents = list
        .split('\n')
        .slice(0, -1)
        .map((line) => line.split(' ')[1]);
      expect(new Set(documents).size, list).to.equal(1);
      seen.add(documents[0]);
    }
    going = false;
    expect(await writing).to.equal(true);
    // or it would have been no test
    expect(seen.size).to.be.greaterThan(1);
  });

  it('are restored all or nothing, and readers see no mix', async () => {
    const [store, reader] = await stores.pair({ shards: 4 });
    const ids = ['a', 'b', 'c', 'd'];
    const write = (text: string): Promise<unknown> => store.transaction((tx) => ids.forEach((id) => void tx.set(id, text)));
    await write('kept');
    await store.preserve('mix', ids);
    let going = true;
    const reading = (async () => {
      const seen = new Set<string>();
      while (going) {
        const found = await reader.transaction(async (tx) => (await tx.getMany(ids)).map((context) => String(context?.value)));
        seen.add([...new Set(found)].join('+'));
      }
      return [...seen].sort();
    })();
    for (let round = 0; round < 20; round += 1) {
      await write('other');
      await store.restoreSnapshot('mix');
    }
    going = false;
    expect(await reading).to.deep.equal(['kept', 'other']);
  });

  it('go by themselves, and are listed and let go of by name', async () => {
    const store = await stores.open({ shards: 3 });
    const redis = await stores.redis();
    await store.set('x', 1);
    expect(await store.snapshots()).to.deep.equal([]);
    const now = await redisTime(redis);
    await store.preserve('short', ['x'], { ttl: 200 });
    await store.preserve('long', ['x'], { ttl: 'none' });
    for (let n = 0; n < 5; n += 1) await store.preserve(`n-${n}`, ['x', 'y']);
    expect((await store.snapshots()).map(({ name }) => name)).to.deep.equal(['long', 'n-0', 'n-1', 'n-2', 'n-3', 'n-4', 'short']);
    expect((await store.snapshots()).find(({ name }) => name === 'long')).to.include({ contexts: 1, bytes: 1, expiresAt: null });
    await untilRedisTime(redis, now + 1_000);
    expect((await store.snapshots()).map(({ name }) => name)).to.not.include('short');
    await refusal('NOT_FOUND', () => store.restoreSnapshot('short'));
    expect(await store.dropSnapshot('n-3')).to.equal(true);
    expect(await store.dropSnapshot('n-3')).to.equal(false);
    expect((await store.snapshots()).map(({ name }) => name)).to.deep.equal(['long', 'n-0', 'n-1', 'n-2', 'n-4']);
    // the next ones take the names with them that have expired
    for (let n = 0; n < 9; n += 1) await store.preserve(`m-${n}`, ['x']);
    const names = await Promise.all(
      (await redis.keys(`{lc:${stores.namespace}:*}:snap`)).map((key) => redis.zrange(key, '0', '-1')),
    );
    expect(names.flat()).to.include('long').and.to.not.include('short');
    expect(await redis.keys(`{lc:${stores.namespace}:*}:s:*`)).to.deep.equal([]);
  });

  it('take those with a prefix, and leave another of the same name alone unless it is to be replaced', async () => {
    const store = await stores.open({ shards: 2 });
    for (let n = 0; n < 20; n += 1) await store.set(`s/${n}`, n);
    await store.set('t', 1);
    expect(await store.preserve('one', { prefix: 's/' })).to.deep.include({ contexts: 20, absent: [] });
    await store.set('s/0', 'later');
    await refusal('CONFLICT', () => store.preserve('one', { prefix: 's/' }));
    await store.restoreSnapshot('one');
    expect(await value(store, 's/0')).to.equal(0);
    await store.set('s/0', 'later');
    await store.preserve('one', ['s/0'], { replace: true });
    await store.set('s/0', 'last');
    expect((await store.restoreSnapshot('one')).restored).to.deep.equal(['s/0']);
    expect(await value(store, 's/0')).to.equal('later');
  });

  it('of a prefix delete with it what was created there since, or leave it where that is asked', async () => {
    const [store, other] = await stores.pair({ shards: 4 });
    const there = async (): Promise<string[]> => (await store.list({ limit: 1_000 })).items.map(({ id }) => id).sort();
    const old = ['s', 's/0', 's/1', 't/1'];
    for (const id of old) await store.set(id, 'old');
    await store.preserve('session', { prefix: 's/' });
    await store.preserve('named', ['s/0', 's/1']);
    await store.set('s/2', 'new');
    await store.set('s/\u2028 3', 'new');
    await store.set('s/0', 'new');
    await store.delete('s/1');
    const since = ['s/2', 's/\u2028 3'];
    const all = ['s', 's/0', ...since, 't/1'].sort();
    const expected = { restored: ['s/0', 's/1'], deleted: [], expired: [], createdSince: since };
    expect(await other.restoreSnapshot('session', { dryRun: true })).to.deep.include(expected);
    expect(await there()).to.deep.equal(all);
    expect(await value(store, 's/0')).to.equal('new');
    // one of named contexts has nothing to do with others
    expect(await other.restoreSnapshot('named')).to.deep.include({ ...expected, createdSince: [] });
    expect(await other.restoreSnapshot('session', { keepNew: true })).to.deep.include(expected);
    expect(await there()).to.deep.equal([...all, 's/1'].sort());
    await store.set('s/0', 'new');
    const committed = async (): Promise<number> => (await other.stats()).transactions.committed;
    const before = await committed();
    expect(await other.restoreSnapshot('session')).to.deep.include(expected);
    expect((await committed()) - before, 'all of it in one transaction').to.equal(1);
    expect(await there()).to.deep.equal(old);
    expect(await value(store, 's/0')).to.equal('old');
    expect(await other.restoreSnapshot('session')).to.deep.include({ ...expected, createdSince: [] });
  });

  for (const shards of [1, 8]) {
    it(`are fenced by a lock that is held, deletions too, in ${shards} shards`, async () => {
      const [store, other] = await stores.pair({ shards });
      const ids = ['s/0', 's/1', 's/2'];
      await store.set('s/0', 'old');
      await store.preserve('session', { prefix: 's/' });
      await store.preserve('named', ['s/0', 's/1']);
      for (const id of ids) await store.set(id, 'new');
      const values = async (): Promise<unknown[]> => Promise.all(ids.map((id) => value(other, id)));
      for (const broken of ids) {
        const lock = await store.tryLock(ids);
        if (lock === null) throw new Error('somebody holds it');
        expect(await other.breakLock(broken)).to.have.length(1);
        await refusal('FENCED', () => store.restoreSnapshot('session', { lock }));
        if (broken !== 's/2') await refusal('FENCED', () => store.restoreSnapshot('named', { lock }));
        expect(await values(), broken).to.deep.equal(['new', 'new', 'new']);
        await lock.release().catch(() => {});
      }
      await store.lock(['s/0', 's/1'], (lock) => refusal('INVALID_ARGUMENT', () => store.restoreSnapshot('session', { lock })));
      await store.lock(ids, async (lock) => {
        await refusal('INVALID_ARGUMENT', () => other.restoreSnapshot('session', { lock }));
        await store.restoreSnapshot('session', { lock });
      });
      expect(await values()).to.deep.equal(['old', undefined, undefined]);
    });
  }

  it('take locks of all that they write and delete, and wait for them, where that is asked', async () => {
    const [store, other] = await stores.pair({ shards: 4 });
    await store.set('s/0', 'old');
    await store.preserve('session', { prefix: 's/' });
    for (const held of ['s/0', 's/1']) {
      await store.set('s/0', 'new');
      await store.set('s/1', 'new');
      const lock = await other.tryLock(held);
      const restoring = store.restoreSnapshot('session', { lock: true });
      await waitFor(async () => (await other.locks({ ids: [held] }))[0]?.waiters.length === 1, { what: 'the restore to wait' });
      await other.set(held, 'last', lock === null ? {} : { lock });
      await lock?.release();
      await restoring;
      expect(await Promise.all(['s/0', 's/1'].map((id) => value(other, id))), held).to.deep.equal(['old', undefined]);
      expect(await other.locks()).to.deep.equal([]);
    }
  });

  it('of a prefix are refused where too much was created there since, and nothing is done', async () => {
    const store = await stores.open({ shards: 3 });
    for (let n = 0; n < 60; n += 1) await store.set(`s/${n}`, 'old');
    await store.preserve('session', { prefix: 's/' });
    for (let n = 60; n < 100; n += 1) await store.set(`s/${n}`, 'new');
    await store.set('s/0', 'new');
    await store.set('s/100', 'new');
    const error = await refusal('LIMIT_EXCEEDED', () => store.restoreSnapshot('session'));
    expect(error.message).to.include('60 contexts, and 41 were created under "s/" since').and.include('--keep-new');
    expect(error.details).to.include({ expected: 100, found: 101 });
    await refusal('LIMIT_EXCEEDED', () => store.restoreSnapshot('session', { dryRun: true }));
    expect(await value(store, 's/0')).to.equal('new');
    expect((await store.restoreSnapshot('session', { keepNew: true })).createdSince).to.have.length(41);
    expect(await value(store, 's/0')).to.equal('old');
    await store.delete('s/100');
    expect((await store.restoreSnapshot('session')).createdSince).to.have.length(40);
    expect((await store.list({ limit: 1_000 })).items).to.have.length(60);
  });

  it('of a prefix have what was created between the first look and their moment', async () => {
    const proxy = await stores.proxy();
    const [store, writer] = [
      await stores.open({ redis: proxy.url, shards: 4, timeout: '30s' }),
      await stores.open({ shards: 4 }),
    ];
    await writer.set('s/0', 'the first of them');
    let met: () => void = () => {};
    const between = new Promise<void>((resolve) => {
      met = resolve;
    });
    const end = proxy.drop({
      direction: 'down',
      when: (chunk) => {
        if (!chunk.includes('the first of them')) return false;
        proxy.pause('up');
        end();
        met();
        return false;
      },
    });
    const preserving = store.preserve('session', { prefix: 's/' });
    await between;
    await writer.set('s/1', 'created meanwhile');
    proxy.resume('up');
    expect(await preserving).to.include({ contexts: 2 });
    await writer.set('s/1', 'later');
    expect(await writer.restoreSnapshot('session')).to.deep.include({ restored: ['s/0', 's/1'], createdSince: [] });
    expect(await value(writer, 's/1')).to.equal('created meanwhile');
  });

  it('put back expiries as points in time, or one for all where that is asked', async () => {
    const store = await stores.open();
    const redis = await stores.redis();
    await store.set('short', 1, { ttl: 300 });
    await store.set('for ever', 1);
    await store.preserve('times', ['short', 'for ever']);
    const now = await redisTime(redis);
    await untilRedisTime(redis, now + 400);
    expect(await store.restoreSnapshot('times')).to.deep.include({ restored: ['for ever'], expired: ['short'] });
    expect(await store.has('short')).to.equal(false);
    expect(await store.restoreSnapshot('times', { ttl: '1h' })).to.deep.include({ restored: ['short', 'for ever'], expired: [] });
    for (const id of ['short', 'for ever'])
      expect((await store.get(id, { fresh: true }))?.expiresAt).to.be.closeTo((await redisTime(redis)) + HOUR, 2_000);
  });

  it('are refused where anything of them is damaged, and nothing is restored', async () => {
    const store = await stores.open();
    const redis = await stores.redis();
    const rng = seededRng(7);
    await store.set('small', { n: 1 });
    await store.set('large', randomBytes(rng, 400_000).toString('base64'));
    await store.preserve('kept', ['small', 'large', 'not there']);
    const key = await keyOf(redis, 'kept');
    const fields = await redis.hgetallBuffer(key);
    expect(Object.keys(fields).filter((field) => field.endsWith(':large'))).to.have.length.greaterThan(1);
    await store.set('small', 'now');
    const refused = async (what: string): Promise<void> => {
      const error = await store.restoreSnapshot('kept').then(
        () => null,
        (given: unknown) => given,
      );
      expect(isContextError(error) && error.code, what).to.equal('CORRUPT');
      expect(await value(store, 'small'), what).to.equal('now');
    };
    // `op` names who wrote it, and is no part of what is restored
    const names = Object.keys(fields).filter((field) => field !== 'op');
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...names), fc.nat(), async (field, place) => {
        const bytes = Buffer.from(fields[field] as Buffer);
        const bit = place % (bytes.length * 8);
        bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        await redis.hset(key, field, bytes);
        await refused(`bit ${bit} of ${field}`);
        await redis.hset(key, field, fields[field] as Buffer);
      }),
      { numRuns: 100 },
    );
    for (const field of Object.keys(fields)) {
      await redis.hdel(key, field);
      await refused(`without ${field}`);
      await redis.hset(key, field, fields[field] as Buffer);
    }
    await store.restoreSnapshot('kept');
    expect(await value(store, 'small')).to.deep.equal({ n: 1 });
  });

  it('are not there at all until they are there whole', async () => {
    const [store, proxied] = [await stores.open(), await stores.proxy()];
    const redis = await stores.redis();
    const rng = seededRng(8);
    for (let n = 0; n < 8; n += 1) await store.set(`c${n}`, randomBytes(rng, 500_000).toString('base64'));
    const writer = await stores.open({ redis: proxied.url, timeout: '2s', attemptTimeout: '300ms' });
    const ids = Array.from({ length: 8 }, (_, n) => `c${n}`);
    const writing = writer.preserve('cut', ids).then(
      () => null,
      (error: unknown) => error,
    );
    const pieces = async (): Promise<string[]> => redis.keys(`{lc:${stores.namespace}:*}:s:*`);
    for (let found = await pieces(); found.length === 0; found = await pieces());
    await proxied.close();
    expect(isContextError(await writing)).to.equal(true);
    expect(await store.snapshots()).to.deep.equal([]);
    await refusal('NOT_FOUND', () => store.restoreSnapshot('cut'));
    // what was written goes by itself
    for (const key of await pieces()) expect(await redis.pttl(key)).to.be.within(1, 60_000);
  });

  it('refuse what is too much, damaged, or makes no sense', async () => {
    const store = await stores.open({ limits: { contextBytes: '8mb' } });
    const redis = await stores.redis();
    const many = await refusal('LIMIT_EXCEEDED', () =>
      store.preserve(
        'x',
        Array.from({ length: 101 }, (_, n) => `${n}`),
      ),
    );
    expect(many.details).to.include({ limit: 'snapshot.contexts', expected: 100, found: 101 });
    await refusal('NOT_FOUND', () => store.preserve('x', []));
    await refusal('NOT_FOUND', () => store.preserve('x', { prefix: 'nobody' }));
    await refusal('INVALID_ID', () => store.preserve('', ['a']));
    await refusal('INVALID_ARGUMENT', () => store.preserve('x', ['a'], { ttl: 0 }));
    await refusal('INVALID_OPTION', () => store.preserve('x', ['a'], { timeToLive: 1 } as object));
    await refusal('NOT_FOUND', () => store.restoreSnapshot('x'));
    const text = 'x'.repeat(7 * 1024 * 1024);
    for (let n = 0; n < 5; n += 1) await store.set(`large-${n}`, text);
    const large = await refusal('LIMIT_EXCEEDED', () => store.preserve('x', { prefix: 'large-' }));
    expect(large.details).to.include({ limit: 'snapshot.bytes', expected: 32 * 1024 * 1024 });
    await store.set('damaged', { text: 'it was so' });
    await redis.hset(store.keysOf('damaged').context, 'data', '{"text":"it was no"}');
    await forgetCopies(redis, store, 'damaged');
    await refusal('CORRUPT', () => store.preserve('x', ['large-0', 'damaged']));
    expect(await store.snapshots()).to.deep.equal([]);
  });
});
