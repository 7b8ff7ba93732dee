/**
 * The same reads, writes and propagation by bentocache and cacheable, each as its documentation has it fastest and as it works: writes
 * wait for Redis as ours do; where their memory layers hand out the very object that they hold, a caller who changes it changes the cache.
 */
import { deepStrictEqual } from 'node:assert/strict';
import type { Conversation } from '../../test/helpers/random.js';
import { waitFor } from '../../test/helpers/waitFor.js';
import type { Benchmark, Setting } from './lib/benchmark.js';
import { CONCURRENCIES, documents, edited, PAYLOADS } from './lib/payloads.js';
import { propagate } from './lib/propagate.js';
import { installRivals, rivalVersion } from './lib/rivalPackages.js';
import { alternate, median, percentile, ratio, throughput } from './lib/rounds.js';
import { column, type Table, type Value } from './lib/table.js';
import { openSubject, type Subject, type SubjectName } from './subjects/Subject.js';

const COMPARED = ['bentocache', 'cacheable-no-copy', 'ours'] as const satisfies readonly SubjectName[];
const IN_MEMORY = [
  'bentocache',
  'bentocache-no-copy',
  'cacheable',
  'cacheable-no-copy',
  'ours',
] as const satisfies readonly SubjectName[];

export const rivals: Benchmark = {
  name: 'rivals',
  run: async (setting) => {
    installRivals((line) => process.stderr.write(`${line}\n`));
    return [await memoryReads(setting), await redisCalls(setting), await propagations(setting)];
  },
};

const namespaceOf = (name: SubjectName, bytes: number): string => `bench-rivals-${name}-${bytes}`;

/** Opens subjects, runs, and closes them whatever happens. */
async function withSubjects<N extends SubjectName, T>(
  names: readonly N[],
  url: string,
  bytes: number,
  run: (subjects: Readonly<Record<N, Subject>>) => Promise<T>,
): Promise<T> {
  const opened: [N, Subject][] = [];
  try {
    for (const name of names) opened.push([name, await openSubject(name, url, namespaceOf(name, bytes))]);
    return await run(Object.fromEntries(opened) as unknown as Record<N, Subject>);
  } finally {
    for (const [, subject] of opened) await subject.close();
  }
}

const each = <N extends string, T>(names: readonly N[], make: (name: N) => T): Record<N, T> =>
  Object.fromEntries(names.map((name) => [name, make(name)])) as Record<N, T>;

/** What is written by one instance must be what another reads: else something else is measured than meant. */
async function check(name: SubjectName, url: string, bytes: number, id: string, doc: Conversation): Promise<void> {
  await withSubjects([name], url, bytes, async (subjects) => {
    const subject = subjects[name];
    const read = await waitFor(async () => subject.valueOf(await subject.get(id)), { what: `${name} to read ${id}` });
    deepStrictEqual(read, doc, `${name} does not give back what was written`);
  });
}

async function memoryReads({ url, rounds, quick }: Setting): Promise<Table> {
  const rows = [];
  for (const { label, bytes } of PAYLOADS) {
    const docs = documents(bytes, 16);
    const ids = docs.map((_, index) => `doc-${index}`);
    const times = await withSubjects(IN_MEMORY, url, bytes, async (subjects) => {
      for (const name of IN_MEMORY) {
        for (const [index, id] of ids.entries()) await subjects[name].set(id, docs[index] as Conversation);
        await subjects[name].warm(ids);
        await check(name, url, bytes, 'doc-0', docs[0] as Conversation);
      }
      return alternate(
        rounds,
        each(IN_MEMORY, (name) => async () => {
          const subject = subjects[name];
          const least = quick ? 60 : 200;
          const start = performance.now();
          let calls = 0;
          while (performance.now() - start < least) {
            for (let call = 0; call < 64; call += 1) await subject.get(ids[call & 15] ?? '');
            calls += 64;
          }
          return ((performance.now() - start) * 1e6) / calls;
        }),
      );
    });
    const row: Record<string, Value> = { payload: label, ours: median(times.ours) };
    for (const name of IN_MEMORY) {
      if (name === 'ours') continue;
      row[name] = median(times[name]);
      row[`${name}-ratio`] = ratio(times[name], times.ours);
    }
    rows.push(row);
  }
  const versions = `bentocache ${rivalVersion('bentocache')}, cacheable ${rivalVersion('cacheable')}`;
  return {
    caption: `Reads from memory, ns, and how many times ours (${versions}; above 1 we are ahead)`,
    columns: [
      column('payload', 'Payload'),
      column('ours', 'ours', 'nanoseconds'),
      column('bentocache', 'bentocache', 'nanoseconds'),
      column('bentocache-ratio', 'times', 'ratio'),
      column('bentocache-no-copy', 'without copies', 'nanoseconds'),
      column('bentocache-no-copy-ratio', 'times', 'ratio'),
      column('cacheable', 'cacheable', 'nanoseconds'),
      column('cacheable-ratio', 'times', 'ratio'),
      column('cacheable-no-copy', 'without copies', 'nanoseconds'),
      column('cacheable-no-copy-ratio', 'times', 'ratio'),
    ],
    rows,
  };
}

type Operation = 'Read from Redis' | 'Write a document' | 'Small edit';

async function redisCalls({ url, rounds, roundMs, quick }: Setting): Promise<Table> {
  const rows: (Record<string, Value> & { readonly operation: string })[] = [];
  for (const { label, bytes } of PAYLOADS) {
    const count = quick ? 50 : bytes > 50_000 ? 200 : 1_000;
    const first = documents(bytes, 1)[0] as Conversation;
    const versions = Array.from({ length: 8 }, (_, index) => edited(first, index));
    const ids = Array.from({ length: count }, (_, index) => `doc-${index}`);
    await withSubjects(COMPARED, url, bytes, async (subjects) => {
      for (const name of COMPARED) {
        for (const id of ids) await subjects[name].set(id, first);
        await subjects[name].warm(ids.slice(0, 50));
      }
      for (const concurrency of CONCURRENCIES) {
        const idOf = (worker: number, call: number): string => ids[(worker + call * concurrency) % 50] ?? '';
        const operations: Record<Operation, (name: (typeof COMPARED)[number]) => Promise<number>> = {
          'Read from Redis': (name) => firstReads(name, url, bytes, ids, concurrency),
          'Write a document': (name) =>
            throughput(concurrency, roundMs, (worker, call) =>
              subjects[name].set(idOf(worker, call), versions[call & 7] as Conversation),
            ),
          'Small edit': (name) =>
            throughput(concurrency, roundMs, (worker, call) => subjects[name].edit(idOf(worker, call), call)),
        };
        for (const [operation, run] of Object.entries(operations)) {
          const rates = await alternate(
            rounds,
            each(COMPARED, (name) => () => run(name)),
          );
          rows.push({
            operation,
            payload: label,
            concurrency,
            ours: median(rates.ours),
            bentocache: median(rates.bentocache),
            bentocacheRatio: ratio(rates.ours, rates.bentocache),
            cacheable: median(rates['cacheable-no-copy']),
            cacheableRatio: ratio(rates.ours, rates['cacheable-no-copy']),
          });
        }
      }
    });
  }
  rows.sort((a, b) => order(a.operation) - order(b.operation));
  return {
    caption: 'Reads and writes that reach Redis, a second, and ours by theirs (above 1 we are ahead)',
    columns: [
      column('operation', 'Operation'),
      column('payload', 'Payload'),
      column('concurrency', 'Concurrency', 'number'),
      column('ours', 'ours', 'perSecond'),
      column('bentocache', 'bentocache', 'perSecond'),
      column('bentocacheRatio', 'ours / bentocache', 'ratio'),
      column('cacheable', 'cacheable', 'perSecond'),
      column('cacheableRatio', 'ours / cacheable', 'ratio'),
    ],
    rows,
  };
}

const order = (operation: string): number => ['Read from Redis', 'Write a document', 'Small edit'].indexOf(operation);

/** Reads a second by an instance that has nothing in memory yet: each id once. */
async function firstReads(
  name: SubjectName,
  url: string,
  bytes: number,
  ids: readonly string[],
  concurrency: number,
): Promise<number> {
  return withSubjects([name], url, bytes, async (subjects) => {
    const subject = subjects[name];
    // the connection stands before the time begins
    await subject.get('absent');
    let next = 0;
    const start = performance.now();
    await Promise.all(
      Array.from({ length: concurrency }, async () => {
        for (let id = ids[next++]; id !== undefined; id = ids[next++]) {
          if (subject.valueOf(await subject.get(id)) === undefined) throw new Error(`${name} did not find ${id}`);
        }
      }),
    );
    return ids.length / ((performance.now() - start) / 1000);
  });
}

async function propagations(setting: Setting): Promise<Table> {
  const rows = [];
  for (const { label, bytes } of PAYLOADS) {
    const times = await propagate(setting, bytes, COMPARED);
    const p50 = (name: (typeof COMPARED)[number]): number[] => times[name].map((round) => percentile(round, 0.5));
    const row: Record<string, Value> = { payload: label };
    for (const name of COMPARED) {
      row[name] = percentile(times[name].flat(), 0.5);
      row[`${name}-p99`] = percentile(times[name].flat(), 0.99);
      if (name !== 'ours') row[`${name}-ratio`] = ratio(p50(name), p50('ours'));
    }
    rows.push(row);
  }
  return {
    caption: 'From the call in one process until another holds the new document, and how many times ours (above 1 we are ahead)',
    columns: [
      column('payload', 'Payload'),
      column('ours', 'ours p50', 'milliseconds'),
      column('ours-p99', 'p99', 'milliseconds'),
      column('bentocache', 'bentocache p50', 'milliseconds'),
      column('bentocache-p99', 'p99', 'milliseconds'),
      column('bentocache-ratio', 'times', 'ratio'),
      column('cacheable-no-copy', 'cacheable p50', 'milliseconds'),
      column('cacheable-no-copy-p99', 'p99', 'milliseconds'),
      column('cacheable-no-copy-ratio', 'times', 'ratio'),
    ],
    rows,
  };
}
