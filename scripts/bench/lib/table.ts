/** Tables of results: numbers for machines, aligned Markdown for a terminal and for docs/BENCHMARKS.md alike. */
import type { Ratio } from './rounds.js';

export type Value = string | number | Ratio | null;

/** What a number in a column is; it says how it is written. */
export type Unit =
  | 'text'
  | 'perSecond'
  | 'microseconds'
  | 'milliseconds'
  | 'nanoseconds'
  | 'ratio'
  | 'number'
  | 'share'
  | 'percent';

export interface Column {
  readonly key: string;
  readonly title: string;
  readonly unit: Unit;
}

export interface Table {
  readonly caption: string;
  readonly columns: readonly Column[];
  readonly rows: readonly Readonly<Record<string, Value>>[];
}

export const column = (key: string, title: string, unit: Unit = 'text'): Column => ({ key, title, unit });

/** `met` or `missed`, with the bound. */
export const atLeast = (ratio: Ratio, bound: number): string => `${ratio.median >= bound ? 'met' : 'missed'}: >= ${bound}`;
export const atMost = (ratio: Ratio, bound: number): string => `${ratio.median <= bound ? 'met' : 'missed'}: <= ${bound}`;

const grouped = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

function digits(value: number): string {
  if (Math.abs(value) >= 1000) return grouped.format(value);
  return value.toFixed(Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2);
}

function written(value: Value | undefined, unit: Unit): string {
  if (value === null || value === undefined) return '';
  if (typeof value === 'string') return value;
  if (typeof value === 'object') return `${value.median.toFixed(2)} (${value.least.toFixed(2)} to ${value.most.toFixed(2)})`;
  switch (unit) {
    case 'perSecond':
      return `${grouped.format(value)}/s`;
    case 'microseconds':
      return `${digits(value)} us`;
    case 'milliseconds':
      return `${digits(value)} ms`;
    case 'nanoseconds':
      return `${grouped.format(value)} ns`;
    case 'share':
      return `${(value * 100).toFixed(0)} %`;
    case 'percent':
      return `${(value * 100).toFixed(1)} %`;
    case 'ratio':
      return value.toFixed(2);
    default:
      return Number.isInteger(value) ? grouped.format(value) : digits(value);
  }
}

export function markdown(table: Table): string {
  const head = table.columns.map(({ title }) => title);
  const body = table.rows.map((row) => table.columns.map(({ key, unit }) => written(row[key], unit)));
  const widths = head.map((title, index) => Math.max(3, title.length, ...body.map((cells) => cells[index]?.length ?? 0)));
  const right = table.columns.map(({ unit }) => unit !== 'text');
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, index) => (right[index] ? cell.padStart(widths[index] ?? 0) : cell.padEnd(widths[index] ?? 0))).join(' | ')} |`;
  const rule = `| ${widths.map((width, index) => (right[index] ? `${'-'.repeat(width - 1)}:` : '-'.repeat(width))).join(' | ')} |`;
  return [`**${table.caption}**`, '', line(head), rule, ...body.map(line)].join('\n');
}
