import { expect } from 'chai';
import { crc32Hex, sha1Hex } from '../../src/core/checksum.js';
import { exactAccounts } from '../helpers/accounts.js';
import { damageDocument } from '../helpers/integrity.js';
import { LuaNamespace, type Reply } from '../helpers/lua.js';
import { cut, edited, sent, stored } from '../helpers/plans.js';
import { commit, expected, remove, type TxMember, transact } from '../helpers/transactions.js';

const CHUNKED = JSON.stringify('chunked '.repeat(5000));
const LARGE = JSON.stringify('large '.repeat(2000));

interface Case {
  readonly what: string;
  /** The member that is refused; what it needs is made before it. */
  readonly member: (lua: LuaNamespace) => Promise<TxMember>;
  /** What it is refused with; where it is not told of which member, `of` is null. */
  readonly why: (lua: LuaNamespace) => Promise<readonly (string | number)[]>;
  readonly anyMember?: true;
}

const of = (member: TxMember, prepared: (lua: LuaNamespace) => Promise<unknown> = async () => {}): Case['member'] => {
  return async (lua) => {
    await prepared(lua);
    return member;
  };
};
const why =
  (...words: (string | number)[]): Case['why'] =>
  async () =>
    words;

const ONE = crc32Hex('"one"');
const one = (lua: LuaNamespace): Promise<Reply> => lua.commit('x', '"one"', { ttl: 60_000 });
const fenced = (lua: LuaNamespace): Promise<Reply> => lua.commit('x', '"one"', { fence: 7 });
const locked = async (lua: LuaNamespace): Promise<void> => {
  await one(lua);
  await lua.redis.hset(lua.of('x').context, 'intent', 'other 77 1 3');
};
const promised = (lua: LuaNamespace): Promise<number> => lua.redis.hset(lua.of('x').context, 'intent', 'other 77 0 0');
const unsealed = async (lua: LuaNamespace): Promise<void> => {
  await one(lua);
  await lua.redis.hset(lua.of('x').context, 'len', '7');
};
const lost = async (lua: LuaNamespace): Promise<void> => {
  await one(lua);
  await lua.redis.del(lua.of('x').context);
};
const inChunks = async (lua: LuaNamespace): Promise<Awaited<ReturnType<typeof stored>>> => {
  const { document, options } = sent(cut(CHUNKED, 8000));
  await lua.commit('x', document, options);
  return stored(lua, 'x');
};
/** A plan on what is stored, before `change` changes that. */
const planned =
  (change: (lua: LuaNamespace) => Promise<unknown>): Case['member'] =>
  async (lua) => {
    const { document, options } = edited(
      await inChunks(lua),
      [{ at: 9, remove: 2, insert: Buffer.from('new') }],
      8000,
      'chunked',
    );
    await change(lua);
    return commit('x', document, options);
  };

const CASES: readonly Case[] = [
  { what: 'CONFLICT by version', member: of(commit('x', '1', { ifVersion: 2 }), one), why: why('CONFLICT', 1, ONE) },
  { what: 'CONFLICT by checksum', member: of(commit('x', '1', { ifVersion: 1, ifCrc: '7' }), one), why: why('CONFLICT', 1, ONE) },
  { what: 'CONFLICT with what is there', member: of(commit('x', '1', { ifVersion: 0 }), one), why: why('CONFLICT', 1, ONE) },
  { what: 'CONFLICT with what is not there', member: of(commit('x', '1', { ifVersion: 1 })), why: why('CONFLICT', 0, '-') },
  { what: 'CONFLICT of a deletion', member: of(remove('x', { ifVersion: 2 }), one), why: why('CONFLICT', 1, ONE) },
  { what: 'CONFLICT of a deletion of nothing', member: of(remove('x', { ifVersion: 2 })), why: why('CONFLICT', 0, '-') },
  { what: 'CONFLICT with what was read', member: of(expected('x', 2), one), why: why('CONFLICT', 1, ONE) },
  { what: 'CONFLICT with other bytes read', member: of(expected('x', 1, '7'), one), why: why('CONFLICT', 1, ONE) },
  { what: 'CONFLICT with what was read as absent', member: of(expected('x', 0), one), why: why('CONFLICT', 1, ONE) },
  { what: 'CONFLICT with what is gone', member: of(expected('x', 1)), why: why('CONFLICT', 0, '-') },
  {
    what: 'CONFLICT with what has expired',
    member: of(expected('x', 1), async (lua) => {
      await one(lua);
      await lua.makeExpired('x');
    }),
    why: why('CONFLICT', 0, '-'),
  },
  { what: 'FENCED', member: of(commit('x', '1', { fence: 6 }), fenced), why: why('FENCED', '7') },
  { what: 'FENCED, a deletion', member: of(remove('x', { fence: 6 }), fenced), why: why('FENCED', '7') },
  { what: 'LOCKED', member: of(commit('x', '1', { ifVersion: 9 }), locked), why: why('LOCKED', 'other', 77, 1, 3) },
  { what: 'LOCKED, a deletion', member: of(remove('x', { ifVersion: 9 }), locked), why: why('LOCKED', 'other', 77, 1, 3) },
  { what: 'LOCKED, what was read', member: of(expected('x', 9), locked), why: why('LOCKED', 'other', 77, 1, 3) },
  { what: 'LOCKED by one that will create it', member: of(commit('x', '1'), promised), why: why('LOCKED', 'other', 77, 0, 0) },
  { what: 'LOCKED, a deletion of it', member: of(remove('x'), promised), why: why('LOCKED', 'other', 77, 0, 0) },
  { what: 'LOCKED, as read before it is', member: of(expected('x', 0), promised), why: why('LOCKED', 'other', 77, 0, 0) },
  {
    what: 'BASE_MISMATCH with another version',
    member: planned((lua) => lua.commit('x', '"one"')),
    why: why('BASE_MISMATCH', 2, ONE, '-'),
  },
  {
    what: 'BASE_MISMATCH with a damaged chunk',
    member: planned((lua) => lua.redis.hset(lua.of('x').context, 'd0', 'damaged')),
    why: why('BASE_MISMATCH', 1, crc32Hex(CHUNKED), 'd0'),
  },
  {
    what: 'BASE_MISMATCH with a log that is ahead',
    member: planned((lua) => lua.redis.xadd(lua.of('x').log, '5-0', 'kind', 'full')),
    why: why('BASE_MISMATCH', 1, crc32Hex(CHUNKED), '-'),
  },
  { what: 'DAMAGED', member: of(commit('x', '1', { sealed: 1 }), unsealed), why: why('DAMAGED') },
  { what: 'DAMAGED, lost', member: of(commit('x', '1'), lost), why: why('DAMAGED') },
  { what: 'DAMAGED, a deletion', member: of(remove('x', { ifVersion: 1 }), unsealed), why: why('DAMAGED') },
  {
    what: 'CHECKSUM',
    member: of(commit('x', '"one"', { claims: { sha: sha1Hex('?') } }), one),
    why: why('CHECKSUM', sha1Hex('"one"'), 5),
    anyMember: true,
  },
  {
    what: 'CHECKSUM of a length',
    member: of(commit('x', '"one"', { claims: { length: 7 } })),
    why: why('CHECKSUM', sha1Hex('"one"'), 5),
    anyMember: true,
  },
  { what: 'LATE', member: of(commit('x', '1', { till: 1000 }), one), why: why('LATE', 2000), anyMember: true },
  { what: 'LATE, a deletion', member: of(remove('x', { till: 1000 })), why: why('LATE', 2000), anyMember: true },
];

/** Shadows `redis` for the script: what is written into context `x` is read back as something else. */
const lying = (lua: LuaNamespace): string => `
local real, written = redis, false
local redis = setmetatable({
  call = function(...)
    local command, key, field = ...
    local reply = real.call(...)
    if key == '${lua.of('x').context}' and command == 'HSET' and string.find(field, '^d') then
      written = true
    elseif key == '${lua.of('x').context}' and command == 'HGET' and written then
      return 'X' .. string.sub(reply, 2)
    end
    return reply
  end,
}, { __index = real })
`;

describe('refusals of lua/transact.lua', () => {
  let lua: LuaNamespace;
  /** Others, of which none is refused. */
  let others: TxMember[];
  beforeEach(async () => {
    lua = await LuaNamespace.open();
    for (const id of ['small', 'gone', 'read']) await lua.commit(id, `"${id}"`, { ttl: 60_000, fence: 7 });
    await lua.commit('large', LARGE);
    const { document, options } = sent(cut(CHUNKED, 8000));
    await lua.commit('chunked', document, options);
    const other = edited(await stored(lua, 'chunked'), [{ at: 9, remove: 2, insert: Buffer.from('new') }], 8000, 'chunked');
    others = [
      commit('small', '"new"', { ttl: 'none', fence: 8 }),
      commit('large', LARGE.replace('large', 'other')),
      remove('gone'),
      expected('read', 1),
      commit('chunked', other.document, other.options),
      commit('new', document, options),
      remove('never'),
    ];
  });
  afterEach(() => lua.close());

  const among = (member: TxMember, at: number): TxMember[] => [...others.slice(0, at), member, ...others.slice(at)];
  const places = (): number[] => [0, 3, others.length];

  /** Afterwards all of it can be written, but for the member that was refused. */
  async function rest(): Promise<void> {
    expect((await transact(lua, others))[0]).to.equal('DONE');
  }

  for (const { what, member, why: words, anyMember } of CASES) {
    it(`${what}: by any member, and nothing is written`, async () => {
      const refused = await member(lua);
      const expectedWords = await words(lua);
      for (const place of places()) {
        const ask = (): Promise<Reply> => transact(lua, among(refused, place));
        const reply = await lua.refused(() => (what.startsWith('LATE') ? lua.when(2000, ask) : ask()));
        expect(reply).to.deep.equal(anyMember ? expectedWords : ['REFUSED', place + 1, ...expectedWords]);
      }
      await rest();
    });
  }

  it('tells the first of several', async () => {
    const reply = await lua.refused(() =>
      transact(lua, [commit('a', '1', { ifVersion: 3 }), expected('read', 9), remove('gone', { ifVersion: 9 })]),
    );
    expect(reply.slice(0, 3)).to.deep.equal(['REFUSED', 1, 'CONFLICT']);
    const other = await lua.refused(() =>
      transact(lua, [remove('gone'), expected('read', 9), commit('a', '1', { ifVersion: 3 })]),
    );
    expect(other.slice(0, 3)).to.deep.equal(['REFUSED', 2, 'CONFLICT']);
  });

  describe('WRITE_CORRUPT of any member', () => {
    const corrupt = async (member: TxMember, version: number): Promise<void> => {
      for (const place of places()) {
        const reply = await lua.refused(() => transact(lua, among(member, place), { prelude: lying(lua) }));
        expect(reply).to.deep.equal(['REFUSED', place + 1, 'WRITE_CORRUPT', version]);
      }
      expect((await transact(lua, among(member, 3)))[0]).to.equal('DONE');
      await exactAccounts(lua.redis, lua.keys.namespace);
    };

    it('that was not there', () => corrupt(commit('x', '1'), 0));
    for (const from of ['"old"', LARGE])
      for (const to of ['"new"', LARGE.replace('large', 'other')])
        it(`of ${from.length} bytes that shall be ${to.length}`, async () => {
          await lua.commit('x', from, { ttl: 60_000, fence: 3 });
          await corrupt(commit('x', to, { ttl: 'none', fence: 9 }), 1);
        });
    it('in chunks, by a plan', async () => {
      await corrupt(await planned(async () => {})(lua), 1);
    });
    it('in chunks, sent anew', async () => {
      await inChunks(lua);
      const { document, options } = sent(cut(CHUNKED.replace('chunked', 'other'), 8000));
      await corrupt(commit('x', document, options), 1);
    });

    it('leaves an expired one among them as any expired one is left', async () => {
      for (const id of ['before', 'x']) {
        await lua.commit(id, '"old"', { ttl: 60_000 });
        await lua.makeExpired(id);
      }
      const members = [commit('before', '1'), commit('x', '1'), ...others];
      const before = await lua.snapshot();
      expect(await transact(lua, members, { prelude: lying(lua) })).to.deep.equal(['REFUSED', 2, 'WRITE_CORRUPT', 0]);
      const after = await lua.snapshot();
      for (const { id } of others) expect(after[lua.of(id).context], id).to.deep.equal(before[lua.of(id).context]);
      for (const id of ['before', 'x']) {
        expect(await lua.redis.exists(lua.of(id).context)).to.equal(0);
        expect((await lua.log(id)).map(({ entry, kind }) => `${entry} ${kind}`)).to.deep.equal(['1-0 full', '1-1 expired']);
      }
      await exactAccounts(lua.redis, lua.keys.namespace);
    });
  });

  it('fails with nothing written where the log of any member cannot be written', async () => {
    await lua.redis.set(lua.of('x').log, 'not a stream');
    for (const member of [commit('x', '1'), remove('x')]) {
      for (const place of places()) {
        const before = await lua.snapshot();
        await lua.published();
        const failure = await transact(lua, among(member, place)).catch((error: unknown) => String(error));
        expect(failure).to.match(/WRONGTYPE/);
        expect(await lua.snapshot()).to.deep.equal(before);
        expect(await lua.published()).to.deep.equal([]);
      }
    }
    await rest();
  });

  it('deletes what is damaged where no version is asked for, with all others', async () => {
    await unsealed(lua);
    await lua.commit('y', '"one"');
    await damageDocument(lua, 'y');
    const reply = await transact(lua, [remove('x'), ...others, remove('y', { ifVersion: 1 })]);
    expect([reply[0], ...reply.slice(2, 4), ...reply.slice(-5, -3)]).to.deep.equal(['DONE', 2, 'deleted', 2, 'deleted']);
    await exactAccounts(lua.redis, lua.keys.namespace);
  });

  it('is GARBLED, whatever the list of its members has become', async () => {
    const real = lua.runRaw.bind(lua);
    const calls: Parameters<typeof lua.runRaw>[] = [];
    lua.runRaw = async (...request) => {
      calls.push(request);
      throw new Error('not sent');
    };
    await transact(lua, others).catch(() => {});
    lua.runRaw = real;
    const [, keys, [list, ...args]] = calls[0] as Parameters<typeof lua.runRaw>;
    const before = await lua.snapshot();
    const lists = [...String(list)].flatMap((_, at) =>
      Array.from({ length: 7 }, (__, bit) => {
        const bytes = Buffer.from(String(list));
        bytes[at] = (bytes[at] ?? 0) ^ (1 << bit);
        return bytes;
      }),
    );
    for (const other of [
      ...lists,
      '',
      'commit',
      'commit:',
      'commit:0',
      'delete:0',
      'expect:0 expect:0',
      'commit:99999999999999999999 delete:4',
    ]) {
      const reply = (await lua.runRaw('transact', keys, [other, ...args])) as Buffer[];
      expect(String(reply[0]), String(other)).to.equal('GARBLED');
    }
    expect(await lua.snapshot()).to.deep.equal(before);
  });
});
