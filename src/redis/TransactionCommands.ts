/** What can be asked of Redis about transactions: all of one shard in one script, and the two phases of those over several. */
import { ContextError } from '../core/errors.js';
import { arrivedWhole, type ContextCommands, intentIn } from './ContextCommands.js';
import type { CommitRequest, Intent, RemoveRequest } from './commitRequest.js';
import { contextKey, type ShardKeys } from './keys.js';
import type { Argument, Deadline } from './RedisConnection.js';
import type { ScriptName } from './scripts.js';
import { writeWithRetries } from './writeRetries.js';

/** One context of a transaction. */
export type Member =
  | { readonly kind: 'commit'; readonly id: string; readonly request: CommitRequest }
  | { readonly kind: 'delete'; readonly id: string; readonly request: RemoveRequest }
  /** It must still be at this version (0: must not be there), and have this CRC-32 where one is given. */
  | { readonly kind: 'expect'; readonly id: string; readonly version: number; readonly crc: string | null };

export type Read = Member & { readonly kind: 'expect' };

/** What became of a written member. */
export interface Written {
  readonly version: number;
  /** `none`: a deletion of what was not there. */
  readonly kind: 'full' | 'patch' | 'splice' | 'deleted' | 'none';
  readonly frameBytes: number;
  readonly expiresAt: number | null;
  readonly checkpointDue: boolean;
}

/** Why a member cannot be written; nothing was. */
export type Refusal = { readonly id: string } & (
  | { readonly why: 'conflict'; readonly version: number }
  | { readonly why: 'fenced'; readonly fence: string }
  | { readonly why: 'locked'; readonly intent: Intent }
  | { readonly why: 'baseMismatch'; readonly damaged: string | null }
  | { readonly why: 'damaged' }
  | { readonly why: 'writeCorrupt' }
  /** The deadline of its intents had passed before it was decided: it was taken back. */
  | { readonly why: 'overtime' }
);

export type Done =
  /** `written` in the order of the members, those that are only expected left out; `repeated`: done before, which left only the versions. */
  | { readonly status: 'done'; readonly at: number; readonly written: readonly Written[]; readonly repeated: boolean }
  | { readonly status: 'refused'; readonly refusal: Refusal };

export interface Decision {
  /** `forgotten`: others have decided and ended it, so long ago that nothing is left of it. */
  readonly state: 'committed' | 'aborted' | 'undecided' | 'forgotten';
  readonly at: number;
  /** The shard of each part; null where that is not known any more. */
  readonly parts: readonly number[] | null;
}

/** A transaction over several shards, and one part of it. */
export interface Part {
  readonly txn: string;
  readonly part: number;
  readonly shard: ShardKeys;
}

export type Finished =
  | {
      readonly status: 'finished';
      readonly at: number;
      readonly written: ReadonlyMap<string, Written>;
      /** Somebody had done it before. */
      readonly again: boolean;
    }
  | { readonly status: 'aborted' | 'nothing' | 'dropped' | 'unreadable' }
  | { readonly status: 'refused'; readonly id: string; readonly why: string };

type Reply = readonly [string, ...(string | number | null)[]];

export class TransactionCommands {
  readonly #commands: ContextCommands;
  readonly #keepMs: number;

  /** @param keepMs - how long what is settled is remembered: longer than a first phase may be under way, ms */
  constructor(commands: ContextCommands, keepMs: number) {
    this.#commands = commands;
    this.#keepMs = keepMs;
  }

  /** All members, which share a shard, in one script. @throws ContextError as `ContextCommands.commit` */
  async transact(txn: string, shard: ShardKeys, members: readonly Member[], deadline: Deadline): Promise<Done> {
    const reply = await writeWithRetries(this.#commands.connection, deadline, { id: txn, doing: 'the transaction' }, (attempt) =>
      this.#run('transact', deadline, shardKeys(shard), members, attempt, []),
    );
    if (reply[0] === 'DONE') return { status: 'done', at: Number(reply[1]), written: writtenIn(reply, 2, 5), repeated: false };
    if (reply[0] === 'APPLIED') {
      const written = reply.slice(2).map((version) => ({ ...UNKNOWN, version: Number(version) }));
      return { status: 'done', at: Number(reply[1]), written, repeated: true };
    }
    return { status: 'refused', refusal: this.#refusal(reply, members) };
  }

  /** Whether contexts of one shard are still as they were read; null, or what is not. */
  async validate(shard: ShardKeys, reads: readonly Read[], deadline: Deadline): Promise<Refusal | null> {
    const keys = reads.map(({ id }) => contextKey(shard, id));
    const words = reads.map(({ version, crc }) => `${version} ${crc ?? '-'}`).join(' ');
    const reply = await this.#ask(deadline, 'validate', keys, [words]);
    return reply[0] === 'VALID' ? null : this.#refusal(reply, reads);
  }

  /** The first phase in one shard; null, or why not. @param parts - the shard of each part */
  async prepare(
    { txn, part, shard }: Part,
    parts: readonly ShardKeys[],
    until: number,
    members: readonly Member[],
    deadline: Deadline,
  ): Promise<Refusal | 'aborted' | null> {
    const { instanceId } = this.#commands.settings;
    const shards = parts.map((one) => one.shard);
    const header = `${txn} ${part} ${shards[0] ?? 0} ${until} ${instanceId} ${shards.join(' ')}`;
    const keys = [...shardKeys(shard), ...this.#record({ txn, part, shard })];
    const reply = await writeWithRetries(
      this.#commands.connection,
      deadline,
      { id: txn, doing: 'the transaction' },
      (attempt) => {
        // the record tells an attempt that was carried out before
        const [till = '', , firstSent = ''] = attempt.split(' ');
        return this.#run('prepare', deadline, keys, members, `${till} 0 ${firstSent}`, [header]);
      },
    );
    if (reply[0] === 'PREPARED') return null;
    if (reply[0] === 'ABORTED') return 'aborted';
    return this.#refusal(reply, members);
  }

  /**
   * Decides a transaction, or asks for its decision: whoever comes first. What is asked after the deadline and is not decided is decided to be
   * aborted.
   */
  async decide(
    txn: string,
    home: ShardKeys,
    want: 'commit' | 'abort' | 'ask',
    until: number,
    deadline: Deadline,
  ): Promise<Decision> {
    const key = this.#commands.keys.transactionOf(home, txn, 0);
    const reply = await this.#ask(deadline, 'decide', [key], [`${txn} ${want} ${until} ${this.#keepMs}`]);
    const words = String(reply[2] ?? '-');
    return {
      state: STATES[String(reply[0])] ?? 'undecided',
      at: Number(reply[1]),
      parts: words === '-' ? null : words.split(' ').map(Number),
    };
  }

  /** The second phase in one shard. @param met - a context that has the intent, where it was found by that */
  async finish(
    part: Part,
    outcome: 'commit' | 'abort' | 'forget' | 'drop',
    met: string | null,
    deadline: Deadline,
  ): Promise<Finished> {
    const { shard } = part;
    const keys = [...shardKeys(shard), ...this.#record(part)];
    const reply = await this.#ask(deadline, 'finish', keys, [
      shard.tag,
      `${part.txn} ${part.part} ${outcome} ${this.#keepMs}`,
      met ?? '',
    ]);
    switch (reply[0]) {
      case 'FINISHED': {
        const rows = writtenIn(reply, 4, 6);
        return {
          status: 'finished',
          at: Number(reply[1]),
          again: Number(reply[2]) === 1,
          written: new Map(rows.map((row, index) => [String(reply[3 + 6 * index]), row])),
        };
      }
      case 'ABORTED':
        return { status: 'aborted' };
      case 'DROPPED':
        return { status: 'dropped' };
      case 'NOTHING':
        return { status: 'nothing' };
      case 'UNREADABLE':
        return { status: 'unreadable' };
      default:
        return { status: 'refused', id: String(reply[1]), why: reply.slice(2).join(' ') };
    }
  }

  /** Parts in a shard that are not settled although their deadline has passed; some of them where there are many. */
  async overdue(shard: ShardKeys, now: number, deadline: Deadline): Promise<{ readonly txn: string; readonly part: number }[]> {
    const names = await this.#commands.asked(deadline, 'look for transactions', (client) =>
      client.zrangebyscore(shard.txn, '-inf', now, 'LIMIT', 0, OVERDUE),
    );
    return names.flatMap((name) => partName(name) ?? []);
  }

  /** Where the decision about a part is, and until when it may be open; null where there is no such record. */
  async recordOf(part: Part, deadline: Deadline): Promise<{ readonly home: number; readonly until: number } | null> {
    const [key = ''] = this.#record(part);
    const [home, until, state, parts] = await this.#commands.asked(deadline, 'read a transaction', (client) =>
      client.hmget(key, 'home', 'deadline', 'state', 'parts'),
    );
    if (home) return { home: Number(home), until: Number(until) };
    // what is left of the record of part 0 once it is finished
    return state && parts ? { home: part.shard.shard, until: Number(until ?? 0) } : null;
  }

  /** Takes a name out of the list of what is not settled: there is nothing behind it. */
  async unlist({ shard, txn, part }: Part, deadline: Deadline): Promise<void> {
    await this.#commands.asked(deadline, 'end a transaction', (client) => client.zrem(shard.txn, `${txn}.${part}`));
  }

  #record({ txn, part, shard }: Part): [string, string] {
    return [this.#commands.keys.transactionOf(shard, txn, part), shard.txn];
  }

  #run(
    script: ScriptName,
    deadline: Deadline,
    keys: readonly string[],
    members: readonly Member[],
    attempt: string,
    header: readonly string[],
  ): Promise<Reply> {
    const list: string[] = [];
    const args: Argument[] = [];
    const guarded: Argument[] = [];
    const memberKeys: string[] = [];
    for (const member of members) {
      const words = this.#words(member, attempt);
      list.push(`${member.kind}:${words.args.length}`);
      args.push(...words.args);
      guarded.push(...words.guarded);
      const { context, log, old } = this.#commands.keys.of(member.id);
      memberKeys.push(context, log, old);
    }
    const first = [...header, list.join(' ')];
    return this.#commands.connection.runScript<Reply>(
      deadline,
      script,
      [...keys, ...memberKeys],
      [...first, ...args],
      [...first, ...guarded],
    );
  }

  #words(member: Member, attempt: string): { readonly args: readonly Argument[]; readonly guarded: readonly Argument[] } {
    if (member.kind === 'commit') return this.#commands.commitWords(member.request, attempt);
    const args =
      member.kind === 'delete'
        ? this.#commands.removeWords(member.request, attempt)
        : [member.id, member.version, member.crc ?? '-'];
    return { args, guarded: args };
  }

  #ask(deadline: Deadline, script: ScriptName, keys: readonly string[], args: readonly Argument[]): Promise<Reply> {
    const { connection } = this.#commands;
    return this.#commands.ask(deadline, async () =>
      arrivedWhole(await connection.runScript<Reply>(deadline, script, keys, args)),
    );
  }

  /** @throws ContextError for what no other attempt can mend */
  #refusal(reply: Reply, members: readonly Member[]): Refusal {
    const [status, number, why] = reply;
    const { namespace } = this.#commands.keys;
    if (status === 'UNCERTAIN') {
      const message = `the connection broke during the transaction, and the log of ${namespace} no longer reaches back to it: read its contexts to see whether it was applied`;
      throw new ContextError('OUTCOME_UNKNOWN', message, { namespace });
    }
    if (status === 'CHECKSUM' || status === 'GARBLED') {
      const message =
        'the transaction that reached Redis is not the one that was sent, three times in a row; nothing was written: check the network path';
      throw new ContextError('CHECKSUM', message, { namespace });
    }
    const id = members[Number(number) - 1]?.id;
    if (status !== 'REFUSED' || id === undefined)
      throw new ContextError('REDIS_ERROR', `unknown answer ${JSON.stringify(reply)}`, { namespace });
    switch (why) {
      case 'CONFLICT':
        return { id, why: 'conflict', version: Number(reply[3]) };
      case 'FENCED':
        return { id, why: 'fenced', fence: String(reply[3]) };
      case 'LOCKED':
        return { id, why: 'locked', intent: intentIn(reply, 3) };
      case 'BASE_MISMATCH':
        return { id, why: 'baseMismatch', damaged: reply[5] === '-' ? null : String(reply[5]) };
      case 'DAMAGED':
        return { id, why: 'damaged' };
      case 'WRITE_CORRUPT':
        return { id, why: 'writeCorrupt' };
      default:
        throw new ContextError('REDIS_ERROR', `unknown answer ${JSON.stringify(reply)}`, { namespace, id });
    }
  }
}

const STATES: Readonly<Record<string, Decision['state']>> = {
  COMMITTED: 'committed',
  ABORTED: 'aborted',
  UNDECIDED: 'undecided',
  FORGOTTEN: 'forgotten',
};
/** Parts ended in one round. */
const OVERDUE = 100;
const UNKNOWN: Written = { version: 0, kind: 'full', frameBytes: 0, expiresAt: null, checkpointDue: false };

const shardKeys = ({ exp, use, size, mem }: ShardKeys): string[] => [exp, use, size, mem];

/** Transaction and part of a record, by the name that the list of open ones has for it. */
export function partName(name: string): { readonly txn: string; readonly part: number } | null {
  const [, txn, part] = /^(.+)\.(\d+)$/.exec(name) ?? [];
  return txn === undefined ? null : { txn, part: Number(part) };
}

/** Rows of five words. @param from - of the first row's first word; `step` from one row to the next */
function writtenIn(reply: Reply, from: number, step: number): Written[] {
  const rows: Written[] = [];
  for (let at = from; at + 4 < reply.length; at += step) {
    const [version, kind, frame, exp, due] = reply.slice(at, at + 5);
    rows.push({
      version: Number(version),
      kind: String(kind) as Written['kind'],
      frameBytes: Number(frame),
      expiresAt: Number(exp) === 0 ? null : Number(exp),
      checkpointDue: Number(due) === 1,
    });
  }
  return rows;
}
