/** What several processes asked of a system and were answered, with one clock: what the checkers of histories check. */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';

/** One operation on one thing. */
export interface Operation<I = unknown, O = unknown> {
  /** Who asked. */
  readonly process: string;
  /** What was asked about; the operations on one key know nothing of those on another. */
  readonly key: string;
  readonly input: I;
  /** What was answered. Absent: nobody knows whether it has happened, happens later, or never. */
  readonly output?: O;
  /** Nanoseconds on a clock that all processes share. */
  readonly start: number;
  /** Infinity where there is no answer. */
  readonly end: number;
}

/** One line of a recorded history. */
type Line =
  | {
      readonly kind: 'invoke';
      readonly process: string;
      readonly op: number;
      readonly at: number;
      readonly key: string;
      readonly input: unknown;
    }
  | { readonly kind: 'ok'; readonly process: string; readonly op: number; readonly at: number; readonly output: unknown }
  | {
      readonly kind: 'fail' | 'unknown';
      readonly process: string;
      readonly op: number;
      readonly at: number;
      readonly why: string;
    };

/**
 * The machine's monotonic clock, which all of its processes share, ns. Past 2^53 (104 days of uptime) it is rounded: then what was an
 * order becomes a tie, and a tie counts as overlapping.
 */
export const nowNs = (): number => Number(process.hrtime.bigint());

/**
 * Records one process's part of a history. With a file each line is handed to the operating system before the operation goes on, so that
 * a process that is killed leaves every operation that it had begun.
 */
export class HistoryRecorder<I = unknown, O = unknown> {
  readonly #process: string;
  readonly #file: number | undefined;
  readonly #lines: string[] = [];
  #operations = 0;

  /** @param process - a name that no other process of the history has */
  constructor(process: string, file?: string) {
    this.#process = process;
    this.#file = file === undefined ? undefined : openSync(file, 'a');
  }

  /** What was recorded, where there is no file. */
  get operations(): Operation<I, O>[] {
    return parseHistory<I, O>([this.#lines.join('')]);
  }

  /** To be called before the operation is sent; gives its number. */
  invoke(key: string, input: I): number {
    this.#operations += 1;
    this.#write({ kind: 'invoke', process: this.#process, op: this.#operations, at: nowNs(), key, input });
    return this.#operations;
  }

  ok(op: number, output: O): void {
    this.#write({ kind: 'ok', process: this.#process, op, at: nowNs(), output });
  }

  /** It has certainly not happened, and never will. */
  fail(op: number, why: string): void {
    this.#write({ kind: 'fail', process: this.#process, op, at: nowNs(), why });
  }

  /** Whether it has happened, or happens later, is not known. */
  unknown(op: number, why: string): void {
    this.#write({ kind: 'unknown', process: this.#process, op, at: nowNs(), why });
  }

  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
  }

  #write(line: Line): void {
    const text = `${JSON.stringify(line)}\n`;
    if (this.#file === undefined) this.#lines.push(text);
    else writeSync(this.#file, text);
  }
}

/** The operations in the files that recorders wrote, in the order in which they began. */
export function readHistory<I, O>(files: readonly string[]): Operation<I, O>[] {
  return parseHistory(files.map((file) => readFileSync(file, 'utf8')));
}

/** As `readHistory`, of the files' texts. What failed with certainty is left out; what follows the last newline is half a line of a process that was killed. */
export function parseHistory<I, O>(texts: readonly string[]): Operation<I, O>[] {
  const operations = new Map<string, Operation<I, O>>();
  for (const text of texts) {
    for (const line of text.split('\n').slice(0, -1)) {
      const parsed = JSON.parse(line) as Line;
      const name = `${parsed.process} ${parsed.op}`;
      const begun = operations.get(name);
      if (parsed.kind === 'invoke') {
        if (begun !== undefined) throw new Error(`operation ${name} begins twice: two processes have the same name`);
        const { process, key, at } = parsed;
        operations.set(name, { process, key, input: parsed.input as I, start: at, end: Number.POSITIVE_INFINITY });
      } else if (begun === undefined) {
        throw new Error(`operation ${name} ends and has not begun`);
      } else if (parsed.kind === 'ok') {
        operations.set(name, { ...begun, output: parsed.output as O, end: parsed.at });
      } else if (parsed.kind === 'fail') {
        operations.delete(name);
      }
    }
  }
  return [...operations.values()].sort((a, b) => a.start - b.start);
}
