import Table from 'cli-table3';
import pc from 'picocolors';

/** Where a command prints: text and tables for people, or JSON. */
export interface Output {
  readonly json: boolean;
  /** True where stdout is a terminal. */
  readonly tty: boolean;
  readonly colors: ReturnType<typeof pc.createColors>;
  /** Prints a line on stdout. */
  line(text?: string): void;
  /** Prints a JSON document on stdout: indented for a terminal, one line otherwise. */
  document(value: unknown): void;
  /** Prints one line of JSON on stdout, whatever it is. */
  record(value: unknown): void;
  /** Prints a remark on stderr; nothing with `--json`. */
  note(text: string): void;
}

export function createOutput(json: boolean): Output {
  const tty = process.stdout.isTTY === true;
  const write = (text: string): void => {
    process.stdout.write(`${text}\n`);
  };
  return {
    json,
    tty,
    colors: pc.createColors(tty && !process.env.NO_COLOR && process.env.TERM !== 'dumb'),
    line: (text = '') => write(text),
    document: (value) => write(tty ? JSON.stringify(value, null, 2) : JSON.stringify(value)),
    record: (value) => write(JSON.stringify(value)),
    note: (text) => {
      if (!json) process.stderr.write(`${text}\n`);
    },
  };
}

// biome-ignore format: one name a line says nothing more
const NO_BORDERS = {
  top: '', 'top-mid': '', 'top-left': '', 'top-right': '', bottom: '', 'bottom-mid': '', 'bottom-left': '', 'bottom-right': '',
  left: '', 'left-mid': '', mid: '', 'mid-mid': '', right: '', 'right-mid': '', middle: '  ',
};

type Align = 'left' | 'right';

/** A light table without borders; a head that begins with `>` aligns its column to the right. */
export function table(output: Output, head: readonly string[], rows: readonly (readonly string[])[]): string {
  const aligns = head.map((title): Align => (title.startsWith('>') ? 'right' : 'left'));
  const drawn = new Table({
    chars: NO_BORDERS,
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [], compact: true },
    colAligns: aligns,
  });
  drawn.push(
    head.map((title) => output.colors.dim(title.replace(/^>/, ''))),
    ...rows.map((row) => [...row]),
  );
  return drawn
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}

/** Lines of `name  value`, the values in one column. */
export function facts(output: Output, entries: readonly (readonly [name: string, value: string])[]): string {
  const width = Math.max(...entries.map(([name]) => name.length));
  return entries.map(([name, value]) => `  ${output.colors.dim(name.padEnd(width))}  ${value}`).join('\n');
}

/** `1,234,567` */
export function count(number: number): string {
  return number.toLocaleString('en-US');
}

/** `1 context`, `1,234 contexts` */
export const contextCount = (number: number): string => `${count(number)} ${number === 1 ? 'context' : 'contexts'}`;

/** UTC to the millisecond: `2026-01-31 12:00:00.000Z`. */
export function time(ms: number): string {
  return new Date(ms).toISOString().replace('T', ' ');
}

/** What is left of a share, in percent: `97.3%`; `-` where there is no whole. */
export function reduction(part: number, whole: number): string {
  return whole === 0 ? '-' : `${((1 - part / whole) * 100).toFixed(1)}%`;
}

/** Cuts `text` to a terminal's width, with an ellipsis; untouched elsewhere. */
export function truncate(output: Output, text: string): string {
  const width = process.stdout.columns;
  return output.tty && width && text.length > width ? `${text.slice(0, width - 1)}…` : text;
}
