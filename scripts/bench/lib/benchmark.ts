import type { Table } from './table.js';

/** What a run has to work with. */
export interface Setting {
  /** Of a Redis server of this run alone. */
  readonly url: string;
  readonly quick: boolean;
  /** Rounds in which each contender runs once. */
  readonly rounds: number;
  /** About how long a contender runs in a round, ms. */
  readonly roundMs: number;
}

export interface Benchmark {
  readonly name: string;
  readonly run: (setting: Setting) => Promise<readonly Table[]>;
}
