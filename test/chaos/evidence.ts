/** What a chaos test holds against what the instances say: the log as it was collected, and Redis's raw bytes, read by other means than the store's. */
import { createHash } from 'node:crypto';
import type { Redis } from 'ioredis';
import { portableCrc32 } from '../../src/core/checksum.js';
import { ReferenceClient } from '../helpers/referenceClient.js';
import type { Ack, Told } from './instance.js';

/** An entry of a delta log. */
export interface Entry {
  readonly entryId: string;
  readonly version: number;
  readonly kind: string;
  readonly frame: Buffer;
  readonly base: string;
  readonly crc: string;
  readonly sha: string;
  readonly length: number;
  readonly op: string;
  readonly fields: ReadonlyMap<string, Buffer>;
}

const crcOf = (bytes: Buffer): string => portableCrc32(bytes).toString(16).padStart(8, '0');
const isRemoval = ({ kind }: Entry): boolean => kind === 'deleted' || kind === 'expired';

function entryOf([id, fields]: [Buffer, Buffer[]]): Entry {
  const named = new Map<string, Buffer>();
  for (let at = 0; at + 1 < fields.length; at += 2) named.set(String(fields[at]), fields[at + 1] ?? Buffer.alloc(0));
  const field = (name: string): Buffer => named.get(name) ?? Buffer.alloc(0);
  const entryId = id.toString();
  return {
    entryId,
    version: Number.parseInt(entryId, 10),
    kind: field('kind').toString(),
    frame: field('frame'),
    base: field('base').toString(),
    crc: field('crc').toString(),
    sha: field('sha').toString(),
    length: Number(field('len').toString()),
    op: field('op').toString(),
    fields: named,
  };
}

/** Follows the logs of a namespace of one shard, so that what they forget is still known at the end. */
export class LogCollector {
  readonly entries = new Map<string, Entry[]>();
  readonly #redis: Redis;
  readonly #tag: string;
  #running = true;
  readonly #done: Promise<void>;

  constructor(redis: Redis, namespace: string, ids: readonly string[]) {
    this.#redis = redis;
    this.#tag = `{lc:${namespace}:0}`;
    for (const id of ids) this.entries.set(id, []);
    this.#done = this.#follow();
  }

  end(): void {
    this.#running = false;
  }

  /** Takes in what is there now, and ends. */
  async stop(): Promise<void> {
    this.end();
    await this.#done;
    await this.#look();
  }

  of(id: string): readonly Entry[] {
    return this.entries.get(id) ?? [];
  }

  /** What is wrong with the logs themselves. */
  problems(): string[] {
    const found: string[] = [];
    const operations = new Map<string, string>();
    for (const [id, entries] of this.entries) {
      let version = 0;
      let crc = '-';
      for (const entry of entries) {
        const at = `${id} ${entry.entryId} ${entry.kind}`;
        const follows = entry.kind === 'expired' ? entry.version === version : entry.version === version + 1;
        if (!follows) found.push(`${at} comes after version ${version}`);
        if (!isRemoval(entry) && entry.base !== crc) found.push(`${at} has the base ${entry.base}, and ${crc} was before it`);
        if (entry.kind !== 'expired') {
          const other = operations.get(entry.op);
          if (other !== undefined) found.push(`operation ${entry.op} was applied twice: ${other} and ${at}`);
          operations.set(entry.op, at);
        }
        ({ version, crc } = entry);
      }
    }
    return found;
  }

  async #follow(): Promise<void> {
    while (this.#running) {
      await this.#look().catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  async #look(): Promise<void> {
    for (const [id, entries] of this.entries) {
      const last = entries.at(-1)?.entryId;
      const added = await this.#redis.xrangeBuffer(`${this.#tag}:l:${id}`, last === undefined ? '-' : `(${last}`, '+');
      entries.push(...added.map(entryOf));
    }
  }
}

/** Acknowledged writes that the logs do not have, and versions that were acknowledged twice. */
export function acknowledgedProblems(acks: readonly Ack[], log: LogCollector): string[] {
  const found: string[] = [];
  const known = new Set<string>();
  for (const { id, version, crc } of acks) {
    const name = `${id} version ${version}`;
    if (known.has(name)) found.push(`${name} was acknowledged twice`);
    known.add(name);
    const entry = log.of(id).find((one) => one.version === version && one.kind !== 'expired');
    if (entry === undefined) found.push(`${name} was acknowledged, and is not in the log`);
    else if (crc === null ? entry.kind !== 'deleted' : entry.crc !== crc) {
      found.push(`${name} was acknowledged as ${crc}, and the log has ${entry.kind} ${entry.crc}`);
    }
  }
  return found;
}

/** Values that readers got and that were never committed. */
export function readProblems(
  read: readonly (readonly [id: string, version: number, crc: string])[],
  log: LogCollector,
): string[] {
  return read
    .filter(([id, version, crc]) => !log.of(id).some((entry) => entry.version === version && entry.crc === crc))
    .map(([id, version, crc]) => `${id}: version ${version} was read as ${crc}, which was never committed`);
}

/**
 * What is wrong with what a watcher from version 0 was told: a version twice, out of order, left out without a `reset`, with another
 * value, or not told at all.
 */
export function toldProblems(id: string, told: readonly Told[], entries: readonly Entry[]): string[] {
  const found: string[] = [];
  let at = -1;
  for (const [version, kind, crc] of told) {
    const shown = `${id}: ${kind} ${version}`;
    const removal = kind === 'deleted' || kind === 'expired';
    const wanted = (entry: Entry): boolean =>
      entry.version === version &&
      (kind === 'reset' ? isRemoval(entry) === (crc === null) : removal ? entry.kind === kind : !isRemoval(entry));
    const index = entries.findIndex(wanted);
    if (index < 0) {
      found.push(`${shown} never was`);
      continue;
    }
    if (kind === 'reset' ? index < at : index !== at + 1) {
      found.push(`${shown} came after ${entries[at]?.kind ?? 'nothing'} ${entries[at]?.version ?? ''}`);
    }
    if (crc !== null && crc !== entries[index]?.crc) found.push(`${shown} had a value that was not committed`);
    at = index;
  }
  const last = entries.at(-1);
  if (at !== entries.length - 1) found.push(`${id}: it ended before ${last?.kind} ${last?.version}`);
  return found;
}

export interface StoredFacts {
  readonly version: number;
  readonly crc: string;
}

/**
 * Everything in a namespace of one shard, looked at field by field: checksums, logs that replay to the bytes, indexes, accounts. A commit
 * that was half done would show.
 *
 * @param exact - whether the accounts must equal what `MEMORY USAGE` says now; not so after a restart, which lays out memory anew
 */
export async function storedProblems(
  redis: Redis,
  namespace: string,
  exact: boolean,
): Promise<{ problems: string[]; contexts: Map<string, StoredFacts> }> {
  const tag = `{lc:${namespace}:0}`;
  const problems: string[] = [];
  const contexts = new Map<string, StoredFacts>();
  const keys = await allKeys(redis, `{lc:${namespace}`);
  const under = (kind: string): string[] =>
    keys.filter((key) => key.startsWith(`${tag}:${kind}:`)).map((key) => key.slice(tag.length + kind.length + 2));
  const ids = under('c');
  const known = new Set([
    `{lc:${namespace}}:ns`,
    ...['exp', 'use', 'size', 'mem', 'skip'].map((name) => `${tag}:${name}`),
    ...ids.map((id) => `${tag}:c:${id}`),
    ...['l', 'k', 'j'].flatMap((kind) => under(kind).map((id) => `${tag}:${kind}:${id}`)),
  ]);
  for (const key of keys) if (!known.has(key)) problems.push(`${key} was left behind`);

  let accounted = 0;
  for (const id of ids) {
    const fields = await redis.hgetallBuffer(`${tag}:c:${id}`);
    const entries = (await redis.xrangeBuffer(`${tag}:l:${id}`, '-', '+')).map(entryOf);
    const text = (name: string): string => fields[name]?.toString() ?? '(absent)';
    const data = fields.data ?? Buffer.alloc(0);
    const last = entries.at(-1);
    const equal = (what: string, found: unknown, wanted: unknown): void => {
      if (found !== wanted) problems.push(`${id}: ${what} is ${String(found)}, not ${String(wanted)}`);
    };
    equal('length', text('len'), String(data.length));
    equal('SHA-1', text('sha'), createHash('sha1').update(data).digest('hex'));
    equal('CRC-32', text('crc'), crcOf(data));
    const sealed = ['v', 'crc', 'sha', 'len', 'at'].map(text).join(' ');
    const seal = `${sealed} ${fields.exp?.toString() ?? '-'} ${id}`;
    equal('its seal', text('seal'), createHash('sha1').update(seal).digest('hex'));
    equal('the end of its log', last?.entryId, `${text('v')}-0`);
    equal("the log's CRC-32", last?.crc, text('crc'));
    equal("the log's SHA-1", last?.sha, text('sha'));
    equal("the log's length", String(last?.length), text('len'));
    equal("the log's operation", last?.op, text('op'));
    equal('its place in the index of expiries', await redis.zscore(`${tag}:exp`, id), fields.exp?.toString() ?? null);
    equal('being in the index of use', (await redis.zscore(`${tag}:use`, id)) !== null, true);
    const size = await redis.zscore(`${tag}:size`, id);
    accounted += Number(size);
    if (exact) {
      const used = await Promise.all(
        ['c', 'l', 'k', 'j'].map((kind) => redis.call('MEMORY', 'USAGE', `${tag}:${kind}:${id}`, 'SAMPLES', '0')),
      );
      equal(
        'its account',
        Number(size),
        used.reduce<number>((sum, bytes) => sum + Number(bytes ?? 0), 0),
      );
    }
    if (!replaysTo(entries, data)) problems.push(`${id}: its log does not replay to its bytes`);
    contexts.set(id, { version: Number(text('v')), crc: text('crc') });
  }
  for (const id of under('l').filter((name) => !contexts.has(name))) {
    const [last] = (await redis.xrevrangeBuffer(`${tag}:l:${id}`, '+', '-', 'COUNT', 1)).map(entryOf);
    if (last === undefined || !isRemoval(last)) problems.push(`${id} is gone, and its log ends with ${last?.kind}`);
    if ((await redis.pttl(`${tag}:l:${id}`)) < 0) problems.push(`${id} is gone, and its log stays for ever`);
  }
  for (const index of ['use', 'size', 'exp']) {
    for (const id of await redis.zrange(`${tag}:${index}`, '0', '-1')) {
      if (!contexts.has(id)) problems.push(`${id} is gone, and still in the index ${index}`);
    }
  }
  const [bytes, count] = await redis.hmget(`${tag}:mem`, 'bytes', 'contexts');
  if (Number(bytes) !== accounted) problems.push(`the namespace's account is ${bytes} bytes, not ${accounted}`);
  if (Number(count) !== ids.length) problems.push(`the namespace's account is ${count} contexts, not ${ids.length}`);
  return { problems, contexts };
}

/** From the last whole document in the log, by an implementation of the protocol that is not ours. */
function replaysTo(entries: readonly Entry[], data: Buffer): boolean {
  const start = entries.findLastIndex(({ kind, frame }) => kind === 'full' && frame.length > 0);
  // whole documents that are too large for the log leave nothing to replay from
  if (start < 0) return entries.at(-1)?.kind === 'full';
  const client = new ReferenceClient();
  entries.slice(start).forEach((entry, index) => {
    if (index === 0) client.load(entry.version, entry.frame);
    else client.entry(entry.entryId, entry.fields);
  });
  return client.trouble === '' && client.document?.equals(data) === true;
}

async function allKeys(redis: Redis, prefix: string): Promise<string[]> {
  const keys = new Set<string>();
  for (let cursor = '0'; ; ) {
    const [next, page] = await redis.scan(cursor, 'MATCH', `${prefix}*`, 'COUNT', 1_000);
    for (const key of page) keys.add(key);
    if (next === '0') return [...keys];
    cursor = next;
  }
}
