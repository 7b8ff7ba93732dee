import { Command } from 'commander';
import type { RestoreSource } from '../../store/types.js';
import { usageError } from '../CliError.js';
import { withHelp } from '../help.js';
import { duration, integer, readValue } from '../input.js';
import { time } from '../output.js';
import { globalFlags, type Session, withStore } from '../session.js';

interface RestoreFlags {
  readonly fromVersion?: number;
  readonly quarantined?: true;
  readonly value?: string;
  readonly ttl?: string;
  readonly snapshot?: string;
  readonly keepNew?: true;
  readonly dryRun?: true;
}

export function restoreCommand(signal: AbortSignal): Command {
  const command = new Command('restore')
    .description('Write an earlier version of a context anew, one from quarantine, or a value by hand; or all of a snapshot')
    .argument('[id]', 'the context')
    .option('--from-version <n>', 'a version that the log or a checkpoint still has; see history', integer(1))
    .option('--quarantined', 'what was moved to quarantine, as far as it is JSON')
    .option('--value <json>', 'a value: JSON, @file, or - for stdin')
    .option(
      '--snapshot <name>',
      'all contexts of a snapshot, or none; what was created under its prefix since is deleted; see preserve',
    )
    .option('--keep-new', 'with --snapshot: leave what was created under its prefix since')
    .option('--dry-run', 'with --snapshot: show what would be done, and write nothing')
    .option('--ttl <duration>', 'time to live from now on: ms, or as in 10s, 1h; keep, none (default: keep)')
    .action(async (id: string | undefined, flags: RestoreFlags, self: Command) => {
      if (flags.snapshot !== undefined) {
        const ttl = ttlOfSnapshot(id, flags);
        await withStore(globalFlags(self), signal, (session) => restoreSnapshot(session, flags.snapshot ?? '', ttl, flags));
        return;
      }
      if (flags.keepNew || flags.dryRun) throw usageError('--keep-new and --dry-run go with --snapshot');
      if (id === undefined) throw usageError('name a context, or pass --snapshot');
      const from = await source(flags);
      await withStore(globalFlags(self), signal, async ({ store, output }) => {
        const { version, checksum } = await store.restore(id, from, { signal });
        if (output.json) output.document({ id, version, checksum });
        else output.line(`${id}  restored as version ${version}`);
        return undefined;
      });
    });
  return withHelp(command, {
    examples: [
      ['lukhas-context restore user-42 --from-version 7', 'as it was at version 7'],
      ['lukhas-context restore user-42 --quarantined', 'what is in quarantine, whatever its checksum says'],
      ['lukhas-context restore user-42 --value @user-42.json', 'a value that was mended by hand'],
      ['lukhas-context restore --snapshot before-trip', 'what `preserve before-trip` has kept'],
      ['lukhas-context restore --snapshot nightly --dry-run', 'what that would write and delete'],
    ],
    exits: {
      3: 'there is no such version or snapshot any more, or nothing in quarantine that is JSON',
      4: 'the snapshot is damaged: nothing was restored',
    },
  });
}

/** @throws CliError where something else is given that says what to restore */
function ttlOfSnapshot(id: string | undefined, { fromVersion, quarantined, value, ttl }: RestoreFlags): string | undefined {
  if ([id, fromVersion, quarantined, value].some((given) => given !== undefined))
    throw usageError('--snapshot restores all of its contexts: pass no id, nor --from-version, --quarantined or --value');
  return ttl === 'keep' ? undefined : ttl;
}

async function restoreSnapshot(
  { store, output, signal }: Session,
  name: string,
  ttl: string | undefined,
  { keepNew = false, dryRun = false }: { readonly keepNew?: boolean; readonly dryRun?: boolean },
): Promise<undefined> {
  const life = ttl === undefined ? {} : { ttl: duration(ttl) };
  const result = await store.restoreSnapshot(name, { signal, keepNew, dryRun, ...life });
  if (output.json) output.document({ dryRun, ...result });
  else {
    for (const id of result.restored) output.line(`restored  ${id}`);
    for (const id of result.deleted) output.line(`deleted   ${id}  it did not exist`);
    for (const id of result.expired) output.line(`deleted   ${id}  its time has come since`);
    for (const id of result.createdSince) output.line(`${keepNew ? 'left    ' : 'deleted '}  ${id}  it was created since`);
    output.note(`${name} is of ${time(result.at)}${dryRun ? '; nothing was written' : ''}`);
  }
}

async function source({ fromVersion, quarantined, value, ttl }: RestoreFlags): Promise<RestoreSource> {
  const given = [fromVersion, quarantined, value].filter((flag) => flag !== undefined).length;
  if (given !== 1) throw usageError('pass one of --from-version, --quarantined and --value');
  const life = ttl === undefined ? {} : { ttl: duration(ttl) };
  if (fromVersion !== undefined) return { version: fromVersion, ...life };
  return value === undefined ? { quarantined: true, ...life } : { value: await readValue(value), ...life };
}
