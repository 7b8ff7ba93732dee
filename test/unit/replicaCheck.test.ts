/** The check of values in memory: which replica is looked at when, and what happens to one that is not what its checksum says. */
import { expect } from 'chai';
import { crc32Hex } from '../../src/core/checksum.js';
import { type JsonValue, parseFrozen } from '../../src/core/json.js';
import { RedisClock } from '../../src/core/RedisClock.js';
import type { ContextCommands } from '../../src/redis/ContextCommands.js';
import { Keys } from '../../src/redis/keys.js';
import type { Subscriptions } from '../../src/redis/Subscriptions.js';
import type { ContextReader, Corruption } from '../../src/replica/ContextReader.js';
import { Replica } from '../../src/replica/Replica.js';
import { ReplicaCheck } from '../../src/replica/ReplicaCheck.js';
import { ReplicaSet } from '../../src/replica/ReplicaSet.js';
import type { Resync } from '../../src/replica/ReplicaSync.js';
import type { ReplicaState } from '../../src/replica/state.js';
import { waitFor } from '../helpers/waitFor.js';

const stateOf = (version: number, value: JsonValue, text = JSON.stringify(value)): ReplicaState => ({
  ...{ version, crc: crc32Hex(text), value: parseFrozen(JSON.stringify(value)), bytes: text.length, at: 1_000, expiresAt: null },
});
/** What memory makes of it: everything is right but the value. */
const damaged = (state: ReplicaState, value: JsonValue): ReplicaState => ({
  ...state,
  value: parseFrozen(JSON.stringify(value)),
});

describe('ReplicaCheck', () => {
  const MIB = 1024 * 1024;
  let time = 0;
  /** Every look at the clock takes this long, ms. */
  let slow = 0;
  const now = (): number => {
    time += slow;
    return time;
  };
  beforeEach('set the clock', () => {
    time = 1_000;
    slow = 0;
  });
  const live = (id: string, state: ReplicaState): Replica => Object.assign(new Replica(id, state), { live: true });

  it('looks at one at a time, in turns, and finds what is another value', () => {
    const bad = live('b', damaged(stateOf(1, { n: 1 }), { n: 2 }));
    const all = [live('a', stateOf(1, { n: 1 })), bad, live('c', stateOf(1, 'x'))];
    const check = new ReplicaCheck(now);
    const found = Array.from({ length: 6 }, () => check.next(all)?.replica.id ?? null);
    expect(found).to.deep.equal([null, 'b', null, null, 'b', null]);
    expect(check.next(all)).to.equal(null);
    expect(check.next(all)).to.deep.equal({ replica: bad, expected: crc32Hex('{"n":1}'), found: crc32Hex('{"n":2}') });
    expect(check.counters.checked).to.equal(8);
  });

  it('passes over what is silent or has no document, and does nothing where there is none', () => {
    const silent = new Replica('a', damaged(stateOf(1, 1), 2));
    const gone = live('b', { ...stateOf(1, 1), value: undefined });
    const check = new ReplicaCheck(now);
    expect(check.next([silent, gone])).to.equal(null);
    expect(check.next([])).to.equal(null);
    expect(check.counters.checked).to.equal(0);
  });

  it('takes a hundredth of the time at most', () => {
    const all = [live('a', stateOf(1, 1))];
    const check = new ReplicaCheck(now);
    slow = 5;
    for (let beat = 0; beat < 10_000; beat += 1) {
      time += 10;
      check.next(all);
    }
    expect(5 * check.counters.checked).to.be.within(0.005 * time, 0.01 * time);
  });

  it('looks at a large one once a minute, and at others meanwhile', () => {
    const large = { ...stateOf(1, { n: 1 }), bytes: MIB };
    const all = [live('a', damaged(large, 2)), live('b', stateOf(1, 1)), live('c', damaged(large, 3))];
    const check = new ReplicaCheck(now);
    const found: (string | null)[] = [];
    for (; time < 130_000; time += 1_000) found.push(check.next(all)?.replica.id ?? null);
    expect(found.filter((id) => id !== null)).to.deep.equal(['a', 'c', 'a']);
    expect(check.counters.checked).to.equal(129);
  });
});

describe('a replica whose value is not what its checksum says', () => {
  /** A set of replicas, on a Redis that is one state and can be away. */
  function setUp(stored: ReplicaState) {
    const corruptions: Corruption[] = [];
    const resyncs: Resync[] = [];
    const redis = { stored, reads: 0, away: false };
    const facts = () => ({ version: redis.stored.version, crc: redis.stored.crc, expiresAt: null });
    const reader: Pick<ContextReader, 'read' | 'readState'> = {
      read: async () => redis.stored,
      readState: async () => {
        redis.reads += 1;
        if (redis.away) throw new Error('away');
        return redis.stored;
      },
    };
    const commands = {
      keys: new Keys('test', 1),
      connection: { clock: new RedisClock(), deadline: () => ({ at: 0 }) },
      versions: async () => [facts()],
      catchUp: async () => ({ facts: facts(), entries: [] }),
    };
    const subscriptions = { up: true, provenWithin: () => true, subscribe: async () => {}, unsubscribe: () => {} };
    const set = new ReplicaSet(
      commands as unknown as ContextCommands,
      subscriptions as unknown as Subscriptions,
      reader as ContextReader,
      { maxBytes: 1_000_000, leaseMs: 1_000, timeoutMs: 1_000, copyValues: false },
      { corrupt: (one) => corruptions.push(one), resync: (one) => resyncs.push(one), expired: () => {} },
    );
    return { set, redis, corruptions, resyncs };
  }
  /** A second use earns the replica. */
  async function hold(set: ReplicaSet, state: ReplicaState): Promise<void> {
    set.seen('x', state);
    set.seen('x', state);
    await waitFor(() => set.answer('x') !== undefined, { what: 'the replica to answer' });
  }
  const GOOD = stateOf(3, { n: 3 });
  const BAD = damaged(GOOD, { n: 999 });

  it('is told, and read anew; watchers are given what is right', async () => {
    const { set, corruptions, resyncs } = setUp(GOOD);
    await hold(set, BAD);
    const watcher = set.watch('x', undefined, 10, undefined);
    const change = watcher.next();
    await new Promise((resolve) => setImmediate(resolve));
    expect((await set.answer('x'))?.value).to.deep.equal({ n: 999 });
    await set.checkOne();
    expect((await set.answer('x'))?.value).to.deep.equal({ n: 3 });
    const told = {
      id: 'x',
      version: 3,
      expected: GOOD.crc,
      found: crc32Hex('{"n":999}'),
      bytes: 7,
      offset: null,
      where: 'replica',
    };
    expect(corruptions).to.deep.equal([told]);
    expect(resyncs).to.deep.equal([{ id: 'x', reason: 'checksum', from: 3, to: 3, full: true }]);
    expect(set.counters.checksumFailures).to.equal(1);
    expect((await change).value).to.deep.include({ kind: 'reset', version: 3, value: { n: 3 } });
    await set.checkOne();
    expect(corruptions).to.have.length(1);
    set.close();
  });

  it('answers nothing, and nothing builds on it, until it could be read', async () => {
    const { set, redis, corruptions } = setUp(GOOD);
    await hold(set, BAD);
    redis.away = true;
    await set.checkOne();
    // its version and checksum are right: comparing those must not bring it back
    for (let beat = 0; beat < 3; beat += 1) {
      await set.verifyAll('heartbeat');
      await new Promise((resolve) => setImmediate(resolve));
      expect([set.answer('x'), set.base('x'), set.lastKnown('x'), set.staleAnswer('x')]).to.deep.equal(Array(4).fill(undefined));
    }
    expect(corruptions).to.deep.equal([]);
    redis.away = false;
    await set.verifyAll('heartbeat');
    await waitFor(() => set.answer('x') !== undefined, { what: 'the replica to answer again' });
    expect((await set.answer('x'))?.value).to.deep.equal({ n: 3 });
    expect(corruptions).to.have.length(1);
  });

  it('is no damage where the stored text is another than JSON.stringify makes: it is read once, and left alone', async () => {
    const foreign = stateOf(3, { n: 3 }, '{ "n": 3 }');
    const { set, redis, corruptions, resyncs } = setUp(foreign);
    await hold(set, foreign);
    for (let beat = 0; beat < 5; beat += 1) await set.checkOne();
    expect([redis.reads, corruptions, resyncs]).to.deep.equal([1, [], []]);
    expect((await set.answer('x'))?.value).to.deep.equal({ n: 3 });
  });
});
