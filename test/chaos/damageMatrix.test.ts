/**
 * A thousand damages in each of eight places, one to eight bits or bytes at a time: each is found by the next read or by the next look, healed
 * from log and checkpoint, and never given out. LUKHAS_DAMAGES sets their number, LUKHAS_CHAOS_SEED which they are.
 */
import { expect } from 'chai';
import type { Redis } from 'ioredis';
import { reconcilePass } from '../../queues/reconcile.js';
import { scrubPass } from '../../queues/scrub.js';
import type { ContextStore, JsonValue } from '../../src/index.js';
import { type Rng, seededRng } from '../helpers/random.js';
import { record, useStores } from '../helpers/stores.js';
import { waitFor } from '../helpers/waitFor.js';
import { prose } from '../integration/deltaSupport.js';

const DAMAGES = Number(process.env.LUKHAS_DAMAGES ?? 1_000);
const SEED = Number(process.env.LUKHAS_CHAOS_SEED ?? Math.floor(Math.random() * 2 ** 31));
/** Contexts that are damaged at the same time. */
const AT_ONCE = 25;

describe(`${DAMAGES} damages in each of eight places`, function () {
  this.timeout(300_000);
  const stores = useStores();

  /** What a context is, whatever happens to it. */
  interface Truth {
    readonly value: JsonValue;
    readonly version: number;
    readonly updatedAt: number;
    readonly expiresAt: number | null;
  }
  interface Setting {
    readonly redis: Redis;
    readonly store: ContextStore;
    readonly rng: Rng;
    /** What each context holds. */
    readonly truth: Map<string, Truth>;
  }
  /** Damages one context (with another at hand); false where there was nothing to damage. */
  type Damage = (setting: Setting, id: string, other: string) => Promise<boolean>;

  const keyOf = (store: ContextStore, id: string, letter: string): string =>
    store.keysOf(id).context.replace('}:c:', `}:${letter}:`);

  /** One bit, or up to eight other bytes. */
  function altered(rng: Rng, bytes: Buffer): Buffer {
    const copy = Buffer.from(bytes);
    if (rng.chance(0.5)) {
      const at = rng.int(0, copy.length - 1);
      copy.writeUInt8(copy.readUInt8(at) ^ (1 << rng.int(0, 7)), at);
      return copy;
    }
    for (let n = rng.int(1, 8); n > 0; n -= 1) copy.writeUInt8(rng.int(0, 255), rng.int(0, copy.length - 1));
    return copy.equals(bytes) ? altered(rng, bytes) : copy;
  }

  async function alterField({ redis, rng }: Setting, hash: string, field: string): Promise<boolean> {
    const bytes = await redis.hgetBuffer(hash, field);
    if (bytes === null || bytes.length === 0) return false;
    await redis.hset(hash, field, altered(rng, bytes));
    return true;
  }

  /** The fields that hold the document. */
  const documentFields = async (redis: Redis, context: string): Promise<string[]> =>
    (await redis.hkeys(context)).filter((name) => /^(data|d\d+)$/.test(name));

  async function alterEntry({ redis, store, rng }: Setting, id: string): Promise<boolean> {
    const { log } = store.keysOf(id);
    const entries = await redis.xrangeBuffer(log, '-', '+');
    const ttl = await redis.pttl(log);
    const which = rng.int(0, entries.length - 1);
    const names =
      entries[which]?.[1].flatMap((field, index) => (index % 2 === 0 ? [[index, field.toString()] as const] : [])) ?? [];
    const filled = names.filter(([index]) => (entries[which]?.[1][index + 1]?.length ?? 0) > 0);
    const [place] = filled[rng.int(0, filled.length - 1)] ?? [0];
    await redis.del(log);
    for (const [index, [entryId, fields]] of entries.entries()) {
      const written = index !== which ? fields : fields.map((field, at) => (at === place + 1 ? altered(rng, field) : field));
      await redis.xadd(log, entryId, ...written);
    }
    if (ttl > 0) await redis.pexpire(log, ttl);
    return true;
  }

  const PLACES: readonly (readonly [name: string, found: 'read' | 'look', damage: Damage])[] = [
    ['the document', 'read', async (setting, id) => {
      const { context } = setting.store.keysOf(id);
      const fields = await documentFields(setting.redis, context);
      return alterField(setting, context, fields[setting.rng.int(0, fields.length - 1)] ?? 'data');
    }],
    ['a checksum', 'read', (setting, id) => {
      const field = ['crc', 'sha', 'seal'][setting.rng.int(0, 2)] ?? 'crc';
      return alterField(setting, setting.store.keysOf(id).context, field);
    }],
    ['the version', 'read', (setting, id) => alterField(setting, setting.store.keysOf(id).context, 'v')],
    ['the time, or the expiry', 'read', (setting, id) => {
      const field = setting.rng.chance(0.5) ? 'at' : 'exp';
      const { context } = setting.store.keysOf(id);
      return field === 'exp' && setting.rng.chance(0.3)
        ? setting.redis.hset(context, 'exp', 1_700_000_000_000 + setting.rng.int(0, 1e12)).then(() => true)
        : alterField(setting, context, field);
    }],
    ['the length', 'read', (setting, id) => alterField(setting, setting.store.keysOf(id).context, 'len')],
    ['bytes of another context', 'read', async ({ redis, store, rng }, id, other) => {
      const [context, from] = [store.keysOf(id).context, store.keysOf(other).context];
      if (rng.chance(0.3)) await redis.copy(from, context, 'REPLACE');
      else {
        const taken = Object.entries(await redis.hgetallBuffer(from)).filter(([name]) => /^(data|d\d+|chunks|crc|sha|len)$/.test(name));
        const some = rng.chance(0.5) ? taken : taken.filter(([name]) => /^(data|d\d+|chunks)$/.test(name));
        await redis.hdel(context, ...(await documentFields(redis, context)), 'chunks');
        await redis.hset(context, Object.fromEntries(some));
      }
      return true;
    }],
    ['a document cut short', 'read', async ({ redis, store, rng }, id) => {
      const { context } = store.keysOf(id);
      const fields = await documentFields(redis, context);
      const field = fields[rng.int(0, fields.length - 1)] ?? 'data';
      const bytes = (await redis.hgetBuffer(context, field)) ?? Buffer.alloc(1);
      await redis.hset(context, field, bytes.subarray(0, rng.int(0, bytes.length - 1)));
      return true;
    }],
    ['an entry of the log, or a checkpoint', 'look', async (setting, id) => {
      const { redis, store, rng } = setting;
      const names = ['k', 'j'].map((letter) => keyOf(store, id, letter));
      const copy = names[rng.int(0, 1)] ?? '';
      if (rng.chance(0.5) && (await redis.exists(copy)) === 1) {
        const field = ['z', 'zsum', 'v', 'crc', 'sha', 'len', 'seal'][rng.int(0, 6)] ?? 'z';
        return alterField(setting, copy, field);
      }
      return alterEntry(setting, id);
    }],
  ]; // biome-ignore format: a place each

  async function setUp(): Promise<Setting> {
    const store = await stores.open({ memory: { local: 0 } });
    const redis = await stores.redis();
    const truth = new Map<string, Truth>();
    for (let n = 0; n < 2 * AT_ONCE; n += 1) {
      const id = `context-${n}`;
      const length = [200, 3_000, 20_000, 60_000][n % 4] ?? 200;
      const value = { n: 0, id, text: prose(n + 1, length) };
      await store.set(id, value, n % 3 === 0 ? { ttl: '1h' } : {});
      for (let step = 1; step <= 3; step += 1) await store.patch(id, [{ op: 'replace', path: '/n', value: step }]);
      // an expiry that the log does not know
      if (n % 6 === 0) await store.touch(id, '2h');
      if (n % 6 === 3) await store.touch(id, 'none');
      const { version = 0, updatedAt = 0, expiresAt = null } = (await store.get(id, { fresh: true })) ?? {};
      truth.set(id, { value: { ...value, n: 3 }, version, updatedAt, expiresAt });
      if (length > 8_000)
        await waitFor(async () => (await redis.exists(keyOf(store, id, 'k'))) === 1, { what: `the checkpoint of ${id}` });
    }
    return { redis, store, rng: seededRng(SEED), truth };
  }

  for (const [name, found, damage] of PLACES) {
    it(`${name} (seed ${SEED})`, async () => {
      const setting = await setUp();
      const { store, rng, truth } = setting;
      const [corrupt, quarantined] = [record(store, 'context:corrupt'), record(store, 'context:quarantined')];
      const ids = [...truth.keys()];
      let done = 0;
      while (done < DAMAGES) {
        const shuffled = ids.map((id) => [rng.int(0, 1e9), id] as const).sort(([a], [b]) => a - b);
        const [chosen, others] = [shuffled.slice(0, AT_ONCE), shuffled.slice(AT_ONCE)].map((list) => list.map(([, id]) => id));
        const damaged: string[] = [];
        for (const [index, id] of (chosen ?? []).entries())
          if (await damage(setting, id, others?.[index] ?? '')) damaged.push(id);
        corrupt.length = 0;
        if (found === 'look') {
          // by the scrub, inside Redis, which gives what it finds to the repair
          const pass = await scrubPass(store.maintenance, {
            signal: new AbortController().signal,
            rate: 1e9,
            heal: (id) => store.maintenance.repair(id),
          });
          expect({ damaged: pass.damaged, healed: pass.healed, quarantined: pass.quarantined }).to.deep.equal({
            damaged: damaged.length,
            healed: damaged.length,
            quarantined: 0,
          });
        }
        const read = await Promise.all(damaged.map((id) => store.get(id, { fresh: true, timeout: '20s' })));
        for (const [index, id] of damaged.entries()) {
          expect(read[index], `${id}, after damage ${done}`).to.deep.include(truth.get(id));
          if (corrupt.some((event) => event.id === id)) continue;
          // a commit does not look at it, a read neither: what is left says that there was something
          const { checks = [] } = (await store.verify(id)) ?? {};
          expect(
            checks.filter(({ ok }) => !ok).map((check) => check.name),
            `${id} was damaged, and nobody heard of it`,
          ).to.not.deep.equal([]);
          expect((await store.repair(id)).outcome).to.equal('repaired');
        }
        for (const id of damaged) {
          expect(
            (await store.verify(id))?.checks.filter(({ ok }) => !ok),
            `${id}, after damage ${done}`,
          ).to.deep.equal([]);
        }
        done += damaged.length;
      }
      expect(quarantined).to.deep.equal([]);
      const { fixed, lost, damaged } = await reconcilePass(store.maintenance, {
        signal: new AbortController().signal,
        heal: async () => false,
        recover: async () => false,
      });
      expect({ fixed, lost, damaged }, 'accounts and indexes').to.deep.equal({ fixed: {}, lost: 0, damaged: 0 });
      expect((await store.stats()).integrity.quarantined).to.equal(0);
    });
  }
});
