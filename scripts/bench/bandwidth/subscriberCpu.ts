/**
 * What a subscriber of a 1 MB context pays for 200 small updates a second: processor time of its process, all threads, less what it takes
 * when nothing is written. Default options, heartbeat and its comparisons included. Beside it a subscriber of ioredis alone, which gets as
 * many short messages and does nothing with them.
 */
import { Redis } from 'ioredis';
import { spawnNode } from '../../../test/helpers/processes.js';
import { type Conversation, makeConversation } from '../../../test/helpers/random.js';
import type { Setting } from '../lib/benchmark.js';
import { openStore, replicate } from '../lib/stores.js';
import { column, type Table } from '../lib/table.js';
import { smallChange } from './sequences.js';
import { SHAPES } from './shapes.js';
import { noMore } from './targets.js';

export type SubscriberRequest =
  | {
      readonly do: 'open';
      readonly url: string;
      readonly namespace: string;
      readonly id: string;
      /** Whether it asks each change for its JSON Patch. */
      readonly patches: boolean;
    }
  | { readonly do: 'listen'; readonly url: string; readonly channel: string }
  | { readonly do: 'usage' | 'close' }
  /** The JSON of this version, once it is there. */
  | { readonly do: 'reach'; readonly version: number };

export interface Usage {
  readonly cpuMs: number;
  readonly atMs: number;
  readonly changes: number;
}

const BYTES = 1024 * 1024;
const PER_SECOND = 200;
const MOST_SHARE = 0.1;
/** About what a frame of a small change has. */
const MESSAGE_BYTES = 256;
const ID = 'large';

type Row = Readonly<Record<'label' | 'target', string> & Record<'rate' | 'idle' | 'share' | 'perUpdate', number>>;

interface Case {
  readonly label: string;
  readonly delta: 'on' | 'off';
  readonly patches: boolean;
  readonly aimed: boolean;
  /** Another document than a conversation. */
  readonly shape?: (typeof SHAPES)[number];
}

const CASES: readonly Case[] = [
  { label: 'delta on', delta: 'on', patches: false, aimed: true },
  { label: 'delta on, asking for each patch', delta: 'on', patches: true, aimed: true },
  { label: 'delta off: patches as frames', delta: 'off', patches: false, aimed: false },
  ...SHAPES.map((shape): Case => ({ label: `delta on: ${shape.label}`, delta: 'on', patches: false, aimed: true, shape })),
];

export async function subscriberCpu(setting: Setting): Promise<Table> {
  const rows = [await messages(setting)];
  for (const one of CASES) rows.push(await updates(setting, one));
  return {
    caption: `Processor time of a subscriber: 1 MB where nothing else is said, ${PER_SECOND} updates of 20 bytes a second`,
    columns: [
      column('label', 'What'),
      column('rate', 'A second', 'number'),
      column('idle', 'Idle, of a core', 'percent'),
      column('share', 'Above idle, of a core', 'percent'),
      column('perUpdate', 'Each', 'microseconds'),
      column('target', 'Target'),
    ],
    rows,
  };
}

/** One update or message; a writer that is late catches up. */
type Work = (number: number) => Promise<unknown>;
type Ask = <T>(request: SubscriberRequest) => Promise<T>;

async function withSubscriber<T>(run: (ask: Ask) => Promise<T>): Promise<T> {
  const child = await spawnNode(new URL('./subscriberProcess.ts', import.meta.url));
  try {
    return await run((request) => child.request(request, { limitMs: 60_000 }));
  } finally {
    await child.kill();
  }
}

function messages({ url, quick }: Setting): Promise<Row> {
  return withSubscriber(async (ask) => {
    const redis = new Redis(url);
    const channel = 'bench-cpu-messages';
    await ask({ do: 'listen', url, channel });
    const message = Buffer.alloc(MESSAGE_BYTES, 'm');
    const row = await measure(ask, quick, 'ioredis alone, a message of 256 bytes', () => redis.publish(channel, message));
    await redis.quit();
    return row;
  });
}

function updates({ url, quick }: Setting, { label, delta, patches, aimed, shape }: Case): Promise<Row> {
  return withSubscriber(async (ask) => {
    const namespace = `bench-cpu-${delta}${patches ? '-patches' : ''}${shape === undefined ? '' : `-${SHAPES.indexOf(shape)}`}`;
    const writer = await openStore(url, namespace, { delta, limits: { contextBytes: '8mb' } });
    await writer.set(ID, shape === undefined ? makeConversation(1, BYTES) : shape.make());
    await ask({ do: 'open', url, namespace, id: ID, patches });
    await replicate(writer, [ID]);
    const row = await measure(ask, quick, label, (number) =>
      writer.update<Conversation>(ID, (draft) =>
        shape === undefined ? smallChange(draft, 7 * number, number) : shape.change(draft, number),
      ),
    );
    const last = await writer.get(ID);
    if (last === null || (await ask({ do: 'reach', version: last.version })) !== JSON.stringify(last.value))
      throw new Error('the subscriber has another document');
    await ask({ do: 'close' });
    await writer.close();
    // a writer that could not keep the pace makes nothing cheaper
    const atPace = (row.share * PER_SECOND) / Math.min(row.rate, PER_SECOND);
    return { ...row, target: aimed ? noMore(atPace, MOST_SHARE, `${MOST_SHARE * 100} %`) : '' };
  });
}

async function measure(ask: Ask, quick: boolean, label: string, work: Work): Promise<Row> {
  const ms = quick ? 2_000 : 6_000;
  // in a process that has run for a while the code is compiled
  await paced(0, quick ? 200 : 1_000, work);
  const idle = await usedDuring(ask, () => new Promise((resolve) => setTimeout(resolve, ms)));
  const busy = await usedDuring(ask, () => paced(10_000, (ms / 1000) * PER_SECOND, work));
  const share = busy.share - idle.share;
  return { label, rate: Math.round(busy.rate), idle: idle.share, share, perUpdate: (share / busy.rate) * 1e6, target: '' };
}

/** Processor time and changes seen, a second. */
async function usedDuring(ask: Ask, run: () => Promise<unknown>): Promise<{ share: number; rate: number }> {
  const before = await ask<Usage>({ do: 'usage' });
  await run();
  const after = await ask<Usage>({ do: 'usage' });
  const ms = after.atMs - before.atMs;
  return { share: (after.cpuMs - before.cpuMs) / ms, rate: ((after.changes - before.changes) / ms) * 1000 };
}

/** So often at a steady pace. */
async function paced(from: number, count: number, work: Work): Promise<void> {
  const start = performance.now();
  for (let index = 0; index < count; index += 1) {
    const early = start + (index * 1000) / PER_SECOND - performance.now();
    if (early > 0) await new Promise((resolve) => setTimeout(resolve, early));
    await work(from + index);
  }
}
