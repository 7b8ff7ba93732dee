import { expect } from 'chai';
import { crc32Hex, sha1Hex } from '../../src/core/checksum.js';
import { type CommitOptions, LuaNamespace, type Reply } from '../helpers/lua.js';
import { patchFrom } from './commitFrame.js';

/** Shadows `redis` for the script: from its own write of the document on, reading it back gives other bytes. */
const DAMAGED_READ_BACK = `
local real, damaged = redis, false
local redis = setmetatable({
  call = function(...)
    local command, _, field = ...
    local reply = real.call(...)
    if command == 'HSET' and field == 'data' then
      damaged = not damaged
    elseif command == 'HGET' and field == 'data' and damaged then
      return 'X' .. string.sub(reply, 2)
    end
    return reply
  end,
}, { __index = real })
`;

describe('refusals of lua/commit.lua', () => {
  let lua: LuaNamespace;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
  });
  afterEach(() => lua.close());

  describe('CONFLICT', () => {
    beforeEach(() => lua.commit('a', '"one"'));

    it('by version, with the current one', async () => {
      for (const ifVersion of [0, 2, 7]) {
        const reply = await lua.refused(() => lua.commit('a', '"two"', { ifVersion }));
        expect(reply).to.deep.equal(['CONFLICT', 1, crc32Hex('"one"')]);
      }
    });

    it('by checksum: the version came back with other content', async () => {
      const reply = await lua.refused(() => lua.commit('a', '"two"', { ifVersion: 1, ifCrc: crc32Hex('"other"') }));
      expect(reply).to.deep.equal(['CONFLICT', 1, crc32Hex('"one"')]);
    });

    it('where there is nothing', async () => {
      expect(await lua.refused(() => lua.commit('b', '1', { ifVersion: 1 }))).to.deep.equal(['CONFLICT', 0, '-']);
    });

    it('with what has expired: nothing is touched, not even its leftover', async () => {
      await lua.commit('b', '1', { ttl: 60_000 });
      await lua.makeExpired('b');
      expect(await lua.refused(() => lua.commit('b', '2', { ifVersion: 1 }))).to.deep.equal(['CONFLICT', 0, '-']);
    });

    it('with what was deleted', async () => {
      await lua.delete('a');
      expect(await lua.refused(() => lua.commit('a', '2', { ifVersion: 1 }))).to.deep.equal(['CONFLICT', 0, '-']);
    });
  });

  describe('FENCED', () => {
    // as large as tokens get: microseconds
    const token = 1_795_449_849_614_123;
    beforeEach(() => lua.commit('a', '"one"', { fence: token }));

    it('for an older token', async () => {
      const reply = await lua.refused(() => lua.commit('a', '"two"', { fence: token - 1 }));
      expect(reply).to.deep.equal(['FENCED', String(token)]);
    });

    it('not for the same one or a newer one, which is remembered', async () => {
      expect((await lua.commit('a', '"two"', { fence: token }))[0]).to.equal('COMMITTED');
      expect((await lua.commit('a', '"three"', { fence: token + 1 }))[0]).to.equal('COMMITTED');
      expect((await lua.fields('a')).fence).to.equal(String(token + 1));
      expect((await lua.refused(() => lua.commit('a', '"four"', { fence: token })))[0]).to.equal('FENCED');
    });

    it('not for a commit without a lock, and the token stays', async () => {
      expect((await lua.commit('a', '"two"'))[0]).to.equal('COMMITTED');
      expect((await lua.fields('a')).fence).to.equal(String(token));
    });
  });

  describe('LOCKED', () => {
    beforeEach(() => lua.commit('a', '"one"'));
    const intend = async (deadline: number): Promise<unknown> =>
      lua.redis.hset(lua.of('a').context, 'intent', `txn-7 ${deadline} 1 0`);

    it('by the intent of a live transaction', async () => {
      const deadline = (await lua.now()) + 60_000;
      await intend(deadline);
      expect(await lua.refused(() => lua.commit('a', '"two"'))).to.deep.equal(['LOCKED', 'txn-7', deadline, 1, 0]);
    });

    it('after its deadline as well: it may have been decided to be applied', async () => {
      const deadline = (await lua.now()) - 1;
      await intend(deadline);
      expect(await lua.refused(() => lua.commit('a', '"two"'))).to.deep.equal(['LOCKED', 'txn-7', deadline, 1, 0]);
    });

    it('whatever version was expected: the intent may change it', async () => {
      await intend((await lua.now()) + 60_000);
      expect((await lua.refused(() => lua.commit('a', '"two"', { ifVersion: 7 })))[0]).to.equal('LOCKED');
    });

    it('not by one that is malformed', async () => {
      await lua.redis.hset(lua.of('a').context, 'intent', 'txn-7 soon');
      expect((await lua.commit('a', '"two"')).slice(0, 2)).to.deep.equal(['COMMITTED', 2]);
      expect((await lua.fields('a')).intent).to.equal(undefined);
    });
  });

  describe('CHECKSUM', () => {
    const document = '{"a":"é"}';
    for (const present of [false, true]) {
      describe(present ? 'over a context' : 'where there is none', () => {
        beforeEach(async () => {
          if (present) await lua.commit('a', '"one"', { ttl: 60_000 });
        });

        it('for another SHA-1, with what arrived', async () => {
          const reply = await lua.refused(() => lua.commit('a', document, { claims: { sha: sha1Hex('{"a":"e"}') } }));
          expect(reply).to.deep.equal(['CHECKSUM', sha1Hex(document), 10]);
        });

        it('for another length', async () => {
          const reply = await lua.refused(() => lua.commit('a', document, { claims: { length: 9 } }));
          expect(reply).to.deep.equal(['CHECKSUM', sha1Hex(document), 10]);
        });
      });
    }

    it('leaves the leftover of an expired context alone', async () => {
      await lua.commit('a', '"one"', { ttl: 60_000 });
      await lua.makeExpired('a');
      expect((await lua.refused(() => lua.commit('a', '2', { claims: { length: 2 } })))[0]).to.equal('CHECKSUM');
    });
  });

  describe('WRITE_CORRUPT', () => {
    const corrupt = (document: string, more: CommitOptions = {}): Promise<Reply> =>
      lua.commit('a', document, { prelude: DAMAGED_READ_BACK, ...more });

    it('leaves the old bytes, log and accounts', async () => {
      await lua.commit('a', '"one"', { ttl: 60_000 });
      await lua.commit('a', '"two"', { ttl: 'keep' });
      const patch = patchFrom(2, '"two"', '[]');
      const reply = await lua.refused(() => corrupt('"three"', { ttl: 'none', fence: 9, patch }));
      expect(reply).to.deep.equal(['WRITE_CORRUPT', 2]);
    });

    it('leaves nothing where there was nothing', async () => {
      expect(await lua.refused(() => corrupt('"one"'))).to.deep.equal(['WRITE_CORRUPT', 0]);
      expect(await lua.snapshot()).to.deep.equal({});
    });

    for (const size of [500, 5000]) {
      it(`leaves a document of ${size} bytes with its log as it is, also one that is about to be cut`, async () => {
        const log = { logKeep: 1, keyframe: 2, ttl: 60_000, fence: 3 };
        const lengths: number[] = [];
        for (let n = 1; n <= 30; n += 1) {
          await lua.commit('a', `${n}`.padEnd(size), log);
          lengths.push((await lua.log('a')).length);
          const reply = await lua.refused(() => corrupt(`${n}!`.padEnd(size), log));
          expect(reply).to.deep.equal(['WRITE_CORRUPT', n]);
        }
        expect(lengths.at(-1), 'entries at the end: it was cut').to.be.lessThan(30);
      });
    }

    it('leaves a small document where a large one was to come, and the other way round', async () => {
      await lua.commit('a', '"small"', { ttl: 60_000, fence: 3 });
      expect((await lua.refused(() => corrupt('x'.repeat(50_000))))[0]).to.equal('WRITE_CORRUPT');
      await lua.commit('a', 'x'.repeat(50_000));
      expect((await lua.refused(() => corrupt('"small"')))[0]).to.equal('WRITE_CORRUPT');
    });

    it('does not stand in the way of the next commit', async () => {
      await lua.commit('a', '"one"');
      await corrupt('"two"');
      const reply = await lua.commit('a', '"two"');
      expect(reply.slice(0, 2)).to.deep.equal(['COMMITTED', 2]);
      expect((await lua.log('a')).map(({ entry }) => entry)).to.deep.equal(['1-0', '2-0']);
      expect(await lua.accounts()).to.deep.include({ bytes: Number(reply[6]), contexts: 1 });
    });

    it('does not stand in the way of the first commit', async () => {
      await corrupt('"one"');
      expect((await lua.commit('a', '"one"')).slice(0, 2)).to.deep.equal(['COMMITTED', 1]);
    });

    it('over an expired context leaves that as any expired one is left', async () => {
      await lua.commit('a', '"one"', { ttl: 60_000 });
      await lua.makeExpired('a');
      await lua.published();
      expect(await corrupt('"two"')).to.deep.equal(['WRITE_CORRUPT', 0]);
      expect((await lua.log('a')).map(({ entry }) => entry)).to.deep.equal(['1-0', '1-1']);
      expect((await lua.published()).map(({ text }) => text.split(' ').slice(0, 5).join(' '))).to.deep.equal([
        'lc2 expired - 0 1',
      ]);
      expect(await lua.accounts()).to.deep.include({ bytes: 0, contexts: 0 });
      expect(await lua.redis.exists(lua.of('a').context, lua.shard.exp, lua.shard.use, lua.shard.size)).to.equal(0);
    });
  });

  it('fails with nothing written where the log cannot be written', async () => {
    for (const id of ['there', 'new']) {
      if (id === 'there') await lua.commit(id, '"one"');
      await lua.redis.del(lua.of(id).log);
      await lua.redis.set(lua.of(id).log, 'not a stream');
      const before = await lua.snapshot();
      await lua.published();
      const failure = await lua.commit(id, '"two"').catch((error: unknown) => String(error));
      expect(failure).to.match(/WRONGTYPE/);
      expect(await lua.snapshot()).to.deep.equal(before);
      expect(await lua.published()).to.deep.equal([]);
    }
  });
});
