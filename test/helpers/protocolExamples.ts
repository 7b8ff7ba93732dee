/** Reads the examples of docs/DELTA_PROTOCOL.md: blocks marked `example <kind>`, of lines `name: value`; lines that are set in belong to the one above. */
import { readFileSync } from 'node:fs';

export interface Example {
  readonly kind: string;
  /** First line in the page, from 1 on. */
  readonly line: number;
  readonly fields: readonly (readonly [name: string, value: string])[];
}

export function readExamples(page: string): Example[] {
  const text = readFileSync(page, 'utf8');
  return [...text.matchAll(/^```example ([a-z ]+)\n([\s\S]*?)^```$/gm)].map(({ 1: kind = '', 2: body = '', index }) => {
    const fields: [string, string][] = [];
    for (const line of body.split('\n').slice(0, -1)) {
      const [, name, value = ''] = /^(\S[^:]*):(?: (.*))?$/.exec(line) ?? [];
      const last = fields.at(-1);
      if (name !== undefined) fields.push([name, value]);
      else if (last !== undefined && line.startsWith('  ')) last[1] += `${last[1] === '' ? '' : '\n'}${line.slice(2)}`;
      else throw new Error(`an example has a line that is none: ${line}`);
    }
    return { kind, line: text.slice(0, index).split('\n').length, fields };
  });
}

/** The value of a field that is there once. */
export function field(example: Example, name: string): string | undefined {
  const found = example.fields.filter(([other]) => other === name);
  if (found.length > 1) throw new Error(`"${name}" is there ${found.length} times`);
  return found[0]?.[1];
}

/** Bytes as hex digits, with blanks and remarks. */
export function fromHex(text: string): Buffer {
  const digits = text.replace(/;.*$/gm, '').replace(/\s+/g, '');
  if (!/^(?:[0-9a-f]{2})*$/.test(digits)) throw new Error(`no hex: ${text}`);
  return Buffer.from(digits, 'hex');
}
