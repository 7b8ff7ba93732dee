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
      ['lukhas-context upgrade --json', '{"namespace":"default","from":1,"to":2,"sealed":3,"failed":[]}'],
    ],
    exits: { 4: 'contexts could not be sealed: they are damaged' },
  });
}

async function upgrade({ store, output, signal }: Session): Promise<number> {
  const { namespace } = store;
  const { from, to } = await store.upgrade({ signal });
  const showing = process.stderr.isTTY && !output.json;
  const { looked, failed } = await store.seal({
    signal,
    progress: (count) => {
      if (showing && count % 100 === 0) process.stderr.write(`\r\x1b[K${count} sealed`);
    },
  });
  if (showing) process.stderr.write('\r\x1b[K');
  if (output.json) output.document({ namespace, from, to, sealed: looked - failed.length, failed });
  else {
    if (from === to) output.line(`namespace ${namespace} is written in protocol ${to} already`);
    else
      output.line(
        `namespace ${namespace}: protocol ${from} before, ${to} from now on; instances that run notice within a heartbeat`,
      );
    if (looked > 0) output.line(`${looked - failed.length} contexts sealed`);
    for (const id of failed)
      output.line(`${output.colors.red('not sealed')}  ${id}: look at it with lukhas-context repair ${id}`);
  }
  return failed.length === 0 ? 0 : 4;
}
