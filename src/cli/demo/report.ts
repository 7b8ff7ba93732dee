import { formatBytes, formatDuration } from '../../core/units.js';
import { count, type Output, reduction, table } from '../output.js';
import type { ComparedContext } from './compare.js';
import type { InstanceRow, Lag } from './Tally.js';

/** Where a demo stands. */
export interface Progress {
  readonly elapsedMs: number;
  readonly written: number;
  readonly revisions: number;
  readonly instances: readonly InstanceRow[];
}

/** What a demo found; the document of `--json`. */
export interface DemoReport {
  readonly ok: boolean;
  readonly seed: string;
  readonly namespace: string;
  /** True where the contexts are still in Redis. */
  readonly kept: boolean;
  readonly elapsedMs: number;
  readonly revisions: number;
  readonly instances: readonly InstanceRow[];
  readonly totals: {
    readonly versions: number;
    readonly frames: InstanceRow['frames'];
    /** Share of the documents' bytes that did not have to travel, 0 to 1. */
    readonly saved: number;
    readonly lag: Lag;
    readonly resyncs: number;
    readonly resets: number;
    readonly missed: number;
    readonly duplicates: number;
    readonly checksumFailures: number;
  };
  readonly comparison: {
    readonly contexts: number;
    readonly equal: number;
    /** Comparisons of one context in one instance. */
    readonly compared: number;
    readonly bytes: number;
  };
  /** Last versions that had not arrived when nothing arrived any more. */
  readonly unseen: readonly string[];
  readonly contexts: readonly ComparedContext[];
}

/** The sums of the instances' figures; lags do not add up, so theirs is given. */
export function totals(rows: readonly InstanceRow[], lag: Lag): DemoReport['totals'] {
  const sum = (of: (row: InstanceRow) => number): number => rows.reduce((total, row) => total + of(row), 0);
  const frames = {
    splice: sum(({ frames }) => frames.splice),
    patch: sum(({ frames }) => frames.patch),
    full: sum(({ frames }) => frames.full),
    bytes: sum(({ frames }) => frames.bytes),
    documentBytes: sum(({ frames }) => frames.documentBytes),
  };
  return {
    versions: sum((row) => row.versions),
    frames,
    saved: frames.documentBytes === 0 ? 0 : 1 - frames.bytes / frames.documentBytes,
    lag,
    resyncs: sum((row) => row.resyncs),
    resets: sum((row) => row.resets),
    missed: sum((row) => row.missed),
    duplicates: sum((row) => row.duplicates),
    checksumFailures: sum((row) => row.checksumFailures),
  };
}

// biome-ignore format: one row of a table
const HEAD = [
  'INSTANCE', '>CONTEXTS', '>WRITTEN', '>VERSIONS', '>SPLICE', '>FULL', '>ON WIRE', '>IN FULL', '>SAVED',
  '>LAG P50', '>P99', '>RESYNCS', '>BAD SUMS',
];

/** The live table with a line above it that says how far it is. */
export function progressBlock(output: Output, { elapsedMs, written, revisions, instances }: Progress): string {
  const { bold, red } = output.colors;
  const rows = instances.map(({ instance, contexts, written: own, versions, frames, lag, resyncs, checksumFailures }) => [
    instance,
    count(contexts),
    count(own),
    count(versions),
    count(frames.splice + frames.patch),
    count(frames.full),
    formatBytes(frames.bytes),
    formatBytes(frames.documentBytes),
    reduction(frames.bytes, frames.documentBytes),
    lagText(lag.samples, lag.p50),
    lagText(lag.samples, lag.p99),
    count(resyncs),
    checksumFailures === 0 ? '0' : red(count(checksumFailures)),
  ]);
  const head = `${(elapsedMs / 1000).toFixed(1).padStart(5)} s  ${bold(`${count(written)} of ${count(revisions)}`)} revisions written`;
  return `${head}\n${table(output, HEAD, rows)}`;
}

/** The end of a demo, for people. */
export function summaryBlock(output: Output, report: DemoReport): string {
  const { bold, green, red } = output.colors;
  const { totals: sums, comparison, contexts, unseen } = report;
  const good = (fine: boolean, text: string): string => (fine ? text : red(text));
  const differences = contexts.flatMap((context) => context.differences);
  return [
    bold('Compared with Redis, byte for byte'),
    table(
      output,
      ['CONTEXT', '>VERSION', '>BYTES', 'CRC-32', 'IN ALL INSTANCES'],
      contexts.map(({ id, version, bytes, checksum, equal }) => [
        id,
        count(version),
        count(bytes),
        checksum ?? '-',
        equal ? green('equal') : red('DIFFERENT'),
      ]),
    ),
    ...differences.map(({ where, id, what, expected, found }) =>
      red(`${id} in ${where}: ${what}: expected ${expected}, found ${found}`),
    ),
    ...unseen.map((what) => red(`not seen by ${what}`)),
    '',
    `${count(report.revisions)} revisions, ${count(sums.versions)} changes seen, in ${(report.elapsedMs / 1000).toFixed(1)} s`,
    `${formatBytes(sums.frames.bytes)} on the wire instead of ${formatBytes(sums.frames.documentBytes)}: ${reduction(sums.frames.bytes, sums.frames.documentBytes)} saved`,
    `lag from commit to watch: p50 ${lagText(sums.lag.samples, sums.lag.p50)}, p99 ${lagText(sums.lag.samples, sums.lag.p99)}`,
    [
      good(sums.missed === 0, `${count(sums.missed)} versions missed`),
      good(sums.duplicates === 0, `${count(sums.duplicates)} seen twice`),
      `${count(sums.resets)} resets`,
      `${count(sums.resyncs)} resyncs`,
      good(sums.checksumFailures === 0, `${count(sums.checksumFailures)} checksum failures`),
    ].join(', '),
    report.ok
      ? bold(green(`All ${count(comparison.compared)} copies equal Redis (${formatBytes(comparison.bytes)} compared).`))
      : bold(red('NOT in order: see above.')),
    ...(report.kept ? [`The contexts are in namespace ${report.namespace}.`] : []),
  ].join('\n');
}

function lagText(samples: number, ms: number): string {
  return samples === 0 ? '-' : formatDuration(ms);
}
