/** Entries of the delta log as they are read from Redis. */
import { isSoundEntry, type SummedEntry } from '../core/seal.js';

export interface LogEntry {
  readonly kind: 'splice' | 'patch' | 'full' | 'deleted' | 'expired' | 'repaired';
  readonly version: number;
  /** The entry's own id, `<version>-<place>`. */
  readonly entryId: string;
  /** Whether it has its checksum; also where it has none and need not. */
  readonly sound: boolean;
  /** Whether it has one. */
  readonly summed: boolean;
  /** The payload as it is stored; empty where a large document went through whose bytes the log does not keep. */
  readonly frame: Buffer;
  readonly encoding: string;
  readonly baseCrc: string;
  readonly crc: string;
  readonly sha1: string;
  readonly length: number;
  readonly at: number;
  readonly expiresAt: number | null;
  readonly operation: string;
  readonly by: string;
}

const EMPTY = Buffer.alloc(0);
const checksum = (word: string): string => (word === '-' ? '' : word);

/** @param sealed - an entry without a checksum is damaged */
export function logEntry(id: string, [entryId, fields]: [Buffer, Buffer[]], sealed: boolean): LogEntry {
  const entry = new Map<string, Buffer>();
  for (let index = 0; index + 1 < fields.length; index += 2) entry.set(String(fields[index]), fields[index + 1] ?? EMPTY);
  const text = (name: string): string => entry.get(name)?.toString() ?? '';
  const exp = text('exp');
  const frame = entry.get('frame') ?? EMPTY;
  const stored: SummedEntry = {
    entryId: entryId.toString(),
    kind: text('kind'),
    encoding: text('enc') || '-',
    base: text('base'),
    crc: text('crc'),
    sha: text('sha'),
    length: text('len'),
    at: text('at'),
    exp: exp || '-',
    operation: text('op'),
    by: text('by'),
    frame,
  };
  const sum = text('sum');
  return {
    kind: stored.kind as LogEntry['kind'],
    version: Number.parseInt(stored.entryId, 10),
    entryId: stored.entryId,
    summed: sum !== '',
    sound: sum === '' ? !sealed : isSoundEntry(id, stored, sum),
    frame,
    encoding: text('enc') || '-',
    baseCrc: checksum(text('base')),
    crc: checksum(text('crc')),
    sha1: checksum(text('sha')),
    length: Number(text('len')),
    at: Number(text('at')),
    expiresAt: exp === '' || exp === '-' || exp === '0' ? null : Number(exp),
    operation: text('op'),
    by: text('by'),
  };
}
