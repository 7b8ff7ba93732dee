import { Command } from 'commander';
import type { Change } from '../../store/types.js';
import { withHelp } from '../help.js';
import { integer } from '../input.js';
import { type Output, time, truncate } from '../output.js';
import { globalFlags, type Session, withStore } from '../session.js';

interface WatchFlags {
  readonly fromVersion?: number;
  readonly count?: number;
  readonly value: boolean;
}

const COLORS = { patch: 'green', full: 'cyan', deleted: 'red', expired: 'red', reset: 'yellow' } as const;

export function watchCommand(signal: AbortSignal): Command {
  const command = new Command('watch')
    .description('Print the changes of a context as they happen, one a line, until stopped')
    .argument('<id>', 'the context; it need not exist yet')
    .option('--from-version <n>', 'begin after this version; 0: from the beginning (default: from now on)', integer(0))
    .option('--count <n>', 'end after so many changes', integer(1))
    .option('--no-value', 'with --json: leave out the values, which may be large')
    .action((id: string, flags: WatchFlags, self: Command) =>
      withStore(globalFlags(self), signal, (session) => watch(session, id, flags)),
    );
  return withHelp(command, {
    examples: [
      ['lukhas-context watch user-42', 'from now on'],
      ['lukhas-context watch user-42 --from-version 7', 'versions after 7 first'],
      ['lukhas-context watch user-42 --json --no-value', 'one JSON object a line'],
    ],
    exits: { 0: '--count was reached, or the reader of the output went away' },
  });
}

async function watch({ store, output, signal }: Session, id: string, flags: WatchFlags): Promise<undefined> {
  const { fromVersion } = flags;
  let left = flags.count ?? Number.POSITIVE_INFINITY;
  for await (const change of store.watch(id, { signal, ...(fromVersion === undefined ? {} : { fromVersion }) })) {
    if (output.json) output.record(record(change, flags.value));
    else output.line(truncate(output, sentence(change, output)));
    if (--left <= 0) break;
  }
}

function record({ id, version, kind, patch, value, checksum, at }: Change, withValue: boolean): object {
  return { id, version, kind, patch, ...(withValue ? { value } : {}), checksum, at };
}

function sentence({ version, kind, patch, value, at }: Change, { colors }: Output): string {
  const detail = kind === 'patch' ? patch : value;
  const head = `${time(at)}  v${version}  ${kind.padEnd(7)}`;
  const text = kind === 'deleted' || kind === 'expired' ? '' : `  ${JSON.stringify(detail)}`;
  return `${head.replace(kind, colors[COLORS[kind]](kind))}${text}`.trimEnd();
}
