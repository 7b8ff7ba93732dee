import { Command } from 'commander';
import { withHelp } from '../help.js';
import { duration } from '../input.js';
import { time } from '../output.js';
import { globalFlags, withStore } from '../session.js';
import { notFound } from './get.js';

export function touchCommand(signal: AbortSignal): Command {
  const command = new Command('touch')
    .description('Set when a context expires, counted from now; its value stays')
    .argument('<id>', 'the context')
    .argument('<ttl>', 'ms, or as in 30s, 1h, 7d; "none": it does not expire')
    .action((id: string, ttl: string, _flags: object, self: Command) =>
      withStore(globalFlags(self), signal, async (session) => {
        const touched = await session.store.touch(id, duration(ttl), { signal });
        if (!touched) throw notFound(session, id);
        const { version, expiresAt } = touched;
        if (session.output.json) session.output.document({ id, version, expiresAt });
        else session.output.line(`${id}  version ${version}  expires ${expiresAt === null ? 'never' : time(expiresAt)}`);
        return undefined;
      }),
    );
  return withHelp(command, {
    examples: [
      ['lukhas-context touch user-42 1h', 'an hour from now'],
      ['lukhas-context touch user-42 none', 'never'],
    ],
    exits: { 3: 'there is no such context' },
  });
}
