import { isHelpOrVersion, reportFailure } from './failure.js';
import { createProgram } from './program.js';

/** Runs a command line; its exit code is `process.exitCode`. `signal` is aborted by an interruption. */
export async function execute(args: readonly string[], signal: AbortSignal): Promise<void> {
  try {
    await createProgram(signal).parseAsync(args, { from: 'user' });
  } catch (error) {
    // Whatever failed after an interruption failed because of it.
    if (!isHelpOrVersion(error) && !signal.aborted)
      process.exitCode = reportFailure(error, { json: args.includes('--json'), verbose: args.includes('--verbose') });
  }
}
