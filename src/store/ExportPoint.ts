/** Where an export that was interrupted can be gone on with. */
import type { Hash } from 'node:crypto';
import type { ExportHeader, ExportMark } from '../core/exportFormat.js';

export class ExportPoint {
  readonly header: ExportHeader;
  /** What of the file is kept: its first bytes. */
  readonly length: number;
  readonly mark: ExportMark;
  /** SHA-256 of those bytes; it is copied before it is used. */
  readonly hash: Hash;
  /** The last place at which a shard began: unlike a cursor, that means the same to every run of the server. */
  readonly shardStart: ExportPoint;

  private constructor(header: ExportHeader, length: number, mark: ExportMark, hash: Hash, shardStart: ExportPoint | null) {
    this.header = header;
    this.length = length;
    this.mark = mark;
    this.hash = hash;
    this.shardStart = mark.cursor === '0' || shardStart === null ? this : shardStart;
  }

  /** Behind the header. */
  static first(header: ExportHeader, length: number, hash: Hash): ExportPoint {
    const mark = { kind: 'mark', shard: 0, cursor: '0', run: header.run, contexts: 0, bytes: 0, damaged: 0 } as const;
    return new ExportPoint(header, length, mark, hash, null);
  }

  next(mark: ExportMark, length: number, hash: Hash): ExportPoint {
    return new ExportPoint(this.header, length, mark, hash, this.shardStart);
  }
}
