/** A writer and a subscriber, each behind a proxy that counts its bytes: what the store counts of itself is not asked. */
import jsonpatch, { type Operation } from 'fast-json-patch';
import type { Redis } from 'ioredis';
import { diff } from '../../../src/core/diff.js';
import { parseFrozen } from '../../../src/core/json.js';
import type { Change, ContextStore } from '../../../src/index.js';
import { Keys } from '../../../src/redis/keys.js';
import { TcpProxy } from '../../../test/helpers/TcpProxy.js';
import { waitFor } from '../../../test/helpers/waitFor.js';
import { openStore, replicate } from '../lib/stores.js';
import { fullBytes, type Sequence } from './sequences.js';

export type Mode = 'on' | 'off';

export interface Traffic {
  readonly full: number;
  /** Writer to Redis, and back: replies, and frames, since the writer listens as well. */
  readonly toRedis: number;
  readonly toWriter: number;
  readonly toSubscriber: number;
  /** Real bytes of Redis by which the log has grown, and those of the frames in it. */
  readonly log: number;
  readonly logFrames: number;
  /** Real bytes of the copies that stand beside the log of a large context, for what it replays to begin with. */
  readonly copies: number;
}

const NOTHING: Traffic = { full: 0, toRedis: 0, toWriter: 0, toSubscriber: 0, log: 0, logFrames: 0, copies: 0 };

export const together = (traffic: readonly Traffic[]): Traffic =>
  traffic.reduce(
    (sum, one) => ({
      full: sum.full + one.full,
      toRedis: sum.toRedis + one.toRedis,
      toWriter: sum.toWriter + one.toWriter,
      toSubscriber: sum.toSubscriber + one.toSubscriber,
      log: sum.log + one.log,
      logFrames: sum.logFrames + one.logFrames,
      copies: sum.copies + one.copies,
    }),
    NOTHING,
  );

interface Proxies {
  readonly writer: TcpProxy;
  readonly subscriber: TcpProxy;
}

/** Bytes that went by, in the order in which they are counted. */
type Counts = readonly [toRedis: number, toWriter: number, toSubscriber: number];

export class CountedPair {
  readonly #redis: Redis;
  readonly #proxies: Proxies;
  readonly #writer: ContextStore;
  readonly #subscriber: ContextStore;
  /** Bytes a millisecond while nobody writes. */
  #idle: Counts = [0, 0, 0];

  private constructor(redis: Redis, proxies: Proxies, writer: ContextStore, subscriber: ContextStore) {
    this.#redis = redis;
    this.#proxies = proxies;
    this.#writer = writer;
    this.#subscriber = subscriber;
  }

  /**
   * @param redis - past the proxies, to look at what is stored
   * @param log - keeps everything, or what it keeps where nothing is said
   */
  static async open(redis: Redis, port: number, mode: Mode, log: 'all' | 'default' = 'all'): Promise<CountedPair> {
    const proxies = { writer: await TcpProxy.start(port), subscriber: await TcpProxy.start(port) };
    const options = {
      delta: mode,
      // no traffic but what is written
      heartbeat: '10m',
      ...(log === 'all' ? { log: { keep: 512, bytes: '1gb' } } : {}),
      limits: { contextBytes: '8mb' },
    } as const;
    const namespace = `bench-wire-${mode}-${log}`;
    const writer = await openStore(proxies.writer.url, namespace, options);
    const subscriber = await openStore(proxies.subscriber.url, namespace, options);
    return new CountedPair(redis, proxies, writer, subscriber);
  }

  get #counts(): Counts {
    const { writer, subscriber } = this.#proxies;
    return [writer.bytesUp, writer.bytesDown, subscriber.bytesDown];
  }

  /** What goes by while nothing is done. */
  async measureIdle(ms: number): Promise<Counts> {
    await this.#quiet();
    const before = this.#counts;
    await new Promise((resolve) => setTimeout(resolve, ms));
    const [toRedis, toWriter, toSubscriber] = this.#since(before);
    this.#idle = [toRedis / ms, toWriter / ms, toSubscriber / ms];
    return [toRedis, toWriter, toSubscriber];
  }

  /**
   * Writes the sequence revision by revision; each must reach the subscriber byte by byte before the next is written.
   *
   * @param how - whole new values by `set`, or the same change made to the draft of `update`
   */
  async replay(id: string, sequence: Sequence, how: 'set' | 'draft'): Promise<Traffic> {
    const [first, ...others] = sequence.texts as readonly [string, ...string[]];
    const changes = this.#subscriber.watch(id);
    await this.#writer.set(id, JSON.parse(first));
    await arrived(changes, first);
    await replicate(this.#writer, [id]);
    await replicate(this.#subscriber, [id]);
    await this.#quiet();
    const log = await this.#log(id);
    const counts = this.#counts;
    const start = performance.now();
    let before = first;
    for (const text of others) {
      if (how === 'set') await this.#writer.set(id, JSON.parse(text));
      else await this.#writer.update(id, draftChange(before, text));
      await arrived(changes, text);
      before = text;
    }
    await this.#quiet();
    const ms = performance.now() - start;
    const [toRedis, toWriter, toSubscriber] = this.#since(counts).map((bytes, index) => bytes - (this.#idle[index] ?? 0) * ms);
    const after = await this.#log(id);
    await changes.return?.();
    await this.#compare(id, others.at(-1) ?? first);
    return {
      full: fullBytes(sequence),
      toRedis: toRedis ?? Number.NaN,
      toWriter: toWriter ?? Number.NaN,
      toSubscriber: toSubscriber ?? Number.NaN,
      log: after.used - log.used,
      logFrames: after.frames - log.frames,
      copies: after.copies - log.copies,
    };
  }

  async close(): Promise<void> {
    await Promise.all([this.#writer.close(), this.#subscriber.close()]);
    await Promise.all([this.#proxies.writer.close(), this.#proxies.subscriber.close()]);
  }

  #since(before: Counts): Counts {
    const [toRedis, toWriter, toSubscriber] = this.#counts;
    return [toRedis - before[0], toWriter - before[1], toSubscriber - before[2]];
  }

  /** Until nothing goes by any more. */
  async #quiet(): Promise<void> {
    let before = '';
    await waitFor(
      () => {
        const now = this.#counts.join(' ');
        const quiet = now === before;
        before = now;
        return quiet;
      },
      { what: 'the connections to fall silent', everyMs: 40 },
    );
  }

  async #log(id: string): Promise<{ used: number; frames: number; copies: number }> {
    const { log } = this.#writer.keysOf(id);
    const usage = async (key: string): Promise<number> => Number(await this.#redis.memory('USAGE', key, 'SAMPLES', 0));
    const used = await usage(log);
    let copies = 0;
    for (const key of new Keys(this.#writer.namespace, 1).checkpointsOf(id)) copies += await usage(key);
    let frames = 0;
    for (const [, fields] of await this.#redis.xrangeBuffer(log, '-', '+')) {
      for (let index = 0; index + 1 < fields.length; index += 2)
        if (String(fields[index]) === 'frame') frames += fields[index + 1]?.length ?? 0;
    }
    return { used, frames, copies };
  }

  /** What is stored, and what both hold, against the last revision. */
  async #compare(id: string, text: string): Promise<void> {
    const { context } = this.#writer.keysOf(id);
    const chunks = await this.#redis.hget(context, 'chunks');
    const names =
      chunks === null
        ? ['data']
        : chunks
            .trimEnd()
            .split('\n')
            .map((line) => line.split(' ')[0] ?? '');
    const stored = Buffer.concat((await this.#redis.hmgetBuffer(context, ...names)).map((bytes) => bytes ?? Buffer.alloc(0)));
    const held = await Promise.all([this.#writer.get(id), this.#subscriber.get(id)]);
    if (!stored.equals(Buffer.from(text)) || !held.every((one) => JSON.stringify(one?.value) === text))
      throw new Error(`${id}: it is not the last revision`);
  }
}

/** Makes one text of the other in a draft, element by element, as a program does that adds a turn or changes a field. */
function draftChange(before: string, after: string): (draft: unknown) => void {
  const patch = diff(parseFrozen(before), parseFrozen(after));
  return (draft) => {
    jsonpatch.applyPatch(draft, structuredClone(patch) as unknown as Operation[]);
  };
}

async function arrived(changes: AsyncIterator<Change>, text: string): Promise<void> {
  const { value: change } = (await changes.next()) as { value: Change };
  if (JSON.stringify(change.value) !== text) throw new Error(`${change.id}: version ${change.version} is another document`);
}
