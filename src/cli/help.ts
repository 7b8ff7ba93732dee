import type { Command } from 'commander';

export interface HelpFacts {
  /** Command lines without the program's name, each with what it does. */
  readonly examples: readonly (readonly [line: string, what: string])[];
  /** What this command says of an exit code; the others have the common meaning. */
  readonly exits?: Readonly<Record<number, string>>;
}

const EXIT_CODES: Readonly<Record<number, string>> = {
  0: 'done',
  1: 'unexpected error',
  2: 'bad usage or input; nothing was sent',
  3: 'refused by the state of a context (not found, conflict, ...)',
  4: 'integrity: stored data does not match its checksums',
  5: 'Redis: unreachable, refused, or unfit',
  6: 'time: timed out, or the outcome is unknown',
  130: 'stopped by SIGINT (143: by SIGTERM)',
};

/** Appends the sections "Examples" and "Exit codes" to a command's help. */
export function withHelp(command: Command, facts: HelpFacts): Command {
  const lines = facts.examples.map(([line]) => line);
  const width = Math.max(...lines.map((line) => line.length));
  const examples = facts.examples.map(([line, what]) =>
    width > 60 ? `  # ${what}\n  ${line}` : `  ${line.padEnd(width)}  # ${what}`,
  );
  const exits = Object.entries({ ...EXIT_CODES, ...facts.exits }).map(([code, what]) => `  ${code.padEnd(3)}  ${what}`);
  return command.addHelpText('after', `\nExamples:\n${examples.join('\n')}\n\nExit codes:\n${exits.join('\n')}`);
}
