/**
 * Brings damaged contexts back, by the first of these that has what the log, or the context's own seal, says there should be: what is stored
 * itself, read again; the checkpoint and the delta log; a live replica of any instance; the copy of a Redis replica. Where nobody has it, the
 * damaged bytes are moved to quarantine: nothing is invented (docs/INTEGRITY.md).
 */
import { DocumentText } from '../core/DocumentText.js';
import { JsonDocument } from '../core/JsonDocument.js';
import type { JsonValue } from '../core/json.js';
import type { ContextCommands } from '../redis/ContextCommands.js';
import { fingerprintOf, type IntegrityCommands } from '../redis/IntegrityCommands.js';
import type { Deadline } from '../redis/RedisConnection.js';
import { crcOf } from '../redis/storedContext.js';
import type { Corruption } from '../replica/ContextReader.js';
import { stateAt } from '../replica/logReplay.js';
import { documentOf, type ReplicaState } from '../replica/state.js';
import { examine, type Facts, type Finding, factsOf, type Stored, soundCheckpoints, storedBytes } from './examine.js';
import type { Peers } from './Peers.js';
import type { RedisReplicas } from './RedisReplicas.js';

export type RepairSource = 'reread' | 'log' | 'peer' | 'redis-replica';

export interface RepairResult {
  readonly id: string;
  /** `sound`: there was nothing (any more) to repair; `removed`: the log says that it was deleted or expired; `changing`: others write it all the time. */
  readonly outcome: 'sound' | 'repaired' | 'removed' | 'quarantined' | 'absent' | 'changing';
  readonly source: RepairSource | null;
  readonly version: number;
  /** What was found damaged, as it was found first. */
  readonly findings: readonly Finding[];
  /** Where the damaged document differed first from the good one, counted from 0; null where that is not known. */
  readonly offset: number | null;
}

export interface RepairHooks {
  corrupt(corruption: Corruption): void;
  repaired(result: RepairResult): void;
  quarantined(result: RepairResult & { readonly why: string }): void;
  /** A checkpoint of a sound context is wanted, because what there was is gone. */
  checkpoint(id: string, state: ReplicaState, sha1: string): Promise<void>;
}

interface Good {
  readonly bytes: Buffer;
  readonly facts: Facts;
  readonly source: RepairSource;
}

/** A context that others write all the while is looked at again this often. */
const TRIES = 8;

export class Repairer {
  readonly #commands: ContextCommands;
  readonly #copies: IntegrityCommands;
  readonly #peers: Peers;
  readonly #replicas: RedisReplicas;
  readonly #hooks: RepairHooks;
  readonly #running = new Map<string, Promise<RepairResult>>();

  constructor(commands: ContextCommands, copies: IntegrityCommands, peers: Peers, replicas: RedisReplicas, hooks: RepairHooks) {
    this.#commands = commands;
    this.#copies = copies;
    this.#peers = peers;
    this.#replicas = replicas;
    this.#hooks = hooks;
  }

  /**
   * Looks at all that is stored of a context, and repairs what is damaged. One run at a time for each context in a process; that two
   * processes do it at once does no harm, since each step is a compare-and-set.
   *
   * @param where - by whom it was found; `told`: the damage was made known already
   * @throws ContextError as the connection does
   */
  repair(id: string, where: Corruption['where'], deadline: Deadline, told = false): Promise<RepairResult> {
    let running = this.#running.get(id);
    if (running === undefined) {
      running = this.#repair(id, where, deadline, told).finally(() => this.#running.delete(id));
      this.#running.set(id, running);
    }
    return running;
  }

  /** What is stored of a context, all of one moment. */
  async look(id: string, deadline: Deadline): Promise<Stored> {
    return this.#copies.look(id, deadline);
  }

  async #repair(id: string, where: Corruption['where'], deadline: Deadline, told: boolean): Promise<RepairResult> {
    let first: readonly Finding[] | null = null;
    let source: RepairSource | null = null;
    let offset: number | null = null;
    let outcome: RepairResult['outcome'] = 'sound';
    const result = (version: number): RepairResult => ({ id, outcome, source, version, findings: first ?? [], offset });
    const ended = (version: number): RepairResult => {
      const made = result(version);
      if (outcome === 'repaired' || outcome === 'removed') this.#hooks.repaired(made);
      return made;
    };
    for (let tries = 0; tries < TRIES; tries += 1) {
      const stored = await this.look(id, deadline);
      const version = Number(stored.fields?.v?.toString() ?? 0) || 0;
      if (stored.fields?.q !== undefined) return { ...result(version), outcome: 'quarantined' };
      const lost = stored.fields === null && isLost(stored, this.#commands);
      if (stored.fields === null && !lost) {
        if (outcome === 'sound') outcome = 'absent';
        return ended(version);
      }
      const findings = examine(stored);
      if (findings.length === 0 && !lost) {
        // what was damaged on the way, or while somebody wrote it
        if (outcome === 'sound' && tries > 0) source = 'reread';
        return ended(version);
      }
      // what a commit in between can explain is looked at again before it is told
      if (tries === 0) continue;
      first ??= lost ? [{ place: 'document', name: 'context', expected: 'a context', found: 'none' }] : findings;
      if (!told) this.#tell(stored, where, first);
      told = true;
      const facts = factsOf(stored);
      if (facts === 'gone') {
        await this.#commands.remove({ id, operation: '-', ifVersion: null }, deadline);
        outcome = 'removed';
        source = 'log';
        continue;
      }
      const document = lost || findings.some(({ place, name }) => place === 'document' || name === 'end');
      if (!document) {
        await this.#mendCopies(stored, findings, deadline);
        outcome = 'repaired';
        source ??= 'log';
        continue;
      }
      const good = await this.#find(stored, facts, deadline);
      const print = fingerprintOf(stored.fields ?? {});
      if (good === null) {
        const why = describe(first);
        const at = facts?.version ?? Math.max(version, stored.log.at(-1)?.version ?? 0, 1);
        if (stored.fields !== null && !(await this.#copies.quarantine(id, print, at, why, deadline))) continue;
        outcome = stored.fields === null ? 'absent' : 'quarantined';
        const made = result(at);
        if (outcome === 'quarantined') this.#hooks.quarantined({ ...made, why });
        return made;
      }
      offset ??= differsAt(stored, good.bytes);
      // a tail that cannot be believed would stand before what is put right now
      await this.#copies.dropCopies(id, unsoundTail(stored), [], deadline);
      const text = DocumentText.of(good.bytes);
      if (!(await this.#copies.repair(id, print, { ...good.facts, text }, good.source, deadline))) continue;
      outcome = 'repaired';
      source = good.source;
    }
    outcome = outcome === 'sound' ? 'changing' : outcome;
    return ended(0);
  }

  #tell({ id, fields }: Stored, where: Corruption['where'], findings: readonly Finding[]): void {
    for (const { place, name, expected, found } of findings.slice(0, 3)) {
      this.#hooks.corrupt({
        id,
        version: Number(fields?.v?.toString() ?? 0) || 0,
        expected: place === 'document' ? expected : `${place} ${name}: ${expected}`,
        found,
        bytes: Number(fields?.len?.toString() ?? 0) || 0,
        offset: null,
        where,
      });
    }
  }

  /** A good copy of what the facts tell of; without facts of the newest that anybody is certain of. */
  async #find(stored: Stored, facts: Facts | null, deadline: Deadline): Promise<Good | null> {
    const { id, log } = stored;
    if (facts !== null) {
      const own = storedBytes(stored, facts, crcOf);
      if (own !== null) return { bytes: own, facts, source: 'log' };
      const steps = log.filter(({ kind }) => kind !== 'repaired');
      const rebuilt = stateAt(facts.version, steps, soundCheckpoints(stored));
      if (rebuilt?.value !== undefined && rebuilt.crc === facts.crc && rebuilt.bytes === facts.length)
        return { bytes: documentOf(rebuilt).text.bytes(), facts, source: 'log' };
    }
    const peer = await this.#peers.find(id, facts);
    const least = Math.max(0, ...log.filter(({ sound }) => sound).map(({ version }) => version));
    if (peer !== null && (facts !== null || peer.version >= least)) {
      const { version, crc, at, expiresAt, bytes } = peer;
      const own = { version, crc, length: bytes.length, at, expiresAt, by: peer.from, operation: '-' };
      return { bytes, facts: facts ?? own, source: 'peer' };
    }
    const copy = await this.#replicas.find(id, facts, deadline);
    return copy === null || (facts === null && copy.facts.version < least) ? null : { ...copy, source: 'redis-replica' };
  }

  /** The document is sound, what it could be rebuilt from is not: that is let go of, and made anew. */
  async #mendCopies(stored: Stored, findings: readonly Finding[], deadline: Deadline): Promise<void> {
    const { id } = stored;
    const entries = findings.filter(({ place, name }) => place === 'log' && name !== 'end').map(({ name }) => name);
    const checkpoints = findings.filter(({ place }) => place === 'checkpoint').map(({ name }) => name as 'k' | 'j');
    await this.#copies.dropCopies(id, entries, checkpoints, deadline);
    const facts = factsOf(stored);
    const bytes = facts === null || facts === 'gone' ? null : storedBytes(stored, facts, crcOf);
    if (bytes === null || facts === null || facts === 'gone') return;
    const dropsTail = entries.includes(stored.log.at(-1)?.entryId ?? '');
    if (dropsTail) return;
    const { version, crc, at, expiresAt } = facts;
    const value = JSON.parse(bytes.toString()) as JsonValue;
    const document = JsonDocument.pair(value, DocumentText.of(bytes));
    const state = { version, crc, value, bytes: bytes.length, at, expiresAt, document };
    await this.#hooks.checkpoint(id, state, stored.fields?.sha?.toString() ?? '');
  }
}

/** The context is gone, although its log ends with a version of it that has not expired. */
function isLost({ log }: Stored, commands: ContextCommands): boolean {
  const last = log.at(-1);
  if (last === undefined || !last.sound || last.kind === 'deleted' || last.kind === 'expired') return false;
  return last.expiresAt === null || commands.connection.clock.judge(last.expiresAt, performance.now()) === 'live';
}

/** Entries at the end of the log that do not have their checksum. */
function unsoundTail({ log }: Stored): string[] {
  const lastSound = log.findLastIndex(({ sound }) => sound);
  return log.slice(lastSound + 1).map(({ entryId }) => entryId);
}

function describe(findings: readonly Finding[]): string {
  const [first] = findings;
  return first === undefined ? 'damaged' : `${first.place} ${first.name}: expected ${first.expected}, found ${first.found}`;
}

function differsAt({ fields }: Stored, good: Buffer): number | null {
  if (fields?.data === undefined && fields?.chunks === undefined) return null;
  const names =
    fields.data === undefined
      ? [...(fields.chunks?.toString() ?? '').matchAll(/^(d\d+) /gm)].map(([, name = '']) => name)
      : ['data'];
  const found = Buffer.concat(names.map((name) => fields[name] ?? Buffer.alloc(0)));
  const most = Math.min(found.length, good.length);
  for (let at = 0; at < most; at += 1) if (found[at] !== good[at]) return at;
  return found.length === good.length ? null : most;
}
