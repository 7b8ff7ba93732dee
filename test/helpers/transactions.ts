/** The scripts of transactions, called as they are: several contexts in one call, and the two phases of what several shards take part in. */
import type { ShardKeys } from '../../src/redis/keys.js';
import type { Attempt, CommitOptions, DeleteOptions, LuaNamespace, Reply } from './lua.js';
import { commitArguments, deleteArguments } from './writeArguments.js';

/** One context of a transaction, as the scripts take it. */
export type TxMember =
  | { readonly kind: 'commit'; readonly id: string; readonly document: string | Buffer; readonly options: CommitOptions }
  | { readonly kind: 'delete'; readonly id: string; readonly options: DeleteOptions }
  | { readonly kind: 'expect'; readonly id: string; readonly version: number; readonly crc: string };

export interface TransactOptions extends Attempt {
  /** The operation of all that is written. */
  readonly op?: string;
  /** Lua that stands before the script's first statement. */
  readonly prelude?: string;
}

/** A part of a transaction over several shards. */
export interface TxPart {
  readonly txn: string;
  /** When what is not decided may be ended by anybody, ms. */
  readonly deadline: number;
  /** @defaultValue 0 */
  readonly part?: number;
  /** The shard that it is in. @defaultValue the namespace's own */
  readonly shard?: ShardKeys;
  /** The shard of each part. @defaultValue this one's alone */
  readonly parts?: readonly number[];
}

/** How long a settled transaction is remembered, ms. */
export const KEEP_MS = 600_000;

type Argument = string | number | Buffer;

export const commit = (id: string, document: string | Buffer, options: CommitOptions = {}): TxMember => ({
  kind: 'commit',
  id,
  document,
  options,
});
export const remove = (id: string, options: DeleteOptions = {}): TxMember => ({ kind: 'delete', id, options });
export const expected = (id: string, version: number, crc = '-'): TxMember => ({ kind: 'expect', id, version, crc });

/** All members in one script. */
export function transact(lua: LuaNamespace, members: readonly TxMember[], options: TransactOptions = {}): Promise<Reply> {
  const { prelude = '', ...common } = options;
  const { list, keys, args, guarded } = call(lua, members, common);
  return lua.run('transact', [...shardKeys(lua.shard), ...keys], [list, ...args], prelude, [list, ...guarded]);
}

/** The first phase in one shard. */
export function prepare(
  lua: LuaNamespace,
  part: TxPart,
  members: readonly TxMember[],
  options: TransactOptions = {},
): Promise<Reply> {
  const { prelude = '', ...common } = options;
  const { txn, deadline, shard = lua.shard, parts = [shard.shard] } = part;
  const { list, keys, args, guarded } = call(lua, members, { op: txn, ...common });
  const first = [`${txn} ${part.part ?? 0} ${parts[0]} ${deadline} tester ${parts.join(' ')}`, list];
  return lua.run('prepare', [...partKeys(lua, part), ...keys], [...first, ...args], prelude, [...first, ...guarded]);
}

/** Decides in the shard of part 0, or asks. */
export function decide(lua: LuaNamespace, part: TxPart, want: 'commit' | 'abort' | 'ask', home = lua.shard): Promise<Reply> {
  return lua.run(
    'decide',
    [recordOf(lua, { ...part, part: 0, shard: home })],
    [`${part.txn} ${want} ${part.deadline} ${KEEP_MS}`],
  );
}

/** The second phase in one shard. @param met - a context that has the intent */
export function finish(
  lua: LuaNamespace,
  part: TxPart,
  outcome: 'commit' | 'abort' | 'forget',
  met = '',
  prelude = '',
): Promise<Reply> {
  const { tag } = part.shard ?? lua.shard;
  return lua.run('finish', partKeys(lua, part), [tag, `${part.txn} ${part.part ?? 0} ${outcome} ${KEEP_MS}`, met], prelude);
}

/** @param reads - id, version and, where it counts, CRC-32 of each */
export function validate(
  lua: LuaNamespace,
  ...reads: readonly (readonly [id: string, version: number, crc?: string])[]
): Promise<Reply> {
  const keys = reads.map(([id]) => lua.of(id).context);
  return lua.run('validate', keys, [reads.map(([, version, crc = '-']) => `${version} ${crc}`).join(' ')]);
}

/** The record of a part. */
export const recordOf = (lua: LuaNamespace, { txn, part = 0, shard = lua.shard }: TxPart): string =>
  lua.keys.transactionOf(shard, txn, part);

/** What a context that takes part carries until its transaction is settled. */
export const intentOf = ({ txn, deadline, part = 0, parts = [0] }: TxPart): string => `${txn} ${deadline} ${part} ${parts[0]}`;

const shardKeys = ({ exp, use, size, mem }: ShardKeys): string[] => [exp, use, size, mem];

const partKeys = (lua: LuaNamespace, part: TxPart): string[] => {
  const { shard = lua.shard } = part;
  return [...shardKeys(shard), recordOf(lua, part), shard.txn];
};

/** Keys and arguments of all members. */
function call(
  lua: LuaNamespace,
  members: readonly TxMember[],
  common: TransactOptions,
): { readonly list: string; readonly keys: string[]; readonly args: Argument[]; readonly guarded: Argument[] } {
  const list: string[] = [];
  const keys: string[] = [];
  const args: Argument[] = [];
  const guarded: Argument[] = [];
  for (const member of members) {
    const { context, log, old } = lua.of(member.id);
    keys.push(context, log, old);
    const own = words(lua, member, common);
    list.push(`${member.kind}:${own.args.length}`);
    args.push(...own.args);
    guarded.push(...own.guarded);
  }
  return { list: list.join(' '), keys, args, guarded };
}

function words(lua: LuaNamespace, member: TxMember, common: TransactOptions): { args: Argument[]; guarded: Argument[] } {
  const keys = lua.of(member.id);
  switch (member.kind) {
    case 'commit':
      return commitArguments(keys, member.id, member.document, { ...common, ...member.options });
    case 'delete': {
      const args = deleteArguments(keys, member.id, { ...common, ...member.options });
      return { args, guarded: args };
    }
    case 'expect': {
      const args = [member.id, member.version, member.crc];
      return { args, guarded: args };
    }
  }
}
