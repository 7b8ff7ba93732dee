import { expect } from 'chai';
import fc from 'fast-check';
import { Redis } from 'ioredis';
import { crc32Hex } from '../../src/core/checksum.js';
import type { Change } from '../../src/core/context.js';
import { isContextError } from '../../src/core/errors.js';
import { ContextStore, type JsonValue, type StoreOptions } from '../../src/index.js';
import { uniqueNamespace } from '../helpers/namespace.js';
import { sharedServer } from '../helpers/RedisServer.js';
import { TcpProxy } from '../helpers/TcpProxy.js';
import { waitFor } from '../helpers/waitFor.js';

/** How many instances share the namespace: two with replicas, one without, one over a slow line. */
const INSTANCES = 4;
const WITHOUT_REPLICAS = 2;
const IDS = 2;

type Doc = { readonly n: number; readonly list: readonly JsonValue[] };
const EMPTY: Doc = { n: 0, list: [] };

type Operation =
  | { readonly do: 'set'; readonly ttl: number | null; readonly ifVersion: 'none' | 'absent' | 'seen' }
  | { readonly do: 'update'; readonly initial: boolean }
  | { readonly do: 'patch'; readonly fails: boolean }
  | { readonly do: 'delete'; readonly ifSeen: boolean }
  | { readonly do: 'touch'; readonly ttl: number | null }
  | { readonly do: 'get'; readonly fresh: boolean }
  | { readonly do: 'getMany' };

interface Step {
  readonly id: number;
  readonly waitMs: number;
  readonly operation: Operation;
}

const ttl = fc.oneof(
  { weight: 5, arbitrary: fc.constant(null) },
  { weight: 1, arbitrary: fc.constant(3_600_000) },
  { weight: 2, arbitrary: fc.integer({ min: 1, max: 20 }) },
);
const operation: fc.Arbitrary<Operation> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('set' as const),
      ttl,
      ifVersion: fc.constantFrom('none' as const, 'none' as const, 'absent' as const, 'seen' as const),
    }),
  },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('update' as const), initial: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('patch' as const), fails: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('delete' as const), ifSeen: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('touch' as const), ttl }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('get' as const), fresh: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('getMany' as const) }) },
);
const step: fc.Arbitrary<Step> = fc.record({ id: fc.nat(IDS - 1), waitMs: fc.constantFrom(0, 0, 0, 1, 3), operation });
const program = fc.record({
  instance: fc.nat(INSTANCES - 1),
  steps: fc.array(step, { minLength: 1, maxLength: 14, size: 'max' }),
});
const programs = fc.array(program, { minLength: 2, maxLength: 6 });

/** A write that was acknowledged, and what it makes of the document before it (null: there was none). */
interface Acknowledged {
  readonly what: string;
  readonly version: number;
  readonly checksum: string | null;
  readonly apply: (before: Doc | null) => Doc | null;
}

interface Read {
  readonly what: string;
  /** The least version that it may show. */
  readonly floor: number;
  readonly version: number | null;
  readonly text: string | null;
}

/** One entry of the log as Redis has it. */
interface Logged {
  readonly version: number;
  readonly kind: string;
  readonly crc: string;
}

/** Everything that one run did to one context and saw of it. */
class Record {
  readonly writes: Acknowledged[] = [];
  readonly reads: Read[] = [];
  readonly watches: { readonly what: string; readonly seen: Change[]; readonly end: () => void }[] = [];
  /** The version that each instance has seen, by its own reads and writes. */
  readonly seen: number[] = new Array<number>(INSTANCES).fill(0);

  constructor(readonly id: string) {}

  floor(instance: number): number {
    return instance === WITHOUT_REPLICAS ? Math.max(...this.seen) : (this.seen[instance] ?? 0);
  }

  raise(instance: number, version: number): void {
    this.seen[instance] = Math.max(this.seen[instance] ?? 0, version);
  }
}

describe('any interleaving of several instances equals a sequential model', function () {
  this.timeout(60_000);
  let stores: ContextStore[];
  let redis: Redis;
  let proxy: TcpProxy;
  let serial = 0;

  before(async () => {
    const { url } = await sharedServer();
    redis = new Redis(url);
    proxy = await TcpProxy.start(Number(new URL(url).port));
    const options: StoreOptions = {
      redis: url,
      namespace: uniqueNamespace('model'),
      heartbeat: '50ms',
      log: { keep: 512, bytes: '16mb' },
      workers: 'off',
      logger: false,
    };
    stores = await Promise.all([
      ContextStore.connect(options),
      ContextStore.connect({ ...options, heartbeat: '1s' }),
      ContextStore.connect({ ...options, memory: { local: 0 } }),
      ContextStore.connect({ ...options, redis: proxy.url }),
    ]);
    proxy.delay(1);
  });
  after(async () => {
    await Promise.all(stores.map((store) => store.close()));
    await proxy.close();
    redis.disconnect();
  });

  const store = (instance: number): ContextStore => stores[instance] as ContextStore;

  async function log(id: string): Promise<Logged[]> {
    const entries = await redis.xrange(store(0).keysOf(id).log, '-', '+');
    return entries.map(([entryId, fields]) => {
      const field = (name: string): string => fields[fields.indexOf(name) + 1] ?? '';
      return {
        version: Number.parseInt(entryId, 10),
        kind: field('kind'),
        crc: field('crc'),
      };
    });
  }

  async function perform(instance: number, { id: index, operation: wanted }: Step, records: readonly Record[]): Promise<void> {
    const record = records[index] as Record;
    const { id } = record;
    const mine = store(instance);
    const floor = record.floor(instance);
    const what = `${JSON.stringify(wanted)} of ${id} in ${instance}`;
    const number = ++serial;
    const acknowledge = (version: number, checksum: string | null, apply: Acknowledged['apply']): void => {
      record.writes.push({ what, version, checksum, apply });
      record.raise(instance, version);
    };
    const saw = (of: Record, least: number, context: { version: number; value: JsonValue } | null): void => {
      const text = context === null ? null : JSON.stringify(context.value);
      of.reads.push({ what, floor: least, version: context?.version ?? null, text });
      if (context !== null) of.raise(instance, context.version);
    };
    switch (wanted.do) {
      case 'set': {
        const doc: Doc = { n: 0, list: [number] };
        const ifVersion = wanted.ifVersion === 'none' ? undefined : wanted.ifVersion === 'absent' ? 0 : floor;
        const { version, checksum } = await mine.set(id, doc, {
          ...(wanted.ttl === null ? {} : { ttl: wanted.ttl }),
          ...(ifVersion === undefined ? {} : { ifVersion }),
        });
        if (ifVersion !== undefined && ifVersion > 0) expect(version, what).to.equal(ifVersion + 1);
        acknowledge(version, checksum, (before) => {
          if (wanted.ifVersion === 'absent' || ifVersion === 0) expect(before, what).to.equal(null);
          return doc;
        });
        break;
      }
      case 'update': {
        const change = (draft: { n: number; list: JsonValue[] }): void => {
          draft.n += 1;
          draft.list = draft.list.slice(-5);
          draft.list.push(number);
        };
        const { version, checksum, value } = await mine.update(id, change, wanted.initial ? { initial: EMPTY } : {});
        acknowledge(version, checksum, (before) => {
          if (!wanted.initial) expect(before, what).not.to.equal(null);
          const draft = structuredClone(before ?? EMPTY) as { n: number; list: JsonValue[] };
          change(draft);
          expect(value, what).to.deep.equal(draft);
          return draft;
        });
        break;
      }
      case 'patch': {
        const patch = [
          { op: 'add', path: '/list/0', value: { at: number } },
          { op: 'test', path: '/list/0/at', value: wanted.fails ? 'another' : number },
        ];
        const { version, checksum } = await mine.patch(id, patch);
        acknowledge(version, checksum, (before) => {
          expect(before, what).not.to.equal(null);
          return before === null ? null : { ...before, list: [{ at: number }, ...before.list] };
        });
        break;
      }
      case 'delete': {
        const result = await mine.delete(id, wanted.ifSeen && floor > 0 ? { ifVersion: floor } : {});
        if (result !== null) {
          acknowledge(result.version, null, (before) => {
            expect(before, what).not.to.equal(null);
            return null;
          });
        }
        break;
      }
      case 'touch':
        await mine.touch(id, wanted.ttl ?? 'none');
        break;
      case 'get':
        saw(record, floor, await mine.get(id, { fresh: wanted.fresh }));
        break;
      case 'getMany': {
        const floors = records.map((one) => one.floor(instance));
        const contexts = await mine.getMany(records.map((one) => one.id));
        records.forEach((one, at) => {
          saw(one, floors[at] ?? 0, contexts[at] ?? null);
        });
        break;
      }
    }
  }

  async function client(instance: number, steps: readonly Step[], records: readonly Record[]): Promise<void> {
    for (const one of steps) {
      if (one.waitMs > 0) await new Promise((resolve) => setTimeout(resolve, one.waitMs));
      try {
        await perform(instance, one, records);
      } catch (error) {
        const refused = isContextError(error) && ['CONFLICT', 'NOT_FOUND', 'PATCH_FAILED'].includes(error.code);
        if (!refused) throw error;
      }
    }
  }

  function watch(instance: number, record: Record): void {
    const watcher = store(instance).watch(record.id, { fromVersion: 0 });
    const seen: Change[] = [];
    record.watches.push({ what: `watch of ${record.id} in ${instance}`, seen, end: () => void watcher.return?.() });
    void (async () => {
      for await (const change of watcher) seen.push(change);
    })();
  }

  /** The document at each version, replayed by the model; what the log says must be that. */
  function replay({ writes, id }: Record, entries: readonly Logged[]): Map<number, string> {
    const shown = `${id}\n${entries.map(({ kind, version }) => `${kind} ${version}`).join(', ')}\nacknowledged:\n${writes
      .map(({ what, version }) => `${version} ${what}`)
      .join('\n')}`;
    const byVersion = new Map<number, Acknowledged>();
    for (const write of writes) {
      expect(byVersion.has(write.version), `version ${write.version} was acknowledged twice: ${shown}`).to.equal(false);
      byVersion.set(write.version, write);
    }
    const texts = new Map<number, string>();
    let version = 0;
    let doc: Doc | null = null;
    for (const entry of entries) {
      if (entry.kind === 'expired') {
        expect(entry.version, shown).to.equal(version);
        doc = null;
        continue;
      }
      version += 1;
      expect(entry.version, `a version is missing: ${shown}`).to.equal(version);
      const write = byVersion.get(version);
      if (write === undefined) throw new Error(`nobody was told of version ${version}: ${shown}`);
      doc = write.apply(doc);
      if (doc === null) {
        expect(entry.kind, shown).to.equal('deleted');
        continue;
      }
      const text = JSON.stringify(doc);
      expect(entry.crc, `content of version ${version}: ${shown}`).to.equal(crc32Hex(text));
      expect(write.checksum, shown).to.equal(entry.crc);
      texts.set(version, text);
    }
    expect(byVersion.size, `an acknowledged write is not in the log: ${shown}`).to.equal(version);
    return texts;
  }

  function checkReads({ reads }: Record, entries: readonly Logged[], texts: ReadonlyMap<number, string>): void {
    for (const { what, floor, version, text } of reads) {
      if (version === null) {
        const gone = entries.some((entry) => entry.version >= floor && (entry.kind === 'deleted' || entry.kind === 'expired'));
        expect(floor === 0 || gone, `${what} found nothing after version ${floor}`).to.equal(true);
        continue;
      }
      expect(text, `${what}: version ${version}`).to.equal(texts.get(version));
      expect(version, `${what} went back`).to.be.at.least(floor);
    }
  }

  async function checkWatches(record: Record, entries: readonly Logged[], texts: ReadonlyMap<number, string>): Promise<void> {
    const wanted = entries.map(
      ({ version, kind }) => `${version} ${kind === 'deleted' || kind === 'expired' ? kind : 'written'}`,
    );
    for (const { what, seen, end } of record.watches) {
      const told = (): string[] =>
        seen.map(({ version, kind }) => `${version} ${kind === 'patch' || kind === 'full' ? 'written' : kind}`);
      await waitFor(() => told().length >= wanted.length, { what: `${what}: ${wanted.length} changes` }).catch(() => {});
      expect(told(), what).to.deep.equal(wanted);
      for (const { version, value } of seen) {
        if (value !== null) expect(JSON.stringify(value), `${what}, version ${version}`).to.equal(texts.get(version));
      }
      end();
    }
  }

  /** What short lives were given is over and swept, so that nothing changes any more. */
  const rests = async (id: string): Promise<boolean> => {
    const exp = await redis.hget(store(0).keysOf(id).context, 'exp');
    return exp === null || Number(exp) > Date.now() + 60_000;
  };

  async function checkEnd({ id }: Record): Promise<void> {
    const raw = await redis.hgetall(store(0).keysOf(id).context);
    if (raw.data !== undefined) expect(raw.crc, id).to.equal(crc32Hex(raw.data));
    for (let instance = 0; instance < INSTANCES; instance += 1) {
      await waitFor(
        async () => {
          const context = await store(instance).get(id);
          return raw.data === undefined
            ? context === null
            : JSON.stringify(context?.value) === raw.data && String(context?.version) === raw.v && context?.checksum === raw.crc;
        },
        { what: `instance ${instance} to have ${raw.data} at version ${raw.v} as ${id}` },
      );
      const verified = await store(instance).verify(id);
      expect(verified?.ok ?? true, JSON.stringify(verified)).to.equal(true);
    }
  }

  it('whatever they set, update, patch, delete, touch and read at once', () =>
    fc.assert(
      fc.asyncProperty(programs, async (clients) => {
        const records = Array.from({ length: IDS }, () => new Record(`c${++serial}`));
        for (const record of records) {
          watch(0, record);
          watch(3, record);
        }
        await Promise.all(clients.map(({ instance, steps }) => client(instance, steps, records)));
        for (const record of records) {
          await waitFor(() => rests(record.id), { what: `${record.id} to rest` });
          const entries = await log(record.id);
          const texts = replay(record, entries);
          checkReads(record, entries, texts);
          await checkWatches(record, entries, texts);
          await checkEnd(record);
        }
      }),
      { numRuns: 40, endOnFailure: true },
    ));

  it('no update is lost, whichever instances race', () =>
    fc.assert(
      fc.asyncProperty(fc.array(fc.nat(INSTANCES - 1), { minLength: 1, maxLength: 120, size: 'max' }), async (racers) => {
        const id = `counter${++serial}`;
        const results = await Promise.all(
          racers.map((instance) =>
            store(instance).update<{ n: number }>(
              id,
              (draft) => {
                draft.n += 1;
              },
              { initial: { n: 0 }, attempts: 1_000 },
            ),
          ),
        );
        expect(results.map(({ version }) => version).sort((a, b) => a - b)).to.deep.equal(racers.map((_, index) => index + 1));
        for (const { version, value } of results) expect(value).to.deep.equal({ n: version });
        expect(JSON.parse((await redis.hget(store(0).keysOf(id).context, 'data')) ?? '')).to.deep.equal({ n: racers.length });
      }),
      { numRuns: 15, endOnFailure: true },
    ));
});
