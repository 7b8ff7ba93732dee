/**
 * The two connections of a store: one for commands, auto-pipelined, one for subscriptions. It owns them from `open` to `close`.
 *
 * Nothing waits for ever here: each command has a timeout, a connection that stays silent past it is made anew, and while there is
 * no connection a call waits for one only as long as its own time allows. ioredis neither queues nor resends for us: a command
 * whose reply was lost may have been executed, and only the caller knows whether asking again is harmless.
 */
import { randomBytes } from 'node:crypto';
import { Redis, type RedisOptions } from 'ioredis';
import { ContextError, isContextError } from '../core/errors.js';
import { RedisClock } from '../core/RedisClock.js';
import { answerCheck, guardOf } from '../core/seal.js';
import { onAbort } from './abortFan.js';
import { DeadlineWatch } from './DeadlineWatch.js';
import { type ConnectionListener, type ConnectionName, Link } from './Link.js';
import { isNoScript, toContextError } from './redisErrors.js';
import { type ScriptName, script } from './scripts.js';

type ClientOptions = Omit<RedisOptions, 'replyMapping'>;
export type RedisTarget = string | ClientOptions | Redis;
export type { ConnectionListener, ConnectionName };

export interface ConnectionOptions {
  readonly target: RedisTarget;
  /** How long one attempt of a command may take, ms. */
  readonly attemptTimeoutMs: number;
  readonly clientName: string;
}

/** Time and signal of a call, whatever number of attempts it takes. */
export interface Deadline {
  /** Monotonic time (`performance.now()`) at which it ends. */
  readonly at: number;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
}

/** A script's argument or a command's. */
export type Argument = string | number | Buffer;

const RECONNECT_MAX_MS = 1000;

/** What ioredis has without a type. Its `callBuffer` will not do: auto-pipelining sends it without the command's name (ioredis 6.0.0). */
interface BytesClient {
  evalsha_roBuffer(...args: readonly Argument[]): Promise<unknown>;
}

function clientOptions(options: ConnectionOptions, name: ConnectionName): ClientOptions {
  return {
    lazyConnect: true,
    connectionName: `${options.clientName}:${name}`,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
    maxRetriesPerRequest: 0,
    enableAutoPipelining: name === 'commands',
    connectTimeout: Math.max(options.attemptTimeoutMs, 500),
    keepAlive: 10_000,
    // time is kept here, where it is known what a late reply means
    commandTimeout: undefined,
    socketTimeout: undefined,
    // how long ioredis keeps a timer after `disconnect` on a stream that has closed already
    disconnectTimeout: 100,
    retryStrategy: (attempt) =>
      Math.round(Math.min(RECONNECT_MAX_MS, 20 * 2 ** Math.min(attempt, 6)) * (0.75 + Math.random() / 2)),
  };
}

/** The options of a client that another copy or version of ioredis made, or undefined where it is no client. */
export function optionsOf(target: object): ClientOptions | undefined {
  const { duplicate, options } = target as { duplicate?: unknown; options?: unknown };
  return typeof duplicate === 'function' && typeof options === 'object' && options !== null
    ? (options as ClientOptions)
    : undefined;
}

/** @throws ContextError `INVALID_OPTION` where it does not say which one server is meant: guessing would write to a wrong one */
export function checkTarget(target: RedisTarget): void {
  if (typeof target === 'string') {
    if (/^(rediss?|unix):\/\/|^\//.test(target)) return;
    throw new ContextError('INVALID_OPTION', `redis is ${JSON.stringify(target)}: a URL begins with redis:// or rediss://`);
  }
  const options: object = optionsOf(target) ?? target;
  const clustered =
    (target as { isCluster?: unknown }).isCluster === true ||
    ['cluster', 'startupNodes'].some((name) => Object.hasOwn(target, name));
  if (clustered)
    throw new ContextError('INVALID_OPTION', 'redis names a Redis Cluster: one server (or a Sentinel group) is needed');
  if (['host', 'port', 'path', 'sentinels'].some((name) => name in options)) return;
  throw new ContextError(
    'INVALID_OPTION',
    `redis has none of host, port, path and sentinels (it has ${Object.keys(target).join(', ') || 'nothing'})`,
  );
}

function makeClient(options: ConnectionOptions, name: ConnectionName, other: ClientOptions = {}): Redis {
  const { target } = options;
  const ours = { ...clientOptions(options, name), ...other };
  if (typeof target === 'string') return new Redis(target, ours);
  // a prefix would come between a key and its hash tag
  const plain = { ...ours, keyPrefix: '' };
  if (target instanceof Redis) return target.duplicate(plain);
  return new Redis({ ...(optionsOf(target) ?? target), ...plain });
}

/** The same login on another host. */
function onHost(target: RedisTarget, host: string, port: number): RedisTarget {
  if (typeof target === 'string') {
    const url = new URL(/^rediss?:\/\//.test(target) ? target : 'redis://localhost');
    url.hostname = host;
    url.port = String(port);
    return url.href;
  }
  const { path: _path, sentinels: _sentinels, ...login } = optionsOf(target) ?? (target as ClientOptions);
  return { ...login, host, port };
}

export class RedisConnection {
  readonly clock = new RedisClock();
  readonly #options: ConnectionOptions;
  readonly #commands: Link;
  readonly #subscriptions: Link;
  readonly #waiting = new Set<() => void>();
  readonly #watch = new DeadlineWatch();
  readonly #saltPrefix = randomBytes(4).toString('base64url');
  #calls = 0;
  #closed = false;

  constructor(options: ConnectionOptions, listener: ConnectionListener) {
    this.#options = options;
    const wake: ConnectionListener = {
      up: (name) => {
        for (const check of this.#waiting) check();
        listener.up(name);
      },
      down: (name, reason) => {
        if (!this.#closed) listener.down(name, reason);
      },
    };
    this.#commands = new Link(makeClient(options, 'commands'), 'commands', wake);
    this.#subscriptions = new Link(makeClient(options, 'subscriptions'), 'subscriptions', wake);
    for (const { client } of [this.#commands, this.#subscriptions]) {
      client.on('error', () => {
        for (const check of this.#waiting) check();
      });
    }
  }

  /** The client for subscriptions; {@link Subscriptions} is its only user. */
  get subscriber(): Redis {
    return this.#subscriptions.client;
  }

  get commandsUp(): boolean {
    return this.#commands.up;
  }

  get subscriptionsUp(): boolean {
    return this.#subscriptions.up;
  }

  /** Connections given up since the start because what came on them was damaged. */
  get damaged(): number {
    return this.#commands.damaged + this.#subscriptions.damaged;
  }

  get attemptTimeoutMs(): number {
    return this.#options.attemptTimeoutMs;
  }

  deadline(timeoutMs: number, signal?: AbortSignal): Deadline {
    return { at: performance.now() + timeoutMs, timeoutMs, signal };
  }

  /** Starts both connections and waits for the first. @throws ContextError `CONNECTION`, `AUTH`, `UNSUPPORTED_SERVER` */
  async open(deadline: Deadline): Promise<void> {
    for (const { client } of [this.#commands, this.#subscriptions]) client.connect().catch(() => {});
    await this.ready(deadline, 'connect');
  }

  /** Resolves at once where the command connection stands; otherwise waits for it as long as the call has time. */
  async ready(deadline: Deadline, doing: string, connection: ConnectionName = 'commands'): Promise<void> {
    const link = connection === 'commands' ? this.#commands : this.#subscriptions;
    this.check(deadline, doing);
    if (link.up) return;
    await new Promise<void>((resolve, reject) => {
      const { signal } = deadline;
      let offAbort = (): void => {};
      const settle = (error?: ContextError): void => {
        clearTimeout(timer);
        this.#waiting.delete(check);
        offAbort();
        if (error === undefined) resolve();
        else reject(error);
      };
      const check = (): void => {
        if (link.up) settle();
        else if (this.#closed || signal?.aborted === true) settle(this.#ended(deadline, doing));
        else {
          const error = link.lastError;
          const mapped = error === null ? null : toContextError(error, doing);
          if (mapped !== null && mapped.code === 'AUTH') settle(mapped);
        }
      };
      const timer = setTimeout(() => settle(this.#unreachable(deadline, doing)), Math.max(0, deadline.at - performance.now()));
      this.#waiting.add(check);
      offAbort = onAbort(signal, check);
      check();
    });
  }

  /** @throws ContextError `CLOSED`, `ABORTED`, `TIMEOUT` where the call has ended already. */
  check(deadline: Deadline, doing: string): void {
    if (this.#closed || deadline.signal?.aborted === true || performance.now() >= deadline.at) throw this.#ended(deadline, doing);
  }

  /**
   * One attempt of one command. A reply that does not come within the attempt's time rejects with `TIMEOUT`; it may still be executed.
   * `run` must send exactly one command, or several in the same tick (they share a pipeline).
   */
  attempt<T>(deadline: Deadline, doing: string, run: (client: Redis) => Promise<T>): Promise<T> {
    const link = this.#commands;
    if (deadline.at <= performance.now()) return Promise.reject(this.#ended(deadline, doing));
    if (link.up) return this.#bounded(link, deadline, doing, run(link.client));
    return this.ready(deadline, doing).then(() => this.#bounded(link, deadline, doing, run(link.client)));
  }

  /** Like {@link attempt}, on the connection for subscriptions. */
  async attemptOnSubscriber<T>(deadline: Deadline, doing: string, run: (client: Redis) => Promise<T>): Promise<T> {
    this.check(deadline, doing);
    return this.#bounded(this.#subscriptions, deadline, doing, run(this.#subscriptions.client));
  }

  /**
   * One attempt of a script; a flushed script cache is filled again (the server has executed nothing then). The request carries a guard over
   * its keys and `guarded` arguments, the reply a check of its own (docs/INTEGRITY.md): the words that come back are those that were answered
   * to this very call.
   *
   * @throws ContextError `CONNECTION` where the reply was damaged on its way: what became of the request is not known
   */
  async runScript<T>(
    deadline: Deadline,
    name: ScriptName,
    keys: readonly string[],
    args: readonly Argument[],
    guarded: readonly Argument[] = args,
  ): Promise<T> {
    const { sha, readOnly } = script(name);
    const salt = this.#salt();
    const guard = guardOf(salt, [...keys, ...guarded]);
    const reply = (await this.#withScript(deadline, name, (client) =>
      readOnly
        ? client.evalsha_ro(sha, keys.length, ...keys, ...args, guard)
        : client.evalsha(sha, keys.length, ...keys, ...args, guard),
    )) as (string | number)[];
    const check = Array.isArray(reply) ? reply.pop() : undefined;
    if (check !== answerCheck(salt, reply)) throw this.#damagedReply(name);
    return reply as T;
  }

  /**
   * Like {@link runScript}, for a read-only script that answers an array of bytes; its check stands behind the first `words`, which it
   * covers: behind all of them where none are named.
   */
  async runScriptForBytes(
    deadline: Deadline,
    name: ScriptName,
    keys: readonly string[],
    args: readonly Argument[],
    words?: number,
  ): Promise<(Buffer | null)[]> {
    const { sha } = script(name);
    const salt = this.#salt();
    const guard = guardOf(salt, [...keys, ...args]);
    const reply = (await this.#withScript(deadline, name, (client) =>
      (client as unknown as BytesClient).evalsha_roBuffer(sha, keys.length, ...keys, ...args, guard),
    )) as (Buffer | number | null)[];
    const refused = Array.isArray(reply) && reply[0]?.toString() === 'GARBLED';
    const count = words === undefined ? reply.length : words + 1;
    const checked = Array.isArray(reply) ? reply.splice(0, refused ? 2 : count).map(bytesOf) : [];
    if (checked.pop()?.toString() !== answerCheck(salt, checked)) throw this.#damagedReply(name);
    return [...checked, ...(reply as (Buffer | null)[])];
  }

  #salt(): string {
    this.#calls += 1;
    return `${this.#saltPrefix}${this.#calls.toString(36)}`;
  }

  /** Whatever else comes on a connection after that cannot be told from what was asked. */
  #damagedReply(name: ScriptName): ContextError {
    const message = `${name}: the reply was damaged on its way; the connection is made anew: check the network path`;
    this.reset('commands', message);
    return new ContextError('CONNECTION', message);
  }

  async loadScript(deadline: Deadline, name: ScriptName): Promise<void> {
    const { source } = script(name);
    await this.attempt(deadline, `load script ${name}`, (client) => client.script('LOAD', source));
  }

  /** Asks Redis for its time and takes it into the clock. */
  async syncClock(deadline: Deadline): Promise<void> {
    const sentAt = performance.now();
    const [seconds, micros] = await this.attempt(deadline, 'read the clock', (client) => client.time());
    this.clock.observe(sentAt, performance.now(), Number(seconds) * 1000 + Math.floor(Number(micros) / 1000));
  }

  /** One question to another server of the same kind (a replica), on a connection for that alone. */
  async elsewhere<T>(host: string, port: number, deadline: Deadline, run: (client: Redis) => Promise<T>): Promise<T> {
    this.check(deadline, 'ask a replica');
    const target = onHost(this.#options.target, host, port);
    const client = makeClient({ ...this.#options, target }, 'commands', { retryStrategy: () => null });
    client.on('error', () => {});
    try {
      const asked = client.connect().then(() => run(client));
      return await this.within(
        { ...deadline, at: Math.min(deadline.at, performance.now() + 2 * this.attemptTimeoutMs) },
        'ask a replica',
        asked,
      );
    } finally {
      client.disconnect();
    }
  }

  /** Makes both connections anew: the server they lead to is not the one to talk to any more. */
  moveOn(reason: string): void {
    this.reset('commands', reason);
    this.reset('subscriptions', reason);
  }

  /** Drops a connection that does not answer; it is made again by itself. */
  reset(connection: ConnectionName, reason: string): void {
    const link = connection === 'commands' ? this.#commands : this.#subscriptions;
    if (!this.#closed) link.reset(reason);
  }

  /** Ends both connections; replies that are outstanding are waited for, up to one attempt's time. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const check of this.#waiting) check();
    await Promise.all(
      [this.#commands, this.#subscriptions].map(async ({ client, up }) => {
        if (up) await Promise.race([client.quit().catch(() => {}), pause(this.#options.attemptTimeoutMs)]);
        client.disconnect();
      }),
    );
  }

  #withScript(deadline: Deadline, name: ScriptName, call: (client: Redis) => Promise<unknown>): Promise<unknown> {
    return this.attempt(deadline, name, call).catch(async (error: unknown) => {
      if (!isContextError(error) || !isNoScript(error.details.cause)) throw error;
      await this.loadScript(deadline, name);
      return this.attempt(deadline, name, call);
    });
  }

  /** Waits for something of the caller's own no longer than the call may take; what is waited for goes on. */
  within<T>(deadline: Deadline, doing: string, work: Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const ended = (): void => reject(this.#ended(deadline, doing));
      const watched = this.#watch.add(deadline.at, ended);
      const offAbort = onAbort(deadline.signal, ended);
      work.then(resolve, reject).finally(() => {
        this.#watch.delete(watched);
        offAbort();
      });
    });
  }

  #bounded<T>(link: Link, deadline: Deadline, doing: string, reply: Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const now = performance.now();
      const left = Math.min(this.#options.attemptTimeoutMs, deadline.at - now);
      link.asked(now);
      const watched = this.#watch.add(now + left, () => {
        offAbort();
        // silent for as long as an attempt may take, however short this one was: the connection hangs
        const silentMs = Math.ceil(link.silentMs(performance.now()));
        if (silentMs >= this.#options.attemptTimeoutMs) {
          this.reset(link === this.#commands ? 'commands' : 'subscriptions', `no answer within ${silentMs} ms`);
        }
        reject(new ContextError('TIMEOUT', `${doing}: Redis did not answer within ${Math.round(left)} ms`));
      });
      const offAbort = onAbort(deadline.signal, () => {
        this.#watch.delete(watched);
        reject(this.#ended(deadline, doing));
      });
      reply.then(
        (value) => {
          this.#watch.delete(watched);
          offAbort();
          resolve(value);
        },
        (error: unknown) => {
          this.#watch.delete(watched);
          offAbort();
          reject(toContextError(error, doing));
        },
      );
    });
  }

  #ended(deadline: Deadline, doing: string): ContextError {
    if (this.#closed) return new ContextError('CLOSED', `${doing}: the store is closed; open another with ContextStore.connect`);
    if (deadline.signal?.aborted === true) {
      return new ContextError('ABORTED', `${doing}: the signal was aborted`, { cause: deadline.signal.reason });
    }
    return this.#unreachable(deadline, doing);
  }

  #unreachable(deadline: Deadline, doing: string): ContextError {
    const error = this.#commands.lastError;
    if (this.#commands.up) return new ContextError('TIMEOUT', `${doing}: not done within ${deadline.timeoutMs} ms`);
    const mapped = error === null ? null : toContextError(error, doing);
    if (mapped !== null && mapped.code !== 'REDIS_ERROR' && mapped.code !== 'CONNECTION') return mapped;
    const why = error?.message === undefined || error.message === '' ? 'no connection' : error.message;
    const message = `${doing}: Redis could not be reached within ${deadline.timeoutMs} ms (${why}); check that it runs and the URL is right`;
    return new ContextError('CONNECTION', message, { cause: error });
  }
}

const bytesOf = (word: Buffer | number | null): Buffer => (Buffer.isBuffer(word) ? word : Buffer.from(String(word)));

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms).unref());
