import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { track } from './cleanup.js';
import { waitFor } from './waitFor.js';

export interface CliOptions {
  readonly url: string;
  readonly namespace?: string;
  /** What it reads on stdin; without it stdin is empty. */
  readonly input?: string | Buffer;
  readonly env?: Readonly<Record<string, string>>;
  /** Runs it on a terminal of its own (by `script` of util-linux): what it prints, and what is typed, stands on `stdout`. */
  readonly terminal?: true;
}

export interface CliResult {
  /** Exit code; `null` where a signal ended it. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));
/** The sources, or the build that `LUKHAS_TEST_CLI` names: it starts in a third of the time, and is what users get. */
export const PROGRAM: readonly string[] = process.env.LUKHAS_TEST_CLI
  ? [process.env.LUKHAS_TEST_CLI]
  : ['--import', import.meta.resolve('tsx'), MAIN];

/** A command line that runs, as a process of its own; its environment names Redis and namespace. */
export class CliProcess {
  stdout = '';
  stderr = '';
  readonly child: ChildProcess;
  readonly #ended: Promise<CliResult>;

  constructor(args: readonly string[], { url, namespace, input, env, terminal }: CliOptions) {
    const { FORCE_COLOR: _, ...inherited } = process.env;
    const words = [process.execPath, ...PROGRAM, ...args];
    const [program = '', ...rest] = terminal ? ['script', '-qec', words.map(quoted).join(' '), '/dev/null'] : words;
    this.child = spawn(program, rest, {
      env: { ...inherited, REDIS_URL: url, ...(namespace === undefined ? {} : { LUKHAS_NAMESPACE: namespace }), ...env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
    });
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    this.child.stdin?.on('error', () => {}); // it ended without reading
    // the end of its input would end the terminal before anything is asked
    if (!terminal) this.child.stdin?.end(input ?? '');
    const untrack = track({ end: async () => this.#kill(), endNow: () => this.#kill() });
    this.#ended = once(this.child, 'close').then(() => {
      untrack();
      return { code: this.child.exitCode, stdout: this.stdout, stderr: this.stderr };
    });
  }

  /** Waits until it has asked, and types a line. */
  async answer(question: string, line: string): Promise<void> {
    await waitFor(() => this.stdout.includes(question) || this.child.exitCode !== null, { what: `the question ${question}` });
    this.child.stdin?.write(`${line}\n`);
  }

  /** Resolves when it has ended and all it printed has been read. */
  result(): Promise<CliResult> {
    return this.#ended;
  }

  /** Waits until so many whole lines stand on stdout, and gives them back. */
  async lines(count: number): Promise<string[]> {
    const lines = await waitFor(
      () => {
        if (this.child.exitCode !== null) throw new Error(`ended with ${this.child.exitCode}: ${this.stderr}`);
        const whole = this.stdout.split('\n').slice(0, -1);
        return whole.length >= count && whole;
      },
      { what: `${count} lines of output`, limitMs: 15_000 },
    );
    return lines;
  }

  #kill(): void {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill('SIGKILL');
  }
}

/** Runs a command line to its end. */
export function runCli(args: readonly string[], options: CliOptions): Promise<CliResult> {
  return new CliProcess(args, options).result();
}

const quoted = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`;
