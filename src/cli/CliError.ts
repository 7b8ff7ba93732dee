/** A failure of the command line itself, that no code of the store's table names. */
export class CliError extends Error {
  override readonly name = 'CliError';
  readonly code: string;
  readonly exitCode: number;

  constructor(code: string, message: string, exitCode: number, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.exitCode = exitCode;
  }

  toJSON(): Record<string, unknown> {
    return { code: this.code, message: this.message };
  }
}

/** The caller asked for something that makes no sense: exit code 2. */
export function usageError(message: string): CliError {
  return new CliError('USAGE', message, 2);
}
