import { Command } from 'commander';
import type { RepairResult } from '../../store/types.js';
import { withHelp } from '../help.js';
import type { Output } from '../output.js';
import { globalFlags, type Session, withStore } from '../session.js';

export function repairCommand(signal: AbortSignal): Command {
  const command = new Command('repair')
    .description('Look at all that is stored of contexts, and repair what is damaged')
    .argument('<ids...>', 'the contexts')
    .action((ids: string[], _flags: object, self: Command) =>
      withStore(globalFlags(self), signal, (session) => repair(session, ids)),
    );
  return withHelp(command, {
    examples: [
      ['lukhas-context repair user-42', 'document, log and checkpoints of one context'],
      [
        'lukhas-context repair user-42 --json',
        '[{"id":"user-42","outcome":"repaired","source":"log","version":7,"findings":[...]}]',
      ],
    ],
    exits: {
      3: 'a context does not exist (and none is damaged)',
      4: 'a context is damaged, and nobody has a good copy: it is in quarantine',
    },
  });
}

async function repair({ store, output, signal }: Session, ids: readonly string[]): Promise<number> {
  const results: RepairResult[] = [];
  for (const id of ids) {
    const result = await store.repair(id, { signal });
    results.push(result);
    if (!output.json) output.line(verdict(output, result));
  }
  if (output.json) output.document(results);
  if (results.some(({ outcome }) => outcome === 'quarantined' || outcome === 'changing')) return 4;
  return results.some(({ outcome }) => outcome === 'absent') ? 3 : 0;
}

const SOURCES = {
  reread: 'by reading it again',
  log: 'from what is stored: document, log, checkpoint',
  peer: 'from another instance',
  'redis-replica': 'from a replica of Redis',
} as const;

function verdict({ colors }: Output, { id, outcome, source, version, findings, offset }: RepairResult): string {
  const words = {
    sound: colors.green('sound'),
    repaired: colors.yellow('repaired'),
    removed: colors.yellow('removed'),
    quarantined: colors.red('QUARANTINED'),
    absent: colors.yellow('missing'),
    changing: colors.red('CHANGING'),
  };
  const how = outcome === 'repaired' && source !== null ? `  ${SOURCES[source]}` : '';
  const where = offset === null ? '' : `, first at byte ${offset}`;
  const lines = findings.map(({ place, name, expected, found }) => `     ${place} ${name}: expected ${expected}, found ${found}`);
  return [`${words[outcome]}  ${id}  version ${version}${how}${where}`, ...lines].join('\n');
}
