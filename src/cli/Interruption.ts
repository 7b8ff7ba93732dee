const EXIT_CODES = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129, EPIPE: 0 } as const;

/** Why a command stops early without having failed: a signal, or a reader of its output that went away (`| head`). */
export class Interruption extends Error {
  override readonly name = 'Interruption';
  readonly reason: keyof typeof EXIT_CODES;

  constructor(reason: keyof typeof EXIT_CODES) {
    super(reason === 'EPIPE' ? 'The reader of the output went away.' : `Stopped by ${reason}.`);
    this.reason = reason;
  }

  get exitCode(): number {
    return EXIT_CODES[this.reason];
  }

  /** A signal that aborts with the first of these; a second signal of the same kind ends the process at once. */
  static listen(): AbortSignal {
    const controller = new AbortController();
    for (const reason of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.on(reason, () => {
        if (controller.signal.aborted) process.exit(EXIT_CODES[reason]);
        controller.abort(new Interruption(reason));
      });
    }
    for (const stream of [process.stdout, process.stderr]) {
      stream.on('error', (error: NodeJS.ErrnoException) => {
        if (error.code !== 'EPIPE') throw error;
        controller.abort(new Interruption('EPIPE'));
      });
    }
    return controller.signal;
  }

  /** The interruption behind an aborted signal. */
  static of(signal: AbortSignal): Interruption | undefined {
    return signal.aborted && signal.reason instanceof Interruption ? signal.reason : undefined;
  }
}
