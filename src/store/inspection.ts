/** What is stored of a context, looked at closely: its history, and whether it has its checksums. */
import { sha1Hex } from '../core/checksum.js';
import { diff } from '../core/diff.js';
import type { Patch } from '../core/patch.js';
import { sealOf } from '../core/seal.js';
import type { IntegrityCommands } from '../redis/IntegrityCommands.js';
import type { LogEntry } from '../redis/logEntries.js';
import type { Deadline } from '../redis/RedisConnection.js';
import { bytesOf, crcOf, isChunked, type StoredContext, storedContext, textOf } from '../redis/storedContext.js';
import { checkpointState } from '../replica/damage.js';
import { payloadOf, replay } from '../replica/logReplay.js';
import { absent, type ReplicaState } from '../replica/state.js';
import type { HistoryEntry, VerifyResult } from './types.js';

/** Entries, newest first, as they are shown. @param patches - see {@link patchesOf} */
export function historyOf(entries: readonly LogEntry[], patches: ReadonlyMap<number, Patch>): HistoryEntry[] {
  return entries.map((entry) => ({
    version: entry.version,
    kind: entry.kind,
    sound: entry.sound,
    at: entry.at,
    by: entry.by,
    operation: entry.operation,
    checksum: entry.crc === '' ? null : entry.crc,
    sha1: entry.sha1 === '' ? null : entry.sha1,
    bytes: entry.length,
    frameBytes: entry.frame.length,
    patch: entry.kind === 'patch' ? parsed(entry) : (patches.get(entry.version) ?? null),
  }));
}

/** Null where the log entry is damaged: a history is shown all the same. */
function parsed(entry: LogEntry): Patch | null {
  try {
    return JSON.parse(payloadOf(entry).toString()) as Patch;
  } catch {
    return null;
  }
}

/**
 * What changed at each version that travelled as a splice, as far as the documents before it can be rebuilt.
 *
 * @param entries - the whole log, oldest first
 */
export function patchesOf(entries: readonly LogEntry[], checkpoints: readonly ReplicaState[]): Map<number, Patch> {
  const patches = new Map<number, Patch>();
  let state: ReplicaState | null = null;
  for (const entry of entries) {
    const from: ReplicaState = state ?? { ...absent(entry.version - 1), crc: entry.baseCrc };
    const next = replay(from, [entry]).steps[0];
    if (next === undefined) {
      state = checkpoints.find(({ version, crc }) => version === entry.version && crc === entry.crc) ?? null;
      continue;
    }
    const { base, value } = next.step;
    if (entry.kind === 'splice' && base !== undefined && value !== undefined) {
      const patch = diff(base, value);
      if (patch !== null) patches.set(entry.version, patch);
    }
    state = next.state;
  }
  return patches;
}

/** Every check of what is stored of one context, with what is stored and what was computed. */
export async function verifyContext(copies: IntegrityCommands, id: string, deadline: Deadline): Promise<VerifyResult | null> {
  const parts = await copies.look(id, deadline);
  const { fields, log, sealed } = parts;
  const stored = fields === null ? null : storedContext(fields);
  if (fields === null || stored === null) return null;
  const text = (name: string): string => fields[name]?.toString() ?? '(absent)';
  const last = log.at(-1);
  const check = (
    name: VerifyResult['checks'][number]['name'],
    expected: string,
    computed: string,
  ): VerifyResult['checks'][number] => ({
    name,
    ok: expected === computed,
    stored: expected,
    computed,
  });
  if (stored.quarantined !== '') {
    const checks = [check('quarantine', stored.quarantined, 'a document')];
    return { id, ok: false, version: stored.version, bytes: 0, chunks: 0, checks };
  }
  const facts = `version ${text('v')}, crc ${text('crc')}, sha1 ${text('sha')}`;
  const unsound = log.find(({ sound }) => !sound);
  const ends = last === undefined ? 'no log' : `version ${last.version}, crc ${last.crc}, sha1 ${last.sha1}`;
  const damaged = parts.checkpoints.filter(({ fields: copy }) => checkpointState(id, copy) === null).map(({ name }) => name);
  const unsealed = stored.seal === '' && !sealed;
  const checks = [
    check('length', text('len'), String(stored.found)),
    check('sha1', text('sha'), isChunked(fields) ? chunksSha1(text('chunks'), stored) : sha1Hex(bytesOf(stored))),
    check('crc32', text('crc'), crcOf(stored)),
    check('seal', unsealed ? 'none' : text('seal'), unsealed ? 'none' : sealOf(id, stored.facts)),
    check('json', 'valid', isJson(textOf(stored)) ? 'valid' : 'not JSON'),
    check('log', facts, unsound === undefined ? ends : `entry ${unsound.entryId} without its checksum`),
    check('checkpoint', 'sound', damaged.length === 0 ? 'sound' : `${damaged.join(' and ')} damaged`),
  ];
  return {
    id,
    ok: checks.every(({ ok }) => ok),
    version: Number(text('v')),
    bytes: stored.found,
    chunks: stored.chunks.length,
    checks,
  };
}

/** SHA-1 of the list of chunks, where each chunk has its own; else which has not. */
function chunksSha1(manifest: string, stored: StoredContext): string {
  const lines = stored.chunks.map(({ name, bytes }) => `${name} ${bytes.length} ${sha1Hex(bytes)}\n`);
  if (lines.join('') === manifest) return sha1Hex(manifest);
  const given = manifest.split('\n');
  const wrong = lines.findIndex((line, index) => line.trimEnd() !== given[index]);
  return wrong < 0 ? 'a list of other chunks' : `chunk ${stored.chunks[wrong]?.name} has another`;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
