/**
 * Writes what an export holds, in bounded memory whatever its size: a batch is read and verified, looked for in Redis, and written by a bounded
 * number of commits at a time. A context that is there already, to the byte, is not written again: an import that was interrupted is gone on with by
 * running it again.
 */
import { LRUCache } from 'lru-cache';
import { ContextError, isContextError } from '../core/errors.js';
import type { ExportedContext } from '../core/exportFormat.js';
import { checkId } from '../core/names.js';
import { BackupCommands, type Look } from '../redis/BackupCommands.js';
import type { ContextCommands } from '../redis/ContextCommands.js';
import type { Deadline } from '../redis/RedisConnection.js';
import type { ImportOptions, ImportResult } from './backupTypes.js';
import type { ContextWriter } from './ContextWriter.js';
import { readExport } from './exportReader.js';

const BATCH = 64;
const BATCH_BYTES = 4 * 1024 * 1024;
const CONCURRENCY = 16;
const MOST_CONCURRENCY = 256;
/** Damaged lines that are listed; all are counted. */
const LISTED = 10_000;
/** Ids remembered, of which the export may hold a second, later copy. */
const REMEMBERED = 100_000;
/** How often it is looked again at a context that others write meanwhile. */
const TRIES = 16;
/** An expiry is put in place as time to live: two that are no further apart are the same, ms. */
const SAME_EXPIRY_MS = 1_000;

interface Parts {
  readonly commands: ContextCommands;
  readonly writer: ContextWriter;
  /** Whether a context is sound, as a scrub of it finds: no document travels. */
  readonly sound: (id: string) => Promise<boolean>;
  readonly limits: { readonly contextBytes: number; readonly idBytes: number };
  /** Time of one step. */
  readonly deadline: () => Deadline;
}

type Outcome = 'created' | 'replaced' | 'same' | 'kept' | 'expired';
interface Item {
  readonly line: number;
  readonly context: ExportedContext;
}
type Counts = { -readonly [Name in Exclude<keyof ImportResult, 'damaged'>]: ImportResult[Name] };

export async function importContexts(
  parts: Parts,
  source: Parameters<typeof readExport>[0],
  options: ImportOptions,
): Promise<ImportResult> {
  return new Import(parts, options).run(source);
}

class Import {
  readonly #parts: Parts;
  readonly #options: ImportOptions;
  readonly #asking: BackupCommands;
  readonly #concurrency: number;
  readonly #damaged: { line: number; id: string | null; why: string }[] = [];
  readonly #written = new LRUCache<string, number>({ max: REMEMBERED });
  readonly #counts: Counts = {
    contexts: 0,
    bytes: 0,
    created: 0,
    replaced: 0,
    same: 0,
    kept: 0,
    expired: 0,
    damagedCount: 0,
    leftOut: 0,
    missing: 0,
    complete: false,
  };

  constructor(parts: Parts, options: ImportOptions) {
    const { concurrency = CONCURRENCY, ifExists = 'skip' } = options;
    if (!(Number.isSafeInteger(concurrency) && concurrency >= 1 && concurrency <= MOST_CONCURRENCY))
      throw new ContextError(
        'INVALID_ARGUMENT',
        `concurrency is ${String(concurrency)}; it must be a whole number between 1 and ${MOST_CONCURRENCY}`,
      );
    if (!['skip', 'replace', 'newer', 'fail'].includes(ifExists))
      throw new ContextError('INVALID_ARGUMENT', `ifExists is ${String(ifExists)}; it must be skip, replace, newer or fail`);
    this.#parts = parts;
    this.#options = options;
    this.#concurrency = concurrency;
    this.#asking = new BackupCommands(parts.commands);
  }

  async run(source: Parameters<typeof readExport>[0]): Promise<ImportResult> {
    const { commands, deadline } = this.#parts;
    await commands.connection.syncClock(deadline());
    const counts = this.#counts;
    const { partial = false, skipDamaged = false } = this.#options;
    const passed = (line: number, error: ContextError): void => this.#passOver(line, null, error);
    let batch: Item[] = [];
    let [lines, read, held] = [0, 0, 0];
    const flush = async (): Promise<void> => {
      await this.#place(batch);
      [batch, held] = [[], 0];
      this.#options.progress?.({ lines, contexts: counts.contexts, read });
    };
    try {
      const counted = countBytes(source, (bytes) => {
        read += bytes;
      });
      for await (const { line, record, missing = 0, whole = false } of readExport(counted, {
        partial,
        ...(skipDamaged ? { damaged: passed } : {}),
      })) {
        this.#checkEnded();
        lines = line;
        if (record.kind === 'end') {
          counts.complete = whole;
          counts.missing = missing;
          counts.leftOut = record.damaged;
        }
        if (record.kind !== 'context' || !this.#fits(line, record)) continue;
        // a second copy is a later one: it is decided about when the first is there
        if (batch.some(({ context }) => context.id === record.id)) await flush();
        counts.contexts += 1;
        counts.bytes += record.data.length;
        batch.push({ line, context: record });
        held += record.data.length;
        if (batch.length >= BATCH || held >= BATCH_BYTES) await flush();
      }
      await flush();
    } catch (error) {
      throw this.#told(error);
    }
    return { ...counts, damaged: this.#damaged };
  }

  #checkEnded(): void {
    if (this.#options.signal?.aborted === true)
      throw new ContextError('ABORTED', 'the signal was aborted', { cause: this.#options.signal.reason });
  }

  /** The same error, with what was done before it. */
  #told(error: unknown): unknown {
    if (!isContextError(error)) return error;
    const { created, replaced } = this.#counts;
    const written = `${created + replaced} written`;
    const goesOn = error.retryable || error.code === 'ABORTED' || error.code === 'OUTCOME_UNKNOWN';
    const done = this.#options.dryRun === true ? 'nothing was written' : goesOn ? `${written}: run it again to go on` : written;
    return new ContextError(error.code, `import: ${error.message}; ${done}`, { ...error.details, cause: error });
  }

  /** Whether a document may be written here at all. */
  #fits(line: number, { id, data }: ExportedContext): boolean {
    const { contextBytes, idBytes } = this.#parts.limits;
    try {
      checkId(id, idBytes);
      if (data.length <= contextBytes) return true;
      throw new ContextError(
        'LIMIT_EXCEEDED',
        `line ${line}: the document of ${id} has ${data.length} bytes; limits.contextBytes is ${contextBytes}: raise the limit`,
        { id, limit: 'limits.contextBytes', expected: contextBytes, found: data.length },
      );
    } catch (error) {
      if (this.#options.skipDamaged !== true || !isContextError(error)) throw error;
      this.#passOver(line, id, error);
      return false;
    }
  }

  #passOver(line: number, id: string | null, { message, details }: ContextError): void {
    this.#counts.damagedCount += 1;
    if (this.#damaged.length < LISTED) this.#damaged.push({ line, id: id ?? details.id ?? null, why: message });
  }

  /** Decides about each of a batch, and writes. Ends with the first error, when no write is under way any more. */
  async #place(batch: readonly Item[]): Promise<void> {
    if (batch.length === 0) return;
    const ids = batch.map(({ context }) => context.id);
    const found = await this.#asking.look(ids, this.#parts.deadline());
    let next = 0;
    const failures: unknown[] = [];
    const work = async (): Promise<void> => {
      for (let index = next++; index < batch.length && failures.length === 0; index = next++) {
        const item = batch[index] as Item;
        try {
          this.#checkEnded();
          const outcome = await this.#decide(item, found[index] ?? null);
          this.#counts[outcome] += 1;
        } catch (error) {
          if (this.#options.skipDamaged === true && isRefused(error)) this.#passOver(item.line, item.context.id, error);
          else failures.push(error);
        }
      }
    };
    await Promise.all(Array.from({ length: Math.min(this.#concurrency, batch.length) }, work));
    if (failures.length > 0) throw failures[0];
  }

  async #decide({ context }: Item, first: Look | null): Promise<Outcome> {
    const { id } = context;
    let found = first;
    for (let tries = 1; ; tries += 1) {
      try {
        return await this.#once(context, found);
      } catch (error) {
        // somebody else has written it meanwhile, or it may have been written just now
        const again = isContextError(error) && (error.code === 'OUTCOME_UNKNOWN' || isRace(error));
        if (!again || tries === TRIES) throw error;
      }
      [found = null] = await this.#asking.look([id], this.#parts.deadline());
    }
  }

  async #once(context: ExportedContext, found: Look | null): Promise<Outcome> {
    const { id, expiresAt } = context;
    const { clock } = this.#parts.commands.connection;
    if (expiresAt !== null && clock.latest(performance.now()) >= expiresAt) return 'expired';
    if (found === null || (found.expiresAt !== null && clock.judge(found.expiresAt, performance.now()) === 'expired'))
      return this.#write(context, 0, 'created');
    if (found.quarantined) return this.#write(context, undefined, 'replaced');
    if (found.crc === context.crc && found.bytes === context.data.length) return this.#same(context, found);
    const before = this.#written.get(id);
    if (before !== undefined) return before < context.version ? this.#write(context, undefined, 'replaced') : 'same';
    switch (this.#options.ifExists ?? 'skip') {
      case 'replace':
        return this.#write(context, undefined, 'replaced');
      case 'newer':
        return context.at > found.at ? this.#write(context, found.version, 'replaced') : 'kept';
      case 'skip':
        return 'kept';
      default:
        throw new ContextError('CONFLICT', `${id}: there is another document already, at version ${found.version}`, {
          id,
          version: found.version,
          expected: 0,
          found: found.version,
        });
    }
  }

  /** The document is there, by what is said of it: its bytes are looked at where they are. */
  async #same(context: ExportedContext, found: Look): Promise<Outcome> {
    const { id, expiresAt } = context;
    if (!(await this.#parts.sound(id))) return this.#write(context, undefined, 'replaced');
    const apart = Math.abs((expiresAt ?? Number.POSITIVE_INFINITY) - (found.expiresAt ?? Number.POSITIVE_INFINITY));
    if (this.#options.ifExists === 'replace' && this.#options.dryRun !== true && apart > SAME_EXPIRY_MS)
      await this.#parts.writer.touch(id, this.#ttl(expiresAt), {}, this.#parts.deadline());
    return 'same';
  }

  async #write(context: ExportedContext, ifVersion: number | undefined, outcome: Outcome): Promise<Outcome> {
    const { id, data, expiresAt, version } = context;
    if (this.#options.dryRun === true) return outcome;
    const condition = ifVersion === undefined ? {} : { ifVersion };
    await this.#parts.writer.setBytes(id, data, { ttl: this.#ttl(expiresAt), ...condition }, this.#parts.deadline());
    this.#written.set(id, version);
    return outcome;
  }

  /** From now on, by Redis's clock. */
  #ttl(expiresAt: number | null): number | 'none' {
    if (expiresAt === null) return 'none';
    const { clock } = this.#parts.commands.connection;
    const now = performance.now();
    return Math.max(1, Math.round(expiresAt - (clock.earliest(now) + clock.latest(now)) / 2));
  }
}

/** A conflict of a write, not the one that `fail` asks for: that has version 0 expected and is found by looking. */
const isRace = (error: ContextError): boolean => error.code === 'CONFLICT' && error.details.namespace !== undefined;

const isRefused = (error: unknown): error is ContextError =>
  isContextError(error) && (error.code === 'INVALID_VALUE' || error.code === 'LIMIT_EXCEEDED' || error.code === 'INVALID_ID');

async function* countBytes(
  source: Parameters<typeof readExport>[0],
  count: (bytes: number) => void,
): AsyncGenerator<Uint8Array | string> {
  for await (const chunk of source) {
    count(typeof chunk === 'string' ? Buffer.byteLength(chunk) : chunk.byteLength);
    yield chunk;
  }
}
