import { Command } from 'commander';
import { ContextError } from '../../core/errors.js';
import type { VerifyResult } from '../../store/types.js';
import { usageError } from '../CliError.js';
import { withHelp } from '../help.js';
import { count, type Output } from '../output.js';
import { globalFlags, type Session, withStore } from '../session.js';
import { pages } from './list.js';

interface VerifyFlags {
  readonly all?: true;
  readonly prefix?: string;
}

/** Contexts read at once: enough to hide the round trips, few enough to leave Redis to others. */
const CONCURRENCY = 8;

export function verifyCommand(signal: AbortSignal): Command {
  const command = new Command('verify')
    .description('Compare stored contexts with their checksums, length and log')
    .argument('[ids...]', 'the contexts')
    .option('--all', 'every context of the namespace')
    .option('--prefix <text>', 'every context whose id begins with this')
    .action(async (ids: string[], flags: VerifyFlags, self: Command) => {
      const many = flags.all === true || flags.prefix !== undefined;
      if (many === ids.length > 0) throw usageError('name the contexts to verify, or pass --all or --prefix');
      await withStore(globalFlags(self), signal, (session) => verify(session, many ? allIds(session, flags) : ids, many));
    });
  return withHelp(command, {
    examples: [
      ['lukhas-context verify user-42 user-43', 'two contexts'],
      ['lukhas-context verify --all', 'all of them'],
      ['lukhas-context verify --prefix user- --json', '{"ok":true,"verified":2,"bad":0,"missing":[],"results":[...]}'],
    ],
    exits: { 3: 'a named context does not exist (and none is bad)', 4: 'at least one context is bad' },
  });
}

async function* allIds(session: Session, { prefix }: VerifyFlags): AsyncGenerator<string> {
  const seen = new Set<string>();
  for await (const { items } of pages(session, { all: true, ...(prefix === undefined ? {} : { prefix }) })) {
    // A page can repeat a context while others are written.
    for (const { id } of items) if (!seen.has(id)) yield id;
    for (const { id } of items) seen.add(id);
  }
}

/** With `many`, contexts that vanish meanwhile are no mistake, and only the bad ones are printed line by line. */
async function verify(session: Session, ids: AsyncIterable<string> | Iterable<string>, many: boolean): Promise<number> {
  const { output } = session;
  const results: VerifyResult[] = [];
  const missing: string[] = [];
  let verified = 0;
  let bad = 0;
  for await (const { id, result } of verifyEach(session, ids)) {
    if (result) {
      verified++;
      if (!result.ok) bad++;
      if (output.json) results.push(result);
      else if (!result.ok || !many) output.line(verdict(output, result));
    } else if (!many) {
      missing.push(id);
      if (!output.json) output.line(`${output.colors.yellow('missing')}  ${id}`);
    }
    if (many && process.stderr.isTTY && !output.json && verified % 100 === 0)
      process.stderr.write(`\r${count(verified)} verified`);
  }
  if (many && process.stderr.isTTY && !output.json) process.stderr.write('\r\x1b[K');
  if (output.json) output.document({ ok: bad === 0 && missing.length === 0, verified, bad, missing, results });
  else if (many) output.line(`${count(verified)} verified, ${count(bad)} bad`);
  return bad > 0 ? 4 : missing.length > 0 ? 3 : 0;
}

/** Results in the order of the ids, several reads under way at a time. */
async function* verifyEach(
  { store, signal }: Session,
  ids: AsyncIterable<string> | Iterable<string>,
): AsyncGenerator<{ readonly id: string; readonly result: VerifyResult | null }> {
  const window: Promise<{ id: string; result: VerifyResult | null } | { failed: unknown }>[] = [];
  const settle = async (): Promise<{ id: string; result: VerifyResult | null }> => {
    const done = await window.shift();
    if (!done || 'failed' in done) throw done?.failed;
    return done;
  };
  for await (const id of ids) {
    if (signal.aborted) throw new ContextError('ABORTED', 'stopped before everything was verified');
    // A rejection is kept as a value: it may have to wait for its turn, and must not go unhandled until then.
    window.push(
      store
        .verify(id, { signal })
        .then((result) => ({ id, result }))
        .catch((failed: unknown) => ({ failed })),
    );
    if (window.length >= CONCURRENCY) yield await settle();
  }
  while (window.length > 0) yield await settle();
}

function verdict(output: Output, { id, ok, version, bytes, checks }: VerifyResult): string {
  const { colors } = output;
  const head = `${ok ? colors.green('ok') : colors.red('BAD')}  ${id}  version ${version}  ${count(bytes)} bytes`;
  return [head, ...checks.filter((check) => !check.ok).map((check) => `     ${checkLine(output, check)}`)].join('\n');
}

/** One check of a {@link VerifyResult} in words. */
export function checkLine({ colors }: Output, { name, ok, stored, computed }: VerifyResult['checks'][number]): string {
  const found = ok ? stored : `stored ${stored}, computed ${computed}`;
  return `${ok ? colors.green('ok ') : colors.red('BAD')} ${name.padEnd(6)}  ${found}`;
}
