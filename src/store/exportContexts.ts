/**
 * All contexts of a namespace as lines (docs/BACKUP.md), read page by page and verified as every read is. Each context is consistent in itself; all
 * of them together are not of one moment: a context that is there all the while is in it, as it was at some time between beginning and end.
 */
import { createHash } from 'node:crypto';
import { sha1Hex } from '../core/checksum.js';
import { ContextError } from '../core/errors.js';
import { type ExportMark, type ExportRecord, writeRecord } from '../core/exportFormat.js';
import { BackupCommands } from '../redis/BackupCommands.js';
import type { ContextCommands } from '../redis/ContextCommands.js';
import type { Deadline } from '../redis/RedisConnection.js';
import { bytesOf } from '../redis/storedContext.js';
import type { ContextReader } from '../replica/ContextReader.js';
import type { ExportOptions, ExportSource } from './backupTypes.js';
import type { ExportPoint } from './ExportPoint.js';
import { exportPoint } from './exportReader.js';

/** Ids asked for in one page, behind which a mark stands; looked at in one scan for a prefix. */
const PAGE = 100;
const SCAN = 1_000;
/** What one round trip brings at most, but for a single document that is larger. */
const BATCH_BYTES = 2 * 1024 * 1024;
const BATCH = 64;

interface Parts {
  readonly commands: ContextCommands;
  readonly reader: ContextReader;
  /** Time of one step. */
  readonly deadline: () => Deadline;
}

export async function* exportContexts(parts: Parts, options: ExportOptions): AsyncGenerator<Buffer, void, undefined> {
  const { commands, deadline } = parts;
  const { keys, connection } = commands;
  const asking = new BackupCommands(commands);
  const [run, total] = [await asking.run(deadline()), await asking.count(deadline())];
  const from = options.resume === undefined ? null : checkPoint(options.resume, keys.namespace, keys.shards.length, run, options);
  const prefix = from?.header.prefix ?? options.prefix ?? '';
  const hash = from?.hash.copy() ?? createHash('sha256');
  let { contexts = 0, bytes = 0, damaged = 0, shard: shardNumber = 0, cursor = '0' } = from?.mark ?? {};
  const line = (record: ExportRecord): Buffer => {
    const written = writeRecord(record);
    hash.update(written);
    return written;
  };
  const told = (): void => options.progress?.({ contexts, bytes, damaged, total });
  if (from === null) {
    await connection.syncClock(deadline());
    const at = Math.floor(connection.clock.latest(performance.now()));
    yield line({ kind: 'header', namespace: keys.namespace, shards: keys.shards.length, prefix, at, run });
  }
  told();
  let marked = contexts + damaged;
  for (let shard = keys.shards[shardNumber]; shard !== undefined; shard = keys.shards[shardNumber]) {
    const page = await commands.scan(shard, cursor, prefix, prefix === '' ? PAGE : SCAN, deadline());
    for await (const batch of batches(asking, [...new Set(page.ids)], deadline)) {
      const found = await parts.reader.readStored(batch, deadline());
      for (const [index, id] of batch.entries()) {
        const stored = found[index] ?? null;
        if (stored === null) continue;
        if (stored instanceof ContextError) {
          damaged += 1;
          options.damaged?.(id, stored);
          continue;
        }
        const data = bytesOf(stored);
        const { version, crc, at, expiresAt } = stored;
        contexts += 1;
        bytes += data.length;
        yield line({ kind: 'context', id, version, crc, sha: sha1Hex(data), at, expiresAt, data });
      }
      told();
    }
    cursor = page.cursor;
    if (cursor === '0') shardNumber += 1;
    else if (contexts + damaged === marked) continue;
    marked = contexts + damaged;
    yield line({ kind: 'mark', shard: shardNumber, cursor, run, contexts, bytes, damaged } satisfies ExportMark);
  }
  yield writeRecord({ kind: 'end', contexts, bytes, damaged, sha256: hash.digest('hex') });
  told();
}

/** Parts of a page that may be in memory together. */
async function* batches(asking: BackupCommands, ids: readonly string[], deadline: () => Deadline): AsyncGenerator<string[]> {
  for (let at = 0; at < ids.length; at += PAGE) {
    const part = ids.slice(at, at + PAGE);
    const lengths = await asking.lengths(part, deadline());
    let batch: string[] = [];
    let bytes = 0;
    for (const [index, id] of part.entries()) {
      const length = lengths[index] ?? 0;
      if (batch.length === BATCH || (batch.length > 0 && bytes + length > BATCH_BYTES)) {
        yield batch;
        [batch, bytes] = [[], 0];
      }
      batch.push(id);
      bytes += length;
    }
    if (batch.length > 0) yield batch;
  }
}

/** @throws ContextError `INVALID_ARGUMENT` where the point is not one of this namespace, this prefix and this run of the server */
function checkPoint(point: ExportPoint, namespace: string, shards: number, run: string, options: ExportOptions): ExportPoint {
  const { header, mark } = point;
  const wanted = { namespace, shards, prefix: options.prefix ?? header.prefix };
  for (const name of ['namespace', 'shards', 'prefix'] as const) {
    if (header[name] === wanted[name]) continue;
    throw new ContextError(
      'INVALID_ARGUMENT',
      `the export to go on with has ${name} ${JSON.stringify(header[name])}, not ${JSON.stringify(wanted[name])}: begin another`,
      { expected: wanted[name], found: header[name] },
    );
  }
  if (mark.run === run || mark.cursor === '0') return point;
  throw new ContextError('INVALID_ARGUMENT', 'Redis was started again since this point was found: ask for another', {
    expected: run,
    found: mark.run,
  });
}

/**
 * Where an interrupted export can be gone on with: its last mark, or the one at which a shard began where Redis was started again since. A cursor is
 * a place in a table that each run of a server orders in its own way: with one of another run, contexts would be left out without a word.
 */
export async function pointToResume(
  parts: Pick<Parts, 'commands' | 'deadline'>,
  source: ExportSource,
): Promise<ExportPoint | null> {
  const point = await exportPoint(source);
  if (point === null) return null;
  const run = await new BackupCommands(parts.commands).run(parts.deadline());
  return point.mark.run === run ? point : point.shardStart;
}
