import { expect } from 'chai';
import { crc32Hex } from '../../src/core/checksum.js';
import { repair } from '../helpers/integrity.js';
import { LuaNamespace, TOMBSTONE_MS } from '../helpers/lua.js';
import { headerOf } from './commitFrame.js';

describe('lua/expire.lua', () => {
  let lua: LuaNamespace;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
  });
  afterEach(() => lua.close());

  const expiring = async (...ids: string[]): Promise<void> => {
    for (const id of ids) await lua.commit(id, `"${id}"`, { ttl: 60_000 });
  };
  const allIds = async (): Promise<string[][]> =>
    Promise.all([lua.shard.exp, lua.shard.use, lua.shard.size].map(async (key) => (await lua.ids(key)).sort()));

  it('takes out what has expired, with a tombstone and a frame each, and leaves the rest', async () => {
    await lua.commit('a', '"first"');
    await expiring('a', 'b', 'later');
    await lua.commit('never', '1');
    const [, , , , , later] = await lua.commit('later', '2');
    await lua.makeExpired('a', 9);
    await lua.makeExpired('b', 5);
    await lua.published();

    const before = await lua.now();
    const reply = await lua.expire();
    const after = await lua.now();
    expect(reply).to.deep.equal(['EXPIRED', 0, later, 0, 'a', 2, 'b', 1]);

    for (const [id, version, entries] of [
      ['a', 2, ['1-0 full', '2-0 full', '2-1 expired']],
      ['b', 1, ['1-0 full', '1-1 expired']],
    ] as const) {
      expect(await lua.redis.exists(lua.of(id).context)).to.equal(0);
      const log = await lua.log(id);
      expect(log.map(({ entry, kind }) => `${entry} ${kind}`)).to.deep.equal(entries);
      const tombstone = log.at(-1);
      expect(tombstone).to.deep.include({ base: '-', crc: '-', sha: '-', len: '0', frame: '', op: '-', by: 'sweeper', exp: '-' });
      expect(Number(tombstone?.at)).to.be.within(before, after);
      expect(await lua.nativeExpiry(lua.of(id).log)).to.be.within(before + TOMBSTONE_MS, after + TOMBSTONE_MS);
      expect(version).to.equal(Number(entries.length - 1));
    }
    expect(await allIds()).to.deep.equal([['later'], ['later', 'never'], ['later', 'never']]);
    const sizes = await lua.redis.zmscore(lua.shard.size, 'later', 'never');
    expect(await lua.accounts()).to.deep.include({ bytes: Number(sizes[0]) + Number(sizes[1]), contexts: 2 });
    const at = (await lua.log('a')).at(-1)?.at;
    expect(await lua.published()).to.deep.equal([
      { channel: lua.of('a').channel, text: headerOf(`lc2 expired - 0 2 - 0 2 ${crc32Hex('"a"')} ${at} - - sweeper `) },
      { channel: lua.of('b').channel, text: headerOf(`lc2 expired - 0 1 - 0 1 ${crc32Hex('"b"')} ${at} - - sweeper `) },
    ]);
  });

  it('takes one out from the very millisecond of its expiry', async () => {
    const reply = await lua.commit('a', '1', { ttl: 2 });
    await lua.passed(Number(reply[5]) - 1);
    expect(await lua.expire()).to.deep.equal(['EXPIRED', 0, 0, 0, 'a', 1]);
  });

  it('takes out so many at once, the earliest first, and says that there are more', async () => {
    const ids = ['e', 'd', 'c', 'b', 'a'];
    await expiring(...ids);
    for (const [index, id] of ids.entries()) await lua.makeExpired(id, 500 - index);
    const found: unknown[] = [];
    const mores: unknown[] = [];
    for (let round = 0; round < 3; round += 1) {
      const [, more, , damaged, ...expired] = await lua.expire(2);
      mores.push(more);
      expect(damaged).to.equal(0);
      found.push(...expired.filter((_, index) => index % 2 === 0));
    }
    expect(found).to.deep.equal(ids);
    expect(mores).to.deep.equal([1, 1, 0]);
    expect(await lua.accounts()).to.deep.include({ bytes: 0, contexts: 0 });
    expect(await lua.refused(() => lua.expire(2))).to.deep.equal(['EXPIRED', 0, 0, 0]);
  });

  it('says how late each is, by the index where nothing else is left of it', async () => {
    await expiring('a', 'b');
    const [a, b] = [await lua.makeExpired('a', 700), await lua.makeExpired('b', 300)];
    await lua.redis.del(lua.of('b').context);
    const at = await lua.now();
    const reply = await lua.when(at, () => lua.expireFrom(0));
    expect(reply).to.deep.equal(['EXPIRED', 0, 0, 0, 0, 'a', 1, at - a, 'b', 1, at - b]);
  });

  it('stops after 2 ms by the clock of Redis, with one at least, and says that there is more', async () => {
    const ids = Array.from({ length: 12 }, (_, n) => `c${n}`);
    await expiring(...ids);
    for (const [index, id] of ids.entries()) await lua.makeExpired(id, 500 - index);
    // each look at the clock finds it so much later
    const slow = (us: number): string => `local running, calls = redis, -1
local started = running.call('TIME')
local redis = setmetatable({
  call = function(...)
    if (...) ~= 'TIME' then return running.call(...) end
    calls = calls + 1
    local us = started[1] * 1000000 + started[2] + calls * ${us}
    return { string.format('%d', math.floor(us / 1000000)), string.format('%d', us % 1000000) }
  end,
}, { __index = running })`;
    const count = (reply: readonly unknown[]): unknown[] => [reply[1], (reply.length - 5) / 3];
    expect(count(await lua.expireFrom(0, 100, 0, slow(1_000)))).to.deep.equal([1, 2]);
    expect(count(await lua.expireFrom(0, 100, 0, slow(60_000)))).to.deep.equal([1, 1]);
    expect(count(await lua.expireFrom(0, 100, 0, slow(1)))).to.deep.equal([0, 9]);
  });

  it('has Redis let go of what is large behind the script', async () => {
    const { context } = lua.of('a');
    const copies = lua.keys.checkpointsOf('a');
    await expiring('a');
    for (const key of copies) await lua.redis.hset(key, 'z', 'x'.repeat(100_000));
    await lua.makeExpired('a');
    // Redis itself frees a hash of 64 fields or fewer at once, also by UNLINK
    const watching = `local running = redis
local redis = setmetatable({
  call = function(...)
    local words = { ... }
    if words[1] == 'DEL' then error('DEL ' .. words[2]) end
    for i = 2, words[1] == 'UNLINK' and #words or 0 do
      if running.call('MEMORY', 'USAGE', words[i]) > 65536 and running.call('HLEN', words[i]) <= 64 then error('at once: ' .. words[i]) end
    end
    return running.call(...)
  end,
}, { __index = running })`;
    expect((await lua.expireFrom(0, 100, 0, watching)).slice(4)).to.deep.include('a');
    expect(await lua.redis.exists(context, ...copies)).to.equal(0);
  });

  it('does nothing where nothing has expired, and says what will be next', async () => {
    expect(await lua.refused(() => lua.expire())).to.deep.equal(['EXPIRED', 0, 0, 0]);
    await lua.commit('never', '1');
    await lua.commit('b', '1', { ttl: 90_000 });
    const [, , , , , next] = await lua.commit('a', '1', { ttl: 60_000 });
    expect(await lua.refused(() => lua.expire())).to.deep.equal(['EXPIRED', 0, next, 0]);
  });

  describe('an index that is behind the context', () => {
    for (const [name, ttl] of [
      ['that expires later', 60_000],
      ['that does not expire', 'none'],
    ] as const) {
      it(`is mended for one ${name}`, async () => {
        const [, , , , , exp] = await lua.commit('a', '1', { ttl });
        const before = { ...(await lua.snapshot()) };
        await lua.redis.zadd(lua.shard.exp, (await lua.now()) - 5, 'a');
        await lua.published();
        expect(await lua.expire()).to.deep.equal(['EXPIRED', 0, exp, 0]);
        expect(await lua.snapshot()).to.deep.equal(before);
        expect(await lua.published()).to.deep.equal([]);
      });
    }

    it('does not hold up what comes after it in the batch', async () => {
      await expiring('a', 'b', 'c');
      const now = await lua.now();
      for (const id of ['a', 'b']) await lua.redis.zadd(lua.shard.exp, now - 9, id);
      await lua.makeExpired('c', 5);
      const [, more] = await lua.expire(2);
      expect(more).to.equal(1);
      expect((await lua.expire(2)).slice(3)).to.deep.equal([0, 'c', 1]);
    });
  });

  describe('a context that Redis removed natively', () => {
    it('is taken out of indexes and accounts, with a tombstone after its last version', async () => {
      await lua.commit('a', '"first"');
      await expiring('a', 'b');
      await lua.makeExpired('a');
      await lua.redis.del(lua.of('a').context);
      const kept = Number(await lua.redis.zscore(lua.shard.size, 'b'));
      await lua.published();

      expect((await lua.expire()).slice(3)).to.deep.equal([0, 'a', 2]);
      expect((await lua.log('a')).map(({ entry }) => entry)).to.deep.equal(['1-0', '2-0', '2-1']);
      expect(await allIds()).to.deep.equal([['b'], ['b'], ['b']]);
      expect(await lua.accounts()).to.deep.include({ bytes: kept, contexts: 1 });
      const at = (await lua.log('a')).at(-1)?.at;
      const frame = headerOf(`lc2 expired - 0 2 - 0 2 - ${at} - - sweeper `);
      expect((await lua.published()).map(({ text }) => text)).to.deep.equal([frame]);
    });

    it('with its log as well', async () => {
      await expiring('a');
      await lua.makeExpired('a');
      await lua.redis.del(lua.of('a').context, lua.of('a').log);
      expect((await lua.expire()).slice(3)).to.deep.equal([0, 'a', 0]);
      expect(await allIds()).to.deep.equal([[], [], []]);
      expect(await lua.accounts()).to.deep.include({ bytes: 0, contexts: 0 });
      expect((await lua.commit('a', '1'))[1]).to.equal(1);
    });

    it('really by its own clock', async () => {
      const [, , , , , exp] = await lua.commit('a', '1', { ttl: 1, grace: 1 });
      await lua.passed(Number(exp) + 1);
      expect(await lua.redis.exists(lua.of('a').context)).to.equal(0);
      expect(await lua.expire()).to.deep.equal(['EXPIRED', 0, 0, 0, 'a', 1]);
      expect(await lua.accounts()).to.deep.include({ bytes: 0, contexts: 0 });
    });
  });

  describe('a damaged context', () => {
    const AGAIN_MS = 60_000;
    /** Sweeps, and checks that `a` is as it was with its place in the index, told of, and looked at again in a minute. */
    async function stays(sealed: 0 | 1 = 1, others: readonly (string | number)[] = []): Promise<void> {
      const { context, log, use, size } = lua.of('a');
      const look = async (): Promise<unknown[]> => {
        const found = await lua.snapshot();
        const indexes = await Promise.all([use, size, lua.shard.exp].map((key) => lua.redis.zscore(key, 'a')));
        return [found[context], found[log], ...indexes];
      };
      await lua.published();
      await lua.redis.del(lua.shard.skip);
      const before = await look();
      const from = await lua.now();
      const [status, more, next, ...rest] = await lua.expire(100, sealed);
      expect([status, more, ...rest]).to.deep.equal(['EXPIRED', 0, 1, 'a', ...others]);
      expect(await look()).to.deep.equal(before);
      const again = Number(await lua.redis.zscore(lua.shard.skip, 'a'));
      expect(again).to.be.within(from + AGAIN_MS, (await lua.now()) + AGAIN_MS);
      expect(next, 'what is next but for it').to.equal(0);
      expect((await lua.published()).filter(({ channel }) => channel === lua.of('a').channel)).to.deep.equal([]);
      // and not before
      expect(await lua.refused(() => lua.expire(100, sealed))).to.deep.equal(['EXPIRED', 0, 0, 0]);
      expect(await lua.refused(() => lua.when(again - 1, () => lua.expire(100, sealed)))).to.deep.equal(['EXPIRED', 0, 0, 0]);
      expect(await lua.when(again, () => lua.expire(100, sealed))).to.deep.equal(['EXPIRED', 0, 0, 1, 'a']);
      expect(Number(await lua.redis.zscore(lua.shard.skip, 'a'))).to.equal(again + AGAIN_MS);
    }

    for (const field of ['v', 'crc', 'sha', 'len', 'at', 'exp', 'seal']) {
      it(`is never taken out, is told of, and is looked at again in a minute: another ${field}`, async () => {
        await expiring('a');
        const exp = await lua.makeExpired('a');
        await lua.redis.hset(lua.of('a').context, field, field === 'exp' ? exp - 1 : '7');
        await stays();
        // whether or not all others have a seal
        await lua.redis.zadd(lua.shard.exp, exp, 'a');
        await stays(0);
        if (field === 'seal') return;
        await lua.redis.hdel(lua.of('a').context, field);
        await lua.redis.zadd(lua.shard.exp, exp, 'a');
        await stays();
      });
    }

    it('without a seal, where all should have one; it is taken out where they need not', async () => {
      await expiring('a');
      const exp = await lua.makeExpired('a');
      await lua.redis.hdel(lua.of('a').context, 'seal');
      await stays(1);
      expect(await lua.redis.zscore(lua.shard.exp, 'a')).to.equal(String(exp));
      await lua.redis.zrem(lua.shard.skip, 'a');
      expect((await lua.expire(100, 0)).slice(3)).to.deep.equal([0, 'a', 1]);
    });

    it('of which little is left', async () => {
      await expiring('a');
      await lua.makeExpired('a');
      await lua.redis.hdel(lua.of('a').context, 'v', 'seal', 'exp');
      await stays(1);
      for (const field of ['crc', 'sha', 'len', 'at', 'op']) {
        await lua.redis.zadd(lua.shard.exp, 1, 'a');
        await stays(0);
        if (field !== 'op') await lua.redis.hdel(lua.of('a').context, field);
      }
    });

    it('that is another one, which has expired', async () => {
      await expiring('a', 'b');
      await lua.makeExpired('b');
      await lua.redis.copy(lua.of('b').context, lua.of('a').context, 'REPLACE');
      await lua.redis.zadd(lua.shard.exp, 1, 'a');
      await stays(1, ['b', 1]);
    });

    it('does not hold up the others, and counts as one of the batch', async () => {
      const ids = ['a', 'b', 'c', 'd', 'e'];
      await expiring(...ids);
      for (const [index, id] of ids.entries()) await lua.makeExpired(id, 500 - index);
      for (const id of ['a', 'c']) await lua.redis.hset(lua.of(id).context, 'len', '7');
      const [, more, , ...rest] = await lua.expire(3, 1);
      expect(more).to.equal(1);
      expect(rest).to.deep.equal([2, 'a', 'c', 'b', 1]);
      expect((await lua.expire(3, 1)).slice(3)).to.deep.equal([0, 'd', 1, 'e', 1]);
      expect((await lua.ids(lua.shard.exp)).sort()).to.deep.equal(['a', 'c']);
      expect((await lua.accounts()).contexts).to.equal(2);
    });

    it('is passed over however many there are, and told once: a sweep of a few goes on behind them', async () => {
      const bad = Array.from({ length: 130 }, (_, n) => `bad${n}`);
      await expiring(...bad, 'good', 'later');
      for (const [index, id] of bad.entries()) {
        await lua.makeExpired(id, 1_000 - index);
        await lua.redis.hset(lua.of(id).context, 'len', '99');
      }
      await lua.makeExpired('good', 5);
      const scores = await lua.scores(lua.shard.exp);
      const told: unknown[] = [];
      const ranks: unknown[] = [];
      const gone: unknown[] = [];
      for (let rank = 0, more: unknown = 1, calls = 0; more === 1 && calls < 200; calls += 1) {
        const reply = await lua.expireFrom(rank, 30, 1);
        const damaged = Number(reply[4]);
        more = reply[1];
        rank = Number(reply[3]);
        ranks.push(rank);
        told.push(...reply.slice(5, 5 + damaged));
        gone.push(...reply.slice(5 + damaged).filter((_, at) => at % 3 === 0));
        if (more === 0) expect(reply[2]).to.equal(scores.later);
      }
      expect([told.sort(), gone, ranks.at(-1)]).to.deep.equal([[...bad].sort(), ['good'], 130]);
      const { good: _, ...left } = scores;
      expect(await lua.scores(lua.shard.exp), 'the true expiries').to.deep.equal(left);
      // from the beginning again: nothing is looked at, nothing told, and what comes behind them is reached at once
      await lua.makeExpired('later');
      const [, more, , rank, damaged, ...rest] = await lua.expireFrom(0, 30, 1);
      expect([more, rank, damaged, rest[0]]).to.deep.equal([0, 130, 0, 'later']);
    });

    it('is remembered for no longer than it is damaged', async () => {
      await expiring('a', 'b');
      await lua.makeExpired('a');
      await lua.redis.hset(lua.of('a').context, 'len', '7');
      await lua.expire(100, 1);
      expect(await lua.nativeExpiry(lua.shard.skip)).to.be.within(await lua.now(), (await lua.now()) + 2 * AGAIN_MS);
      await lua.redis.hset(lua.of('a').context, 'len', '3');
      const later = (await lua.now()) + AGAIN_MS;
      expect((await lua.when(later, () => lua.expire(100, 1))).slice(3)).to.deep.equal([0, 'a', 1, 'b', 1]);
      expect(await lua.redis.exists(lua.shard.skip)).to.equal(0);
    });

    it('is taken out once it was repaired', async () => {
      await expiring('a');
      const exp = await lua.makeExpired('a');
      await lua.redis.hset(lua.of('a').context, 'crc', '7');
      await stays();
      expect((await repair(lua, 'a', '"a"', { exp }))[0]).to.equal('REPAIRED');
      // as whoever has repaired it does
      await lua.redis.zrem(lua.shard.skip, 'a');
      expect((await lua.expire(100, 1)).slice(3)).to.deep.equal([0, 'a', 1]);
      expect((await lua.log('a')).map(({ entry, kind }) => `${entry} ${kind}`)).to.deep.equal([
        '1-0 full',
        '1-1 repaired',
        '1-2 expired',
      ]);
    });

    it('whose bytes are damaged goes as any other: its expiry can be believed', async () => {
      await expiring('a');
      await lua.makeExpired('a');
      await lua.redis.hset(lua.of('a').context, 'data', '?');
      expect((await lua.expire(100, 1)).slice(3)).to.deep.equal([0, 'a', 1]);
    });
  });

  it('does not fall over a tombstone that is there already', async () => {
    await expiring('a');
    await lua.makeExpired('a');
    await lua.redis.xadd(lua.of('a').log, '1-1', 'kind', 'expired');
    expect((await lua.expire()).slice(3)).to.deep.equal([0, 'a', 1]);
    expect((await lua.log('a')).map(({ entry }) => entry)).to.deep.equal(['1-0', '1-1']);
    expect(await lua.accounts()).to.deep.include({ bytes: 0, contexts: 0 });
  });

  it('leaves one whose expiry was moved a moment ago', async () => {
    await expiring('a');
    await lua.makeExpired('a');
    await lua.commit('a', '"again"', { ttl: 60_000 });
    expect((await lua.refused(() => lua.expire())).slice(3)).to.deep.equal([0]);
    await lua.touch('a', 'none');
    expect(await lua.refused(() => lua.expire())).to.deep.equal(['EXPIRED', 0, 0, 0]);
  });
});
