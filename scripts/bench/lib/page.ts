/** docs/BENCHMARKS.md: what stands between a benchmark's two markers is replaced by its tables, everything else stays. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const PAGE = join(import.meta.dirname, '..', '..', '..', 'docs', 'BENCHMARKS.md');

export function writeSections(sections: ReadonlyMap<string, string>): void {
  let text = readFileSync(PAGE, 'utf8');
  for (const [name, content] of sections) {
    const begin = `<!-- bench:${name} -->`;
    const end = `<!-- end of bench:${name} -->`;
    const from = text.indexOf(begin);
    const to = text.indexOf(end);
    if (from < 0 || to < from) throw new Error(`docs/BENCHMARKS.md has no place for ${name}: add ${begin} and ${end}`);
    text = `${text.slice(0, from + begin.length)}\n${content}\n${text.slice(to)}`;
  }
  writeFileSync(PAGE, text);
}
