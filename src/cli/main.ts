#!/usr/bin/env node
import { isHelpOrVersion, reportFailure } from './failure.js';
import { Interruption } from './Interruption.js';
import { createProgram } from './program.js';

const signal = Interruption.listen();
try {
  await createProgram(signal).parseAsync(process.argv);
} catch (error) {
  // Whatever failed after an interruption failed because of it.
  if (!isHelpOrVersion(error) && !signal.aborted) {
    const flags = process.argv.slice(2);
    process.exitCode = reportFailure(error, { json: flags.includes('--json'), verbose: flags.includes('--verbose') });
  }
}
const interruption = Interruption.of(signal);
// The store is closed by now, or was never open; a connection attempt under way is not worth waiting for.
if (interruption) process.exit(interruption.exitCode);
