import { expect } from 'chai';
import { type CommitOptions, LuaNamespace, type Reply, TOMBSTONE_MS } from '../helpers/lua.js';
import { cut, edited, sent, stored, verified } from '../helpers/plans.js';

/** Copies of a chunked context that its log can be replayed from: `{tag}:k:<id>` the newest, `{tag}:j:<id>` the one before. */
describe('checkpoints of lua/commit.lua', () => {
  let lua: LuaNamespace;
  let newest: string;
  let older: string;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
    const { context } = lua.of('a');
    newest = context.replace('}:c:', '}:k:');
    older = context.replace('}:c:', '}:j:');
  });
  afterEach(() => lua.close());

  const whole = (document = 'a'.repeat(2000), more: CommitOptions = {}): Promise<Reply> => {
    const planned = sent(cut(document, 100));
    return lua.commit('a', planned.document, { ...planned.options, ...more });
  };
  /** One byte more at the front. */
  async function delta(more: CommitOptions = {}, form: 'whole' | 'chunked' = 'chunked'): Promise<Reply> {
    const before = await stored(lua, 'a');
    const { document, options } = edited(before, [{ at: 0, remove: 0, insert: Buffer.from('b') }], 150, form);
    const reply = await lua.commit('a', document, { ...options, ...more });
    expect(reply.slice(0, 2)).to.deep.equal(['COMMITTED', before.version + 1]);
    const { context, log } = lua.of('a');
    expect(reply[6], 'what is accounted').to.equal(await lua.memory(context, log, newest, older));
    return reply;
  }
  /** Versions of newest and older, and what the context says of its replay. */
  async function kept(): Promise<string> {
    const versions = await Promise.all([newest, older].map((key) => lua.redis.hget(key, 'v')));
    return `${versions.map((version) => version ?? '-').join(' ')}, kf ${(await lua.fields('a')).kf}`;
  }

  it('there is none after a whole write', async () => {
    await whole();
    expect(await kept()).to.equal('- -, kf 0');
  });

  it('is made by the first delta after it: the context as it then is', async () => {
    await whole('a'.repeat(2000), { fence: 4 });
    await delta();
    expect(await kept()).to.equal('2 -, kf 2');
    const [copy, context] = await Promise.all([newest, lua.of('a').context].map((key) => lua.redis.hgetall(key)));
    expect(copy).to.deep.equal(context);
    // the entry in the log stays the delta that it is
    expect((await lua.log('a')).map(({ kind }) => kind)).to.deep.equal(['full', 'splice']);
  });

  it('is made anew every so many versions, and the one before is kept', async () => {
    await whole();
    const seen: string[] = [];
    for (let n = 2; n <= 13; n += 1) {
      await delta({ keyframe: 4 });
      seen.push(await kept());
    }
    expect(seen.filter((each, index) => each !== seen[index - 1])).to.deep.equal(['2 -, kf 2', '6 2, kf 6', '10 6, kf 10']);
    expect(seen.indexOf('6 2, kf 6')).to.equal(4);
    expect((await lua.log('a')).map(({ kind }) => kind)).to.deep.equal(['full', ...Array(12).fill('splice')]);
    // what is kept is what was committed then
    for (const [key, version] of [
      [newest, 10],
      [older, 6],
    ] as const) {
      const { v, chunks = '', ...fields } = await lua.redis.hgetall(key);
      const names = [...chunks.matchAll(/^(d\d+) /gm)].map(([, name = '']) => name);
      expect(v).to.equal(String(version));
      expect(names.map((name) => fields[name]).join('')).to.equal('b'.repeat(version - 1) + 'a'.repeat(2000));
    }
  });

  it('is made of a delta over a whole write too, not of the whole write', async () => {
    await whole();
    await delta();
    const base = await stored(lua, 'a');
    await whole('c'.repeat(2000));
    // the copies lead to an older version: they stay, and the next delta makes a new one
    expect(await kept()).to.equal('2 -, kf 0');
    await delta();
    expect(await kept()).to.equal('4 2, kf 4');
    const patch = { text: '[3]', baseVersion: 4, baseCrc: (await stored(lua, 'a')).crc };
    await whole(base.document.toString(), { patch, kind: 'patch', keyframe: 1 });
    expect(await kept()).to.equal('5 4, kf 5');
    expect((await lua.log('a')).at(-1)).to.deep.include({ kind: 'patch', frame: '[3]' });
  });

  it('is not needed where the log has the whole document', async () => {
    await whole('a'.repeat(2000), { kind: 'full', encoding: 'gz', patch: { text: 'packed', baseVersion: 0, baseCrc: '-' } });
    expect(await kept()).to.equal('- -, kf 1');
    await delta({ keyframe: 3 });
    await delta({ keyframe: 3 });
    expect(await kept()).to.equal('- -, kf 1');
    await delta({ keyframe: 3 });
    expect(await kept()).to.equal('4 -, kf 4');
  });

  it('is not made of a document above 2 MiB', async () => {
    const MIB = 1024 * 1024;
    const long = sent(cut(Buffer.alloc(2 * MIB - 1, 'a'), 16_000));
    await lua.commit('a', long.document, long.options);
    const grow = async (): Promise<Reply> => {
      const before = await stored(lua, 'a');
      const { document, options } = edited(
        before,
        [{ at: before.document.length, remove: 0, insert: Buffer.from('b') }],
        16_500,
        'chunked',
      );
      return lua.commit('a', document, { ...options, keyframe: 1 });
    };
    await grow();
    expect(await kept()).to.equal('2 -, kf 2');
    await grow();
    // what there is may still be built on
    expect(await kept()).to.equal('2 -, kf 0');
  });

  describe('goes', () => {
    beforeEach(async () => {
      await whole('a'.repeat(2000), { ttl: 60_000 });
      for (let n = 0; n < 3; n += 1) await delta({ keyframe: 2 });
      expect(await kept()).to.equal('4 2, kf 4');
    });
    const gone = async (): Promise<void> => {
      expect(await lua.redis.exists(newest, older)).to.equal(0);
    };

    it('when the context is deleted', async () => {
      await lua.delete('a');
      await gone();
      expect(await lua.accounts()).to.deep.include({ bytes: 0, contexts: 0 });
    });

    it('when it expires, by the sweep', async () => {
      await lua.makeExpired('a');
      await lua.expire();
      await gone();
      expect(await lua.accounts()).to.deep.include({ bytes: 0, contexts: 0 });
    });

    it('when Redis had removed the context natively, by the sweep', async () => {
      await lua.makeExpired('a');
      await lua.redis.del(lua.of('a').context);
      await lua.expire();
      await gone();
      expect(await lua.accounts()).to.deep.include({ bytes: 0, contexts: 0 });
    });

    it('when it is written over after its expiry', async () => {
      await lua.makeExpired('a');
      await whole();
      await gone();
    });

    for (const [name, write] of [
      ['a whole document', () => lua.commit('a', '"new"')],
      ['chunks', () => whole()],
    ] as const) {
      it(`when the context was lost and ${name} is written in its place`, async () => {
        await lua.redis.del(lua.of('a').context, lua.of('a').log);
        expect((await write())[1]).to.equal(1);
        await gone();
        const { context, log } = lua.of('a');
        expect(await lua.accounts()).to.deep.equal({ bytes: await lua.memory(context, log), contexts: 1 });
      });
    }

    it('when a whole document takes the place of the chunks', async () => {
      const reply = await lua.commit('a', '"small"');
      await gone();
      expect(reply[6]).to.equal(await lua.memory(lua.of('a').context, lua.of('a').log));
    });

    it('when a plan makes it whole', async () => {
      const reply = await delta({ keyframe: 2 }, 'whole');
      await gone();
      expect(reply[6]).to.equal(await lua.memory(lua.of('a').context, lua.of('a').log));
      expect((await verified(lua, 'a'))?.chunks[0]?.name).to.equal('data');
    });
  });

  describe('expires natively with the log', () => {
    const expiries = (): Promise<number[]> => Promise.all([newest, older].map((key) => lua.nativeExpiry(key)));
    const made = async (ttl: number | 'none'): Promise<number> => {
      const [, , , , , exp] = await whole('a'.repeat(2000), { ttl });
      for (let n = 0; n < 3; n += 1) await delta({ keyframe: 2 });
      return Number(exp);
    };

    it('where the context had an expiry when it was made', async () => {
      const exp = await made(60_000);
      expect(await expiries()).to.deep.equal([exp + TOMBSTONE_MS, exp + TOMBSTONE_MS]);
    });

    it('or never', async () => {
      await made('none');
      expect(await expiries()).to.deep.equal([-1, -1]);
    });

    it('moved by a commit', async () => {
      await made('none');
      const [, , , , , exp] = await delta({ ttl: 5000 });
      expect(await expiries()).to.deep.equal([Number(exp) + TOMBSTONE_MS, Number(exp) + TOMBSTONE_MS]);
      await delta({ ttl: 'keep' });
      expect(await expiries()).to.deep.equal([Number(exp) + TOMBSTONE_MS, Number(exp) + TOMBSTONE_MS]);
      await delta({ ttl: 'none' });
      expect(await expiries()).to.deep.equal([-1, -1]);
    });

    it('moved by a whole write', async () => {
      await made('none');
      const [, , , , , exp] = await whole('d'.repeat(1000), { ttl: 5000 });
      expect(await expiries()).to.deep.equal([Number(exp) + TOMBSTONE_MS, Number(exp) + TOMBSTONE_MS]);
      await whole('d'.repeat(900), { ttl: 'none' });
      expect(await expiries()).to.deep.equal([-1, -1]);
    });

    it('moved by a touch', async () => {
      await made('none');
      const [, , exp] = await lua.touch('a', 5000);
      expect(await expiries()).to.deep.equal([Number(exp) + TOMBSTONE_MS, Number(exp) + TOMBSTONE_MS]);
      await lua.touch('a', 'none');
      expect(await expiries()).to.deep.equal([-1, -1]);
    });
  });
});
