/** What is stored of a context, looked at closely: its history, and whether it has its checksums. */
import { crc32Hex, sha1Hex } from '../core/checksum.js';
import type { Patch } from '../core/patch.js';
import type { ContextCommands, LogEntry } from '../redis/ContextCommands.js';
import type { Deadline } from '../redis/RedisConnection.js';
import type { HistoryEntry, VerifyResult } from './types.js';

export function historyOf(entries: readonly LogEntry[]): HistoryEntry[] {
  return entries.map((entry) => ({
    version: entry.version,
    kind: entry.kind,
    at: entry.at,
    by: entry.by,
    operation: entry.operation,
    checksum: entry.crc === '' ? null : entry.crc,
    sha1: entry.sha1 === '' ? null : entry.sha1,
    bytes: entry.length,
    frameBytes: entry.frame.length,
    patch: entry.kind === 'patch' ? parsed(entry.frame) : null,
  }));
}

/** Null where the log entry is damaged: a history is shown all the same. */
function parsed(frame: Buffer): Patch | null {
  try {
    return JSON.parse(frame.toString()) as Patch;
  } catch {
    return null;
  }
}

export async function verifyContext(commands: ContextCommands, id: string, deadline: Deadline): Promise<VerifyResult | null> {
  const [fields, tail] = await Promise.all([commands.raw(id, deadline), commands.logTail(id, 1, deadline)]);
  if (fields === null) return null;
  const text = (name: string): string => fields[name]?.toString() ?? '(absent)';
  const data = fields.data ?? Buffer.alloc(0);
  const [last] = tail;
  const check = (
    name: VerifyResult['checks'][number]['name'],
    stored: string,
    computed: string,
  ): VerifyResult['checks'][number] => ({
    name,
    ok: stored === computed,
    stored,
    computed,
  });
  const facts = `version ${text('v')}, crc ${text('crc')}, sha1 ${text('sha')}`;
  const checks = [
    check('length', text('len'), String(data.length)),
    check('sha1', text('sha'), sha1Hex(data)),
    check('crc32', text('crc'), crc32Hex(data)),
    check('json', 'valid', isJson(data) ? 'valid' : 'not JSON'),
    check('log', facts, last === undefined ? 'no log' : `version ${last.version}, crc ${last.crc}, sha1 ${last.sha1}`),
  ];
  return { id, ok: checks.every(({ ok }) => ok), version: Number(text('v')), bytes: data.length, checks };
}

function isJson(data: Buffer): boolean {
  try {
    JSON.parse(data.toString());
    return true;
  } catch {
    return false;
  }
}
