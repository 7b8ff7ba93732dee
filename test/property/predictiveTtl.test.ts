/**
 * Several instances that predict for one context, each from its own accesses only, over lua/touch.lua in a real server and a time that the
 * test moves: whatever the schedule, none of them makes the context expire while another one needs it.
 */
import { expect } from 'chai';
import fc from 'fast-check';
import { AccessHistogram } from '../../src/core/AccessHistogram.js';
import { RedisClock } from '../../src/core/RedisClock.js';
import { HEADROOM, predictTtl } from '../../src/core/ttlDecision.js';
import { PredictiveTtl, type TtlPort } from '../../src/store/PredictiveTtl.js';
import { LuaNamespace } from '../helpers/lua.js';
import { RecordingLogger } from '../helpers/stores.js';

const MINUTE = 60_000;
const HOUR = 3_600_000;
const OPTIONS = { minMs: MINUTE, maxMs: 12 * HOUR, keep: 0.8, halfLifeMs: 1e12, observations: 4 };
/** After this long what an access asks for has been said, whatever was said shortly before. */
const SAID_MS = MINUTE + 3_000;

/** A bucket of the histogram ends so many times as far away as the one before. */
const BUCKET = 1.19;

interface Step {
  readonly by: number;
  /** Until the next access. */
  readonly gapMs: number;
}

const gap = fc.oneof(
  fc.integer({ min: 1_000, max: 10_000 }),
  fc.integer({ min: 1_000, max: 10 * MINUTE }),
  fc.integer({ min: MINUTE, max: 3 * HOUR }),
);
/** Runs of accesses of one instance, so that others fall silent. */
const schedule = fc
  .array(fc.record({ by: fc.integer({ min: 0, max: 2 }), gapMs: gap, times: fc.integer({ min: 1, max: 12 }) }), {
    minLength: 2,
    maxLength: 8,
  })
  .map((runs) => runs.flatMap(({ by, gapMs, times }) => Array.from({ length: times }, (): Step => ({ by, gapMs }))));

/** One instance, with what is promised to it as the test sees it. */
class Instance {
  readonly clock = new RedisClock();
  readonly ttl: PredictiveTtl;
  readonly #oracle = new AccessHistogram(OPTIONS.halfLifeMs, 0);
  /** The context must live until then, virtual ms. */
  promised = 0;
  usedAt = 0;

  constructor(port: (clock: RedisClock) => TtlPort, ticker: World['ticker']) {
    this.ttl = new PredictiveTtl(OPTIONS, port(this.clock), new RecordingLogger(), ticker);
  }

  /** It was used, and this was dealt with, at `now`. While it cannot predict, it is promised what was `written`. */
  accessed(now: number, written: number): void {
    this.usedAt = now;
    this.#oracle.access(now);
    const predicted = predictTtl(this.#oracle, OPTIONS, now);
    // its tick may have been up to one before, which can make an interval fall into the bucket below
    const least = Math.max(OPTIONS.minMs, (predicted ?? 0) / BUCKET) - this.ttl.tickMs;
    if (predicted !== null) this.promised = now + Math.min(least, OPTIONS.maxMs / HEADROOM);
    else if (this.#oracle.weight(now) > 0) this.promised = written;
  }
}

class World {
  readonly instances: Instance[];
  time: number;
  expiresAt: number;
  shortened = 0;
  #timers: { at: number; run: () => void }[] = [];
  #calls: Promise<unknown> = Promise.resolve();
  #ticks = 0;
  readonly ticker = {
    now: () => this.time,
    after: (ms: number, run: () => void) => {
      const timer = { at: this.time + ms, run };
      this.#timers.push(timer);
      return () => {
        this.#timers = this.#timers.filter((one) => one !== timer);
      };
    },
  };

  constructor(lua: LuaNamespace, time: number, expiresAt: number) {
    this.time = time;
    this.expiresAt = expiresAt;
    this.instances = [0, 1, 2].map(
      (number) =>
        new Instance(
          (clock) => ({
            clock,
            expiresAt: () => this.expiresAt,
            watched: () => false,
            fit: (id, needMs, expected) => {
              const at = this.time;
              const call = this.#calls.then(async () => {
                const options = { by: `i${number}`, expected: expected ?? ('-' as const) };
                const [status, , exp] = await lua.when(at, () => lua.touch(id, needMs, options));
                if (status === 'ABSENT') return null;
                if (Number(exp) < this.expiresAt) this.shortened += 1;
                this.expiresAt = Number(exp);
                return { expiresAt: this.expiresAt };
              });
              this.#calls = call.catch(() => {});
              return call;
            },
          }),
          this.ticker,
        ),
    );
    this.#observe();
  }

  #observe(): void {
    for (const { clock } of this.instances) clock.observe(this.time, this.time, this.time);
  }

  async pass(ms: number): Promise<void> {
    const end = this.time + ms;
    for (;;) {
      const [next] = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at);
      if (next === undefined) break;
      this.#timers = this.#timers.filter((one) => one !== next);
      this.time = Math.max(this.time, next.at);
      this.#observe();
      next.run();
      this.#ticks += 1;
      // a tick goes on only while something is to be said: far fewer than there are seconds
      if (this.#ticks > 20_000)
        throw new Error(`too many ticks: ${JSON.stringify(this.instances.map(({ ttl }) => ttl.counters))}`);
      await this.#calls;
      await new Promise((resolve) => setImmediate(resolve));
    }
    this.time = end;
    this.#observe();
  }
}

describe('several instances that predict for one context', () => {
  let lua: LuaNamespace;
  before(async () => {
    lua = await LuaNamespace.open();
  });
  after(() => lua.close());

  it('never let it expire while one of them needs it, and shorten it for all that', async function () {
    this.timeout(60_000);
    let number = 0;
    let shortened = 0;
    await fc.assert(
      fc.asyncProperty(schedule, async (steps) => {
        number += 1;
        const id = `context-${number}`;
        const begin = await lua.now();
        await lua.when(begin, () => lua.commit(id, '1', { ttl: 24 * HOUR }));
        const written = begin + 24 * HOUR;
        const world = new World(lua, begin, written);
        for (const { by, gapMs } of steps) {
          // what is about to end is another story: it may end while it is asked for
          if (world.expiresAt <= world.time + MINUTE) break;
          const instance = world.instances[by] as Instance;
          instance.ttl.used(id);
          await world.pass(instance.ttl.tickMs);
          instance.accessed(world.time, written);
          await world.pass(gapMs);
          for (const [index, { promised, usedAt }] of world.instances.entries())
            if (world.time - usedAt >= SAID_MS) expect(world.expiresAt, `what instance ${index} needs`).to.be.at.least(promised);
        }
        shortened += world.shortened;
        for (const { ttl } of world.instances) await ttl.close();
      }),
      { numRuns: 60 },
    );
    expect(shortened).to.be.greaterThan(10);
  });
});
