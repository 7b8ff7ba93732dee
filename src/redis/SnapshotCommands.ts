/**
 * What can be asked of Redis about snapshots: one method, one bounded round trip, safe to be repeated after a lost reply. Nothing that is read is
 * verified here.
 */
import { ContextError } from '../core/errors.js';
import type { ContextCommands } from './ContextCommands.js';
import type { ShardKeys } from './keys.js';
import type { Argument, Deadline } from './RedisConnection.js';
import type { ScriptName } from './scripts.js';

type ScriptReply = readonly (string | number)[];

/** What is not finished goes by itself after this long without another piece, ms. */
const UNFINISHED_MS = 60_000;
const PAGE = 100;

export interface NamedSnapshot {
  readonly name: string;
  readonly expiresAt: number | null;
}

export class SnapshotCommands {
  readonly #commands: ContextCommands;

  constructor(commands: ContextCommands) {
    this.#commands = commands;
  }

  get shards(): readonly ShardKeys[] {
    return this.#commands.keys.shards;
  }

  get instanceId(): string {
    return this.#commands.settings.instanceId;
  }

  get namespace(): string {
    return this.#commands.keys.namespace;
  }

  /** Redis's time, ms since the epoch, as it is known here. */
  get now(): number {
    return Math.floor(this.#commands.connection.clock.latest(performance.now()));
  }

  /** Puts fields of what operation `op` writes; all of one name lie in one hash slot. */
  async piece(
    name: string,
    op: string,
    fields: readonly (readonly [field: string, bytes: Argument])[],
    deadline: Deadline,
  ): Promise<void> {
    const { pieces } = this.#commands.keys.snapshotOf(name, op);
    await this.#run(deadline, 'piece', [pieces], [UNFINISHED_MS, ...fields.flat()]);
  }

  /** Gives what `op` has written its name. */
  async preserve(
    name: string,
    op: string,
    how: { readonly fields: number; readonly ttlMs: number | null; readonly replace: boolean },
    deadline: Deadline,
  ): Promise<{ readonly status: 'preserved'; readonly expiresAt: number | null } | { readonly status: 'exists' | 'incomplete' }> {
    const { pieces, snapshot, index } = this.#commands.keys.snapshotOf(name, op);
    const header = `${op} ${how.fields} ${how.ttlMs ?? 'none'} ${how.replace ? 1 : 0}`;
    const reply = await this.#run(deadline, 'preserve', [pieces, snapshot, index], [header, name]);
    if (reply[0] === 'PRESERVED') return { status: 'preserved', expiresAt: Number(reply[1]) || null };
    return { status: reply[0] === 'EXISTS' ? 'exists' : 'incomplete' };
  }

  /** Some fields of a snapshot, null where they are not there. */
  fields(name: string, fields: readonly string[], deadline: Deadline): Promise<(Buffer | null)[]> {
    const { snapshot } = this.#commands.keys.snapshotOf(name, '');
    return this.#commands.asked(deadline, 'read a snapshot', (client) => client.hmgetBuffer(snapshot, ...fields));
  }

  /** A page of names of a shard; a cursor of '0' begins, and ends. They may be gone already. */
  async page(
    shard: ShardKeys,
    cursor: string,
    deadline: Deadline,
  ): Promise<{ readonly cursor: string; readonly found: readonly NamedSnapshot[] }> {
    const [next, pairs] = await this.#commands.asked(deadline, 'list snapshots', (client) =>
      client.zscan(shard.snap, cursor, 'COUNT', PAGE),
    );
    const found = pairs.flatMap((name, at): NamedSnapshot[] => {
      const score = Number(pairs[at + 1]);
      return at % 2 === 0 ? [{ name, expiresAt: Number.isFinite(score) ? score : null }] : [];
    });
    return { cursor: next, found };
  }

  /** Some fields of several, in the order of the names. */
  heads(names: readonly string[], fields: readonly string[], deadline: Deadline): Promise<(string | null)[][]> {
    const keys = names.map((name) => this.#commands.keys.snapshotOf(name, '').snapshot);
    return this.#commands.asked(deadline, 'list snapshots', (client) =>
      Promise.all(keys.map((key) => client.hmget(key, ...fields))),
    );
  }

  /** Whether there was one. */
  async forget(name: string, deadline: Deadline): Promise<boolean> {
    const { snapshot, index } = this.#commands.keys.snapshotOf(name, '');
    return (await this.#run(deadline, 'forget', [snapshot, index], [name]))[0] === 'FORGOTTEN';
  }

  #run(deadline: Deadline, script: ScriptName, keys: readonly string[], args: readonly Argument[]): Promise<ScriptReply> {
    return this.#commands.ask(deadline, async () => {
      const reply = await this.#commands.connection.runScript<ScriptReply>(deadline, script, keys, args);
      if (reply[0] === 'GARBLED')
        throw new ContextError('CONNECTION', `${script}: the request was damaged on its way: check the network path`);
      return reply;
    });
  }
}
