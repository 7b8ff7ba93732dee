import { Command } from 'commander';
import { formatBytes } from '../../core/units.js';
import { usageError } from '../CliError.js';
import { withHelp } from '../help.js';
import { duration } from '../input.js';
import { contextCount, count, time } from '../output.js';
import { globalFlags, withStore } from '../session.js';

interface PreserveFlags {
  readonly prefix?: string;
  readonly ttl: string;
  readonly replace?: true;
}

export function preserveCommand(signal: AbortSignal): Command {
  const command = new Command('preserve')
    .description('Keep a snapshot of contexts as they are at one moment, under a name')
    .argument('<name>', 'what it is called')
    .argument('[ids...]', 'the contexts, 100 at most; those that do not exist are remembered as such')
    .option('--prefix <text>', 'instead: all whose ids begin with this; a restore deletes what was created there since')
    .option('--ttl <duration>', 'how long the snapshot is kept: ms, or as in 1h, 7d; or none', '7d')
    .option('--replace', 'let go of another snapshot of this name')
    .action(async (name: string, ids: readonly string[], flags: PreserveFlags, self: Command) => {
      const { prefix, ttl, replace } = flags;
      if ((prefix === undefined) === (ids.length === 0)) throw usageError('name the contexts, or pass --prefix');
      await withStore(globalFlags(self), signal, async ({ store, output }) => {
        const what = prefix === undefined ? ids : { prefix };
        const kept = await store.preserve(name, what, { signal, ttl: duration(ttl), replace: replace === true });
        if (output.json) output.document(kept);
        else {
          const until = kept.expiresAt === null ? 'for ever' : `until ${time(kept.expiresAt)}`;
          const absent = kept.absent.length === 0 ? '' : ` (${count(kept.absent.length)} of them did not exist)`;
          output.line(`${name}  ${contextCount(kept.contexts)}${absent}, ${formatBytes(kept.bytes)}, kept ${until}`);
        }
        return undefined;
      });
    });
  return withHelp(command, {
    examples: [
      ['lukhas-context preserve before-trip user-42 cart-42', 'two contexts, for 7 days'],
      ['lukhas-context preserve nightly --prefix session-42/ --ttl 1d --replace', 'a session and all that hangs on it'],
      ['lukhas-context restore --snapshot before-trip', 'all of them back, or none'],
    ],
    exits: { 3: 'there is a snapshot of this name, or nothing to preserve', 4: 'one of the contexts is damaged' },
  });
}
