import { Command } from 'commander';
import { withHelp } from '../help.js';
import { orAborted } from '../orAborted.js';
import { createOutput } from '../output.js';
import { type GlobalFlags, globalFlags, storeOptions } from '../session.js';

export function doctorCommand(signal: AbortSignal): Command {
  const command = new Command('doctor')
    .description('Look whether a Redis server is fit: version, eviction policy, persistence, clock, rights, scripts')
    .action((_flags: object, self: Command) => doctor(globalFlags(self), signal));
  return withHelp(command, {
    examples: [
      ['lukhas-context doctor', 'the server of REDIS_URL, or the local one'],
      ['lukhas-context doctor --redis redis://user:password@cache:6379 --json', '{"ok":true,"checks":[...]}'],
    ],
    exits: { 0: 'no check failed; there may be warnings', 5: 'a check failed' },
  });
}

async function doctor(flags: GlobalFlags, signal: AbortSignal): Promise<void> {
  const output = createOutput(flags.json);
  const { ContextStore } = await import('../../store/ContextStore.js');
  const { ok, checks } = await orAborted(ContextStore.diagnose(await storeOptions(flags)), signal);
  if (output.json) output.document({ ok, checks });
  else {
    const { colors } = output;
    const marks = { ok: colors.green('ok  '), warn: colors.yellow('warn'), fail: colors.red('FAIL') };
    const width = Math.max(...checks.map(({ name }) => name.length));
    for (const { name, status, detail, advice } of checks) {
      output.line(`${marks[status]}  ${name.padEnd(width)}  ${detail}`);
      if (advice !== null) output.line(`${' '.repeat(width + 8)}${advice}`);
    }
    const of = (wanted: string): number => checks.filter(({ status }) => status === wanted).length;
    output.line(`${of('ok')} ok, ${of('warn')} to look at, ${of('fail')} failed`);
  }
  if (!ok) process.exitCode = 5;
}
