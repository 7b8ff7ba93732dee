import type { ProxyConnection } from './ProxyConnection.js';

/** Waits for a command that holds a pattern, on whichever connection it comes first, and says when the whole of it has been seen. */
export class ReplyTrap {
  /** Settles when the connection to the server on which the command went is over. */
  readonly sprung: Promise<void>;
  readonly #pattern: Buffer;
  /** The last bytes of each connection, one less than the pattern has: a match can lie across two chunks. */
  readonly #tails = new WeakMap<ProxyConnection, Buffer>();
  #met: { readonly connection: ProxyConnection; readonly end: number } | undefined;
  #complete = false;
  #resolve: () => void = () => {};
  #reject: (error: Error) => void = () => {};

  constructor(pattern: string | Buffer) {
    this.#pattern = Buffer.from(pattern);
    if (this.#pattern.length === 0) throw new Error('an empty pattern matches nothing');
    this.sprung = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.sprung.catch(() => {}); // a test may end without having asked
  }

  /**
   * Takes the next chunk of a connection, which begins at offset `start` of its stream and in which commands end at `ends`. True
   * once: for the chunk that completes the command with the pattern.
   */
  springs(connection: ProxyConnection, chunk: Buffer, start: number, ends: readonly number[]): boolean {
    if (!this.#met) {
      const tail = this.#tails.get(connection) ?? Buffer.alloc(0);
      const seen = Buffer.concat([tail, chunk]);
      const at = seen.indexOf(this.#pattern);
      if (at < 0) {
        this.#tails.set(connection, seen.subarray(Math.max(0, seen.length - this.#pattern.length + 1)));
        return false;
      }
      const end = start - tail.length + at + this.#pattern.length;
      this.#met = { connection, end };
      void connection.closed.then(() => this.#over());
    }
    const { connection: trapped, end } = this.#met;
    this.#complete = trapped === connection && ends.some((offset) => offset >= end);
    return this.#complete;
  }

  /** Half a command does not count: the trap waits for the next one. */
  #over(): void {
    if (this.#complete) this.#resolve();
    else this.#met = undefined;
  }

  abandon(): void {
    this.#reject(new Error(`the proxy was closed before ${JSON.stringify(this.#pattern.toString())} went through it`));
  }
}
