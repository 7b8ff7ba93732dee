/**
 * Frames for who carries changes on to others: each leads a client of another make (test/helpers/referenceClient.ts) from what it has to the
 * present, whatever has happened to the context since, and is made once for all who ask.
 */
import { expect } from 'chai';
import type { ContextStore } from '../../src/index.js';
import { ReferenceClient, readFrame } from '../helpers/referenceClient.js';
import { redisTime, refusal, untilReplica, useStores } from '../helpers/stores.js';
import { waitFor } from '../helpers/waitFor.js';
import { bytesOf, Follower, loseFrames, prose, replicaAt, storedForm, type Talk, talk } from './deltaSupport.js';

describe('frameSince', () => {
  const stores = useStores();

  /** What a client asks with. */
  const known = ({ version, crc }: ReferenceClient) => ({ version, checksum: crc === '-' ? '' : crc });
  const ask = (store: ContextStore, client: ReferenceClient): Promise<Buffer | null> => store.frameSince('x', known(client));
  const shown = (frame: Buffer | null): string => {
    if (frame === null) return 'nothing';
    const { kind, version, baseVersion } = readFrame(frame);
    return `${kind} ${baseVersion} -> ${version}`;
  };

  /** A client that has read the context as it is, or that there is none. */
  async function clientOf(store: ContextStore): Promise<ReferenceClient> {
    const client = new ReferenceClient();
    const redis = await stores.redis();
    const stored = await storedForm(redis, store, 'x');
    const [last] = await redis.xrevrange(store.keysOf('x').log, '+', '-', 'COUNT', 1);
    client.load(stored?.version ?? Number.parseInt(last?.[0] ?? '0', 10), stored?.bytes ?? null);
    return client;
  }

  /** Asks, applies the answer, and compares with what Redis has; the client must be at the present then. */
  async function catchUp(store: ContextStore, client: ReferenceClient): Promise<string> {
    const frame = await ask(store, client);
    if (frame !== null) {
      expect(client.answer(frame)).to.equal('applied');
      const at = Number(frame.toString('latin1').split(' ')[9]);
      expect(Math.abs(at - (await redisTime(await stores.redis()))), 'the time in it').to.be.lessThan(10_000);
    }
    const present = await clientOf(store);
    expect([client.version, client.crc, client.trouble]).to.deep.equal([present.version, present.crc, '']);
    expect(client.document?.toString()).to.equal(present.document?.toString());
    expect(await ask(store, client), 'there is nothing more').to.equal(null);
    return shown(frame);
  }

  async function change(store: ContextStore, n: number): Promise<void> {
    await store.patch('x', [{ op: 'replace', path: '/n', value: n }]);
  }

  const replicas = { 'by a store without a replica': false, 'by one that has a replica': true };
  for (const [name, held] of Object.entries(replicas)) {
    describe(name, () => {
      async function setUp() {
        const [writer, gateway] = await stores.pair();
        const redis = await stores.redis();
        await writer.set('x', talk(6_000));
        if (held) await untilReplica(gateway, 'x');
        return { writer, gateway, redis, client: await clientOf(writer) };
      }
      /** Frames have come where there is a replica. */
      const settle = async (gateway: ContextStore, version: number): Promise<unknown> => held && replicaAt(gateway, 'x', version);

      it('nothing for who is there, and for who has nothing where there is nothing', async () => {
        const { gateway, client } = await setUp();
        expect(await ask(gateway, client)).to.equal(null);
        expect(await gateway.frameSince('y', { version: 0, checksum: '' })).to.equal(null);
        expect((await gateway.stats()).delta.squash).to.include({ asked: 0, made: 0 });
      });

      it('the document for who has nothing', async () => {
        const { gateway } = await setUp();
        expect(await catchUp(gateway, new ReferenceClient())).to.equal('full 0 -> 1');
      });

      it('one splice over several versions, smaller than the document and than the frames of each', async () => {
        const { writer, gateway, client } = await setUp();
        const follower = await Follower.start(stores, writer, 'x');
        for (let version = 2; version <= 20; version += 1) await change(writer, version);
        await follower.version(20);
        await settle(gateway, 20);
        const frame = await ask(gateway, client);
        expect(frame?.length).to.be.lessThan(follower.bytes / 10);
        expect(frame?.length).to.be.lessThan(250);
        expect(await catchUp(gateway, client)).to.equal('splice 1 -> 20');
      });

      it('one splice where a whole document and patches lie between', async () => {
        const { writer, gateway, client } = await setUp();
        const off = await stores.open({ delta: 'off' });
        await change(writer, 2);
        await off.set('x', { ...talk(6_500), n: 3 });
        await change(off, 4);
        await change(writer, 5);
        await settle(gateway, 5);
        const kinds = (await writer.history('x')).map(({ kind }) => kind);
        expect(kinds).to.include.members(['full', 'patch']);
        expect(await catchUp(gateway, client)).to.equal('splice 1 -> 5');
      });

      it('the document where it is smaller than any splice', async () => {
        const { writer, gateway, client } = await setUp();
        await writer.set('x', { n: 2, turns: [{ text: 'short' }] });
        await settle(gateway, 2);
        expect(await catchUp(gateway, client)).to.match(/^(full|splice) 1 -> 2$/);
        const other = { n: 3, other: Array.from({ length: 40 }, (_, index) => prose(1_000 + index, 500)) };
        await writer.set('x', other);
        await settle(gateway, 3);
        expect(await catchUp(gateway, client)).to.equal('full 2 -> 3');
      });

      it('that it was deleted, also where it was created in between', async () => {
        const { writer, gateway, client } = await setUp();
        const early = await clientOf(writer);
        await writer.delete('x');
        await waitFor(async () => (await gateway.get('x')) === null, { what: 'the deletion' });
        expect(await catchUp(gateway, client)).to.equal('deleted 1 -> 2');
        await writer.set('x', { n: 3 });
        await writer.delete('x');
        expect(await catchUp(gateway, client)).to.equal('deleted 2 -> 4');
        expect(await catchUp(gateway, early)).to.equal('deleted 1 -> 4');
        await writer.set('x', { n: 5 });
        expect(await catchUp(gateway, client)).to.equal('full 4 -> 5');
        expect(await catchUp(gateway, early)).to.equal('full 4 -> 5');
      });

      it('that it has expired, whether it was taken out of Redis or not', async () => {
        const { writer, gateway, redis } = await setUp();
        await writer.set('x', { n: 2 }, { ttl: 40 });
        const [client, late] = [await clientOf(writer), await clientOf(writer)];
        await waitFor(async () => (await gateway.get('x', { fresh: true })) === null, { what: 'its time to be over' });
        expect(await redis.exists(writer.keysOf('x').context), 'still there').to.equal(1);
        const frame = await ask(gateway, client);
        expect(shown(frame)).to.equal('expired 2 -> 2');
        expect(client.answer(frame ?? Buffer.alloc(0))).to.equal('applied');
        expect([client.version, client.document]).to.deep.equal([2, null]);
        // an instance with a heartbeat takes it out
        await stores.open({ heartbeat: 20 });
        await waitFor(async () => (await redis.exists(writer.keysOf('x').context)) === 0, { what: 'it to be taken out' });
        expect(await catchUp(gateway, late)).to.equal('expired 2 -> 2');
        const first = new ReferenceClient();
        first.load(1, bytesOf(talk(6_000)));
        expect(await catchUp(gateway, first)).to.equal('deleted 1 -> 2');
      });

      it('to start over where its log is gone, and versions have begun again', async () => {
        const { writer, gateway, redis } = await setUp();
        for (let version = 2; version <= 5; version += 1) await change(writer, version);
        const [there, gone] = [await clientOf(writer), await clientOf(writer)];
        await writer.delete('x');
        await waitFor(async () => (await gateway.get('x')) === null, { what: 'the deletion' });
        expect(await catchUp(gateway, gone)).to.equal('deleted 5 -> 6');
        const stale = await clientOf(writer);
        await redis.del(writer.keysOf('x').log);
        const copy = new ReferenceClient();
        copy.load(5, there.document);
        expect(await catchUp(gateway, copy)).to.equal('deleted 5 -> 0');
        await writer.set('x', { n: 'anew' });
        expect(await catchUp(gateway, there)).to.equal('full 5 -> 1');
        expect(await catchUp(gateway, stale)).to.equal('full 6 -> 1');
        await change(writer, 2);
        expect(await catchUp(gateway, copy)).to.equal('full 0 -> 2');
        // and from there as ever
        await change(writer, 3);
        expect(await catchUp(gateway, there)).to.match(/^(full|splice) 1 -> 3$/);
      });

      it('to start over after a failover that lost commits', async () => {
        const { writer, gateway, redis, client } = await setUp();
        await change(writer, 2);
        await change(writer, 3);
        const { context, log } = writer.keysOf('x');
        // the server that was asked next had not come that far
        const [at2, log2] = [await redis.dumpBuffer(context), await redis.dumpBuffer(log)];
        for (let version = 4; version <= 6; version += 1) await change(writer, version);
        const lost = [await clientOf(writer), await clientOf(writer), await clientOf(writer)] as const;
        const early = await clientOf(writer);
        await redis.restore(context, 0, at2, 'REPLACE');
        // a splice could be made of what the log still has, and would not be one that starts over
        expect(await catchUp(await stores.open(), early)).to.equal('full 6 -> 3');
        await redis.restore(log, 0, log2, 'REPLACE');
        // nobody has told the replicas
        expect(await catchUp(await stores.open(), lost[0])).to.equal('full 6 -> 3');
        const other = await stores.open();
        for (let version = 4; version <= 6; version += 1)
          await other.patch('x', [{ op: 'replace', path: '/n', value: -version }]);
        const fresh = held ? other : gateway;
        expect(await catchUp(fresh, lost[1]), 'the same version with other content').to.equal('full 6 -> 6');
        await other.patch('x', [{ op: 'replace', path: '/n', value: -7 }]);
        expect(await catchUp(fresh, lost[2]), 'a higher version on other content').to.equal('full 6 -> 7');
        expect(await catchUp(fresh, client)).to.equal('splice 1 -> 7');
      });
    });
  }

  it('asks Redis where the asker is further than the replica: nobody is sent back to an older version', async () => {
    const proxy = await stores.proxy();
    const [writer, gateway] = [await stores.open(), await stores.open({ redis: proxy.url })];
    await writer.set('x', talk(20_000));
    await untilReplica(gateway, 'x');
    const end = loseFrames(proxy);
    await change(writer, 2);
    await waitFor(() => proxy.faults.dropped > 0, { what: 'the frame to be lost' });
    expect((await gateway.get('x'))?.version, 'the replica is behind').to.equal(1);
    const client = await clientOf(writer);
    expect(await ask(gateway, client)).to.equal(null);
    expect(client.version).to.equal(2);
    end();
  });

  it('is made once for ten who ask at once, kept for the next, and made anew for another present or another expiry', async () => {
    const [writer, gateway] = await stores.pair();
    await writer.set('x', talk(50_000));
    await untilReplica(gateway, 'x');
    const client = await clientOf(writer);
    for (let version = 2; version <= 9; version += 1) await change(writer, version);
    await replicaAt(gateway, 'x', 9);
    const squash = async () => (await gateway.stats()).delta.squash;
    const ten = await Promise.all(Array.from({ length: 10 }, () => ask(gateway, client)));
    expect(new Set(ten).size, 'the same bytes for all').to.equal(1);
    expect(await squash()).to.include({ asked: 10, made: 1, spliced: 1, full: 0 });
    expect(await ask(gateway, client)).to.equal(ten[0]);
    expect(await squash()).to.include({ asked: 11, made: 1 });
    await ask(gateway, new ReferenceClient());
    expect(await squash()).to.include({ asked: 12, made: 2, spliced: 1, full: 1 });
    const { expiresAt } = (await writer.touch('x', '1h')) ?? {};
    await waitFor(async () => (await gateway.get('x'))?.expiresAt === expiresAt, { what: 'the other expiry' });
    const touched = await ask(gateway, client);
    expect(readFrame(touched ?? Buffer.alloc(0)).expiresAt).to.equal(expiresAt);
    expect(await squash()).to.include({ made: 3, spliced: 2 });
    await change(writer, 10);
    await replicaAt(gateway, 'x', 10);
    const late = await ask(gateway, client);
    expect(shown(late)).to.equal('splice 1 -> 10');
    expect(await squash()).to.include({ asked: 14, made: 4, spliced: 3, full: 1, removed: 0 });
    // it is a splice for this package's own replicas as well
    const value = (await gateway.get('x'))?.value as unknown as Talk;
    expect(client.answer(late ?? Buffer.alloc(0))).to.equal('applied');
    expect(client.document?.equals(bytesOf(value))).to.equal(true);
  });

  it('refuses what is no version or no checksum', async () => {
    const store = await stores.open();
    for (const one of [
      { version: -1, checksum: '' },
      { version: 1.5, checksum: '' },
      { version: 1, checksum: 'ABCDEF01' },
      { version: 1, checksum: '-' },
    ])
      await refusal('INVALID_ARGUMENT', () => store.frameSince('x', one));
  });
});
