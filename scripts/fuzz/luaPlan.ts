/**
 * Sends damaged plans to lua/commit.lua on a real Redis: whatever arrives, the answer must be one that the script declares, and what is stored
 * afterwards must be what was stored before or exactly what the client has announced, every checksum right.
 */
import { expect } from 'chai';
import { LuaNamespace, type Reply } from '../../test/helpers/lua.js';
import { cut, type Edit, edited, type Planned, type Stored, sent, stored, verified } from '../../test/helpers/plans.js';
import { type Rng, seededRng } from '../../test/helpers/random.js';

export interface LuaPlanFuzz {
  /** Of a Redis server that nobody else needs. */
  readonly url: string;
  readonly seed: number;
  /** Asked before each plan. */
  readonly until: () => boolean;
  /** A line now and then of how far it is. */
  readonly report?: (line: string) => void;
}

export interface LuaPlanOutcome {
  readonly runs: number;
  /** How often each answer was given. */
  readonly answers: Readonly<Record<string, number>>;
  /** Milliseconds of the longest call. */
  readonly slowest: number;
}

const ANSWERS = ['COMMITTED', 'BASE_MISMATCH', 'CHECKSUM'];
/** Runs after which there is a new document, so that none wanders off. */
const RUNS_A_DOCUMENT = 400;
const RUNS_A_REPORT = 5_000;
const NUMBERS = [
  ...['0', '1', '-1', '4096', '65536', '4294967295', '4294967296', '9007199254740991', '9007199254740992', '9007199254740993'],
  ...['18446744073709551616', '1e308', '0x7f', 'nan', 'NaN', 'inf', '-inf', '1.5', '', ' ', '9'.repeat(400)],
];
const NAMES = [
  'v',
  'crc',
  'sha',
  'len',
  'exp',
  'op',
  'fence',
  'chunks',
  'data',
  'd0',
  'd1',
  'd2',
  'd99999',
  'd',
  'D0',
  '#1',
  '#3',
  '#7',
  '#99999',
  '#',
];

/**
 * @throws Error with the seed, the run and the plan where something did not hold
 */
export async function fuzzLuaPlans({ url, seed, until, report = () => {} }: LuaPlanFuzz): Promise<LuaPlanOutcome> {
  const rng = seededRng(seed);
  const lua = await LuaNamespace.open(url);
  const answers: Record<string, number> = {};
  let runs = 0;
  let slowest = 0;
  try {
    while (!until()) {
      const id = `${Math.floor(runs / RUNS_A_DOCUMENT)}-${rng.int(0, 1)}`;
      const before = await verified(lua, id);
      const good = before === null ? fresh(rng) : rng.chance(0.1) ? fresh(rng, before) : change(rng, before);
      const bad = rng.chance(0.04) ? good : damaged(rng, good);
      const begun = performance.now();
      try {
        const reply = await lua.commit(id, bad.document, { ...bad.options, ...noise(rng) });
        slowest = Math.max(slowest, performance.now() - begun);
        await check(lua, id, before, bad, reply);
        const answer = String(reply[0]);
        answers[answer] = (answers[answer] ?? 0) + 1;
      } catch (error) {
        const { text, data, chunks = [] } = bad.options.plan;
        const sizes = `${data.length} bytes and ${chunks.length} chunks with it`;
        throw new Error(`seed ${seed}, run ${runs}: plan ${JSON.stringify(text)}, ${sizes}: ${String(error)}`, { cause: error });
      }
      runs += 1;
      if (runs % RUNS_A_REPORT === 0) report(`${runs} plans: ${JSON.stringify(answers)}, slowest ${slowest.toFixed(1)} ms`);
      if (runs % RUNS_A_DOCUMENT === 0) await Promise.all([lua.delete(id), lua.published()]);
    }
    return { runs, answers, slowest };
  } finally {
    lua.close();
  }
}

async function check(
  lua: LuaNamespace,
  id: string,
  before: Stored | null,
  { document, options }: Planned,
  reply: Reply,
): Promise<void> {
  expect(reply[0]).to.be.oneOf(ANSWERS);
  expect(await lua.redis.exists(lua.of(id).old), 'what is kept aside').to.equal(0);
  if (reply[0] !== 'COMMITTED') {
    const after = await verified(lua, id);
    if (before === null) expect(after).to.equal(null);
    else expect(same(before, after), `what was stored before ${JSON.stringify(reply)}`).to.equal(true);
    return;
  }
  const after = await stored(lua, id);
  expect(after.version, 'version').to.equal((before?.version ?? after.version - 1) + 1);
  expect(after.sha, 'announced SHA-1').to.equal(options.claims?.sha);
  expect(after.document.equals(document), 'the document').to.equal(true);
}

const same = (before: Stored, after: Stored | null): boolean =>
  after !== null &&
  after.version === before.version &&
  after.crc === before.crc &&
  after.sha === before.sha &&
  after.document.equals(before.document);

/** A document that is sent, in one piece or many. */
function fresh(rng: Rng, before?: Stored): Planned {
  const planned = sent(
    rng.chance(0.2)
      ? [{ name: 'data', bytes: bytes(rng, rng.int(0, 3000)) }]
      : cut(bytes(rng, rng.int(1, 3000)), rng.int(1, 4) * 120),
  );
  if (before === undefined || rng.chance(0.5)) return planned;
  // sent as it is, yet on the condition that a certain document is there
  const patch = { text: 'a patch', baseVersion: before.version, baseCrc: before.crc };
  return { ...planned, options: { ...planned.options, patch } };
}

/** Some edits of what is stored. */
function change(rng: Rng, before: Stored): Planned {
  const { length } = before.document;
  const places = Array.from({ length: rng.int(1, 4) }, () => rng.int(0, length)).sort((a, b) => a - b);
  const edits = places.flatMap((at, index): Edit[] => {
    const room = (places[index + 1] ?? length) - at;
    if (index > 0 && at === places[index - 1]) return [];
    return [{ at, remove: Math.min(room, rng.pick([0, 1, 20, 500])), insert: bytes(rng, rng.pick([0, 1, 20, 300])) }];
  });
  const left = length + edits.reduce((sum, { insert, remove }) => sum + insert.length - remove, 0);
  // an empty document has no chunks
  const form = left === 0 || rng.chance(left > 6000 ? 0.5 : 0.15) ? 'whole' : 'chunked';
  return edited(before, edits, rng.int(1, 4) * 120, form);
}

const bytes = (rng: Rng, length: number): Buffer =>
  Buffer.from(Array.from({ length }, () => (rng.chance(0.7) ? 97 + rng.int(0, 3) : rng.int(0, 255))));

/** What else a commit says. */
const noise = (rng: Rng): object => ({ keyframe: rng.pick([1, 3, 32]), ttl: rng.pick(['keep', 'none', 60_000] as const) });

/** The plan, or what is sent with it, otherwise than it was meant. */
function damaged(rng: Rng, good: Planned): Planned {
  const { plan } = good.options;
  let { text, data, chunks = [] } = plan;
  for (let times = rng.pick([1, 1, 1, 2, 3, 8]); times > 0; times -= 1) {
    if (rng.chance(0.9)) text = damagedText(rng, text);
    else if (rng.chance(0.5) && data.length > 0) data = flipped(rng, Buffer.from(data));
    else if (chunks.length > 0) chunks = damagedChunks(rng, chunks);
  }
  const options = { ...good.options, plan: { ...plan, text, data, chunks } };
  if (options.patch === undefined || !rng.chance(0.05)) return { ...good, options };
  // made for what was there before
  return { ...good, options: { ...options, patch: { ...options.patch, baseVersion: options.patch.baseVersion - 1 } } };
}

function damagedChunks(rng: Rng, chunks: readonly Buffer[]): Buffer[] {
  const at = rng.int(0, chunks.length - 1);
  const chunk = chunks[at] as Buffer;
  const put = rng.pick([[], [flipped(rng, chunk)], [chunk.subarray(rng.int(0, chunk.length))], [chunk, chunk]]);
  return [...chunks.slice(0, at), ...put, ...chunks.slice(at + 1)];
}

function flipped(rng: Rng, of: Buffer): Buffer {
  const copy = Buffer.from(of);
  const at = rng.int(0, copy.length - 1);
  if (copy.length > 0) copy[at] = (copy[at] as number) ^ (1 << rng.int(0, 7));
  return copy;
}

function damagedText(rng: Rng, text: string): string {
  const lines = text.split('\n');
  const at = rng.int(0, Math.max(0, lines.length - 2));
  const other = rng.int(0, lines.length - 1);
  const line = lines[at] ?? '';
  const withLine = (...put: string[]): string => [...lines.slice(0, at), ...put, ...lines.slice(at + 1)].join('\n');
  /** Another word in the place of one that matches. */
  const replaced = (pattern: RegExp, words: readonly string[]): string => {
    const found = [...text.matchAll(pattern)];
    if (found.length === 0) return text;
    const { index, 0: word } = rng.pick(found);
    return text.slice(0, index) + rng.pick(words) + text.slice(index + word.length);
  };
  switch (rng.int(0, 10)) {
    case 0:
    case 1:
      return flipped(rng, Buffer.from(text, 'latin1')).toString('latin1');
    case 2:
      return text.slice(0, rng.int(0, text.length));
    case 3:
      return replaced(/\d+/g, NUMBERS);
    case 4:
      return replaced(/(?:#\d+|d\d+|data)/g, NAMES);
    case 5:
      return withLine();
    case 6:
      return withLine(line, line);
    case 7: {
      const swapped = [...lines];
      [swapped[at], swapped[other]] = [swapped[other] ?? '', swapped[at] ?? ''];
      return swapped.join('\n');
    }
    case 8:
      // a chunk that is written, taken for one that stays, or goes
      return withLine(
        rng.pick([`= ${line.split(' ').slice(0, 3).join(' ')}`, `- ${line.split(' ')[0]}`, line.slice(2), `@ ${line}`]),
      );
    case 9:
      return withLine(
        line,
        rng.pick(['- data', '- d0', '- d1', '@ 0 0', '@ 0 49', `data 0 da39a3ee5e6b4b0d3255bfef95601890afd80709`, 'd0', '=']),
      );
    default:
      return withLine(line.split(' ').slice(0, rng.int(0, 6)).join(' '), ...(rng.chance(0.5) ? [''] : []));
  }
}
