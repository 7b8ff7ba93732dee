/**
 * The program of one instance: it opens a store of its own, watches every context, writes what the parent asks for, and tells
 * what it saw. It ends when the parent says so or goes away.
 */
import { setMaxListeners } from 'node:events';
import { readFileSync } from 'node:fs';
import { ContextError, ERROR_CODES, isContextError } from '../../core/errors.js';
import type { JsonValue } from '../../core/json.js';
import { ContextStore } from '../../store/ContextStore.js';
import { storeOptions } from '../session.js';
import { applyTurn, type Conversation } from './conversation.js';
import { type Answers, type FromInstance, machineTime, type Request, type Seen, type ToInstance } from './messages.js';

let store: ContextStore | undefined;
let contexts: readonly string[] = [];
const watched = new Map<string, { version: number; value: JsonValue }>();
const stopWatching = new AbortController();
setMaxListeners(0, stopWatching.signal); // one for each context is no leak
let unsent: Seen[] = [];

function send(message: FromInstance): void {
  if (process.connected) process.send?.(message);
}

function opened(): ContextStore {
  if (!store) throw new ContextError('CLOSED', 'this instance has not been opened');
  return store;
}

const handlers: { readonly [K in Request['kind']]: (request: Extract<Request, { kind: K }>) => Promise<Answers[K]> } = {
  open: async ({ redis, namespace, instanceId, timeout, verbose, contexts: ids }) => {
    const flags = { redis, namespace, verbose, json: false, ...(timeout === null ? {} : { timeout }) };
    store = await ContextStore.connect({ ...(await storeOptions(flags)), instanceId });
    contexts = ids;
    for (const at of ids.keys()) {
      follow(store, at).catch((error: unknown) => send({ kind: 'watchFailed', error: plain(error) }));
    }
    return null;
  },
  write: async ({ id, revision, ttl }) => {
    if (revision.kind === 'set') {
      const value = JSON.parse(readFileSync(revision.file, 'utf8')) as JsonValue;
      const startedAt = machineTime();
      const { version } = await opened().set(id, value, { ttl });
      return { version, startedAt };
    }
    const { initial, turn } = revision;
    const startedAt = machineTime();
    const { version } = await opened().update<Conversation>(id, (draft) => applyTurn(draft, turn), { initial, ttl });
    return { version, startedAt };
  },
  stats: async () => {
    const { frames, replicas, resyncs, checksumFailures } = await opened().stats();
    return { frames, replicas, resyncs, checksumFailures };
  },
  read: async ({ id }) => {
    const last = watched.get(id);
    const held = last ? { text: JSON.stringify(last.value), version: last.version } : null;
    try {
      const context = await opened().get(id);
      const read = context && { text: JSON.stringify(context.value), version: context.version, checksum: context.checksum };
      return { read, refusal: null, watched: held };
    } catch (error) {
      // Damage is what this looks for, not a reason to end.
      if (isContextError(error) && ERROR_CODES[error.code].exitCode === 4)
        return { read: null, refusal: error.code, watched: held };
      throw error;
    }
  },
  close: async () => {
    stopWatching.abort();
    await store?.close();
    return null;
  },
};

async function follow(from: ContextStore, context: number): Promise<void> {
  const id = contexts[context] ?? '';
  try {
    for await (const { version, kind, value } of from.watch(id, { fromVersion: 0, signal: stopWatching.signal })) {
      if (unsent.length === 0) setTimeout(flush, 20);
      unsent.push([context, version, kind === 'reset', machineTime()]);
      watched.set(id, { version, value });
    }
  } catch (error) {
    if (!stopWatching.signal.aborted) throw error;
  }
}

/** In batches: a message a change would cost the processes more than the changes do. */
function flush(): void {
  send({ kind: 'seen', changes: unsent });
  unsent = [];
}

async function answer(message: ToInstance): Promise<void> {
  const { call } = message;
  try {
    const handle = handlers[message.kind] as (request: Request) => Promise<unknown>;
    send({ kind: 'answer', call, answer: await handle(message) });
  } catch (error) {
    send({ kind: 'refusal', call, error: plain(error) });
  }
  if (message.kind === 'close') process.disconnect();
}

function plain(error: unknown): Record<string, unknown> {
  if (isContextError(error)) return error.toJSON();
  return { message: error instanceof Error ? error.message : String(error) };
}

process.on('message', (message: ToInstance) => void answer(message));
process.on('disconnect', () => process.exit(0));
// Ctrl-C reaches the whole process group; the parent decides how to end.
process.on('SIGINT', () => {});
process.on('SIGHUP', () => {});
