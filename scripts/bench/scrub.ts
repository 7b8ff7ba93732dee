/** Scrub: how long a pass over 1 GB takes, and what the commits of another process notice of it. */
import { spawnNode } from '../../test/helpers/processes.js';
import type { Benchmark, Setting } from './lib/benchmark.js';
import { documents } from './lib/payloads.js';
import { percentile, type Ratio, ratio } from './lib/rounds.js';
import { openStore } from './lib/stores.js';
import { atMost, column, type Table } from './lib/table.js';
import type { QueueCommand, ScrubTime } from './queueProcess.js';

const TIMES = 1.5;
const MB = 1024 * 1024;
const PROCESS = new URL('./queueProcess.ts', import.meta.url);
const NAMESPACE = 'bench-scrub';
/** Commits under way while it is measured. */
const CONCURRENCY = 4;

export const scrub: Benchmark = { name: 'scrub', run: async (setting) => [await scrubs(setting)] };

async function scrubs({ url, quick, rounds }: Setting): Promise<Table> {
  const total = quick ? 16 * MB : 1024 * MB;
  const measureMs = quick ? 500 : 5_000;
  const store = await openStore(url, NAMESPACE, { workers: 'external', memory: { local: 0 } });
  const process = await spawnNode(PROCESS);
  const ask = <T = void>(command: QueueCommand, limitMs = 600_000): Promise<T> => process.request<T>(command, { limitMs });
  try {
    await fill(store, total);
    await ask({ do: 'open', options: { redis: url, namespace: NAMESPACE } });
    const rows = [];
    for (const [label, rate] of [
      ['8 MB/s (default)', 8 * MB],
      ['64 MB/s', 64 * MB],
      ['as fast as it goes', 2 ** 40],
    ] as const) {
      // beside and without, in turn; what is beside lasts as long as the measurement
      const without: number[] = [];
      const beside: number[] = [];
      for (let round = 0; round < Math.min(rounds, 5); round += 1) {
        without.push(percentile(await commits(store, measureMs), 0.99));
        const running = ask<ScrubTime>({ do: 'scrub', rate, forMs: measureMs + 200 });
        beside.push(percentile(await commits(store, measureMs), 0.99));
        await running;
      }
      const pass = quick && rate === 8 * MB ? null : await ask<ScrubTime>({ do: 'scrub', rate });
      const p99: Ratio = ratio(beside, without);
      rows.push({
        rate: label,
        seconds: pass === null ? '' : pass.seconds.toFixed(1),
        hashed: pass === null ? '' : `${(pass.bytes / MB).toFixed(0)} MB`,
        speed: pass === null ? '' : `${(pass.bytes / MB / pass.seconds).toFixed(0)} MB/s`,
        without: percentile(without, 0.5),
        beside: percentile(beside, 0.5),
        ratio: p99,
        target: atMost(p99, TIMES),
      });
    }
    return {
      caption: `A scrub of ${Math.round(total / MB).toLocaleString('en')} MB of documents, half of them of 10 and half of 100 KB, and the commits of 1 KB beside it (lower is better)`,
      columns: [
        column('rate', 'Limit'),
        column('seconds', 'Seconds'),
        column('hashed', 'Hashed'),
        column('speed', 'Speed'),
        column('without', 'Commit p99 alone', 'milliseconds'),
        column('beside', 'beside it', 'milliseconds'),
        column('ratio', 'Ratio', 'ratio'),
        column('target', 'Target'),
      ],
      rows,
    };
  } finally {
    await ask({ do: 'close' }).catch(() => {});
    await process.kill();
    await store.close();
  }
}

async function fill(store: Awaited<ReturnType<typeof openStore>>, total: number): Promise<void> {
  for (const bytes of [10 * 1024, 100 * 1024]) {
    const docs = documents(bytes, 16);
    const count = Math.ceil(total / 2 / bytes);
    for (let from = 0; from < count; from += 32)
      await Promise.all(
        Array.from({ length: Math.min(32, count - from) }, (_, at) =>
          store.set(`d${bytes}-${from + at}`, docs[(from + at) & 15]),
        ),
      );
  }
}

/** What each commit took, ms. */
async function commits(store: Awaited<ReturnType<typeof openStore>>, forMs: number): Promise<number[]> {
  const docs = documents(1024, 16);
  const until = performance.now() + forMs;
  const times: number[] = [];
  await Promise.all(
    Array.from({ length: CONCURRENCY }, async (_, worker) => {
      for (let call = 0; performance.now() < until; call += 1) {
        const begun = performance.now();
        await store.set(`commit-${worker}`, docs[call & 15]);
        times.push(performance.now() - begun);
      }
    }),
  );
  return times;
}
