import { Command } from 'commander';
import type { ContextSummary } from '../../store/types.js';
import { withHelp } from '../help.js';
import { integer } from '../input.js';
import { count, table, time } from '../output.js';
import { globalFlags, type Session, withStore } from '../session.js';

interface ListFlags {
  readonly limit?: number;
  readonly prefix?: string;
  readonly cursor?: string;
  readonly all?: true;
}

export function listCommand(signal: AbortSignal): Command {
  const command = new Command('list')
    .description('List the contexts of a namespace')
    .option('--prefix <text>', 'only ids that begin with this')
    .option('--limit <n>', 'contexts wanted in a page, 1 to 1000; it may hold more (default: 100)', integer(1))
    .option('--cursor <cursor>', 'go on where an earlier page ended')
    .option('--all', 'all pages')
    .action((flags: ListFlags, self: Command) => withStore(globalFlags(self), signal, (session) => list(session, flags)));
  return withHelp(command, {
    examples: [
      ['lukhas-context list --prefix user-', 'the first page'],
      ['lukhas-context list --limit 20 --cursor CURSOR', 'the page after one that ended with CURSOR'],
      ['lukhas-context list --all --json', '{"items":[...],"cursor":null}'],
    ],
  });
}

async function list(session: Session, flags: ListFlags): Promise<undefined> {
  const { output } = session;
  const found = new Map<string, ContextSummary>();
  let next: string | null = null;
  for await (const { items, cursor } of pages(session, flags)) {
    // A page can repeat a context while others are written.
    for (const item of items) found.set(item.id, item);
    next = cursor;
    if (!flags.all) break;
  }
  const items = [...found.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  if (output.json) output.document({ items, cursor: next });
  else if (items.length === 0 && next === null) output.note('No contexts.');
  else {
    output.line(table(output, ['ID', '>VERSION', 'CHECKSUM', '>BYTES', '>MEMORY', 'UPDATED', 'EXPIRES'], items.map(row)));
    if (next !== null) output.note(`More: --cursor ${next}`);
  }
}

/** The pages from `cursor` on, the last one with a `null` cursor. */
export async function* pages(
  { store, signal }: Session,
  { limit, prefix, cursor, all }: ListFlags,
): AsyncGenerator<{ readonly items: readonly ContextSummary[]; readonly cursor: string | null }> {
  const fixed = { signal, ...(prefix === undefined ? {} : { prefix }), limit: limit ?? (all ? 1000 : 100) };
  for (let next: string | null | undefined = cursor; next !== null; ) {
    const page = await store.list({ ...fixed, ...(next === undefined ? {} : { cursor: next }) });
    yield page;
    next = page.cursor;
  }
}

function row({ id, version, checksum, bytes, memoryBytes, updatedAt, expiresAt }: ContextSummary): string[] {
  const expires = expiresAt === null ? 'never' : time(expiresAt);
  return [id, String(version), checksum, count(bytes), count(memoryBytes), time(updatedAt), expires];
}
