/** One app instance as a process of its own: a store, writers and readers that load it, watchers that keep what they were told. */
import { crc32Hex } from '../../src/core/checksum.js';
import { type ContextError, ContextStore, isContextError, type JsonValue, type StoreOptions } from '../../src/index.js';
import { emit, serve } from '../helpers/child.js';
import { type Rng, seededRng } from '../helpers/random.js';

/** What a load consists of. */
export interface Load {
  readonly ids: readonly string[];
  readonly seed: number;
  /** Loops that write or read one after the other. */
  readonly loops: number;
  /** `mixed`: sets, updates, patches, deletes and reads. `counting`: updates that add one. */
  readonly kind: 'mixed' | 'counting';
  /** Longest pause between two steps of a loop, ms. */
  readonly pauseMs: number;
  /** Time that a write has, ms. */
  readonly timeoutMs?: number;
  /** Bytes are damaged on their way: a call may end with any coded error. */
  readonly damage?: boolean;
}

export type Command =
  | { readonly do: 'open'; readonly options: StoreOptions }
  | { readonly do: 'watch'; readonly ids: readonly string[] }
  | { readonly do: 'load'; readonly load: Load }
  | { readonly do: 'stop' | 'told' | 'stats' | 'close' }
  | { readonly do: 'memory'; readonly ids: readonly string[] };

/** A write that was acknowledged; told at once, so that it counts although the process dies a moment later. */
export interface Ack {
  readonly id: string;
  readonly version: number;
  /** Null: it was deleted. */
  readonly crc: string | null;
}

/** What became of the load since the last `load`. */
export interface Tally {
  readonly acknowledged: number;
  /** Writes whose outcome is unknown, by their own words. */
  readonly unknown: number;
  /** Codes of writes that were refused, or not sent at all, with certainty. */
  readonly refused: Readonly<Record<string, number>>;
  /** What should not have happened. */
  readonly problems: readonly string[];
  /** Every version that a reader got, with the checksum of the value. */
  readonly read: readonly (readonly [id: string, version: number, crc: string])[];
}

/** A change as a watcher got it; `crc` is computed from the value. */
export type Told = readonly [version: number, kind: string, crc: string | null];

/** What an instance answers for a context. */
export interface Held {
  readonly version: number | null;
  readonly checksum: string | null;
  readonly crc: string | null;
  /** It was answered from memory. */
  readonly fromMemory: boolean;
}

interface Doc {
  n: number;
  by: string;
  list: string[];
}

const crcOf = (value: JsonValue): string => crc32Hex(JSON.stringify(value));

let opened: ContextStore | undefined;
const told = new Map<string, Told[]>();
let stopped = false;
let loops: Promise<void>[] = [];
let acknowledged = 0;
let unknown = 0;
let refused: Record<string, number> = {};
let problems: string[] = [];
const read = new Map<string, readonly [string, number, string]>();
/** Versions that this process has read or written: what it reads later is not older. */
const seen = new Map<string, number>();

function store(): ContextStore {
  if (opened === undefined) throw new Error('open it first');
  return opened;
}

function watch(id: string): void {
  const list: Told[] = [];
  told.set(id, list);
  void (async () => {
    for await (const { version, kind, value } of store().watch(id, { fromVersion: 0, queue: 10_000 })) {
      list.push([version, kind, value === null ? null : crcOf(value)]);
    }
  })();
}

const raise = (id: string, version: number): void => {
  seen.set(id, Math.max(seen.get(id) ?? 0, version));
};

function ack(id: string, version: number, crc: string | null): void {
  acknowledged += 1;
  raise(id, version);
  emit({ id, version, crc } satisfies Ack);
}

function failed(what: string, error: unknown, damage: boolean): void {
  if (!isContextError(error)) {
    problems.push(`${what}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    return;
  }
  const { code, message } = error as ContextError;
  const uncertain = code === 'OUTCOME_UNKNOWN' || (code === 'TIMEOUT' && message.includes('may or may not have been applied'));
  if (uncertain) unknown += 1;
  else if (damage || code === 'TIMEOUT' || code === 'CONNECTION' || code === 'CONFLICT' || code === 'NOT_FOUND') {
    refused[code] = (refused[code] ?? 0) + 1;
  } else problems.push(`${what}: ${code} ${message}`);
}

async function readOne(id: string): Promise<void> {
  const floor = seen.get(id) ?? 0;
  const context = await store().get(id, { timeout: '10s' });
  if (context === null) return;
  const crc = crcOf(context.value);
  if (crc !== context.checksum)
    problems.push(`${id}: version ${context.version} was read with another checksum than its value has`);
  if (context.version < floor) problems.push(`${id}: version ${context.version} was read after ${floor}`);
  raise(id, context.version);
  read.set(`${id} ${context.version} ${crc}`, [id, context.version, crc]);
}

async function mixed(id: string, rng: Rng, timeout: number): Promise<void> {
  const text = `${store().instanceId} ${rng.int(0, 1_000_000)} ${'x'.repeat(rng.int(0, 300))}`;
  const dice = rng.int(1, 100);
  if (dice <= 35) {
    await readOne(id);
  } else if (dice <= 75) {
    const { version, checksum } = await store().update<Doc>(
      id,
      (draft) => {
        draft.n += 1;
        draft.by = store().instanceId;
        draft.list.push(text);
        if (draft.list.length > 10) draft.list.shift();
      },
      { initial: { n: 0, by: '', list: [] }, timeout },
    );
    ack(id, version, checksum);
  } else if (dice <= 85) {
    const { version, checksum } = await store().set(id, { n: 0, by: store().instanceId, list: [text] }, { timeout });
    ack(id, version, checksum);
  } else if (dice <= 97) {
    const patch = [{ op: 'add', path: '/list/0', value: text }];
    const { version, checksum } = await store().patch(id, patch, { timeout });
    ack(id, version, checksum);
  } else {
    const gone = await store().delete(id, { timeout });
    if (gone !== null) ack(id, gone.version, null);
  }
}

async function count(id: string, timeout: number): Promise<void> {
  const { version, checksum } = await store().update<Doc>(
    id,
    (draft) => {
      draft.n += 1;
    },
    { initial: { n: 0 }, attempts: 10_000, timeout },
  );
  ack(id, version, checksum);
}

async function loop(load: Load, number: number): Promise<void> {
  const rng = seededRng(load.seed + 7919 * number);
  while (!stopped) {
    const id = rng.pick(load.ids);
    try {
      if (load.kind === 'counting') await count(id, load.timeoutMs ?? 10_000);
      else await mixed(id, rng, load.timeoutMs ?? 10_000);
    } catch (error) {
      failed(`${load.kind} ${id}`, error, load.damage === true);
    }
    await new Promise((resolve) => setTimeout(resolve, rng.int(0, load.pauseMs)));
  }
}

async function held(id: string): Promise<Held> {
  const before = (await store().stats()).replicas.hits;
  const context = await store().get(id);
  const fromMemory = (await store().stats()).replicas.hits > before;
  return {
    version: context?.version ?? null,
    checksum: context?.checksum ?? null,
    crc: context === null ? null : crcOf(context.value),
    fromMemory,
  };
}

async function run(command: Command): Promise<unknown> {
  switch (command.do) {
    case 'open':
      opened = await ContextStore.connect(command.options);
      return opened.instanceId;
    case 'watch':
      for (const id of command.ids) watch(id);
      return undefined;
    case 'load':
      stopped = false;
      [acknowledged, unknown, refused, problems] = [0, 0, {}, []];
      loops = Array.from({ length: command.load.loops }, (_, number) => loop(command.load, number));
      return undefined;
    case 'stop': {
      stopped = true;
      await Promise.all(loops);
      return { acknowledged, unknown, refused, problems, read: [...read.values()] } satisfies Tally;
    }
    case 'told':
      return Object.fromEntries(told);
    case 'memory': {
      const answers: Record<string, Held> = {};
      for (const id of command.ids) answers[id] = await held(id);
      return answers;
    }
    case 'stats':
      return store().stats();
    case 'close':
      await store().close();
      return undefined;
  }
}

serve((message) => run(message as Command));
