import { Command } from 'commander';
import type { RestoreSource } from '../../store/types.js';
import { usageError } from '../CliError.js';
import { withHelp } from '../help.js';
import { duration, integer, readValue } from '../input.js';
import { globalFlags, withStore } from '../session.js';

interface RestoreFlags {
  readonly fromVersion?: number;
  readonly quarantined?: true;
  readonly value?: string;
  readonly ttl?: string;
}

export function restoreCommand(signal: AbortSignal): Command {
  const command = new Command('restore')
    .description('Write an earlier version of a context anew, one from quarantine, or a value by hand')
    .argument('<id>', 'the context')
    .option('--from-version <n>', 'a version that the log or a checkpoint still has; see history', integer(1))
    .option('--quarantined', 'what was moved to quarantine, as far as it is JSON')
    .option('--value <json>', 'a value: JSON, @file, or - for stdin')
    .option('--ttl <duration>', 'time to live from now on: ms, or as in 10s, 1h; keep, none (default: keep)')
    .action(async (id: string, flags: RestoreFlags, self: Command) => {
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
    ],
    exits: { 3: 'there is no such version any more, or nothing in quarantine that is JSON' },
  });
}

async function source({ fromVersion, quarantined, value, ttl }: RestoreFlags): Promise<RestoreSource> {
  const given = [fromVersion, quarantined, value].filter((flag) => flag !== undefined).length;
  if (given !== 1) throw usageError('pass one of --from-version, --quarantined and --value');
  const life = ttl === undefined ? {} : { ttl: duration(ttl) };
  if (fromVersion !== undefined) return { version: fromVersion, ...life };
  return value === undefined ? { quarantined: true, ...life } : { value: await readValue(value), ...life };
}
