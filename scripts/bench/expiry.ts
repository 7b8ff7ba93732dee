/**
 * Expiry: how late it is told that a context has expired, against Redis's native keyspace notifications of plain keys with the same expiries in
 * the same run; and how many contexts a sweep removes, against a script that removes a hash and a zset entry and nothing else.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Redis } from 'ioredis';
import { spawnNode } from '../../test/helpers/processes.js';
import { waitFor } from '../../test/helpers/waitFor.js';
import type { Benchmark, Setting } from './lib/benchmark.js';
import { documents } from './lib/payloads.js';
import { alternate, median, percentile, ratio } from './lib/rounds.js';
import { openStore } from './lib/stores.js';
import { column, type Table } from './lib/table.js';
import type { QueueCommand } from './queueProcess.js';

const P50_MS = 100;
const P99_MS = 1_000;
const PROCESS = new URL('./queueProcess.ts', import.meta.url);
const SWEEP = readFileSync(new URL('./sweep.lua', import.meta.url), 'utf8');
const BATCH = 100;
/** How long after the last expiry Redis's own notifications are waited for. */
const NATIVE_MS = 30_000;

export const expiry: Benchmark = { name: 'expiry', run: async (setting) => [await lateness(setting), await sweepRate(setting)] };

const within = (value: number, bound: number): string => `${value <= bound ? 'met' : 'missed'}: <= ${bound} ms`;

async function lateness({ url, quick }: Setting): Promise<Table> {
  const count = quick ? 3_000 : 100_000;
  // written over as long, so that the last is written before the first expires
  const leadMs = quick ? 4_000 : 60_000;
  const spreadMs = quick ? 3_000 : 30_000;
  const namespace = 'bench-expiry';
  const redis = new Redis(url, { enableAutoPipelining: true });
  const ear = new Redis(url);
  const store = await openStore(url, namespace, { workers: 'external', memory: { local: 0 } });
  const [worker, writer] = await Promise.all([spawnNode(PROCESS), spawnNode(PROCESS)]);
  const ask = (process: typeof worker, command: QueueCommand): Promise<unknown> => process.request(command, { limitMs: 120_000 });
  try {
    await redis.config('SET', 'notify-keyspace-events', 'Ex');
    const offset = await clockOffset(redis);
    const due = new Map<string, number>();
    const natively = new Set<string>();
    const late = { ours: [] as number[], native: [] as number[] };
    const tag = store.keysOf('x').channel.replace(/x$/, '');
    ear.on('pmessage', (_, channel: string, message: string) => {
      const ours = channel.startsWith(tag);
      if (ours && !/^lc\d expired /.test(message)) return;
      const id = ours ? channel.slice(tag.length) : message.replace(/^native-/, '');
      const exp = due.get(id);
      if (exp === undefined) return;
      if (!ours) natively.add(id);
      late[ours ? 'ours' : 'native'].push(Date.now() + offset - exp);
    });
    await ear.psubscribe(`${tag}*`, '__keyevent@0__:expired');
    await Promise.all([worker, writer].map((one) => ask(one, { do: 'open', options: { redis: url, namespace } })));
    await ask(worker, { do: 'work' });
    const [document] = documents(1024, 1);
    const text = JSON.stringify(document);
    const begin = Date.now() + offset + leadMs;
    await inBatches(count, 256, async (n) => {
      const id = `e${n}`;
      const exp = Math.round(begin + (spreadMs * n) / count);
      await redis.set(`native-${id}`, text, 'PXAT', exp);
      const ttl = Math.max(1, Math.round(exp - Date.now() - offset));
      await store.set(id, document, { ttl });
      // as Redis counted it from the commit on
      due.set(id, exp);
    });
    await exact(redis, store.keysOf('e0').context, count, due);
    await ask(writer, { do: 'load', bytes: 1024 });
    await waitFor(() => late.ours.length >= count, {
      what: `the last of ${count} expiries to be told`,
      limitMs: leadMs + spreadMs + 120_000,
      everyMs: 100,
    });
    // Redis leaves up to a tenth of expired keys where they are until somebody asks for them: those count as late as they are by then
    const end = begin + spreadMs + NATIVE_MS;
    await waitFor(() => late.native.length >= count || Date.now() + offset >= end, {
      what: 'native notifications',
      limitMs: leadMs + spreadMs + NATIVE_MS,
      everyMs: 100,
    });
    const toldNatively = late.native.length;
    for (const [id, exp] of due) if (!natively.has(id)) late.native.push(Date.now() + offset - exp);
    const row = (subject: string, times: readonly number[], told: number, targets: boolean) => ({
      subject,
      told,
      p50: percentile(times, 0.5),
      p99: percentile(times, 0.99),
      most: percentile(times, 1),
      target: targets ? `${within(percentile(times, 0.5), P50_MS)}, ${within(percentile(times, 0.99), P99_MS)}` : '',
    });
    return {
      caption: `How late ${count.toLocaleString('en')} expiries within ${spreadMs / 1000} s are told to a subscriber, while another process writes (lower is better)`,
      columns: [
        column('subject', 'Told by'),
        column('told', 'Events', 'number'),
        column('p50', 'p50', 'milliseconds'),
        column('p99', 'p99', 'milliseconds'),
        column('most', 'Latest', 'milliseconds'),
        column('target', 'Target'),
      ],
      rows: [
        row('`expired` frames of the sweep', late.ours, late.ours.length, true),
        row('native keyspace notifications', late.native, toldNatively, false),
      ],
    };
  } finally {
    await Promise.allSettled([worker, writer].map((one) => ask(one, { do: 'close' })));
    await Promise.all([worker, writer].map((one) => one.kill()));
    await redis.config('SET', 'notify-keyspace-events', '');
    redis.disconnect();
    ear.disconnect();
    await store.close();
  }
}

/** Expiries as they are stored: a context's is counted from its commit, some ms after the question was sent. */
async function exact(redis: Redis, first: string, count: number, due: Map<string, number>): Promise<void> {
  const start = first.slice(0, first.lastIndexOf(':') + 1);
  await inBatches(count, 256, async (n) => {
    const exp = await redis.hget(`${start}e${n}`, 'exp');
    if (exp !== null) due.set(`e${n}`, Number(exp));
  });
}

/** What is to be added to this process's clock to have Redis's, ms. */
async function clockOffset(redis: Redis): Promise<number> {
  const offsets: number[] = [];
  for (let n = 0; n < 20; n += 1) {
    const sent = Date.now();
    const [seconds, micros] = await redis.time();
    offsets.push(Number(seconds) * 1000 + Number(micros) / 1000 - (sent + Date.now()) / 2);
  }
  return median(offsets);
}

async function inBatches(count: number, size: number, run: (n: number) => Promise<unknown>): Promise<void> {
  for (let from = 0; from < count; from += size)
    await Promise.all(Array.from({ length: Math.min(size, count - from) }, (_, at) => run(from + at)));
}

async function sweepRate({ url, quick, rounds }: Setting): Promise<Table> {
  const count = quick ? 1_000 : 20_000;
  const redis = new Redis(url, { enableAutoPipelining: true });
  const store = await openStore(url, 'bench-sweep', { workers: 'external', memory: { local: 0 }, heartbeat: '1h' });
  try {
    const sha = createHash('sha1').update(SWEEP).digest('hex');
    await redis.script('LOAD', SWEEP);
    const [document] = documents(1024, 1);
    const text = JSON.stringify(document);
    const rates = await alternate(Math.min(rounds, 5), {
      reference: async () => {
        await inBatches(count, 256, async (n) => {
          await redis.hset(`bare:${n}`, 'data', text, 'v', 1);
          await redis.zadd('bare', 1, n);
        });
        const begun = performance.now();
        let removed = 0;
        while (removed < count) removed += Number(await redis.evalsha(sha, 1, 'bare', 'bare:', BATCH));
        return removed / ((performance.now() - begun) / 1000);
      },
      sweep: async () => {
        // gone at once for every reader, and left for the sweep: nobody else sweeps here
        await inBatches(count, 256, (n) => store.set(`s${n}`, document, { ttl: 1 }));
        await store.has('x');
        const begun = performance.now();
        let removed = 0;
        for (let more = true; more; ) {
          const round = await store.maintenance.sweep();
          removed += round.removed;
          more = round.more;
        }
        if (removed !== count) throw new Error(`${removed} of ${count} were swept`);
        return removed / ((performance.now() - begun) / 1000);
      },
    });
    return {
      caption: 'Contexts of 1 KB swept a second, in calls of 100 (higher is better)',
      columns: [
        column('bare', 'ZSET + DEL', 'perSecond'),
        column('sweep', 'sweep', 'perSecond'),
        column('ratio', 'sweep / ZSET + DEL', 'ratio'),
      ],
      rows: [{ bare: median(rates.reference), sweep: median(rates.sweep), ratio: ratio(rates.sweep, rates.reference) }],
    };
  } finally {
    redis.disconnect();
    await store.close();
  }
}
