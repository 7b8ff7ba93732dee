/**
 * Commits against the least that a verified push needs, and what each step of the commit script costs the server.
 *
 * Both sides start from a JavaScript value: serialize, hash, send, have it checked, stored and published. The plain commit is `set` by
 * a store without replicas, which publishes the whole document as the reference does; `update` is a small edit of a replica.
 */
import type { Conversation } from '../../test/helpers/random.js';
import { commitSteps } from './commitSteps.js';
import type { Benchmark, Setting } from './lib/benchmark.js';
import { CONCURRENCIES, documents, edit, PAYLOADS } from './lib/payloads.js';
import { RawClient } from './lib/RawClient.js';
import { alternate, median, ratio, throughput } from './lib/rounds.js';
import { openStore, replicate, withoutReplicas } from './lib/stores.js';
import { atLeast, column, type Table } from './lib/table.js';

const TARGET = 0.6;

export const commit: Benchmark = {
  name: 'commit',
  run: async (setting) => [await commits(setting), await commitSteps(setting)],
};

async function commits({ url, rounds, roundMs }: Setting): Promise<Table> {
  const rows = [];
  const raw = await RawClient.connect(url);
  const plain = await withoutReplicas(url, 'bench-commit');
  const replicas = await openStore(url, 'bench-update');
  try {
    for (const { label, bytes } of PAYLOADS) {
      const docs = documents(bytes);
      for (const concurrency of CONCURRENCIES) {
        const count = Math.max(16, concurrency);
        const ids = Array.from({ length: count }, (_, index) => `${label}-${concurrency}-${index}`);
        const idOf = (worker: number, call: number): string => ids[(worker + call * concurrency) % count] ?? '';
        const docOf = (worker: number, call: number): unknown => docs[(worker + call) & (docs.length - 1)];
        for (const id of ids) await replicas.set(id, docs[0]);
        await replicate(replicas, ids);
        const rates = await alternate(rounds, {
          reference: () =>
            throughput(concurrency, roundMs, (worker, call) => raw.push(`raw:${idOf(worker, call)}`, docOf(worker, call))),
          set: () => throughput(concurrency, roundMs, (worker, call) => plain.set(idOf(worker, call), docOf(worker, call))),
          update: () =>
            throughput(concurrency, roundMs, (worker, call) =>
              replicas.update<Conversation>(idOf(worker, call), (draft) => edit(draft, call)),
            ),
        });
        const set = ratio(rates.set, rates.reference);
        rows.push({
          payload: label,
          concurrency,
          reference: median(rates.reference),
          set: median(rates.set),
          setRatio: set,
          target: atLeast(set, TARGET),
          update: median(rates.update),
          updateRatio: ratio(rates.update, rates.reference),
        });
        for (const id of ids) {
          await plain.delete(id);
          await replicas.delete(id);
        }
      }
    }
  } finally {
    await Promise.all([raw.close(), plain.close(), replicas.close()]);
  }
  return {
    caption: 'Commits a second, and their ratio to the reference (higher is better)',
    columns: [
      column('payload', 'Payload'),
      column('concurrency', 'Concurrency', 'number'),
      column('reference', 'Reference', 'perSecond'),
      column('set', 'set', 'perSecond'),
      column('setRatio', 'set / reference', 'ratio'),
      column('target', 'Target'),
      column('update', 'update', 'perSecond'),
      column('updateRatio', 'update / reference', 'ratio'),
    ],
    rows,
  };
}
