/** What a repair must never do: take back what was acknowledged, believe the wrong one of two, or hold up others. */
import { expect } from 'chai';
import type { Redis } from 'ioredis';
import type { ContextStore, JsonValue } from '../../src/index.js';
import { forgetCopies, record, refusal, untilRedisTime, untilReplica, useStores } from '../helpers/stores.js';
import { waitFor } from '../helpers/waitFor.js';
import { prose } from './deltaSupport.js';

describe('a repair', function () {
  this.timeout(30_000);
  const stores = useStores();
  const key = (store: ContextStore, id: string, letter: string): string =>
    store.keysOf(id).context.replace('}:c:', `}:${letter}:`);

  async function flip(redis: Redis, hash: string, field: string, place = 0): Promise<void> {
    const bytes = (await redis.hgetBuffer(hash, field)) ?? Buffer.alloc(1);
    bytes.writeUInt8(bytes.readUInt8(place % bytes.length) ^ 4, place % bytes.length);
    await redis.hset(hash, field, bytes);
  }

  /** Damages a field of an entry of the log; the entry's own checksum stays. */
  async function alterEntry(redis: Redis, store: ContextStore, id: string, version: number, field: string): Promise<void> {
    const { log } = store.keysOf(id);
    const entries = await redis.xrangeBuffer(log, '-', '+');
    await redis.del(log);
    for (const [entryId, fields] of entries) {
      const damaged = fields.map((value, index) => {
        if (entryId.toString() !== `${version}-0` || fields[index - 1]?.toString() !== field || index % 2 === 0) return value;
        const copy = Buffer.from(value);
        copy.writeUInt8(copy.readUInt8(0) ^ 1, 0);
        return copy;
      });
      await redis.xadd(log, entryId, ...damaged);
    }
  }

  it('keeps no expiry that was taken away by touch, whatever is damaged besides', async () => {
    const store = await stores.open();
    const redis = await stores.redis();
    for (const field of ['seal', 'crc', 'v', 'at']) {
      await store.set('x', { n: 1 }, { ttl: 400 });
      const { expiresAt } = (await store.get('x', { fresh: true })) ?? {};
      await store.touch('x', 'none');
      await untilRedisTime(redis, (expiresAt ?? 0) + 1);
      await flip(redis, store.keysOf('x').context, field);
      expect((await store.get('x', { fresh: true }))?.expiresAt, field).to.equal(null);
      expect(await redis.pttl(store.keysOf('x').context), field).to.equal(-1);
      expect(await redis.zscore(key(store, 'x', 'c').replace(':c:x', ':exp'), 'x'), field).to.equal(null);
    }
  });

  it('takes back no version where seal and log are damaged: the bytes, the fields and the ids of the log agree', async () => {
    const [writer, near] = await stores.pair();
    const redis = await stores.redis();
    await writer.set('x', { n: 1 });
    await writer.set('x', { n: 2 });
    await untilReplica(near, 'x');
    await flip(redis, writer.keysOf('x').context, 'seal');
    await alterEntry(redis, writer, 'x', 2, 'op');
    const reader = await stores.open();
    expect((await reader.get('x'))?.value).to.deep.equal({ n: 2 });
    expect((await reader.get('x', { fresh: true }))?.version).to.equal(2);
    expect((await reader.verify('x'))?.checks.filter(({ ok }) => !ok)).to.deep.equal([]);
  });

  it('takes back no version where the document is damaged as well, and another instance has it', async () => {
    const [writer, near] = await stores.pair();
    const redis = await stores.redis();
    await writer.set('x', { n: 1 });
    await writer.set('x', { n: 2 });
    await untilReplica(near, 'x');
    await flip(redis, writer.keysOf('x').context, 'seal');
    await flip(redis, writer.keysOf('x').context, 'data', 5);
    await alterEntry(redis, writer, 'x', 2, 'op');
    await writer.close();
    const reader = await stores.open();
    const repaired = record(reader, 'context:repaired');
    expect((await reader.get('x'))?.value).to.deep.equal({ n: 2 });
    expect(repaired.map(({ source, version }) => [source, version])).to.deep.equal([['peer', 2]]);
  });

  it('and where nobody has it, it is in quarantine, not at the version before', async () => {
    const writer = await stores.open();
    const redis = await stores.redis();
    await writer.set('x', { n: 1 });
    await writer.set('x', { n: 2 });
    await flip(redis, writer.keysOf('x').context, 'seal');
    await flip(redis, writer.keysOf('x').context, 'data', 5);
    await alterEntry(redis, writer, 'x', 2, 'op');
    await writer.close();
    const reader = await stores.open();
    await refusal('CORRUPT', () => reader.get('x'));
    expect((await reader.quarantined()).map(({ id }) => id)).to.deep.equal(['x']);
  });

  it('removes nothing that was written since: what comes back after a deletion is another version', async () => {
    const [store, other] = await stores.pair();
    const redis = await stores.redis();
    await store.set('x', { n: 1 });
    const { context } = store.keysOf('x');
    for (let round = 0; round < 20; round += 1) {
      await redis.copy(context, `${context}-before`, 'REPLACE');
      await store.delete('x');
      await redis.copy(`${context}-before`, context, 'REPLACE');
      const [, written] = await Promise.all([store.repair('x'), other.set('x', { n: round + 2 })]);
      expect((await store.get('x', { fresh: true }))?.value, `round ${round}`).to.deep.equal({ n: round + 2 });
      expect((await store.get('x', { fresh: true }))?.version).to.equal(written.version);
    }
  });

  it('of a namespace without seals believes document and fields that agree, not a damaged entry of the log', async () => {
    const redis = await stores.redis();
    await redis.hset(`{lc:${stores.namespace}}:ns`, { shards: 1, format: 1 });
    const store = await stores.open();
    await store.set('x', { n: 1 });
    await store.set('x', { n: 2 });
    for (const field of ['crc', 'len']) {
      await alterEntry(redis, store, 'x', 2, field);
      expect((await store.repair('x')).outcome, field).to.be.oneOf(['sound', 'repaired']);
      expect((await store.get('x', { fresh: true }))?.value, field).to.deep.equal({ n: 2 });
      expect(await store.quarantined(), field).to.deep.equal([]);
    }
  });

  it('of a namespace that was upgraded: every context is sealed, and a missing seal is damage from then on', async () => {
    const redis = await stores.redis();
    await redis.hset(`{lc:${stores.namespace}}:ns`, { shards: 1, format: 1 });
    const store = await stores.open();
    const values: Record<string, JsonValue> = { a: { n: 1 }, b: { text: prose(1, 20_000) }, c: { text: prose(2, 60_000) } };
    for (const [id, value] of Object.entries(values)) {
      await store.set(id, value, id === 'a' ? { ttl: '1h' } : {});
      await store.patch(id, [{ op: 'add', path: '/more', value: 1 }]);
    }
    expect(await redis.hexists(store.keysOf('a').context, 'seal')).to.equal(0);
    expect(await store.upgrade()).to.deep.equal({ from: 1, to: 2 });
    const [corrupt, repaired] = [record(store, 'context:corrupt'), record(store, 'context:repaired')];
    expect(await store.seal()).to.deep.equal({ looked: 3, failed: [] });
    expect([corrupt.length, repaired.length]).to.deep.equal([0, 0]);
    expect(await redis.hget(`{lc:${stores.namespace}}:ns`, 'sealed')).to.equal('1');
    const fresh = await stores.open();
    for (const [id, value] of Object.entries(values)) {
      expect(await fresh.get(id), id).to.deep.include({ version: 2, value: { ...(value as object), more: 1 } });
      expect(
        (await fresh.verify(id))?.checks.filter(({ ok }) => !ok),
        id,
      ).to.deep.equal([]);
      expect((await redis.hget(store.keysOf(id).context, 'seal'))?.length, id).to.equal(40);
    }
    expect((await fresh.get('a'))?.expiresAt).to.be.a('number');
    await redis.hdel(store.keysOf('b').context, 'seal');
    expect((await fresh.verify('b'))?.ok).to.equal(false);
    expect((await fresh.repair('b')).outcome).to.equal('repaired');
    expect(await fresh.seal()).to.deep.equal({ looked: 0, failed: [] });
  });

  it('of a context that is damaged when it is to be sealed is told, and the namespace is not marked', async () => {
    const redis = await stores.redis();
    await redis.hset(`{lc:${stores.namespace}}:ns`, { shards: 1, format: 1 });
    const store = await stores.open();
    for (const id of ['a', 'b']) await store.set(id, { n: 1 });
    await forgetCopies(redis, store, 'b');
    await redis.hset(store.keysOf('b').context, 'data', '{"n":2}');
    await store.upgrade();
    expect(await store.seal()).to.deep.equal({ looked: 2, failed: ['b'] });
    expect(await redis.hexists(`{lc:${stores.namespace}}:ns`, 'sealed')).to.equal(0);
  });

  it('of a context whose hash is gone is found by a read, an update and a set, and brings it back first', async () => {
    for (const [name, touch] of [
      ['get', async (store: ContextStore) => (await store.get('x', { fresh: true }))?.version],
      [
        'update',
        async (store: ContextStore) =>
          (
            await store.update(
              'x',
              (draft: { n: number }) => {
                draft.n = 5;
              },
              { initial: { n: 0 } },
            )
          ).version - 1,
      ],
      ['set', async (store: ContextStore) => (await store.set('x', { n: 5 })).version - 1],
      ['getMany', async (store: ContextStore) => (await store.getMany(['x'], { fresh: true }))[0]?.version],
    ] as const) {
      // biome-ignore format: one a line
      const [writer, store] = await stores.pair();
      const redis = await stores.redis();
      for (const ttl of [undefined, '1h']) {
        const { version } = await writer.set('x', { n: 1, text: 'kept' }, ttl === undefined ? {} : { ttl });
        await redis.del(writer.keysOf('x').context);
        const corrupt = record(store, 'context:corrupt');
        expect(await touch(store), `${name} ${ttl}`).to.equal(version);
        expect(corrupt.length, `${name} ${ttl}`).to.be.at.least(1);
        const now = await store.get('x', { fresh: true });
        if (name === 'update') expect(now?.value).to.deep.equal({ n: 5, text: 'kept' });
        if (name !== 'set') expect(now?.expiresAt === null, `${name} ${ttl}`).to.equal(ttl === undefined);
        await writer.delete('x');
      }
    }
  });

  it('leaves alone what has expired, was deleted, or was never there', async () => {
    const store = await stores.open();
    const redis = await stores.redis();
    await store.set('expired', { n: 1 }, { ttl: 60 });
    const { expiresAt } = (await store.get('expired', { fresh: true })) ?? {};
    await untilRedisTime(redis, (expiresAt ?? 0) + 1);
    // as Redis removes it itself
    await redis.del(store.keysOf('expired').context);
    await store.set('deleted', { n: 1 });
    await store.delete('deleted');
    for (const id of ['expired', 'deleted', 'never']) {
      expect(await store.get(id, { fresh: true }), id).to.equal(null);
      expect((await store.repair(id)).outcome, id).to.equal('absent');
    }
    expect((await store.stats()).integrity.found).to.equal(0);
  });

  it('of a stub in quarantine succeeds once somebody has the document again, and the stub keeps its expiry', async () => {
    const writer = await stores.open();
    const redis = await stores.redis();
    const value = { n: 1, text: prose(4, 9_000) };
    await writer.set('x', value, { ttl: '1h' });
    const { context } = writer.keysOf('x');
    await waitFor(async () => (await redis.exists(key(writer, 'x', 'k'))) === 1, { what: 'the checkpoint' });
    const expiresAt = (await writer.get('x', { fresh: true }))?.expiresAt;
    await redis.rename(key(writer, 'x', 'k'), `${context}-away`);
    await flip(redis, context, 'data', 50);
    await writer.close();
    const reader = await stores.open();
    await refusal('CORRUPT', () => reader.get('x'));
    expect(Number(await redis.hget(context, 'exp'))).to.equal(expiresAt);
    for (const letter of ['c', 'q', 'l']) expect(await redis.pttl(key(reader, 'x', letter)), letter).to.be.greaterThan(3_500_000);
    expect((await reader.repair('x')).outcome).to.equal('quarantined');
    await redis.rename(`${context}-away`, key(reader, 'x', 'k'));
    expect(await reader.repair('x')).to.deep.include({ outcome: 'repaired', source: 'log', version: 1 });
    expect(await reader.get('x', { fresh: true })).to.deep.include({ value, version: 1, expiresAt });
    expect(await reader.quarantined()).to.deep.equal([]);
  });

  it('of a stub whose time is over is none: it is absent, and swept', async () => {
    const writer = await stores.open();
    const redis = await stores.redis();
    await writer.set('x', { n: 1 }, { ttl: 700 });
    const { expiresAt } = (await writer.get('x', { fresh: true })) ?? {};
    await forgetCopies(redis, writer, 'x');
    await flip(redis, writer.keysOf('x').context, 'data', 3);
    await writer.close();
    const reader = await stores.open();
    await refusal('CORRUPT', () => reader.get('x'));
    await untilRedisTime(redis, (expiresAt ?? 0) + 1);
    expect(await reader.get('x', { fresh: true })).to.equal(null);
    await reader.maintenance.sweep();
    expect(await redis.exists(writer.keysOf('x').context)).to.equal(0);
  });

  it('that somebody gives up waiting for goes on for the others', async () => {
    const writer = await stores.open();
    const redis = await stores.redis();
    await writer.set('x', { n: 1, text: prose(4, 9_000) });
    await waitFor(async () => (await redis.exists(key(writer, 'x', 'k'))) === 1, { what: 'the checkpoint' });
    await flip(redis, writer.keysOf('x').context, 'data', 50);
    const reader = await stores.open();
    const controller = new AbortController();
    const [first, second] = [reader.get('x', { fresh: true, signal: controller.signal }), reader.get('x', { fresh: true })];
    controller.abort();
    await refusal('ABORTED', () => first);
    expect((await second)?.value).to.deep.include({ n: 1 });
  });

  it('of sound data that looks damaged on its way moves and drops nothing', async () => {
    const proxy = await stores.proxy();
    const [near, writer] = [await stores.open({ redis: proxy.url }), await stores.open()];
    const redis = await stores.redis();
    await writer.set('x', { n: 1, text: 'only-here' });
    await writer.patch('x', [{ op: 'replace', path: '/n', value: 2 }]);
    const before = [await redis.hgetall(writer.keysOf('x').context), await redis.xrange(writer.keysOf('x').log, '-', '+')];
    const end = proxy.flip((chunk) => chunk.indexOf('only-here'), 'down');
    await near.get('x', { timeout: 1_500 }).catch(() => {});
    await near.repair('x', { timeout: 1_500 }).catch(() => {});
    end();
    expect(proxy.faults.flipped).to.be.greaterThan(2);
    expect([await redis.hgetall(writer.keysOf('x').context), await redis.xrange(writer.keysOf('x').log, '-', '+')]).to.deep.equal(
      before,
    );
    expect(await writer.quarantined()).to.deep.equal([]);
  });
});
