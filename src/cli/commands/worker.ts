import { Command, InvalidArgumentError } from 'commander';
import type { WorkDone } from '../../../queues/Workers.js';
import { QUEUE_NAMES, type QueueName } from '../../../queues/work.js';
import type { StoreOptions } from '../../store/options.js';
import type { Logger } from '../../store/types.js';
import { withHelp } from '../help.js';
import { duration, integer } from '../input.js';
import { type Output, time } from '../output.js';
import { globalFlags, type Session, withStore } from '../session.js';

interface WorkerFlags {
  readonly queues?: readonly QueueName[];
  readonly concurrency?: number;
  readonly sweepEvery?: number | string;
  readonly scrubEvery?: number | string;
  readonly scrubRate?: number | string;
  readonly reconcileEvery?: number | string;
}

export function workerCommand(signal: AbortSignal): Command {
  const command = new Command('worker')
    .description(
      'Do the background work of the namespace until stopped: sweep, scrub and reconcile, shared with all other workers',
    )
    .option('--queues <names>', `some of ${QUEUE_NAMES.join(',')} (default: all)`, queueNames)
    .option('--concurrency <n>', 'jobs of one queue at once (default: 1)', integer(1))
    .option('--sweep-every <duration>', 'period of the sweeps (default: 1s)', duration)
    .option('--scrub-every <duration>', 'period of the scrubs (default: 24h)', duration)
    .option('--scrub-rate <size>', 'bytes a second that a scrub verifies, as in 8mb (default: 8mb)', duration)
    .option('--reconcile-every <duration>', 'period of the reconciliations (default: 5m)', duration)
    .action((flags: WorkerFlags, self: Command) =>
      withStore(globalFlags(self), signal, (session) => work(session, flags), { queues: settings(flags) }),
    );
  return withHelp(command, {
    examples: [
      ['lukhas-context worker --namespace agents', 'for stores opened with workers: external'],
      ['lukhas-context worker --queues sweep', 'leave scrub and reconcile to others'],
      ['lukhas-context worker --scrub-every 1h --scrub-rate 32mb', 'schedules are of the namespace: the last to start sets them'],
      ['lukhas-context worker --json', '{"at":...,"queue":"sweep","job":"...","ms":950,"result":{"removed":12,...}}'],
    ],
  });
}

function queueNames(text: string): readonly QueueName[] {
  const names = [...new Set(text.split(',').map((name) => name.trim()))];
  const unknown = names.find((name) => !(QUEUE_NAMES as readonly string[]).includes(name));
  if (unknown !== undefined) throw new InvalidArgumentError(`There is no queue "${unknown}": ${QUEUE_NAMES.join(', ')}.`);
  return names as QueueName[];
}

const settings = ({ sweepEvery, scrubEvery, scrubRate, reconcileEvery }: WorkerFlags): NonNullable<StoreOptions['queues']> => ({
  ...(sweepEvery === undefined ? {} : { sweepEvery }),
  ...(scrubEvery === undefined ? {} : { scrubEvery }),
  ...(scrubRate === undefined ? {} : { scrubRate }),
  ...(reconcileEvery === undefined ? {} : { reconcileEvery }),
});

async function work({ store, output, signal }: Session, flags: WorkerFlags): Promise<undefined> {
  // its libraries are loaded only by who works
  const { Workers } = await import('../../../queues/Workers.js');
  const { queues = QUEUE_NAMES, concurrency = 1 } = flags;
  const workers = await Workers.start(store.maintenance, {
    logger: stderrLines(output),
    queues,
    concurrency,
    done: (done) => tell(output, done),
  });
  const stopped = new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
  if (output.json) output.record({ at: Date.now(), worker: store.instanceId, namespace: store.namespace, queues });
  else output.line(`${store.instanceId} works for ${store.namespace}: ${queues.join(', ')}; stop it with Ctrl-C`);
  await stopped;
  output.note('stopping: what runs is finished first');
  await workers.close();
  return undefined;
}

/** Sweeps that had nothing to do are not worth a line a second. */
function tell(output: Output, done: WorkDone): void {
  const { removed = 0, damaged = 0 } = (done.result ?? {}) as { removed?: number; damaged?: number };
  if (done.queue === 'sweep' && done.error === undefined && removed === 0 && damaged === 0) return;
  if (output.json) {
    output.record({ at: Date.now(), ...done });
    return;
  }
  const what =
    done.error ??
    (done.interrupted ? 'stopped; another worker goes on' : numbers((done.result ?? {}) as Record<string, unknown>));
  output.line(`${time(Date.now())}  ${done.queue.padEnd(9)}  ${done.ms} ms  ${what}`);
}

function numbers(result: Record<string, unknown>): string {
  const flat = Object.entries(result).flatMap(([name, value]) =>
    typeof value === 'number'
      ? [[name, value] as const]
      : name === 'fixed'
        ? Object.entries(value as Record<string, number>)
        : [],
  );
  return flat.map(([name, value]) => `${name} ${value}`).join(', ');
}

/** What goes wrong, on stderr: a worker that runs for weeks must say so without --verbose. */
function stderrLines(output: Output): Logger {
  const write = (level: string, fields: object, message: string): void => {
    const line = output.json ? JSON.stringify({ level, ...fields, message }) : `${level}: ${message} ${JSON.stringify(fields)}`;
    process.stderr.write(`${line}\n`);
  };
  return {
    debug: () => {},
    info: () => {},
    warn: (fields, message) => write('warn', fields, message),
    error: (fields, message) => write('error', fields, message),
  };
}
