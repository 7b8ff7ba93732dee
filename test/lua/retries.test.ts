import { expect } from 'chai';
import { crc32Hex } from '../../src/core/checksum.js';
import { damageEntries, drop, quarantine, repair } from '../helpers/integrity.js';
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
      await others(512, { logKeep: 1000 });
      expect((await lua.log('a'))[0]?.op).to.equal('op');
      const reply = await lua.refused(async () => commitAgain(await late(begun)));
      expect(reply).to.deep.equal(['UNCERTAIN', 2]);
    });
  });

  describe('UNCERTAIN by a version that is missing', () => {
    /** Entries that were damaged and let go of. */
    async function lose(...ids: string[]): Promise<void> {
      await damageEntries(lua, 'a', ids);
      expect((await drop(lua, 'a', '', ids))[1]).to.equal(ids.length);
    }
    async function uncertain(begun: number, version: number): Promise<void> {
      for (const again of [commitAgain, deleteAgain])
        expect(await lua.refused(async () => again(await late(begun)))).to.deep.equal(['UNCERTAIN', version]);
    }

    it('between entries that are newer than the first attempt', async () => {
      await others(2);
      const begun = await lua.now();
      await commitAgain({});
      await others(3);
      await lose('3-0');
      await uncertain(begun, 2);
      await lose('4-0');
      await uncertain(begun, 2);
    });

    it('at the beginning of the log', async () => {
      const begun = await lua.now();
      await commitAgain({});
      await others(3);
      await lose('1-0');
      await uncertain(begun, 2);
    });

    it('or by an entry that is there, but damaged, and cannot tell whose it is', async () => {
      await others(1);
      const begun = await lua.now();
      await commitAgain({});
      await others(2);
      await damageEntries(lua, 'a', ['2-0'], 'op');
      await uncertain(begun, 3);
    });

    it('not where what is damaged is older than the first attempt', async () => {
      await others(3);
      await damageEntries(lua, 'a', ['2-0'], 'op');
      // a version of a later millisecond: what is as old as the attempt might be its own
      await lua.passed((await lua.now()) + 1);
      const begun = await lua.now();
      await others(1);
      expect((await lua.refused(async () => commitAgain({ ...(await late(begun)), till: 1 })))[0]).to.equal('LATE');
    });

    it('of which the nearest is named', async () => {
      const begun = await lua.now();
      await others(7);
      await lose('2-0', '5-0');
      await uncertain(begun, 4);
    });

    it('not where what is missing is older than the first attempt', async () => {
      await others(2);
      await lose('1-0');
      await others(2);
      await lose('3-0');
      const at = Number((await lua.log('a')).at(-1)?.at);
      await lua.passed(at);
      expect((await commitAgain(await late(at + 1))).slice(0, 2)).to.deep.equal(['COMMITTED', 5]);
    });

    it('from the very ms of the first attempt on', async () => {
      await others(3);
      await lose('2-0');
      const at = Number((await lua.log('a')).at(-1)?.at);
      await uncertain(at, 1);
      await lua.passed(at + 1);
      expect((await commitAgain(await late(at + 1)))[0]).to.equal('COMMITTED');
    });

    it('not where the operation itself is there still, behind or before it', async () => {
      const begun = await lua.now();
      await others(1);
      const first = await commitAgain({});
      await others(4);
      await lose('1-0', '4-0');
      // what is newer than it is looked at first
      expect((await lua.refused(async () => commitAgain(await late(begun))))[0]).to.equal('UNCERTAIN');
      await lua.redis.del(lua.of('a').context, lua.of('a').log);
      await others(1);
      const second = await commitAgain({});
      await others(1);
      await lose('1-0');
      expect(await lua.refused(async () => commitAgain(await late(begun)))).to.deep.equal([
        ...['APPLIED', 2, second[2], crc32Hex(DOCUMENT)],
      ]);
      expect(first[1]).to.equal(2);
    });

    it('not by entries beside a version: of a repair, of an expiry', async () => {
      const begun = await lua.now();
      await lua.commit('a', '"one"', { ttl: 60_000 });
      await repair(lua, 'a', '"one"', { version: 1 });
      await lua.commit('a', '"two"', { ttl: 60_000 });
      await lua.makeExpired('a');
      await others(1);
      await lua.delete('a');
      await others(1);
      expect((await lua.log('a')).map(({ entry }) => entry)).to.deep.equal(['1-0', '1-1', '2-0', '2-1', '3-0', '4-0', '5-0']);
      expect((await commitAgain(await late(begun))).slice(0, 2)).to.deep.equal(['COMMITTED', 6]);
    });

    it('of a repair at a version that the log had not: those between may have been anything', async () => {
      await others(1);
      const begun = await lua.now();
      await repair(lua, 'a', '"five"', { version: 5 });
      await uncertain(begun, 1);
    });

    it('at the end of the log, where the context does not tell whose it was', async () => {
      await others(1);
      const begun = await lua.now();
      await commitAgain({});
      await lua.delete('a');
      await lose('2-0', '3-0');
      await uncertain(begun, 1);
    });

    it('at the end of the log of one in quarantine', async () => {
      await others(1);
      const begun = await lua.now();
      await commitAgain({});
      await lose('2-0');
      await lua.redis.hset(lua.of('a').context, 'data', '?');
      expect((await quarantine(lua, 'a', 'put', { version: 2 }))[0]).to.equal('QUARANTINED');
      await uncertain(begun, 1);
    });

    it('of a log that has lost all its entries', async () => {
      const begun = await lua.now();
      await commitAgain({});
      await others(1);
      await lose('1-0', '2-0');
      await uncertain(begun, 2);
    });

    it('not at the end of the log, where the context tells whose it was', async () => {
      const begun = await lua.now();
      await others(2);
      await lose('2-0');
      expect((await commitAgain(await late(begun))).slice(0, 2)).to.deep.equal(['COMMITTED', 3]);
      await lua.redis.del(lua.of('a').context, lua.of('a').log);
      await others(1);
      await lose('1-0');
      expect((await commitAgain(await late(begun))).slice(0, 2)).to.deep.equal(['COMMITTED', 2]);
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
