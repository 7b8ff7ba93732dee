/** Stores whose bytes are damaged bit by bit, in a process of their own: an exception that nobody catches would end it. */
import { Redis } from 'ioredis';
import { ContextStore, isContextError } from '../../src/index.js';
import { serve } from '../helpers/child.js';
import { DamagedPath } from '../helpers/DamagedPath.js';
import type { Direction } from '../helpers/TcpProxy.js';

export interface Trials {
  readonly port: number;
  readonly namespace: string;
  readonly direction: Direction;
  /** What is damaged: the bytes of this call. */
  readonly call: 'set' | 'get' | 'update' | 'delete' | 'touch';
}

export interface Found {
  readonly trials: number;
  readonly failed: number;
  /** Documents that were never written, calls that did not end, and stores that did not go on. */
  readonly problems: readonly string[];
  /** What landed elsewhere than it was sent, or was answered with other facts than are stored. */
  readonly astray: readonly string[];
}

const LANES = 4;
const HANGS_MS = 4_000;

interface Lane {
  readonly path: DamagedPath;
  readonly store: ContextStore;
  readonly id: string;
}

let serial = 0;

async function bounded<T>(call: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('it hangs')), HANGS_MS);
  });
  return Promise.race([call, late]).finally(() => clearTimeout(timer));
}

interface Doc {
  serial: number;
  text: string;
}

async function trials({ port, namespace, direction, call }: Trials): Promise<Found> {
  const direct: Redis = new Redis(port);
  const lanes = await Promise.all(
    Array.from({ length: LANES }, async (_, index): Promise<Lane> => {
      const path = await DamagedPath.start(port);
      const store = await ContextStore.connect({
        redis: path.proxy.url,
        namespace,
        attemptTimeout: '100ms',
        timeout: '1s',
        heartbeat: '1h',
        workers: 'off',
        logger: false,
      });
      return { path, store, id: `context-${index}` };
    }),
  );
  const problems: string[] = [];
  const astray: string[] = [];
  let failed = 0;
  const key = (id: string): string => `{lc:${namespace}:0}:c:${id}`;
  const stored = async (id: string): Promise<{ data: string | null; version: string | null }> => {
    const [data = null, version = null] = await direct.hmget(key(id), 'data', 'v');
    return { data, version };
  };
  const fresh = (): Doc => ({ serial: ++serial, text: 'äöü'.repeat(4) });

  async function run({ store, id }: Lane, value: Doc): Promise<{ version: number; value?: unknown } | null> {
    switch (call) {
      case 'set':
        return store.set(id, { ...value });
      case 'get':
        return store.get(id, { fresh: true });
      case 'update':
        return store.update<Doc>(id, (draft) => {
          draft.serial = value.serial;
        });
      case 'delete': {
        const gone = await store.delete(id);
        return gone === null ? null : { version: gone.version };
      }
      case 'touch':
        await store.touch(id, '1h');
        return null;
    }
  }

  async function trial(lane: Lane, byte: number, bit: number): Promise<boolean> {
    const { path, store, id } = lane;
    const what = `${call} ${direction} byte ${byte} bit ${bit}`;
    const before = (await bounded(store.set(id, { ...fresh() }))) as { version: number };
    const old = await stored(id);
    const value = fresh();
    const after = call === 'set' ? value : call === 'update' ? { ...JSON.parse(old.data ?? 'null'), serial: value.serial } : null;
    path.arm(':commands', direction, byte, bit);
    let answer: { version: number; value?: unknown } | null | undefined;
    try {
      answer = await bounded(run(lane, value));
    } catch (error) {
      failed += 1;
      if (!isContextError(error)) problems.push(`${what}: ${error instanceof Error ? (error.stack ?? '') : String(error)}`);
    }
    const flipped = !path.armed;
    path.disarm();
    const now = await stored(id);
    const wanted = [old.data, ...(call === 'delete' ? [null] : after === null ? [] : [JSON.stringify(after)])];
    if (!wanted.includes(now.data)) problems.push(`${what}: ${now.data} is stored`);
    if (answer !== undefined && call === 'get' && JSON.stringify(answer?.value ?? null) !== old.data) {
      (answer === null ? astray : problems).push(`${what}: ${JSON.stringify(answer)} was read, not ${old.data}`);
    }
    if (answer !== undefined && after !== null && now.data !== JSON.stringify(after)) {
      astray.push(`${what}: acknowledged, and ${now.data} is stored`);
    }
    if (answer && call !== 'delete' && String(answer.version) !== now.version) {
      astray.push(`${what}: version ${answer.version} was answered, ${now.version} is stored after ${before.version}`);
    }
    if (answer !== undefined && call === 'delete' && now.data !== null) astray.push(`${what}: deleted, and it is there`);
    // the next call works
    const next = await bounded(store.get<Doc>(id, { fresh: true })).catch((error: unknown) => String(error));
    if (typeof next === 'string' || JSON.stringify(next?.value ?? null) !== (now.data ?? 'null')) {
      // a write that landed elsewhere is in memory here
      const strayed =
        typeof next !== 'string' && answer !== undefined && JSON.stringify(next?.value ?? null) === JSON.stringify(after);
      (strayed ? astray : problems).push(`${what}: after it ${JSON.stringify(next)} was read, not ${now.data}`);
    }
    return flipped;
  }

  let next = 0;
  let count = 0;
  await Promise.all(
    lanes.map(async (lane) => {
      for (let over = false; !over; ) {
        const byte = next++;
        // all bits in turn: twice each byte, so that digits, letters and line ends meet low and high ones
        for (const bit of [byte % 8, (byte * 3 + 5) % 8]) {
          count += 1;
          over = !(await trial(lane, byte, bit));
        }
      }
    }),
  );
  const known = new Set(lanes.flatMap(({ id }) => [key(id), `{lc:${namespace}:0}:l:${id}`]));
  for (const name of await direct.keys('*')) {
    if (!known.has(name) && !/^\{lc:[^}]*\}:(ns|exp|use|size|mem)$/.test(name)) astray.push(`${name} was left behind`);
  }
  await Promise.all(lanes.map(({ store }) => store.close()));
  await Promise.all(lanes.map(({ path }) => path.close()));
  await direct.flushall();
  direct.disconnect();
  return { trials: count, failed, problems, astray };
}

serve((message) => {
  if (message !== 'end') return trials(message as Trials);
  // ends with the exit code 0, unless something else ends it
  setTimeout(() => process.disconnect(), 50);
  return undefined;
});
