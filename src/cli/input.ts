import { readFileSync } from 'node:fs';
import { InvalidArgumentError } from 'commander';
import { ContextError } from '../core/errors.js';
import type { JsonValue } from '../core/json.js';
import type { Patch } from '../core/patch.js';
import { usageError } from './CliError.js';

/** The JSON of a value argument: literal, `@file`, or stdin for `-` and for an argument that was left out. */
export async function readValue(argument: string | undefined): Promise<JsonValue> {
  return parse(await readArgument(argument, 'value'), 'INVALID_VALUE', 'value') as JsonValue;
}

/** A JSON Patch argument, read as {@link readValue} reads a value; its operations are checked by the store. */
export async function readPatch(argument: string | undefined): Promise<Patch> {
  const patch = parse(await readArgument(argument, 'patch'), 'INVALID_PATCH', 'patch');
  if (!Array.isArray(patch)) {
    throw new ContextError(
      'INVALID_PATCH',
      'a JSON Patch is an array of operations, such as [{"op":"add","path":"/a","value":1}]',
    );
  }
  return patch as Patch;
}

/** For options that count: a decimal integer of at least `least`. */
export function integer(least: number): (text: string) => number {
  return (text) => {
    const number = Number(text);
    if (!/^\d+$/.test(text) || !Number.isSafeInteger(number) || number < least) {
      throw new InvalidArgumentError(`It must be an integer of at least ${least}.`);
    }
    return number;
  };
}

/** For options that may be fractions: a decimal number of at least 0. */
export function decimal(text: string): number {
  if (!/^\d+(\.\d+)?$/.test(text)) throw new InvalidArgumentError('It must be a number of at least 0.');
  return Number(text);
}

/** A duration as the store takes it: digits alone are milliseconds. */
export function duration(text: string): number | string {
  return /^\d+$/.test(text) ? Number(text) : text;
}

async function readArgument(argument: string | undefined, what: string): Promise<string> {
  if (argument?.startsWith('@')) return decode(readFile(argument.slice(1)), what);
  if (argument !== undefined && argument !== '-') return argument;
  if (argument === undefined && process.stdin.isTTY) {
    throw usageError(`no ${what} given: pass it as an argument, as @file, or through stdin`);
  }
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return decode(Buffer.concat(chunks), what);
}

function readFile(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new ContextError('INVALID_ARGUMENT', `cannot read ${path}: ${(error as Error).message}`, { cause: error });
  }
}

/** A byte order mark is dropped, as editors write one; anything else that is not UTF-8 is refused rather than replaced. */
function decode(bytes: Buffer, what: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new ContextError('INVALID_ARGUMENT', `the ${what} is not valid UTF-8`, { cause: error });
  }
}

function parse(text: string, code: 'INVALID_VALUE' | 'INVALID_PATCH', what: string): unknown {
  if (text.trim() === '') throw new ContextError(code, `the ${what} is empty; it must be JSON`);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ContextError(code, `the ${what} is not JSON: ${(error as Error).message}`, { cause: error });
  }
}
