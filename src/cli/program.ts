import { Command, Option } from 'commander';
import { deleteCommand } from './commands/delete.js';
import { demoCommand } from './commands/demo.js';
import { doctorCommand } from './commands/doctor.js';
import { exportCommand } from './commands/export.js';
import { getCommand } from './commands/get.js';
import { historyCommand } from './commands/history.js';
import { importCommand } from './commands/import.js';
import { inspectCommand } from './commands/inspect.js';
import { listCommand } from './commands/list.js';
import { locksCommand } from './commands/locks.js';
import { patchCommand } from './commands/patch.js';
import { preserveCommand } from './commands/preserve.js';
import { quarantineCommand } from './commands/quarantine.js';
import { reconcileCommand } from './commands/reconcile.js';
import { repairCommand } from './commands/repair.js';
import { restoreCommand } from './commands/restore.js';
import { scrubCommand } from './commands/scrub.js';
import { setCommand } from './commands/set.js';
import { snapshotsCommand } from './commands/snapshots.js';
import { statsCommand } from './commands/stats.js';
import { touchCommand } from './commands/touch.js';
import { upgradeCommand } from './commands/upgrade.js';
import { verifyCommand } from './commands/verify.js';
import { watchCommand } from './commands/watch.js';
import { workerCommand } from './commands/worker.js';
import { withHelp } from './help.js';
import { packageVersion } from './packageRoot.js';
import { DEFAULT_NAMESPACE, DEFAULT_REDIS } from './session.js';

/** The whole command line. It throws instead of exiting, and prints nothing but help and version by itself. */
export function createProgram(signal: AbortSignal): Command {
  const program = new Command('lukhas-context')
    .description('JSON contexts that many app instances share through Redis')
    .version(packageVersion(), '--version', 'print the version')
    .helpOption('-h, --help', 'show help')
    .addOption(new Option('--redis <url>', `Redis, redis:// or rediss:// (default: ${DEFAULT_REDIS})`).env('REDIS_URL'))
    .addOption(
      new Option('--namespace <name>', `namespace of the contexts (default: ${DEFAULT_NAMESPACE})`).env('LUKHAS_NAMESPACE'),
    )
    .option('--timeout <duration>', 'limit of the connection and of each call: ms, or as in 500ms, 10s')
    .option('--json', 'print JSON; errors too, as {"error":{...}} on stderr')
    .option('--verbose', 'log to stderr, and print stacks of errors')
    .configureHelp({ showGlobalOptions: true })
    // Failures are printed in one place, src/cli/failure.ts.
    .configureOutput({ outputError: () => {} })
    .exitOverride();
  // biome-ignore format: the order of the help
  const commands = [
    getCommand, setCommand, patchCommand, deleteCommand, touchCommand, listCommand, watchCommand,
    historyCommand, inspectCommand, verifyCommand, repairCommand, restoreCommand, quarantineCommand, locksCommand, statsCommand, doctorCommand, upgradeCommand,
    preserveCommand, snapshotsCommand, exportCommand, importCommand, scrubCommand, reconcileCommand, workerCommand, demoCommand,
  ];
  for (const create of commands) {
    const command = create(signal).copyInheritedSettings(program);
    for (const inner of command.commands) inner.copyInheritedSettings(program);
    program.addCommand(command);
  }
  return withHelp(program, {
    examples: [
      [`lukhas-context set user-42 '{"turns":[]}' --ttl 1h`, 'write a context'],
      ['lukhas-context get user-42', 'read it'],
      ['lukhas-context watch user-42 --json', 'follow its changes'],
      ['lukhas-context doctor --redis redis://cache:6379', 'look whether a Redis server is fit'],
      ['lukhas-context demo', 'four processes sharing real documents'],
    ],
  });
}
