import { Command } from 'commander';
import { withHelp } from '../help.js';
import { integer } from '../input.js';
import { globalFlags, withStore } from '../session.js';
import { notFound } from './get.js';

export function deleteCommand(signal: AbortSignal): Command {
  const command = new Command('delete')
    .description('Delete a context; its versions go on from there when it is created again')
    .argument('<id>', 'the context')
    .option('--if-version <n>', 'delete only if this is the current version', integer(1))
    .action((id: string, flags: { ifVersion?: number }, self: Command) =>
      withStore(globalFlags(self), signal, async (session) => {
        const { store, output } = session;
        const { ifVersion } = flags;
        const deleted = await store.delete(id, { signal, ...(ifVersion === undefined ? {} : { ifVersion }) });
        if (!deleted) throw notFound(session, id);
        if (output.json) output.document({ id, version: deleted.version, deleted: true });
        else output.line(`${id}  deleted as version ${deleted.version}`);
        return undefined;
      }),
    );
  return withHelp(command, {
    examples: [
      ['lukhas-context delete user-42', 'delete it'],
      ['lukhas-context delete user-42 --if-version 7', 'only if nobody has changed it since'],
    ],
    exits: { 3: 'no such context, or another version than --if-version is current' },
  });
}
