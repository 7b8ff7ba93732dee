import { expect } from 'chai';
import { crc32Hex, sha1Hex } from '../../src/core/checksum.js';
import { type CommitOptions, LuaNamespace, type Reply } from '../helpers/lua.js';
import {
  byHand,
  type Chunk,
  cut,
  edited,
  factsOf,
  group,
  lines,
  manifestOf,
  type Planned,
  type Stored,
  sent,
  stored,
} from '../helpers/plans.js';

const chunk = (name: string, text: string): Chunk => ({ name, bytes: Buffer.from(text) });
const CHUNKS = [chunk('d0', 'aaaa'), chunk('d1', 'bbbb'), chunk('d2', 'cccc')];
const [D0, D1, D2] = CHUNKS as [Chunk, Chunk, Chunk];

/** Shadows `redis`: what HGET gives of the fields a script has written is damaged, from the `from`th field on. */
const damagedReadBack = (from: number): string => `
local real, written, looked = redis, {}, 0
local redis = setmetatable({
  call = function(...)
    local command, _, field = ...
    local reply = real.call(...)
    if command == 'HSET' then
      for i = 3, select('#', ...), 2 do written[select(i, ...)] = not written[select(i, ...)] end
    elseif command == 'HGET' and written[field] then
      looked = looked + 1
      if looked >= ${from} then return 'X' .. string.sub(reply, 2) end
    end
    return reply
  end,
}, { __index = real })
`;

describe('refusals of a plan in lua/commit.lua', () => {
  let lua: LuaNamespace;
  let before: Stored;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
    const { document, options } = sent(CHUNKS);
    await lua.commit('a', document, { ...options, ttl: 60_000, fence: 3 });
    before = await stored(lua, 'a');
  });
  afterEach(() => lua.close());

  const refused = ({ document, options }: Planned, more: CommitOptions = {}, id = 'a'): Promise<Reply> =>
    lua.refused(() => lua.commit(id, document, { ...options, ttl: 'none', fence: 9, ...more }));
  /** A `?` at place 5, in the second chunk. */
  const next = (): Planned => edited(before, [{ at: 5, remove: 1, insert: Buffer.from('?') }], 100, 'chunked');
  const works = async ({ document, options }: Planned): Promise<void> => {
    expect((await lua.commit('a', document, options))[0]).to.equal('COMMITTED');
    expect((await stored(lua, 'a')).document.equals(document)).to.equal(true);
  };

  describe('BASE_MISMATCH', () => {
    const mismatch = (damaged = '-'): unknown[] => ['BASE_MISMATCH', 1, before.crc, damaged];
    const elsewhere = (change: Partial<Stored>): Planned =>
      byHand({ ...before, ...change }, next().options.plan.text, '?', next().chunks);

    it('for another SHA-1, version or checksum of the base, which are not damage', async () => {
      for (const change of [{ sha: sha1Hex('1') }, { version: 2 }, { version: 0 }, { crc: crc32Hex('1') }])
        expect(await refused(elsewhere(change)), JSON.stringify(change)).to.deep.equal(mismatch());
    });

    it('where there is nothing, or nothing any more', async () => {
      expect(await refused(next(), {}, 'b')).to.deep.equal(['BASE_MISMATCH', 0, '-', '-']);
      await lua.makeExpired('a');
      expect(await refused(next())).to.deep.equal(['BASE_MISMATCH', 0, '-', '-']);
      await lua.expire();
      expect(await refused(next())).to.deep.equal(['BASE_MISMATCH', 0, '-', '-']);
    });

    it('where it was deleted', async () => {
      await lua.delete('a');
      expect(await refused(next())).to.deep.equal(['BASE_MISMATCH', 0, '-', '-']);
    });

    for (const [name, damage] of [
      ['has other bytes', (key: string) => lua.redis.hset(key, 'd1', 'bbxb')],
      ['is shorter', (key: string) => lua.redis.hset(key, 'd1', 'bbb')],
      ['has bytes before its own', (key: string) => lua.redis.hset(key, 'd1', 'xbbbb')],
      ['is empty', (key: string) => lua.redis.hset(key, 'd1', '')],
      ['is missing', (key: string) => lua.redis.hdel(key, 'd1')],
    ] as const) {
      it(`names the chunk that ${name}`, async () => {
        const move = lines(
          group(CHUNKS, 0, 3),
          ...['d0 4 ', 'd1 8 '].map((words, index) =>
            index === 0 ? `${words}${sha1Hex('cccc')} d2:0:4` : `${words}${sha1Hex('aaaabbbb')} d0:0:4 d1:0:4`,
          ),
        );
        await damage(lua.of('a').context);
        // the chunk is one of those that the plan takes bytes from, not the first of them
        const planned = byHand(before, move, '', [chunk('d0', 'cccc'), chunk('d1', 'aaaabbbb')]);
        expect(await refused(planned)).to.deep.equal(mismatch('d1'));
      });
    }

    it('names the list of chunks, where that is damaged, whatever the plan makes of it', async () => {
      const { context } = lua.of('a');
      const list = manifestOf(CHUNKS);
      for (const bad of [
        list.replace('d2 4', 'd2 5'),
        list.replace('d2 4 4b', 'd2 4 5b'),
        list.slice(0, -1),
        `x${list}`,
        list.replace('d0', 'd7'),
      ]) {
        await lua.redis.hset(context, 'chunks', bad);
        expect(await refused(next()), JSON.stringify(bad)).to.deep.equal(mismatch('chunks'));
      }
      await lua.redis.hset(context, { chunks: list, len: 13 });
      // its seal says so first; under one that fits, the list does
      expect(await refused(next())).to.deep.equal(['DAMAGED']);
      await lua.seal('a');
      expect(await refused(next())).to.deep.equal(mismatch('len'));
      await lua.redis.hset(context, 'len', 12);
      await lua.seal('a');
      await works(next());
    });

    it('names a whole document that is damaged', async () => {
      await lua.commit('a', '"whole"');
      before = await stored(lua, 'a');
      const planned = edited(before, [{ at: 1, remove: 0, insert: Buffer.from('?') }], 100, 'whole');
      await lua.redis.hset(lua.of('a').context, 'data', '"whols"');
      expect(await refused(planned)).to.deep.equal(['BASE_MISMATCH', 2, before.crc, 'data']);
    });

    it('is not said of a damaged chunk that is replaced by sent bytes alone', async () => {
      await lua.redis.hset(lua.of('a').context, 'd1', 'bbxb');
      await works(
        byHand(before, lines(group(CHUNKS, 1, 2), `d1 3 ${sha1Hex('new')} #1:0:3`), 'new', [D0, chunk('d1', 'new'), D2]),
      );
    });

    it('for a log that is ahead of the context, and all is as it was', async () => {
      const older = await lua.redis.hgetallBuffer(lua.of('a').context);
      for (const planned of [
        next(),
        edited(before, [{ at: 4, remove: 4, insert: Buffer.from('123456789') }], 4, 'chunked'),
        edited(before, [{ at: 4, remove: 4, insert: Buffer.from('123456789') }], 4, 'whole'),
      ]) {
        await lua.redis.del(lua.of('a').log);
        await works(planned);
        await lua.redis.del(lua.of('a').context);
        await lua.redis.hset(lua.of('a').context, older);
        expect(await refused(planned, { op: 'again' })).to.deep.equal(mismatch());
      }
    });
  });

  describe('CHECKSUM', () => {
    const plans: [
      string,
      (good: Planned) => { text?: string; data?: string; claims?: CommitOptions['claims'] },
      RegExp | string,
    ][] = [
      ['another SHA-1 of a chunk', ({ options }) => ({ text: options.plan.text.replace(/ (\w)(\w{39}) d1/, ' $2$1 d1') }), 'd1'],
      ['another length of a chunk', ({ options }) => ({ text: options.plan.text.replace('d1 4 ', 'd1 5 ') }), 'd1'],
      ['inserted bytes that were damaged', () => ({ data: '!' }), 'd1'],
      ['inserted bytes that were cut', () => ({ data: '' }), 'd1'],
      ['another place in a chunk', ({ options }) => ({ text: options.plan.text.replace('d1:0:1', 'd0:0:1') }), 'd1'],
      ['a place behind the end of a chunk', ({ options }) => ({ text: options.plan.text.replace('d1:2:2', 'd1:3:2') }), 'd1'],
      ['a chunk that was never there', ({ options }) => ({ text: options.plan.text.replace('d1:2:2', 'd9:2:2') }), 'd1'],
      ['a document that was never there', ({ options }) => ({ text: options.plan.text.replace('d1:2:2', 'data:2:2') }), 'd1'],
      ['another SHA-1 of the list', () => ({ claims: { sha: sha1Hex('1') } }), /^[0-9a-f]{40}$/],
      ['another total length', ({ chunks }) => ({ claims: { sha: sha1Hex(manifestOf(chunks)), length: 13 } }), /^[0-9a-f]{40}$/],
      ['another name of the chunk', ({ options }) => ({ text: options.plan.text.replace('\nd1 ', '\nd7 ') }), /^[0-9a-f]{40}$/],
      ['a group in another place', ({ options }) => ({ text: options.plan.text.replace(/^@ \d+/, '@ 0') }), /^[0-9a-f]{40}$/],
      ['no group', ({ options }) => ({ text: options.plan.text.replace(/^@.*\n/, '') }), /^[0-9a-f]{40}$/],
      ['a line twice', ({ options }) => ({ text: options.plan.text.replace(/(d1 .*\n)/, '$1$1') }), /^[0-9a-f]{40}$/],
      ['no line at all', ({ options }) => ({ text: options.plan.text.replace(/d1 .*\n/, '') }), /^[0-9a-f]{40}$/],
    ];
    for (const [name, change, word] of plans) {
      it(`for ${name}`, async () => {
        const good = next();
        const { claims = good.options.claims ?? {}, ...plan } = change(good);
        const reply = await refused({ ...good, options: { ...good.options, plan: { ...good.options.plan, ...plan }, claims } });
        expect(reply[0]).to.equal('CHECKSUM');
        expect(reply[1]).to.match(typeof word === 'string' ? new RegExp(`^${word}$`) : word);
        // what was refused for damage on the way works once it arrives whole
        await works(good);
      });
    }

    it('for a chunk that was damaged on the way, where there is a context and where there is none', async () => {
      const good = sent(cut('one two three', 5));
      const chunks = [Buffer.from('one t'), Buffer.from('wo_th'), Buffer.from('ree')];
      const bad = { ...good, options: { ...good.options, plan: { ...good.options.plan, chunks } } };
      for (const id of ['a', 'b']) expect((await refused(bad, {}, id)).slice(0, 2)).to.deep.equal(['CHECKSUM', 'd1']);
      const fewer = { ...good.options.plan, chunks: chunks.slice(0, 1) };
      expect((await refused({ ...good, options: { ...good.options, plan: fewer } })).slice(0, 2)).to.deep.equal([
        'CHECKSUM',
        'malformed',
      ]);
    });
  });

  describe('a malformed plan', () => {
    const long = '9'.repeat(400);
    const sum = sha1Hex('aaaa');
    const hand: [string, string][] = [
      ['words', 'what is this\n'],
      ['a name that is none', `v 4 ${sum} d0:0:4\n`],
      ['another field', `crc 4 ${sum} d0:0:4\n`],
      ['a name with letters', `d0x 4 ${sum} d0:0:4\n`],
      ['a negative length', `d0 -4 ${sum} d0:0:4\n`],
      ['a length with a fraction', `d0 4.0 ${sum} d0:0:4\n`],
      ['a group behind the end', `@ 0 99999\n`],
      ['a group of 2^53', `@ 9007199254740992 9007199254740993\n`],
      ['a group of endless length', `@ ${long} ${long}\n`],
      ['a group that is no number', `@ NaN 4\n`],
      ['groups in the wrong order', lines(group(CHUNKS, 1, 2), group(CHUNKS, 0, 1))],
      ['a group that begins within a line', `@ 1 ${manifestOf(CHUNKS).length - 1}\n`],
      ['a group that ends within a line', `@ 0 5\n`],
      ['a stored chunk that is not', `= d9 4 ${sum}\n`],
      ['a stored chunk with another sum', `= d1 4 ${sum}\n`],
      ['a stored chunk without a sum', '= d0 4\n'],
      ['a field to delete that is none', '- v\n'],
      ['a field to delete that stays', lines(group(CHUNKS, 0, 1), `d0 4 ${sum} d0:0:4`, '- d0')],
      ['a field to delete outside', lines(group(CHUNKS, 0, 1), '- d0', '- d2')],
      ['a field to delete that was never there', '- data\n'],
      ['an argument that is not there', `d0 4 ${sum} #9:0:4\n`],
      ['an argument that is no number', `d0 4 ${sum} #x:0:4\n`],
      ['a piece of 2^53', `d0 4 ${sum} d0:0:9007199254740992\n`],
      ['a piece of endless length', `d0 4 ${sum} #1:0:${long}\n`],
      ['a document beside chunks', lines(`data 4 ${sum} d0:0:4`, `d1 4 ${sum} d0:0:4`)],
      ['a document twice', lines(`data 4 ${sum} d0:0:4`, `data 4 ${sum} d0:0:4`)],
      ['a document within a list', lines(group(CHUNKS, 0, 1), `data 4 ${sum} d0:0:4`)],
      [
        'more bytes than a document may have',
        lines(...Array(4300).fill(`d0 4 ${sum} #1:0:4000`).slice(0, 3000), `d1 4 ${sum}${' #1:0:4000'.repeat(1300)}`),
      ],
      ['more lines than there are chunks in any document', lines(...Array(3501).fill('- d1'))],
    ];
    for (const [name, text] of hand) {
      it(`with ${name}`, async () => {
        const reply = await refused(byHand(before, text, 'x'.repeat(4000), [D0]));
        expect(reply.slice(0, 2)).to.deep.equal(['CHECKSUM', 'malformed']);
      });
    }

    it('that reaches for the stored document without a base', async () => {
      for (const text of [`- d0\n`, `= ${factsOf(D0)}\n`, group(CHUNKS, 0, 1)]) {
        const { plan, claims } = byHand(before, text, '', [D0]).options;
        const { baseSha: _, ...rest } = plan;
        const reply = await lua.refused(() => lua.commit('a', 'aaaa', { plan: rest, ...(claims ? { claims } : {}) }));
        expect(reply.slice(0, 2), text).to.deep.equal(['CHECKSUM', 'malformed']);
      }
    });

    it('with more chunks than one command takes, and one with just as many as it does', async () => {
      const many = (count: number): Planned => sent(cut('x'.repeat(count), 1));
      const reply = await refused(many(3501));
      expect(reply.slice(0, 2)).to.deep.equal(['CHECKSUM', 'malformed']);
      const { document, options } = many(3500);
      expect((await lua.commit('a', document, options))[0]).to.equal('COMMITTED');
      expect((await stored(lua, 'a')).chunks).to.have.length(3500);
      const planned = edited(await stored(lua, 'a'), [{ at: 0, remove: 0, insert: Buffer.from('y') }], 1, 'whole');
      // it need not name what goes
      const plan = { ...planned.options.plan, text: planned.options.plan.text.replace(/^- .*\n/gm, '') };
      expect((await lua.commit('a', planned.document, { ...planned.options, plan }))[0]).to.equal('COMMITTED');
      expect((await stored(lua, 'a')).document.equals(planned.document)).to.equal(true);
    });
  });

  describe('after other refusals', () => {
    it('CONFLICT, FENCED, LATE come before the plan is looked at', async () => {
      expect((await refused(next(), { ifVersion: 7 }))[0]).to.equal('CONFLICT');
      expect((await refused(next(), { fence: 2 }))[0]).to.equal('FENCED');
      expect((await refused(next(), { till: 1 }))[0]).to.equal('LATE');
      await lua.redis.hset(lua.of('a').context, 'intent', `txn-7 ${(await lua.now()) + 60_000} 0 0`);
      expect((await refused(next()))[0]).to.equal('LOCKED');
    });

    it('a plan that was carried out is not carried out again', async () => {
      const planned = next();
      const [, , at] = await lua.commit('a', planned.document, { ...planned.options, op: 'op' });
      const answer = ['APPLIED', 2, at, crc32Hex(planned.document)];
      expect(await refused(planned, { op: 'op' })).to.deep.equal(answer);
      await lua.commit('a', '"later"');
      const again = { op: 'op', previousTill: 1, firstSent: Number(at) };
      expect(await refused(planned, again)).to.deep.equal(answer);
      expect((await refused(planned, { op: 'other' }))[0]).to.equal('BASE_MISMATCH');
    });
  });

  describe('WRITE_CORRUPT', () => {
    const cases: [string, () => Planned, number][] = [
      ['a change of one chunk', next, 1],
      [
        'a change of two chunks, the second',
        () => edited(before, [{ at: 3, remove: 2, insert: Buffer.from('??') }], 4, 'chunked'),
        2,
      ],
      ['a new chunk', () => edited(before, [{ at: 4, remove: 0, insert: Buffer.from('123456789') }], 4, 'chunked'), 3],
      ['the loss of chunks', () => edited(before, [{ at: 2, remove: 8, insert: Buffer.from('1') }], 100, 'chunked'), 1],
      ['chunks made whole', () => edited(before, [{ at: 2, remove: 8, insert: Buffer.from('1') }], 100, 'whole'), 1],
      ['chunks that are sent', () => sent(cut('another document', 3)), 2],
      ['the same chunks in other places', () => sent([D1, D2, D0]), 1],
    ];
    for (const [name, make, from] of cases) {
      it(`of ${name} leaves every chunk as it was, and no other field`, async () => {
        const planned = make();
        expect(await refused(planned, { prelude: damagedReadBack(from) })).to.deep.equal(['WRITE_CORRUPT', 1]);
        expect(await stored(lua, 'a')).to.deep.equal(before);
        await works(planned);
      });
    }

    it('of a whole document in place, and of one that becomes chunks', async () => {
      await lua.commit('a', 'x'.repeat(300), { ttl: 60_000 });
      before = await stored(lua, 'a');
      for (const form of ['whole', 'chunked'] as const) {
        const planned = edited(before, [{ at: 100, remove: 0, insert: Buffer.from('1') }], 100, form);
        const prelude = damagedReadBack(form === 'whole' ? 1 : 4);
        expect(await refused(planned, { prelude })).to.deep.equal(['WRITE_CORRUPT', 2]);
      }
    });

    it('of sent chunks where there was nothing leaves nothing', async () => {
      expect(await refused(sent(CHUNKS), { prelude: damagedReadBack(3) }, 'b')).to.deep.equal(['WRITE_CORRUPT', 0]);
      expect(await lua.redis.exists(lua.of('b').context, lua.of('b').log)).to.equal(0);
    });
  });

  it('fails with nothing written where the log cannot be written', async () => {
    await lua.redis.del(lua.of('a').log);
    await lua.redis.set(lua.of('a').log, 'not a stream');
    const was = await lua.snapshot();
    for (const planned of [next(), sent(cut('another document', 3))]) {
      const outcome = await lua.commit('a', planned.document, planned.options).catch((error: unknown) => [String(error)]);
      expect(outcome[0]).to.match(/WRONGTYPE|BASE_MISMATCH/);
      expect(await lua.snapshot()).to.deep.equal(was);
    }
  });
});
