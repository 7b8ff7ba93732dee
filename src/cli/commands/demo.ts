import { Command } from 'commander';
import { withHelp } from '../help.js';
import { decimal, integer } from '../input.js';
import { globalFlags, withStore } from '../session.js';

interface DemoFlags {
  readonly instances: number;
  readonly seed: string;
  readonly rate: number;
  readonly conversations: number;
  readonly turns: number;
  readonly cycles: number;
  readonly revisions?: number;
  readonly sequences?: string;
  readonly keep?: true;
  readonly progress?: true;
}

export function demoCommand(signal: AbortSignal): Command {
  const command = new Command('demo')
    .description('Several processes share real documents over one Redis, and are compared with it byte for byte')
    .option('--instances <n>', 'processes', integer(1), 4)
    .option('--seed <text>', 'draws the conversations and who writes what', '1')
    .option('--rate <n>', 'revisions a second in all; 0: as fast as possible', decimal, 10)
    .option('--conversations <n>', 'growing conversations', integer(0), 3)
    .option('--turns <n>', 'turns of each conversation', integer(0), 60)
    .option('--revisions <n>', 'revisions replayed of each sequence at most (default: all)', integer(0))
    .option('--cycles <n>', 'times each sequence is replayed', integer(1), 1)
    .option('--sequences <folder>', 'replay sequences from another folder')
    .option('--keep', 'leave the contexts in Redis, and say where')
    .option('--progress', 'with --json: progress as one JSON object a line on stderr')
    .action((flags: DemoFlags, self: Command) => demo(self, signal, flags));
  return withHelp(command, {
    examples: [
      ['lukhas-context demo', 'about 25 seconds, with a live table'],
      ['lukhas-context demo --rate 0 --json', 'as fast as possible, one JSON document at the end'],
      ['lukhas-context demo --instances 8 --seed 7 --keep', 'other conversations, to look at with redis-cli afterwards'],
    ],
    exits: {
      0: 'every copy in every instance equals Redis, nothing was missed',
      1: 'a process died',
      4: 'a difference, a checksum failure, or a missed version',
    },
  });
}

async function demo(command: Command, signal: AbortSignal, flags: DemoFlags): Promise<void> {
  // Loaded here: the other commands start faster without.
  const [{ runDemo }, { workload }] = await Promise.all([import('../demo/runDemo.js'), import('../demo/workload.js')]);
  const contexts = workload(flags);
  const namespace = `demo-${flags.seed.replace(/[^A-Za-z0-9.-]/g, '_').slice(0, 40)}-${Date.now().toString(36)}`;
  const options = { ...flags, keep: flags.keep ?? false, progress: flags.progress ?? false };
  const flagsOfRun = { ...globalFlags(command), namespace };
  // This store writes nothing; what it deletes at the end need not leave its log for a day.
  const further = { log: { tombstone: '1s' } };
  await withStore(flagsOfRun, signal, (session) => runDemo(session, contexts, options), further);
}
