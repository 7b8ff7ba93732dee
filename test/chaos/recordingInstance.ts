/** One app instance as a process of its own whose calls are recorded in a file: what it asked, when, and what it was answered. */
import { ContextStore, isContextError, type StoreOptions } from '../../src/index.js';
import { serve } from '../helpers/child.js';
import { HistoryRecorder } from '../helpers/history.js';
import type { ContextInput, ContextOutput, Marked } from '../helpers/linearizabilityModels.js';
import { type Rng, seededRng } from '../helpers/random.js';

export interface RecordedLoad {
  readonly ids: readonly string[];
  readonly seed: number;
  /** Loops that make one call after the other. */
  readonly loops: number;
  /** Longest pause between two calls of a loop, ms. */
  readonly pauseMs: number;
  /** Longest time that a write has, ms; the shortest is a tenth of it. */
  readonly timeoutMs: number;
}

export type RecordedCommand =
  /** `name` is another one for every process; the history goes to `file`. */
  | { readonly do: 'open'; readonly options: StoreOptions; readonly name: string; readonly file: string }
  | { readonly do: 'load'; readonly load: RecordedLoad }
  /** One read. Not `fresh`: from memory, where it can answer. */
  | { readonly do: 'read'; readonly id: string; readonly fresh: boolean }
  | { readonly do: 'write'; readonly id: string }
  | { readonly do: 'stop' | 'close' };

let opened: ContextStore | undefined;
let recorder: HistoryRecorder<ContextInput, ContextOutput> | undefined;
let name = '';
let marks = 0;
let stopped = false;
let loops: Promise<void>[] = [];
/** What should not have happened. */
const problems: string[] = [];
/** The last version of each context that this process was told. */
const known = new Map<string, number>();

function store(): ContextStore {
  if (opened === undefined) throw new Error('open it first');
  return opened;
}

function nextMark(): string {
  marks += 1;
  return `${name}-${marks}`;
}

async function call(id: string, input: ContextInput, timeout: number, fresh = true): Promise<ContextOutput> {
  const condition = 'ifVersion' in input && input.ifVersion !== undefined ? { ifVersion: input.ifVersion } : {};
  switch (input.do) {
    case 'get': {
      const context = await store().get<Marked>(id, { fresh, timeout: 10_000 });
      return context === null ? null : { version: context.version, value: context.value };
    }
    case 'set': {
      const { version } = await store().set(id, { n: 0, by: input.by }, { ...condition, timeout });
      return { version };
    }
    case 'update': {
      const change = (draft: Marked): void => {
        draft.n += 1;
        draft.by = input.by;
      };
      const { version, value } = await store().update<Marked>(id, change, { initial: { n: 0, by: '' }, timeout });
      return { version, value: value as Marked };
    }
    case 'patch': {
      const { version } = await store().patch(id, [{ op: 'replace', path: '/by', value: input.by }], { timeout });
      return { version };
    }
    case 'delete':
      return store().delete(id, { ...condition, timeout });
  }
}

async function record(id: string, input: ContextInput, timeout: number, fresh?: boolean): Promise<void> {
  const history = recorder;
  if (history === undefined) throw new Error('open it first');
  const op = history.invoke(id, input);
  try {
    const output = await call(id, input, timeout, fresh);
    history.ok(op, output);
    if (output !== null && typeof output === 'object' && 'version' in output) known.set(id, output.version);
  } catch (error) {
    failed(history, op, input, error);
  }
}

function failed(history: HistoryRecorder<ContextInput, ContextOutput>, op: number, input: ContextInput, error: unknown): void {
  if (!isContextError(error)) {
    problems.push(error instanceof Error ? (error.stack ?? error.message) : String(error));
    return;
  }
  const { code, message, details } = error;
  if (code === 'OUTCOME_UNKNOWN' || message.includes('may or may not have been applied')) history.unknown(op, code);
  else if (code === 'CONFLICT' && 'ifVersion' in input) history.ok(op, { conflict: Number(details.found) });
  else if (code === 'NOT_FOUND') history.ok(op, 'not found');
  // these are certain by their own words: nothing was written
  else if (code === 'TIMEOUT' || code === 'CONNECTION' || code === 'CONFLICT') history.fail(op, `${code} ${message}`);
  else problems.push(`${input.do}: ${code} ${message}`);
}

function choose(id: string, rng: Rng): ContextInput {
  const dice = rng.int(1, 100);
  const version = known.get(id);
  const condition = version !== undefined && rng.chance(0.4) ? { ifVersion: version } : {};
  if (dice <= 40) return { do: 'get' };
  if (dice <= 65) return { do: 'update', by: nextMark() };
  if (dice <= 80) return { do: 'set', by: nextMark(), ...condition };
  if (dice <= 85) return { do: 'set', by: nextMark(), ifVersion: 0 };
  if (dice <= 95) return { do: 'patch', by: nextMark() };
  return { do: 'delete', ...condition };
}

async function loop(load: RecordedLoad, number: number): Promise<void> {
  const rng = seededRng(load.seed + 7919 * number);
  while (!stopped) {
    const id = rng.pick(load.ids);
    await record(id, choose(id, rng), rng.int(load.timeoutMs / 10, load.timeoutMs));
    await new Promise((resolve) => setTimeout(resolve, rng.int(0, load.pauseMs)));
  }
}

async function run(command: RecordedCommand): Promise<unknown> {
  switch (command.do) {
    case 'open':
      name = command.name;
      recorder = new HistoryRecorder(command.name, command.file);
      opened = await ContextStore.connect(command.options);
      return undefined;
    case 'load':
      stopped = false;
      loops = Array.from({ length: command.load.loops }, (_, number) => loop(command.load, number));
      return undefined;
    case 'read':
      return record(command.id, { do: 'get' }, 10_000, command.fresh);
    case 'write':
      return record(command.id, { do: 'update', by: nextMark() }, 10_000);
    case 'stop':
      stopped = true;
      await Promise.all(loops);
      return problems;
    case 'close':
      await store().close();
      recorder?.close();
      return undefined;
  }
}

serve((message) => run(message as RecordedCommand));
