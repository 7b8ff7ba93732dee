/**
 * Frames of a hostile writer for a replica, without end: documents of many kinds, and on each some frames one after the other. The suite
 * runs a few of them (test/property/hostileFrames.test.ts).
 */
import { setImmediate } from 'node:timers/promises';
import { readHostileFrame, target } from '../../test/helpers/hostileFrames.js';
import { seededRng } from '../../test/helpers/random.js';

/** Frames that a document is sent, at most. */
const FRAMES = 8;
/** What a frame of at most 16 MiB may leave behind on top of what was there, bytes: text, value, index, and garbage of each. */
const MOST_MEMORY = 1024 * 1024 * 1024;

export interface HostileFramesResult {
  readonly frames: number;
  readonly outcomes: Readonly<Record<string, number>>;
  readonly slowest: number;
  /** Most that the process had, bytes. */
  readonly memory: number;
}

interface Options {
  readonly seed: number;
  readonly until: () => boolean;
  readonly report: (line: string) => void;
}

/** @throws Error with the seed that brings it about again */
export async function fuzzHostileFrames({ seed, until, report }: Options): Promise<HostileFramesResult> {
  const outcomes: Record<string, number> = {};
  let frames = 0;
  let slowest = 0;
  let memory = 0;
  const before = process.memoryUsage.rss();
  let reported = performance.now();
  let document = 0;
  do {
    const rng = seededRng(seed + document);
    const hostile = target(rng);
    for (let frame = 1; frame <= FRAMES; frame += 1) {
      try {
        const { outcome, ms } = readHostileFrame(rng, hostile);
        slowest = Math.max(slowest, ms);
        outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
      } catch (error) {
        const again = `npm run fuzz:delta -- --rounds 0 --minutes 0 --no-redis --seed ${seed + document}`;
        throw new Error(`hostile frame ${frame}: ${String(error)}\nagain with: ${again}`, { cause: error });
      }
      frames += 1;
      memory = Math.max(memory, process.memoryUsage.rss());
      if (memory > before + MOST_MEMORY) throw new Error(`hostile frames took ${memory - before} bytes; seed ${seed + document}`);
      await setImmediate();
    }
    document += 1;
    if (performance.now() - reported > 10_000) {
      reported = performance.now();
      report(`${frames} hostile frames: ${JSON.stringify(outcomes)}`);
    }
  } while (!until());
  return { frames, outcomes, slowest, memory };
}
