import { type ChildProcess, execFileSync, spawn } from 'node:child_process';

/** A command in a process group of its own, so that it ends with everything it started. Its output goes where ours goes. */
export class ProcessGroup {
  static readonly #running = new Set<ProcessGroup>();
  readonly #process: ChildProcess;
  readonly #exit: Promise<string | undefined>;

  constructor(
    command: string,
    args: readonly string[],
    options: { readonly cwd: string; readonly env?: NodeJS.ProcessEnv; readonly silent?: boolean },
  ) {
    const { silent, ...where } = options;
    const output = silent ? 'ignore' : 'inherit';
    this.#process = spawn(command, args, { ...where, stdio: ['ignore', output, output], detached: true });
    ProcessGroup.#running.add(this);
    this.#exit = new Promise((resolve) => {
      this.#process.once('error', (error) => resolve(`could not be started: ${error.message}`));
      this.#process.once('exit', (code, signal) =>
        resolve(signal ? `ended by ${signal}` : code === 0 ? undefined : `exit code ${code}`),
      );
    });
    void this.#exit.then(() => ProcessGroup.#running.delete(this));
  }

  /** Ends every group that runs; for the end of this process. */
  static async endAll(): Promise<void> {
    await Promise.all([...ProcessGroup.#running].map((group) => group.end()));
  }

  /** Resolves when the command itself has ended: with `undefined` after exit code 0, otherwise with what happened. */
  get ended(): Promise<string | undefined> {
    return this.#exit;
  }

  /** SIGTERM to all of it, so that it can end servers and containers that are not in the group, and SIGKILL after `graceMs`. */
  async end(graceMs = 5_000): Promise<void> {
    this.#signal('SIGTERM');
    await this.leftBehind(graceMs);
    this.kill();
    await this.#exit;
  }

  /** SIGKILL to all of it. */
  kill(): void {
    this.#signal('SIGKILL');
  }

  #signal(signal: NodeJS.Signals): void {
    const { pid } = this.#process;
    if (pid === undefined) return;
    try {
      process.kill(-pid, signal);
    } catch {
      // nobody is left
    }
  }

  /** Command lines of the processes that are still there in the group, given `graceMs` to end by themselves. */
  async leftBehind(graceMs: number): Promise<readonly string[]> {
    const deadline = performance.now() + graceMs;
    for (;;) {
      const left = this.#members();
      if (left.length === 0 || performance.now() > deadline) return left;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  #members(): readonly string[] {
    const { pid } = this.#process;
    if (pid === undefined) return [];
    let list: string;
    try {
      list = execFileSync('ps', ['-A', '-o', 'pid=,pgid=,stat=,args='], { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 });
    } catch {
      return []; // no ps, or one without these options: this look is an extra
    }
    const members: string[] = [];
    for (const line of list.split('\n')) {
      const [, member, group, state, args] = /^\s*(\d+)\s+(\d+)\s+(\S+)\s+(.*)$/.exec(line) ?? [];
      // A zombie has ended; whoever should wait for it has not done so yet.
      if (Number(group) === pid && state?.startsWith('Z') === false) members.push(`${args} (process ${member})`);
    }
    return members;
  }
}
