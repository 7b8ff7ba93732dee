import { expect } from 'chai';
import { crc32Hex } from '../../src/core/checksum.js';
import { GRACE_MS, LuaNamespace, TOMBSTONE_MS } from '../helpers/lua.js';
import { cut, sent } from '../helpers/plans.js';
import { checkpoint, seal } from '../helpers/seals.js';
import { headerOf } from './commitFrame.js';

const COUNTS = ['indexed', 'dropped', 'expiries', 'sizes', 'tombstones', 'leftovers', 'intents', 'expired'] as const;
type Count = (typeof COUNTS)[number];

describe('lua/reconcile.lua', () => {
  let lua: LuaNamespace;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
  });
  afterEach(() => lua.close());

  interface Reconciled {
    readonly fixed: Partial<Record<Count, number>>;
    readonly lost: readonly unknown[];
    readonly damaged: readonly unknown[];
  }

  /** `fixed` has what is not 0. */
  async function reconcile(...ids: string[]): Promise<Reconciled> {
    const { exp, use, size, mem, tag } = lua.shard;
    const settings = `${TOMBSTONE_MS} ${GRACE_MS} PUBLISH keeper 2 1`;
    const reply = await lua.run('reconcile', [exp, use, size, mem], [tag, settings, ...ids]);
    expect(reply[0]).to.equal('RECONCILED');
    const counts = COUNTS.map((name, index) => [name, Number(reply[index + 1])] as const);
    const rest = reply.slice(COUNTS.length + 1);
    const lost = rest.splice(0, 1 + Number(rest[0])).slice(1);
    return { fixed: Object.fromEntries(counts.filter(([, count]) => count > 0)), lost, damaged: rest.slice(1) };
  }
  const nothing = { fixed: {}, lost: [], damaged: [] };
  /** Accounts, indexes and what Redis itself measures, of one shard, must say the same. */
  async function exact(): Promise<void> {
    const [size, use] = await Promise.all([lua.scores(lua.shard.size), lua.ids(lua.shard.use)]);
    expect(Object.keys(size).sort()).to.deep.equal([...use].sort());
    let sum = 0;
    for (const [id, bytes] of Object.entries(size)) {
      const keys = [lua.of(id).context, lua.of(id).log, ...lua.keys.checkpointsOf(id)];
      expect(bytes, id).to.equal(await lua.memory(...keys));
      sum += bytes;
    }
    const { bytes = 0, contexts = 0 } = await lua.accounts();
    expect({ bytes, contexts }).to.deep.equal({ bytes: sum, contexts: use.length });
  }
  async function sealed(id: string, ttl: number | 'none' = 'none'): Promise<void> {
    await lua.commit(id, `"document of ${id}"`, { ttl });
    await seal(lua, id);
    await reconcile(id);
  }

  it('changes nothing where everything agrees', async () => {
    await sealed('a');
    await sealed('b', 60_000);
    const planned = sent(cut('x'.repeat(2000), 100));
    await lua.commit('c', planned.document, planned.options);
    await seal(lua, 'c');
    await reconcile('c');
    await lua.commit('gone', '1');
    await lua.delete('gone');
    await exact();
    const before = await lua.snapshot();
    await lua.published();
    expect(await reconcile('a', 'b', 'c', 'gone', 'never')).to.deep.equal(nothing);
    expect(await reconcile()).to.deep.equal(nothing);
    expect(await lua.snapshot()).to.deep.equal(before);
    expect(await lua.published()).to.deep.equal([]);
  });

  it('indexed: a context that no index has is put back into all', async () => {
    await sealed('a', 60_000);
    const before = await lua.snapshot();
    const { use, size, exp, mem } = lua.shard;
    const bytes = Number(await lua.redis.zscore(size, 'a'));
    const used = await lua.redis.zscore(use, 'a');
    for (const index of [use, size, exp]) await lua.redis.zrem(index, 'a');
    await lua.redis.hincrby(mem, 'bytes', -bytes);
    await lua.redis.hincrby(mem, 'contexts', -1);
    expect(await reconcile('a')).to.deep.equal({ ...nothing, fixed: { indexed: 1, expiries: 1, sizes: 1 } });
    await exact();
    await lua.redis.zadd(use, used ?? 0, 'a');
    expect(await lua.snapshot()).to.deep.equal(before);
  });

  it('dropped: an entry without a context goes from all indexes, with its bytes', async () => {
    await sealed('a');
    const { use, size, exp, mem } = lua.shard;
    const later = (await lua.now()) + 60_000;
    for (const [index, score] of [[use, 1], [size, 500], [exp, later]] as const) await lua.redis.zadd(index, score, 'ghost'); // biome-ignore format: one table
    await lua.redis.hincrby(mem, 'bytes', 500);
    await lua.redis.hincrby(mem, 'contexts', 1);
    expect(await reconcile('ghost')).to.deep.equal({ ...nothing, fixed: { dropped: 1 } });
    await exact();
    expect(await lua.redis.zscore(exp, 'ghost')).to.equal(null);
  });

  it('dropped and lost: a context that vanished with its log left keeps that for a while, to be put together from', async () => {
    await sealed('a');
    const copy = await checkpoint(lua, 'a', 'k', '1');
    await lua.redis.del(lua.of('a').context);
    const before = await lua.now();
    expect(await reconcile('a')).to.deep.equal({ ...nothing, fixed: { dropped: 1, tombstones: 1 }, lost: ['a'] });
    for (const key of [lua.of('a').log, copy])
      expect(await lua.nativeExpiry(key)).to.be.within(before + TOMBSTONE_MS, (await lua.now()) + TOMBSTONE_MS);
    await exact();
    expect(await reconcile('a')).to.deep.equal(nothing);
  });

  it('expired: one that Redis removed by itself is told with its last version, and leaves a tombstone', async () => {
    await sealed('a', 60_000);
    await lua.commit('a', '"second"', { ttl: 60_000 });
    await lua.makeExpired('a');
    await lua.redis.del(lua.of('a').context);
    await lua.published();
    expect(await reconcile('a')).to.deep.equal({ ...nothing, fixed: { expired: 1 } });
    const last = (await lua.log('a')).at(-1);
    expect(last).to.deep.include({ entry: '2-1', kind: 'expired', by: 'keeper' });
    expect(await lua.published()).to.deep.equal([
      {
        channel: lua.of('a').channel,
        text: headerOf(`lc2 expired - 0 2 - 0 2 ${crc32Hex('"second"')} ${last?.at} - - keeper `),
      },
    ]);
    await exact();
    expect(await lua.ids(lua.shard.exp)).to.deep.equal([]);
  });

  describe('expiries', () => {
    it('the index follows the sealed field', async () => {
      await sealed('a', 60_000);
      await sealed('b');
      const exp = Number((await lua.fields('a')).exp);
      await lua.redis.zadd(lua.shard.exp, exp - 30_000, 'a');
      await lua.redis.zadd(lua.shard.exp, exp, 'b');
      expect(await reconcile('a', 'b')).to.deep.equal({ ...nothing, fixed: { expiries: 2 } });
      expect(await lua.scores(lua.shard.exp)).to.deep.equal({ a: exp });
    });

    it('so does what Redis would remove by itself', async () => {
      await sealed('a', 60_000);
      await sealed('b');
      const [a, b] = [lua.of('a').context, lua.of('b').context];
      const exp = Number((await lua.fields('a')).exp);
      await lua.redis.persist(a);
      await lua.redis.pexpire(b, 50_000);
      await lua.redis.pexpire(lua.of('b').log, 50_000);
      expect(await reconcile('a', 'b')).to.deep.equal({ ...nothing, fixed: { expiries: 3 } });
      expect(await lua.nativeExpiry(a)).to.equal(exp + GRACE_MS);
      expect(await lua.nativeExpiry(b)).to.equal(-1);
      expect(await lua.nativeExpiry(lua.of('b').log)).to.equal(-1);
    });

    it('a field under a wrong seal moves nothing, and is reported', async () => {
      await sealed('a', 60_000);
      const before = await lua.scores(lua.shard.exp);
      await lua.redis.hset(lua.of('a').context, 'exp', (await lua.now()) + 5_000);
      expect(await reconcile('a')).to.deep.equal({ ...nothing, damaged: ['a'] });
      expect(await lua.scores(lua.shard.exp)).to.deep.equal(before);
      expect(await lua.redis.exists(lua.of('a').context)).to.equal(1);
    });

    it('one that has expired and was not swept yet is the sweep’s', async () => {
      await sealed('a', 60_000);
      await lua.makeExpired('a');
      await seal(lua, 'a');
      await lua.redis.zrem(lua.shard.exp, 'a');
      expect(await reconcile('a')).to.deep.equal({ ...nothing, fixed: { expiries: 1 } });
      expect((await lua.expire()).slice(-2)).to.deep.equal(['a', 1]);
    });
  });

  it('sizes: an account that is not what MEMORY USAGE says is set right, to the byte', async () => {
    await sealed('a');
    await sealed('b');
    await lua.redis.zincrby(lua.shard.size, 1, 'a');
    await lua.redis.hincrby(lua.shard.mem, 'bytes', 1);
    // bytes that nobody accounted
    await checkpoint(lua, 'b', 'k', 'x'.repeat(500));
    await lua.redis.hset(`${lua.shard.tag}:q:b`, 'why', 'sha1');
    expect(await reconcile('a', 'b')).to.deep.equal({ ...nothing, fixed: { sizes: 2 } });
    await exact();
  });

  it('tombstones: a log of a deleted context that would stay for ever gets its time', async () => {
    await sealed('a');
    await lua.delete('a');
    await lua.redis.persist(lua.of('a').log);
    expect(await reconcile('a')).to.deep.equal({ ...nothing, fixed: { tombstones: 1 } });
    expect(await lua.nativeExpiry(lua.of('a').log)).to.be.greaterThan(await lua.now());
  });

  it('leftovers: copies without a context, and what a script kept aside, are removed; what is quarantined stays', async () => {
    await sealed('a');
    await lua.redis.hset(lua.of('a').old, 'data', 'x');
    await lua.redis.hset(`${lua.shard.tag}:q:b`, 'why', 'sha1');
    for (const name of ['k', 'j'] as const) await checkpoint(lua, 'b', name, '1');
    expect(await reconcile('a', 'b')).to.deep.equal({ ...nothing, fixed: { leftovers: 3 } });
    expect(await lua.redis.exists(lua.of('a').old, `${lua.shard.tag}:k:b`, `${lua.shard.tag}:j:b`)).to.equal(0);
    expect(await lua.redis.exists(`${lua.shard.tag}:q:b`)).to.equal(1);
    await exact();
  });

  it('intents: one that is overdue and has no record, or is malformed, is taken away; others are not', async () => {
    for (const id of ['a', 'b', 'c', 'd']) await sealed(id);
    const now = await lua.now();
    const intents = { a: `txn1 ${now - 1} 0 0`, b: `txn2 ${now + 60_000} 0 0`, c: `txn3 ${now - 1} 2 0`, d: 'txn4' };
    for (const [id, intent] of Object.entries(intents)) await lua.redis.hset(lua.of(id).context, 'intent', intent);
    await lua.redis.hset(`${lua.shard.tag}:t:txn3.2`, 'txn', 'txn3');
    const { fixed } = await reconcile('a', 'b', 'c', 'd');
    expect(fixed.intents).to.equal(2);
    for (const id of ['a', 'd']) expect((await lua.fields(id)).intent).to.equal(undefined);
    expect((await lua.fields('b')).intent).to.equal(intents.b);
    expect((await lua.fields('c')).intent).to.equal(intents.c);
    await exact();
  });

  it('leaves what a transaction is about to create alone', async () => {
    await lua.redis.hset(lua.of('a').context, 'intent', `txn1 ${(await lua.now()) + 60_000} 0 0`);
    expect(await reconcile('a')).to.deep.equal(nothing);
    expect(await lua.redis.zscore(lua.shard.size, 'a')).to.equal(null);
  });

  it('leaves a quarantined stub as it is, and accounts it', async () => {
    await sealed('a');
    await lua.redis.hdel(lua.of('a').context, 'data', 'crc', 'sha', 'len', 'seal');
    await lua.redis.hset(lua.of('a').context, 'q', 'sha1');
    await lua.redis.hset(`${lua.shard.tag}:q:a`, 'why', 'sha1', 'data', 'x');
    expect(await reconcile('a')).to.deep.equal({ ...nothing, fixed: { sizes: 1 } });
    await exact();
  });
});

describe('lua/totals.lua', () => {
  let lua: LuaNamespace;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
  });
  afterEach(() => lua.close());

  const LIMIT = 10;
  async function totals(
    options: { before?: string; outside?: string; copies?: string[] | null; quarantined?: string[] } = {},
  ): Promise<unknown[]> {
    const { size, mem } = lua.shard;
    const stored = await lua.redis.hmget(mem, 'bytes', 'contexts', 'checkpoints', 'quarantined', 'quarantine');
    const { before = stored.map((word) => word ?? '-').join(' '), outside = '-', copies = [], quarantined = [] } = options;
    const keys = copies === null ? [] : [...copies, ...quarantined];
    return lua.run('totals', [size, mem, ...keys], [before, outside, LIMIT, copies?.length ?? -1]);
  }

  it('TOTALS 0 0 where they are right, and nothing is written', async () => {
    for (const id of ['a', 'b']) await lua.commit(id, `"${id}"`);
    expect(await lua.refused(async () => (await totals()) as (string | number)[])).to.deep.equal(['TOTALS', 0, 0]);
  });

  it('sums a small shard itself, whatever the totals were before', async () => {
    for (const id of ['a', 'b']) await lua.commit(id, `"${id}"`);
    const right = await lua.accounts();
    await lua.redis.hset(lua.shard.mem, 'bytes', 7, 'contexts', 1);
    expect(await totals({ before: '1 2 - - -' })).to.deep.equal(['TOTALS', 2, 0]);
    expect(await lua.accounts()).to.deep.equal(right);
  });

  it('takes the sum from outside for a large one, only if nothing has changed since', async () => {
    for (let n = 0; n <= LIMIT; n += 1) await lua.commit(`c${n}`, '1');
    const right = await lua.accounts();
    const outside = `${right.bytes} ${right.contexts}`;
    await lua.redis.hincrby(lua.shard.mem, 'bytes', 9);
    expect(await totals({ before: '1 2 - - -', outside })).to.deep.equal(['TOTALS', 0, 2]);
    expect(await totals()).to.deep.equal(['TOTALS', 0, 2]);
    expect((await lua.accounts()).bytes).to.equal((right.bytes ?? 0) + 9);
    expect(await totals({ outside })).to.deep.equal(['TOTALS', 1, 0]);
    expect(await lua.accounts()).to.deep.equal(right);
  });

  it('sums checkpoints and counts what is quarantined, only if none was made meanwhile', async () => {
    await lua.commit('a', '1');
    const copies = [await checkpoint(lua, 'a', 'k', '1'), await checkpoint(lua, 'a', 'j', '2')];
    const quarantined = [`${lua.shard.tag}:q:a`, `${lua.shard.tag}:q:gone-meanwhile`];
    await lua.redis.hset(quarantined[0] ?? '', 'why', 'sha1');
    const bytes = await lua.memory(...copies);
    expect(await totals({ before: '1 1 5 5 5', copies, quarantined })).to.deep.equal(['TOTALS', 0, 2]);
    expect(await totals({ copies: null })).to.deep.equal(['TOTALS', 0, 3]);
    expect(await totals({ copies, quarantined })).to.deep.equal(['TOTALS', 3, 0]);
    expect(await lua.accounts()).to.deep.include({ checkpoints: bytes, quarantined: 1 });
    expect(await totals({ copies, quarantined })).to.deep.equal(['TOTALS', 0, 0]);
  });
});
