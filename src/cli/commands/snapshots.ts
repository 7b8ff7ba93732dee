import { Command } from 'commander';
import { withHelp } from '../help.js';
import { count, table, time } from '../output.js';
import { globalFlags, type Session, withStore } from '../session.js';

export function snapshotsCommand(signal: AbortSignal): Command {
  const command = new Command('snapshots')
    .description('List the snapshots of a namespace, or let go of some')
    .option('--drop <names...>', 'let go of these')
    .action(({ drop: names }: { drop?: readonly string[] }, self: Command) =>
      withStore(globalFlags(self), signal, (session) => (names === undefined ? list(session) : drop(session, names))),
    );
  return withHelp(command, {
    examples: [
      ['lukhas-context snapshots', 'what there is, since when, and until when'],
      [
        'lukhas-context snapshots --json',
        '[{"name":"before-trip","at":1700000000000,"by":"...","contexts":2,"bytes":824,"expiresAt":1700604800000}]',
      ],
      ['lukhas-context snapshots --drop before-trip', 'let go of it'],
    ],
    exits: { 3: 'there is no snapshot of a name that was to be dropped' },
  });
}

async function list({ store, output, signal }: Session): Promise<undefined> {
  const found = await store.snapshots({ signal });
  if (output.json) output.document(found);
  else if (found.length === 0) output.note('No snapshots.');
  else {
    const rows = found.map(({ name, contexts, bytes, at, by, expiresAt }) => [
      ...[name, count(contexts), count(bytes), time(at), by],
      expiresAt === null ? 'never' : time(expiresAt),
    ]);
    output.line(table(output, ['NAME', '>CONTEXTS', '>BYTES', 'MADE', 'BY', 'EXPIRES'], rows));
  }
}

async function drop({ store, output, signal }: Session, names: readonly string[]): Promise<number> {
  const dropped: string[] = [];
  const missing: string[] = [];
  for (const name of names) ((await store.dropSnapshot(name, { signal })) ? dropped : missing).push(name);
  if (output.json) output.document({ dropped, missing });
  else {
    for (const name of dropped) output.line(`dropped  ${name}`);
    for (const name of missing) output.line(`${output.colors.yellow('missing')}  ${name}`);
  }
  return missing.length === 0 ? 0 : 3;
}
