/**
 * Two-phase commit of a transaction over several shards, or of more than one script may take: its part of the coordinator. What became of it is decided
 * by one write (`lua/decide.lua`); whoever meets what it has left behind ends that in its place (`IntentSettler.ts`).
 */
import { ContextError, isContextError } from '../core/errors.js';
import type { ContextCommands } from '../redis/ContextCommands.js';
import type { ShardKeys } from '../redis/keys.js';
import type { Deadline } from '../redis/RedisConnection.js';
import type { Member, Part, Read, Refusal, TransactionCommands, Written } from '../redis/TransactionCommands.js';
import { applyPart, type SettlerHooks } from './IntentSettler.js';

/** What one script is given at most: beyond it the phases of several are. Some 3 ms of SHA-1. */
export const SCRIPT_BYTES = 1024 * 1024;
export const SCRIPT_MEMBERS = 32;

/** A context that is written. */
interface PreparedWrite {
  readonly id: string;
  /** Null: it is deleted. */
  readonly encoded: { readonly length: number } | null;
  readonly member: Member;
}

export interface TwoPhaseHooks<W> {
  readonly heal: SettlerHooks['heal'];
  /** Whether what was only read is still right; null, or the first that is not. */
  readonly validate: (reads: readonly Read[], deadline: Deadline) => Promise<Refusal | null>;
  /** It is committed. */
  readonly decided: () => void;
  readonly note: (write: W, written: Written | undefined, at: number, repeated: boolean) => void;
  /** What was decided could not be applied everywhere yet: whoever meets it does. */
  readonly unfinished: (txn: string, error: unknown) => void;
}

export class TwoPhaseCommit<W extends PreparedWrite> {
  readonly #commands: ContextCommands;
  readonly #transactions: TransactionCommands;
  readonly #hooks: TwoPhaseHooks<W>;
  readonly #recoverMs: number;
  readonly #background = new Set<Promise<void>>();

  /** @param recoverMs - after this long without a decision anybody may decide that it is not done */
  constructor(commands: ContextCommands, transactions: TransactionCommands, hooks: TwoPhaseHooks<W>, recoverMs: number) {
    this.#commands = commands;
    this.#transactions = transactions;
    this.#hooks = hooks;
    this.#recoverMs = recoverMs;
  }

  /** Null where it is done, or why not: nothing of it was written then. @throws ContextError `OUTCOME_UNKNOWN`, `NAMESPACE_MISMATCH`, and those of the connection */
  async commit(txn: string, writes: readonly W[], reads: readonly Read[], deadline: Deadline): Promise<Refusal | null> {
    if (this.#commands.protocol === 1) throw this.#tooOld();
    const parts = this.#parts(txn, writes);
    const { clock } = this.#commands.connection;
    const until = Math.floor(clock.earliest(performance.now())) + this.#recoverMs;
    const shards = parts.map(({ part }) => part.shard);
    const home = shards[0] as ShardKeys;
    const later = (): Deadline => this.#commands.connection.deadline(this.#recoverMs);
    const abort = async (within: Deadline): Promise<void> => {
      const decision = await this.#transactions.decide(txn, home, 'abort', until, within);
      await Promise.all(parts.map(({ part }) => applyPart(this.#transactions, part, decision, null, this.#hooks.heal, within)));
    };
    const overtime: Refusal = { id: (writes[0] as W).id, why: 'overtime' };
    let refusal: Refusal | 'aborted' | null;
    try {
      const prepared = await all(
        parts.map(({ part, members }) => this.#transactions.prepare(part, shards, until, members, deadline)),
      );
      refusal = firstOf(prepared) ?? (await this.#hooks.validate(reads, deadline));
    } catch (error) {
      // nothing was decided: nobody will ever apply it
      this.#behind(txn, abort(later()));
      throw this.#unprepared(txn, error);
    }
    if (refusal !== null) {
      await abort(deadline);
      return refusal === 'aborted' ? overtime : refusal;
    }
    const decision = await this.#transactions.decide(txn, home, 'commit', until, deadline).catch((error: unknown) => {
      throw this.#unknown(txn, until, error);
    });
    if (decision.state === 'forgotten') throw this.#unknown(txn, until, undefined);
    if (decision.state !== 'committed') {
      await abort(deadline);
      return overtime;
    }
    this.#hooks.decided();
    const ended = await Promise.allSettled(
      parts.map(async ({ part, own }) => {
        const finished = await applyPart(this.#transactions, part, decision, null, this.#hooks.heal, deadline);
        if (finished.status !== 'finished') return;
        for (const write of own) this.#hooks.note(write, finished.written.get(write.id), finished.at, false);
      }),
    );
    const failed = ended.find((one) => one.status === 'rejected');
    if (failed?.status === 'rejected') this.#hooks.unfinished(txn, failed.reason);
    else this.#behind(txn, this.#transactions.finish({ txn, part: 0, shard: home }, 'forget', null, later()));
    return null;
  }

  /** Its shards in pieces that one script takes each. */
  #parts(txn: string, writes: readonly W[]): { part: Part; members: Member[]; own: W[] }[] {
    const parts: { part: Part; members: Member[]; own: W[]; bytes: number }[] = [];
    for (const write of writes) {
      const shard = this.#commands.keys.shardOf(write.id);
      const bytes = write.encoded?.length ?? 0;
      const open = parts.findLast(({ part }) => part.shard === shard);
      if (open !== undefined && open.members.length < SCRIPT_MEMBERS && open.bytes + bytes <= SCRIPT_BYTES) {
        open.members.push(write.member);
        open.own.push(write);
        open.bytes += bytes;
      } else parts.push({ part: { txn, part: parts.length, shard }, members: [write.member], own: [write], bytes });
    }
    return parts;
  }

  /** Ends what goes on behind finished calls. */
  async close(): Promise<void> {
    await Promise.all(this.#background);
  }

  /** Instances that know only protocol 1 do not know intents. */
  #tooOld(): ContextError {
    const { namespace } = this.#commands.keys;
    const message = `${namespace}: a transaction over several shards, or of more than ${SCRIPT_BYTES} bytes or ${SCRIPT_MEMBERS} contexts, needs protocol 2: call \`upgrade\` once no older instance runs any more`;
    return new ContextError('NAMESPACE_MISMATCH', message, { namespace, expected: 2, found: 1 });
  }

  /** What the first phase may have done of it or not is not seen by anybody. */
  #unprepared(txn: string, error: unknown): unknown {
    if (!isContextError(error) || !UNHEARD.has(error.code)) return error;
    const message = `transaction ${txn}: its first phase has not ended in time, or without a connection (${error.code}); nothing of it was written`;
    return new ContextError(error.code, message, { namespace: this.#commands.keys.namespace, cause: error });
  }

  #unknown(txn: string, until: number, cause?: unknown): ContextError {
    const message = `transaction ${txn}: the connection broke while it was decided: it may or may not have been done, all of it or nothing (not after ${new Date(until).toISOString()}); read its contexts to see`;
    return new ContextError('OUTCOME_UNKNOWN', message, {
      namespace: this.#commands.keys.namespace,
      ...(cause === undefined ? {} : { cause }),
    });
  }

  /** Work that nobody waits for but {@link close}. */
  #behind(txn: string, work: Promise<unknown>): void {
    const tracked: Promise<void> = work
      .then(
        () => {},
        (error: unknown) => this.#hooks.unfinished(txn, error),
      )
      .finally(() => this.#background.delete(tracked));
    this.#background.add(tracked);
  }
}

/** Errors that say nothing of what became of a call. */
const UNHEARD = new Set(['TIMEOUT', 'ABORTED', 'CONNECTION']);

const firstOf = (found: readonly (Refusal | 'aborted' | null)[]): Refusal | 'aborted' | null =>
  // what only waits for another is no reason to run again
  found.find((one) => one !== null && one !== 'aborted' && one.why !== 'locked') ?? found.find((one) => one !== null) ?? null;

/** All, even where one fails: what was sent has to be known before it is taken back. */
async function all<T>(work: readonly Promise<T>[]): Promise<T[]> {
  const ended = await Promise.allSettled(work);
  const failed = ended.find((one) => one.status === 'rejected');
  if (failed?.status === 'rejected') throw failed.reason;
  return ended.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
}
