import { Command } from 'commander';
import { withHelp } from '../help.js';
import { globalFlags, type Session, withStore } from '../session.js';

export function upgradeCommand(signal: AbortSignal): Command {
  const command = new Command('upgrade')
    .description('Let all instances of the namespace write the newest protocol: for when none of an older version runs any more')
    .action((_flags: object, self: Command) => withStore(globalFlags(self), signal, upgrade));
  return withHelp(command, {
    examples: [
      ['lukhas-context upgrade --namespace agents', 'after the last instance was replaced by one of this version'],
      ['lukhas-context upgrade --json', '{"namespace":"default","from":1,"to":2}'],
    ],
  });
}

async function upgrade({ store, output, signal }: Session): Promise<undefined> {
  const { namespace } = store;
  const { from, to } = await store.upgrade({ signal });
  if (output.json) output.document({ namespace, from, to });
  else if (from === to) output.line(`namespace ${namespace} is written in protocol ${to} already`);
  else
    output.line(
      `namespace ${namespace}: protocol ${from} before, ${to} from now on; instances that run notice within a heartbeat`,
    );
  return undefined;
}
