import { Command } from 'commander';
import { isContextError } from '../../core/errors.js';
import type { JsonValue } from '../../core/json.js';
import type { Context, ContextSummary, HistoryEntry, VerifyResult } from '../../store/types.js';
import { withHelp } from '../help.js';
import { count, facts, type Output, time } from '../output.js';
import { globalFlags, type Session, withStore } from '../session.js';
import { notFound } from './get.js';
import { historyTable } from './history.js';
import { pages } from './list.js';
import { checkLine } from './verify.js';

const LOG_ENTRIES = 10;

interface Report {
  readonly id: string;
  readonly namespace: string;
  readonly keys: Readonly<Record<string, string>>;
  /** `null` where the stored bytes are damaged; `verification` tells how. */
  readonly context: Context | null;
  readonly summary: ContextSummary | null;
  readonly verification: VerifyResult;
  readonly log: readonly HistoryEntry[];
}

export function inspectCommand(signal: AbortSignal): Command {
  const command = new Command('inspect')
    .description('Show everything about a context: keys, sizes, checksums, expiry, log')
    .argument('<id>', 'the context')
    .action((id: string, _flags: object, self: Command) =>
      withStore(globalFlags(self), signal, (session) => inspect(session, id)),
    );
  return withHelp(command, {
    examples: [
      ['lukhas-context inspect user-42', 'one readable page'],
      ['lukhas-context inspect user-42 --json', 'the same, with the value and the patches'],
    ],
    exits: { 3: 'there is no such context', 4: 'the context is shown, and it is damaged' },
  });
}

async function inspect(session: Session, id: string): Promise<number> {
  const { store, output, signal } = session;
  const verification = await store.verify(id, { signal });
  if (!verification) throw notFound(session, id);
  const [context, summary, log] = await Promise.all([
    verification.ok ? readable(session, id) : null,
    summaryOf(session, id),
    store.history(id, { limit: LOG_ENTRIES, signal }),
  ]);
  const report: Report = {
    id,
    namespace: store.namespace,
    keys: { ...store.keysOf(id) },
    context,
    summary,
    verification,
    log,
  };
  if (output.json) output.document(report);
  else output.line(page(output, report));
  return verification.ok ? 0 : 4;
}

/** The context, or `null` where it is damaged by now. One that is found damaged is not read at all: reading would repair it. */
async function readable({ store, signal }: Session, id: string): Promise<Context | null> {
  try {
    return await store.get(id, { fresh: true, signal });
  } catch (error) {
    if (isContextError(error) && error.code === 'CORRUPT') return null;
    throw error;
  }
}

async function summaryOf(session: Session, id: string): Promise<ContextSummary | null> {
  for await (const { items } of pages(session, { prefix: id, all: true })) {
    const found = items.find((item) => item.id === id);
    if (found) return found;
  }
  return null;
}

function page(output: Output, { id, namespace, keys, context, summary, verification, log }: Report): string {
  const { bold, red } = output.colors;
  const { version, bytes, chunks, checks } = verification;
  const newest = log[0];
  const updatedAt = context?.updatedAt ?? summary?.updatedAt;
  const expiresAt = context ? context.expiresAt : (summary?.expiresAt ?? null);
  return [
    `${bold(id)}  in namespace ${bold(namespace)}`,
    '',
    facts(output, [
      ['version', String(version)],
      ['updated', updatedAt === undefined ? '-' : time(updatedAt)],
      ['expires', expiresAt === null ? 'never' : time(expiresAt)],
      ['by', newest?.version === version ? newest.by : '-'],
      ['operation', newest?.version === version ? newest.operation : '-'],
    ]),
    '',
    bold('Keys in Redis'),
    facts(output, Object.entries(keys)),
    '',
    bold('Document'),
    facts(output, [
      ['bytes', count(bytes)],
      ['stored', chunks === 1 ? 'as one field' : `in ${count(chunks)} chunks`],
      ['memory', summary ? `${count(summary.memoryBytes)} bytes in Redis, with the log` : '-'],
      ['holds', context ? shape(context.value) : red('damaged: it cannot be read')],
    ]),
    '',
    bold('Checks'),
    ...checks.map((check) => `  ${checkLine(output, check)}`),
    '',
    bold(`Log, newest ${LOG_ENTRIES} at most`),
    log.length === 0 ? '  empty' : historyTable(output, log).replace(/^/gm, '  '),
  ].join('\n');
}

function shape(value: JsonValue): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return `an array of ${count(value.length)}`;
  if (typeof value !== 'object') return `a ${typeof value}`;
  const names = Object.keys(value);
  const shown = names.slice(0, 8).map((name) => JSON.stringify(name));
  const members = `an object of ${count(names.length)}`;
  return names.length === 0 ? members : `${members}: ${shown.join(', ')}${names.length > shown.length ? ', ...' : ''}`;
}
