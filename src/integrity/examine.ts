/** All that is stored of one context, looked at as a whole: what is damaged, and what it should be. Nothing is read or written here. */
import { crc32Hex, sha1Hex } from '../core/checksum.js';
import { sealOf } from '../core/seal.js';
import type { StoredParts } from '../redis/IntegrityCommands.js';
import type { LogEntry } from '../redis/logEntries.js';
import { bytesOf, isChunked, type StoredContext, storedContext } from '../redis/storedContext.js';
import { checkpointState, damageOf } from '../replica/damage.js';
import type { ReplicaState } from '../replica/state.js';

type RawFields = Readonly<Record<string, Buffer>>;
export type Stored = StoredParts;

export interface Finding {
  readonly place: 'document' | 'log' | 'checkpoint';
  /** The field, the entry's id, or the checkpoint's key. */
  readonly name: string;
  readonly expected: string;
  readonly found: string;
}

/** What a context is at one version, without its document. */
export interface Facts {
  readonly version: number;
  readonly crc: string;
  /** Length of the document, bytes. */
  readonly length: number;
  readonly at: number;
  readonly expiresAt: number | null;
  readonly by: string;
  readonly operation: string;
}

const text = (bytes: Buffer | undefined): string => bytes?.toString() ?? '';
const isState = ({ kind }: LogEntry): boolean => kind !== 'deleted' && kind !== 'expired';

/** The document itself: bytes, checksums, seal; of one in chunks also their list. */
export function documentFinding({ id, fields, sealed }: Stored): Finding | null {
  const stored = fields === null ? null : storedContext(fields);
  if (fields === null || stored === null) return null;
  const damage = damageOf(id, stored, sealed) ?? sha1Damage(fields, stored);
  return damage === null ? null : { place: 'document', name: damage.what, expected: damage.expected, found: damage.found };
}

function sha1Damage(fields: RawFields, stored: StoredContext): { what: string; expected: string; found: string } | null {
  const sha = text(fields.sha);
  if (!isChunked(fields)) {
    const found = sha1Hex(bytesOf(stored));
    return found === sha ? null : { what: 'sha', expected: sha, found };
  }
  const manifest = text(fields.chunks);
  const listed = sha1Hex(manifest);
  if (listed !== sha) return { what: 'chunks', expected: sha, found: listed };
  const lines = stored.chunks.map(({ name, bytes }) => `${name} ${bytes.length} ${sha1Hex(bytes)}`);
  const given = manifest.split('\n');
  const wrong = lines.findIndex((line, index) => line !== given[index]);
  if (wrong < 0 && lines.length === given.length - 1) return null;
  return { what: 'chunks', expected: given[wrong] ?? 'the end of the list', found: lines[wrong] ?? 'more chunks' };
}

/** Everything that is damaged. What is in quarantine, and what has expired, has nothing that could be. */
export function examine(stored: Stored): readonly Finding[] {
  const { id, fields, log, checkpoints } = stored;
  const findings: Finding[] = [];
  if (fields?.q !== undefined) return findings;
  const document = documentFinding(stored);
  if (document !== null) findings.push(document);
  for (const entry of log) {
    if (!entry.sound)
      findings.push({
        place: 'log',
        name: entry.entryId,
        expected: 'an entry with its checksum',
        found: `${entry.kind || 'an entry'} with another`,
      });
  }
  const last = log.at(-1);
  if (fields !== null && document === null) {
    const [version, crc, sha] = [Number(text(fields.v)), text(fields.crc), text(fields.sha)];
    const ends = last !== undefined && last.version === version && last.crc === crc && last.sha1 === sha;
    if (!ends) {
      const found = last === undefined ? 'no log' : `${last.kind} ${last.version}, crc ${last.crc}`;
      findings.push({
        place: last !== undefined && last.version > version ? 'document' : 'log',
        name: 'end',
        expected: `version ${version}, crc ${crc}`,
        found,
      });
    }
  }
  for (const { name, fields: copy } of checkpoints) {
    if (checkpointState(id, copy) === null)
      findings.push({ place: 'checkpoint', name, expected: 'a copy with its checksums', found: 'another' });
  }
  return findings;
}

/**
 * What the context should be; null where nothing can be believed. By the last thing that its log says for certain, or by its own seal, or by what
 * agrees of the three that say it: the bytes, the context's fields, and the last entry of the log.
 */
export function factsOf(stored: Stored): Facts | 'gone' | null {
  const { log } = stored;
  const last = log.at(-1);
  const proven = ownFacts(stored);
  if (last?.sound !== true) return proven ?? agreedFacts(stored);
  // a sum proves what an entry says; without one it is only believed where document and fields do not agree about something else
  const own = proven ?? (last.summed ? null : agreedFacts(stored));
  if (own !== null && own.version > last.version) return own;
  if (!isState(last)) return 'gone';
  if (own !== null && own.version === last.version && (own.crc === last.crc || !last.summed)) return own;
  // the entry that made the version: one that tells of a repair has the time of that
  const made = log.find((entry) => entry.version === last.version && entry.kind !== 'repaired' && entry.sound) ?? last;
  const facts = {
    version: last.version,
    crc: last.crc,
    length: last.length,
    at: made.at,
    by: made.by,
    operation: made.operation,
  };
  return { ...facts, expiresAt: expiryOf(stored, last, facts.at, made) };
}

/**
 * The context's own facts, where they have their seal: as they stand, or with what can be computed from the bytes, and what stands elsewhere as
 * well, in the place of a field that is damaged. The seal proves which of them are true.
 */
function ownFacts({ id, fields, log, indexedExpiry }: Stored): Facts | null {
  const stored = fields === null ? null : storedContext(fields);
  if (fields === null || stored === null || stored.seal === '') return null;
  const bytes = bytesOf(stored);
  const last = log.at(-1);
  const { v, crc, sha, len, at, exp } = stored.facts;
  const documents = [{ crc, sha, len }, computed(fields, bytes)];
  const versions = [v, ...(last === undefined ? [] : [last.version])];
  const times = [at, ...log.filter(({ version }) => version === last?.version).map((entry) => entry.at)];
  const expiries = [exp, indexedExpiry, null];
  for (const document of documents) {
    for (const version of versions) {
      for (const time of times) {
        for (const expiry of expiries) {
          if (stored.seal !== sealOf(id, { v: version, ...document, at: time, exp: expiry })) continue;
          return {
            version: Number(version),
            crc: document.crc,
            length: Number(document.len),
            at: Number(time),
            expiresAt: expiry === null ? null : Number(expiry),
            ...authorOf(fields),
          };
        }
      }
    }
  }
  return null;
}

/** What the bytes themselves say. */
const computed = (fields: RawFields, bytes: Buffer) => ({
  crc: crc32Hex(bytes),
  sha: isChunked(fields) ? sha1Hex(text(fields.chunks)) : sha1Hex(bytes),
  len: bytes.length,
});

const authorOf = (fields: RawFields) => ({ by: text(fields.by) || '-', operation: text(fields.op) || '-' });

/**
 * Without a seal that is right: the fields, where the bytes have both checksums and the length that they name, and the version is the one that
 * the log ends with (its ids are not damaged by what damages its entries). Three that agree are not damaged all alike.
 */
function agreedFacts(stored: Stored): Facts | null {
  const { fields, log, indexedExpiry } = stored;
  const context = fields === null ? null : storedContext(fields);
  const last = log.at(-1);
  if (fields === null || context === null || last === undefined || context.version !== last.version || !isState(last))
    return null;
  const { crc, sha, len } = computed(fields, bytesOf(context));
  if (context.crc !== crc || context.facts.sha !== sha || context.length !== len || sha1Damage(fields, context) !== null)
    return null;
  const expiresAt = agreedExpiry(context.expiresAt, indexedExpiry, last.expiresAt);
  const at = Number.isSafeInteger(context.at) ? context.at : last.at;
  return { version: context.version, crc, length: len, at, expiresAt, ...authorOf(fields) };
}

/** Field and index are written together: where they agree, that is the expiry; else what two of the three say, else the index. */
function agreedExpiry(own: number | null, indexed: number | null, logged: number | null): number | null {
  if (own === indexed || own === logged) return own;
  return indexed;
}

/** An expiry changes without a version, so it stands in three places; the one with which the seal is right is the true one. */
function expiryOf({ id, fields, indexedExpiry }: Stored, last: LogEntry, at: number, made: LogEntry): number | null {
  const own = fields?.exp === undefined ? null : Number(text(fields.exp));
  const seal = text(fields?.seal);
  const facts = { v: last.version, crc: last.crc, sha: last.sha1, len: last.length, at };
  const sealed = [own, indexedExpiry, last.expiresAt, made.expiresAt, null].find((exp) => seal === sealOf(id, { ...facts, exp }));
  if (sealed !== undefined) return sealed;
  // of a context that is gone altogether only the index can know
  return fields === null ? (indexedExpiry ?? last.expiresAt) : agreedExpiry(own, indexedExpiry, last.expiresAt);
}

/** The bytes that are stored, where they are those that the facts tell of. */
export function storedBytes(
  { fields }: Stored,
  facts: Pick<Facts, 'crc' | 'length'>,
  crcOf: (stored: StoredContext) => string,
): Buffer | null {
  const stored = fields === null ? null : storedContext(fields);
  if (stored === null || stored.found !== facts.length || crcOf(stored) !== facts.crc) return null;
  return bytesOf(stored);
}

/** Checkpoints that are sound. */
export const soundCheckpoints = ({ id, checkpoints }: Stored): ReplicaState[] =>
  checkpoints.flatMap(({ fields }) => checkpointState(id, fields) ?? []);
