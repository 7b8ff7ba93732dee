import type { Command } from 'commander';
import type { WriteOptions, WriteResult } from '../../store/types.js';
import { duration, integer } from '../input.js';
import type { Session } from '../session.js';

export interface WriteFlags {
  readonly ttl?: string;
  readonly ifVersion?: number;
}

/** The options of every command that commits. */
export function withWriteFlags(command: Command, ttlDefault: string): Command {
  return command
    .option('--ttl <duration>', `expire after this: ms, or as in 30s, 1h; "keep" or "none" (default: ${ttlDefault})`)
    .option('--if-version <n>', 'commit only if this is the current version; 0: only if it does not exist', integer(0));
}

export function writeOptions(flags: WriteFlags, signal: AbortSignal): WriteOptions {
  return {
    signal,
    ...(flags.ttl === undefined ? {} : { ttl: duration(flags.ttl) }),
    ...(flags.ifVersion === undefined ? {} : { ifVersion: flags.ifVersion }),
  };
}

export function printWritten({ output }: Session, id: string, { version, checksum }: WriteResult): void {
  if (output.json) output.document({ id, version, checksum });
  else output.line(`${id}  version ${version}  checksum ${checksum}`);
}
