/** Entries of the delta log as they are read from Redis. */

export interface LogEntry {
  readonly kind: 'splice' | 'patch' | 'full' | 'deleted' | 'expired';
  readonly version: number;
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

export function logEntry([entryId, fields]: [Buffer, Buffer[]]): LogEntry {
  const entry = new Map<string, Buffer>();
  for (let index = 0; index + 1 < fields.length; index += 2) entry.set(String(fields[index]), fields[index + 1] ?? EMPTY);
  const text = (name: string): string => entry.get(name)?.toString() ?? '';
  const exp = text('exp');
  return {
    kind: text('kind') as LogEntry['kind'],
    version: Number.parseInt(entryId.toString(), 10),
    frame: entry.get('frame') ?? EMPTY,
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
