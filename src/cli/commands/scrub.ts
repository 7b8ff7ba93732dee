import { Command } from 'commander';
import { type ScrubProgress, scrubPass } from '../../../queues/scrub.js';
import { formatBytes, parseSize } from '../../core/units.js';
import { usageError } from '../CliError.js';
import { withHelp } from '../help.js';
import { count, type Output } from '../output.js';
import { globalFlags, type Session, withStore } from '../session.js';

const LEAST_RATE = 64 * 1024;
/** Damage listed with --json at most; all of it is counted. */
const LISTED = 10_000;
const BAR = 24;

export function scrubCommand(signal: AbortSignal): Command {
  const command = new Command('scrub')
    .description('Verify everything at rest inside Redis now, once, and have repaired what is damaged; no document travels')
    .option('--rate <size>', 'bytes a second at most, as in 8mb', '8mb')
    .action(async ({ rate }: { rate: string }, self: Command) => {
      const bytes = parseSize(rate, '--rate');
      if (bytes < LEAST_RATE) throw usageError(`--rate is ${rate}; it must be at least 64kb`);
      await withStore(globalFlags(self), signal, (session) => scrub(session, bytes));
    });
  return withHelp(command, {
    examples: [
      ['lukhas-context scrub --namespace agents', 'one pass, with progress on a terminal'],
      ['lukhas-context scrub --rate 64mb', 'faster: Redis hashes some 500 MB a second, and blocks for 0.3 ms a step'],
      ['lukhas-context scrub --json', '{"ok":true,"checked":2,"bytes":824,"damaged":0,"healed":0,...}'],
    ],
    exits: { 0: 'all is sound, or was healed', 4: 'damage was found that could not be healed, or is in quarantine' },
  });
}

async function scrub({ store, output, signal }: Session, rate: number): Promise<number> {
  const damage: { id: string; what: string; healed: boolean }[] = [];
  const showing = process.stderr.isTTY && !output.json;
  const begun = performance.now();
  const result = await scrubPass(store.maintenance, {
    signal,
    rate,
    heal: (id) => store.maintenance.repair(id, { signal }),
    found: ({ id, what }, healed) => {
      if (damage.length < LISTED) damage.push({ id, what, healed });
      if (showing) process.stderr.write('\r\x1b[K');
      if (!output.json) output.line(verdict(output, id, what, healed));
    },
    progress: (progress) => {
      if (showing) process.stderr.write(`\r\x1b[K${bar(progress, performance.now() - begun)}`);
    },
  });
  if (showing) process.stderr.write('\r\x1b[K');
  const { checked, bytes, damaged, healed, quarantined } = result;
  const ok = damaged === healed && quarantined === 0;
  const complete = !signal.aborted;
  const seconds = Math.round(performance.now() - begun) / 1000;
  if (output.json) output.document({ ok, complete, checked, bytes, damaged, healed, quarantined, seconds, damage });
  else {
    const found = damaged === 0 ? 'all sound' : `${count(damaged)} damaged, ${count(healed)} of them healed`;
    const kept = quarantined === 0 ? '' : `, ${count(quarantined)} in quarantine`;
    const end = complete ? '' : 'stopped early: ';
    output.line(
      `${end}${count(checked)} ${checked === 1 ? 'context' : 'contexts'}, ${formatBytes(bytes)} in ${seconds} s: ${found}${kept}`,
    );
  }
  return ok ? 0 : 4;
}

const verdict = ({ colors }: Output, id: string, what: string, healed: boolean): string =>
  `${healed ? colors.yellow('healed ') : colors.red('DAMAGED')}  ${id}  ${what}`;

function bar({ checked, total, bytes }: ScrubProgress, ms: number): string {
  const share = total === 0 ? 1 : Math.min(1, checked / total);
  const drawn = '#'.repeat(Math.round(share * BAR)).padEnd(BAR, '.');
  const rate = formatBytes(Math.round((bytes * 1000) / Math.max(ms, 1)));
  return `[${drawn}] ${Math.round(share * 100)}%  ${count(checked)} of ${count(total)} contexts  ${formatBytes(bytes)}  ${rate}/s`;
}
