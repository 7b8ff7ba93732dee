/**
 * A process for the tests of transactions whose coordinator dies: it coordinates transactions of several namespaces, or reads in all of them
 * and looks for what is neither before nor after.
 */
import { ContextStore, type StoreOptions } from '../../src/index.js';
import { serve } from '../helpers/child.js';
import { type Group, type Marked, stateOf } from './transactionGroup.js';

export type TransactionCommand =
  | { readonly do: 'open'; readonly stores: readonly StoreOptions[] }
  /** Begins the transaction of each; the answer does not wait for them. */
  | { readonly do: 'begin'; readonly groups: readonly Group[] }
  /** What has become of the transaction of a namespace. */
  | { readonly do: 'outcome'; readonly namespace: string }
  | { readonly do: 'read'; readonly groups: readonly Group[] }
  /** Ends reading in these, after the read that is on its way. */
  | { readonly do: 'stop'; readonly namespaces: readonly string[] }
  | { readonly do: 'close' };

export interface Outcome {
  readonly runs: number;
  readonly error: string | null;
}

export interface Readings {
  readonly reads: number;
  /** What should never be seen. */
  readonly problems: readonly string[];
}

const opened = new Map<string, ContextStore>();
const outcomes = new Map<string, Promise<Outcome>>();
const readers = new Map<string, { stop: boolean; ended: Promise<Readings> }>();

function storeOf(namespace: string): ContextStore {
  const store = opened.get(namespace);
  if (store === undefined) throw new Error(`open ${namespace} first`);
  return store;
}

async function coordinate({ namespace, planned }: Group): Promise<Outcome> {
  let runs = 0;
  try {
    await storeOf(namespace).transaction(async (tx) => {
      runs += 1;
      const found = await tx.getMany(planned.map(({ id }) => id));
      for (const [index, { id, kind }] of planned.entries()) {
        const n = ((found[index]?.value as Marked | undefined)?.n ?? 0) + 1;
        if (kind === 'delete') tx.delete(id);
        else if (kind === 'patch') tx.patch(id, [{ op: 'replace', path: '/n', value: n }]);
        else tx.set(id, { n });
      }
    });
    return { runs, error: null };
  } catch (error) {
    return { runs, error: String(error) };
  }
}

async function readAll({ namespace, planned }: Group, reader: { stop: boolean }): Promise<Readings> {
  const store = storeOf(namespace);
  const ids = planned.map(({ id }) => id);
  const problems: string[] = [];
  let reads = 0;
  let after = false;
  while (!reader.stop) {
    for (const how of ['getMany', 'transaction'] as const) {
      const found =
        how === 'getMany' ? await store.getMany(ids, { fresh: true }) : await store.transaction((tx) => tx.getMany(ids));
      const states = planned.map((one, index) => stateOf(one, found[index]?.value));
      const here = states.includes('after');
      if (here && states.includes('before')) problems.push(`${namespace}: ${how} saw a mix: ${states.join(' ')}`);
      if (after && !here) problems.push(`${namespace}: ${how} saw what was before after it had seen what is after`);
      after ||= here;
      reads += 1;
    }
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  return { reads, problems };
}

async function run(command: TransactionCommand): Promise<unknown> {
  switch (command.do) {
    case 'open':
      await Promise.all(
        command.stores.map(async (options) => {
          opened.set(options.namespace ?? '', await ContextStore.connect(options));
        }),
      );
      return undefined;
    case 'begin':
      for (const group of command.groups) outcomes.set(group.namespace, coordinate(group));
      return undefined;
    case 'outcome':
      return outcomes.get(command.namespace);
    case 'read':
      for (const group of command.groups) {
        const reader = { stop: false, ended: Promise.resolve<Readings>({ reads: 0, problems: [] }) };
        reader.ended = readAll(group, reader);
        reader.ended.catch(() => {});
        readers.set(group.namespace, reader);
      }
      return undefined;
    case 'stop': {
      const stopped = command.namespaces.flatMap((namespace) => readers.get(namespace) ?? []);
      for (const reader of stopped) reader.stop = true;
      const all = await Promise.all(stopped.map(({ ended }) => ended));
      for (const namespace of command.namespaces) readers.delete(namespace);
      return {
        reads: all.reduce((sum, { reads }) => sum + reads, 0),
        problems: all.flatMap(({ problems }) => problems),
      } satisfies Readings;
    }
    case 'close':
      await Promise.all([...opened.values()].map((store) => store.close()));
      opened.clear();
      return undefined;
  }
}

serve((message) => run(message as TransactionCommand));
