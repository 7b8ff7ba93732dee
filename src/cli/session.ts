import type { Command } from 'commander';
import type { ContextStore } from '../store/ContextStore.js';
import type { StoreOptions } from '../store/options.js';
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

/**
 * What a store is opened with; `--timeout` limits the connection as well as each call. A command does what it was asked for, and leaves the
 * background work of the namespace to others: with `external` not even its heartbeat sweeps.
 */
export async function storeOptions(flags: GlobalFlags): Promise<StoreOptions> {
  const { redis, namespace, timeout } = flags;
  const limits = timeout === undefined ? {} : { timeout, connectTimeout: timeout };
  return { redis, namespace, workers: 'external', logger: flags.verbose ? await stderrLogger() : false, ...limits };
}

/** On stderr: stdout holds the command's answer and nothing else. */
async function stderrLogger(): Promise<Logger> {
  const { destination, pino } = await import('pino');
  const logger: Logger = pino({ level: 'debug' }, destination({ fd: 2, sync: true }));
  return logger;
}

/** Opens the store, runs `body`, closes the store whatever happened; what `body` returns becomes the exit code. */
export async function withStore(
  flags: GlobalFlags,
  signal: AbortSignal,
  body: (session: Session) => Promise<number | undefined>,
  further: Pick<StoreOptions, 'log' | 'queues' | 'limits'> = {},
): Promise<void> {
  // Loaded when it is needed: help and refused input come in half the time without.
  const { ContextStore } = await import('../store/ContextStore.js');
  // After an interruption the process ends, and an attempt under way with it.
  const store = await orAborted(ContextStore.connect({ ...(await storeOptions(flags)), ...further }), signal);
  try {
    const exitCode = await body({ store, flags, output: createOutput(flags.json), signal });
    if (exitCode !== undefined) process.exitCode = exitCode;
  } finally {
    await store.close();
  }
}
