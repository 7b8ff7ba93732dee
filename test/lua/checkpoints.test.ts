import { randomBytes } from 'node:crypto';
import { expect } from 'chai';
import { checkpoint, copyKeys, expectSealed } from '../helpers/integrity.js';
import { type CommitOptions, LuaNamespace, type Reply, TOMBSTONE_MS } from '../helpers/lua.js';
import { cut, edited, sent, stored, verified } from '../helpers/plans.js';

/** What the scripts that write a context do about the compressed copies beside its log: when they ask for one, and when those go. */
describe('checkpoints of a context that is written', () => {
  let lua: LuaNamespace;
  let newest: string;
  let older: string;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
    ({ newest, older } = copyKeys(lua, 'a'));
  });
  afterEach(() => lua.close());

  const whole = (document = 'a'.repeat(2000), more: CommitOptions = {}): Promise<Reply> => {
    const planned = sent(cut(document, 100));
    return lua.commit('a', planned.document, { ...planned.options, ...more });
  };
  /** One byte more at the front; answers whether a checkpoint is wanted. */
  async function delta(more: CommitOptions = {}, form: 'whole' | 'chunked' = 'chunked'): Promise<Reply> {
    const before = await stored(lua, 'a');
    const { document, options } = edited(before, [{ at: 0, remove: 0, insert: Buffer.from('b') }], 150, form);
    const reply = await lua.commit('a', document, { ...options, ...more });
    expect(reply.slice(0, 2)).to.deep.equal(['COMMITTED', before.version + 1]);
    await accounted(reply[6]);
    return reply;
  }
  /** The accounts hold one context, with its log and both copies. */
  async function accounted(bytes: unknown): Promise<void> {
    const { context, log } = lua.of('a');
    expect(bytes, 'what is accounted').to.equal(await lua.memory(context, log, newest, older));
    const { checkpoints = 0, ...accounts } = await lua.accounts();
    expect(accounts).to.deep.equal({ bytes, contexts: 1 });
    expect(checkpoints).to.equal(await lua.memory(newest, older));
  }
  const keep = async (): Promise<void> => {
    expect((await checkpoint(lua, 'a', randomBytes(300)))[0]).to.equal('KEPT');
  };
  /** Versions of newest and older, and what the context says of its replay. */
  async function kept(): Promise<string> {
    const versions = await Promise.all([newest, older].map((key) => lua.redis.hget(key, 'v')));
    return `${versions.map((version) => version ?? '-').join(' ')}, kf ${(await lua.fields('a')).kf}`;
  }

  describe('is wanted', () => {
    it('from the first version on that is in chunks, with each commit, until it is there', async () => {
      expect((await whole())[7]).to.equal(1);
      expect(await kept()).to.equal('- -, kf 0');
      for (let n = 0; n < 3; n += 1) expect((await delta())[7]).to.equal(1);
      expect(await kept()).to.equal('- -, kf 0');
      await keep();
      expect(await kept()).to.equal('4 -, kf 4');
      expect((await delta())[7]).to.equal(0);
      // what the log has are deltas alone
      expect((await lua.log('a')).map(({ kind, frame }) => `${kind} ${kind === 'full' ? frame : ''}`)).to.deep.equal([
        'full ',
        ...Array(4).fill('splice '),
      ]);
    });

    it('so many versions after the one before', async () => {
      await whole();
      await keep();
      const wanted: unknown[] = [];
      for (let n = 2; n <= 12; n += 1) {
        const due = (await delta({ keyframe: 4 }))[7];
        wanted.push(due);
        // it may come later
        if (due === 1 && wanted.at(-2) === 1) await keep();
      }
      expect(wanted.join('')).to.equal('00011000110');
      expect(await kept()).to.equal('11 6, kf 11');
    });

    it('after a write of the whole document, which leads to no other', async () => {
      await whole();
      await keep();
      expect((await whole('c'.repeat(2000)))[7]).to.equal(1);
      expect(await kept()).to.equal('1 -, kf 0');
      await keep();
      expect(await kept()).to.equal('2 1, kf 2');
      expect((await delta())[7]).to.equal(0);
    });

    it('not where the log has the whole document', async () => {
      const packed = { kind: 'full', encoding: 'gz', patch: { text: 'packed', baseVersion: 0, baseCrc: '-' } } as const;
      expect((await whole('a'.repeat(2000), packed))[7]).to.equal(0);
      expect(await kept()).to.equal('- -, kf 1');
      expect((await delta({ keyframe: 3 }))[7]).to.equal(0);
      expect((await delta({ keyframe: 3 }))[7]).to.equal(0);
      expect((await delta({ keyframe: 3 }))[7]).to.equal(1);
      expect(await kept()).to.equal('- -, kf 1');
    });

    it('not of a document in one field, which the log gets itself', async () => {
      for (let n = 1; n <= 9; n += 1) {
        const patch = n === 1 ? {} : { patch: { text: '[1]', baseVersion: n - 1, baseCrc: (await stored(lua, 'a')).crc } };
        expect((await lua.commit('a', `"${n} of some length"`, { ...patch, keyframe: 3 }))[7], `version ${n}`).to.equal(0);
      }
      expect((await lua.log('a')).map(({ kind }) => (kind === 'full' ? 'F' : '.')).join('')).to.equal('F..F..F..');
    });

    it('of one that would fill the log, until a delta has brought it there', async () => {
      const text = (n: number): string => `${n}`.padEnd(5000);
      expect((await lua.commit('a', text(1), { logBytes: 39_999 }))[7]).to.equal(1);
      const patch = { text: '[2]', baseVersion: 1, baseCrc: (await stored(lua, 'a')).crc };
      expect((await lua.commit('a', text(2), { logBytes: 39_999, patch }))[7]).to.equal(0);
      expect((await lua.commit('a', text(3), { logBytes: 39_999 }))[7]).to.equal(1);
      await keep();
      expect(await kept()).to.equal('3 -, kf 3');
    });

    it('where the log was cut past the one that is there', async () => {
      await whole();
      await keep();
      let cuts = 0;
      for (let n = 2; n <= 30; n += 1) {
        const before = await stored(lua, 'a');
        const patch = { text: 'x'.repeat(1500), baseVersion: before.version, baseCrc: before.crc };
        const reply = await delta({ patch, logBytes: 12_000, keyframe: 100 });
        const [first] = await lua.log('a');
        const from = Number(first?.entry.replace('-0', ''));
        const [copy, kf] = [Number(await lua.redis.hget(newest, 'v')), Number((await lua.fields('a')).kf)];
        // deltas lead on from the version of the copy: they begin with the one after it
        expect(reply[7], `version ${n}, copy ${copy}, log from ${from}`).to.equal(from > copy ? 1 : 0);
        expect(kf).to.equal(from > copy ? 0 : copy);
        if (from > copy) {
          cuts += 1;
          await keep();
        }
      }
      expect(cuts).to.be.greaterThan(2);
    });

    it('where what the context says of its replay is damaged', async () => {
      await whole();
      await keep();
      for (const kf of ['', 'x', '9', '-1', '1e9']) {
        await lua.redis.hset(lua.of('a').context, 'kf', kf);
        expect((await delta({ keyframe: 1000 }))[7], `kf ${kf}`).to.equal(1);
        expect((await lua.fields('a')).kf, `kf ${kf}`).to.equal('0');
        await lua.redis.del(newest, older);
        await lua.redis.hset(lua.shard.mem, 'checkpoints', 0);
      }
    });
  });

  describe('goes', () => {
    beforeEach(async () => {
      await whole('a'.repeat(2000), { ttl: 60_000 });
      await keep();
      await delta();
      await keep();
      expect(await kept()).to.equal('2 1, kf 2');
    });
    const gone = async (): Promise<void> => {
      expect(await lua.redis.exists(newest, older)).to.equal(0);
      expect((await lua.accounts()).checkpoints).to.equal(0);
      await expectSealed(lua, 'a');
    };
    const allGone = async (): Promise<void> => {
      await gone();
      expect(await lua.accounts()).to.deep.equal({ bytes: 0, contexts: 0, checkpoints: 0 });
    };

    it('when the context is deleted', async () => {
      await lua.delete('a');
      await allGone();
    });

    it('when it is deleted although it is damaged', async () => {
      await lua.redis.hset(lua.of('a').context, 'crc', '00000000');
      expect((await lua.delete('a'))[0]).to.equal('DELETED');
      await allGone();
    });

    it('when it expires, by the sweep', async () => {
      await lua.makeExpired('a');
      await lua.expire();
      await allGone();
    });

    it('when Redis had removed the context natively, by the sweep', async () => {
      await lua.makeExpired('a');
      await lua.redis.del(lua.of('a').context);
      await lua.expire();
      await allGone();
    });

    it('when it is written over after its expiry', async () => {
      await lua.makeExpired('a');
      const reply = await whole();
      await gone();
      await accounted(reply[6]);
    });

    for (const [name, write] of [
      ['a whole document', () => lua.commit('a', '"new"')],
      ['chunks', () => whole()],
    ] as const) {
      it(`when the context was lost and ${name} is written in its place`, async () => {
        await lua.redis.del(lua.of('a').context, lua.of('a').log);
        const reply = await write();
        expect(reply[1]).to.equal(1);
        await gone();
        await accounted(reply[6]);
      });
    }
  });

  describe('stays', () => {
    beforeEach(async () => {
      await whole();
      await keep();
      await delta();
      await keep();
    });
    const there = async (bytes: unknown): Promise<void> => {
      const versions = await Promise.all([newest, older].map((key) => lua.redis.hget(key, 'v')));
      expect(versions).to.deep.equal(['2', '1']);
      await accounted(bytes);
    };

    it('when a whole document takes the place of the chunks: the log leads from it to there', async () => {
      const { crc } = await stored(lua, 'a');
      const patch = { text: '[]', baseVersion: 2, baseCrc: crc };
      const reply = await lua.commit('a', '"small"', { patch });
      await there(reply[6]);
    });

    it('when a plan makes it whole', async () => {
      const reply = await delta({}, 'whole');
      await there(reply[6]);
      expect((await verified(lua, 'a'))?.chunks[0]?.name).to.equal('data');
    });

    it('when a touch gives it another expiry', async () => {
      await lua.touch('a', 5000);
      await there((await lua.accounts()).bytes);
      await lua.touch('a', 'none');
      await there((await lua.accounts()).bytes);
    });

    it('when a write is refused', async () => {
      await lua.refused(() => lua.commit('a', '1', { ifVersion: 9 }));
      await there((await lua.accounts()).bytes);
    });
  });

  describe('expires natively with the log', () => {
    const expiries = (): Promise<number[]> => Promise.all([newest, older, lua.of('a').log].map((key) => lua.nativeExpiry(key)));
    const all = (exp: unknown): number[] => Array(3).fill(Number(exp) + TOMBSTONE_MS);
    const NEVER = [-1, -1, -1];
    const made = async (ttl: number | 'none'): Promise<number> => {
      const [, , , , , exp] = await whole('a'.repeat(2000), { ttl });
      await keep();
      await delta();
      await keep();
      return Number(exp);
    };

    it('where the context had an expiry when it was made', async () => {
      expect(await expiries()).to.deep.equal([-2, -2, -2]);
      const exp = await made(60_000);
      expect(await expiries()).to.deep.equal(all(exp));
    });

    it('or never', async () => {
      await made('none');
      expect(await expiries()).to.deep.equal(NEVER);
    });

    it('moved by a commit', async () => {
      await made('none');
      const [, , , , , exp] = await delta({ ttl: 5000 });
      expect(await expiries()).to.deep.equal(all(exp));
      await delta({ ttl: 'keep' });
      expect(await expiries()).to.deep.equal(all(exp));
      await delta({ ttl: 'none' });
      expect(await expiries()).to.deep.equal(NEVER);
    });

    it('moved by a whole write', async () => {
      await made('none');
      const [, , , , , exp] = await whole('d'.repeat(1000), { ttl: 5000 });
      expect(await expiries()).to.deep.equal(all(exp));
      await whole('d'.repeat(900), { ttl: 'none' });
      expect(await expiries()).to.deep.equal(NEVER);
    });

    it('moved by a touch', async () => {
      await made('none');
      const [, , exp] = await lua.touch('a', 5000);
      expect(await expiries()).to.deep.equal(all(exp));
      await lua.touch('a', 'none');
      expect(await expiries()).to.deep.equal(NEVER);
    });
  });
});
