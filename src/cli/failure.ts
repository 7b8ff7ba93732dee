import { CommanderError } from 'commander';
import { ContextError, isContextError } from '../core/errors.js';
import { CliError, usageError } from './CliError.js';

/** Prints what went wrong on stderr, one sentence or one JSON object, and gives back the exit code. */
export function reportFailure(error: unknown, how: { json: boolean; verbose: boolean }): number {
  const failure = known(error);
  if (how.json) process.stderr.write(`${JSON.stringify({ error: failure.toJSON() })}\n`);
  else process.stderr.write(`${failure.code}: ${oneLine(failure.message)}\n`);
  if (how.verbose && error instanceof Error && !(error instanceof CommanderError)) process.stderr.write(`${trace(error)}\n`);
  return failure.exitCode;
}

/** Commander ends `--help` and `--version` by throwing; neither is a failure. */
export function isHelpOrVersion(error: unknown): boolean {
  return error instanceof CommanderError && error.exitCode === 0;
}

function known(error: unknown): ContextError | CliError {
  if (error instanceof ContextError || error instanceof CliError) return error;
  if (isContextError(error)) return error;
  if (error instanceof CommanderError) return usageError(usage(error));
  return new CliError('UNEXPECTED', error instanceof Error ? error.message || error.name : String(error), 1, error);
}

function usage(error: CommanderError): string {
  if (error.code === 'commander.help') return 'no command given; --help lists them';
  const sentence = error.message.replace(/^error: /, '').trim();
  return `${sentence.replace(/\.$/, '')}; see --help`;
}

const oneLine = (text: string): string => text.replace(/\s*\n\s*/g, ' ').trim();

function trace(error: Error): string {
  const cause = error.cause instanceof Error ? `\ncaused by ${trace(error.cause)}` : '';
  return `${error.stack ?? error.message}${cause}`;
}
