/** Durations and sizes: read from options, and written for people. */
import { ContextError } from './errors.js';

const DURATIONS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const SIZES: Readonly<Record<string, number>> = { b: 1, kb: 1024, mb: 1024 ** 2, gb: 1024 ** 3 };

/**
 * Milliseconds. A number is milliseconds already; a string is a number and one of `ms`, `s`, `m`, `h`, `d`. Rounded to whole
 * milliseconds.
 *
 * @param name - the option, for the error
 * @throws {@link ContextError} `INVALID_OPTION`: not a number or such a string, negative, or not finite.
 */
export function parseDuration(value: number | string, name: string): number {
  return parseUnit(
    value,
    name,
    DURATIONS,
    'a duration',
    "milliseconds as a number, or a string such as '250ms', '10s', '5m', '1h' or '7d'",
  );
}

/**
 * Bytes. A number is bytes already; a string is a number and one of `b`, `kb`, `mb`, `gb` in either case (powers of 1024).
 * Rounded to whole bytes.
 *
 * @param name - the option, for the error
 * @throws {@link ContextError} `INVALID_OPTION`: not a number or such a string, negative, or not finite.
 */
export function parseSize(value: number | string, name: string): number {
  const given = typeof value === 'string' ? value.toLowerCase() : value;
  return parseUnit(
    given,
    name,
    SIZES,
    'a size',
    "bytes as a number, or a string such as '512b', '64kb', '1mb' or '2gb' (powers of 1024)",
    value,
  );
}

function parseUnit(
  value: number | string,
  name: string,
  units: Readonly<Record<string, number>>,
  what: string,
  expected: string,
  given: unknown = value,
): number {
  let result = Number.NaN;
  if (typeof value === 'number') result = value;
  else if (typeof value === 'string') {
    const match = /^\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*$/.exec(value);
    const factor = match?.[2] !== undefined && Object.hasOwn(units, match[2]) ? units[match[2]] : undefined;
    if (match !== null && factor !== undefined) result = Number(match[1]) * factor;
  }
  const whole = Math.round(result);
  if (!(whole >= 0 && result >= 0 && Number.isSafeInteger(whole))) {
    throw new ContextError('INVALID_OPTION', `option ${name}: ${show(given)} is not ${what}; give ${expected}`);
  }
  return whole;
}

function show(value: unknown): string {
  return typeof value === 'string' ? JSON.stringify(value) : typeof value === 'number' ? String(value) : `a ${typeof value}`;
}

/** For tables: `'0 b'`, `'1,023 b'`, `'1.5 kb'`, `'64 mb'` (powers of 1024, at most one decimal). */
export function formatBytes(bytes: number): string {
  return scaled(bytes, [
    ['b', 1],
    ['kb', 1024],
    ['mb', 1024 ** 2],
    ['gb', 1024 ** 3],
  ]);
}

/** For tables: `'350 us'`, `'1.5 ms'`, `'12 s'`, `'5 m'`, `'1.5 h'`, `'7 d'` (at most one decimal); `ms` may be a fraction. */
export function formatDuration(ms: number): string {
  return scaled(ms, [
    ['us', 0.001],
    ['ms', 1],
    ['s', 1000],
    ['m', 60_000],
    ['h', 3_600_000],
    ['d', 86_400_000],
  ]);
}

/** `value` in the first unit in which it is, as written, less than one of the next (1,023.99 kb is 1 mb). */
function scaled(value: number, units: readonly (readonly [name: string, size: number])[]): string {
  const sign = value < 0 ? '-' : '';
  const size = Math.abs(value);
  let text = '';
  for (const [index, [name, unit]] of units.entries()) {
    const amount = Math.round((size / unit) * 10) / 10;
    text = `${sign}${amount.toLocaleString('en-US', { maximumFractionDigits: 1 })} ${name}`;
    if (amount * unit < (units[index + 1]?.[1] ?? Number.POSITIVE_INFINITY)) break;
  }
  return text;
}
