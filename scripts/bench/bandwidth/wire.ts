/**
 * What goes over the sockets, counted by proxies: from the writer to Redis, from Redis to one subscriber, and what the log grows by. The
 * reference is the documents themselves, without a byte of protocol around them.
 */
import { Redis } from 'ioredis';
import type { Setting } from '../lib/benchmark.js';
import { column, type Table, type Value } from '../lib/table.js';
import { CountedPair, type Traffic, together } from './CountedPair.js';
import { long, patterns, realSequences, type Sequence, shapes } from './sequences.js';
import { LEAST_PATTERN, LEAST_REAL, reduction, saves } from './targets.js';

interface Both {
  readonly on: Traffic;
  /** Not every sequence is sent without deltas as well. */
  readonly off: Traffic | null;
}

/** Twice as many as there are versions between two keyframes, and a few. */
const LONG_STEPS = 132;

type Row = Readonly<Record<string, Value>>;

export async function wire({ url, quick }: Setting): Promise<Table[]> {
  const redis = new Redis(url);
  const port = Number(new URL(url).port);
  const pairs = {
    on: await CountedPair.open(redis, port, 'on'),
    off: await CountedPair.open(redis, port, 'off'),
    trimmed: await CountedPair.open(redis, port, 'on', 'default'),
  };
  const ms = quick ? 300 : 2_000;
  let replays = 0;
  try {
    const idle = await pairs.on.measureIdle(ms);
    await pairs.off.measureIdle(ms);
    await pairs.trimmed.measureIdle(ms);
    const replay = async (sequence: Sequence, how: 'set' | 'draft'): Promise<Both> => {
      replays += 1;
      const id = `context-${replays}`;
      return { on: await pairs.on.replay(id, sequence, how), off: await pairs.off.replay(id, sequence, how) };
    };
    const real: Both[] = [];
    const revisions: Row[] = [];
    for (const sequence of realSequences()) {
      const both = await replay(sequence, 'set');
      real.push(both);
      revisions.push(row(sequence, sequence.texts.length - 1, both, null));
    }
    const all = { on: together(real.map(({ on }) => on)), off: together(real.flatMap(({ off }) => (off === null ? [] : [off]))) };
    const steps = revisions.reduce((sum, { steps: count }) => sum + Number(count), 0);
    revisions.push(row({ label: 'real documents together', size: '' }, steps, all, LEAST_REAL));
    const drafts: Row[] = [];
    const sets: Row[] = [];
    for (const sequence of patterns(quick ? 3 : 12)) {
      const count = sequence.texts.length - 1;
      drafts.push(row(sequence, count, await replay(sequence, 'draft'), LEAST_PATTERN));
      sets.push(row(sequence, count, await replay(sequence, 'set'), LEAST_PATTERN));
    }
    for (const sequence of shapes(quick ? 2 : 12)) {
      const count = sequence.texts.length - 1;
      replays += 1;
      const on = await pairs.on.replay(`context-${replays}`, sequence, 'draft');
      drafts.push(row(sequence, count, { on, off: null }, LEAST_PATTERN));
    }
    const lasting: Row[] = [];
    for (const [name, pair] of [
      ['all of it', pairs.on],
      ['default options', pairs.trimmed],
    ] as const) {
      for (const make of long(LONG_STEPS)) {
        const sequence = make();
        replays += 1;
        const on = await pair.replay(`context-${replays}`, sequence, 'draft');
        lasting.push(row({ ...sequence, label: name }, LONG_STEPS, { on, off: null }, LEAST_PATTERN));
      }
    }
    return [
      table(`Bytes on the wire: revisions, by set (nothing written for ${ms} ms: ${idle.join(', ')} bytes)`, revisions),
      table('Bytes on the wire: contexts changed in the draft of update', drafts),
      table('Bytes on the wire: the same contexts, as whole values by set', sets),
      table(
        `Bytes on the wire: ${LONG_STEPS} changes of fields, so that keyframes and copies come again; by what the log keeps`,
        lasting,
      ),
    ];
  } finally {
    await Promise.all([pairs.on.close(), pairs.off.close(), pairs.trimmed.close()]);
    await redis.quit();
  }
}

const table = (caption: string, rows: readonly Row[]): Table => ({
  caption,
  columns: [
    column('label', 'Sequence'),
    column('size', 'Document'),
    column('steps', 'Steps', 'number'),
    column('full', 'Full', 'number'),
    column('toRedis', 'To Redis', 'number'),
    column('redisSaved', 'saved', 'percent'),
    column('toWriter', 'Back to the writer', 'number'),
    column('toSubscriber', 'To a subscriber', 'number'),
    column('subscriberSaved', 'saved', 'percent'),
    column('logFrames', 'Frames in the log', 'number'),
    column('log', 'Memory of the log', 'number'),
    column('copies', 'Copies beside it', 'number'),
    column('logSaved', 'saved, both', 'percent'),
    column('target', 'Target, each'),
    column('offToRedis', 'delta off: to Redis', 'number'),
    column('offToSubscriber', 'delta off: to a subscriber', 'number'),
  ],
  rows,
});

function row({ label, size }: Pick<Sequence, 'label' | 'size'>, steps: number, { on, off }: Both, least: number | null): Row {
  const redisSaved = reduction(on.toRedis, on.full);
  const subscriberSaved = reduction(on.toSubscriber, on.full);
  // memory comes in steps of some 4 KB: a few frames may fit into what was there; copies are there for the log alone
  const logSaved = reduction(Math.max(on.log, on.logFrames) + Math.max(0, on.copies), on.full);
  return {
    ...{ label, size, steps, full: on.full },
    ...{ toRedis: Math.round(on.toRedis), redisSaved },
    toWriter: Math.round(on.toWriter),
    ...{ toSubscriber: Math.round(on.toSubscriber), subscriberSaved },
    ...{ logFrames: on.logFrames, log: on.log, logSaved, copies: on.copies },
    target: least === null ? '' : saves([redisSaved, subscriberSaved, logSaved], least),
    offToRedis: off === null ? null : Math.round(off.toRedis),
    offToSubscriber: off === null ? null : Math.round(off.toSubscriber),
  };
}
