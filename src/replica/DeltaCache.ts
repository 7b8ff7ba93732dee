/**
 * Frames that lead from what somebody has to the present, for those who carry changes on to others (a gateway, a client of the protocol):
 * several versions become one splice where that is smaller than the document. Each is made once, however many ask for it. Their rules are
 * in docs/DELTA_PROTOCOL.md, "An answer to a question": one whose version is not above that of its base begins anew.
 */
import { LRUCache } from 'lru-cache';
import { findSplice } from '../core/blockMatch.js';
import { compress } from '../core/compression.js';
import { frameHeader2 } from '../core/frame.js';
import type { Splice } from '../core/splice.js';
import { composeSplices } from '../core/spliceCompose.js';
import { readSplice, writeSplice } from '../core/spliceFormat.js';
import type { ContextCommands } from '../redis/ContextCommands.js';
import type { LogEntry } from '../redis/logEntries.js';
import type { Deadline } from '../redis/RedisConnection.js';
import type { ContextReader } from './ContextReader.js';
import { payloadOf, splicesInOrder, stateAt } from './logReplay.js';
import { LOG_LIMIT } from './ReplicaSync.js';
import { documentOf, type ReplicaState } from './state.js';

/** What somebody has of a context: `version` 0 and an empty checksum are nothing, an empty checksum alone is a context that is gone. */
export interface Known {
  readonly version: number;
  /** CRC-32 of its document, 8 hex digits; empty where there is none. */
  readonly checksum: string;
}

export interface DeltaCacheCounters {
  /** Questions whose answer was not "you have it", and frames made for them. */
  asked: number;
  made: number;
  /** What was made: a splice over all versions between, the document, or that it is gone. */
  spliced: number;
  full: number;
  removed: number;
}

/** Bytes of frames that are kept for the next who asks. */
const CACHE_BYTES = 8 * 1024 * 1024;
/** Composed splices of more than this are compared with one made of the two documents. */
const LONG_SPLICE = 512;

export class DeltaCache {
  readonly counters: DeltaCacheCounters = { asked: 0, made: 0, spliced: 0, full: 0, removed: 0 };
  readonly #commands: ContextCommands;
  readonly #reader: ContextReader;
  readonly #frames = new LRUCache<string, Buffer>({ maxSize: CACHE_BYTES, sizeCalculation: (frame) => frame.length + 256 });
  readonly #making = new Map<string, Promise<Buffer>>();

  constructor(commands: ContextCommands, reader: ContextReader) {
    this.#commands = commands;
    this.#reader = reader;
  }

  /** The frame from what is known to `present`, or null where that is the same. */
  async since(id: string, known: Known, present: ReplicaState, deadline: Deadline): Promise<Buffer | null> {
    if (known.version === present.version && known.checksum === present.crc) return null;
    this.counters.asked += 1;
    // the expiry is in the frame, too, and may be another one for the same version
    const key = `${known.version} ${known.checksum} ${present.version} ${present.crc} ${present.expiresAt} ${id}`;
    const kept = this.#frames.get(key);
    if (kept !== undefined) return kept;
    let making = this.#making.get(key);
    if (making === undefined) {
      making = this.#make(id, known, present, deadline)
        .then((frame) => {
          this.#frames.set(key, frame);
          return frame;
        })
        .finally(() => this.#making.delete(key));
      this.#making.set(key, making);
    }
    return making;
  }

  async #make(id: string, known: Known, present: ReplicaState, deadline: Deadline): Promise<Buffer> {
    this.counters.made += 1;
    const facts = {
      protocol: 2 as const,
      parts: 0,
      version: present.version,
      crc: present.crc,
      length: present.bytes,
      baseVersion: known.version,
      baseCrc: known.checksum,
      at: present.at,
      expiresAt: present.expiresAt,
      operation: '-',
      by: this.#commands.settings.instanceId,
    };
    if (present.value === undefined) {
      this.counters.removed += 1;
      // an expiry leaves the version as it is; a lower one begins anew, and whatever is higher is said in one word
      const kind = present.version === known.version ? 'expired' : 'deleted';
      return Buffer.from(frameHeader2({ ...facts, kind, encoding: '-' }));
    }
    const { text } = documentOf(present);
    // where versions have begun anew, or were lost, what is known leads nowhere
    const leads = known.checksum !== '' && known.version < present.version;
    const splice = leads ? await this.#splice(id, known, present, deadline) : null;
    const delta = splice === null ? null : compress(writeSplice(splice).bytes);
    if (delta !== null && delta.bytes.length < text.length) {
      // the document itself may be smaller still, but only where much has changed
      const whole = delta.bytes.length * 4 < text.length ? null : compress(text.bytes());
      if (whole === null || delta.bytes.length <= whole.bytes.length) {
        this.counters.spliced += 1;
        return Buffer.concat([Buffer.from(frameHeader2({ ...facts, kind: 'splice', encoding: delta.encoding })), delta.bytes]);
      }
    }
    this.counters.full += 1;
    const { encoding, bytes } = compress(text.bytes());
    return Buffer.concat([Buffer.from(frameHeader2({ ...facts, kind: 'full', encoding })), bytes]);
  }

  async #splice(id: string, known: Known, present: ReplicaState, deadline: Deadline): Promise<Splice | null> {
    const { entries } = await this.#commands.catchUp(id, known.version, LOG_LIMIT, false, deadline);
    const upTo = (entries ?? []).filter(({ version }) => version <= present.version);
    const splices = splicesInOrder({ version: known.version, crc: known.checksum }, upTo);
    const composed = splices > 0 && splices === upTo.length ? composedOf(upTo, present) : null;
    if (composed !== null && writeSplice(composed).bytes.length <= LONG_SPLICE) return composed;
    const log = await this.#commands.logAfter(id, 0, LOG_LIMIT, deadline);
    const base = stateAt(known.version, log, await this.#reader.checkpoints(id, deadline));
    if (base?.value === undefined || base.crc !== known.checksum) return composed;
    const direct = findSplice(documentOf(base).text.bytes(), documentOf(present).text.bytes());
    return composed !== null && writeSplice(composed).bytes.length <= writeSplice(direct).bytes.length ? composed : direct;
  }
}

/** What the entries do together, or null where they do not lead to `present`. */
function composedOf(entries: readonly LogEntry[], present: ReplicaState): Splice | null {
  const last = entries.at(-1);
  if (last?.version !== present.version || last.crc !== present.crc) return null;
  try {
    return entries.map((entry) => readSplice(payloadOf(entry))).reduce(composeSplices);
  } catch {
    return null;
  }
}
