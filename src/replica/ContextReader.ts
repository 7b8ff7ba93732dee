/**
 * Reads from Redis that are verified before anybody sees them: length and CRC-32 over the bytes, the seal over id and facts, then JSON. A
 * mismatch is read again once (it may have happened on the way); after that it is corruption: said so with all that is known, and healed where
 * a good copy exists.
 */
import { LRUCache } from 'lru-cache';
import { ContextError, isContextError } from '../core/errors.js';
import { JsonDocument } from '../core/JsonDocument.js';
import { type JsonValue, parseFrozen } from '../core/json.js';
import type { ContextCommands } from '../redis/ContextCommands.js';
import type { IntegrityCommands } from '../redis/IntegrityCommands.js';
import type { Deadline } from '../redis/RedisConnection.js';
import { type StoredContext, sharedText, textOf } from '../redis/storedContext.js';
import { checkpointState, type Damage, damageOf } from './damage.js';
import { absent, type ReplicaState } from './state.js';

export interface Corruption {
  readonly id: string;
  readonly version: number;
  readonly expected: string;
  readonly found: string;
  readonly bytes: number;
  /** Where the bytes differ first from what they should be, counted from 0; null where that is not known. */
  readonly offset: number | null;
  readonly where: 'read' | 'frame' | 'replica' | 'log' | 'checkpoint' | 'verify' | 'commit' | 'scrub' | 'sweep' | 'reconcile';
}

/** Tries to bring a damaged context back; whether it is worth reading again. */
export type Healer = (id: string, where: Corruption['where'], deadline: Deadline) => Promise<boolean>;

/** The state that sound bytes are, or null where they are no JSON. */
export function stateOf(stored: StoredContext): ReplicaState | null {
  let value: JsonValue;
  try {
    value = parseFrozen(textOf(stored));
  } catch {
    return null;
  }
  const { version, crc, length: bytes, at, expiresAt } = stored;
  const text = sharedText(stored);
  const state = { version, crc, value, bytes, at, expiresAt };
  return text === null ? state : { ...state, document: JsonDocument.pair(value, text) };
}

/** Contexts that are remembered to be damaged. */
const REMEMBERED = 1_000;

export class ContextReader {
  readonly #commands: ContextCommands;
  readonly #copies: IntegrityCommands;
  readonly #corrupt: (corruption: Corruption) => void;
  readonly #heal: Healer;
  readonly #damaged = new LRUCache<string, true>({ max: REMEMBERED });

  constructor(
    commands: ContextCommands,
    copies: IntegrityCommands,
    corrupt: (corruption: Corruption) => void,
    heal: Healer = async () => false,
  ) {
    this.#commands = commands;
    this.#copies = copies;
    this.#corrupt = corrupt;
    this.#heal = heal;
  }

  /** Whether a read has found it damaged, and nobody here has written it whole since: a change leaves what it does not touch as it is. */
  isDamaged(id: string): boolean {
    return this.#damaged.has(id);
  }

  /** It was written whole. */
  mended(id: string): void {
    this.#damaged.delete(id);
  }

  /** The live context, or null. @throws ContextError `CORRUPT` */
  async read(id: string, deadline: Deadline): Promise<ReplicaState | null> {
    return this.#verified(id, await this.#commands.read(id, deadline), deadline);
  }

  /** The live context, or that there is none, with the version that its log ends with. @throws ContextError `CORRUPT` */
  async readState(id: string, deadline: Deadline): Promise<ReplicaState> {
    const state = await this.read(id, deadline);
    if (state !== null) return state;
    const [last] = await this.#commands.logTail(id, 1, deadline);
    const told = last?.kind === 'deleted' || last?.kind === 'expired';
    // nobody has logged that it went: it has expired and is still to be taken out, or its log is gone as well
    const at = told ? last.at : Math.ceil(this.#commands.connection.clock.latest(performance.now()));
    return { ...absent(last?.version ?? 0), at: Number.isFinite(at) ? at : 0 };
  }

  /** Several in one round trip, in the order of the ids. @throws ContextError `CORRUPT` for the first that is */
  async readMany(ids: readonly string[], deadline: Deadline): Promise<(ReplicaState | null)[]> {
    const rows = await this.#commands.readMany(ids, deadline);
    return Promise.all(ids.map((id, index) => this.#verified(id, rows[index] ?? null, deadline)));
  }

  /**
   * Several as they are stored, to the byte, verified as {@link read} does. What is damaged, and cannot be healed, comes as its error, and does not
   * keep the others.
   */
  async readStored(ids: readonly string[], deadline: Deadline): Promise<(StoredContext | ContextError | null)[]> {
    const rows = await this.#commands.readMany(ids, deadline);
    const verified = ids.map(async (id, index) => (await this.#sound(id, rows[index] ?? null, deadline))?.stored ?? null);
    return Promise.all(
      verified.map((one) =>
        one.catch((error: unknown) => {
          if (isContextError(error) && error.code === 'CORRUPT') return error;
          throw error;
        }),
      ),
    );
  }

  /** Earlier states of a context that Redis keeps copies of; damaged ones are left out. */
  async checkpoints(id: string, deadline: Deadline): Promise<ReplicaState[]> {
    const found = await this.#copies.checkpoints(id, deadline);
    return found.flatMap((fields) => checkpointState(id, fields) ?? []);
  }

  async #verified(id: string, first: StoredContext | null, deadline: Deadline): Promise<ReplicaState | null> {
    return (await this.#sound(id, first, deadline))?.state ?? null;
  }

  async #sound(
    id: string,
    first: StoredContext | null,
    deadline: Deadline,
  ): Promise<{ readonly stored: StoredContext; readonly state: ReplicaState } | null> {
    let stored = first;
    for (let tries = 0; ; tries += 1) {
      if (stored === null) return null;
      if (stored.quarantined !== '') {
        if (await this.#isOver(id, stored, deadline)) return null;
        throw this.#quarantined(id, stored);
      }
      const damage = damageOf(id, stored, this.#commands.sealed);
      if (damage === null) break;
      // the first may have happened on the way
      if (tries > 0) {
        const error = this.#corruption(id, stored, damage);
        if (tries > 1 || !(await this.#heal(id, 'read', deadline))) throw error;
        this.mended(id);
      }
      stored = await this.#commands.read(id, deadline);
    }
    if (await this.#isOver(id, stored, deadline)) return null;
    const state = stateOf(stored);
    if (state === null) throw this.#corruption(id, stored, { what: 'checksum', expected: 'JSON', found: 'bytes that are none' });
    return { stored, state };
  }

  /** Whether its time is over, by Redis's clock. */
  async #isOver(id: string, { expiresAt }: StoredContext, deadline: Deadline): Promise<boolean> {
    if (expiresAt === null) return false;
    const verdict = this.#commands.connection.clock.judge(expiresAt, performance.now());
    // so near to its expiry that only Redis's own clock can tell
    return verdict === 'expired' || (verdict === 'unknown' && (await this.#commands.versionOf(id, deadline)) === null);
  }

  #corruption(id: string, stored: StoredContext, { expected, found }: Damage): ContextError {
    const { namespace } = this.#commands.keys;
    const { shard } = this.#commands.keys.shardOf(id);
    const { version } = stored;
    this.#damaged.set(id, true);
    this.#corrupt({ id, version, expected, found, bytes: stored.found, offset: null, where: 'read' });
    return new ContextError(
      'CORRUPT',
      `${id}: the stored document is damaged (version ${version}: expected ${expected}, found ${found}) and no good copy was found; write it anew, or look at it with \`lukhas-context verify\``,
      { namespace, shard, id, version, expected, found },
    );
  }

  #quarantined(id: string, { version, quarantined }: StoredContext): ContextError {
    const { namespace } = this.#commands.keys;
    const { shard } = this.#commands.keys.shardOf(id);
    this.#damaged.set(id, true);
    return new ContextError(
      'CORRUPT',
      `${id}: version ${version} was damaged and is in quarantine (${quarantined}); write it anew, or bring it back with \`lukhas-context restore\``,
      { namespace, shard, id, version, found: quarantined },
    );
  }
}
