/**
 * Stores for a test: opened on a namespace of its own, closed after it, with what stands beside them in a test (a plain client, a
 * proxy, a logger that remembers, a watcher that is read in the background).
 */
import { Redis } from 'ioredis';
import { sealOf } from '../../src/core/seal.js';
import {
  type Change,
  ContextError,
  ContextStore,
  type ErrorCode,
  type Logger,
  type StoreEventName,
  type StoreEvents,
  type StoreOptions,
} from '../../src/index.js';
import { uniqueNamespace } from './namespace.js';
import { sharedServer } from './RedisServer.js';
import { TcpProxy } from './TcpProxy.js';
import { waitFor } from './waitFor.js';

/** What a test opens. Everything is closed after the test, the youngest first. */
export class TestStores {
  readonly #server: () => { readonly url: string } | Promise<{ readonly url: string }>;
  readonly #open: (() => Promise<void>)[] = [];
  #namespace = '';

  constructor(server: () => { readonly url: string } | Promise<{ readonly url: string }>) {
    this.#server = server;
  }

  /** The namespace of this test, unless a store is opened on another. */
  get namespace(): string {
    return this.#namespace;
  }

  begin(): void {
    this.#namespace = uniqueNamespace('it');
  }

  async end(): Promise<void> {
    for (const close of this.#open.splice(0).reverse()) await close();
  }

  async url(): Promise<string> {
    return (await this.#server()).url;
  }

  /**
   * A store that says nothing and whose heart does not beat: what it knows it has from replies and frames alone. Tests that are about
   * the heartbeat name another interval.
   */
  async open(options: StoreOptions = {}): Promise<ContextStore> {
    const store = await ContextStore.connect({
      redis: await this.url(),
      namespace: this.#namespace,
      heartbeat: '1h',
      workers: 'off',
      logger: false,
      ...options,
    });
    this.#open.push(() => store.close());
    return store;
  }

  /** Several stores on the namespace, as instances of one app. */
  async openMany(count: number, options: StoreOptions = {}): Promise<ContextStore[]> {
    return Promise.all(Array.from({ length: count }, () => this.open(options)));
  }

  /** Two instances: mostly one that writes and one that reads. */
  async pair(options: StoreOptions = {}): Promise<[ContextStore, ContextStore]> {
    return Promise.all([this.open(options), this.open(options)]);
  }

  /** A plain client, which looks at what is stored and changes it behind the stores' backs. */
  async redis(): Promise<Redis> {
    const client = new Redis(await this.url());
    client.on('error', () => {});
    this.#open.push(async () => client.disconnect());
    return client;
  }

  /** A proxy to the server. */
  async proxy(): Promise<TcpProxy> {
    const proxy = await TcpProxy.start(Number(new URL(await this.url()).port));
    this.#open.push(() => proxy.close());
    return proxy;
  }
}

/** To be called in a `describe`; without a server the stores are opened on the one that suites share. */
export function useStores(server: () => { readonly url: string } | Promise<{ readonly url: string }> = sharedServer): TestStores {
  const stores = new TestStores(server);
  beforeEach('take a namespace of its own', () => stores.begin());
  afterEach('close the stores of the test', () => stores.end());
  return stores;
}

/** The error of a call that must fail with this code, whether it throws or rejects. */
export async function refusal(code: ErrorCode, call: () => unknown): Promise<ContextError> {
  let value: unknown;
  try {
    value = await call();
  } catch (error) {
    if (error instanceof ContextError && error.code === code) return error;
    throw new Error(`it should have been refused with ${code}, not with ${String(error)}`, { cause: error });
  }
  throw new Error(`it should have been refused with ${code}, but gave ${JSON.stringify(value)}`);
}

/** Reads a watcher in the background and remembers what it gave. */
export class Watched {
  readonly changes: Change[] = [];
  /** Settles when the loop has ended; rejects where the iterator throws. */
  readonly ended: Promise<void>;

  constructor(watcher: AsyncIterable<Change>) {
    this.ended = (async () => {
      for await (const change of watcher) this.changes.push(change);
    })();
    this.ended.catch(() => {});
  }

  get kinds(): string[] {
    return this.changes.map(({ kind, version }) => `${kind} ${version}`);
  }

  get versions(): number[] {
    return this.changes.map(({ version }) => version);
  }

  get last(): Change | undefined {
    return this.changes.at(-1);
  }

  /** Waits until so many changes were seen, and gives them. */
  async count(count: number): Promise<readonly Change[]> {
    await waitFor(() => this.changes.length >= count, { what: `${count} changes (so far ${this.kinds.join(', ') || 'none'})` });
    return this.changes;
  }

  /** Waits until this version was seen. */
  async version(version: number): Promise<Change> {
    return waitFor(() => this.changes.find((change) => change.version === version), { what: `the change to version ${version}` });
  }
}

/**
 * Watches from now on, and resolves when this `now` is settled: what another instance writes afterwards comes as a change. (The question
 * for it went out before that of `has`, on the same connection.)
 */
export async function watchFromNow(
  store: ContextStore,
  id: string,
  options: { readonly signal?: AbortSignal } = {},
): Promise<Watched> {
  const watched = new Watched(store.watch(id, options));
  await store.has(`${id}-none`);
  return watched;
}

export interface LogLine {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly fields: Readonly<Record<string, unknown>>;
  readonly message: string;
}

/** A logger that remembers. */
export class RecordingLogger implements Logger {
  readonly lines: LogLine[] = [];

  debug(fields: object, message: string): void {
    this.#add('debug', fields, message);
  }
  info(fields: object, message: string): void {
    this.#add('info', fields, message);
  }
  warn(fields: object, message: string): void {
    this.#add('warn', fields, message);
  }
  error(fields: object, message: string): void {
    this.#add('error', fields, message);
  }

  at(level: LogLine['level']): LogLine[] {
    return this.lines.filter((line) => line.level === level);
  }

  #add(level: LogLine['level'], fields: object, message: string): void {
    this.lines.push({ level, fields: { ...fields }, message });
  }
}

/** Every event of one name that a store has told since this was called. */
export function record<N extends StoreEventName>(store: ContextStore, name: N): StoreEvents[N][] {
  const events: StoreEvents[N][] = [];
  store.on(name, (event) => events.push(event));
  return events;
}

/** Waits until the store answers `id` from its memory. */
export async function untilReplica(store: ContextStore, id: string): Promise<void> {
  await waitFor(
    async () => {
      const { hits } = (await store.stats()).replicas;
      await store.get(id);
      return (await store.stats()).replicas.hits > hits;
    },
    { what: `a replica of ${id} in ${store.instanceId}` },
  );
}

/** Seals what is stored now, as if it had been written so. */
export async function reseal(redis: Redis, store: ContextStore, id: string): Promise<void> {
  const { context } = store.keysOf(id);
  const { v = '', crc = '', sha = '', len = '', at = '', exp = null } = await redis.hgetall(context);
  await redis.hset(context, 'seal', sealOf(id, { v, crc, sha, len, at, exp }));
}

/** Takes away all that a context could be rebuilt from in Redis: its log and its checkpoints. */
export async function forgetCopies(redis: Redis, store: ContextStore, id: string): Promise<void> {
  const { context, log } = store.keysOf(id);
  await redis.del(log, context.replace('}:c:', '}:k:'), context.replace('}:c:', '}:j:'));
}

/** Redis's own time, ms since the epoch. */
export async function redisTime(redis: Redis): Promise<number> {
  const [seconds, micros] = await redis.time();
  return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000);
}

/** Resolves as soon as Redis's clock shows `time`, ms since the epoch. */
export async function untilRedisTime(redis: Redis, time: number): Promise<void> {
  await waitFor(async () => (await redisTime(redis)) >= time, { what: `Redis's clock to show ${time}`, everyMs: 1 });
}

/** The containers in a value, itself included, that somebody could change. */
export function unfrozen(value: unknown, path = ''): string[] {
  if (typeof value !== 'object' || value === null) return [];
  const inside = Object.entries(value).flatMap(([key, child]) => unfrozen(child, `${path}/${key}`));
  return Object.isFrozen(value) ? inside : [path || '(the value itself)', ...inside];
}
