/**
 * Propagation of a small edit from process to process. Ours: `update` in one, `watch` in the other. The reference publishes the whole
 * document, and the other process parses it: nothing is stored, verified or caught up there.
 */
import type { Benchmark, Setting } from './lib/benchmark.js';
import { PAYLOADS } from './lib/payloads.js';
import { propagate } from './lib/propagate.js';
import { percentile, ratio } from './lib/rounds.js';
import { atMost, column, type Table } from './lib/table.js';

const TARGETS: Readonly<Record<string, number>> = { '1 KB': 1.2, '100 KB': 1 };

export const propagation: Benchmark = { name: 'propagation', run: async (setting) => [await propagations(setting)] };

async function propagations(setting: Setting): Promise<Table> {
  const rows = [];
  for (const { label, bytes } of PAYLOADS) {
    const { ours, raw } = await propagate(setting, bytes, ['raw', 'ours']);
    const p50 = ratio(
      ours.map((times) => percentile(times, 0.5)),
      raw.map((times) => percentile(times, 0.5)),
    );
    const target = TARGETS[label];
    rows.push({
      payload: label,
      rawP50: percentile(raw.flat(), 0.5),
      rawP99: percentile(raw.flat(), 0.99),
      oursP50: percentile(ours.flat(), 0.5),
      oursP99: percentile(ours.flat(), 0.99),
      ratio: p50,
      target: target === undefined ? '' : atMost(p50, target),
    });
  }
  return {
    caption: 'From the call in one process until another holds the new document (lower is better)',
    columns: [
      column('payload', 'Payload'),
      column('rawP50', 'PUBLISH p50', 'milliseconds'),
      column('rawP99', 'PUBLISH p99', 'milliseconds'),
      column('oursP50', 'update p50', 'milliseconds'),
      column('oursP99', 'update p99', 'milliseconds'),
      column('ratio', 'p50 / PUBLISH', 'ratio'),
      column('target', 'Target'),
    ],
    rows,
  };
}
