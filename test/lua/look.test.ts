import { randomBytes } from 'node:crypto';
import { expect } from 'chai';
import { answerCheck, guardOf } from '../../src/core/seal.js';
import { checkpoint, copyKeys, damageDocument, type Looked, look, lookKeys, quarantine } from '../helpers/integrity.js';
import { LuaNamespace } from '../helpers/lua.js';
import { cut, sent } from '../helpers/plans.js';

describe('lua/look.lua', () => {
  let lua: LuaNamespace;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
  });
  afterEach(() => lua.close());

  const latin1 = async (key: string): Promise<Record<string, string>> => {
    const fields = Object.entries(await lua.redis.hgetallBuffer(key));
    return Object.fromEntries(fields.map(([name, value]) => [name, value.toString('latin1')]));
  };

  /** Looks, holds it against what is there, and to writing and publishing nothing. */
  async function looked(id = 'a', lost = false): Promise<Looked> {
    let found: Looked | undefined;
    const from = await lua.now();
    await lua.refused(async () => {
      found = await look(lua, id);
      return [];
    });
    if (found === undefined) throw new Error('nothing was found');
    const { context } = lua.of(id);
    const { newest, older, moved } = copyKeys(lua, id);
    expect(found.now).to.be.within(from, await lua.now());
    expect(found.due).to.equal((await lua.scores(lua.shard.exp))[id] ?? null);
    expect(found.hashes).to.deep.equal(await Promise.all([context, newest, older, moved].map(latin1)));
    expect(found.entries).to.deep.equal(await lua.log(id));
    expect(found.lost, 'lost').to.equal(lost);
    return found;
  }

  it('answers nothing of what was never there', async () => {
    const { due, hashes, entries } = await looked();
    expect({ due, hashes, entries }).to.deep.equal({ due: null, hashes: [{}, {}, {}, {}], entries: [] });
  });

  it('answers every part: context, log, both copies, what is in quarantine, its place in the index', async () => {
    await lua.commit('a', '"one"', { ttl: 60_000 });
    await checkpoint(lua, 'a', 'first');
    await lua.commit('a', '"two"');
    await checkpoint(lua, 'a', 'second');
    await damageDocument(lua, 'a');
    const exp = (await lua.now()) + 60_000;
    await quarantine(lua, 'a', 'put', { version: 2, exp });
    await lua.commit('a', '"three"', { fence: 7 });
    const { due, hashes, entries } = await looked();
    expect(due).to.equal(exp);
    expect(hashes.map(({ v, data, z }) => [v, data ?? z])).to.deep.equal([
      ['3', '"three"'],
      ['2', 'second'],
      ['1', 'first'],
      ['2', '#two"'],
    ]);
    expect(entries.map(({ entry }) => entry)).to.deep.equal(['1-0', '2-0', '3-0']);
  });

  for (const part of [0, 1, 2, 3] as const) {
    it(`answers ${['a context', 'a checkpoint', 'an older one', 'what was moved'][part]} alone`, async () => {
      const key = [lua.of('a').context, ...Object.values(copyKeys(lua, 'a'))][part] ?? '';
      await lua.redis.hset(key, 'v', 'x');
      const { hashes } = await looked();
      expect(hashes.map((fields) => Object.keys(fields).length)).to.deep.equal([0, 1, 2, 3].map((at) => (at === part ? 1 : 0)));
    });
  }

  it('answers a log alone: of one that was deleted', async () => {
    await lua.commit('a', '1');
    await lua.delete('a');
    const { hashes, entries } = await looked();
    expect(hashes).to.deep.equal([{}, {}, {}, {}]);
    expect(entries.map(({ kind }) => kind)).to.deep.equal(['full', 'deleted']);
  });

  it('answers any bytes as they are, and empty ones', async () => {
    const { newest, older, moved } = copyKeys(lua, 'a');
    const every = Buffer.from(Array.from({ length: 256 }, (_, at) => at));
    const values = [
      every,
      Buffer.alloc(0),
      Buffer.from(' '),
      Buffer.from('\n\0 \r'),
      Buffer.from([0xff, 0xfe]),
      randomBytes(70_000),
    ];
    for (const [at, key] of [lua.of('a').context, newest, older, moved].entries())
      await lua.redis.hset(key, new Map(values.map((value, n) => [`f${n + at}`, value])));
    await lua.redis.hset(moved, '', '');
    for (const value of values) await lua.redis.xadd(lua.of('a').log, '*', 'frame', value, 'kind', '', '', 'x');
    await looked();
  });

  it('answers ids of any bytes, and documents in chunks', async () => {
    for (const id of ['ü \0\n\r"{}:', ' ', '}:c:x'])
      for (const size of [7, 100]) {
        const { document, options } = sent(cut('x'.repeat(600), size));
        await lua.commit(id, document, { ...options, ttl: 60_000 });
        const { hashes } = await looked(id);
        expect(Object.keys(hashes[0] ?? {}).filter((name) => /^d\d/.test(name))).to.have.length(Math.ceil(600 / size));
      }
  });

  it('has a check over all of it: one byte of any part makes another', async () => {
    await lua.commit('a', Buffer.from([0, 255, 10, 0xc3]), { ttl: 60_000 });
    await checkpoint(lua, 'a', randomBytes(20));
    const keys = lookKeys(lua, 'a');
    const guard = guardOf('salt', [...keys, 'a']);
    const reply = (await lua.runRaw('look', keys, ['a', guard])) as (Buffer | number)[];
    const words = reply.map((word) => (Buffer.isBuffer(word) ? word : Buffer.from(String(word))));
    const check = words.pop()?.toString();
    expect(check).to.equal(answerCheck('salt', words));
    expect(check).to.not.equal(answerCheck('other', words));
    for (const [place, word] of words.entries()) {
      for (let at = 0; at < Math.max(1, word.length); at += 1) {
        const other = word.length === 0 ? Buffer.from('0') : Buffer.from(word);
        if (word.length > 0) other[at] = (other[at] ?? 0) ^ (1 << (at % 8));
        const damaged = [...words.slice(0, place), other, ...words.slice(place + 1)];
        expect(answerCheck('salt', damaged), `word ${place}, byte ${at}`).to.not.equal(check);
      }
      expect(
        answerCheck(
          'salt',
          words.filter((_, at) => at !== place),
        ),
        `without word ${place}`,
      ).to.not.equal(check);
    }
  });

  describe('says that it is lost', () => {
    const lose = (): Promise<number> => lua.redis.del(lua.of('a').context);

    it('where its hash is gone, the log goes on, and nothing says that it expires', async () => {
      await lua.commit('a', '1');
      await looked();
      await lose();
      await looked('a', true);
      // once for all: whoever lets go of it gives the log its time
      await lua.redis.pexpire(lua.of('a').log, 60_000);
      await looked('a', false);
      await lua.redis.persist(lua.of('a').log);
      await looked('a', true);
    });

    it('where the index says that it expires later, and not from that moment on', async () => {
      await lua.commit('a', '1', { ttl: 60_000 });
      await lose();
      await looked('a', true);
      const due = (await lua.scores(lua.shard.exp)).a ?? 0;
      for (const [at, lost] of [
        [due - 1, true],
        [due, false],
        [due + 1, false],
      ] as const)
        expect((await lua.when(at, () => stopped(at))).lost, `${at - due} ms after it`).to.equal(lost);
      // a log with an expiry, and no place in the index: it was let go of
      await lua.redis.zrem(lua.shard.exp, 'a');
      await looked('a', false);
    });

    /** A look while the clock stands. */
    async function stopped(at: number): Promise<Pick<Looked, 'lost'>> {
      const reply = await lua.run('look', lookKeys(lua, 'a'), ['a']);
      expect(reply.slice(0, 2)).to.deep.equal(['STORED', at]);
      return { lost: reply[3] === 1 };
    }

    it('not where it is there, whatever is left of it', async () => {
      await lua.commit('a', '1');
      await lose();
      await lua.redis.hset(lua.of('a').context, 'op', 'x');
      await looked('a', false);
    });

    it('not where it was deleted, was swept, or Redis has removed it by itself', async () => {
      await lua.commit('a', '1', { ttl: 60_000 });
      await lua.makeExpired('a');
      await lua.redis.pexpire(lua.of('a').context, 1);
      await lua.passed((await lua.now()) + 2);
      expect(await lua.redis.exists(lua.of('a').context)).to.equal(0);
      await looked('a', false);
      await lua.expire();
      await looked('a', false);
      await lua.commit('a', '2');
      await lua.delete('a');
      await lua.redis.persist(lua.of('a').log);
      await looked('a', false);
    });

    it('not where there is no log, or none of its entries', async () => {
      await lua.redis.zadd(lua.shard.exp, (await lua.now()) + 60_000, 'a');
      await looked('a', false);
      await lua.commit('a', '1');
      await lose();
      await lua.redis.xtrim(lua.of('a').log, 'MAXLEN', 0);
      await looked('a', false);
    });

    it('by its last entry, whatever came before', async () => {
      await lua.commit('a', '1');
      await lua.delete('a');
      await lua.commit('a', '3');
      await lose();
      await looked('a', true);
    });
  });
});
