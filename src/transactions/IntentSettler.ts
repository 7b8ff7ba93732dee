/**
 * Ends transactions that stand in somebody's way: by their decision where there is one, by taking them back where their deadline has passed
 * without one. Anybody may do that, at any time and as often as they like; so a coordinator that dies holds nobody up for longer than that.
 *
 * The protocol is two-phase commit with presumed abort (Mohan, Lindsay, Obermarck: Transaction Management in the R* Distributed Database
 * Management System, 1986); the decision is one write of one key.
 */
import { ContextError } from '../core/errors.js';
import type { ContextCommands } from '../redis/ContextCommands.js';
import type { Intent, Intents } from '../redis/commitRequest.js';
import type { ShardKeys } from '../redis/keys.js';
import type { Deadline } from '../redis/RedisConnection.js';
import type { Decision, Finished, Part, TransactionCommands } from '../redis/TransactionCommands.js';
import { pauseWithin } from '../redis/writeRetries.js';

/** What was ended for somebody who is gone, or slow. */
export interface Recovered {
  readonly txn: string;
  readonly outcome: 'committed' | 'aborted';
  readonly shard: number;
}

export interface SettlerHooks {
  readonly recovered: (recovered: Recovered) => void;
  /** What was decided cannot be applied as it is: the stored context is damaged. Heals it where it can be. */
  readonly heal: (id: string, deadline: Deadline) => Promise<void>;
  /** What was decided is gone from Redis: part of its memory was lost. */
  readonly lost: (id: string, intent: Intent) => void;
  /** Part of a transaction cannot be ended now; it is tried again. */
  readonly stuck: (part: Part, error: unknown) => void;
}

const WAIT_LEAST_MS = 1;
const WAIT_MOST_MS = 50;
const HEALS = 3;

export class IntentSettler implements Intents {
  readonly #commands: ContextCommands;
  readonly #transactions: TransactionCommands;
  readonly #hooks: SettlerHooks;

  constructor(commands: ContextCommands, transactions: TransactionCommands, hooks: SettlerHooks) {
    this.#commands = commands;
    this.#transactions = transactions;
    this.#hooks = hooks;
  }

  async settled(id: string, intent: Intent, deadline: Deadline, giveUpAt = deadline.at): Promise<void> {
    for (let wait = WAIT_LEAST_MS; ; wait = Math.min(2 * wait, WAIT_MOST_MS)) {
      const decision = await this.#decision(intent, deadline);
      if (decision.state !== 'undecided') return this.#end(id, intent, decision, deadline, true);
      if (performance.now() + wait >= Math.min(deadline.at, giveUpAt)) throw this.#held(id, intent);
      await pauseWithin(wait * (0.5 + Math.random()), deadline);
      this.#commands.connection.check(deadline, `wait for transaction ${intent.txn}`);
    }
  }

  async ended(id: string, intent: Intent, deadline: Deadline): Promise<void> {
    await this.#end(id, intent, await this.#decision(intent, deadline, 'abort'), deadline, false);
  }

  async overtaken(id: string, intent: Intent, deadline: Deadline): Promise<boolean> {
    const decision = await this.#decision(intent, deadline);
    // not decided after it was read: what was read was right then
    if (decision.state === 'undecided') return false;
    await this.#end(id, intent, decision, deadline, false);
    return decision.state === 'committed';
  }

  /**
   * Ends what is overdue in a shard. One that cannot be ended is told, and does not keep the others.
   *
   * @param now - Redis's time, ms
   * @param deadline - of one step
   */
  async recover(shard: ShardKeys, now: number, deadline: () => Deadline): Promise<void> {
    const overdue = await this.#transactions.overdue(shard, now, deadline());
    for (const { txn, part } of overdue) await this.tryRecover({ txn, part, shard }, deadline());
  }

  tryRecover(part: Part, deadline: Deadline): Promise<void> {
    return this.#recoverPart(part, deadline).catch((error: unknown) => this.#hooks.stuck(part, error));
  }

  async #recoverPart(part: Part, deadline: Deadline): Promise<void> {
    const record = await this.#transactions.recordOf(part, deadline);
    const home = record === null ? undefined : this.#commands.keys.shards[record.home];
    if (record === null || home === undefined) return this.#transactions.unlist(part, deadline);
    const decision = await this.#transactions.decide(part.txn, home, 'ask', record.until, deadline);
    if (decision.state === 'undecided') return;
    if (part.part === 0) await this.#endAll(part.txn, home, decision, deadline);
    else await this.#applyOrTell(part, decision, deadline);
  }

  /** What cannot be read any more is over once nobody has an intent of it. */
  async #applyOrTell(part: Part, decision: Decision, deadline: Deadline): Promise<void> {
    const { status } = await this.#apply(part, decision, null, deadline);
    if (status !== 'unreadable') return;
    const left = await this.#transactions.finish(part, 'drop', null, deadline);
    if (left.status === 'unreadable') throw unreadable(part, null);
  }

  /** Ends all parts of a transaction that was decided, part 0 last, which then need not be remembered any more. */
  async #endAll(txn: string, home: ShardKeys, decision: Decision, deadline: Deadline): Promise<void> {
    const { shards } = this.#commands.keys;
    const parts = (decision.parts ?? [home.shard]).map((shard, part) => ({ txn, part, shard: shards[shard] ?? home }));
    await Promise.all(parts.map((part) => this.#applyOrTell(part, decision, deadline)));
    await this.#transactions.finish({ txn, part: 0, shard: home }, 'forget', null, deadline);
  }

  /** @param writes - who met it writes the context anew, whatever it was to be */
  async #end(id: string, intent: Intent, decision: Decision, deadline: Deadline, writes: boolean): Promise<void> {
    const part = { txn: intent.txn, part: intent.part, shard: this.#commands.keys.shardOf(id) };
    const { status } = await this.#apply(part, decision, id, deadline);
    if (status === 'unreadable') {
      if (!writes) throw unreadable(part, id);
      await this.#transactions.finish(part, 'drop', id, deadline);
    }
    if (status === 'unreadable' || (status === 'dropped' && decision.state === 'committed')) this.#hooks.lost(id, intent);
  }

  async #apply(part: Part, decision: Decision, met: string | null, deadline: Deadline): Promise<Finished> {
    const { txn, shard } = part;
    const finished = await applyPart(this.#transactions, part, decision, met, this.#hooks.heal, deadline);
    if (finished.status === 'finished' && !finished.again)
      this.#hooks.recovered({ txn, outcome: 'committed', shard: shard.shard });
    if (finished.status === 'aborted') this.#hooks.recovered({ txn, outcome: 'aborted', shard: shard.shard });
    return finished;
  }

  #decision(intent: Intent, deadline: Deadline, want: 'ask' | 'abort' = 'ask'): Promise<Decision> {
    const home = this.#commands.keys.shards[intent.home];
    if (home === undefined) return Promise.resolve({ state: 'aborted', at: 0, parts: null });
    return this.#transactions.decide(intent.txn, home, want, intent.deadline, deadline);
  }

  #held(id: string, { txn, deadline }: Intent): ContextError {
    const { keys } = this.#commands;
    return new ContextError(
      'LOCKED',
      `${id}: transaction ${txn} holds it, until ${new Date(deadline).toISOString()} at the latest; try again then, or give the call more time`,
      { namespace: keys.namespace, shard: keys.shardOf(id).shard, id },
    );
  }
}

const unreadable = ({ txn, shard }: Part, id: string | null): ContextError =>
  new ContextError(
    'CORRUPT',
    `${id ?? `shard ${shard.shard}`}: transaction ${txn} was committed, but what it was to write here is damaged, and nobody has a copy; write the context anew, or delete it`,
    { shard: shard.shard, ...(id === null ? {} : { id }) },
  );

/**
 * Applies a decision to one part. A context that is damaged is healed first: what was decided is done.
 *
 * @throws ContextError `CORRUPT` where it cannot be; the next who meets it tries again
 */
export async function applyPart(
  transactions: TransactionCommands,
  part: Part,
  decision: Pick<Decision, 'state'>,
  met: string | null,
  heal: SettlerHooks['heal'],
  deadline: Deadline,
): Promise<Finished> {
  for (let tries = 0; ; tries += 1) {
    const finished = await transactions.finish(part, decision.state === 'committed' ? 'commit' : 'abort', met, deadline);
    if (finished.status !== 'refused') return finished;
    const { id, why } = finished;
    if (tries === HEALS)
      throw new ContextError(
        'CORRUPT',
        `${id}: transaction ${part.txn} was committed, but cannot be applied to what is stored (${why}); look at it with \`lukhas-context verify\``,
        { id },
      );
    await heal(id, deadline);
  }
}
