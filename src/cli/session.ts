import type { Command } from 'commander';
import { destination, pino } from 'pino';
import { ContextStore } from '../store/ContextStore.js';
import type { Duration, Logger } from '../store/types.js';
import { duration } from './input.js';
import { orAborted } from './orAborted.js';
import { createOutput, type Output } from './output.js';

export const DEFAULT_REDIS = 'redis://127.0.0.1:6379';
export const DEFAULT_NAMESPACE = 'default';

/** The options every command takes, as parsed. */
export interface GlobalFlags {
  readonly redis: string;
  readonly namespace: string;
  readonly timeout?: Duration;
  readonly json: boolean;
  readonly verbose: boolean;
}

/** What a command works with while its store is open. */
export interface Session {
  readonly store: ContextStore;
  readonly flags: GlobalFlags;
  readonly output: Output;
  /** Aborted by SIGINT, SIGTERM and a closed stdout, with an {@link Interruption} as its reason. */
  readonly signal: AbortSignal;
}

/** The global options, with an empty environment variable read as one that is not set. */
export function globalFlags(command: Command): GlobalFlags {
  const flags = command.optsWithGlobals<{ redis?: string; namespace?: string; timeout?: string; json?: true; verbose?: true }>();
  return {
    redis: flags.redis || DEFAULT_REDIS,
    namespace: flags.namespace || DEFAULT_NAMESPACE,
    ...(flags.timeout === undefined ? {} : { timeout: duration(flags.timeout) }),
    json: flags.json ?? false,
    verbose: flags.verbose ?? false,
  };
}

/** What a store is opened with; `--timeout` limits the connection as well as each call. */
export function storeOptions(flags: GlobalFlags): {
  redis: string;
  namespace: string;
  logger: Logger | false;
  timeout?: Duration;
  connectTimeout?: Duration;
} {
  const { redis, namespace, timeout } = flags;
  const limits = timeout === undefined ? {} : { timeout, connectTimeout: timeout };
  // On stderr: stdout holds the command's answer and nothing else.
  const logger = flags.verbose ? pino({ level: 'debug' }, destination({ fd: 2, sync: true })) : false;
  return { redis, namespace, logger, ...limits };
}

/** Opens the store, runs `body`, closes the store whatever happened; what `body` returns becomes the exit code. */
export async function withStore(
  flags: GlobalFlags,
  signal: AbortSignal,
  body: (session: Session) => Promise<number | undefined>,
): Promise<void> {
  const opening = ContextStore.connect(storeOptions(flags));
  // After an interruption the process ends, and the attempt with it.
  const store = await orAborted(opening, signal);
  try {
    const exitCode = await body({ store, flags, output: createOutput(flags.json), signal });
    if (exitCode !== undefined) process.exitCode = exitCode;
  } finally {
    await store.close();
  }
}
