/** What the function of a transaction works with: what it has read, each context once, and what it wants to be written, nothing of which is yet. */
import type { Context } from '../core/context.js';
import { DocumentText } from '../core/DocumentText.js';
import { ContextError } from '../core/errors.js';
import { JsonDocument } from '../core/JsonDocument.js';
import { type JsonValue, normalize } from '../core/json.js';
import { checkId } from '../core/names.js';
import { applyPatch, type Patch, validatePatch } from '../core/patch.js';
import { timeToLive } from '../core/timeToLive.js';
import { type ReplicaState, toContext } from '../replica/state.js';

/** Contexts of one transaction, read or written. */
export const MOST_CONTEXTS = 100;
/** Bytes of the documents that one transaction writes. */
export const MOST_BYTES = 32 * 1024 * 1024;

export type Ttl = number | string | 'keep' | 'none';

/** A transaction while its function runs. */
export interface Transaction {
  /** The context as this transaction has read it first, or as it would write it; null where there is none. */
  get<T = JsonValue>(id: string): Promise<Context<T> | null>;
  /** Several, in the order of the ids; what is not known yet comes in one round trip. */
  getMany(ids: readonly string[]): Promise<(Context | null)[]>;
  /** Stages a whole document. Without `ttl` it does not expire. @throws ContextError `INVALID_ID`, `INVALID_VALUE`, `LIMIT_EXCEEDED` */
  set(id: string, value: unknown, options?: { readonly ttl?: Ttl }): void;
  /** Stages a JSON Patch (RFC 6902), which is applied to the context as it is when the transaction commits. @throws ContextError `INVALID_PATCH`, `PATCH_FAILED` */
  patch(id: string, patch: unknown, options?: { readonly ttl?: Ttl }): void;
  /** Stages a deletion; of what is not there nothing is deleted. */
  delete(id: string): void;
  /** The transaction is done only if the context has this version then; 0: only if there is none. Else it ends with `CONFLICT`. */
  expect(id: string, version: number): void;
}

export type Staged =
  | {
      readonly kind: 'set';
      readonly value: JsonValue;
      readonly ttl: number | 'keep' | 'none';
      /** The document as it is spelled, where that matters. */
      readonly text?: DocumentText;
    }
  | { readonly kind: 'patch'; readonly patch: Patch; readonly ttl: number | 'keep' | 'none' }
  | { readonly kind: 'delete' };

export interface ReadBy {
  readonly one: (id: string) => Promise<ReplicaState | null>;
  readonly many: (ids: readonly string[]) => Promise<(ReplicaState | null)[]>;
}

export interface StagingLimits {
  readonly idBytes: number;
  readonly depth: number;
  /** Whether the caller gets copies of its own. */
  readonly copyValues: boolean;
}

export class Staging implements Transaction {
  /** What was read; null where there was none. */
  readonly reads = new Map<string, ReplicaState | null>();
  readonly writes = new Map<string, Staged>();
  readonly expected = new Map<string, number>();
  /** What it wanted to use; some of it may not have been read. */
  readonly #wanted = new Set<string>();
  /** Something of it was read from this process's memory, which may be behind. */
  fromMemory = false;
  /** It has found a lock taken: it begins anew with all locks that it needs, in order. */
  lacksLocks = false;
  readonly #readBy: ReadBy;
  readonly #limits: StagingLimits;
  readonly #pending = new Map<string, Promise<ReplicaState | null>>();
  #over = false;

  constructor(readBy: ReadBy, limits: StagingLimits) {
    this.#readBy = readBy;
    this.#limits = limits;
  }

  /** All contexts it has to do with. */
  get ids(): ReadonlySet<string> {
    return this.#wanted;
  }

  /** What is asked of it from now on comes too late. */
  end(): void {
    this.#over = true;
  }

  async get<T = JsonValue>(id: string): Promise<Context<T> | null> {
    this.#take(id);
    const staged = this.writes.get(id);
    // what was set is not read for that
    if (staged?.kind === 'set' && !this.reads.has(id)) return this.#shown(id, null) as Context<T> | null;
    return this.#shown(id, await this.read(id)) as Context<T> | null;
  }

  async getMany(ids: readonly string[]): Promise<(Context | null)[]> {
    for (const id of ids) this.#take(id);
    const left = [...new Set(ids)].filter((id) => !this.reads.has(id) && !this.#pending.has(id));
    if (left.length > 1) {
      const all = this.#readBy.many(left);
      left.forEach((id, index) => {
        void this.#remember(
          id,
          all.then((states) => states[index] ?? null),
        );
      });
    }
    return Promise.all(ids.map(async (id) => this.#shown(id, await this.read(id))));
  }

  set(id: string, value: unknown, options: { readonly ttl?: Ttl } = {}): void {
    this.#take(id);
    const ttl = ttlOf(options.ttl, 'none');
    this.writes.set(id, { kind: 'set', value: normalize(value, { maxDepth: this.#limits.depth }), ttl });
  }

  /** Stages a document as it is spelled, to the byte. */
  setBytes(id: string, bytes: Buffer, options: { readonly ttl?: Ttl } = {}): void {
    this.#take(id);
    const text = DocumentText.of(bytes);
    const { value } = JsonDocument.parse(text);
    this.writes.set(id, { kind: 'set', value, ttl: ttlOf(options.ttl, 'none'), text });
  }

  patch(id: string, given: unknown, options: { readonly ttl?: Ttl } = {}): void {
    this.#take(id);
    const { depth: maxDepth } = this.#limits;
    const patch = validatePatch(given, { maxDepth });
    const ttl = ttlOf(options.ttl, 'keep');
    const staged = this.writes.get(id);
    if (staged?.kind === 'delete') throw notFound(id);
    if (staged?.kind === 'set') {
      const value = applyPatch(staged.value, patch, { maxDepth });
      this.writes.set(id, { kind: 'set', value, ttl: ttl === 'keep' ? staged.ttl : ttl });
      return;
    }
    const before = staged === undefined ? [] : staged.patch;
    const known = this.reads.get(id);
    if (known === null) throw notFound(id);
    const whole = [...before, ...patch];
    // that it fails shows where it is asked for
    if (known !== undefined) applyPatch(known.value as JsonValue, whole, { maxDepth });
    this.writes.set(id, { kind: 'patch', patch: whole, ttl: ttl === 'keep' && staged !== undefined ? staged.ttl : ttl });
  }

  delete(id: string): void {
    this.#take(id);
    this.writes.set(id, { kind: 'delete' });
  }

  expect(id: string, version: number): void {
    this.#take(id);
    if (!(Number.isSafeInteger(version) && version >= 0))
      throw new ContextError(
        'INVALID_ARGUMENT',
        `version is ${String(version)}; it must be a whole number, 0 for "must not exist"`,
      );
    const before = this.expected.get(id);
    if (before !== undefined && before !== version)
      throw new ContextError('INVALID_ARGUMENT', `${id}: version ${before} was expected before, and now ${version}`, { id });
    this.expected.set(id, version);
  }

  /** What a write builds on, or what was read. */
  read(id: string): Promise<ReplicaState | null> {
    const known = this.reads.get(id);
    if (known !== undefined) return Promise.resolve(known);
    return this.#pending.get(id) ?? this.#remember(id, this.#readBy.one(id));
  }

  /** The value that a staged write makes; undefined: none. @throws ContextError `NOT_FOUND`, `PATCH_FAILED` */
  valueOf(id: string, staged: Staged, base: ReplicaState | null): JsonValue | undefined {
    if (staged.kind === 'delete') return undefined;
    if (staged.kind === 'set') return staged.value;
    if (base === null) throw notFound(id);
    return applyPatch(base.value as JsonValue, staged.patch, { maxDepth: this.#limits.depth });
  }

  #remember(id: string, asked: Promise<ReplicaState | null>): Promise<ReplicaState | null> {
    const read = asked.then(
      (state) => {
        this.#pending.delete(id);
        // of two that asked at once, both see what came first
        const known = this.reads.get(id);
        if (known !== undefined) return known;
        const live = state?.value === undefined ? null : state;
        this.reads.set(id, live);
        return live;
      },
      (error: unknown) => {
        this.#pending.delete(id);
        throw error;
      },
    );
    read.catch(() => {});
    this.#pending.set(id, read);
    return read;
  }

  #shown(id: string, base: ReplicaState | null): Context | null {
    const staged = this.writes.get(id);
    const context = base === null ? null : toContext(id, base, false);
    if (staged === undefined) return this.#out(context);
    const value = this.valueOf(id, staged, base);
    if (value === undefined) return null;
    return this.#out({ ...(context ?? { ...NEW, id }), value });
  }

  #out(context: Context | null): Context | null {
    if (context === null || !this.#limits.copyValues) return context;
    return { ...context, value: JSON.parse(JSON.stringify(context.value)) as JsonValue };
  }

  /** One more context, unless it is known. */
  #take(id: string): void {
    if (this.#over)
      throw new ContextError('INVALID_ARGUMENT', `${id}: the transaction is over; await what its function does`, { id });
    checkId(id, this.#limits.idBytes);
    const wanted = this.#wanted;
    if (wanted.has(id)) return;
    if (wanted.size < MOST_CONTEXTS) {
      wanted.add(id);
      return;
    }
    throw new ContextError(
      'LIMIT_EXCEEDED',
      `a transaction has at most ${MOST_CONTEXTS} contexts, and ${id} is one more: split it`,
      { id, limit: 'transaction.contexts', expected: MOST_CONTEXTS, found: wanted.size + 1 },
    );
  }
}

/** What was set, and is nowhere yet. */
const NEW = { version: 0, checksum: '', updatedAt: 0, expiresAt: null, stale: false };

const ttlOf = (ttl: Ttl | undefined, unset: 'keep' | 'none'): number | 'keep' | 'none' =>
  ttl === undefined ? unset : ttl === 'keep' || ttl === 'none' ? ttl : timeToLive(ttl);

const notFound = (id: string): ContextError =>
  new ContextError('NOT_FOUND', `${id}: there is no such context to patch; create it with set`, { id });
