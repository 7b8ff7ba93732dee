import { Command } from 'commander';
import { withHelp } from '../help.js';
import { readValue } from '../input.js';
import { globalFlags, withStore } from '../session.js';
import { printWritten, type WriteFlags, withWriteFlags, writeOptions } from './writes.js';

export function setCommand(signal: AbortSignal): Command {
  const command = new Command('set')
    .description('Write a context, whole')
    .argument('<id>', 'the context')
    .argument('[value]', 'JSON, @file, or - (the default) for stdin')
    .action(async (id: string, argument: string | undefined, flags: WriteFlags, self: Command) => {
      const value = await readValue(argument);
      await withStore(globalFlags(self), signal, async (session) => {
        printWritten(session, id, await session.store.set(id, value, writeOptions(flags, signal)));
        return undefined;
      });
    });
  return withHelp(withWriteFlags(command, 'none'), {
    examples: [
      [`lukhas-context set user-42 '{"turns":[]}'`, 'a literal value'],
      ['lukhas-context set user-42 @session.json --ttl 1h', 'from a file, for an hour'],
      ['curl -s https://example.org/x.json | lukhas-context set x', 'from stdin'],
      ['lukhas-context set settings @defaults.json --if-version 0', 'only if it does not exist'],
    ],
    exits: { 3: 'another version than --if-version is current' },
  });
}
