import { stripVTControlCharacters } from 'node:util';
import type { Output } from '../output.js';
import { type Progress, progressBlock } from './report.js';

/** Shows where a demo stands, as often as suits the medium. */
export interface Display {
  /** Time between two updates, ms. */
  readonly everyMs: number;
  update(progress: Progress): void;
}

const CLEAR_BELOW = '\x1b[0J';

/** On a terminal a table redrawn in place, elsewhere one block after the other; with JSON nothing, or records on stderr. */
export function createDisplay(output: Output, progressRecords: boolean): Display {
  if (progressRecords) {
    return {
      everyMs: 1000,
      update: (progress) => process.stderr.write(`${JSON.stringify({ event: 'progress', ...progress })}\n`),
    };
  }
  if (output.json) return { everyMs: 1000, update: () => {} };
  if (!output.tty) return { everyMs: 2000, update: (progress) => output.line(`${progressBlock(output, progress)}\n`) };
  let height = 0;
  return {
    everyMs: 250,
    update: (progress) => {
      const block = progressBlock(output, progress);
      const up = height === 0 ? '' : `\x1b[${height}A\r`;
      output.line(`${up}${CLEAR_BELOW}${block}`);
      height = rows(block);
    },
  };
}

/** Lines a terminal needs: those too wide for it are wrapped. */
function rows(block: string): number {
  const columns = process.stdout.columns || Number.POSITIVE_INFINITY;
  const widths = stripVTControlCharacters(block)
    .split('\n')
    .map((line) => line.length);
  return widths.reduce((sum, width) => sum + Math.max(1, Math.ceil(width / columns)), 0);
}
