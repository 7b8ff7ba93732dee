import { Command } from 'commander';
import { reconcilePass } from '../../../queues/reconcile.js';
import { withHelp } from '../help.js';
import { count, facts } from '../output.js';
import { globalFlags, type Session, withStore } from '../session.js';

const WORDS = {
  indexed: 'contexts that an index did not have',
  dropped: 'index entries without a context',
  expiries: 'expiries that were not those of the context',
  sizes: 'accounts that were not the real bytes',
  tombstones: 'logs without a context that would have stayed',
  leftovers: 'copies that nothing needs any more',
  intents: 'intents of transactions that are over',
  expired: 'contexts that Redis removed before a sweep did',
  totals: 'totals that were not the sum',
} as const;

export function reconcileCommand(signal: AbortSignal): Command {
  const command = new Command('reconcile')
    .description('Hold accounts, indexes and remains against reality now, once, and mend them')
    .action((_flags: object, self: Command) => withStore(globalFlags(self), signal, reconcile));
  return withHelp(command, {
    examples: [
      ['lukhas-context reconcile --namespace agents', 'what was mended, by kind'],
      ['lukhas-context reconcile --json', '{"ok":true,"complete":true,"checked":2,"fixed":{},"recovered":0,"lost":[],...}'],
    ],
    exits: {
      0: 'all agrees, or was mended',
      4: 'a context is damaged and could not be healed, or vanished without having expired and could not be rebuilt',
    },
  });
}

async function reconcile({ store, output, signal }: Session): Promise<number> {
  const lost: string[] = [];
  const showing = process.stderr.isTTY && !output.json;
  const result = await reconcilePass(store.maintenance, {
    signal,
    heal: (id) => store.maintenance.repair(id, { signal, where: 'reconcile' }),
    recover: (id) => store.maintenance.recover(id),
    found: (what, id) => {
      if (what === 'lost') lost.push(id);
      if (!output.json)
        output.line(
          `${output.colors.red(what)}  ${id}${what === 'lost' ? '  its log is kept for a while, to restore it from' : ''}`,
        );
    },
    progress: ({ checked }) => {
      if (showing) process.stderr.write(`\r\x1b[K${count(checked)} looked at`);
    },
  });
  if (showing) process.stderr.write('\r\x1b[K');
  const { checked, fixed, recovered, damaged, healed, unsettled } = result;
  const ok = damaged === healed && lost.length === 0;
  const complete = !signal.aborted;
  if (output.json) output.document({ ok, complete, checked, fixed, recovered, lost, damaged, healed, unsettled });
  else {
    const mended = Object.entries(fixed);
    if (mended.length > 0)
      output.line(
        facts(
          output,
          mended.map(([name, times]) => [count(times), WORDS[name as keyof typeof WORDS]] as const),
        ),
      );
    if (recovered > 0) output.line(`${count(recovered)} that had vanished rebuilt from log, checkpoint or another instance`);
    const end = complete ? '' : 'stopped early: ';
    output.line(`${end}${count(checked)} looked at, ${mended.length === 0 ? 'nothing to mend' : 'mended'}`);
    if (unsettled > 0) output.note(`${unsettled} totals changed while they were summed: the next pass looks again`);
  }
  return ok ? 0 : 4;
}
