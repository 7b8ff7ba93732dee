/**
 * The copies that Redis's own replicas have. They are asked only where nobody else has a good copy: a replica gets what its master wrote, so
 * it helps against damage that happened in the master's memory or files.
 */
import type { ContextCommands } from '../redis/ContextCommands.js';
import type { IntegrityCommands } from '../redis/IntegrityCommands.js';
import type { Deadline } from '../redis/RedisConnection.js';
import { bytesOf, storedContext } from '../redis/storedContext.js';
import { damageOf } from '../replica/damage.js';
import type { Facts } from './examine.js';

export class RedisReplicas {
  readonly #commands: ContextCommands;
  readonly #copies: IntegrityCommands;

  constructor(commands: ContextCommands, copies: IntegrityCommands) {
    this.#commands = commands;
    this.#copies = copies;
  }

  /**
   * The document of a context as a replica has it, with its own checksums and seal; null where none has it.
   *
   * @param wanted - what it must be; null: whatever is sound and sealed
   */
  async find(
    id: string,
    wanted: Facts | null,
    deadline: Deadline,
  ): Promise<{ readonly bytes: Buffer; readonly facts: Facts } | null> {
    for await (const fields of this.#copies.onReplicas(id, deadline)) {
      const stored = storedContext(fields);
      // without what it should be, only its seal can tell that it is of this context
      if (stored === null || damageOf(id, stored, wanted === null || this.#commands.sealed) !== null) continue;
      const { version, crc, length, at, expiresAt } = stored;
      if (wanted !== null && (version !== wanted.version || crc !== wanted.crc || length !== wanted.length)) continue;
      const own = {
        version,
        crc,
        length,
        at,
        expiresAt,
        by: fields.by?.toString() ?? '-',
        operation: fields.op?.toString() ?? '-',
      };
      return { bytes: bytesOf(stored), facts: wanted ?? own };
    }
    return null;
  }
}
