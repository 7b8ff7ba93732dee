/** What export and import ask of Redis beyond what every read and write does: one method, one round trip. */
import type { ContextCommands } from './ContextCommands.js';
import { contextKey } from './keys.js';
import type { Deadline } from './RedisConnection.js';

/** What is there of a context, unverified. */
export interface Look {
  readonly version: number;
  readonly crc: string;
  /** Length of the document, bytes. */
  readonly bytes: number;
  readonly at: number;
  readonly expiresAt: number | null;
  /** It is in quarantine: nobody has a good copy of it. */
  readonly quarantined: boolean;
}

const LOOKED = ['v', 'crc', 'len', 'at', 'exp', 'q'] as const;

export class BackupCommands {
  readonly #commands: ContextCommands;

  constructor(commands: ContextCommands) {
    this.#commands = commands;
  }

  /** Names the run of the server: cursors mean nothing to another one, since each hashes in its own way. */
  async run(deadline: Deadline): Promise<string> {
    const text = await this.#commands.asked(deadline, 'ask which server this is', (client) => client.info('server'));
    return /^run_id:(\S+)/m.exec(text)?.[1] ?? '';
  }

  /** Contexts of all shards, expired ones that are still to be swept included. */
  async count(deadline: Deadline): Promise<number> {
    const { shards } = this.#commands.keys;
    const counts = await this.#commands.asked(deadline, 'count', (client) =>
      Promise.all(shards.map(({ use }) => client.zcard(use))),
    );
    return counts.reduce((sum, count) => sum + count, 0);
  }

  /** Lengths of documents as they are said to be, in the order of the ids; 0 where nothing is said. */
  async lengths(ids: readonly string[], deadline: Deadline): Promise<number[]> {
    const { keys } = this.#commands;
    const found = await this.#commands.asked(deadline, 'list', (client) =>
      Promise.all(ids.map((id) => client.hget(contextKey(keys.shardOf(id), id), 'len'))),
    );
    return found.map((length) => Number(length ?? 0) || 0);
  }

  /** What is there, in the order of the ids; null where nothing is. */
  async look(ids: readonly string[], deadline: Deadline): Promise<(Look | null)[]> {
    const { keys } = this.#commands;
    const rows = await this.#commands.asked(deadline, 'look at what is there', (client) =>
      Promise.all(ids.map((id) => client.hmget(contextKey(keys.shardOf(id), id), ...LOOKED))),
    );
    return rows.map(([version, crc, length, at, exp, quarantined]) =>
      version || crc
        ? {
            version: Number(version),
            crc: crc ?? '',
            bytes: Number(length),
            at: Number(at),
            expiresAt: Number(exp) || null,
            quarantined: Boolean(quarantined),
          }
        : null,
    );
  }
}
