/** Reads: a miss against raw HMGET and JSON.parse, and a hit in memory against lru-cache. */
import { LRUCache } from 'lru-cache';
import type { Benchmark, Setting } from './lib/benchmark.js';
import { CONCURRENCIES, documents, PAYLOADS } from './lib/payloads.js';
import { RawClient } from './lib/RawClient.js';
import { alternate, median, ratio, throughput } from './lib/rounds.js';
import { openStore, replicate, withoutReplicas } from './lib/stores.js';
import { atLeast, atMost, column, type Table } from './lib/table.js';

const MISS_TARGET = 0.9;
const REPLICA_TIMES = 3;
const REPLICA_LIMIT_NS = 1000;

export const read: Benchmark = { name: 'read', run: async (setting) => [await misses(setting), await hits(setting)] };

/** The reference asks for the same fields, checks nothing and freezes nothing. */
async function misses({ url, rounds, roundMs }: Setting): Promise<Table> {
  const rows = [];
  const raw = await RawClient.connect(url);
  const store = await withoutReplicas(url, 'bench-miss');
  try {
    for (const { label, bytes } of PAYLOADS) {
      const docs = documents(bytes, 16);
      const ids = docs.map((_, index) => `${label}-${index}`);
      for (const [index, id] of ids.entries()) await store.set(id, docs[index]);
      const keys = ids.map((id) => store.keysOf(id).context);
      const at = (worker: number, call: number): number => (worker + call) & (ids.length - 1);
      for (const concurrency of CONCURRENCIES) {
        const rates = await alternate(rounds, {
          reference: () =>
            throughput(concurrency, roundMs, async (worker, call) => {
              const [data] = await raw.redis.hmget(keys[at(worker, call)] ?? '', 'data', 'v', 'crc', 'len', 'at', 'exp');
              return JSON.parse(data ?? '') as unknown;
            }),
          get: () => throughput(concurrency, roundMs, (worker, call) => store.get(ids[at(worker, call)] ?? '')),
        });
        const get = ratio(rates.get, rates.reference);
        rows.push({
          payload: label,
          concurrency,
          reference: median(rates.reference),
          get: median(rates.get),
          ratio: get,
          target: atLeast(get, MISS_TARGET),
        });
      }
    }
  } finally {
    await Promise.all([raw.close(), store.close()]);
  }
  return {
    caption: 'Read misses a second: one round trip, verified, parsed and frozen (higher is better)',
    columns: [
      column('payload', 'Payload'),
      column('concurrency', 'Concurrency', 'number'),
      column('reference', 'HMGET + JSON.parse', 'perSecond'),
      column('get', 'get', 'perSecond'),
      column('ratio', 'get / reference', 'ratio'),
      column('target', 'Target'),
    ],
    rows,
  };
}

async function hits({ url, rounds, quick }: Setting): Promise<Table> {
  const rows = [];
  const store = await openStore(url, 'bench-hit');
  const calls = quick ? 100_000 : 500_000;
  try {
    for (const { label, bytes } of PAYLOADS) {
      const docs = documents(bytes, 64);
      const ids = docs.map((_, index) => `${label}-${index}`);
      const cache = new LRUCache<string, object>({ max: 10_000 });
      for (const [index, id] of ids.entries()) {
        await store.set(id, docs[index]);
        cache.set(id, docs[index] ?? {});
      }
      await replicate(store, ids);
      const before = (await store.stats()).replicas;
      const times = await alternate(rounds, {
        reference: async () => {
          const start = performance.now();
          for (let call = 0; call < calls; call += 1) await cache.get(ids[call & 63] ?? '');
          return ((performance.now() - start) * 1e6) / calls;
        },
        get: async () => {
          const start = performance.now();
          for (let call = 0; call < calls; call += 1) await store.get(ids[call & 63] ?? '');
          return ((performance.now() - start) * 1e6) / calls;
        },
      });
      const after = (await store.stats()).replicas;
      const times3 = ratio(times.get, times.reference);
      const get = median(times.get);
      rows.push({
        payload: label,
        reference: median(times.reference),
        get,
        ratio: times3,
        target: atMost(times3, REPLICA_TIMES),
        below: `${get < REPLICA_LIMIT_NS ? 'met' : 'missed'}: < 1 us`,
        hits: (after.hits - before.hits) / (after.hits - before.hits + after.misses - before.misses),
      });
    }
  } finally {
    await store.close();
  }
  return {
    caption: 'Reads from memory, both awaited (lower is better)',
    columns: [
      column('payload', 'Payload'),
      column('reference', 'lru-cache get', 'nanoseconds'),
      column('get', 'get', 'nanoseconds'),
      column('ratio', 'get / lru-cache', 'ratio'),
      column('target', 'Target'),
      column('below', 'Limit'),
      column('hits', 'From memory', 'share'),
    ],
    rows,
  };
}
