/**
 * A Redis server with one context's worth of behaviour an id, and the two connections to it, moved by hand: nothing is executed, answered
 * or delivered but when a test says so. Commands keep their order, as on a connection; messages can be dropped, doubled, swapped and damaged.
 */
import { crc32Hex } from '../../src/core/checksum.js';
import { ContextError } from '../../src/core/errors.js';
import type { JsonValue } from '../../src/core/json.js';
import type { Patch } from '../../src/core/patch.js';
import type { ContextCommands, LogEntry, VersionFacts } from '../../src/redis/ContextCommands.js';
import { Keys } from '../../src/redis/keys.js';
import type { MessageHandler, Subscriptions } from '../../src/redis/Subscriptions.js';
import type { ContextReader } from '../../src/replica/ContextReader.js';
import { absent, type ReplicaState } from '../../src/replica/state.js';

/** What happened to a context, in order: the truth that everything seen is held against. */
export interface Mark {
  readonly version: number;
  readonly kind: 'written' | 'deleted' | 'expired';
  /** JSON text; null where it took the context away. */
  readonly text: string | null;
  readonly expiresAt: number | null;
}

interface Stored {
  readonly state: ReplicaState & { readonly value: JsonValue };
  readonly text: string;
}

interface Request {
  execute(): void;
  answer(): void;
  fail(): void;
  executed: boolean;
}

type Message = { readonly channel: string; readonly bytes: Buffer } | { readonly confirm: () => void; readonly lost: () => void };

class SimulatedContext {
  readonly marks: Mark[] = [];
  readonly log: LogEntry[] = [];
  stored: Stored | null = null;

  get lastVersion(): number {
    return this.marks.at(-1)?.version ?? 0;
  }
}

export class SimulatedRedis {
  readonly keys = new Keys('simulation', 1);
  /** Redis's time, ms. */
  now = 1_000;
  up = true;
  readonly #contexts = new Map<string, SimulatedContext>();
  readonly #handlers = new Map<string, MessageHandler>();
  readonly #active = new Set<string>();
  readonly #logKeep: number;
  #requests: Request[] = [];
  #wire: Message[] = [];

  constructor(logKeep: number) {
    this.#logKeep = logKeep;
  }

  // -- what happens on the server

  write(id: string, next: (value: JsonValue) => { value: JsonValue; patch: Patch }, form: WriteForm): ReplicaState {
    this.#sweep(id);
    const context = this.context(id);
    const before = context.stored;
    const version = context.lastVersion + 1;
    const made = next(before?.state.value ?? null);
    const text = JSON.stringify(made.value);
    const patchText = JSON.stringify(made.patch);
    const kind = form.asPatch && before !== null ? 'patch' : 'full';
    const expiresAt = form.ttl === null ? null : this.now + form.ttl;
    const crc = crc32Hex(text);
    const state = { version, crc, value: made.value, bytes: text.length, at: this.now, expiresAt };
    context.stored = { state, text };
    context.marks.push({ version, kind: 'written', text, expiresAt });
    const baseCrc = before?.state.crc ?? '';
    const logged = kind === 'patch' && form.logPatch ? 'patch' : 'full';
    const frame = Buffer.from(logged === 'patch' ? patchText : kind === 'full' && form.logBare ? '' : text);
    this.#append(context, { kind: logged, version, frame, baseCrc, crc, length: text.length, expiresAt });
    const words = `${version} ${crc} ${'0'.repeat(40)} ${text.length} ${version - 1} ${baseCrc || '-'} ${this.now} ${expiresAt ?? '-'} op by\n`;
    if (kind === 'full' && form.follows) {
      this.#publish(id, Buffer.from(`lc1 follows ${words}`));
      this.#publish(id, Buffer.from(text));
    } else {
      this.#publish(id, Buffer.from(`lc1 ${kind} ${words}${kind === 'patch' ? patchText : text}`));
    }
    return state;
  }

  /** False where there is nothing to remove. */
  remove(id: string): number | null {
    const context = this.context(id);
    const stored = this.#live(context);
    if (stored === null) return null;
    const version = context.lastVersion + 1;
    context.stored = null;
    context.marks.push({ version, kind: 'deleted', text: null, expiresAt: null });
    this.#append(context, { kind: 'deleted', version, frame: Buffer.alloc(0), baseCrc: '', crc: '', length: 0, expiresAt: null });
    this.#publish(id, Buffer.from(`lc1 deleted ${version} - - 0 ${version - 1} ${stored.state.crc} ${this.now} - op by\n`));
    return version;
  }

  /** A touch that finds a live context. */
  touch(id: string, ttl: number | null): void {
    const context = this.context(id);
    const stored = this.#live(context);
    if (stored === null) return;
    const { version, crc } = stored.state;
    const expiresAt = ttl === null ? null : this.now + ttl;
    context.stored = { ...stored, state: { ...stored.state, expiresAt } };
    this.#publish(id, Buffer.from(`lc1 touch ${version} ${crc} - 0 ${version} ${crc} ${this.now} ${expiresAt ?? '-'} op by\n`));
  }

  sweep(): void {
    for (const id of this.#contexts.keys()) this.#sweep(id);
  }

  context(id: string): SimulatedContext {
    let context = this.#contexts.get(id);
    if (context === undefined) {
      context = new SimulatedContext();
      this.#contexts.set(id, context);
    }
    return context;
  }

  /** What a reader that asks Redis now would get. */
  present(id: string): ReplicaState | null {
    return this.#live(this.context(id))?.state ?? null;
  }

  // -- what happens on the way

  /** Sends a command. */
  ask<T>(run: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      let result: T;
      this.#requests.push({
        executed: false,
        execute: () => {
          result = run();
        },
        answer: () => resolve(result),
        fail: () => reject(new ContextError('CONNECTION', 'simulated')),
      });
    });
  }

  get asked(): number {
    return this.#requests.length;
  }

  get sent(): number {
    return this.#wire.length;
  }

  executeNext(): void {
    const next = this.#requests.find(({ executed }) => !executed);
    if (next === undefined) return;
    next.executed = true;
    next.execute();
  }

  answerNext(): void {
    if (this.#requests[0]?.executed !== true) this.executeNext();
    this.#requests.shift()?.answer();
  }

  /** The command connection breaks: what was sent may have been executed, and no reply comes. */
  breakCommands(): void {
    for (const request of this.#requests.splice(0)) request.fail();
  }

  deliver(times = 1): void {
    const message = this.#wire.shift();
    if (message === undefined) return;
    if ('confirm' in message) message.confirm();
    else for (let time = 0; time < times; time += 1) this.#handlers.get(message.channel)?.(message.bytes);
  }

  /** The first message, if it is one, is lost. */
  drop(): void {
    const [message] = this.#wire;
    if (message !== undefined && 'bytes' in message) this.#wire.shift();
  }

  /** The first message comes after the `by` that follow it. */
  delay(by: number): void {
    const [message] = this.#wire;
    if (message === undefined || !('bytes' in message)) return;
    this.#wire.splice(0, 1);
    this.#wire.splice(Math.min(by, this.#wire.length), 0, message);
  }

  flip(at: number, bit: number): void {
    const [message] = this.#wire;
    if (message === undefined || !('bytes' in message)) return;
    const bytes = Buffer.from(message.bytes);
    const index = at % bytes.length;
    bytes.writeUInt8(bytes.readUInt8(index) ^ (1 << bit), index);
    this.#wire[0] = { channel: message.channel, bytes };
  }

  /** The subscription connection breaks: what was on the way is lost, and what is published until it is back. */
  disconnect(): void {
    this.up = false;
    this.#active.clear();
    for (const message of this.#wire.splice(0)) if ('lost' in message) message.lost();
  }

  /** It is back, with every wanted channel confirmed. */
  reconnect(): void {
    this.up = true;
    for (const channel of this.#handlers.keys()) this.#active.add(channel);
  }

  // -- what the code under test holds

  get commands(): ContextCommands {
    const facts = (id: string): VersionFacts | null => {
      const state = this.present(id);
      return state === null ? null : { version: state.version, crc: state.crc, expiresAt: state.expiresAt };
    };
    const fake = {
      keys: this.keys,
      connection: {
        clock: { judge: (expiresAt: number) => (this.now < expiresAt ? 'live' : 'expired') },
        deadline: (timeoutMs: number) => ({ at: Number.POSITIVE_INFINITY, timeoutMs, signal: undefined }),
        ready: () => Promise.resolve(),
      },
      versionOf: (id: string) => this.ask(() => facts(id)),
      versions: (_shard: unknown, ids: readonly string[]) => this.ask(() => ids.map(facts)),
      logAfter: (id: string, after: number, limit: number) =>
        this.ask(() => {
          // `XRANGE (v-0`: what has the same version and a higher sequence number comes too
          const { log } = this.context(id);
          const isAfter = (entry: LogEntry): boolean =>
            entry.version > after || (entry.version === after && entry.kind === 'expired');
          return (after === 0 ? log : log.filter(isAfter)).slice(0, limit);
        }),
      logTail: (id: string, limit: number) => this.ask(() => this.context(id).log.toReversed().slice(0, limit)),
    };
    return fake as unknown as ContextCommands;
  }

  get reader(): ContextReader {
    const read = (id: string): Promise<ReplicaState | null> => this.ask(() => this.present(id));
    const readState = async (id: string): Promise<ReplicaState> =>
      (await read(id)) ?? (await this.ask(() => absent(this.context(id).log.at(-1)?.version ?? 0)));
    return { read, readState } as unknown as ContextReader;
  }

  get subscriptions(): Subscriptions {
    const isUp = (): boolean => this.up;
    const fake = {
      get up() {
        return isUp();
      },
      subscribe: (channel: string, handler: MessageHandler): Promise<void> => {
        this.#handlers.set(channel, handler);
        if (!this.up || this.#active.has(channel)) return Promise.resolve();
        this.#active.add(channel);
        return new Promise((resolve, reject) => {
          this.#wire.push({ confirm: resolve, lost: () => reject(new ContextError('CONNECTION', 'simulated')) });
        });
      },
      unsubscribe: (channel: string): void => {
        this.#handlers.delete(channel);
        this.#active.delete(channel);
      },
    };
    return fake as unknown as Subscriptions;
  }

  #live(context: SimulatedContext): Stored | null {
    const { stored } = context;
    const expiresAt = stored?.state.expiresAt ?? null;
    return expiresAt !== null && expiresAt <= this.now ? null : stored;
  }

  #sweep(id: string): void {
    const context = this.context(id);
    const { stored } = context;
    if (stored === null || this.#live(context) !== null) return;
    const { version, crc } = stored.state;
    context.stored = null;
    context.marks.push({ version, kind: 'expired', text: null, expiresAt: null });
    this.#append(context, { kind: 'expired', version, frame: Buffer.alloc(0), baseCrc: '', crc: '', length: 0, expiresAt: null });
    this.#publish(id, Buffer.from(`lc1 expired ${version} - - 0 ${version} ${crc} ${this.now} - - by\n`));
  }

  #append(context: SimulatedContext, entry: Omit<LogEntry, 'sha1' | 'at' | 'operation' | 'by'>): void {
    context.log.push({ ...entry, sha1: '', at: this.now, operation: '-', by: 'by' });
    if (context.log.length > this.#logKeep) context.log.shift();
  }

  #publish(id: string, bytes: Buffer): void {
    const { channel } = this.keys.of(id);
    if (this.up && this.#active.has(channel)) this.#wire.push({ channel, bytes });
  }
}

export interface WriteForm {
  readonly asPatch: boolean;
  /** A patch is logged as one, not as a whole document. */
  readonly logPatch: boolean;
  /** A whole document is logged without its bytes. */
  readonly logBare: boolean;
  readonly follows: boolean;
  readonly ttl: number | null;
}
