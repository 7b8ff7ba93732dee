import { Command, Option } from 'commander';
import { formatBytes, parseSize } from '../../core/units.js';
import type { IfExists, ImportResult } from '../../store/backupTypes.js';
import { verifyExport } from '../../store/exportReader.js';
import { usageError } from '../CliError.js';
import { isGzip, type Reading, reading } from '../exportFile.js';
import { withHelp } from '../help.js';
import { contextCount, count } from '../output.js';
import { ProgressBar } from '../ProgressBar.js';
import { globalFlags, type Session, withStore } from '../session.js';

interface ImportFlags {
  readonly ifExists: IfExists;
  readonly gzip?: true;
  readonly partial?: true;
  readonly skipDamaged?: true;
  readonly dryRun?: true;
  readonly resume?: true;
  readonly contextBytes: string;
  readonly progress?: true;
}

export function importCommand(signal: AbortSignal): Command {
  const command = new Command('import')
    .description('Write the contexts of an export, to the byte; what is there already is not written again')
    .argument('[file]', 'the export, or - (the default) for stdin; a file is verified whole before anything is written')
    .addOption(
      new Option('--if-exists <what>', 'what is done where there is another document already')
        .choices(['skip', 'replace', 'newer', 'fail'])
        .default('skip'),
    )
    .option('--gzip', 'it is compressed (a name that ends with .gz says so, too)')
    .option('--partial', 'take an export that was interrupted, as far as it goes')
    .option('--skip-damaged', 'pass over damaged lines and refused documents, and report them')
    .option('--dry-run', 'verify it, look what would be done, and write nothing')
    .option('--resume', 'go on with an import that was interrupted: it is what every import does, so this changes nothing')
    .option('--context-bytes <size>', 'largest document that is taken', '8mb')
    .option('--progress', 'tell of the progress on stderr, although it is no terminal')
    .action(async (argument: string | undefined, flags: ImportFlags, self: Command) => {
      const file = argument === '-' ? undefined : argument;
      if (file === undefined && process.stdin.isTTY) throw usageError('no export given: name a file, or pass it through stdin');
      const source = await reading(file, flags.gzip === true || isGzip(file), flags.partial === true);
      const limits = { contextBytes: parseSize(flags.contextBytes, '--context-bytes') };
      await withStore(globalFlags(self), signal, (session) => run(session, source, flags), { limits });
    });
  return withHelp(command, {
    examples: [
      ['lukhas-context import agents.ndjson --namespace agents', 'into an empty namespace, or to go on after an interruption'],
      ['lukhas-context import agents.ndjson --if-exists newer', 'where the export has the later commit'],
      ['lukhas-context import agents.ndjson.gz --dry-run --json', '{"ok":true,"created":2,"same":0,...}; nothing is written'],
    ],
    exits: {
      3: 'a context is there already, with --if-exists fail',
      4: 'the export is damaged or incomplete, or damaged lines were passed over; --json says as `missing` how many have no line at all',
    },
  });
}

async function run({ store, output, signal }: Session, source: Reading, flags: ImportFlags): Promise<number> {
  const { size } = source;
  const bar = new ProgressBar({ json: output.json, asked: flags.progress === true });
  const how = { partial: flags.partial === true, skipDamaged: flags.skipDamaged === true };
  let read = 0;
  const open = (): AsyncIterable<Buffer> => {
    read = 0;
    return source.open((bytes) => {
      read += bytes;
    });
  };
  const show = (what: string, contexts: number): void => bar.show(what, size ? read / size : 0, contexts, read);
  let result: ImportResult;
  try {
    // stdin cannot be read twice; what is passed over is not verified before
    if (size !== null && !how.skipDamaged)
      await verifyExport(
        watched(open(), signal, () => show('verifying', 0)),
        how,
      );
    result = await store.import(open(), {
      signal,
      ...how,
      ifExists: flags.ifExists,
      dryRun: flags.dryRun === true,
      progress: ({ contexts }) => show('importing', contexts),
    });
  } catch (error) {
    bar.clear();
    if (signal.aborted) output.note('stopped: run the same command again to go on; what was written is passed over');
    throw error;
  }
  bar.clear();
  report({ store, output }, result, flags, bar.seconds);
  return result.damagedCount === 0 ? 0 : 4;
}

async function* watched(source: AsyncIterable<Buffer>, signal: AbortSignal, show: () => void): AsyncGenerator<Buffer> {
  for await (const chunk of source) {
    signal.throwIfAborted();
    show();
    yield chunk;
  }
}

function report({ output }: Pick<Session, 'store' | 'output'>, result: ImportResult, flags: ImportFlags, seconds: number): void {
  const { contexts, bytes, created, replaced, same, kept, expired, damaged, damagedCount, leftOut, missing } = result;
  if (output.json) {
    output.document({ ok: damagedCount === 0, dryRun: flags.dryRun === true, ...result, seconds });
    return;
  }
  for (const { line, why } of damaged) output.line(`${output.colors.red('passed over')}  line ${line}: ${why}`);
  const parts = (
    [
      [created, 'created'],
      [replaced, 'replaced'],
      [same, 'there already'],
      [kept, 'left as they are'],
      [expired, 'expired'],
      [damagedCount, 'passed over'],
      [missing, 'missing'],
    ] as const
  ).flatMap(([number, what]) => (number === 0 ? [] : [`${count(number)} ${what}`]));
  const would = flags.dryRun ? 'nothing was written; it would be: ' : '';
  output.line(`${contextCount(contexts)}, ${formatBytes(bytes)} in ${seconds} s: ${would}${parts.join(', ') || 'nothing to do'}`);
  if (leftOut > 0) output.note(`left out of the export: ${contextCount(leftOut)}, damaged where it was made`);
}
