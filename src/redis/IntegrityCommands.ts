/**
 * What can be asked of Redis about damaged contexts and the copies they are rebuilt from. Nothing is verified here but that what arrived is
 * what was sent; the decisions are made in `src/integrity`.
 */
import type { Redis } from 'ioredis';
import { sha1Hex } from '../core/checksum.js';
import type { DocumentText } from '../core/DocumentText.js';
import { ContextError } from '../core/errors.js';
import { fullPlan } from '../core/storagePlan.js';
import type { ContextCommands } from './ContextCommands.js';
import { contextKey, type ShardKeys } from './keys.js';
import { type LogEntry, logEntry } from './logEntries.js';
import type { Argument, Deadline } from './RedisConnection.js';

type ScriptReply = readonly [string, ...(string | number)[]];
type RawFields = Readonly<Record<string, Buffer>>;

/** Fields of a context in the order of its fingerprint (`lua/include/fingerprint.lua`). */
const FINGERPRINTED = ['v', 'crc', 'sha', 'len', 'at', 'exp', 'seal', 'q', 'op', 'fence', 'intent', 'chunks'] as const;
const GRACE_MS = 60_000;
const PUBLISH = 'PUBLISH';
const FIRST_CHUNK = 6;

/** A document at a version, as it is to be stored. */
export interface SoundVersion {
  readonly version: number;
  readonly crc: string;
  readonly at: number;
  readonly expiresAt: number | null;
  readonly by: string;
  readonly operation: string;
  readonly text: DocumentText;
}

/** What is stored of one context. */
export interface StoredParts {
  readonly id: string;
  readonly fields: RawFields | null;
  /** Oldest first, those that tell of repairs included. */
  readonly log: readonly LogEntry[];
  /** The newer one first, by the letter of their key. */
  readonly checkpoints: readonly { readonly name: 'k' | 'j'; readonly fields: RawFields }[];
  /** What was moved to quarantine, with why, when and by whom. */
  readonly quarantined: RawFields | null;
  /** The expiry that the shard's index has, ms. */
  readonly indexedExpiry: number | null;
  /** The context is not there, although nothing has ended it. */
  readonly lost: boolean;
  /** Redis's time, ms. */
  readonly now: number;
  /** Whether a missing seal is damage. */
  readonly sealed: boolean;
}

export interface CheckpointCopy {
  readonly version: number;
  readonly crc: string;
  readonly sha1: string;
  readonly length: number;
  readonly at: number;
  readonly expiresAt: number | null;
  readonly encoding: '-' | 'gz' | 'br';
  readonly bytes: Buffer;
}

/** Stands for the fields that were read, so that Redis can tell whether they are still those. */
export const fingerprintOf = (fields: RawFields): string =>
  sha1Hex(
    Buffer.concat(
      FINGERPRINTED.flatMap((name, index) => [Buffer.from(index === 0 ? '' : '\n'), fields[name] ?? Buffer.alloc(0)]),
    ),
  );

/** Reads the answer of `lua/look.lua` from its beginning to its end. */
class LookReader {
  readonly #words: readonly (Buffer | null)[];
  #at = 0;

  constructor(words: readonly (Buffer | null)[]) {
    this.#words = words;
  }

  word(): Buffer {
    const word = this.#words[this.#at] ?? EMPTY;
    this.#at += 1;
    return word;
  }

  list(): Buffer[] {
    const count = Number(this.word());
    return Array.from({ length: 2 * count }, () => this.word());
  }

  fields(): RawFields {
    const list = this.list();
    const fields: Record<string, Buffer> = {};
    for (let index = 0; index + 1 < list.length; index += 2) fields[String(list[index])] = list[index + 1] ?? EMPTY;
    return fields;
  }

  entries(): [Buffer, Buffer[]][] {
    const count = Number(this.word());
    return Array.from({ length: count }, (): [Buffer, Buffer[]] => [this.word(), this.list()]);
  }
}

const EMPTY = Buffer.alloc(0);

/** A word of a header: what is no such word was damaged. */
const word = (text: string): string => (/^[\x21-\x7e]+$/.test(text) ? text : '-');

export class IntegrityCommands {
  readonly #commands: ContextCommands;

  constructor(commands: ContextCommands) {
    this.#commands = commands;
  }

  /** Keeps a copy; `stale` where the log does not lead from it to the present, or a newer one is there. */
  async checkpoint(id: string, copy: CheckpointCopy, deadline: Deadline): Promise<'kept' | 'stale' | 'damaged'> {
    const { keys, settings } = this.#commands;
    const { context, log, size, mem } = keys.of(id);
    const { version, crc, sha1, length, at, expiresAt, encoding, bytes } = copy;
    const header = `${version} ${crc} ${sha1} ${length} ${at} ${expiresAt ?? '-'} ${encoding} ${sha1Hex(bytes)} ${settings.tombstoneMs} ${this.#sealed}`;
    const reply = await this.#run(
      deadline,
      id,
      'checkpoint',
      [context, log, size, mem, ...keys.checkpointsOf(id)],
      [header, bytes, id],
      [header, id],
    );
    return reply[0] === 'KEPT' ? 'kept' : reply[0] === 'DAMAGED' ? 'damaged' : 'stale';
  }

  /**
   * Puts a sound document in the place of what was read with this fingerprint. False where something else is there by now.
   *
   * @param how - where it comes from; the entries at the end of the log that are damaged, which go with it; whether a missing sum is damage
   */
  async repair(
    id: string,
    fingerprint: string,
    sound: SoundVersion,
    how: { readonly source: string; readonly tail: readonly string[]; readonly sealed: boolean },
    deadline: Deadline,
  ): Promise<boolean> {
    const { source, tail, sealed } = how;
    const { keys, settings, protocol } = this.#commands;
    const { context, log, exp, use, size, mem, old, channel } = keys.of(id);
    const { version, crc, at, expiresAt, by, operation, text } = sound;
    const words = `${fingerprint} ${version} ${crc} ${text.sha1} ${text.length} ${at} ${expiresAt ?? '-'} ${word(operation)} ${word(by)}`;
    const header = `${words} ${settings.tombstoneMs} ${GRACE_MS} ${PUBLISH} ${protocol} ${source} ${settings.instanceId} ${sealed ? 1 : 0}`;
    const plan = text.chunked ? fullPlan(text, FIRST_CHUNK) : '';
    const documents = text.chunked ? text.chunks.map(({ bytes }) => bytes) : [text.bytes()];
    const guarded = [header, plan, id, channel, tail.join(' ')];
    const reply = await this.#run(
      deadline,
      id,
      'repair',
      [context, log, exp, use, size, mem, old],
      [...guarded, ...documents],
      guarded,
    );
    if (reply[0] === 'REPAIRED') return true;
    if (reply[0] === 'CHANGED') return false;
    throw new ContextError(
      'WRITE_CORRUPT',
      `${id}: the repair was refused by Redis (${reply.join(' ')}); what was there is still there: check its memory`,
      { id, version },
    );
  }

  /** Takes away what was read with this fingerprint: its log says that it was deleted or has expired. False where that is not so by now. */
  async remove(id: string, fingerprint: string, deadline: Deadline): Promise<boolean> {
    const { keys, settings, protocol } = this.#commands;
    const { context, log, exp, use, size, mem } = keys.of(id);
    const args = [`${fingerprint} ${settings.tombstoneMs} ${protocol} ${settings.instanceId}`, id];
    const reply = await this.#run(deadline, id, 'gone', [context, log, exp, use, size, mem], args, args);
    return reply[0] === 'REMOVED';
  }

  /**
   * Moves what was read with this fingerprint aside. `changed` where something else is there by now; `sound` where Redis itself finds nothing
   * wrong with it: then it was damaged on its way.
   */
  async quarantine(
    id: string,
    fingerprint: string,
    { version, expiresAt }: { readonly version: number; readonly expiresAt: number | null },
    why: string,
    deadline: Deadline,
  ): Promise<'quarantined' | 'changed' | 'sound'> {
    const reply = await this.#quarantine(id, `put ${fingerprint} ${version}`, expiresAt, why, deadline);
    return reply[0] === 'QUARANTINED' ? 'quarantined' : reply[0] === 'SOUND' ? 'sound' : 'changed';
  }

  /** Lets go of what was moved aside. False where there was nothing. */
  async dropQuarantined(id: string, deadline: Deadline): Promise<boolean> {
    const reply = await this.#quarantine(id, 'drop - 0', null, '-', deadline);
    return reply[0] === 'DROPPED';
  }

  /** All fields of what was moved aside, or null. */
  quarantined(id: string, deadline: Deadline): Promise<RawFields | null> {
    return this.#fields(this.#commands.keys.quarantineOf(id), deadline);
  }

  /** A page of the ids of a shard that have something in quarantine, in no order; a cursor of '0' begins, and ends. */
  async quarantinedIds(
    shard: ShardKeys,
    cursor: string,
    deadline: Deadline,
  ): Promise<{ readonly cursor: string; readonly ids: string[] }> {
    const { pattern, idOf } = this.#commands.keys.quarantined(shard);
    const [next, found] = await this.#ask(deadline, 'list the quarantined', (client) =>
      client.scan(cursor, 'MATCH', pattern, 'COUNT', 1_000),
    );
    return { cursor: next, ids: found.map(idOf) };
  }

  /** A context, its log, its checkpoints and what is in quarantine of it, all of one moment and under one check. */
  async look(id: string, deadline: Deadline): Promise<StoredParts> {
    const { keys, sealed, connection } = this.#commands;
    const { context, log, exp } = keys.of(id);
    const [newest, older] = keys.checkpointsOf(id);
    const names = [context, log, newest, older, keys.quarantineOf(id), exp];
    const reply = await this.#commands.ask(deadline, async () => {
      const words = await connection.runScriptForBytes(deadline, 'look', names, [id]);
      if (words[0]?.toString() === 'GARBLED')
        throw new ContextError('CONNECTION', `${id}: look: the question was damaged on its way: check the network path`, { id });
      return words;
    });
    const reader = new LookReader(reply);
    const [, now, due, lost] = [reader.word(), reader.word(), reader.word(), reader.word()].map(String);
    const [fields, k, j, quarantined] = [reader.fields(), reader.fields(), reader.fields(), reader.fields()];
    const filled = (found: RawFields | undefined): found is RawFields => found !== undefined && Object.keys(found).length > 0;
    return {
      id,
      fields: filled(fields) ? fields : null,
      log: reader.entries().map((entry) => logEntry(id, entry, sealed)),
      checkpoints: [
        { name: 'k' as const, fields: k ?? {} },
        { name: 'j' as const, fields: j ?? {} },
      ].filter(({ fields: found }) => filled(found)),
      quarantined: filled(quarantined) ? quarantined : null,
      indexedExpiry: due === '' ? null : Number(due),
      lost: lost === '1',
      now: Number(now),
      sealed,
    };
  }

  /** The fields of a context as each of Redis's own replicas has them; those that cannot be reached are passed over. */
  async *onReplicas(id: string, deadline: Deadline): AsyncGenerator<RawFields> {
    const { connection, keys } = this.#commands;
    const info = await this.#ask(deadline, 'look for replicas', (client) => client.info('replication'));
    const key = contextKey(keys.shardOf(id), id);
    for (const [, host = '', port] of info.matchAll(/^slave\d+:ip=([^,]+),port=(\d+),state=online/gm)) {
      const fields = await connection
        .elsewhere(host, Number(port), deadline, (client) => client.hgetallBuffer(key))
        .catch(() => null);
      if (fields !== null && Object.keys(fields).length > 0) yield fields;
    }
  }

  /** All fields of a context's checkpoints as they are, the newer one first. */
  async checkpoints(id: string, deadline: Deadline): Promise<RawFields[]> {
    const found = await Promise.all(this.#commands.keys.checkpointsOf(id).map((key) => this.#fields(key, deadline)));
    return found.filter((fields) => fields !== null);
  }

  /** Lets go of those of these checkpoints and log entries that Redis finds damaged: what they said is said anew. */
  async dropCopies(
    id: string,
    entryIds: readonly string[],
    checkpoints: readonly ('k' | 'j')[],
    sealed: boolean,
    deadline: Deadline,
  ): Promise<void> {
    if (entryIds.length + checkpoints.length === 0) return;
    const { keys } = this.#commands;
    const { context, log, size, mem } = keys.of(id);
    const words = (['k', 'j'] as const).map((name) => (checkpoints.includes(name) ? name : '-')).join(' ');
    const args = [`${words} ${sealed ? 1 : 0}`, entryIds.join(' '), id];
    await this.#run(deadline, id, 'drop', [context, log, size, mem, ...keys.checkpointsOf(id)], args, args);
  }
  async #fields(key: string, deadline: Deadline): Promise<RawFields | null> {
    const fields = await this.#ask(deadline, 'read', (client) => client.hgetallBuffer(key));
    return Object.keys(fields).length === 0 ? null : fields;
  }

  #quarantine(id: string, head: string, expiresAt: number | null, why: string, deadline: Deadline): Promise<ScriptReply> {
    const { keys, settings } = this.#commands;
    const { context, log, exp, use, size, mem } = keys.of(id);
    const tail = `${settings.instanceId} ${expiresAt ?? '-'} ${settings.tombstoneMs} ${GRACE_MS} ${this.#sealed}`;
    const args = [`${head} ${tail}`, why, id];
    return this.#run(deadline, id, 'quarantine', [context, log, exp, use, size, mem, keys.quarantineOf(id)], args, args);
  }

  get #sealed(): 0 | 1 {
    return this.#commands.sealed ? 1 : 0;
  }

  #ask<T>(deadline: Deadline, doing: string, run: (client: Redis) => Promise<T>): Promise<T> {
    return this.#commands.asked(deadline, doing, run);
  }

  /** These scripts compare what is there before they write, so a second attempt does no harm. */
  #run(
    deadline: Deadline,
    id: string,
    name: 'checkpoint' | 'repair' | 'quarantine' | 'drop' | 'gone',
    keys: readonly string[],
    args: readonly Argument[],
    guarded: readonly Argument[],
  ): Promise<ScriptReply> {
    return this.#commands.ask(deadline, async () => {
      const reply = await this.#commands.connection.runScript<ScriptReply>(deadline, name, keys, args, guarded);
      if (reply[0] === 'GARBLED' || (reply[0] === 'CHECKSUM' && name === 'checkpoint'))
        throw new ContextError('CONNECTION', `${id}: ${name}: the request was damaged on its way: check the network path`, {
          id,
        });
      return reply;
    });
  }
}
