/** Everything that changes a context: checked and encoded here, committed by one script, then taken into this process's replica. */
import { transcode } from 'node:buffer';
import { randomBytes } from 'node:crypto';
import { DocumentText } from '../core/DocumentText.js';
import { ContextError, isContextError } from '../core/errors.js';
import { JsonDocument } from '../core/JsonDocument.js';
import { type JsonValue, normalize } from '../core/json.js';
import { checkId } from '../core/names.js';
import { applyPatch, type Patch, validatePatch } from '../core/patch.js';
import { isPlainJson } from '../core/plainJson.js';
import { timeToLive } from '../core/timeToLive.js';
import type { Integrity } from '../integrity/Integrity.js';
import type { Locks } from '../locks/Locks.js';
import type { Lock } from '../locks/types.js';
import type { ContextCommands } from '../redis/ContextCommands.js';
import type { BaseMismatch, Committed, Conflict, FieldsDamaged } from '../redis/commitRequest.js';
import type { Deadline } from '../redis/RedisConnection.js';
import { pauseAfterConflict } from '../redis/writeRetries.js';
import type { ContextReader } from '../replica/ContextReader.js';
import type { ReplicaSet } from '../replica/ReplicaSet.js';
import { absent, documentOf, type ReplicaState } from '../replica/state.js';
import { CommitEncoder, changed, type Encoded } from './CommitEncoder.js';
import { runOnDraft } from './draft.js';
import { KeyedQueue } from './KeyedQueue.js';
import type { ResolvedOptions } from './options.js';
import type { StoreEmitter } from './StoreEmitter.js';
import type { DeleteOptions, Logger, TouchOptions, UpdateOptions, UpdateResult, WriteOptions, WriteResult } from './types.js';

/** How often `update` and `patch` run again on a conflict. */
export const DEFAULT_ATTEMPTS = 64;

export interface WriteCounters {
  commits: number;
  conflicts: number;
}

export class ContextWriter {
  readonly counters: WriteCounters = { commits: 0, conflicts: 0 };
  readonly #commands: ContextCommands;
  readonly #reader: ContextReader;
  readonly #replicas: ReplicaSet;
  readonly #options: ResolvedOptions;
  readonly #emitter: StoreEmitter;
  readonly #integrity: Integrity;
  readonly #locks: Locks;
  readonly #encoder: CommitEncoder;
  readonly #queue = new KeyedQueue();
  readonly #operationPrefix = randomBytes(6).toString('base64url');
  #operations = 0;

  constructor(
    commands: ContextCommands,
    reader: ContextReader,
    replicas: ReplicaSet,
    options: ResolvedOptions,
    emitter: StoreEmitter,
    logger: Logger,
    integrity: Integrity,
    locks: Locks,
  ) {
    this.#commands = commands;
    this.#reader = reader;
    this.#replicas = replicas;
    this.#options = options;
    this.#emitter = emitter;
    this.#integrity = integrity;
    this.#locks = locks;
    this.#encoder = new CommitEncoder(options.delta, (found) =>
      logger.error(
        { ...found, namespace: options.namespace },
        'a delta in shadow would not have given the document: leave delta at shadow, and report it',
      ),
    );
  }

  get delta(): Readonly<CommitEncoder['counters']> {
    return this.#encoder.counters;
  }

  async set(id: string, value: unknown, options: WriteOptions, deadline: Deadline): Promise<WriteResult> {
    const write = this.#prepare(id, options, 'none');
    const known = this.#replicas.lastKnown(id);
    const { depth } = this.#options;
    // a copy of the caller's value is only made where it is compared with the last one
    if (known?.value === undefined && isPlainJson(value, depth)) {
      const text = this.#text(id, this.#stringify(id, value));
      const encoded = this.#encoder.whole(
        text,
        once(() => JsonDocument.parse(text)),
        this.#commands.protocol,
      );
      const result = await this.#commit(id, encoded, { ...write, ifCrc: null }, deadline);
      // nothing was built on
      return this.#set(id, result as Committed | Conflict, write, encoded.crc);
    }
    const base = known?.value === undefined ? null : known;
    const copy = normalize(value, base === null ? { maxDepth: depth } : { maxDepth: depth, base: base.value as JsonValue });
    const result = await this.#commitOnto(id, base, copy, null, { ...write, ifCrc: null }, deadline);
    return this.#set(id, result, write, result.crc);
  }

  /** Writes a document as it is spelled, to the byte. @throws ContextError as {@link set}; `INVALID_VALUE` where it is no JSON */
  async setBytes(id: string, bytes: Buffer, options: WriteOptions, deadline: Deadline): Promise<WriteResult> {
    const write = this.#prepare(id, options, 'none');
    this.#checkLength(id, bytes.length);
    const text = DocumentText.of(bytes);
    const encoded = this.spelled(id, this.#parsed(id, text).value, text);
    const result = await this.#commit(id, encoded, { ...write, ifCrc: null }, deadline);
    return this.#set(id, result as Committed | Conflict, write, encoded.crc);
  }

  /** What has to travel for a whole document as it is spelled. */
  spelled(id: string, value: JsonValue, text: DocumentText): Encoded {
    this.#checkLength(id, text.length);
    return this.#encoder.whole(text, () => JsonDocument.pair(value, text), this.#commands.protocol);
  }

  #parsed(id: string, text: DocumentText): JsonDocument {
    const { depth } = this.#options;
    let document: JsonDocument;
    try {
      document = JsonDocument.parse(text);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      throw new ContextError('INVALID_VALUE', `${id}: the document is no JSON: ${error.message}`, { id, cause: error });
    }
    // says which limit it is, and where
    if (!isPlainJson(document.value, depth)) normalize(document.value, { maxDepth: depth });
    return document;
  }

  #set(id: string, result: Committed | Conflict, write: Prepared, checksum: string): WriteResult {
    if (result.status === 'conflict') throw this.#conflict(id, write.ifVersion ?? 0, result.version, 1, true);
    return { version: result.version, checksum };
  }

  /** Compare-and-set, run again on a conflict. One update of a context at a time in this process; others wait their turn. */
  update(id: string, change: (draft: unknown) => unknown, options: UpdateOptions, deadline: Deadline): Promise<UpdateResult> {
    const write = this.#prepare(id, options, 'keep');
    const initial = 'initial' in options ? normalize(options.initial, { maxDepth: this.#options.depth }) : undefined;
    return this.#compareAndSet(id, options, write, deadline, async (base) => {
      // null is a document as well
      const from = base.value === undefined ? initial : base.value;
      if (from === undefined) throw this.#notFound(id, 'update', 'create it with set, or give `initial`');
      const value = await runOnDraft(from, change, this.#options.depth);
      if (value === base.value && write.ttl === 'keep') return null;
      return { value, patch: null };
    });
  }

  patch(id: string, given: unknown, options: WriteOptions, deadline: Deadline): Promise<UpdateResult> {
    const write = this.#prepare(id, options, 'keep');
    const patch = validatePatch(given, { maxDepth: this.#options.depth });
    return this.#compareAndSet(id, options, write, deadline, async (base) => {
      if (base.value === undefined) throw this.#notFound(id, 'patch', 'create it with set');
      const value = applyPatch(base.value, patch, { maxDepth: this.#options.depth });
      return { value, patch };
    });
  }

  async delete(id: string, { ifVersion, lock }: DeleteOptions, deadline: Deadline): Promise<{ version: number } | null> {
    checkId(id, this.#options.idBytes);
    const expected = checkVersion(ifVersion);
    const result = await this.#sound(id, deadline, async () => {
      const fence = this.#locks.fenceOf(lock, id);
      return this.#commands.remove({ id, operation: this.#operation(), ifVersion: expected, fence }, deadline);
    });
    if (result.status === 'conflict') throw this.#conflict(id, expected ?? 0, result.version, 1, true);
    if (result.status === 'absent') return null;
    this.deleted(id, result.version, result.at);
    return { version: result.version };
  }

  async touch(
    id: string,
    ttl: number | string,
    { lock }: TouchOptions,
    deadline: Deadline,
  ): Promise<{ version: number; expiresAt: number | null } | null> {
    checkId(id, this.#options.idBytes);
    const ttlMs = ttl === 'none' ? 'none' : timeToLive(ttl);
    const result = await this.#sound(id, deadline, async () =>
      this.#commands.touch(id, this.#operation(), ttlMs, this.#locks.fenceOf(lock, id), deadline),
    );
    if (result !== null) this.#replicas.touched(id, result.version, result.expiresAt);
    return result;
  }

  #compareAndSet(
    id: string,
    options: UpdateOptions,
    write: Prepared,
    deadline: Deadline,
    make: (base: ReplicaState) => Promise<{ value: JsonValue; patch: Patch | null } | null>,
  ): Promise<UpdateResult> {
    const given = options.attempts ?? DEFAULT_ATTEMPTS;
    if (!(Number.isSafeInteger(given) && given >= 1))
      throw new ContextError('INVALID_ARGUMENT', `attempts is ${String(given)}; it must be a whole number of at least 1`);
    const attempts = write.ifVersion === null ? given : 1;
    const { connection } = this.#commands;
    const doing = `update ${id}`;
    // a function that never ends, and the wait for one, last no longer than their call; a commit ends by itself, and says what became of it
    const bounded = <T>(work: Promise<T>): Promise<T> => connection.within(deadline, doing, work);
    const run = async (): Promise<UpdateResult> => {
      connection.check(deadline, doing);
      const known = this.#replicas.base(id);
      let base = known ?? (await this.#readBase(id, deadline));
      /** What is in memory may be behind: what comes to nothing there is tried on what Redis has. */
      let fresh = known === undefined;
      for (let attempt = 1; ; attempt += 1) {
        if (write.ifVersion !== null && presentVersion(base) !== write.ifVersion) {
          // what is in memory may be behind; what Redis has is not
          base = await this.#readBase(id, deadline);
          fresh = true;
          const found = presentVersion(base);
          if (found !== write.ifVersion) throw this.#conflict(id, write.ifVersion, found, attempt, true);
        }
        const made = await bounded(make(base)).catch((error: unknown) => {
          if (fresh || !isContextError(error) || (error.code !== 'NOT_FOUND' && error.code !== 'PATCH_FAILED')) throw error;
          return null;
        });
        if (made === null && !fresh) {
          base = await this.#readBase(id, deadline);
          fresh = true;
          attempt -= 1;
          continue;
        }
        if (made === null) return { version: base.version, checksum: base.crc, value: base.value as JsonValue };
        const live = base.value !== undefined;
        const { ttl, lock } = write;
        const condition = { ifVersion: live ? base.version : 0, ifCrc: live ? base.crc : null, ttl, lock };
        const result = await this.#commitOnto(id, live ? base : null, made.value, made.patch, condition, deadline);
        if (result.status === 'committed') return { version: result.version, checksum: result.crc, value: made.value };
        const last = attempt >= attempts;
        const conflict = this.#conflict(id, base.version, result.version, attempt, last);
        if (last) throw conflict;
        await pauseAfterConflict(attempt, deadline);
        connection.check(deadline, doing);
        base = await this.#readBase(id, deadline);
        fresh = true;
      }
    };
    let begin = (): void => {};
    const begun = new Promise<void>((resolve) => {
      begin = resolve;
    });
    const result = this.#queue.run(id, () => {
      begin();
      return run();
    });
    return bounded(begun).then(() => result);
  }

  async #readBase(id: string, deadline: Deadline): Promise<ReplicaState> {
    const state = await this.#reader.read(id, deadline);
    this.#replicas.seen(id, state);
    return state ?? absent(0);
  }

  /** Commits a value onto a base, by what has changed; where Redis has other bytes than the base, once more onto those, then as a whole. */
  async #commitOnto(
    id: string,
    given: ReplicaState | null,
    value: JsonValue,
    patch: Patch | null,
    condition: Condition,
    deadline: Deadline,
  ): Promise<(Committed & { readonly crc: string }) | (Conflict & { readonly crc: string })> {
    let base = given;
    for (let tries = 0; ; tries += 1) {
      const encoded = this.encode(id, base, value, base === given ? patch : null, tries > 1);
      const result = await this.#commit(id, encoded, condition, deadline, base === given ? patch : null);
      if (result.status !== 'baseMismatch') return { ...result, crc: encoded.crc };
      this.#encoder.counters.baseMismatches += 1;
      if (result.damaged !== null) {
        this.#replicas.damaged(id, result.version, result.damaged);
        tries = 1;
      }
      if (tries === 0 && base !== null) base = await this.#storedBase(id, base, deadline);
    }
  }

  /**
   * What has to travel for a value that follows a base, or nothing that is known.
   *
   * @param whole - Redis gets the document as it is, whatever could be saved
   */
  encode(id: string, base: ReplicaState | null, value: JsonValue, patch: Patch | null, whole: boolean): Encoded {
    const { protocol } = this.#commands;
    const document = once(() => this.#document(id, value));
    const derives = protocol === 2 && this.#encoder.derives;
    const next = base === null ? null : changed(base, value, derives, document, patch);
    if (next !== null) this.#checkLength(id, next.document.text.length);
    if (next === null || base === null) return this.#encoder.whole(document().text, document, protocol);
    return this.#encoder.change(base, next, protocol, whole || this.#reader.isDamaged(id));
  }

  /** What Redis has instead of a base: often the same document, put into other chunks. */
  async #storedBase(id: string, base: ReplicaState, deadline: Deadline): Promise<ReplicaState | null> {
    const layout = await this.#commands.layout(id, deadline);
    if (layout !== null && layout.version === base.version && layout.crc === base.crc) {
      const { text } = documentOf(base);
      const laidOut = DocumentText.stored(layout.chunks.map(({ name, from, to }) => ({ name, bytes: text.slice(from, to) })));
      return { ...base, document: JsonDocument.pair(base.value as JsonValue, laidOut) };
    }
    await this.#replicas.catchUp(id);
    const known = this.#replicas.lastKnown(id);
    if (known?.value !== undefined && known.version > base.version) return known;
    // what cannot be read is replaced as a whole
    return this.#reader.read(id, deadline).catch((error: unknown) => {
      if (isContextError(error) && error.code === 'CORRUPT') return null;
      throw error;
    });
  }

  async #commit(
    id: string,
    encoded: Encoded,
    condition: Condition,
    deadline: Deadline,
    patch: Patch | null = null,
  ): Promise<Committed | Conflict | BaseMismatch> {
    const operation = this.#operation();
    const { document, ...sent } = encoded;
    const { crc } = sent;
    const { lock, ...conditions } = condition;
    const done = this.#replicas.committing(id, () => ({ operation, crc, document: document(), patch }));
    const result = await this.#sound(id, deadline, async () => {
      // looked at for each attempt: it may be lost meanwhile
      const fence = this.#locks.fenceOf(lock, id);
      return this.#commands.commit({ id, operation, ...sent, ...conditions, fence }, deadline);
    }).finally(done);
    if (result.status === 'committed') this.committed(id, encoded, result, patch);
    return result;
  }

  /** A deletion was done. */
  deleted(id: string, version: number, at: number): void {
    this.counters.commits += 1;
    this.#replicas.committed(
      id,
      { ...absent(version), at },
      { kind: 'deleted', version, at, crc: '', value: undefined, bytes: 0, patch: null, base: undefined },
    );
    this.#emitter.emit('context:committed', { id, version, checksum: '', bytes: 0, frameBytes: 0, kind: 'deleted', at });
  }

  /** A commit was done: the replica of this process goes there at once. */
  committed(id: string, encoded: Encoded, result: Omit<Committed, 'status' | 'memoryBytes'>, patch: Patch | null): void {
    const { crc, length, document } = encoded;
    const { version, at, kind, frameBytes } = result;
    this.counters.commits += 1;
    if (!encoded.base?.sha1) this.#reader.mended(id);
    if (result.checkpointDue) {
      const made = document();
      const state = { version, crc, value: made.value, bytes: length, at, expiresAt: result.expiresAt, document: made };
      this.#integrity.checkpointer.due(id, state);
    }
    // an attempt whose reply was lost did it: its expiry is not known for certain, so the frame or a comparison brings it
    if (result.repeated) this.#replicas.wrote(id, version);
    else if (this.#replicas.wants(id)) {
      const made = document();
      const { value } = made;
      const state: ReplicaState = { version, crc, value, bytes: length, at, expiresAt: result.expiresAt, document: made };
      const step = {
        kind: kind === 'full' ? ('full' as const) : ('patch' as const),
        version,
        at,
        crc,
        value,
        bytes: length,
        patch: kind === 'patch' ? patch : null,
        base: undefined,
      };
      this.#replicas.committed(id, state, step);
    }
    this.#emitter.emit('context:committed', { id, version, checksum: crc, bytes: length, frameBytes, kind, at });
  }

  /** Where the stored fields are damaged they are repaired, and it is tried again. @throws ContextError `CORRUPT` where they cannot be */
  async #sound<T extends object | null>(id: string, deadline: Deadline, run: () => Promise<T | FieldsDamaged>): Promise<T> {
    for (let tries = 0; ; tries += 1) {
      const result = await run();
      if (result === null || !('status' in result) || result.status !== 'damaged') return result as T;
      const { outcome, version } = await this.#integrity.repair(id, 'commit', deadline);
      if (tries > 1 || (outcome === 'quarantined' && tries > 0)) {
        throw new ContextError(
          'CORRUPT',
          `${id}: what is stored of it is damaged, and no good copy was found; write it anew, or look at it with \`lukhas-context verify\``,
          {
            namespace: this.#options.namespace,
            id,
            version,
          },
        );
      }
    }
  }

  #document(id: string, value: JsonValue): JsonDocument {
    return JsonDocument.pair(value, this.#text(id, this.#stringify(id, value)));
  }

  #stringify(id: string, value: unknown): string {
    try {
      return JSON.stringify(value);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      const message = `${id}: the document is longer than any string may be; limits.contextBytes is ${this.#options.contextBytes}: split it`;
      throw new ContextError('LIMIT_EXCEEDED', message, { id, limit: 'limits.contextBytes', cause: error });
    }
  }

  #text(id: string, text: string): DocumentText {
    const bytes = utf8(text);
    this.#checkLength(id, bytes.length);
    return DocumentText.of(bytes);
  }

  #checkLength(id: string, length: number): void {
    const most = this.#options.contextBytes;
    if (length <= most) return;
    throw new ContextError(
      'LIMIT_EXCEEDED',
      `${id}: the document has ${length} bytes of JSON; limits.contextBytes is ${most}: split it, or raise the limit (8 MiB at most)`,
      { id, limit: 'limits.contextBytes', expected: most, found: length },
    );
  }

  #prepare(id: string, options: WriteOptions, unset: 'keep' | 'none'): Prepared {
    checkId(id, this.#options.idBytes);
    const { ttl, lock } = options;
    this.#locks.fenceOf(lock, id);
    return {
      ifVersion: checkVersion(options.ifVersion),
      lock,
      ttl: ttl === undefined ? unset : ttl === 'keep' || ttl === 'none' ? ttl : timeToLive(ttl),
    };
  }

  #operation(): string {
    this.#operations += 1;
    return `${this.#operationPrefix}.${this.#operations.toString(36)}`;
  }

  #conflict(id: string, expected: number, found: number, attempt: number, final: boolean): ContextError {
    this.counters.conflicts += 1;
    this.#emitter.emit('context:conflict', { id, expected, found, attempt });
    const what = found === 0 ? 'it does not exist' : `it is at version ${found}`;
    const wanted = expected === 0 ? 'it was to be created' : `version ${expected} was expected`;
    const tries = attempt > 1 ? ` (after ${attempt} attempts)` : '';
    return new ContextError('CONFLICT', `${id}: ${wanted}, but ${what}${final ? tries : ''}; read it and try again`, {
      namespace: this.#options.namespace,
      id,
      version: found,
      expected,
      found,
    });
  }

  #notFound(id: string, doing: string, advice: string): ContextError {
    return new ContextError('NOT_FOUND', `${id}: there is no such context to ${doing}; ${advice}`, {
      namespace: this.#options.namespace,
      id,
    });
  }
}

/** From this length on the detour over UTF-16 pays. */
const TRANSCODE_FROM = 2_048;

/** The UTF-8 bytes of a well-formed text. `Buffer.from` walks text beyond ASCII twice, and takes three times as long for it. */
const utf8 = (text: string): Buffer =>
  text.length < TRANSCODE_FROM ? Buffer.from(text) : transcode(Buffer.from(text, 'utf16le'), 'utf16le', 'utf8');

/** Under which condition, and with which expiry, a document is written. */
interface Condition {
  readonly ifVersion: number | null;
  readonly ifCrc: string | null;
  readonly ttl: number | 'keep' | 'none';
  readonly lock: Lock | undefined;
}

function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | null = null;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

interface Prepared {
  readonly ifVersion: number | null;
  readonly lock: Lock | undefined;
  readonly ttl: number | 'keep' | 'none';
}

/** What `ifVersion` is compared with: a tombstone is no version to build on. */
const presentVersion = (base: ReplicaState): number => (base.value === undefined ? 0 : base.version);

function checkVersion(version: number | undefined): number | null {
  if (version === undefined) return null;
  if (Number.isSafeInteger(version) && version >= 0) return version;
  throw new ContextError(
    'INVALID_ARGUMENT',
    `ifVersion is ${String(version)}; it must be a whole number, 0 for "must not exist"`,
  );
}
