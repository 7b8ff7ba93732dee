import { formatBytes } from '../core/units.js';
import { contextCount } from './output.js';

const WIDTH = 24;
/** Pauses between two drawings, ms: on a terminal, and as lines of their own elsewhere. */
const TERMINAL_MS = 100;
const LINES_MS = 1_000;

/** Progress on stderr: one line that is drawn over on a terminal; elsewhere nothing, or a line a second where that was asked for. */
export class ProgressBar {
  readonly #tty = process.stderr.isTTY === true;
  readonly #shown: boolean;
  readonly #begun = performance.now();
  #drawn = Number.NEGATIVE_INFINITY;

  constructor({ json, asked }: { readonly json: boolean; readonly asked: boolean }) {
    this.#shown = asked || (this.#tty && !json);
  }

  get seconds(): number {
    return Math.round(performance.now() - this.#begun) / 1000;
  }

  /** @param share - of the whole, 0 to 1 */
  show(what: string, share: number, contexts: number, bytes: number): void {
    const now = performance.now();
    if (!this.#shown || now - this.#drawn < (this.#tty ? TERMINAL_MS : LINES_MS)) return;
    this.#drawn = now;
    const part = Math.max(0, Math.min(1, share));
    const bar = '#'.repeat(Math.round(part * WIDTH)).padEnd(WIDTH, '.');
    const rate = formatBytes(Math.round((bytes * 1000) / Math.max(now - this.#begun, 1)));
    const line = `${what} [${bar}] ${Math.round(part * 100)}%  ${contextCount(contexts)}  ${formatBytes(bytes)}  ${rate}/s`;
    process.stderr.write(this.#tty ? `\r\x1b[K${line}` : `${line}\n`);
  }

  clear(): void {
    if (this.#shown && this.#tty) process.stderr.write('\r\x1b[K');
  }
}
