import { createInterface } from 'node:readline/promises';
import { Command } from 'commander';
import { ContextError } from '../../core/errors.js';
import { formatDuration } from '../../core/units.js';
import type { LockInfo } from '../../store/types.js';
import { usageError } from '../CliError.js';
import { withHelp } from '../help.js';
import { table } from '../output.js';
import { globalFlags, type Session, withStore } from '../session.js';

interface BreakFlags {
  readonly yes?: true;
}

export function locksCommand(signal: AbortSignal): Command {
  const command = new Command('locks')
    .description('Show who holds locks and who waits for them, or break one')
    .action((_: object, self: Command) => withStore(globalFlags(self), signal, list));
  command.addCommand(breakCommand(signal));
  return withHelp(command, {
    examples: [
      ['lukhas-context locks', 'holders with their fencing tokens, and waiters in their order'],
      ['lukhas-context locks --json', '[{"id":"user-42","holders":[{"mode":"write",...}],"waiters":[]}]'],
      ['lukhas-context locks break user-42', 'take a lock from a holder that hangs'],
    ],
  });
}

function breakCommand(signal: AbortSignal): Command {
  const command = new Command('break')
    .description('Take the lock on a context from all that hold it: what they write with it is refused from then on')
    .argument('<id>', 'the context')
    .option('--yes', 'do not ask')
    .action((id: string, flags: BreakFlags, self: Command) =>
      withStore(globalFlags(self), signal, (session) => breakLock(session, id, flags)),
    );
  return withHelp(command, {
    examples: [
      ['lukhas-context locks break user-42', 'shows the holder and asks first'],
      ['lukhas-context locks break user-42 --yes', 'without asking, for scripts'],
    ],
    exits: {
      2: 'bad usage, or no terminal to ask on and no --yes; nothing was sent',
      3: 'nobody holds it, or the answer was no',
    },
  });
}

async function list({ store, output, signal }: Session): Promise<undefined> {
  const locks = await store.locks({ signal });
  if (output.json) output.document(locks);
  else if (locks.length === 0) output.note('No locks.');
  else output.line(table(output, ['ID', 'WHO', 'MODE', 'INSTANCE', '>TOKEN', '>AGE', '>LEFT'], locks.flatMap(rows)));
}

/** One line a holder, then one a waiter, by its place. */
function rows({ id, holders, waiters }: LockInfo): string[][] {
  return [
    ...holders.map(({ mode, instance, token, ageMs, ttlLeftMs }) => [
      ...[id, 'holds', mode, instance],
      ...[String(token), formatDuration(ageMs), formatDuration(ttlLeftMs)],
    ]),
    ...waiters.map(({ mode, instance, ageMs }, place) => [
      id,
      `waits ${place + 1}`,
      mode,
      instance,
      '',
      formatDuration(ageMs),
      '',
    ]),
  ];
}

async function breakLock(session: Session, id: string, { yes }: BreakFlags): Promise<undefined> {
  const { store, output, signal } = session;
  if (!yes) await confirm(session, id);
  const broken = await store.breakLock(id, { signal });
  if (broken.length === 0) throw notLocked(id);
  if (output.json) output.document({ id, broken });
  else for (const holder of broken) output.line(`${id}  broken  ${described(holder)}`);
}

/** Shows what would be broken, and asks. */
async function confirm({ store, flags, signal }: Session, id: string): Promise<void> {
  if (!process.stdin.isTTY || !process.stderr.isTTY || flags.json)
    throw usageError('breaking a lock needs a yes: there is no terminal to ask on; give --yes');
  const [found] = await store.locks({ ids: [id], signal });
  if (found === undefined || found.holders.length === 0) throw notLocked(id);
  const prompt = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const shown = found.holders.map((holder) => `  ${described(holder)}\n`).join('');
    const answer = await prompt.question(`${id} is held by\n${shown}Refuse all that it writes from now on? [y/N] `, { signal });
    if (!/^y(es)?$/i.test(answer.trim())) throw new ContextError('LOCKED', `${id}: the lock was left as it is`, { id });
  } finally {
    prompt.close();
  }
}

const described = ({ mode, instance, token, ageMs, ttlLeftMs }: LockInfo['holders'][number]): string =>
  `${instance} (${mode}, fencing token ${token}, for ${formatDuration(ageMs)}, ${formatDuration(ttlLeftMs)} left unless it is extended)`;

const notLocked = (id: string): ContextError => new ContextError('NOT_FOUND', `${id}: nobody holds a lock on it`, { id });
