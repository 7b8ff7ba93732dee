/** The policy by itself: what it asks of Redis, and when. Time stands still until a test moves it. */
import { setImmediate as turn } from 'node:timers/promises';
import { expect } from 'chai';
import { RedisClock } from '../../src/core/RedisClock.js';
import { ABSENT, PredictiveTtl, type PredictOptions, type TtlPort } from '../../src/store/PredictiveTtl.js';
import { RecordingLogger } from '../helpers/stores.js';

const MINUTE = 60_000;
const HOUR = 3_600_000;
const EPOCH = 1_700_000_000_000;
const OPTIONS: PredictOptions = { minMs: MINUTE, maxMs: 12 * HOUR, keep: 0.9, halfLifeMs: 1e12, observations: 10 };

interface Asked {
  readonly id: string;
  readonly needMs: number;
  readonly expected: number | 'hold' | null;
}

/** A Redis of one field a context, a clock, and timers that run when the time is moved past them. */
class World implements TtlPort {
  readonly clock = new RedisClock();
  readonly expiries = new Map<string, number | null>();
  readonly replicas = new Set<string>();
  readonly watching = new Set<string>();
  readonly asked: Asked[] = [];
  readonly logger = new RecordingLogger();
  readonly ttl: PredictiveTtl;
  /** How a call ends instead. */
  answer: ((asked: Asked) => Promise<{ expiresAt: number | null } | null>) | null = null;
  time = 1_000_000;
  timers: { at: number; run: () => void }[] = [];

  constructor(options: Partial<PredictOptions> = {}, most?: number) {
    this.clock.observe(this.time, this.time, EPOCH + this.time);
    const ticker = {
      now: () => this.time,
      after: (ms: number, run: () => void) => {
        const timer = { at: this.time + ms, run };
        this.timers.push(timer);
        return () => {
          this.timers = this.timers.filter((one) => one !== timer);
        };
      },
    };
    this.ttl = new PredictiveTtl({ ...OPTIONS, ...options }, this, this.logger, ticker, most);
  }

  get redisNow(): number {
    return EPOCH + this.time;
  }

  expiresAt(id: string): number | null | undefined {
    return this.replicas.has(id) ? (this.expiries.get(id) ?? ABSENT) : undefined;
  }

  watched(id: string): boolean {
    return this.watching.has(id);
  }

  async fit(id: string, needMs: number, expected: number | 'hold' | null): Promise<{ expiresAt: number | null } | null> {
    const asked = { id, needMs, expected };
    this.asked.push(asked);
    if (this.answer !== null) return this.answer(asked);
    const expiresAt = this.expiries.get(id) ?? 0;
    const needed = this.redisNow + needMs;
    if (expected !== 'hold' && (needed > expiresAt || expected === expiresAt)) this.expiries.set(id, needed);
    return { expiresAt: this.expiries.get(id) ?? null };
  }

  /** Moves the time, and lets what is due run. */
  async pass(ms: number): Promise<void> {
    const end = this.time + ms;
    for (;;) {
      const [next] = this.timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at);
      if (next === undefined) break;
      this.timers = this.timers.filter((one) => one !== next);
      this.time = Math.max(this.time, next.at);
      this.clock.observe(this.time, this.time, this.redisNow);
      next.run();
      await turn();
    }
    this.time = end;
    this.clock.observe(end, end, this.redisNow);
  }

  /** Reads of a replica at even intervals. */
  async reads(id: string, count: number, everyMs: number): Promise<void> {
    for (let at = 0; at < count; at += 1) {
      this.ttl.used(id);
      await this.pass(everyMs);
    }
  }

  context(id: string, ttlMs: number | null): void {
    this.expiries.set(id, ttlMs === null ? null : this.redisNow + ttlMs);
    this.replicas.add(id);
  }
}

describe('PredictiveTtl', () => {
  it('extends the expiry of what is used, again and again, and lets it end after the last use', async () => {
    const world = new World();
    world.context('a', 4 * HOUR);
    await world.reads('a', 100, 10 * MINUTE);
    expect(world.expiries.get('a')).to.be.greaterThan(world.redisNow);
    // 16 hours later than written, by calls that are far fewer than the reads
    expect(world.asked.length).to.be.at.most(50);
    expect(world.ttl.counters.extended).to.be.greaterThan(5);
    const calls = world.asked.length;
    const last = world.expiries.get('a') ?? 0;
    await world.pass(24 * HOUR);
    expect(world.asked.length).to.equal(calls);
    expect(last - world.redisNow).to.be.below(0);
  });

  it('shortens the expiry of what is used often to what its use asks for, never below min', async () => {
    const world = new World();
    world.context('a', 24 * HOUR);
    await world.reads('a', 40, 2000);
    expect(world.ttl.counters.shortened).to.equal(1);
    expect((world.expiries.get('a') ?? 0) - world.redisNow).to.be.within(MINUTE, 2 * MINUTE);
    for (const { needMs, expected } of world.asked) if (expected !== 'hold') expect(needMs).to.be.within(MINUTE, 12 * HOUR);
  });

  it('asks that nobody shortens what it uses and does not know yet, once', async () => {
    const world = new World();
    world.context('a', 24 * HOUR);
    await world.reads('a', 5, 2000);
    expect(world.asked.map(({ expected }) => expected)).to.deep.equal(['hold']);
    expect(world.ttl.counters).to.include({ kept: 1, extended: 0, shortened: 0 });
  });

  it('leaves alone what has no expiry, what is not there, and what is used once', async () => {
    const world = new World();
    world.context('forever', null);
    await world.reads('forever', 40, 2000);
    for (let at = 0; at < 40; at += 1) {
      world.ttl.found('nowhere', ABSENT);
      world.ttl.found('eternal', null);
      world.ttl.found(`once-${at}`, world.redisNow + HOUR);
      await world.pass(2000);
    }
    expect(world.asked).to.deep.equal([]);
    expect(world.ttl.tracked).to.equal(40);
  });

  it('does not shorten what is watched here', async () => {
    const world = new World();
    world.context('a', 24 * HOUR);
    world.watching.add('a');
    await world.reads('a', 40, 2000);
    expect(world.ttl.counters.shortened).to.equal(0);
    expect(world.asked.filter(({ expected }) => typeof expected === 'number')).to.deep.equal([]);
  });

  it('counts a read that finds nothing as a use: an expiry that was too short does not hide the intervals beyond it', async () => {
    const world = new World();
    world.expiries.set('a', world.redisNow + MINUTE);
    world.ttl.found('a', world.redisNow + MINUTE);
    await world.pass(30 * MINUTE);
    for (let at = 0; at < 20; at += 1) {
      world.ttl.found('a', ABSENT);
      await world.pass(30 * MINUTE);
    }
    expect(world.asked).to.deep.equal([]);
    world.expiries.set('a', world.redisNow + 5 * MINUTE);
    world.ttl.found('a', world.redisNow + 5 * MINUTE);
    await world.pass(2000);
    expect(world.asked).to.have.length(1);
    expect(world.asked[0]?.needMs).to.be.within(HOUR, 1.19 * HOUR);
  });

  it('deals with accesses at ticks: any number within one is one', async () => {
    const world = new World();
    world.context('a', HOUR);
    for (let at = 0; at < 1000; at += 1) world.ttl.used('a');
    expect(world.ttl.counters.observed).to.equal(0);
    expect(world.timers).to.have.length(1);
    await world.pass(world.ttl.tickMs);
    expect(world.ttl.counters.observed).to.equal(1);
    expect(world.timers).to.deep.equal([]);
  });

  it('asks for a context at most once in every min, whatever changes its expiry', async () => {
    const world = new World();
    world.context('a', 24 * HOUR);
    await world.reads('a', 30, 2000);
    const before = world.asked.length;
    const begun = world.time;
    for (let at = 0; at < 300; at += 1) {
      world.expiries.set('a', world.redisNow + 10_000);
      await world.reads('a', 1, 1000);
    }
    expect(world.asked.length - before).to.be.within(3, 1 + (world.time - begun) / MINUTE);
  });

  it('asks ever more seldom for less than another instance allows', async () => {
    const world = new World();
    world.context('a', 24 * HOUR);
    world.answer = async () => ({ expiresAt: world.expiries.get('a') ?? 0 });
    await world.reads('a', 3 * 1800, 2000);
    const tries = world.asked.filter(({ expected }) => typeof expected === 'number').length;
    expect(tries).to.be.within(4, 9);
    expect(world.ttl.counters.shortened).to.equal(0);
  });

  it('remembers a bounded number of contexts', async () => {
    const world = new World({}, 100);
    for (let at = 0; at < 5000; at += 1) world.ttl.found(`c${at}`, world.redisNow + HOUR);
    await world.pass(2000);
    expect(world.ttl.tracked).to.equal(100);
    expect(world.ttl.counters.observed).to.equal(5000);
  });

  it('counts what fails, says it once, and tries again without another read', async () => {
    const world = new World();
    world.context('a', 24 * HOUR);
    await world.reads('a', 9, 2000);
    const before = world.asked.length;
    world.answer = async () => {
      throw new Error('no connection');
    };
    await world.reads('a', 30, 2000);
    const { failed } = world.ttl.counters;
    expect(failed).to.be.greaterThan(1);
    expect(world.logger.at('warn')).to.have.length(1);
    expect(world.logger.at('warn')[0]?.fields).to.include({ id: 'a', error: 'no connection' });
    world.answer = null;
    await world.pass(10_000);
    expect(world.asked.length).to.equal(before + failed + 1);
    expect(world.ttl.counters.shortened).to.equal(1);
    expect(world.timers).to.deep.equal([]);
  });

  it('has a bounded number of calls on their way, and comes to the others later', async () => {
    const world = new World();
    const open: (() => void)[] = [];
    world.answer = ({ id }) => new Promise((resolve) => open.push(() => resolve({ expiresAt: world.expiries.get(id) ?? 0 })));
    for (let at = 0; at < 100; at += 1) world.context(`c${at}`, HOUR);
    for (let read = 0; read < 2; read += 1) {
      for (let at = 0; at < 100; at += 1) world.ttl.used(`c${at}`);
      await world.pass(2000);
    }
    expect(open).to.have.length(32);
    for (let round = 0; round < 4; round += 1) {
      for (const end of open.splice(0)) end();
      await turn();
      await world.pass(2000);
    }
    for (const end of open.splice(0)) end();
    expect(new Set(world.asked.map(({ id }) => id)).size).to.equal(100);
    expect(world.asked).to.have.length(100);
  });

  it('leaves nothing running when it is closed, and waits for the call on its way', async () => {
    const world = new World();
    world.context('a', 24 * HOUR);
    let end: (error: Error) => void = () => {};
    world.answer = () => new Promise((_, reject) => (end = reject));
    await world.reads('a', 2, 2000);
    world.ttl.used('a');
    let closed = false;
    const closing = world.ttl.close().then(() => {
      closed = true;
    });
    expect(world.timers).to.deep.equal([]);
    await turn();
    expect(closed).to.equal(false);
    end(new Error('closed'));
    await closing;
    expect(world.timers).to.deep.equal([]);
    expect(world.logger.lines).to.deep.equal([]);
    world.ttl.used('a');
    world.ttl.found('a', 5);
    expect(world.timers).to.deep.equal([]);
  });

  it('forgets what was deleted', async () => {
    const world = new World();
    world.context('a', 24 * HOUR);
    await world.reads('a', 2, 2000);
    world.ttl.used('a');
    world.ttl.forget('a');
    expect(world.ttl.tracked).to.equal(0);
    await world.pass(5000);
    expect(world.ttl.tracked).to.equal(0);
  });
});
