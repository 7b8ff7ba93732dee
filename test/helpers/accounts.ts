import { expect } from 'chai';
import type { Redis } from 'ioredis';
import { Keys } from '../../src/redis/keys.js';

/**
 * Holds the accounts of a namespace against what `MEMORY USAGE` says of each context, and the indexes against the contexts there are; gives
 * back the ids that are there.
 */
export async function exactAccounts(redis: Redis, namespace: string, shards = 1): Promise<string[]> {
  const keys = new Keys(namespace, shards);
  const there: string[] = [];
  for (const { tag, use, size, exp, mem } of keys.shards) {
    const ids = new Set<string>();
    let cursor = '0';
    do {
      const [next, page] = await redis.scan(cursor, 'MATCH', `${tag}:c:*`, 'COUNT', 1000);
      for (const key of page) ids.add(key.slice(`${tag}:c:`.length));
      cursor = next;
    } while (cursor !== '0');
    const sorted = [...ids].sort();
    there.push(...sorted);
    const [used, sized, expiring, totals] = await Promise.all([
      redis.zrange(use, '0', '-1'),
      redis.zrange(size, '0', '-1', 'WITHSCORES'),
      redis.zrange(exp, '0', '-1'),
      redis.hgetall(mem),
    ]);
    expect([...used].sort(), 'index by use').to.deep.equal(sorted);
    expect(
      expiring.filter((id) => !ids.has(id)),
      'index by expiry',
    ).to.deep.equal([]);
    let sum = 0;
    for (const [at, id] of sized.entries()) {
      if (at % 2 === 1) continue;
      const own = [`${tag}:c:${id}`, `${tag}:l:${id}`, ...keys.checkpointsOf(id)];
      const bytes = await Promise.all(own.map(async (key) => Number((await redis.memory('USAGE', key, 'SAMPLES', '0')) ?? 0)));
      const real = bytes.reduce((total, each) => total + each, 0);
      expect(Number(sized[at + 1]), `account of ${id}`).to.equal(real);
      sum += real;
    }
    expect(sized.filter((_, at) => at % 2 === 0).sort(), 'accounts').to.deep.equal(sorted);
    expect([Number(totals.bytes ?? 0), Number(totals.contexts ?? 0)], 'totals').to.deep.equal([sum, sorted.length]);
  }
  return there.sort();
}
