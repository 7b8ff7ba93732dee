import { Command } from 'commander';
import { withHelp } from '../help.js';
import { count, table, time } from '../output.js';
import { globalFlags, type Session, withStore } from '../session.js';

interface QuarantineFlags {
  readonly drop?: readonly string[];
}

export function quarantineCommand(signal: AbortSignal): Command {
  const command = new Command('quarantine')
    .description('List damaged contexts that nobody had a good copy of, or let go of what is kept of them')
    .option('--drop <ids...>', 'let go of the damaged bytes of these')
    .action((flags: QuarantineFlags, self: Command) =>
      withStore(globalFlags(self), signal, (session) => (flags.drop === undefined ? list(session) : drop(session, flags.drop))),
    );
  return withHelp(command, {
    examples: [
      ['lukhas-context quarantine', 'what is there, since when, and why'],
      [
        'lukhas-context quarantine --json',
        '[{"id":"user-42","version":7,"bytes":1024,"why":"...","at":1700000000000,"by":"..."}]',
      ],
      [
        'lukhas-context quarantine --drop user-42',
        'let go of the damaged bytes; the context is CORRUPT until it is written anew',
      ],
    ],
    exits: { 3: 'nothing of a context that was to be dropped is in quarantine', 4: 'there are contexts in quarantine' },
  });
}

async function list({ store, output, signal }: Session): Promise<number> {
  const found = await store.quarantined({ signal });
  if (output.json) output.document(found);
  else if (found.length === 0) output.line('nothing is in quarantine');
  else {
    const rows = found.map(({ id, version, bytes, at, by, why }) => [id, String(version), count(bytes), time(at), by, why]);
    output.line(table(output, ['id', '>version', '>bytes', 'since', 'by', 'why'], rows));
  }
  return found.length === 0 ? 0 : 4;
}

async function drop({ store, output, signal }: Session, ids: readonly string[]): Promise<number> {
  const dropped: string[] = [];
  const missing: string[] = [];
  for (const id of ids) ((await store.dropQuarantined(id, { signal })) ? dropped : missing).push(id);
  if (output.json) output.document({ dropped, missing });
  else {
    for (const id of dropped) output.line(`dropped  ${id}`);
    for (const id of missing) output.line(`${output.colors.yellow('missing')}  ${id}`);
  }
  return missing.length === 0 ? 0 : 3;
}
