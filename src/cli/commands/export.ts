import { Command } from 'commander';
import { isContextError } from '../../core/errors.js';
import { formatBytes } from '../../core/units.js';
import type { ExportProgress } from '../../store/backupTypes.js';
import type { ExportPoint } from '../../store/ExportPoint.js';
import { verifyExport } from '../../store/exportReader.js';
import { usageError } from '../CliError.js';
import { interrupted, isGzip, named, partialOf, writeFile, writeStdout } from '../exportFile.js';
import { withHelp } from '../help.js';
import { contextCount, count } from '../output.js';
import { ProgressBar } from '../ProgressBar.js';
import { globalFlags, type Session, withStore } from '../session.js';

/** Damaged contexts listed with --json at most; all are counted. */
const LISTED = 10_000;

interface ExportFlags {
  readonly out?: string;
  readonly prefix?: string;
  readonly gzip?: true;
  readonly resume?: true;
  readonly progress?: true;
}

export function exportCommand(signal: AbortSignal): Command {
  const command = new Command('export')
    .description('Write all contexts to a file or to stdout, as lines of JSON with checksums: for disaster recovery')
    .option('--out <file>', 'the file; it is there under this name when it is complete, and as FILE.partial until then')
    .option('--prefix <text>', 'only ids that begin with this')
    .option('--gzip', 'compress it (a name that ends with .gz says so, too)')
    .option('--resume', 'go on with an export to this file that was interrupted')
    .option('--progress', 'tell of the progress on stderr, although it is no terminal')
    .action(async (flags: ExportFlags, self: Command) => {
      const global = globalFlags(self);
      const { out, resume } = flags;
      const gzip = flags.gzip === true || isGzip(out);
      if (resume && out === undefined) throw usageError('--resume needs --out: it goes on with the file FILE.partial');
      if (resume && gzip)
        throw usageError('a compressed export cannot be gone on with: export without --gzip, and compress the file');
      if (global.json && out === undefined)
        throw usageError('--json prints the result on stdout, where the export goes: name a file with --out');
      await withStore(global, signal, (session) => run(session, flags, gzip));
    });
  return withHelp(command, {
    examples: [
      ['lukhas-context export --namespace agents --out agents.ndjson', 'with a progress bar on a terminal'],
      ['lukhas-context export --out agents.ndjson --resume', 'go on with one that was interrupted'],
      ['lukhas-context export --prefix user- | gzip > users.ndjson.gz', 'to stdout'],
    ],
    exits: { 4: 'damaged contexts that nobody has a good copy of were left out; the file is complete but for them' },
  });
}

async function run(session: Session, flags: ExportFlags, gzip: boolean): Promise<number> {
  const { store, output, signal } = session;
  const { out, prefix } = flags;
  const bar = new ProgressBar({ json: output.json, asked: flags.progress === true });
  const damaged: string[] = [];
  let last: ExportProgress = { contexts: 0, bytes: 0, damaged: 0, total: 0 };
  const from = flags.resume && out !== undefined ? await pointOf(session, out) : null;
  const lines = (): AsyncGenerator<Buffer> =>
    store.export({
      signal,
      ...(prefix === undefined ? {} : { prefix }),
      ...(from === null || from === 'complete' ? {} : { resume: from }),
      damaged: (id, error) => {
        bar.clear();
        if (damaged.length < LISTED) damaged.push(id);
        output.note(`left out  ${id}: ${error.message}`);
      },
      progress: (progress) => {
        last = progress;
        const { contexts, bytes, total } = progress;
        bar.show('exporting', total === 0 ? 1 : (contexts + progress.damaged) / total, contexts, bytes);
      },
    });
  try {
    if (from === 'complete' && out !== undefined) last = await completed(out);
    else if (out === undefined) await writeStdout(lines(), gzip, signal);
    else await writeFile(out, lines(), from?.length ?? null, gzip);
  } catch (error) {
    bar.clear();
    if (signal.aborted && out !== undefined)
      output.note(
        gzip
          ? `stopped: ${partialOf(out)} is incomplete, and can be removed`
          : `stopped after ${contextCount(last.contexts)}: go on with --resume`,
      );
    throw error;
  }
  bar.clear();
  const { contexts, bytes } = last;
  const { seconds } = bar;
  if (output.json)
    output.document({ ok: last.damaged === 0, file: out, contexts, bytes, damaged: last.damaged, left: damaged, seconds });
  else {
    const left = last.damaged === 0 ? '' : `; ${count(last.damaged)} damaged, and left out`;
    const sentence = `${contextCount(contexts)}, ${formatBytes(bytes)} in ${seconds} s${left}`;
    if (out === undefined) output.note(sentence);
    else output.line(`${out}  ${sentence}`);
  }
  return last.damaged === 0 ? 0 : 4;
}

/** Where to go on; null: from the beginning. */
async function pointOf({ store, output, signal }: Session, out: string): Promise<ExportPoint | 'complete' | null> {
  const source = interrupted(out);
  if (source === null) {
    output.note(`there is no ${partialOf(out)} to go on with: it is begun`);
    return null;
  }
  try {
    return await store.exportPoint(source, { signal });
  } catch (error) {
    // it was ended between its last line and its name
    if (isContextError(error) && error.code === 'CONFLICT') return 'complete';
    throw error;
  }
}

async function completed(out: string): Promise<ExportProgress> {
  const source = interrupted(out);
  const { contexts, bytes, leftOut } = await verifyExport(source ?? []);
  await named(out);
  return { contexts, bytes, damaged: leftOut, total: contexts };
}
