/**
 * What each step of a commit costs the server, timed by `INFO commandstats`: nothing of the client is in these numbers. The steps are
 * those of steps.lua, which does in small what lua/commit.lua does; beside them stands the real script.
 */
import { readFileSync } from 'node:fs';
import { Redis } from 'ioredis';
import { crc32Hex, sha1Hex } from '../../src/core/checksum.js';
import { diff } from '../../src/core/diff.js';
import { normalize } from '../../src/core/json.js';
import { ContextCommands } from '../../src/redis/ContextCommands.js';
import { Keys } from '../../src/redis/keys.js';
import { RedisConnection } from '../../src/redis/RedisConnection.js';
import type { Conversation } from '../../test/helpers/random.js';
import type { Setting } from './lib/benchmark.js';
import { documents, edited, PAYLOADS } from './lib/payloads.js';
import { RawClient } from './lib/RawClient.js';
import { alternate, median } from './lib/rounds.js';
import { usecPerCall } from './lib/serverTime.js';
import { column, type Table } from './lib/table.js';

const SOURCE = readFileSync(new URL('steps.lua', import.meta.url), 'utf8');
/** In the order in which steps.lua switches them on; before the first it is the reference. */
const STEPS = ['header, clock, operation id, fields beside the bytes', 'read-back', 'delta log', 'accounts', 'index by use'];
/** What the other words of a commit's header look like. */
const HEADER = [
  '0 - 0 -',
  '2fd4e1c67a2d28fced849ee1bb76e7391b93eb12',
  '0a1b2c3d 1024 none 1767225600000 0 1767225600000 0 64 65536 32 86400000 60000 PUBLISH',
];
const IDS = 16;

/** One writer, who knows the versions it has written. */
class Writer {
  readonly #redis: Redis;
  readonly #connection: RedisConnection;
  readonly #commands: ContextCommands;
  readonly #versions = new Map<string, number>();
  #operations = 0;

  private constructor(redis: Redis, connection: RedisConnection) {
    this.#redis = redis;
    this.#connection = connection;
    const settings = { instanceId: 'bench', logKeep: 64, logBytes: 64 * 1024, tombstoneMs: 86_400_000 };
    this.#commands = new ContextCommands(connection, new Keys('bench-steps', 1), settings);
  }

  static async open(redis: Redis, url: string): Promise<Writer> {
    const connection = new RedisConnection(
      { target: url, attemptTimeoutMs: 5_000, clientName: 'bench' },
      { up: () => {}, down: () => {} },
    );
    const deadline = connection.deadline(5_000);
    await connection.open(deadline);
    await connection.syncClock(deadline);
    return new Writer(redis, connection);
  }

  close(): Promise<void> {
    return this.#connection.close();
  }

  #operation(): string {
    this.#operations += 1;
    return `bench.${this.#operations}`;
  }

  /** steps.lua, known by its SHA. */
  async step(sha: string, id: string, data: string): Promise<void> {
    const keys = ['c', 'l', 'use', 'size', 'mem', 'o'].map((name) => `{steps}:${name}:${name.length > 1 ? '' : id}`);
    const version = this.#versions.get(id) ?? 0;
    const header = `${this.#operation()} bench ${HEADER.join(' ')}`;
    const stored = await this.#redis.evalsha(
      sha,
      keys.length,
      ...keys,
      data,
      version,
      sha1Hex(data),
      `{steps}:ch:${id}`,
      id,
      header,
    );
    if (stored !== version + 1) throw new Error(`${id}: ${String(stored)}`);
    this.#versions.set(id, version + 1);
  }

  /** The real script, as a store calls it. Gives the new version. */
  async commit(id: string, data: string, patch: { text: string; baseVersion: number; baseCrc: string } | null): Promise<number> {
    const result = await this.#commands.commit(
      {
        ...{ id, operation: this.#operation(), ifVersion: null, ifCrc: null, ttl: 'none', fence: 0 },
        ...{ length: Buffer.byteLength(data), crc: crc32Hex(data), sha1: sha1Hex(data) },
        storage: { form: 'whole', data },
        payload: { kind: patch === null ? 'full' : 'patch', encoding: '-', bytes: patch?.text ?? null },
        base: patch === null ? null : { version: patch.baseVersion, crc: patch.baseCrc, sha1: null },
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
  const writer = await Writer.open(redis, url);
  const calls = quick ? 60 : 300;
  try {
    const shas = [];
    for (let steps = 1; steps <= STEPS.length; steps += 1)
      shas.push(String(await redis.script('LOAD', SOURCE.replace('= STEPS', `= ${steps}`))));
    const columns = [column('step', 'Step')];
    const rows = new Map<string, Record<string, string | number>>();
    for (const { label, bytes } of PAYLOADS) {
      const docs = documents(bytes);
      const texts = docs.map((doc) => JSON.stringify(doc));
      const textOf = (call: number): string => texts[call & (texts.length - 1)] ?? '';
      const timed = (run: (call: number) => Promise<unknown>) => () =>
        usecPerCall(redis, 'evalsha', async () => {
          for (let call = 0; call < calls; call += 1) await run(call);
        });
      const contenders: Record<string, () => Promise<number>> = {
        reference: timed((call) => raw.push(`steps:${label}:${call % IDS}`, docs[call & (docs.length - 1)])),
        full: timed((call) => writer.commit(`${label}-full-${call % IDS}`, textOf(call), null)),
        patch: timed(await patches(writer, label, docs[0] as Conversation)),
      };
      for (const [index, sha] of shas.entries())
        contenders[`step ${index}`] = timed((call) => writer.step(sha, `${label}-${index}-${call % IDS}`, textOf(call)));
      const measured = await alternate(rounds, contenders);
      const usec = (name: string): number => median(measured[name] ?? []);
      const cell = (step: string, value: number): void => {
        rows.set(step, { ...(rows.get(step) ?? { step }), [label]: value });
      };
      columns.push(column(label, label, 'microseconds'));
      cell('Reference: version check, SHA-1, HSET, PUBLISH', usec('reference'));
      for (const [index, name] of STEPS.entries())
        cell(`+ ${name}`, usec(`step ${index}`) - usec(index === 0 ? 'reference' : `step ${index - 1}`));
      cell('+ what else lua/commit.lua looks at', usec('full') - usec(`step ${STEPS.length - 1}`));
      cell('lua/commit.lua, whole document published', usec('full'));
      cell('lua/commit.lua, patch published', usec('patch'));
    }
    return { caption: 'Server time of a commit by step, us a call (commandstats, evalsha)', columns, rows: [...rows.values()] };
  } finally {
    await Promise.all([redis.quit(), raw.close(), writer.close()]);
  }
}

/** Small edits of one document, to and fro. */
async function patches(writer: Writer, label: string, doc: Conversation): Promise<(call: number) => Promise<unknown>> {
  const one = normalize(edited(doc, 1));
  const two = normalize(edited(doc, 2));
  const texts = [JSON.stringify(one), JSON.stringify(two)] as const;
  const sums = texts.map((text) => crc32Hex(text));
  const edits = [JSON.stringify(diff(two, one)), JSON.stringify(diff(one, two))];
  const versions = new Map<string, number>();
  for (let index = 0; index < IDS; index += 1)
    versions.set(`${label}-patch-${index}`, await writer.commit(`${label}-patch-${index}`, texts[1], null));
  return async (call) => {
    const id = `${label}-patch-${call % IDS}`;
    const baseVersion = versions.get(id) ?? 0;
    // odd versions hold the second text
    const to = baseVersion % 2 === 1 ? 0 : 1;
    versions.set(id, await writer.commit(id, texts[to], { text: edits[to] ?? '', baseVersion, baseCrc: sums[1 - to] ?? '' }));
  };
}
