import { Command } from 'commander';
import { withHelp } from '../help.js';
import { readPatch } from '../input.js';
import { globalFlags, withStore } from '../session.js';
import { printWritten, type WriteFlags, withWriteFlags, writeOptions } from './writes.js';

export function patchCommand(signal: AbortSignal): Command {
  const command = new Command('patch')
    .description('Change a context by a JSON Patch (RFC 6902): all operations or none')
    .argument('<id>', 'the context')
    .argument('[patch]', 'a JSON Patch, @file, or - (the default) for stdin')
    .action(async (id: string, argument: string | undefined, flags: WriteFlags, self: Command) => {
      const patch = await readPatch(argument);
      await withStore(globalFlags(self), signal, async (session) => {
        printWritten(session, id, await session.store.patch(id, patch, writeOptions(flags, signal)));
        return undefined;
      });
    });
  return withHelp(withWriteFlags(command, 'keep'), {
    examples: [
      [`lukhas-context patch user-42 '[{"op":"add","path":"/turns/-","value":"hi"}]'`, 'append to an array'],
      ['lukhas-context patch user-42 @change.json --if-version 7', 'only on top of version 7'],
    ],
    exits: { 3: 'no such context, another version, a failing test or a missing path; nothing was changed' },
  });
}
