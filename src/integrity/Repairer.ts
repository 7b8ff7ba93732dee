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
import {
  documentFinding,
  examine,
  type Facts,
  type Finding,
  factsOf,
  type Stored,
  soundCheckpoints,
  storedBytes,
} from './examine.js';
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
  /** A context vanished and nobody has a good copy: what stands for it in quarantine is a stub alone. */
  lost(id: string): void;
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
/** A repair has so much time at least, whoever asks for it, ms. */
const LEAST_MS = 5_000;

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
   * Looks at all that is stored of a context, and repairs what is damaged. One run at a time for each context in a process, with a time of its
   * own: whoever waits for it waits no longer than its call may take. That two processes do it at once does no harm, since each step is a
   * compare-and-set.
   *
   * @param where - by whom it was found; `told`: the damage was made known already
   * @throws ContextError as the connection does
   */
  repair(id: string, where: Corruption['where'], deadline: Deadline, told = false): Promise<RepairResult> {
    const { connection } = this.#commands;
    let running = this.#running.get(id);
    if (running === undefined) {
      const own = connection.deadline(Math.max(LEAST_MS, deadline.timeoutMs));
      running = this.#repair(id, where, own, told).finally(() => this.#running.delete(id));
      this.#running.set(id, running);
    }
    return connection.within(deadline, `repair ${id}`, running);
  }

  /**
   * Gives a context of a namespace that was upgraded its seal, and its log its sums: as a repair does that finds them missing, without telling
   * of damage. False where it could not be done.
   */
  async seal(id: string, deadline: Deadline): Promise<boolean> {
    const { outcome } = await this.#repair(id, 'verify', deadline, true, true);
    return outcome === 'sound' || outcome === 'repaired' || outcome === 'removed' || outcome === 'absent';
  }

  async #look(id: string, deadline: Deadline, sealing: boolean): Promise<Stored> {
    const stored = await this.#copies.look(id, deadline);
    if (!sealing || stored.sealed) return stored;
    const unsummed = stored.log.map((entry) => (entry.summed ? entry : { ...entry, sound: false }));
    return { ...stored, sealed: true, log: unsummed };
  }

  async #repair(
    id: string,
    where: Corruption['where'],
    deadline: Deadline,
    wasTold: boolean,
    sealing = false,
  ): Promise<RepairResult> {
    let told = wasTold;
    let first: readonly Finding[] | null = null;
    let source: RepairSource | null = null;
    let offset: number | null = null;
    let outcome: RepairResult['outcome'] = 'sound';
    const result = (version: number): RepairResult => ({ id, outcome, source, version, findings: first ?? [], offset });
    const ended = (version: number): RepairResult => {
      const made = result(version);
      if (!sealing && (outcome === 'repaired' || outcome === 'removed')) this.#hooks.repaired(made);
      return made;
    };
    for (let tries = 0; tries < TRIES; tries += 1) {
      const stored = await this.#look(id, deadline, sealing);
      const version = Number(stored.fields?.v?.toString() ?? 0) || 0;
      const expires = stored.fields?.exp === undefined ? null : Number(stored.fields.exp.toString());
      if (stored.fields === null && !stored.lost && !(where === 'reconcile' && wasLost(stored))) {
        if (outcome === 'sound') outcome = 'absent';
        return ended(version);
      }
      const stub = stored.fields?.q !== undefined;
      const findings = stub ? [QUARANTINED] : stored.fields === null ? [LOST, ...examine(stored)] : examine(stored);
      if (findings.length === 0) {
        // what was damaged on the way, or while somebody wrote it
        if (outcome === 'sound' && tries > 0) source = 'reread';
        return ended(version);
      }
      // what has expired is not repaired any more
      if (expires !== null && expires <= stored.now && documentFinding(stored) === null && !stub) return ended(version);
      // what a commit in between can explain is looked at again before it is told
      if (tries === 0) continue;
      first ??= findings;
      if (!told && !stub) this.#tell(stored, where, first);
      told = true;
      const print = fingerprintOf(stored.fields ?? {});
      const facts = stub ? stubFacts(stored) : factsOf(stored);
      if (facts === 'gone') {
        if (!(await this.#copies.remove(id, print, deadline))) continue;
        outcome = 'removed';
        source = 'log';
        continue;
      }
      if (!findings.some(({ place, name }) => place === 'document' || name === 'end')) {
        await this.#mendCopies(stored, findings, deadline);
        outcome = 'repaired';
        source ??= 'log';
        continue;
      }
      const good = await this.#find(stored, facts, deadline);
      if (good === null) {
        const why = describe(first);
        const at = Math.max(1, facts?.version ?? version, ...stored.log.map((entry) => entry.version));
        const expiresAt = facts === null ? stored.indexedExpiry : facts.expiresAt;
        const moved = stub ? 'quarantined' : await this.#copies.quarantine(id, print, { version: at, expiresAt }, why, deadline);
        if (moved !== 'quarantined') continue;
        outcome = 'quarantined';
        const made = result(at);
        if (!stub) this.#hooks.quarantined({ ...made, why });
        if (stored.fields === null) this.#hooks.lost(id);
        return made;
      }
      offset ??= differsAt(stored, good.bytes);
      const text = DocumentText.of(good.bytes);
      if (
        !(await this.#copies.repair(
          id,
          print,
          { ...good.facts, text },
          { source: good.source, tail: unsoundTail(stored), sealed: stored.sealed },
          deadline,
        ))
      )
        continue;
      if (stub) await this.#copies.dropQuarantined(id, deadline);
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
    // no version that the log has ever named is taken back
    const least = Math.max(0, ...log.map(({ version }) => version));
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
    await this.#copies.dropCopies(id, entries, checkpoints, stored.sealed, deadline);
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

const LOST: Finding = { place: 'document', name: 'context', expected: 'a context', found: 'none' };
const QUARANTINED: Finding = { place: 'document', name: 'quarantine', expected: 'a document', found: 'a stub' };

/** Reconcile has let go of what the indexes knew of it, and asks whether it can be put together. */
function wasLost({ log, now }: Stored): boolean {
  const last = log.at(-1);
  if (last === undefined || last.kind === 'deleted' || last.kind === 'expired') return false;
  return last.expiresAt === null || last.expiresAt > now;
}

/** What the document in quarantine should have been, by the log. */
function stubFacts(stored: Stored): Facts | null {
  const facts = factsOf({ ...stored, fields: stored.quarantined });
  if (facts === null || facts === 'gone') return null;
  const exp = stored.fields?.exp;
  return { ...facts, expiresAt: exp === undefined ? null : Number(exp.toString()) };
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
