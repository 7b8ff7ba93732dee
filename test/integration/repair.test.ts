/** Damage in Redis is found by whoever looks, and healed from the nearest good copy; where there is none, nothing is invented. */
import { expect } from 'chai';
import type { Redis } from 'ioredis';
import type { ContextStore, JsonValue } from '../../src/index.js';
import { RedisServer } from '../helpers/RedisServer.js';
import { seededRng } from '../helpers/random.js';
import { forgetCopies, record, refusal, reseal, untilReplica, useStores } from '../helpers/stores.js';
import { waitFor } from '../helpers/waitFor.js';
import { prose, storedForm, talk } from './deltaSupport.js';

describe('repair', function () {
  this.timeout(30_000);
  const stores = useStores();

  const key = (store: ContextStore, id: string, letter: string): string =>
    store.keysOf(id).context.replace('}:c:', `}:${letter}:`);

  /** Everything of a context as it is stored. */
  const snapshot = (redis: Redis, store: ContextStore, id: string) => redis.hgetallBuffer(store.keysOf(id).context);

  /** Waits until a checkpoint of this version or a later one is there. */
  const checkpointed = (redis: Redis, store: ContextStore, id: string, version: number) =>
    waitFor(async () => Number(await redis.hget(key(store, id, 'k'), 'v')) >= version, {
      what: `a checkpoint of ${id} ${version}`,
    });

  async function flip(redis: Redis, hash: string, field: string, place: number): Promise<void> {
    const bytes = (await redis.hgetBuffer(hash, field)) ?? Buffer.alloc(1);
    const at = place % bytes.length;
    bytes.writeUInt8(bytes.readUInt8(at) ^ 4, at);
    await redis.hset(hash, field, bytes);
  }

  const DOCUMENTS: readonly (readonly [name: string, value: JsonValue])[] = [
    ['a small document', { n: 1, list: ['a', 'b'], text: 'x'.repeat(300) }],
    ['a document that the log does not keep', { n: 1, text: prose(1, 20_000) }],
    ['a document in chunks', talk(100_000) as unknown as JsonValue],
  ];

  const DAMAGES: readonly (readonly [name: string, damage: (redis: Redis, context: string, other: string) => Promise<unknown>])[] = [
    ['a bit of the document', async (redis, context) => flip(redis, context, (await redis.hexists(context, 'data')) ? 'data' : 'd3', 77)],
    ['the document cut short', async (redis, context) => {
      const field = (await redis.hexists(context, 'data')) ? 'data' : 'd2';
      const bytes = (await redis.hgetBuffer(context, field)) ?? Buffer.alloc(0);
      await redis.hset(context, field, bytes.subarray(0, -3));
    }],
    ['the document gone', async (redis, context) => redis.hdel(context, (await redis.hexists(context, 'data')) ? 'data' : 'd1')],
    ['the CRC-32', (redis, context) => redis.hset(context, 'crc', '01234567')],
    ['the SHA-1', (redis, context) => flip(redis, context, 'sha', 9)],
    ['the version, higher', (redis, context) => redis.hset(context, 'v', '77')],
    ['the version, lower', (redis, context) => redis.hset(context, 'v', '1')],
    ['the version, none', (redis, context) => redis.hdel(context, 'v')],
    ['the length', (redis, context) => redis.hset(context, 'len', '7')],
    ['the time', (redis, context) => redis.hset(context, 'at', '1700000000000')],
    ['an expiry that has passed', (redis, context) => redis.hset(context, 'exp', '1700000000000')],
    ['the seal', (redis, context) => flip(redis, context, 'seal', 3)],
    ['no seal', (redis, context) => redis.hdel(context, 'seal')],
    ["another context's document", async (redis, context, other) => {
      const fields = await redis.hgetallBuffer(other);
      const chunks = Object.keys(await redis.hgetall(context)).filter((name) => /^(data|d\d+|chunks)$/.test(name));
      await redis.hdel(context, ...chunks);
      const taken = Object.entries(fields).filter(([name]) => /^(data|d\d+|chunks)$/.test(name));
      await redis.hset(context, Object.fromEntries(taken));
    }],
    ['another context altogether', async (redis, context, other) => redis.copy(other, context, 'REPLACE')],
  ]; // biome-ignore format: one damage a line

  for (const [document, value] of DOCUMENTS) {
    describe(document, () => {
      async function setUp() {
        const writer = await stores.open();
        const redis = await stores.redis();
        await writer.set('x', value);
        await writer.set('other', { ...(value as object), other: true });
        await writer.patch('x', [{ op: 'replace', path: '/n', value: 2 }]);
        await writer.patch('x', [{ op: 'replace', path: '/n', value: 3 }]);
        const large = JSON.stringify(value).length > 8_000;
        if (large) await checkpointed(redis, writer, 'x', 1);
        return { writer, redis, context: writer.keysOf('x').context, other: writer.keysOf('other').context };
      }
      const expected = { ...(value as object), n: 3 };

      for (const [name, damage] of DAMAGES) {
        it(`${name}: found by the next read, and healed from the log and its checkpoint`, async () => {
          const { writer, redis, context, other } = await setUp();
          const good = await snapshot(redis, writer, 'x');
          await damage(redis, context, other);
          // nobody else is there to ask
          await writer.close();
          const reader = await stores.open();
          const [corrupt, repaired] = [record(reader, 'context:corrupt'), record(reader, 'context:repaired')];
          const read = await reader.get('x');
          expect(read?.value).to.deep.equal(expected);
          expect(read).to.include({
            version: 3,
            checksum: good.crc?.toString(),
            updatedAt: Number(good.at?.toString()),
            expiresAt: null,
          });
          expect(corrupt.length, 'events').to.be.at.least(1);
          expect(corrupt[0]).to.include({ id: 'x', where: 'read', namespace: stores.namespace, instance: reader.instanceId });
          expect(repaired).to.have.lengthOf(1);
          expect(repaired[0]).to.include({ id: 'x', version: 3, source: 'log', removed: false });
          expect((await storedForm(redis, reader, 'x'))?.bytes.toString()).to.equal(JSON.stringify(expected));
          expect((await reader.verify('x'))?.checks.filter(({ ok }) => !ok)).to.deep.equal([]);
          expect(await reader.repair('x')).to.deep.include({ outcome: 'sound', findings: [] });
          // it goes on from there
          expect((await reader.patch('x', [{ op: 'replace', path: '/n', value: 4 }])).version).to.equal(4);
          expect((await reader.history('x'))[1]).to.include({ kind: 'repaired', version: 3, by: reader.instanceId });
          expect((await reader.stats()).integrity.repaired).to.include({ log: 1 });
        });
      }

      it('and the same by a write: an update builds on what it should be', async () => {
        for (const [name, damage] of DAMAGES) {
          const { writer, redis, context, other } = await setUp();
          await damage(redis, context, other);
          await writer.update<{ n: number }>('x', (draft) => {
            draft.n += 10;
          });
          const reader = await stores.open();
          expect((await reader.get('x'))?.value, name).to.deep.equal({ ...expected, n: 13 });
          expect((await reader.repair('x')).outcome, name).to.be.oneOf(['sound', 'repaired']);
          expect(
            (await reader.verify('x'))?.checks.filter(({ ok }) => !ok),
            name,
          ).to.deep.equal([]);
          for (const id of ['x', 'other']) await reader.delete(id);
        }
      });

      it('without log and checkpoint: from a replica of another instance', async () => {
        for (const [name, damage] of DAMAGES) {
          const { writer, redis, context, other } = await setUp();
          const near = await stores.open();
          await untilReplica(near, 'x');
          await damage(redis, context, other);
          await forgetCopies(redis, writer, 'x');
          await writer.close();
          const reader = await stores.open();
          const repaired = record(reader, 'context:repaired');
          expect((await reader.get('x'))?.value, name).to.deep.equal(expected);
          // where the damage left the bytes alone and the seal right, or the seal's own facts can be told, nobody has to be asked
          expect(repaired.map(({ source }) => source).join(), name).to.be.oneOf(['peer', 'log']);
          expect(
            (await reader.verify('x'))?.checks.filter(({ ok }) => !ok),
            name,
          ).to.deep.equal([]);
          for (const id of ['x', 'other']) await reader.delete(id);
          await near.close();
        }
      });

      it('a field, and neither log nor checkpoint nor anybody else: proven by the seal from the bytes', async () => {
        for (const [name, damage] of DAMAGES.filter(([what]) => /CRC-32|SHA-1|length|expiry/.test(what))) {
          const { writer, redis, context, other } = await setUp();
          const good = await snapshot(redis, writer, 'x');
          await damage(redis, context, other);
          await forgetCopies(redis, writer, 'x');
          await writer.close();
          const reader = await stores.open();
          expect((await reader.get('x'))?.value, name).to.deep.equal(expected);
          const { by, op, kf, ...now } = await snapshot(redis, reader, 'x');
          const { by: _, op: __, kf: ___, ...before } = good;
          if (document !== 'a document in chunks') expect(now, name).to.deep.equal(before);
          expect(
            (await reader.verify('x'))?.checks.filter(({ ok }) => !ok),
            name,
          ).to.deep.equal([]);
          for (const id of ['x', 'other']) await reader.delete(id);
        }
      });

      it('where nobody has a good copy: quarantine, and CORRUPT until it is written anew', async () => {
        const { writer, redis, context } = await setUp();
        const good = await snapshot(redis, writer, 'x');
        const [, damage] = DAMAGES[0] as (typeof DAMAGES)[number];
        await damage(redis, context, '');
        const bad = await snapshot(redis, writer, 'x');
        await forgetCopies(redis, writer, 'x');
        await writer.close();
        const [reader, second] = await stores.pair();
        const quarantined = record(reader, 'context:quarantined');
        await refusal('CORRUPT', () => reader.get('x'));
        expect(quarantined).to.have.lengthOf(1);
        expect(quarantined[0]).to.include({ id: 'x', version: 3, namespace: stores.namespace });
        for (const store of [reader, second]) {
          await refusal('CORRUPT', () => store.get('x'));
          await refusal('CORRUPT', () => store.update('x', () => ({ n: 0 })));
        }
        const kept = await redis.hgetallBuffer(key(reader, 'x', 'q'));
        const { why, when, who, ...fields } = kept;
        expect(fields).to.deep.equal(bad);
        expect([why?.toString(), who?.toString()]).to.deep.equal([quarantined[0]?.why, reader.instanceId]);
        expect(Number(when)).to.be.greaterThan(Number(good.at?.toString()) - 1);
        expect((await reader.stats()).shards[0]).to.include({ quarantined: 1, contexts: 2 });
        expect(await second.quarantined()).to.have.lengthOf(1);
        expect((await second.quarantined())[0]).to.include({ id: 'x', version: 3 });
        expect((await second.list()).items.map(({ id }) => id)).to.include('other');
        expect((await second.set('x', { new: true })).version).to.equal(4);
        expect((await reader.get('x'))?.value).to.deep.equal({ new: true });
        expect(await reader.dropQuarantined('x')).to.equal(true);
        expect(await reader.dropQuarantined('x')).to.equal(false);
        expect((await reader.stats()).shards[0]).to.include({ quarantined: 0, quarantineBytes: 0 });
        expect(await redis.exists(key(reader, 'x', 'q'))).to.equal(0);
      });

      it('a log entry, and a checkpoint: found by looking, let go of, and made anew', async () => {
        const { writer, redis } = await setUp();
        const { log } = writer.keysOf('x');
        const entries = await redis.xrangeBuffer(log, '-', '+');
        await redis.del(log);
        for (const [id, fields] of entries) {
          const damaged = fields.map((field, index) =>
            id.toString() === '2-0' && fields[index - 1]?.toString() === 'op' ? Buffer.from('another') : field,
          );
          await redis.xadd(log, id, ...damaged);
        }
        if ((await redis.exists(key(writer, 'x', 'k'))) === 1) await flip(redis, key(writer, 'x', 'k'), 'z', 40);
        expect((await writer.verify('x'))?.ok).to.equal(false);
        const result = await writer.repair('x');
        expect(result.outcome).to.equal('repaired');
        expect(result.findings.map(({ place, name }) => `${place} ${name}`)).to.include('log 2-0');
        expect((await writer.verify('x'))?.checks.filter(({ ok }) => !ok)).to.deep.equal([]);
        expect(await writer.repair('x')).to.deep.include({ outcome: 'sound' });
        expect(Number(await redis.hget(key(writer, 'x', 'k'), 'v'))).to.equal(3);
        // and it can be rebuilt from what was made
        await flip(
          redis,
          writer.keysOf('x').context,
          (await redis.hexists(writer.keysOf('x').context, 'data')) ? 'data' : 'd0',
          5,
        );
        await writer.close();
        const reader = await stores.open();
        expect((await reader.get('x'))?.value).to.deep.equal(expected);
      });
    });
  }

  it('an older version put back, whole and with its seal: found by looking, and brought forward from the log', async () => {
    for (const [, value] of DOCUMENTS) {
      const writer = await stores.open();
      const redis = await stores.redis();
      await writer.set('x', value);
      await writer.patch('x', [{ op: 'replace', path: '/n', value: 2 }]);
      const { context } = writer.keysOf('x');
      await redis.copy(context, `${context}-older`);
      await writer.patch('x', [{ op: 'replace', path: '/n', value: 3 }]);
      if (JSON.stringify(value).length > 8_000) await checkpointed(redis, writer, 'x', 1);
      await redis.copy(`${context}-older`, context, 'REPLACE');
      await redis.del(`${context}-older`);
      const reader = await stores.open();
      expect((await reader.verify('x'))?.checks.filter(({ ok }) => !ok).map(({ name }) => name)).to.deep.equal(['log']);
      expect(await reader.repair('x')).to.deep.include({ outcome: 'repaired' });
      expect((await reader.get('x'))?.value).to.deep.equal({ ...(value as object), n: 3 });
      expect((await reader.verify('x'))?.ok).to.equal(true);
      await reader.delete('x');
    }
  });

  it('a context that was deleted and is put back goes away again', async () => {
    const store = await stores.open();
    const redis = await stores.redis();
    await store.set('x', { n: 1 });
    const { context } = store.keysOf('x');
    await redis.copy(context, `${context}-older`);
    await store.delete('x');
    await redis.rename(`${context}-older`, context);
    expect(await store.repair('x')).to.deep.include({ outcome: 'removed' });
    expect(await store.get('x', { fresh: true })).to.equal(null);
    expect(await redis.exists(context)).to.equal(0);
    expect((await store.stats()).shards[0]?.contexts).to.equal(0);
  });

  it('a context whose hash is lost comes back with its expiry', async () => {
    const store = await stores.open();
    const redis = await stores.redis();
    await store.set('x', { n: 1, text: 'x'.repeat(100) }, { ttl: '1h' });
    await store.patch('x', [{ op: 'replace', path: '/n', value: 2 }]);
    const before = await store.get('x', { fresh: true });
    await redis.del(store.keysOf('x').context);
    expect(await store.repair('x')).to.deep.include({ outcome: 'repaired', source: 'log', version: 2 });
    expect(await store.get('x', { fresh: true })).to.deep.equal(before);
    expect(await redis.pttl(store.keysOf('x').context)).to.be.greaterThan(3_600_000);
    expect((await store.repair('never')).outcome).to.equal('absent');
  });

  it('an expiry that was touched is kept, although the log does not know it', async () => {
    const store = await stores.open();
    const redis = await stores.redis();
    await store.set('x', { n: 1 }, { ttl: '1h' });
    const touched = await store.touch('x', '2h');
    for (const field of ['exp', 'v', 'seal', 'crc']) {
      await flip(redis, store.keysOf('x').context, field, 0);
      expect((await store.repair('x')).outcome, field).to.equal('repaired');
      expect((await store.get('x', { fresh: true }))?.expiresAt, field).to.equal(touched?.expiresAt);
    }
  });

  it('what somebody writes meanwhile is never overwritten by a repair', async () => {
    const [writer, repairer] = await stores.pair();
    const redis = await stores.redis();
    const rng = seededRng(7);
    await writer.set('x', { n: 0, text: prose(3, 3_000) });
    const { context } = writer.keysOf('x');
    let n = 0;
    const writing = (async () => {
      for (; n < 150; n += 1) await writer.set('x', { n: n + 1, text: prose(n, 3_000) });
    })();
    const repairs: string[] = [];
    while (n < 150) {
      if (rng.chance(0.5)) await flip(redis, context, 'data', rng.int(0, 2_999));
      repairs.push((await repairer.repair('x')).outcome);
    }
    await writing;
    const result = await repairer.repair('x');
    expect(result.outcome).to.be.oneOf(['sound', 'repaired']);
    expect((await repairer.get('x', { fresh: true }))?.version).to.equal(151);
    expect((await repairer.get('x', { fresh: true }))?.value).to.deep.include({ n: 150 });
    expect(repairs).to.not.include('quarantined');
  });

  it('from the copy of a Redis replica', async () => {
    // by default a master waits five seconds for other replicas before it begins to synchronize
    const master = await RedisServer.start({ config: { 'repl-diskless-sync-delay': '0' } });
    const replica = await RedisServer.start();
    try {
      await replica.client().replicaof('127.0.0.1', master.port);
      const store = await stores.open({ redis: master.url });
      const redis = master.client();
      await store.set('x', { n: 1, text: prose(1, 500) });
      const { context } = store.keysOf('x');
      await waitFor(async () => (await replica.client().hget(context, 'v')) === '1', { what: 'the replica to have it' });
      // what happens in the master's memory does not travel: here the link is cut, and the damage stays with it
      await replica.client().config('SET', 'replica-read-only', 'no');
      const good = await replica.client().dumpBuffer(context);
      await forgetCopies(redis, store, 'x');
      await flip(redis, context, 'data', 20);
      await waitFor(async () => (await replica.client().hget(context, 'data')) === (await redis.hget(context, 'data')), {
        what: 'both to have the damage',
      });
      await replica.client().call('RESTORE', context, '0', good ?? '', 'REPLACE');
      const repaired = record(store, 'context:repaired');
      expect((await store.get('x', { fresh: true }))?.value).to.deep.equal({ n: 1, text: prose(1, 500) });
      expect(repaired.map(({ source }) => source)).to.deep.equal(['redis-replica']);
      await store.close();
    } finally {
      await replica.stop();
      await master.stop();
    }
  });

  describe('restore', () => {
    it('an earlier version from the history, as a new one', async () => {
      const store = await stores.open();
      for (const n of [1, 2, 3]) await store.set('x', { n });
      expect(await store.restore('x', { version: 2 })).to.include({ version: 4 });
      expect((await store.get('x'))?.value).to.deep.equal({ n: 2 });
      expect(await store.restore('x', { version: 4, ttl: '1h' })).to.include({ version: 5 });
      expect((await store.get('x', { fresh: true }))?.expiresAt).to.be.a('number');
      await refusal('NOT_FOUND', () => store.restore('x', { version: 77 }));
      await refusal('NOT_FOUND', () => store.restore('never', { version: 1 }));
      await refusal('INVALID_ARGUMENT', () => store.restore('x', { version: 0 }));
    });

    it('from quarantine where it is JSON at least, or a value by hand', async () => {
      const store = await stores.open();
      const redis = await stores.redis();
      await store.set('x', { n: 1, text: 'abc' });
      const { context } = store.keysOf('x');
      await forgetCopies(redis, store, 'x');
      await redis.hset(context, 'data', '{"n":1,"text":"abd"}');
      await refusal('CORRUPT', () => store.get('x', { fresh: true }));
      expect(await store.restore('x', { quarantined: true })).to.include({ version: 2 });
      expect((await store.get('x', { fresh: true }))?.value).to.deep.equal({ n: 1, text: 'abd' });
      expect(await store.quarantined()).to.deep.equal([]);
      await refusal('NOT_FOUND', () => store.restore('x', { quarantined: true }));

      await forgetCopies(redis, store, 'x');
      await redis.hset(context, 'data', 'rubbish');
      await refusal('CORRUPT', () => store.get('x', { fresh: true }));
      await refusal('NOT_FOUND', () => store.restore('x', { quarantined: true }));
      expect(await store.restore('x', { value: { by: 'hand' } })).to.include({ version: 3 });
      expect((await store.get('x', { fresh: true }))?.value).to.deep.equal({ by: 'hand' });
      expect(await store.quarantined()).to.deep.equal([]);
    });
  });

  it('a context without a seal is as good as any where the namespace is not all sealed', async () => {
    const redis = await stores.redis();
    await redis.hset(`{lc:${stores.namespace}}:ns`, { shards: 1, format: 2 });
    const store = await stores.open();
    await store.set('x', { n: 1 });
    await redis.hdel(store.keysOf('x').context, 'seal');
    expect((await store.get('x', { fresh: true }))?.value).to.deep.equal({ n: 1 });
    expect((await store.verify('x'))?.ok).to.equal(true);
    await store.patch('x', [{ op: 'replace', path: '/n', value: 2 }]);
    expect(await redis.hexists(store.keysOf('x').context, 'seal')).to.equal(1);
    await redis.hset(store.keysOf('x').context, 'at', 5);
    await reseal(redis, store, 'x');
    expect((await store.get('x', { fresh: true }))?.updatedAt).to.equal(5);
  });
});
