/**
 * Transactions over two contexts beside one commit of one of them: in one shard, which is one script, and over two, which is two phases. `set`
 * writes both documents anew; `transfer` reads both, from this process's replicas, and patches both, beside `update` of one.
 */
import type { Conversation } from '../../test/helpers/random.js';
import type { Benchmark, Setting } from './lib/benchmark.js';
import { documents, edit, PAYLOADS } from './lib/payloads.js';
import { alternate, median, ratio, throughput } from './lib/rounds.js';
import { openStore, replicate } from './lib/stores.js';
import { atMost, column, type Table, type Value } from './lib/table.js';

const SHARDS = 16;
const SAME = 1.5;
const ACROSS = 4;
const PATCH = (n: number) => [{ op: 'replace', path: '/state/step', value: n }];

export const transactions: Benchmark = { name: 'transactions', run: async (setting) => [await compared(setting)] };

async function compared({ url, rounds, roundMs }: Setting): Promise<Table> {
  const rows: Record<string, Value>[] = [];
  const store = await openStore(url, 'bench-transactions-sharded', { shards: SHARDS, memory: { local: 0 } });
  const replicas = await openStore(url, 'bench-transactions-replicas', { shards: SHARDS });
  const shardOf = (id: string): string => store.keysOf(id).context.split('}')[0] ?? '';
  try {
    for (const { label, bytes } of PAYLOADS) {
      const docs = documents(bytes);
      const names = Array.from({ length: 100 }, (_, index) => `${label}-${index}`);
      const first = names[0] ?? '';
      const near = names.find((name) => name !== first && shardOf(name) === shardOf(first)) ?? '';
      const far = names.find((name) => shardOf(name) !== shardOf(first)) ?? '';
      for (const id of [first, near, far]) {
        await store.set(id, docs[0]);
        await replicas.set(id, docs[0]);
      }
      await replicate(replicas, [first, near, far]);
      const doc = (call: number): unknown => docs[call & (docs.length - 1)];
      const both = (other: string, call: number): Promise<void> =>
        store.transaction((tx) => {
          tx.set(first, doc(call));
          tx.set(other, doc(call + 1));
        });
      const transfer = (other: string, call: number): Promise<void> =>
        replicas.transaction(async (tx) => {
          for (const id of [first, other]) {
            const held = await tx.get<Conversation>(id);
            tx.patch(id, PATCH((held?.value.state.step ?? 0) + call));
          }
        });
      const alone = (operation: (call: number) => Promise<unknown>) => (): Promise<number> =>
        throughput(1, roundMs, (_, call) => operation(call));
      const rates = await alternate(rounds, {
        set: alone((call) => store.set(first, doc(call))),
        setNear: alone((call) => both(near, call)),
        setFar: alone((call) => both(far, call)),
        update: alone((call) => replicas.update<Conversation>(first, (draft) => edit(draft, call))),
        transferNear: alone((call) => transfer(near, call)),
        transferFar: alone((call) => transfer(far, call)),
      });
      const row = (what: string, of: readonly number[], reference: readonly number[], most: number | null) => {
        const against = ratio(reference, of);
        const target = most === null ? '' : atMost(against, most);
        rows.push({ payload: label, what, perSecond: median(of), ratio: most === null ? null : against, target });
      };
      row('set of one context', rates.set, rates.set, null);
      row('two contexts, one shard', rates.setNear, rates.set, SAME);
      row('two contexts, two shards', rates.setFar, rates.set, ACROSS);
      row('update of one context', rates.update, rates.update, null);
      row('transfer between two, one shard', rates.transferNear, rates.update, SAME);
      row('transfer between two, two shards', rates.transferFar, rates.update, ACROSS);
    }
  } finally {
    await Promise.all([store.close(), replicas.close()]);
  }
  return {
    caption: 'Transactions a second, one at a time, and the time of one in commits (lower is better)',
    columns: [
      column('payload', 'Payload'),
      column('what', 'What'),
      column('perSecond', 'A second', 'perSecond'),
      column('ratio', 'Time of a commit', 'ratio'),
      column('target', 'Target'),
    ],
    rows,
  };
}
