/**
 * What a 20-byte change costs by the length of its document: Redis, by its own count (commandstats), and the caller of `update`. With
 * deltas switched off beside it: there the whole document is sent.
 */
import { Redis } from 'ioredis';
import { type Conversation, makeConversation } from '../../../test/helpers/random.js';
import type { Setting } from '../lib/benchmark.js';
import { alternate, median, percentile, type Ratio, ratio } from '../lib/rounds.js';
import { usecPerCall } from '../lib/serverTime.js';
import { openStore, replicate } from '../lib/stores.js';
import { atMost, column, type Table } from '../lib/table.js';
import { SIZES, smallChange } from './sequences.js';
import { SHAPES } from './shapes.js';

const MODES = ['on', 'off'] as const;
const SERVER_TARGET = 2;
const CALL_TARGET = 3;
/** As many as versions between two keyframes, so that each run has the cost of one. */
const CALLS = 64;

interface Document {
  readonly label: string;
  readonly make: () => unknown;
  readonly change: (draft: unknown, number: number) => void;
}

const CONVERSATIONS: readonly Document[] = SIZES.map(({ label, bytes }) => {
  const doc = makeConversation(1, bytes);
  const middle = doc.turns.length >> 1;
  return { label, make: () => doc, change: (draft, number) => smallChange(draft as Conversation, middle, number) };
});
/** Without deltas they would send a megabyte each time, as the largest of the others does. */
const DOCUMENTS = { on: [...CONVERSATIONS, ...SHAPES], off: CONVERSATIONS } as const;

interface Measured {
  readonly usec: number;
  readonly p50: number;
}

export async function changeCost({ url, rounds, quick }: Setting): Promise<Table> {
  const redis = new Redis(url);
  // the heartbeat calls scripts as well
  const options = { heartbeat: '10m', limits: { contextBytes: '8mb' } } as const;
  const stores = {
    on: await openStore(url, 'bench-change-on', options),
    off: await openStore(url, 'bench-change-off', { ...options, delta: 'off' }),
  };
  try {
    const conversations: readonly Document[] = CONVERSATIONS;
    const contenders: Record<string, () => Promise<Measured>> = {};
    for (const mode of MODES) {
      const store = stores[mode];
      for (const { label, make, change } of DOCUMENTS[mode]) {
        let number = 0;
        await store.set(label, make());
        await replicate(store, [label]);
        contenders[`${mode} ${label}`] = async () => {
          // a draft of a wide container takes the writer milliseconds
          const calls = quick || !conversations.some((one) => one.label === label) ? CALLS : 4 * CALLS;
          const times: number[] = [];
          const usec = await usecPerCall(redis, 'evalsha', async () => {
            for (let call = 0; call < calls; call += 1) {
              number += 1;
              const start = performance.now();
              await store.update(label, (draft) => change(draft, number));
              times.push(performance.now() - start);
            }
          });
          return { usec, p50: percentile(times, 0.5) };
        };
      }
    }
    const measured = await alternate<string, Measured>(rounds, contenders);
    for (const mode of MODES) await verify(stores[mode], DOCUMENTS[mode]);
    return changeTable(measured);
  } finally {
    await Promise.all([redis.quit(), stores.on.close(), stores.off.close()]);
  }
}

async function verify(store: Awaited<ReturnType<typeof openStore>>, documents: readonly Document[]): Promise<void> {
  for (const { label } of documents) {
    const verified = await store.verify(label);
    if (verified?.ok !== true) throw new Error(`${label}: ${JSON.stringify(verified)}`);
  }
}

function changeTable(measured: Readonly<Record<string, readonly Measured[]>>): Table {
  const usec = (name: string): number[] => (measured[name] ?? []).map((round) => round.usec);
  const p50 = (name: string): number[] => (measured[name] ?? []).map((round) => round.p50);
  const least = SIZES[0].label;
  const without = (label: string): boolean => (measured[`off ${label}`] ?? []).length === 0;
  const rows = DOCUMENTS.on.map(({ label }) => {
    const server: Ratio = ratio(usec(`on ${label}`), usec(`on ${least}`));
    const call: Ratio = ratio(p50(`on ${label}`), p50(`on ${least}`));
    const aimed = label === '1 MB';
    return {
      size: label,
      server: median(usec(`on ${label}`)),
      serverTo: server,
      serverTarget: aimed ? atMost(server, SERVER_TARGET) : '',
      call: median(p50(`on ${label}`)),
      callTo: call,
      callTarget: aimed ? atMost(call, CALL_TARGET) : '',
      serverOff: without(label) ? null : median(usec(`off ${label}`)),
      callOff: without(label) ? null : median(p50(`off ${label}`)),
    };
  });
  return {
    caption: 'A 20-byte change by update (lower is better)',
    columns: [
      column('size', 'Document'),
      column('server', 'Redis, a call', 'microseconds'),
      column('serverTo', `to ${least}`, 'ratio'),
      column('serverTarget', 'Target'),
      column('call', 'update p50', 'milliseconds'),
      column('callTo', `to ${least}`, 'ratio'),
      column('callTarget', 'Target'),
      column('serverOff', 'delta off: Redis', 'microseconds'),
      column('callOff', 'delta off: update p50', 'milliseconds'),
    ],
    rows,
  };
}
