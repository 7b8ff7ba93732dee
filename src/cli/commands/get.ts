import { Command } from 'commander';
import { ContextError } from '../../core/errors.js';
import { withHelp } from '../help.js';
import { facts, time } from '../output.js';
import { globalFlags, type Session, withStore } from '../session.js';

interface GetFlags {
  readonly raw?: true;
  readonly meta?: true;
}

export function getCommand(signal: AbortSignal): Command {
  const command = new Command('get')
    .description('Print the value of a context')
    .argument('<id>', 'the context')
    .option('--raw', 'print the stored bytes exactly as they are, unchecked, without a line end')
    .option('--meta', 'print version, checksum and times instead of the value')
    .action((id: string, flags: GetFlags, self: Command) =>
      withStore(globalFlags(self), signal, (session) => get(session, id, flags)),
    );
  return withHelp(command, {
    examples: [
      ['lukhas-context get user-42', 'indented on a terminal, one line in a pipe'],
      ['lukhas-context get user-42 --json', 'with version, checksum and times'],
      ['lukhas-context get user-42 --raw | sha1sum', 'the very bytes in Redis'],
    ],
    exits: { 3: 'there is no such context', 4: 'the stored bytes do not match their checksum' },
  });
}

async function get(session: Session, id: string, flags: GetFlags): Promise<undefined> {
  const { store, output, signal } = session;
  if (flags.raw) {
    const bytes = await store.rawBytes(id, { signal });
    if (!bytes) throw notFound(session, id);
    process.stdout.write(bytes);
    return;
  }
  const context = await store.get(id, { fresh: true, signal });
  if (!context) throw notFound(session, id);
  if (flags.meta) {
    const { value: _, stale: __, ...meta } = context;
    if (output.json) output.document(meta);
    else {
      output.line(
        facts(output, [
          ['id', meta.id],
          ['version', String(meta.version)],
          ['checksum', meta.checksum],
          ['updated', time(meta.updatedAt)],
          ['expires', meta.expiresAt === null ? 'never' : time(meta.expiresAt)],
        ]),
      );
    }
  } else if (output.json) {
    const { stale: _, ...document } = context;
    output.document(document);
  } else output.document(context.value);
}

/** The error of a command that needs a context which is not there. */
export function notFound({ flags: { namespace } }: Session, id: string): ContextError {
  return new ContextError('NOT_FOUND', `there is no context ${JSON.stringify(id)} in namespace ${namespace}`, {
    id,
    namespace,
  });
}
