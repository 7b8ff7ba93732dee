/** A process of the bank: it moves money between two accounts at a time, or reads all of them, in transactions whose reads and writes are recorded. */
import { ContextStore, isContextError, type StoreOptions } from '../../src/index.js';
import { serve } from '../helpers/child.js';
import { HistoryRecorder } from '../helpers/history.js';
import { seededRng } from '../helpers/random.js';
import type { Transaction } from '../helpers/serializability.js';

/** What an account's context holds; `by`: the transaction that wrote it. */
export type Account = { balance: number; by: string };

export interface BankInput {
  readonly transaction: string;
  readonly do: 'open' | 'transfer' | 'audit';
}
export interface BankOutput {
  readonly reads: Transaction['reads'];
  readonly writes: Transaction['writes'];
  readonly balances: Readonly<Record<string, number>>;
}

export interface BankLoad {
  readonly do: 'transfer' | 'audit';
  readonly accounts: readonly string[];
  readonly seed: number;
  readonly loops: number;
  /** Longest pause between two transactions of a loop, ms. */
  readonly pauseMs: number;
  /** Longest time that a transaction has, ms; the shortest is a tenth of it. */
  readonly timeoutMs: number;
}

export type BankCommand =
  | { readonly do: 'open'; readonly options: StoreOptions; readonly name: string; readonly file: string }
  | { readonly do: 'found'; readonly accounts: readonly string[]; readonly balance: number }
  | { readonly do: 'load'; readonly load: BankLoad }
  | { readonly do: 'audit'; readonly accounts: readonly string[] }
  | { readonly do: 'stop' | 'stats' };

let opened: ContextStore | undefined;
let recorder: HistoryRecorder<BankInput, BankOutput> | undefined;
let name = '';
let count = 0;
let stopped = false;
let loops: Promise<void>[] = [];
/** What should not have happened. */
const problems: string[] = [];
/** Codes of transactions that ended without having been done. */
const refused: Record<string, number> = {};

function store(): ContextStore {
  if (opened === undefined) throw new Error('open it first');
  return opened;
}

/**
 * One transaction over `ids`: `change` gets their balances and gives those that are to be written. What its last run read and wrote is
 * recorded.
 */
async function transact(
  what: BankInput['do'],
  ids: readonly string[],
  change: (balances: Readonly<Record<string, number>>) => Readonly<Record<string, number>>,
  timeout = 15_000,
): Promise<void> {
  const history = recorder;
  if (history === undefined) throw new Error('open it first');
  count += 1;
  const transaction = `${name}-${count}`;
  const op = history.invoke('bank', { transaction, do: what });
  try {
    const output = await store().transaction(
      async (tx): Promise<BankOutput> => {
        const contexts = await tx.getMany(ids);
        const balances: Record<string, number> = {};
        const reads = ids.map((id, index) => {
          const { version, value } = contexts[index] ?? { version: 0, value: null };
          const account = value as Account | null;
          if (account === null) return { id, version };
          balances[id] = account.balance;
          return { id, version, writer: account.by };
        });
        const changed = change(balances);
        for (const [id, balance] of Object.entries(changed)) tx.set(id, { balance, by: transaction } satisfies Account);
        const writes = reads.filter(({ id }) => id in changed).map(({ id, version }) => ({ id, version: version + 1 }));
        return { reads, writes, balances };
      },
      { attempts: 10_000, timeout },
    );
    history.ok(op, output);
  } catch (error) {
    failed(history, op, what, error);
  }
}

function failed(history: HistoryRecorder<BankInput, BankOutput>, op: number, what: string, error: unknown): void {
  if (!isContextError(error)) {
    problems.push(error instanceof Error ? (error.stack ?? error.message) : String(error));
    return;
  }
  const { code, message } = error;
  if (code === 'OUTCOME_UNKNOWN' || message.includes('may or may not have been')) history.unknown(op, code);
  // these are certain by their own words: nothing was written
  else if (code === 'TIMEOUT' || code === 'CONNECTION' || code === 'CONFLICT' || code === 'LOCKED') history.fail(op, code);
  else problems.push(`${what}: ${code} ${message}`);
  refused[`${what} ${code}`] = (refused[`${what} ${code}`] ?? 0) + 1;
}

async function loop({ do: what, accounts, seed, pauseMs, timeoutMs }: BankLoad, number: number): Promise<void> {
  const rng = seededRng(seed + 7919 * number);
  while (!stopped) {
    const timeout = rng.int(timeoutMs / 10, timeoutMs);
    if (what === 'audit') await transact('audit', accounts, () => ({}), timeout);
    else {
      const from = rng.pick(accounts);
      const to = rng.pick(accounts.filter((id) => id !== from));
      const amount = rng.int(1, 30);
      // nobody owes anything
      const move = (balances: Readonly<Record<string, number>>): Readonly<Record<string, number>> => {
        const [left = 0, right = 0] = [balances[from], balances[to]];
        return left < amount ? {} : { [from]: left - amount, [to]: right + amount };
      };
      await transact('transfer', [from, to], move, timeout);
    }
    await new Promise((resolve) => setTimeout(resolve, rng.int(0, pauseMs)));
  }
}

async function run(command: BankCommand): Promise<unknown> {
  switch (command.do) {
    case 'open':
      name = command.name;
      recorder = new HistoryRecorder(command.name, command.file);
      opened = await ContextStore.connect(command.options);
      return undefined;
    case 'found':
      return transact('open', command.accounts, () => Object.fromEntries(command.accounts.map((id) => [id, command.balance])));
    case 'load':
      stopped = false;
      loops = Array.from({ length: command.load.loops }, (_, number) => loop(command.load, number));
      return undefined;
    case 'audit':
      return transact('audit', command.accounts, () => ({}));
    case 'stop':
      stopped = true;
      await Promise.all(loops);
      return { problems, refused };
    case 'stats':
      return store().stats();
  }
}

serve((message) => run(message as BankCommand));
