import { expect } from 'chai';
import { crc32Hex, sha1Hex } from '../../src/core/checksum.js';
import { sealFor, sumFor } from '../helpers/integrity.js';
import { GRACE_MS, LuaNamespace, type Reply, TOMBSTONE_MS } from '../helpers/lua.js';
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
  sent,
  stored,
  verified,
} from '../helpers/plans.js';
import { ABSENT, frameOf } from './commitFrame.js';

const chunk = (name: string, text: string): Chunk => ({ name, bytes: Buffer.from(text) });
/** Text of which no two places look the same. */
const text = (length: number, seed = 'a'): string => {
  let found = '';
  for (let n = 0; found.length < length; n += 1) found += `${seed}${n} `;
  return found.slice(0, length);
};

describe('a plan in lua/commit.lua', () => {
  let lua: LuaNamespace;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
  });
  afterEach(() => lua.close());

  /** Commits, and checks bytes, checksums, log and accounts of what is stored then. */
  async function planned(
    id: string,
    { document, options, chunks }: Planned,
    more: Planned['options'] | object = {},
  ): Promise<Reply> {
    const reply = await lua.commit(id, document, { ...options, ...more });
    expect(reply[0]).to.equal('COMMITTED');
    const after = await stored(lua, id);
    expect(after.document.equals(document), 'the stored document').to.equal(true);
    expect(after.chunks).to.deep.equal(chunks);
    const last = (await lua.log(id)).at(-1);
    const { crc, sha, len } = await lua.fields(id);
    expect(last).to.deep.include({ entry: `${reply[1]}-0`, crc, sha, len });
    expect(await lua.redis.exists(lua.of(id).old), 'what was kept aside').to.equal(0);
    const { context, log } = lua.of(id);
    const { k, j } = checkpoints(id);
    expect(reply[6], 'what is accounted').to.equal(await lua.memory(context, log, k, j));
    expect(await lua.redis.zscore(lua.shard.size, id)).to.equal(String(reply[6]));
    return reply;
  }
  const checkpoints = (id: string): { k: string; j: string } => ({
    k: lua.of(id).context.replace('}:c:', '}:k:'),
    j: lua.of(id).context.replace('}:c:', '}:j:'),
  });

  describe('creation', () => {
    it('of a document in chunks that are sent: fields, list, log entry, frame of as many messages', async () => {
      const chunks = [chunk('d0', '{"a":"first'), chunk('d1', ' second'), chunk('d2', ' third"}')];
      const document = '{"a":"first second third"}';
      const plan = {
        text: `d0 11 ${sha1Hex('{"a":"first')} #7:0:11\nd1 7 ${sha1Hex(' second')} #8:0:7\nd2 8 ${sha1Hex(' third"}')} #9:0:8\n`,
        data: '',
        chunks: chunks.map(({ bytes }) => bytes),
      };
      const list = `d0 11 ${sha1Hex('{"a":"first')}\nd1 7 ${sha1Hex(' second')}\nd2 8 ${sha1Hex(' third"}')}\n`;
      const reply = await lua.commit('a', document, { op: 'op-1', plan, claims: { sha: sha1Hex(list) } });
      expect(reply.slice(0, 6)).to.deep.equal(['COMMITTED', 1, reply[2], 'full', 26, 0]);
      const common = { crc: crc32Hex(document), sha: sha1Hex(list), len: '26', op: 'op-1', by: 'tester', at: String(reply[2]) };
      const seal = sealFor('a', { ...common, v: '1' });
      expect(await lua.redis.hgetall(lua.of('a').context)).to.deep.equal({
        ...{ ...common, v: '1', kf: '0', chunks: list, seal },
        ...{ d0: '{"a":"first', d1: ' second', d2: ' third"}' },
      });
      // the log keeps no whole document in chunks: copies stand beside it
      const entry = { ...common, entry: '1-0', kind: 'full', frame: '', base: '-', exp: '-' };
      expect(await lua.log('a')).to.deep.equal([{ ...entry, sum: sumFor('a', entry) }]);
      const { channel, context, log, use, size, mem } = lua.of('a');
      expect(await lua.published()).to.deep.equal([
        { channel, text: frameOf('full', 1, document, { at: reply[2], op: 'op-1', parts: 3, payload: '' }) },
        { channel, text: '{"a":"first' },
        { channel, text: ' second' },
        { channel, text: ' third"}' },
      ]);
      expect(Object.keys(await lua.snapshot()).sort()).to.deep.equal([context, log, use, size, mem].sort());
      expect(await lua.accounts()).to.deep.equal({ bytes: await lua.memory(context, log), contexts: 1 });
    });

    it('in any bytes, of any number of chunks, with fence and expiry', async () => {
      const bytes = Buffer.from(Array.from({ length: 40_000 }, (_, at) => (at * 7 + (at >> 8)) & 255));
      for (const size of [13, 400, 8000, 50_000]) {
        const id = `by ${size}`;
        const reply = await planned(id, sent(cut(bytes, size)), { fence: 7, ttl: 60_000 });
        const exp = Number(reply[2]) + 60_000;
        expect(await lua.fields(id)).to.deep.include({ fence: '7', exp: String(exp), v: '1' });
        expect(await lua.nativeExpiry(lua.of(id).context)).to.equal(exp + GRACE_MS);
        expect(await lua.nativeExpiry(lua.of(id).log)).to.equal(exp + TOMBSTONE_MS);
        const messages = (await lua.published()).map((message) => message.text);
        expect(messages[0]?.split(' ').slice(0, 4)).to.deep.equal(['lc2', 'full', '-', String(Math.ceil(40_000 / size))]);
        expect(messages.slice(1).join('') === bytes.toString('latin1'), 'the parts').to.equal(true);
      }
    });

    it('over an expired context, whose fields and chunks are gone', async () => {
      await planned('a', sent([chunk('d5', '"old'), chunk('d6', ' one"')]), { ttl: 60_000, fence: 3 });
      await lua.makeExpired('a');
      await planned('a', sent([chunk('d0', '"new'), chunk('d5', ' one"')]));
      expect((await lua.log('a')).map(({ entry, kind }) => `${entry} ${kind}`)).to.deep.equal([
        '1-0 full',
        '1-1 expired',
        '2-0 full',
      ]);
      expect(Object.keys(await lua.fields('a'))).to.not.include.members(['fence']);
      expect(await lua.fields('a')).to.not.have.any.keys('fence', 'exp', 'd6');
    });
  });

  describe('a change in place', () => {
    it('of a whole document: kept bytes, inserted ones, other places', async () => {
      const reply = await lua.commit('a', '{"name":"old","n":1}', { ttl: 60_000, fence: 9 });
      await lua.published();
      const document = '{"name":"new and longer","n":1}';
      const plan = `data 31 ${sha1Hex(document)} data:0:9 #1:2:14 data:12:8\n`;
      const before = await stored(lua, 'a');
      const next = await planned('a', byHand(before, plan, '..new and longer', [chunk('data', document)]), { op: 'op-2' });
      expect(next.slice(0, 6)).to.deep.equal(['COMMITTED', 2, next[2], 'splice', 16, reply[5]]);
      expect(await lua.fields('a')).to.deep.include({ v: '2', kf: '1', fence: '9', exp: String(reply[5]) });
      expect((await lua.log('a'))[1]).to.deep.include({ kind: 'splice', frame: '..new and longer', base: before.crc });
      const base = { version: 1, crc: before.crc };
      expect((await lua.published()).map((message) => message.text)).to.deep.equal([
        frameOf('splice', 2, document, { base, at: next[2], exp: reply[5], op: 'op-2', payload: '..new and longer' }),
      ]);
    });

    it('of 20 bytes in one chunk of many leaves the others alone', async () => {
      await planned('a', sent(cut(text(40_000), 8000)), { ttl: 60_000, fence: 9 });
      await lua.published();
      const before = await stored(lua, 'a');
      const inserted = 'twenty bytes are here';
      const bytes = Buffer.concat([
        (before.chunks[2] as Chunk).bytes.subarray(0, 100),
        Buffer.from(inserted),
        (before.chunks[2] as Chunk).bytes.subarray(120),
      ]);
      const next = before.chunks.map((each, index) => (index === 2 ? { name: 'd2', bytes } : each));
      const plan = lines(group(before.chunks, 2, 3), `d2 8001 ${sha1Hex(bytes)} d2:0:100 #1:0:21 d2:120:7880`);
      const reply = await planned('a', byHand(before, plan, inserted, next), { op: 'op-2' });
      expect(reply.slice(3, 5)).to.deep.equal(['splice', 21]);
      expect((await lua.fields('a')).chunks).to.equal(manifestOf(next));
      expect(await lua.fields('a')).to.deep.include({ fence: '9', exp: String(reply[5]), len: '40001' });
      const messages = (await lua.published()).map((message) => message.text);
      expect(messages).to.deep.equal([
        frameOf('splice', 2, Buffer.concat(next.map((each) => each.bytes)), {
          ...{ base: { version: 1, crc: before.crc }, at: reply[2], exp: reply[5], op: 'op-2', payload: inserted },
        }),
      ]);
    });

    const three = [chunk('d0', 'aaaa'), chunk('d1', 'bbbb'), chunk('d2', 'cccc')];
    const cases: [string, string, string, Chunk[]][] = [
      [
        'in several groups',
        lines(
          ...[group(three, 0, 1), `d0 5 ${sha1Hex('aaaa1')} d0:0:4 #1:0:1`],
          ...[group(three, 2, 3), `d2 5 ${sha1Hex('cccc2')} d2:0:4 #1:1:1`],
        ),
        '12',
        [chunk('d0', 'aaaa1'), chunk('d1', 'bbbb'), chunk('d2', 'cccc2')],
      ],
      [
        'that splits a chunk',
        lines(group(three, 1, 2), `d1 3 ${sha1Hex('bb1')} d1:0:2 #1:0:1`, `d7 3 ${sha1Hex('2bb')} #1:1:1 d1:2:2`),
        '12',
        [chunk('d0', 'aaaa'), chunk('d1', 'bb1'), chunk('d7', '2bb'), chunk('d2', 'cccc')],
      ],
      [
        'that merges two chunks',
        lines(group(three, 1, 3), `d2 8 ${sha1Hex('bbbbcccc')} d1:0:4 d2:0:4`, '- d1'),
        '',
        [chunk('d0', 'aaaa'), chunk('d2', 'bbbbcccc')],
      ],
      ['that deletes the first chunk', lines(group(three, 0, 1), '- d0'), '', [chunk('d1', 'bbbb'), chunk('d2', 'cccc')]],
      ['that deletes the last chunk', lines(group(three, 2, 3), '- d2'), '', [chunk('d0', 'aaaa'), chunk('d1', 'bbbb')]],
      [
        'that moves a chunk',
        lines(group(three, 0, 3), `= ${factsOf(three[2] as Chunk)}`, `= ${factsOf(three[0] as Chunk)}`, '- d1'),
        '',
        [chunk('d2', 'cccc'), chunk('d0', 'aaaa')],
      ],
      [
        'that puts a chunk between others',
        lines(group(three, 1, 1), `d3 3 ${sha1Hex('new')} #1:0:3`),
        'new',
        [chunk('d0', 'aaaa'), chunk('d3', 'new'), chunk('d1', 'bbbb'), chunk('d2', 'cccc')],
      ],
      [
        'that puts one at the end',
        lines(group(three, 3, 3), `d10 3 ${sha1Hex('new')} #1:0:3`),
        'new',
        [...three, chunk('d10', 'new')],
      ],
      [
        'that exchanges the bytes of two chunks',
        lines(group(three, 0, 2), `d0 4 ${sha1Hex('bbbb')} d1:0:4`, `d1 4 ${sha1Hex('aaaa')} d0:0:4`),
        '',
        [chunk('d0', 'bbbb'), chunk('d1', 'aaaa'), chunk('d2', 'cccc')],
      ],
      [
        'from chunks to whole',
        lines(`data 10 ${sha1Hex('aaaa-ccccc')} d0:0:4 #1:0:1 d2:0:4 d2:0:1`, '- d0', '- d1', '- d2'),
        '-',
        [chunk('data', 'aaaa-ccccc')],
      ],
    ];
    for (const [name, plan, data, chunks] of cases) {
      it(name, async () => {
        const first = await planned('a', sent(three), { ttl: 60_000, fence: 9 });
        await lua.published();
        const before = await stored(lua, 'a');
        const payload = Buffer.from('[1]');
        const options = { patch: { text: payload, baseVersion: 1, baseCrc: before.crc }, kind: 'patch' as const };
        const reply = await planned('a', byHand(before, plan, data, chunks), options);
        expect(reply.slice(3, 5)).to.deep.equal(['patch', 3]);
        expect(await lua.fields('a')).to.deep.include({ fence: '9', exp: String(first[5]) });
        expect((await lua.published()).map((message) => message.text.split('\n')[1])).to.deep.equal(['[1]']);
      });
    }

    it('from whole to chunks', async () => {
      const first = await lua.commit('a', 'aaaabbbbcccc', { ttl: 60_000, fence: 9 });
      const before = await stored(lua, 'a');
      const plan = lines(`d0 6 ${sha1Hex('aaaabb')} data:0:6`, `d1 7 ${sha1Hex('bb-cccc')} data:6:2 #1:0:1 data:8:4`, '- data');
      await planned('a', byHand(before, plan, '-', [chunk('d0', 'aaaabb'), chunk('d1', 'bb-cccc')]));
      expect(await lua.fields('a')).to.deep.include({ fence: '9', exp: String(first[5]) });
    });

    it('deletes the fields of chunks that are gone, also where the plan does not name them', async () => {
      await planned('a', sent(three));
      const [whole, list] = [chunk('data', 'aaaab'), [chunk('d4', 'aaaab')]];
      await planned('a', byHand(await stored(lua, 'a'), lines(`data 5 ${sha1Hex('aaaab')} d0:0:4 d1:0:1`), '', [whole]));
      await planned('a', byHand(await stored(lua, 'a'), lines(`d4 5 ${sha1Hex('aaaab')} data:0:5`), '', list));
      await planned(
        'a',
        byHand(await stored(lua, 'a'), lines(group(list, 0, 1), `d5 4 ${sha1Hex('aaaa')} d4:0:4`), '', [chunk('d5', 'aaaa')]),
      );
    });

    it('keeps an expiry, gives another, and takes it away', async () => {
      await planned('a', sent(three));
      const turn = async (n: number, ttl: number | 'keep' | 'none'): Promise<Reply> => {
        const before = await stored(lua, 'a');
        return planned('a', edited(before, [{ at: 1, remove: 1, insert: Buffer.from(String(n)) }], 100, 'chunked'), { ttl });
      };
      const exp = Number((await turn(1, 5000))[5]);
      expect(await lua.nativeExpiry(lua.of('a').context)).to.equal(exp + GRACE_MS);
      expect((await turn(2, 'keep'))[5]).to.equal(exp);
      expect((await lua.fields('a')).exp).to.equal(String(exp));
      expect((await turn(3, 'none'))[5]).to.equal(0);
      expect(await lua.fields('a')).to.not.have.property('exp');
      expect(await lua.redis.zcard(lua.shard.exp)).to.equal(0);
      expect(await lua.nativeExpiry(lua.of('a').context)).to.equal(-1);
    });
  });

  describe('a whole write', () => {
    for (const [name, first, second] of [
      ['of a document over chunks', sent(cut(text(9000), 1000)), null],
      ['of chunks over a whole document', null, sent(cut(text(9000), 1000))],
      ['of few bytes in chunks over a whole document', null, sent(cut(text(60), 20))],
      ['of chunks over chunks', sent(cut(text(9000), 1000)), sent(cut(text(5000, 'b'), 900))],
    ] as const) {
      it(`${name} keeps fence and expiry, and nothing else`, async () => {
        const options = { ttl: 60_000, fence: 9 };
        const write = async (what: Planned | null, more: object): Promise<Reply> =>
          what === null ? lua.commit('a', text(9000), more) : planned('a', what, more);
        const [, , , , , exp] = await write(first, options);
        await lua.published();
        await write(second, { ttl: 'keep' });
        const after = await stored(lua, 'a');
        expect(after.version).to.equal(2);
        expect(await lua.fields('a')).to.deep.include({ fence: '9', exp: String(exp) });
        expect(await lua.nativeExpiry(lua.of('a').context)).to.equal(Number(exp) + GRACE_MS);
        const { context, log } = lua.of('a');
        expect(await lua.accounts()).to.deep.equal({ bytes: await lua.memory(context, log), contexts: 1 });
        expect((await lua.published()).length).to.equal(second === null ? 2 : second.chunks.length + 1);
      });
    }
  });

  describe('the frame', () => {
    const first = text(9000);
    const next = `${first.slice(0, 50)}#${first.slice(51)}`;
    /** Changes the first document with a payload, in chunks, and gives reply and messages. */
    async function change(more: object, form: 'whole' | 'chunked' = 'chunked'): Promise<{ reply: Reply; messages: string[] }> {
      await (form === 'whole' ? lua.commit('a', first) : planned('a', sent(cut(first, 1000))));
      await lua.published();
      const before = await stored(lua, 'a');
      const plan = edited(before, [{ at: 50, remove: 1, insert: Buffer.from('#') }], 1000, form);
      const reply = await planned('a', plan, { op: 'op-2', ...more });
      return { reply, messages: (await lua.published()).map((message) => message.text) };
    }
    const base = { version: 1, crc: crc32Hex(first) };
    const patch = (payload: string | Buffer): object => ({ text: payload, baseVersion: 1, baseCrc: base.crc });

    for (const form of ['whole', 'chunked'] as const) {
      describe(`of a ${form} document`, () => {
        for (const [kind, encoding, length] of [
          ['splice', '-', 10],
          ['splice', 'br', 200],
          ['patch', '-', 10],
          ['full', 'gz', 300],
          ['full', 'br', 4097],
          ['splice', 'gz', 4096],
          ['splice', '-', 4097],
        ] as const) {
          it(`is a ${kind}, ${encoding}, of ${length} bytes`, async () => {
            const payload = Buffer.alloc(length, Buffer.from([0, 255, 10, 13, 200]));
            const { reply, messages } = await change({ kind, encoding, patch: patch(payload) }, form);
            expect(reply.slice(3, 5)).to.deep.equal([kind, length]);
            const parts = length > 4096 ? 1 : 0;
            const words = {
              base,
              at: reply[2],
              op: 'op-2',
              parts,
              payload: parts === 1 ? '' : payload.toString('latin1'),
              encoding,
            };
            expect(messages[0]).to.equal(frameOf(kind, 2, next, words));
            expect(messages.slice(1)).to.deep.equal(parts === 1 ? [payload.toString('latin1')] : []);
            const entry = { kind, frame: payload.toString('latin1'), ...(encoding === '-' ? {} : { enc: encoding }) };
            expect((await lua.log('a'))[1]).to.deep.include(entry);
            if (encoding === '-') expect((await lua.log('a'))[1]).to.not.have.property('enc');
          });
        }

        it('is the whole document where no delta is smaller, all of it', async () => {
          const { reply, messages } = await change({ kind: 'splice', encoding: 'gz', patch: patch(Buffer.alloc(9000)) }, form);
          expect(reply.slice(3, 5)).to.deep.equal(['full', 9000]);
          const parts = form === 'whole' ? 1 : 9;
          expect(messages[0]).to.equal(frameOf('full', 2, next, { base, at: reply[2], op: 'op-2', parts, payload: '' }));
          expect(messages).to.have.length(1 + parts);
          expect(messages.slice(1).join('') === next).to.equal(true);
        });
      });
    }

    it('of a first write is its compressed document where that is sent', async () => {
      const chunks = cut(first, 1000);
      const payload = Buffer.alloc(100, 'z');
      const { document, options } = sent(chunks);
      const more = { kind: 'full' as const, encoding: 'br', patch: { text: payload, baseVersion: 0, baseCrc: '-' } };
      const reply = await lua.commit('a', document, { op: 'op-1', ...options, ...more });
      expect(reply.slice(3, 5)).to.deep.equal(['full', 100]);
      const words = { base: ABSENT, at: reply[2], op: 'op-1', payload: payload.toString(), encoding: 'br' };
      expect((await lua.published()).map((message) => message.text)).to.deep.equal([frameOf('full', 1, first, words)]);
      // it is in the log as it travelled, so the log can be replayed from it
      expect((await lua.log('a'))[0]).to.deep.include({ kind: 'full', enc: 'br', frame: payload.toString() });
      expect((await lua.fields('a')).kf).to.equal('1');
      expect(await verified(lua, 'a')).to.not.equal(null);
    });
  });
});
