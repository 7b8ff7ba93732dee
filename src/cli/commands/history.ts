import { Command } from 'commander';
import type { HistoryEntry } from '../../store/types.js';
import { withHelp } from '../help.js';
import { integer } from '../input.js';
import { count, type Output, table, time } from '../output.js';
import { globalFlags, type Session, withStore } from '../session.js';
import { notFound } from './get.js';

export function historyCommand(signal: AbortSignal): Command {
  const command = new Command('history')
    .description('Show the delta log of a context, the newest version first')
    .argument('<id>', 'the context; one that was deleted keeps its log for a while')
    .option('--limit <n>', 'entries to show', integer(1), 20)
    .action((id: string, flags: { limit: number }, self: Command) =>
      withStore(globalFlags(self), signal, (session) => history(session, id, flags.limit)),
    );
  return withHelp(command, {
    examples: [
      ['lukhas-context history user-42', 'the last 20 versions'],
      ['lukhas-context history user-42 --limit 1 --json', 'the last one, with its patch'],
    ],
    exits: { 3: 'there is no such context, and no log of one' },
  });
}

async function history(session: Session, id: string, limit: number): Promise<undefined> {
  const { store, output, signal } = session;
  const entries = await store.history(id, { limit, signal });
  if (entries.length === 0 && !(await store.has(id, { signal }))) throw notFound(session, id);
  if (output.json) output.document({ id, entries });
  else if (entries.length === 0) output.note('The log of this context is empty.');
  else output.line(historyTable(output, entries));
}

export function historyTable(output: Output, entries: readonly HistoryEntry[]): string {
  return table(
    output,
    ['>VERSION', 'KIND', 'AT', 'BY', 'CHECKSUM', '>BYTES', '>FRAME', 'OPERATION'],
    entries.map(({ version, kind, at, by, checksum, bytes, frameBytes, operation }) => [
      String(version),
      kind,
      time(at),
      by,
      checksum ?? '-',
      count(bytes),
      frameBytes === 0 ? '-' : count(frameBytes),
      operation,
    ]),
  );
}
