/**
 * What each step of lua/commit.lua costs the server: variants of its source from which the steps are taken out one after the other,
 * timed by `INFO commandstats`. Nothing of the client is in these numbers.
 */
import { Redis } from 'ioredis';
import { crc32Hex, sha1Hex } from '../../src/core/checksum.js';
import { diff } from '../../src/core/diff.js';
import { normalize } from '../../src/core/json.js';
import { ContextCommands } from '../../src/redis/ContextCommands.js';
import { Keys } from '../../src/redis/keys.js';
import { type Argument, type Deadline, RedisConnection } from '../../src/redis/RedisConnection.js';
import { type ScriptName, scriptSource } from '../../src/redis/scripts.js';
import type { Conversation } from '../../test/helpers/random.js';
import type { Setting } from './lib/benchmark.js';
import { documents, edited, PAYLOADS } from './lib/payloads.js';
import { RawClient } from './lib/RawClient.js';
import { alternate, median } from './lib/rounds.js';
import { usecPerCall } from './lib/serverTime.js';
import { column, type Table } from './lib/table.js';

interface Cut {
  /** Matches what is taken out. */
  readonly out: RegExp;
  readonly instead?: string;
}

interface Step {
  readonly name: string;
  readonly cuts: readonly Cut[];
}

/** In the order of the table; the last one is taken out first. */
const STEPS: readonly Step[] = [
  {
    name: 'read-back',
    cuts: [
      { out: /^if live then\n {2}redis\.call\('RENAME', context, old\)\nend\n/m },
      { out: /^if redis\.call\('HGET', context, 'data'\) ~= data then\n(?: .*\n)*end\n/m },
      { out: /^if live then\n {2}redis\.call\('UNLINK', old\)\nend\n/m },
    ],
  },
  { name: 'delta log', cuts: [{ out: /^local logged_at = redis\.pcall\('XADD'(?:.*\n)*?end\n/m }] },
  { name: 'index by use', cuts: [{ out: /^redis\.call\('ZADD', use_index, .*\n/m }] },
  {
    name: 'accounting',
    cuts: [{ out: /^local log_limit = (?:.*\n)*?if accounted ~= used then\n(?: .*\n)*end\n/m, instead: 'local used = 0\n' }],
  },
];

interface Variant {
  readonly name: string;
  readonly sha: string;
}

function without(source: string, { name, cuts }: Step): string {
  return cuts.reduce((left, { out, instead = '' }) => {
    if (!out.test(left)) {
      throw new Error(
        `lua/commit.lua has nothing for step "${name}" that ${out} matches: bring scripts/bench/commitSteps.ts up to date`,
      );
    }
    return left.replace(out, instead);
  }, source);
}

/** From the bare one to the whole. */
async function loadVariants(redis: Redis): Promise<Variant[]> {
  let source = scriptSource('commit');
  const variants: Variant[] = [];
  const add = async (name: string): Promise<void> => {
    variants.unshift({ name, sha: String(await redis.script('LOAD', source)) });
  };
  for (const step of [...STEPS].reverse()) {
    await add(step.name);
    source = without(source, step);
  }
  await add('core');
  return variants;
}

/** A connection that runs a variant of the commit script in its place. */
class VariantConnection extends RedisConnection {
  variant = '';

  override runScript<T>(deadline: Deadline, name: ScriptName, keys: readonly string[], args: readonly Argument[]): Promise<T> {
    if (name !== 'commit') throw new Error(`${name} is not what is measured`);
    return this.attempt(deadline, name, (client) => client.evalsha(this.variant, keys.length, ...keys, ...args) as Promise<T>);
  }
}

/** Commits as a store sends them. */
class Sender {
  readonly #connection: VariantConnection;
  readonly #commands: ContextCommands;
  #operations = 0;

  private constructor(connection: VariantConnection) {
    this.#connection = connection;
    const settings = { instanceId: 'bench', logKeep: 64, logBytes: 64 * 1024, tombstoneMs: 86_400_000 };
    this.#commands = new ContextCommands(connection, new Keys('bench-steps', 1), settings);
  }

  static async open(url: string): Promise<Sender> {
    const options = { target: url, attemptTimeoutMs: 5_000, clientName: 'bench' };
    const connection = new VariantConnection(options, { up: () => {}, down: () => {} });
    const deadline = connection.deadline(5_000);
    await connection.open(deadline);
    await connection.syncClock(deadline);
    return new Sender(connection);
  }

  close(): Promise<void> {
    return this.#connection.close();
  }

  /** The new version. */
  async commit(
    variant: string,
    id: string,
    data: string,
    patch: { text: string; baseVersion: number; baseCrc: string } | null,
  ): Promise<number> {
    this.#connection.variant = variant;
    this.#operations += 1;
    const result = await this.#commands.commit(
      {
        ...{ id, data, patch, operation: `bench.${this.#operations}`, ifVersion: null, ifCrc: null, ttl: 'none' },
        ...{ length: Buffer.byteLength(data), crc: crc32Hex(data), sha1: sha1Hex(data) },
      },
      this.#connection.deadline(5_000),
    );
    const kind = patch === null ? 'full' : 'patch';
    if (result.status !== 'committed' || result.kind !== kind) throw new Error(`${id}: ${JSON.stringify(result)}`);
    return result.version;
  }
}

export async function commitSteps({ url, rounds, quick }: Setting): Promise<Table> {
  const redis = new Redis(url);
  const raw = await RawClient.connect(url);
  const sender = await Sender.open(url);
  const calls = quick ? 60 : 300;
  try {
    const ladder = await loadVariants(redis);
    const whole = ladder.at(-1)?.sha ?? '';
    const columns = [column('step', 'Step')];
    const rows = new Map<string, Record<string, string | number>>();
    for (const { label, bytes } of PAYLOADS) {
      const docs = documents(bytes);
      const texts = docs.map((doc) => JSON.stringify(doc));
      const timed = (run: (call: number) => Promise<unknown>) => () =>
        usecPerCall(redis, 'evalsha', async () => {
          for (let call = 0; call < calls; call += 1) await run(call);
        });
      const contenders: Record<string, () => Promise<number>> = {
        reference: timed((call) => raw.push(`steps:${label}:${call & 15}`, docs[call & (docs.length - 1)])),
        patched: timed(await patched(sender, whole, label, docs[0] as Conversation)),
      };
      for (const { name, sha } of ladder) {
        contenders[name] = timed((call) =>
          sender.commit(sha, `${label}-${name}-${call & 15}`, texts[call & (texts.length - 1)] ?? '', null),
        );
      }
      const measured = await alternate(rounds, contenders);
      const usec = (name: string | undefined): number => median(measured[name ?? ''] ?? []);
      const cell = (step: string, value: number): void => {
        rows.set(step, { ...(rows.get(step) ?? { step }), [label]: value });
      };
      columns.push(column(label, label, 'microseconds'));
      cell('Reference: version check, SHA-1, HSET, PUBLISH', usec('reference'));
      cell('+ header, clock, operation id, fields beside the bytes', usec('core') - usec('reference'));
      for (const [index, { name }] of ladder.slice(1).entries()) cell(`+ ${name}`, usec(name) - usec(ladder[index]?.name));
      cell('Whole script, full frame', usec(ladder.at(-1)?.name));
      cell('Whole script, patch frame', usec('patched'));
    }
    return { caption: 'Server time of a commit by step, us a call (commandstats, evalsha)', columns, rows: [...rows.values()] };
  } finally {
    await Promise.all([redis.quit(), raw.close(), sender.close()]);
  }
}

/** Small edits of one document, to and fro, as patches. */
async function patched(
  sender: Sender,
  sha: string,
  label: string,
  doc: Conversation,
): Promise<(call: number) => Promise<unknown>> {
  const one = normalize(edited(doc, 1));
  const two = normalize(edited(doc, 2));
  const texts = [JSON.stringify(one), JSON.stringify(two)] as const;
  const sums = texts.map((text) => crc32Hex(text));
  const patches = [JSON.stringify(diff(two, one)), JSON.stringify(diff(one, two))];
  const ids = Array.from({ length: 16 }, (_, index) => `${label}-patched-${index}`);
  const versions = new Map<string, number>();
  for (const id of ids) versions.set(id, await sender.commit(sha, id, texts[1], null));
  return async (call) => {
    const id = ids[call & 15] ?? '';
    const baseVersion = versions.get(id) ?? 0;
    // odd versions hold the second text
    const to = baseVersion % 2 === 1 ? 0 : 1;
    versions.set(
      id,
      await sender.commit(sha, id, texts[to], { text: patches[to] ?? '', baseVersion, baseCrc: sums[1 - to] ?? '' }),
    );
  };
}
