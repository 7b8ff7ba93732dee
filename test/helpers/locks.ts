/** The scripts of the lock book, called as they are. */
import { nodeKeys } from '../../src/redis/keys.js';
import type { LuaNamespace, Reply } from './lua.js';
import { FAR_MS } from './lua.js';

export interface LockCall {
  readonly mode?: 'w' | 'r';
  readonly instance?: string;
  readonly ttl?: number;
  /** 0: it does not wait. */
  readonly lease?: number;
  readonly till?: number;
  readonly floor?: number;
  readonly most?: number;
}

export function lock(lua: LuaNamespace, id: string, owner: string, call: LockCall = {}): Promise<Reply> {
  const { mode = 'w', instance = 'tester', ttl = 10_000, lease = 2_000, till = FAR_MS, floor = 0, most = 1_000 } = call;
  const { context, mem } = lua.of(id);
  const words = `${owner} ${instance} ${mode} ${ttl} ${lease} ${till} ${floor}`;
  return lua.run('lock', [lua.keys.lockBookOf(id), context, mem], [words, `PUBLISH ${most}`]);
}

export function extend(lua: LuaNamespace, id: string, owner: string, token: number, ttl: number, till = FAR_MS): Promise<Reply> {
  return lua.run('extend', [lua.keys.lockBookOf(id)], [`${owner} ${token} ${ttl} ${till}`]);
}

export const unlock = (lua: LuaNamespace, id: string, owner: string): Promise<Reply> =>
  lua.run('unlock', [lua.keys.lockBookOf(id)], [owner, 'PUBLISH']);

export const breakLock = (lua: LuaNamespace, id: string): Promise<Reply> =>
  lua.run('break', [lua.keys.lockBookOf(id), lua.of(id).context], ['PUBLISH']);

/** A script of lock nodes, on the run `run`, for a writer. */
export function nodeVote(
  lua: LuaNamespace,
  name: 'nodelock' | 'nodeextend' | 'nodeunlock',
  value: string,
  args: readonly number[] = [],
  id = 'a',
  { mode = 'w', run = 'run' } = {},
): Promise<Reply> {
  return lua.run(name, nodeKeys(lua.keys.namespace, id), [value, ...args, mode, run]);
}

/** The token of an answer that must be `GRANTED`. */
export function granted(reply: Reply): number {
  if (reply[0] !== 'GRANTED') throw new Error(`it should have been granted, not ${JSON.stringify(reply)}`);
  return Number(reply[1]);
}
