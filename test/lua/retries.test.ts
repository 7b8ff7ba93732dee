import { expect } from 'chai';
import { crc32Hex } from '../../src/core/checksum.js';
import { type Attempt, LuaNamespace, type Reply } from '../helpers/lua.js';

/** What becomes of an operation that is sent again, of `lua/include/retry.lua` and the scripts that include it. */
describe('lua/include/retry.lua', () => {
  let lua: LuaNamespace;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
  });
  afterEach(() => lua.close());

  const DOCUMENT = '{"written":"by this operation"}';
  const commitAgain = (attempt: Attempt): Promise<Reply> => lua.commit('a', DOCUMENT, { op: 'op', ttl: 60_000, ...attempt });
  const deleteAgain = (attempt: Attempt): Promise<Reply> => lua.delete('a', { op: 'op', ...attempt });
  const others = async (count: number, log: { logKeep?: number; logBytes?: number } = {}): Promise<void> => {
    for (let n = 1; n <= count; n += 1) await lua.commit('a', `"other ${n}"`, log);
  };
  /** An attempt after one that was sent at `firstSent` and cannot be executed any more. */
  const late = async (firstSent: number): Promise<Attempt> => ({ firstSent, previousTill: (await lua.now()) - 1 });

  describe('APPLIED', () => {
    it('for the last commit, before anything else is looked at', async () => {
      const first = await commitAgain({});
      const answer = ['APPLIED', 1, first[2], crc32Hex(DOCUMENT)];
      expect(await lua.refused(() => commitAgain({}))).to.deep.equal(answer);
      // its version has moved on, its attempt is late, its bytes are damaged: it is done all the same
      expect(await lua.refused(() => lua.commit('a', DOCUMENT, { op: 'op', ifVersion: 0 }))).to.deep.equal(answer);
      expect(await lua.refused(() => commitAgain({ till: 1, previousTill: 1, firstSent: 1 }))).to.deep.equal(answer);
      expect(await lua.refused(() => lua.commit('a', DOCUMENT, { op: 'op', claims: { length: 1 } }))).to.deep.equal(answer);
    });

    it('for a commit deeper in the log', async () => {
      const begun = await lua.now();
      await others(2);
      const first = await commitAgain({});
      await others(5);
      const reply = await lua.refused(async () => commitAgain(await late(begun)));
      expect(reply).to.deep.equal(['APPLIED', 3, first[2], crc32Hex(DOCUMENT)]);
    });

    it('for a commit whose context was deleted since', async () => {
      const first = await commitAgain({});
      await lua.delete('a');
      const reply = await lua.refused(async () => commitAgain(await late(Number(first[2]))));
      expect(reply).to.deep.equal(['APPLIED', 1, first[2], crc32Hex(DOCUMENT)]);
    });

    it('for a commit whose context has expired since', async () => {
      const first = await commitAgain({});
      await lua.makeExpired('a');
      expect(await lua.refused(() => commitAgain({}))).to.deep.equal(['APPLIED', 1, first[2], crc32Hex(DOCUMENT)]);
      await lua.expire();
      const reply = await lua.refused(async () => commitAgain(await late(Number(first[2]))));
      expect(reply).to.deep.equal(['APPLIED', 1, first[2], crc32Hex(DOCUMENT)]);
    });

    it('at once, although the earlier attempt may still arrive: it was the one', async () => {
      const first = await commitAgain({});
      await others(1);
      const previousTill = (await lua.now()) + 60_000;
      const reply = await lua.refused(() => commitAgain({ previousTill, firstSent: Number(first[2]) }));
      expect(reply.slice(0, 2)).to.deep.equal(['APPLIED', 1]);
    });

    it('for a delete', async () => {
      await others(2);
      const first = await deleteAgain({});
      const answer = ['APPLIED', 3, first[2], '-'];
      expect(await lua.refused(async () => deleteAgain(await late(Number(first[2]))))).to.deep.equal(answer);
      await others(1);
      expect(await lua.refused(async () => deleteAgain(await late(Number(first[2]))))).to.deep.equal(answer);
    });

    it('up to the entry that a trimmed log still has', async () => {
      await others(3);
      const first = await commitAgain({});
      await others(5);
      await lua.redis.xtrim(lua.of('a').log, 'MAXLEN', 6);
      expect((await lua.log('a'))[0]?.op).to.equal('op');
      const reply = await lua.refused(async () => commitAgain(await late(Number(first[2]))));
      expect(reply.slice(0, 2)).to.deep.equal(['APPLIED', 4]);
    });
  });

  describe('UNCERTAIN', () => {
    it('where the log was trimmed past the first attempt', async () => {
      const begun = await lua.now();
      await commitAgain({});
      await others(2, { logBytes: 1 });
      for (const again of [commitAgain, deleteAgain]) {
        const reply = await lua.refused(async () => again(await late(begun)));
        expect(reply).to.deep.equal(['UNCERTAIN', 3]);
      }
    });

    it('not where the log reaches back to a time before it', async () => {
      await others(8, { logBytes: 1 });
      const oldest = Number((await lua.log('a'))[0]?.at);
      const reply = await commitAgain(await late(oldest + 1));
      expect(reply.slice(0, 2)).to.deep.equal(['COMMITTED', 9]);
    });

    it('not where the log begins with the first version', async () => {
      const begun = await lua.now();
      await others(3);
      expect((await commitAgain(await late(begun)))[0]).to.equal('COMMITTED');
    });

    it('where more commits came since than are looked through', async function () {
      this.timeout(30_000);
      const begun = await lua.now();
      await commitAgain({});
      await others(256, { logKeep: 1000 });
      expect((await lua.log('a'))[0]?.op).to.equal('op');
      const reply = await lua.refused(async () => commitAgain(await late(begun)));
      expect(reply).to.deep.equal(['UNCERTAIN', 2]);
    });
  });

  describe('PENDING', () => {
    for (const [name, again, status] of [
      ['a commit', commitAgain, 'COMMITTED'],
      ['a delete', deleteAgain, 'DELETED'],
    ] as const) {
      it(`until the earlier attempt of ${name} can no longer be executed, then it is done`, async () => {
        await others(1);
        let firstSent = 0;
        let previousTill = 0;
        const reply = await lua.refused(async () => {
          firstSent = await lua.now();
          previousTill = firstSent + 250;
          return again({ previousTill, firstSent });
        });
        expect(reply[0]).to.equal('PENDING');
        expect(reply[1]).to.be.within(1, 251);
        await lua.passed(previousTill);
        expect((await again({ previousTill, firstSent })).slice(0, 2)).to.deep.equal([status, 2]);
      });
    }

    it('where there is nothing yet, too', async () => {
      const firstSent = await lua.now();
      const reply = await lua.refused(() => commitAgain({ previousTill: firstSent + 60_000, firstSent }));
      expect(reply[0]).to.equal('PENDING');
      expect(reply[1]).to.be.within(59_000, 60_001);
    });
  });

  describe('LATE', () => {
    for (const [name, again] of [
      ['commit', commitAgain],
      ['delete', deleteAgain],
    ] as const) {
      it(`for a ${name} whose time has passed`, async () => {
        await others(1);
        const till = (await lua.now()) - 1;
        const reply = await lua.refused(() => again({ till }));
        expect(reply[0]).to.equal('LATE');
        expect(reply[1]).to.be.within(till + 1, await lua.now());
      });

      it(`for the repetition of a ${name} whose time has passed`, async () => {
        await others(1);
        const now = await lua.now();
        const reply = await lua.refused(() => again({ till: now - 1, previousTill: now - 2, firstSent: now - 3 }));
        expect(reply[0]).to.equal('LATE');
      });
    }

    it('before any other refusal: it is not an answer of its time', async () => {
      await others(1);
      expect((await lua.refused(() => lua.commit('a', '1', { till: 1, ifVersion: 7 })))[0]).to.equal('LATE');
      expect((await lua.refused(() => lua.delete('a', { till: 1, ifVersion: 7 })))[0]).to.equal('LATE');
    });
  });
});
