/**
 * Looks for documents and deltas that break the delta code: `npm run fuzz:delta -- --rounds 1000000 --minutes 30`. First random edits there and
 * back, then damaged deltas for the decoder and, beside it, frames of a hostile writer for a replica and damaged plans for lua/commit.lua on
 * a Redis of its own. Ends with exit code 1 at the first thing that does not hold, and says what brings it about again.
 */
import { setImmediate } from 'node:timers/promises';
import { Command } from 'commander';
import { DeltaDecoder } from '../src/core/DeltaDecoder.js';
import { DeltaEncoder } from '../src/core/DeltaEncoder.js';
import { isContextError } from '../src/core/errors.js';
import { composeSplices } from '../src/core/spliceCompose.js';
import { applySplice, readSplice, writeSplice } from '../src/core/spliceFormat.js';
import { endAll } from '../test/helpers/cleanup.js';
import { sharedServer } from '../test/helpers/RedisServer.js';
import { editConversation, makeConversation, type Rng, seededRng } from '../test/helpers/random.js';
import { fuzzHostileFrames } from './fuzz/hostileFrames.js';
import { fuzzLuaPlans } from './fuzz/luaPlan.js';

const REPORT_MS = 10_000;
/** The decoder works so long before Redis's answers are attended to. */
const SLICE_MS = 1;
/** A damaged length must not fill the memory of a run. */
const MOST_TARGET = 1024 * 1024;

const encoder = new DeltaEncoder();
const decoder = new DeltaDecoder({ maxTargetBytes: MOST_TARGET });

const command = new Command('npm run fuzz:delta --')
  .description('Tries the delta code with random edits, and its readers with damaged input.')
  .option('--rounds <n>', 'random edits there and back', wholeNumber, 100_000)
  .option('--minutes <n>', 'how long damaged input is sent', Number.parseFloat, 10)
  .option('--seed <n>', 'the first round and run have this seed, each further one the next', wholeNumber, Date.now() % 2 ** 31)
  .option('--no-redis', 'only the code here, not lua/commit.lua')
  .addHelpText('after', '\nExamples:\n  npm run fuzz:delta\n  npm run fuzz:delta -- --rounds 1 --minutes 0 --no-redis --seed 7')
  .parse();

interface Options {
  readonly rounds: number;
  readonly minutes: number;
  readonly seed: number;
  readonly redis: boolean;
}

function wholeNumber(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) command.error(`"${text}" is no whole number`);
  return value;
}

run().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});

async function run(): Promise<void> {
  try {
    await main(command.opts<Options>());
  } finally {
    await endAll();
  }
}

async function main({ rounds, minutes, seed, redis }: Options): Promise<void> {
  if (!Number.isFinite(minutes) || minutes < 0) command.error('--minutes takes a number');
  console.log(`seed ${seed}, ${rounds} rounds, ${minutes} minutes`);
  roundTrips(seed, rounds);
  const end = performance.now() + minutes * 60_000;
  let failed = false;
  const until = (): boolean => failed || performance.now() >= end;
  const ended = await Promise.allSettled([
    damagedDeltas(seed, until).catch((error: unknown) => fail(error)),
    hostileFrames(seed, until).catch((error: unknown) => fail(error)),
    ...(redis ? [damagedPlans(seed, until).catch((error: unknown) => fail(error))] : []),
  ]);
  for (const outcome of ended) if (outcome.status === 'rejected') throw outcome.reason;

  function fail(error: unknown): never {
    failed = true;
    throw error;
  }
}

/** A line every ten seconds. */
function progress(): (line: () => string) => void {
  let next = performance.now() + REPORT_MS;
  return (line) => {
    if (performance.now() < next) return;
    next = performance.now() + REPORT_MS;
    console.log(line());
  };
}

function roundTrips(seed: number, rounds: number): void {
  const report = progress();
  const sum = { target: 0, delta: 0, slowest: 0 };
  for (let round = 0; round < rounds; round += 1) {
    const rng = seededRng(seed + round);
    const versions = rng.chance(0.3) ? json(rng) : blocks(rng);
    try {
      for (let index = 1; index < versions.length; index += 1)
        roundTrip(versions[index - 1] as Buffer, versions[index] as Buffer, sum);
      composed(versions);
    } catch (error) {
      const again = `npm run fuzz:delta -- --rounds 1 --minutes 0 --no-redis --seed ${seed + round}`;
      throw new Error(`round ${round}: ${String(error)}\nagain with: ${again}`, { cause: error });
    }
    report(() => `${round + 1} rounds`);
  }
  const { target, delta, slowest } = sum;
  console.log(`${rounds} rounds: ${target} bytes of documents by ${delta} bytes of deltas, slowest ${slowest.toFixed(1)} ms`);
}

function roundTrip(base: Buffer, target: Buffer, sum: { target: number; delta: number; slowest: number }): void {
  const begun = performance.now();
  const delta = encoder.encode(base, target);
  sum.slowest = Math.max(sum.slowest, performance.now() - begun);
  sum.target += target.length;
  sum.delta += delta.length;
  if (delta.length > target.length + 32) throw new Error(`a delta of ${delta.length} bytes for ${target.length}`);
  if (!new DeltaDecoder().decode(base, delta).equals(target)) throw new Error('another target than before');
  if (!writeSplice(readSplice(delta)).bytes.equals(delta)) throw new Error('another delta when it is written again');
}

function composed(versions: readonly Buffer[]): void {
  const [first, ...others] = versions as [Buffer, ...Buffer[]];
  const steps = others.map((target, index) => readSplice(encoder.encode(versions[index] as Buffer, target)));
  const together = readSplice(writeSplice(steps.reduce(composeSplices)).bytes);
  if (!applySplice(first, together).equals(versions.at(-1) as Buffer)) throw new Error('deltas made one give another target');
}

async function damagedDeltas(seed: number, until: () => boolean): Promise<void> {
  const report = progress();
  const sum = { refused: 0, taken: 0, slowest: 0 };
  const facts = (): string => `${sum.refused + sum.taken} damaged deltas: ${sum.refused} refused, ${sum.taken} taken`;
  let run = 0;
  do {
    const slice = performance.now() + SLICE_MS;
    while (performance.now() < slice) {
      damagedDelta(seed + run, sum);
      run += 1;
    }
    report(facts);
    await setImmediate();
  } while (!until());
  console.log(`${facts()}, slowest ${sum.slowest.toFixed(1)} ms`);
}

function damagedDelta(seed: number, sum: { refused: number; taken: number; slowest: number }): void {
  const rng = seededRng(seed);
  const [base, target] = blocks(rng, 8) as [Buffer, Buffer];
  const delta = damaged(rng, encoder.encode(base, target));
  const begun = performance.now();
  try {
    const decoded = decoder.decode(base, delta);
    const { targetLength, pieces } = readSplice(delta);
    // copied here by other means: what decodes would make up for bytes that are not there
    const parts = pieces.map((piece) => piece.bytes ?? [...base].slice(Math.max(0, piece.from), piece.from + piece.length));
    const made = Buffer.concat(parts.map((part) => Buffer.from(part)));
    if (decoded.length !== targetLength || !made.equals(decoded))
      throw new Error('it was taken, but does not give what it announces');
    sum.taken += 1;
  } catch (error) {
    if (!isContextError(error) || (error.code !== 'BAD_FRAME' && error.code !== 'BASE_MISMATCH')) {
      const again = `npm run fuzz:delta -- --rounds 0 --minutes 0 --no-redis --seed ${seed}`;
      const what = `base (base64): ${base.toString('base64')}\ndelta (base64): ${delta.toString('base64')}`;
      throw new Error(`a damaged delta: ${String(error)}\n${what}\nagain with: ${again}`, { cause: error });
    }
    sum.refused += 1;
  }
  sum.slowest = Math.max(sum.slowest, performance.now() - begun);
}

async function hostileFrames(seed: number, until: () => boolean): Promise<void> {
  const result = await fuzzHostileFrames({ seed, until, report: (line) => console.log(line) });
  const { frames, outcomes, slowest, memory } = result;
  const most = Math.round(memory / 1024 / 1024);
  console.log(`${frames} hostile frames: ${JSON.stringify(outcomes)}, slowest ${slowest.toFixed(1)} ms, ${most} MiB at most`);
}

async function damagedPlans(seed: number, until: () => boolean): Promise<void> {
  const { url } = await sharedServer();
  const { runs, answers, slowest } = await fuzzLuaPlans({ url, seed, until, report: (line) => console.log(line) });
  console.log(`${runs} damaged plans: ${JSON.stringify(answers)}, slowest ${slowest.toFixed(1)} ms`);
}

/** A document of JSON and what becomes of it. */
function json(rng: Rng): Buffer[] {
  let document = makeConversation(rng.int(0, 2 ** 31), rng.chance(0.02) ? rng.int(50_000, 200_000) : rng.int(1_000, 8_000));
  const versions = [Buffer.from(JSON.stringify(document))];
  for (let left = rng.int(1, 3); left > 0; left -= 1) {
    document = editConversation(document, rng);
    versions.push(Buffer.from(JSON.stringify(document)));
  }
  return versions;
}

/** Bytes of any kind and what becomes of them: blocks are put in, left out, moved and repeated. */
function blocks(rng: Rng, most = 40): Buffer[] {
  let document: Buffer = Buffer.concat(Array.from({ length: rng.int(0, most) }, () => block(rng)));
  const versions = [document];
  for (let left = rng.int(1, 3); left > 0; left -= 1) {
    for (let edits = rng.int(0, 8); edits > 0; edits -= 1) document = edited(rng, document);
    versions.push(document);
  }
  return versions;
}

function block(rng: Rng): Buffer {
  const length = rng.pick([1, 3, 8, 20, 100, 400]);
  if (rng.chance(0.3)) return Buffer.alloc(length, rng.pick(['a', 'ab', '{"id":1},', 'abcdefghijklmnopq']));
  const most = rng.pick([1, 3, 255]);
  return Buffer.from(Array.from({ length }, () => rng.int(0, most)));
}

function edited(rng: Rng, document: Buffer): Buffer {
  const from = rng.int(0, document.length);
  const part = document.subarray(from, from + rng.pick([0, 1, 2, 10, 50, 500]));
  const rest = rng.chance(0.5) ? document : Buffer.concat([document.subarray(0, from), document.subarray(from + part.length)]);
  const at = rng.chance(0.5) ? Math.min(from, rest.length) : rng.int(0, rest.length);
  const put = rng.chance(0.4) ? block(rng) : rng.chance(0.5) ? part : Buffer.alloc(0);
  return Buffer.concat([rest.subarray(0, at), put, rest.subarray(at)]);
}

function damaged(rng: Rng, delta: Buffer): Buffer {
  let bytes: Buffer = Buffer.from(delta);
  for (let left = rng.int(1, 4); left > 0; left -= 1) {
    const at = rng.int(0, rng.chance(0.5) ? bytes.length : Math.min(bytes.length, 12));
    const kind = rng.int(0, 6);
    if (kind === 0) bytes = bytes.subarray(0, at);
    else if (kind === 1) bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + rng.int(1, 4))]);
    else if (kind === 2) bytes = Buffer.concat([bytes.subarray(0, at), hostile(rng), bytes.subarray(at)]);
    else if (kind === 3) bytes = Buffer.concat([bytes.subarray(0, at), hostile(rng), bytes.subarray(at + 1)]);
    else if (kind === 4) bytes = Buffer.concat([bytes, block(rng)]);
    else if (at < bytes.length) bytes[at] = kind === 5 ? rng.int(0, 255) : (bytes[at] as number) ^ (1 << rng.int(0, 7));
  }
  return bytes;
}

/** Varints as none should be. */
function hostile(rng: Rng): Buffer {
  const varints = ['00', '80', '8000', 'ffffffff0f', '8080808010', '808080808000', '8080808080808010', '80808008', '01', '03'];
  return Buffer.from(rng.pick(varints), 'hex');
}
