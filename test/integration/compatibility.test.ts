/** A namespace that instances of an older version still use, its upgrade under load, and one that is newer than this version. */
import { expect } from 'chai';
import type { Redis } from 'ioredis';
import type { ContextStore } from '../../src/index.js';
import { ReferenceClient } from '../helpers/referenceClient.js';
import { record, refusal, type TestStores, untilReplica, useStores, Watched } from '../helpers/stores.js';
import { waitFor } from '../helpers/waitFor.js';
import { bytesOf, expectEverywhere, Follower, prose, replicaAt, storedForm, type Talk, talk } from './deltaSupport.js';

/** A client that knows protocol 1 alone, as older instances do: it does not even look at another word. */
class OldClient extends ReferenceClient {
  override message(message: Buffer): ReturnType<ReferenceClient['message']> {
    const word = /^lc(\d+) /.exec(message.toString('latin1', 0, 8))?.[1] ?? '1';
    if (word === '1') return super.message(message);
    this.trouble = `a frame of protocol ${word}`;
    return 'sync';
  }
}

describe('a namespace of format 1', () => {
  const stores = useStores();

  const namespaceKey = (): string => `{lc:${stores.namespace}}:ns`;
  /** As an older version has made it. */
  async function oldNamespace(): Promise<Redis> {
    const redis = await stores.redis();
    await redis.hset(namespaceKey(), 'shards', 1, 'format', 1);
    return redis;
  }
  async function followOld(store: ContextStore, id: string): Promise<OldClient> {
    const client = new OldClient();
    const [redis, subscriber] = [await stores.redis(), await stores.redis()];
    subscriber.on('messageBuffer', (_channel: Buffer, message: Buffer) => void client.message(message));
    await subscriber.subscribe(store.keysOf(id).channel);
    const stored = await storedForm(redis, store, id);
    client.load(stored?.version ?? 0, stored?.bytes ?? null);
    return client;
  }
  const reached = async (client: OldClient, version: number, document: Buffer | null): Promise<void> => {
    await waitFor(() => client.version >= version || client.trouble !== '', { what: `version ${version} by frames` });
    expect([client.version, client.trouble]).to.deep.equal([version, '']);
    expect(client.document?.toString()).to.equal(document?.toString());
  };

  for (const delta of ['on', 'shadow', 'off'] as const) {
    it(`is written as older instances can read it, with delta ${delta}`, async () => {
      const redis = await oldNamespace();
      const [writer, reader] = await stores.pair({ delta });
      expect((await writer.stats()).delta.protocol).to.equal(1);
      const client = await followOld(writer, 'x');
      const follower = await Follower.start(stores, writer, 'x');
      const value = talk(3_000);
      let version = 0;
      const here = async (): Promise<void> => {
        version += 1;
        await reached(client, version, bytesOf(value));
        expect((await storedForm(redis, writer, 'x'))?.form).to.equal('whole');
        const fields = await redis.hkeys(writer.keysOf('x').context);
        expect(fields.filter((name) => name === 'chunks' || /^d\d+$/.test(name))).to.deep.equal([]);
        const read = await reader.get('x');
        expect(bytesOf(read?.value).equals(bytesOf(value))).to.equal(true);
      };
      await writer.set('x', value);
      await here();
      await untilReplica(writer, 'x');
      await untilReplica(reader, 'x');
      for (const bytes of [3_000, 40_000, 200_000, 1_000]) {
        value.turns = talk(bytes).turns;
        await writer.set('x', value);
        await waitFor(async () => (await reader.get('x'))?.version === version + 1, { what: 'the frame' });
        await here();
        for (let n = 0; n < 4; n += 1) {
          const edit = (talk: Talk): void => {
            talk.n += 1;
            (talk.turns[0] as { text: string }).text = prose(n, 300);
          };
          edit(value);
          await [writer, reader][n % 2]?.update<Talk>('x', edit);
          await waitFor(async () => (await reader.get('x'))?.version === version + 1, { what: 'the frame' });
          await here();
        }
      }
      await writer.touch('x', '1h');
      await waitFor(() => client.expiresAt !== null, { what: 'the expiry' });
      await writer.delete('x');
      await reached(client, version + 1, null);
      await writer.set('x', { again: true });
      await reached(client, version + 2, bytesOf({ again: true }));
      expect(new Set(follower.protocols)).to.deep.equal(new Set([1]));
      expect(follower.kinds).to.not.include('splice');
      const log = await redis.xrange(writer.keysOf('x').log, '-', '+');
      for (const [, fields] of log) expect(fields).to.not.include.oneOf(['enc', 'splice']);
      const { delta: counted, resyncs, checksumFailures } = await reader.stats();
      expect(counted).to.include({ spliced: 0, shadowed: 0 });
      expect([resyncs, checksumFailures]).to.deep.equal([0, 0]);
    });
  }

  it('is upgraded under load: no version is lost or doubled, and splices and chunks follow', async () => {
    const redis = await oldNamespace();
    const proxy = await stores.proxy();
    const heartbeat = 50;
    const all = [
      await stores.open({ heartbeat }),
      await stores.open({ heartbeat, redis: proxy.url }),
      await stores.open({ heartbeat, delta: 'off' }),
    ] as const;
    const corrupt = all.map((store) => record(store, 'context:corrupt'));
    const ids = ['small', 'large'] as const;
    const values = { small: talk(2_000), large: talk(60_000) };
    for (const id of ids) await all[0].set(id, values[id]);
    for (const store of all) for (const id of ids) await untilReplica(store, id);
    const watched = all.flatMap((store) =>
      ids.map((id) => ({ id, store, seen: new Watched(store.watch(id, { fromVersion: 1 })) })),
    );
    const followers = {
      small: await Follower.start(stores, all[0], 'small'),
      large: await Follower.start(stores, all[0], 'large'),
    };
    const old = await followOld(all[0], 'large');

    let stop = false;
    const counts = { small: 0, large: 0 };
    const traffic = all.flatMap((store) =>
      ids.map(async (id) => {
        while (!stop) {
          await store.update<Talk>(id, (draft) => {
            draft.n += 1;
          });
          counts[id] += 1;
        }
      }),
    );
    const more = (than: number): Promise<unknown> =>
      waitFor(() => counts.small > than && counts.large > than, { what: `${than} commits` });
    await more(20);
    expect(new Set(followers.large.protocols)).to.deep.equal(new Set([1]));
    proxy.delay(3);
    expect(await all[1].upgrade()).to.deep.equal({ from: 1, to: 2 });
    // the others write the older protocol until they look at the namespace again
    for (const store of all)
      await waitFor(async () => (await store.stats()).delta.protocol === 2, { what: `${store.instanceId} to notice` });
    proxy.delay(0);
    const at = { ...counts };
    await more(Math.max(at.small, at.large) + 20);
    stop = true;
    await Promise.all(traffic);

    for (const id of ids) {
      const versions = Array.from({ length: counts[id] }, (_, index) => index + 2);
      const last = counts[id] + 1;
      const expected = { ...values[id], n: counts[id] };
      for (const { seen } of watched.filter((one) => one.id === id)) {
        await seen.version(last);
        expect(seen.versions).to.deep.equal(versions);
        expect(seen.changes.map(({ kind }) => kind)).to.not.include('reset');
        expect(seen.changes.map(({ value }) => (value as unknown as Talk).n)).to.deep.equal(
          versions.map((version) => version - 1),
        );
      }
      for (const store of all) expect((await replicaAt(store, id, last)).equals(bytesOf(expected))).to.equal(true);
      const follower = followers[id];
      const stored = await expectEverywhere(expected, last, { redis, id, stores: all, follower });
      expect(stored.form).to.equal(id === 'large' ? 'chunked' : 'whole');
      expect(follower.protocols.slice(0, 20)).to.deep.equal(Array(20).fill(1));
      expect(follower.protocols.slice(-10)).to.deep.equal(Array(10).fill(2));
      expect(follower.kinds).to.include('splice');
      expect(follower.kinds.slice(0, 20)).to.not.include('splice');
    }
    expect(corrupt.flat()).to.deep.equal([]);
    for (const store of all) expect((await store.stats()).checksumFailures).to.equal(0);
    expect((await all[0].stats()).delta.spliced).to.be.greaterThan(10);
    // why it is for when no older instance is left
    expect(old.trouble).to.equal('a frame of protocol 2');
    expect(await all[0].upgrade()).to.deep.equal({ from: 2, to: 2 });
  });

  it('what it holds is read and changed by new instances after the upgrade, whatever it was before', async () => {
    const redis = await oldNamespace();
    const before = await stores.open();
    const value = talk(80_000);
    await before.set('x', value);
    await before.set('gone', value);
    await before.delete('gone');
    await before.upgrade();
    const after = await stores.open();
    expect((await after.stats()).delta.protocol).to.equal(2);
    expect((await storedForm(redis, after, 'x'))?.form).to.equal('whole');
    expect((await after.get('x'))?.value).to.deep.equal(value);
    value.n = 2;
    await after.patch('x', [{ op: 'replace', path: '/n', value: 2 }]);
    const stored = await expectEverywhere(value, 2, { redis, id: 'x', stores: [before, after] });
    expect(stored.form).to.equal('chunked');
    await after.set('gone', value);
    await expectEverywhere(value, 3, { redis, id: 'gone', stores: [before, after] });
  });
});

describe('a namespace of a format that this version does not know', () => {
  const stores: TestStores = useStores();

  for (const format of ['3', '0', 'x', '']) {
    it(`${JSON.stringify(format)} is refused, and left as it is`, async () => {
      const redis = await stores.redis();
      const key = `{lc:${stores.namespace}}:ns`;
      await redis.hset(key, 'shards', 2, 'format', format);
      const error = await refusal('NAMESPACE_MISMATCH', () => stores.open());
      expect(error.message).to.contain(`format ${format}`).and.to.contain('use a version of this package that knows it');
      expect(await redis.hgetall(key)).to.deep.equal({ shards: '2', format });
      expect(await redis.keys(`{lc:${stores.namespace}*`)).to.deep.equal([key]);
    });
  }

  it('is not upgraded, nor set back, by who was there before', async () => {
    const redis = await stores.redis();
    const key = `{lc:${stores.namespace}}:ns`;
    await redis.hset(key, 'shards', 1, 'format', 1);
    const store = await stores.open({ heartbeat: 20 });
    await redis.hset(key, 'format', 3);
    await refusal('NAMESPACE_MISMATCH', () => store.upgrade());
    expect(await redis.hget(key, 'format')).to.equal('3');
  });

  it('whose frames come all the same are refused, and the document is read', async () => {
    const [store, writer] = await stores.pair();
    const redis = await stores.redis();
    await writer.set('x', { n: 1 });
    await untilReplica(store, 'x');
    const corrupt = record(store, 'context:corrupt');
    await redis.publish(store.keysOf('x').channel, 'lc3 splice - 0 2 00000000 7 1 00000000 1700000000000 - - newer 00000000\n');
    await waitFor(() => corrupt.length > 0, { what: 'the refusal' });
    expect(corrupt[0]?.found).to.contain('upgrade it');
    expect((await replicaAt(store, 'x', 1)).toString()).to.equal('{"n":1}');
  });
});
