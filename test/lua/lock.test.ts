import { expect } from 'chai';
import fc from 'fast-check';
import { breakLock, extend, granted, lock, unlock } from '../helpers/locks.js';
import { LuaNamespace } from '../helpers/lua.js';

describe('lua/lock.lua, extend.lua, unlock.lua, break.lua', () => {
  let lua: LuaNamespace;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
  });
  afterEach(() => lua.close());

  const book = (id = 'a'): Promise<Record<string, string>> => lua.redis.hgetall(lua.keys.lockBookOf(id));
  const woken = async (): Promise<string[]> =>
    (await lua.published()).map(({ channel, text }) => `${channel.slice(lua.shard.tag.length)} ${text}`);

  describe('a lock that is free', () => {
    it('is GRANTED, with fields that a person can read, and goes by itself a minute after it has ended', async () => {
      const before = await lua.now();
      const [status, token, until, now] = await lock(lua, 'a', 'one', { instance: 'host-1', ttl: 5_000 });
      const after = await lua.now();
      expect(status).to.equal('GRANTED');
      expect(Number(now)).to.be.within(before, after);
      expect(until).to.equal(Number(now) + 5_000);
      expect(Number(token)).to.be.within(before * 1000, (after + 1) * 1000);
      expect(await book()).to.deep.equal({ fence: token, [`h:${token}`]: `w ${until} ${now} host-1 one` });
      expect(await lua.nativeExpiry(lua.keys.lockBookOf('a'))).to.equal(Number(until) + 60_000);
      expect(await lua.redis.hget(lua.shard.mem, 'fence')).to.equal(token);
    });

    it('answers the same token when it is asked again, and renews its time', async () => {
      const first = await lock(lua, 'a', 'one', { ttl: 5_000 });
      const again = await lua.when(Number(first[3]) + 3_000, () => lock(lua, 'a', 'one', { ttl: 5_000 }));
      expect(again).to.deep.equal(['GRANTED', first[1], Number(first[2]) + 3_000, Number(first[3]) + 3_000, '-']);
      const shorter = await lua.when(Number(first[3]) + 3_001, () => lock(lua, 'a', 'one', { ttl: 100 }));
      expect(shorter[2]).to.equal(again[2]);
    });

    it('tells of a transaction that is not settled', async () => {
      await lua.commit('a', '1');
      await lua.redis.hset(lua.of('a').context, 'intent', 'txn-7 123 1 0');
      expect((await lock(lua, 'a', 'one', { ttl: 5_000 }))[4]).to.equal('txn-7 123 1 0');
    });

    it('is refused when the attempt comes too late', async () => {
      const now = await lua.now();
      expect((await lua.refused(() => lock(lua, 'a', 'one', { till: now - 1 })))[0]).to.equal('LATE');
    });
  });

  describe('a token', () => {
    it('is above the last of the shard, of the context, of its book and of the caller, and above the clock in microseconds', async () => {
      const ahead = ((await lua.now()) + 60_000) * 1000;
      await lua.redis.hset(lua.shard.mem, 'fence', String(ahead));
      expect(granted(await lock(lua, 'a', '1'))).to.equal(ahead + 1);
      await lua.redis.hset(lua.of('b').context, 'fence', String(ahead + 500));
      expect(granted(await lock(lua, 'b', '1'))).to.equal(ahead + 501);
      await lua.redis.hset(lua.keys.lockBookOf('c'), 'fence', String(ahead + 900));
      expect(granted(await lock(lua, 'c', '1'))).to.equal(ahead + 901);
      expect(granted(await lock(lua, 'd', '1', { floor: ahead + 2_000 }))).to.equal(ahead + 2_001);
      expect(granted(await lock(lua, 'e', '1'))).to.equal(ahead + 2_002);
      expect(await lua.redis.hget(lua.shard.mem, 'fence')).to.equal(String(ahead + 2_002));
    });

    it('rises when the counter was lost, and when the context was deleted and made again', async () => {
      const tokens: number[] = [];
      for (const lose of [
        async () => {},
        async () => void (await lua.redis.hdel(lua.shard.mem, 'fence')),
        async () => void (await lua.redis.del(lua.keys.lockBookOf('a'), lua.shard.mem)),
        async () => void (await lua.delete('a')),
        async () => void (await lua.commit('a', '2')),
      ]) {
        await lose();
        const token = granted(await lock(lua, 'a', 'x'));
        await lua.commit('a', '1', { fence: token, unheld: true });
        await unlock(lua, 'a', 'x');
        tokens.push(token);
      }
      expect(tokens).to.deep.equal([...new Set(tokens)].sort((a, b) => a - b));
      expect(tokens.every(Number.isSafeInteger)).to.equal(true);
    });
  });

  describe('a lock that somebody holds', () => {
    it('gives a place to who waits, and says who holds it, since when, and when that can end', async () => {
      const at = await lua.now();
      const token = await lua.when(at, async () => granted(await lock(lua, 'a', 'one', { instance: 'host-1', ttl: 5_000 })));
      const second = await lua.when(at + 1_000, () => lock(lua, 'a', 'two', { lease: 2_000 }));
      expect(second).to.deep.equal(['WAITING', 1, 1, 666, at + 1_000, 1, 'w', String(token), at, 'host-1']);
      const third = await lua.when(at + 1_000, () => lock(lua, 'a', 'three', { lease: 20_000 }));
      expect(third.slice(0, 4)).to.deep.equal(['WAITING', 2, 2, 4_000]);
      // renewed, at the same place
      const renewed = await lua.when(at + 2_000, () => lock(lua, 'a', 'two', { lease: 2_000 }));
      expect(renewed.slice(0, 4)).to.deep.equal(['WAITING', 1, 2, 666]);
      expect((await book())['q:1']).to.equal(`w ${at + 4_000} ${at + 1_000} tester two`);
    });

    it('those behind many others have a longer lease, and look for the end of nobody', async () => {
      const at = await lua.now();
      await lua.when(at, () => lock(lua, 'a', 'one', { ttl: 500 }));
      const waits = await lua.when(at, async () => {
        const replies = [];
        for (let place = 1; place <= 150; place += 1) replies.push(await lock(lua, 'a', `w${place}`, { lease: 3_000 }));
        return replies;
      });
      const fields = await book();
      // until when it is kept, and after how long it is to be renewed
      const seen = [1, 32, 48, 64, 128, 150].map((place) => [
        Number(fields[`q:${place}`]?.split(' ')[1]) - at,
        waits[place - 1]?.[3],
      ]);
      expect(seen).to.deep.equal([
        [3_000, 500],
        [3_000, 500],
        [4_500, 1_500],
        [6_000, 2_000],
        [12_000, 4_000],
        [12_000, 4_000],
      ]);
    });

    it('is HELD for who does not wait, and nothing is left of that', async () => {
      await lock(lua, 'a', 'one');
      const before = await book();
      const reply = await lock(lua, 'a', 'two', { lease: 0 });
      expect(reply.slice(0, 3)).to.deep.equal(['HELD', 1, 0]);
      expect(await book()).to.deep.equal(before);
    });

    it('is FULL for more than may hold it or wait', async () => {
      for (const owner of ['1', '2', '3']) await lock(lua, 'a', owner, { most: 3 });
      expect(await lock(lua, 'a', '4', { most: 3 })).to.deep.equal(['FULL', 3]);
      // who has a place keeps it
      expect((await lock(lua, 'a', '3', { most: 3 }))[0]).to.equal('WAITING');
    });

    it('passes to the first waiter, which is told, and to nobody who comes later', async () => {
      await lock(lua, 'a', 'one');
      await lock(lua, 'a', 'two', { instance: 'host-2' });
      await lock(lua, 'a', 'three', { instance: 'host-3' });
      expect(await woken()).to.deep.equal([]);
      expect((await unlock(lua, 'a', 'one'))[0]).to.equal('RELEASED');
      expect(await woken()).to.deep.equal([':wake:host-2 two']);
      expect((await lock(lua, 'a', 'three'))[0]).to.equal('WAITING');
      expect((await lock(lua, 'a', 'new', { lease: 0 }))[0]).to.equal('HELD');
      granted(await lock(lua, 'a', 'two'));
      await unlock(lua, 'a', 'two');
      expect(await woken()).to.deep.equal([':wake:host-3 three']);
    });

    it('passes on when its time is over, and the next is told by whoever comes', async () => {
      const at = await lua.now();
      await lua.when(at, () => lock(lua, 'a', 'one', { ttl: 1_000 }));
      await lua.when(at, () => lock(lua, 'a', 'two', { lease: 5_000, instance: 'host-2' }));
      await lua.when(at + 999, async () => expect((await lock(lua, 'a', 'three'))[0]).to.equal('WAITING'));
      expect(await woken()).to.deep.equal([]);
      await lua.when(at + 1_000, async () => expect((await lock(lua, 'a', 'three'))[0]).to.equal('WAITING'));
      expect(await woken()).to.deep.equal([':wake:host-2 two']);
    });

    it('passes over a waiter whose lease is over', async () => {
      const at = await lua.now();
      await lua.when(at, () => lock(lua, 'a', 'one'));
      await lua.when(at, () => lock(lua, 'a', 'dead', { lease: 1_000 }));
      await lua.when(at, () => lock(lua, 'a', 'three', { lease: 3_000, instance: 'host-3' }));
      await lua.when(at + 500, () => unlock(lua, 'a', 'one'));
      await lua.when(at + 500, async () => expect((await lock(lua, 'a', 'three'))[0]).to.equal('WAITING'));
      await lua.when(at + 1_000, async () => granted(await lock(lua, 'a', 'three')));
    });
  });

  describe('readers and writers', () => {
    it('readers share, a writer is alone', async () => {
      const tokens = [granted(await lock(lua, 'a', 'r1', { mode: 'r' })), granted(await lock(lua, 'a', 'r2', { mode: 'r' }))];
      expect(tokens[1]).to.be.above(tokens[0] as number);
      expect((await lock(lua, 'a', 'w1'))[0]).to.equal('WAITING');
      // a reader that comes after a writer waits for it: writers do not starve
      expect((await lock(lua, 'a', 'r3', { mode: 'r' }))[0]).to.equal('WAITING');
      await unlock(lua, 'a', 'r1');
      expect((await lock(lua, 'a', 'w1'))[0]).to.equal('WAITING');
      await unlock(lua, 'a', 'r2');
      granted(await lock(lua, 'a', 'w1'));
      expect((await lock(lua, 'a', 'r3', { mode: 'r' }))[0]).to.equal('WAITING');
    });

    it('readers behind one another are told together, up to the next writer', async () => {
      await lock(lua, 'a', 'w1');
      for (const owner of ['r1', 'r2']) await lock(lua, 'a', owner, { mode: 'r', instance: owner });
      await lock(lua, 'a', 'w2', { instance: 'w2' });
      await lock(lua, 'a', 'r3', { mode: 'r', instance: 'r3' });
      await woken();
      await unlock(lua, 'a', 'w1');
      expect(await woken()).to.deep.equal([':wake:r1 r1', ':wake:r2 r2']);
      // the second may be faster than the first
      granted(await lock(lua, 'a', 'r2', { mode: 'r' }));
      granted(await lock(lua, 'a', 'r1', { mode: 'r' }));
    });

    it('a writer that gives up lets the readers behind it in', async () => {
      await lock(lua, 'a', 'r1', { mode: 'r' });
      await lock(lua, 'a', 'w1');
      await lock(lua, 'a', 'r2', { mode: 'r', instance: 'r2' });
      await woken();
      expect(await unlock(lua, 'a', 'w1')).to.deep.equal(['LEFT', '1']);
      expect(await woken()).to.deep.equal([':wake:r2 r2']);
      granted(await lock(lua, 'a', 'r2', { mode: 'r' }));
    });
  });

  describe('extend', () => {
    it('gives more time, never less', async () => {
      const at = await lua.now();
      const token = await lua.when(at, async () => granted(await lock(lua, 'a', 'one', { ttl: 5_000 })));
      expect(await lua.when(at + 1_000, () => extend(lua, 'a', 'one', token, 5_000))).to.deep.equal([
        'EXTENDED',
        at + 6_000,
        at + 1_000,
      ]);
      expect((await lua.when(at + 1_001, () => extend(lua, 'a', 'one', token, 100)))[1]).to.equal(at + 6_000);
      expect(await lua.nativeExpiry(lua.keys.lockBookOf('a'))).to.equal(at + 66_000);
      expect((await book())[`h:${token}`]).to.equal(`w ${at + 6_000} ${at} tester one`);
    });

    it('is LOST when its time is over, when it was broken, and for another owner', async () => {
      const at = await lua.now();
      const token = await lua.when(at, async () => granted(await lock(lua, 'a', 'one', { ttl: 1_000 })));
      const lost = (owner = 'one', when = at): Promise<unknown> =>
        lua.when(when, () => lua.refused(() => extend(lua, 'a', owner, token, 5_000)));
      expect(await lost('two')).to.deep.equal(['LOST', String(token)]);
      expect(await lost('one', at + 1_000)).to.deep.equal(['LOST', String(token)]);
      await breakLock(lua, 'a');
      expect(await lost()).to.deep.equal(['LOST', String(token)]);
    });

    it('is refused when the attempt comes too late', async () => {
      const token = granted(await lock(lua, 'a', 'one'));
      expect((await lua.refused(() => extend(lua, 'a', 'one', token, 1, 1)))[0]).to.equal('LATE');
    });
  });

  describe('unlock and break', () => {
    it('unlock is ABSENT for who neither holds nor waits, and changes nothing', async () => {
      await lock(lua, 'a', 'one');
      expect(await lua.refused(() => unlock(lua, 'a', 'two'))).to.deep.equal(['ABSENT']);
      expect(await lua.refused(() => unlock(lua, 'none', 'two'))).to.deep.equal(['ABSENT']);
    });

    it('break takes it from all that hold it and tells the next', async () => {
      const first = await lock(lua, 'a', 'r1', { mode: 'r', instance: 'host-1' });
      const second = await lock(lua, 'a', 'r2', { mode: 'r', instance: 'host-2' });
      await lock(lua, 'a', 'w1', { instance: 'host-3' });
      await woken();
      expect(await breakLock(lua, 'a')).to.deep.equal([
        ...['BROKEN', '-', 2],
        ...['r', first[1], first[3], first[2], 'host-1'],
        ...['r', second[1], second[3], second[2], 'host-2'],
      ]);
      expect(await woken()).to.deep.equal([':wake:host-3 w1']);
      granted(await lock(lua, 'a', 'w1'));
      expect(await breakLock(lua, 'none')).to.deep.equal(['BROKEN', '-', 0]);
    });

    it('break tells of a transaction that is not settled', async () => {
      await lua.commit('a', '1');
      await lua.redis.hset(lua.of('a').context, 'intent', 'txn-7 123 1 0');
      await lock(lua, 'a', 'one');
      expect((await breakLock(lua, 'a')).slice(0, 3)).to.deep.equal(['BROKEN', 'txn-7 123 1 0', 1]);
    });

    it('what is damaged in the book is taken out of it', async () => {
      await lua.redis.hset(lua.keys.lockBookOf('a'), { 'h:12': 'nonsense', 'q:x': 'w 9 9 a b', other: '1', 'h:7': 'w x y z' });
      const token = granted(await lock(lua, 'a', 'one'));
      expect(Object.keys(await book()).sort()).to.deep.equal(['fence', `h:${token}`]);
    });
  });

  describe('the fence of a commit', () => {
    const token = 1_790_000_000_000_123;
    const fence = { fence: token, unheld: true } as const;

    for (const [what, call] of [
      ['commit', () => lua.commit('a', '"two"', fence)],
      ['delete', () => lua.delete('a', fence)],
    ] as const) {
      describe(what, () => {
        beforeEach(() => lua.commit('a', '"one"'));

        it('passes for the writer that holds it', async () => {
          await lua.hold('a', token);
          expect((await call())[0]).to.be.oneOf(['COMMITTED', 'DELETED']);
        });

        it('is FENCED without a holder, for a reader, and from the millisecond on when its time is over', async () => {
          expect(await lua.refused(call)).to.deep.equal(['FENCED', '0']);
          await lua.hold('a', token, 'r');
          expect((await lua.refused(call))[0]).to.equal('FENCED');
          const at = await lua.now();
          await lua.redis.hset(lua.keys.lockBookOf('a'), `h:${token}`, `w ${at} 1 tester x`);
          await lua.when(at, async () => expect((await lua.refused(call))[0]).to.equal('FENCED'));
          await lua.when(at - 1, async () => expect((await call())[0]).to.be.oneOf(['COMMITTED', 'DELETED']));
        });

        it('is FENCED when it was broken, and when the next one holds it but has not written yet', async () => {
          await lua.hold('a', token);
          await breakLock(lua, 'a');
          expect((await lua.refused(call))[0]).to.equal('FENCED');
          const next = granted(await lock(lua, 'a', 'next'));
          expect(await lua.refused(call)).to.deep.equal(['FENCED', String(next)]);
        });

        it('is FENCED where a higher token has written, whatever the book says', async () => {
          await lua.commit('a', '"later"', { fence: token + 1 });
          await lua.hold('a', token);
          expect(await lua.refused(call)).to.deep.equal(['FENCED', String(token + 1)]);
        });

        it('does not look at the lock of another context', async () => {
          await lua.hold('b', token);
          expect((await lua.refused(call))[0]).to.equal('FENCED');
        });
      });
    }

    it('covers touch as well, which leaves the expiry then', async () => {
      await lua.commit('a', '1');
      await lua.hold('a', token);
      expect((await lua.touch('a', 60_000, { fence: token }))[0]).to.equal('TOUCHED');
      await breakLock(lua, 'a');
      for (const ttl of [1, 'none'] as const)
        expect((await lua.refused(() => lua.touch('a', ttl, { fence: token })))[0]).to.equal('FENCED');
      expect((await lua.touch('a', 30_000))[0]).to.equal('TOUCHED');
    });

    it('is answered after what became of an earlier attempt: that was applied while the lock was held', async () => {
      await lua.hold('a', token);
      await lua.commit('a', '"one"', { ...fence, op: 'op-1' });
      await breakLock(lua, 'a');
      expect((await lua.commit('a', '"one"', { ...fence, op: 'op-1' }))[0]).to.equal('APPLIED');
    });
  });

  describe('any sequence of calls', () => {
    interface Party {
      readonly owner: string;
      readonly mode: 'w' | 'r';
      until: number;
    }
    const TTL = 1_000;
    const LEASE = 600;

    it('gives it as a model of a queue of readers and writers would', async function () {
      this.timeout(60_000);
      const step = fc.record({
        do: fc.constantFrom('lock', 'lock', 'lock', 'try', 'unlock', 'extend', 'break', 'pass'),
        who: fc.integer({ min: 0, max: 5 }),
        ms: fc.integer({ min: 0, max: 400 }),
      });
      let runs = 0;
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
          const id = `m${runs++}`;
          let at = await lua.now();
          let holders: (Party & { token: number })[] = [];
          let queue: Party[] = [];
          let last = 0;
          const clean = (): void => {
            holders = holders.filter(({ until }) => until > at);
            queue = queue.filter(({ until }) => until > at);
          };
          for (const { do: what, who, ms } of steps) {
            at += what === 'pass' ? 2 * ms : 1;
            const owner = `o${who}`;
            const mode = who % 3 === 0 ? 'w' : 'r';
            clean();
            const held = holders.find((each) => each.owner === owner);
            const place = queue.findIndex((each) => each.owner === owner);
            const told = await lua.when(at, async () => {
              if (what === 'lock' || what === 'try') {
                const before = queue.slice(0, place < 0 ? queue.length : place);
                const turn = before.every((each) => each.mode === 'r') && (mode === 'r' || before.length === 0);
                const free = holders.length === 0 || (mode === 'r' && holders.every((each) => each.mode === 'r'));
                const reply = await lock(lua, id, owner, { mode, ttl: TTL, lease: what === 'try' ? 0 : LEASE });
                if (held !== undefined) {
                  held.until = Math.max(held.until, at + TTL);
                  return [`${reply[0]} ${reply[1]}`, `GRANTED ${held.token}`];
                }
                if (turn && free) {
                  const token = Number(reply[1]);
                  queue = queue.filter((each) => each.owner !== owner);
                  holders.push({ owner, mode, until: at + TTL, token });
                  const rises = token > last;
                  last = token;
                  return [`${reply[0]} ${rises}`, 'GRANTED true'];
                }
                if (place >= 0) {
                  if (what === 'lock') (queue[place] as Party).until = at + LEASE;
                  return [`${reply[0]} ${reply[1]} of ${reply[2]}`, `WAITING ${place + 1} of ${queue.length}`];
                }
                if (what === 'try')
                  return [`${reply[0]} ${reply[1]} of ${reply[2]}`, `HELD ${queue.length + 1} of ${queue.length}`];
                queue.push({ owner, mode, until: at + LEASE });
                return [`${reply[0]} ${reply[1]} of ${reply[2]}`, `WAITING ${queue.length} of ${queue.length}`];
              }
              if (what === 'unlock') {
                const reply = await unlock(lua, id, owner);
                holders = holders.filter((each) => each.owner !== owner);
                queue = queue.filter((each) => each.owner !== owner);
                return [reply[0], held ? 'RELEASED' : place >= 0 ? 'LEFT' : 'ABSENT'];
              }
              if (what === 'extend') {
                const reply = await extend(lua, id, owner, held?.token ?? 1, TTL);
                if (held !== undefined) held.until = at + TTL;
                return [reply[0], held ? 'EXTENDED' : 'LOST'];
              }
              if (what === 'break') {
                const reply = await breakLock(lua, id);
                const broken = holders.length;
                holders = [];
                return [`${reply[0]} ${reply[2]}`, `BROKEN ${broken}`];
              }
              return ['', ''];
            });
            expect(told[0], `${what} of ${owner}`).to.equal(told[1]);
          }
        }),
        { numRuns: 150 },
      );
    });

    it('tells exactly those whose turn it is, and nobody twice in vain', async () => {
      await lock(lua, 'a', 'w0');
      for (let i = 1; i <= 5; i += 1) await lock(lua, 'a', `w${i}`, { instance: `i${i}` });
      await woken();
      for (let i = 1; i <= 5; i += 1) {
        await unlock(lua, 'a', `w${i - 1}`);
        expect(await woken()).to.deep.equal([`:wake:i${i} w${i}`]);
        granted(await lock(lua, 'a', `w${i}`));
        expect(await woken()).to.deep.equal([]);
      }
    });
  });
});
