/**
 * 64 writers in 4 processes, each adding one to a counter inside a document of 1 KB, as fast as it can. On one context with `update`;
 * on one key with WATCH, GET, MULTI, SET, EXEC until it succeeds (a connection a writer, as WATCH needs); and on 64 contexts, where
 * nobody is in anybody's way. Every commit that was acknowledged must be in the counters afterwards.
 */
import { Redis } from 'ioredis';
import { type NodeProcess, spawnNode } from '../../test/helpers/processes.js';
import { type Conversation, makeConversation } from '../../test/helpers/random.js';
import type { Benchmark, Setting } from './lib/benchmark.js';
import { alternate, median, ratio } from './lib/rounds.js';
import { withoutReplicas } from './lib/stores.js';
import { column, type Table } from './lib/table.js';

const PROCESSES = 4;
const WRITERS = 16;
const BYTES = 1024;
const NAMESPACE = 'bench-contention';

export type ContentionRequest =
  | {
      readonly do: 'open';
      readonly url: string;
      readonly namespace: string;
      readonly writers: number;
      readonly ids: readonly string[];
    }
  /** One id a writer. */
  | {
      readonly do: 'run';
      readonly how: 'update' | 'watch';
      readonly ids: readonly string[];
      readonly startAt: number;
      readonly ms: number;
    }
  | { readonly do: 'close' };

export interface ContentionResult {
  readonly commits: number;
  readonly conflicts: number;
  /** Commits of the writer that had fewest. */
  readonly least: number;
}

interface Run extends ContentionResult {
  readonly perSecond: number;
  readonly lost: number;
}

export const contention: Benchmark = { name: 'contention', run: async (setting) => [await contended(setting)] };

const request = <T>(child: NodeProcess, message: ContentionRequest): Promise<T> =>
  child.request<T>(message, { limitMs: 120_000 });

async function contended({ url, rounds, quick }: Setting): Promise<Table> {
  const redis = new Redis(url);
  const store = await withoutReplicas(url, NAMESPACE);
  const script = new URL('./contentionProcess.ts', import.meta.url);
  const children = await Promise.all(Array.from({ length: PROCESSES }, () => spawnNode(script)));
  const ms = quick ? 400 : 1_500;
  const apart = children.map((_, child) => Array.from({ length: WRITERS }, (_, writer) => `apart-${child}-${writer}`));
  const doc = makeConversation(1, BYTES);
  const stepOf = async (id: string): Promise<number> =>
    ((await store.get<Conversation>(id))?.value.state.step ?? 0) - doc.state.step;
  const rawStepOf = async (key: string): Promise<number> =>
    (JSON.parse((await redis.get(key)) ?? '') as Conversation).state.step - doc.state.step;

  const run = async (
    how: 'update' | 'watch',
    idsOf: (child: number) => readonly string[],
    total: () => Promise<number>,
  ): Promise<Run> => {
    const before = await total();
    const startAt = Date.now() + 50;
    const began = performance.now() + 50;
    const results = await Promise.all(
      children.map((child, index) => request<ContentionResult>(child, { do: 'run', how, ids: idsOf(index), startAt, ms })),
    );
    const seconds = (performance.now() - began) / 1000;
    const commits = results.reduce((sum, result) => sum + result.commits, 0);
    return {
      commits,
      conflicts: results.reduce((sum, result) => sum + result.conflicts, 0),
      least: Math.min(...results.map(({ least }) => least)),
      perSecond: commits / seconds,
      lost: commits - ((await total()) - before),
    };
  };
  const all = (id: string) => () => Array.from({ length: WRITERS }, () => id);
  const sum = async (ids: readonly string[]): Promise<number> =>
    (await Promise.all(ids.map(stepOf))).reduce((total, step) => total + step, 0);

  try {
    await store.set('one', doc);
    await redis.set('bench-watch', JSON.stringify(doc));
    for (const id of apart.flat()) await store.set(id, doc);
    await Promise.all(
      children.map((child, index) =>
        request(child, { do: 'open', url, namespace: NAMESPACE, writers: WRITERS, ids: ['one', ...(apart[index] ?? [])] }),
      ),
    );
    const runs = await alternate(rounds, {
      watch: () => run('watch', all('bench-watch'), () => rawStepOf('bench-watch')),
      one: () => run('update', all('one'), () => stepOf('one')),
      apart: () =>
        run(
          'update',
          (child) => apart[child] ?? [],
          () => sum(apart.flat()),
        ),
    });
    const perSecond = (of: readonly Run[]): number[] => of.map((each) => each.perSecond);
    const reference = perSecond(runs.watch);
    const row = (what: string, of: readonly Run[], isReference = false) => {
      const commits = of.reduce((total, each) => total + each.commits, 0);
      const lost = of.reduce((total, each) => total + each.lost, 0);
      const against = ratio(perSecond(of), reference);
      return {
        what,
        perSecond: median(perSecond(of)),
        ratio: isReference ? null : against,
        ofApart: ratio(perSecond(of), perSecond(runs.apart)),
        conflicts: of.reduce((total, each) => total + each.conflicts, 0) / commits,
        least: Math.min(...of.map((each) => each.least)),
        lost,
        target: isReference ? '' : lost === 0 ? 'met: none lost' : 'missed: none lost',
      };
    };
    return {
      caption: `${PROCESSES * WRITERS} writers in ${PROCESSES} processes, ${BYTES} bytes (higher is better)`,
      columns: [
        column('what', 'What'),
        column('perSecond', 'Commits', 'perSecond'),
        column('ratio', 'To WATCH', 'ratio'),
        column('ofApart', 'To 64 contexts', 'ratio'),
        column('conflicts', 'Conflicts a commit', 'number'),
        column('least', 'Fewest by a writer', 'number'),
        column('lost', 'Lost', 'number'),
        column('target', 'Target'),
      ],
      rows: [
        row('One key, WATCH/MULTI/EXEC', runs.watch, true),
        row('One context, update', runs.one),
        row('64 contexts, update', runs.apart),
      ],
    };
  } finally {
    await Promise.all(children.map((child) => request(child, { do: 'close' }).catch(() => {})));
    await Promise.all(children.map((child) => child.kill()));
    await Promise.all([store.close(), redis.quit()]);
  }
}
