/** Replicas: who gets one, that it answers without Redis, and that it never answers wrongly whatever happens to its frames. */
import { expect } from 'chai';
import type { Redis } from 'ioredis';
import { crc32Hex, sha1Hex } from '../../src/core/checksum.js';
import { entrySum, sealOf } from '../../src/core/seal.js';
import type { ContextStore, JsonValue } from '../../src/index.js';
import { record, refusal, untilReplica, useStores, Watched, watchFromNow } from '../helpers/stores.js';
import type { TcpProxy } from '../helpers/TcpProxy.js';
import { waitFor } from '../helpers/waitFor.js';

const PAD = 'p'.repeat(300);

/** True for a chunk that carries a frame: nothing else that Redis sends has these words. */
const isFrame = (chunk: Buffer): boolean => chunk.includes('lc2 ');

/** True for a chunk of whole messages: half of one, lost, would take the sense of all that comes after it. */
function areMessages(chunk: Buffer): boolean {
  if (!isFrame(chunk)) return false;
  const text = chunk.toString('latin1');
  let at = 0;
  while (at < text.length) {
    const head = /^>3\r\n\$7\r\nmessage\r\n\$(\d+)\r\n/.exec(text.slice(at, at + 40));
    if (head === null) return false;
    at += head[0].length + Number(head[1]) + 2;
    const length = /^\$(\d+)\r\n/.exec(text.slice(at, at + 16));
    if (length === null) return false;
    at += length[0].length + Number(length[1]) + 2;
  }
  return at === text.length;
}

/** Where a frame's own text begins in a chunk. */
const frameStart = (chunk: Buffer): number => chunk.indexOf('lc2 ');

describe('replicas', () => {
  const stores = useStores();

  /** An instance behind a proxy, one beside it, and who looks on. */
  async function setUp(
    options: Parameters<typeof stores.open>[0] = {},
  ): Promise<{ proxy: TcpProxy; near: ContextStore; writer: ContextStore; redis: Redis }> {
    const proxy = await stores.proxy();
    const [near, writer, redis] = await Promise.all([
      stores.open({ redis: proxy.url, ...options }),
      stores.open({ memory: { local: 0 } }),
      stores.redis(),
    ]);
    return { proxy, near, writer, redis };
  }

  /** Has one frame, the next, not arrive at who is behind the proxy. */
  function loseNextFrame(proxy: TcpProxy): void {
    const { dropped } = proxy.faults;
    const end = proxy.drop({
      direction: 'down',
      when: (chunk) => {
        const lost = isFrame(chunk) && proxy.faults.dropped === dropped;
        if (lost) setImmediate(() => end());
        return lost;
      },
    });
  }

  describe('admission', () => {
    it('is earned by the second read; from the third on Redis is not asked', async () => {
      const { proxy, near, writer, redis } = await setUp();
      const { channel } = near.keysOf('x');
      const listeners = async (): Promise<number> => Number((await redis.pubsub('NUMSUB', channel))[1]);
      const { checksum } = await writer.set('x', { a: 1 });
      await near.get('x');
      // what would follow the reply has been sent by the time of another round trip
      await near.has('y');
      expect(await listeners()).to.equal(0);
      expect((await near.stats()).replicas).to.include({ count: 0, live: 0 });
      await near.get('x');
      await waitFor(async () => (await near.stats()).replicas.live === 1, { what: 'the replica' });
      expect(await listeners()).to.equal(1);

      const { hits } = (await near.stats()).replicas;
      proxy.resetCounters();
      for (let read = 0; read < 100; read += 1) {
        expect(await near.get('x')).to.deep.include({ id: 'x', value: { a: 1 }, version: 1, checksum, stale: false });
      }
      expect(await near.has('x')).to.equal(true);
      expect((await near.getMany(['x', 'x'])).map((context) => context?.version)).to.deep.equal([1, 1]);
      expect([proxy.bytesUp, proxy.bytesDown]).to.deep.equal([0, 0]);
      expect((await near.stats()).replicas.hits).to.equal(hits + 103);
      await near.get('x', { fresh: true });
      expect(proxy.bytesUp).to.be.greaterThan(0);
    });

    it('counts neither writes nor misses as reads', async () => {
      const { near, redis } = await setUp();
      const channels = async (): Promise<number> => {
        const { channel } = near.keysOf('none');
        return Number((await redis.pubsub('NUMSUB', channel))[1]);
      };
      for (let read = 0; read < 5; read += 1) expect(await near.get('none')).to.equal(null);
      expect((await near.stats()).replicas.count).to.equal(0);
      expect(await channels()).to.equal(0);
      for (let write = 0; write < 3; write += 1) await near.set('x', write);
      expect((await near.stats()).replicas.count).to.equal(0);
      await near.get('x');
      await near.set('x', 3);
      await waitFor(async () => (await near.stats()).replicas.live === 1, { what: 'the replica of what was read and written' });
    });

    it('many at once share their round trips', async () => {
      const { near, writer } = await setUp();
      const ids = Array.from({ length: 200 }, (_, index) => `x-${index}`);
      await Promise.all(ids.map((id) => writer.set(id, { id })));
      for (let round = 0; round < 2; round += 1) await near.getMany(ids);
      await waitFor(async () => (await near.stats()).replicas.live === 200, { what: 'all replicas' });
      await Promise.all(ids.map((id) => writer.set(id, { id, again: true })));
      for (const id of ids) {
        await waitFor(async () => (await near.get(id))?.version === 2, { what: `version 2 of ${id}` });
        expect((await near.get(id))?.value).to.deep.equal({ id, again: true });
      }
    });

    it('none with memory.local 0: every read asks Redis', async () => {
      const { proxy, near, writer, redis } = await setUp({ memory: { local: 0 } });
      await writer.set('x', 1);
      for (let read = 0; read < 5; read += 1) {
        proxy.resetCounters();
        expect((await near.get('x'))?.value).to.equal(1);
        expect(proxy.bytesUp).to.be.greaterThan(0);
      }
      const { channel } = near.keysOf('x');
      expect(await redis.pubsub('NUMSUB', channel)).to.deep.equal([channel, 0]);
      expect((await near.stats()).replicas).to.deep.include({ count: 0, live: 0, hits: 0, bytes: 0 });
    });

    it('ends with eviction: the least recently used goes, with its subscription, and can come back', async () => {
      // a replica of 302 bytes is accounted with 512 + 3 * 302
      const { near, writer, redis } = await setUp({ memory: { local: 3 * (512 + 3 * 302) + 100 } });
      const listeners = async (id: string): Promise<number> => Number((await redis.pubsub('NUMSUB', near.keysOf(id).channel))[1]);
      const ids = ['a', 'b', 'c', 'd'];
      for (const id of ids) await writer.set(id, PAD);
      for (const id of ['a', 'b', 'c']) await untilReplica(near, id);
      await near.get('a');
      await untilReplica(near, 'd');
      await waitFor(async () => (await listeners('b')) === 0, { what: 'the subscription of b to end' });
      expect(await Promise.all(ids.map(listeners))).to.deep.equal([1, 0, 1, 1]);
      const { count, bytes } = (await near.stats()).replicas;
      expect(count).to.equal(3);
      expect(bytes).to.be.at.most(3 * (512 + 3 * 302) + 100);

      await writer.set('b', 'new');
      expect((await near.get('b'))?.value).to.equal('new');
      await untilReplica(near, 'b');
      await writer.set('b', 'newer');
      await waitFor(async () => (await near.get('b'))?.value === 'newer', { what: 'the frame to b' });
      // one that grows makes room for itself, one that is larger than all memory has none
      await writer.set('a', PAD.repeat(4));
      await waitFor(async () => (await near.get('a', { fresh: true }))?.version === 2, { what: 'a to have grown' });
      await waitFor(async () => (await near.stats()).replicas.bytes <= 3 * (512 + 3 * 302) + 100, { what: 'room' });
      await writer.set('a', PAD.repeat(40));
      await waitFor(async () => (await listeners('a')) === 0, { what: 'the subscription of a to end' });
      expect((await near.get('a'))?.version).to.equal(3);
    });

    it('evicted while its subscription is on its way, it comes back with one', async () => {
      const { proxy, near, writer, redis } = await setUp({ memory: { local: 512 + 3 * 302 + 10 } });
      for (const id of ['a', 'b']) await writer.set(id, PAD);
      await near.get('a');
      await near.get('b');
      // both join, and only one has room
      await Promise.all([near.get('a'), near.get('b')]);
      await waitFor(async () => (await near.stats()).replicas.live === 1, { what: 'one replica' });
      await near.get('a');
      await untilReplica(near, 'a');
      const { channel } = near.keysOf('a');
      expect(await redis.pubsub('NUMSUB', channel)).to.deep.equal([channel, 1]);
      await writer.set('a', 'new');
      await waitFor(async () => (await near.get('a'))?.value === 'new', { what: 'the frame to a' });
      expect(proxy.faults.dropped).to.equal(0);
    });
  });

  describe('what a replica answers', () => {
    it('follows the writes of others, and shares what they did not touch', async () => {
      const { near, writer } = await setUp();
      await writer.set('x', { big: { list: [1, 2, 3], pad: PAD }, n: 1 });
      await untilReplica(near, 'x');
      const before = await near.get<{ big: object; n: number }>('x');
      expect(await near.get('x')).to.equal(before);
      await writer.update<{ n: number }>('x', (draft) => {
        draft.n = 2;
      });
      await waitFor(async () => (await near.get('x'))?.version === 2, { what: 'version 2' });
      const after = await near.get<{ big: object; n: number }>('x');
      expect(after?.value.n).to.equal(2);
      expect(after?.value.big).to.equal(before?.value.big);
      expect(before?.value.n).to.equal(1);
      const { bytes, documentBytes, ...kinds } = (await near.stats()).frames;
      expect(kinds).to.deep.equal({ splice: 1, patch: 0, full: 0 });
      expect(bytes).to.be.lessThan(documentBytes);
    });

    it('is at once what this instance has written', async () => {
      const { near, writer } = await setUp();
      await near.set('x', { n: 0 });
      await untilReplica(near, 'x');
      for (let n = 1; n <= 50; n += 1) {
        if (n % 3 === 0) await near.set('x', { n });
        else if (n % 3 === 1) {
          await near.update<{ n: number }>('x', (draft) => {
            draft.n = n;
          });
        } else await near.patch('x', [{ op: 'replace', path: '/n', value: n }]);
        expect((await near.get('x'))?.value).to.deep.equal({ n });
        // with versions of another between
        if (n % 10 === 0) await writer.set('x', { n });
      }
      await near.delete('x');
      expect(await near.get('x')).to.equal(null);
      expect(await near.has('x')).to.equal(false);
      await near.set('x', 'again');
      expect((await near.get('x'))?.value).to.equal('again');
    });

    it('is never older than what a read of this instance has seen, though its frame is lost', async () => {
      const { proxy, near, writer } = await setUp();
      await writer.set('x', 1);
      await untilReplica(near, 'x');
      loseNextFrame(proxy);
      await writer.set('x', 2);
      await waitFor(() => proxy.faults.dropped === 1, { what: 'the frame to be lost' });
      expect((await near.get('x'))?.version).to.equal(1);
      expect((await near.get('x', { fresh: true }))?.version).to.equal(2);
      for (let read = 0; read < 20; read += 1) expect((await near.get('x'))?.version).to.equal(2);
      expect((await near.getMany(['x']))[0]?.version).to.equal(2);
    });

    it('nor than what this instance has written, though frames between are lost', async () => {
      const { proxy, near, writer } = await setUp();
      await writer.set('x', 1);
      await untilReplica(near, 'x');
      const end = proxy.drop({ direction: 'down', when: isFrame });
      await writer.set('x', 2);
      await waitFor(() => proxy.faults.dropped > 0, { what: 'the frame to be lost' });
      await near.set('x', 3);
      for (let read = 0; read < 20; read += 1) expect((await near.get('x'))?.version).to.equal(3);
      end();
    });

    it('is gone once a read of this instance has seen that it is gone', async () => {
      const { proxy, near, writer } = await setUp();
      await writer.set('x', 1);
      await untilReplica(near, 'x');
      loseNextFrame(proxy);
      await writer.delete('x');
      await waitFor(() => proxy.faults.dropped === 1, { what: 'the frame to be lost' });
      expect(await near.get('x', { fresh: true })).to.equal(null);
      for (let read = 0; read < 20; read += 1) expect(await near.get('x')).to.equal(null);
    });

    it('only ever moves forward under concurrent writers and lost frames', async function () {
      this.timeout(60_000);
      const { proxy, near, writer } = await setUp({ heartbeat: '30ms' });
      const second = await stores.open();
      await writer.set('x', { n: 0, pad: PAD });
      await untilReplica(near, 'x');
      let frames = 0;
      const end = proxy.drop({
        direction: 'down',
        when: (chunk) => {
          if (!areMessages(chunk)) return false;
          frames += 1;
          return frames % 5 === 0;
        },
      });
      let writing = true;
      const write = async (store: ContextStore): Promise<void> => {
        for (let n = 0; n < 150; n += 1) {
          await store.update<{ n: number }>('x', (draft) => {
            draft.n += 1;
          });
        }
      };
      let newest = 0;
      const read = async (options: { fresh: boolean } | undefined): Promise<number> => {
        let reads = 0;
        while (writing) {
          const seen = newest;
          const context = await near.get<{ n: number }>('x', options);
          const version = context?.version ?? 0;
          // whatever had been answered when this was asked
          expect(version).to.be.at.least(seen);
          expect(context?.value.n).to.equal(version - 1);
          newest = Math.max(newest, version);
          reads += 1;
          await new Promise((resolve) => setImmediate(resolve));
        }
        return reads;
      };
      const readers = [read(undefined), read(undefined), read({ fresh: true })];
      await Promise.all([write(writer), write(second)]).finally(() => {
        writing = false;
      });
      expect(Math.min(...(await Promise.all(readers)))).to.be.greaterThan(10);
      end();
      expect(proxy.faults.dropped).to.be.greaterThan(10);
      const { hits } = (await near.stats()).replicas;
      expect(hits).to.be.greaterThan(10);
      await waitFor(async () => (await near.get('x'))?.version === 301, { what: 'the last version' });
    });
  });

  describe('what goes wrong on the way', () => {
    it('a last frame that is lost is found by the heartbeat', async () => {
      const { proxy, near, writer } = await setUp({ heartbeat: '40ms' });
      const resyncs = record(near, 'context:resync');
      for (const change of ['touch', 'set', 'delete'] as const) {
        await writer.set(change, { n: 1 });
        const watched = new Watched(near.watch(change, { fromVersion: 1 }));
        await untilReplica(near, change);
        const { dropped } = proxy.faults;
        resyncs.length = 0;
        loseNextFrame(proxy);
        if (change === 'touch') await writer.touch(change, '1h');
        else if (change === 'set') await writer.set(change, { n: 2 });
        else await writer.delete(change);
        await waitFor(() => proxy.faults.dropped > dropped, { what: 'the frame to be lost' });
        if (change === 'touch') {
          await waitFor(async () => typeof (await near.get(change))?.expiresAt === 'number', { what: 'the new expiry' });
          continue;
        }
        await watched.version(2);
        expect(watched.kinds).to.deep.equal([change === 'set' ? 'full 2' : 'deleted 2']);
        expect((await near.get(change))?.value).to.deep.equal(change === 'set' ? { n: 2 } : undefined);
        expect(resyncs).to.deep.equal([{ id: change, reason: 'heartbeat', from: 1, to: 2, full: false }]);
      }
    });

    it('a lost frame shows in the next one, and the log fills the gap', async () => {
      const { proxy, near, writer } = await setUp();
      const resyncs = record(near, 'context:resync');
      await writer.set('x', { n: 1, pad: PAD });
      const watched = await watchFromNow(near, 'x');
      await untilReplica(near, 'x');
      loseNextFrame(proxy);
      for (const n of [2, 3]) {
        await writer.update<{ n: number }>('x', (draft) => {
          draft.n = n;
        });
        await waitFor(() => proxy.faults.dropped === 1, { what: 'the frame to be lost' });
      }
      await watched.version(3);
      expect(watched.versions).to.deep.equal([2, 3]);
      expect(resyncs).to.deep.equal([{ id: 'x', reason: 'gap', from: 1, to: 3, full: false }]);
      expect((await near.stats()).resyncs).to.equal(1);
      expect((await near.get('x'))?.value).to.deep.equal({ n: 3, pad: PAD });
    });

    for (const kind of ['patch', 'full'] as const) {
      it(`a ${kind} frame that is damaged on the wire is counted, told and healed`, async () => {
        const { proxy, near, writer } = await setUp();
        const corrupt = record(near, 'context:corrupt');
        const resyncs = record(near, 'context:resync');
        await writer.set('x', { n: 1, pad: PAD });
        const watched = new Watched(near.watch('x', { fromVersion: 1 }));
        await untilReplica(near, 'x');
        const marker = kind === 'patch' ? 'damaged-here' : `damaged-here${PAD}`;
        const end = proxy.flip((chunk) => {
          const at = chunk.indexOf('damaged-here');
          // the log holds the same text, and must not be touched
          return at >= 0 && chunk.includes(near.keysOf('x').channel) ? at : false;
        }, 'down');
        const result =
          kind === 'patch'
            ? await writer.patch('x', [{ op: 'replace', path: '/n', value: marker }])
            : await writer.set('x', { text: marker });
        await watched.version(2);
        end();
        expect(proxy.faults.flipped).to.equal(1);
        expect(watched.versions).to.deep.equal([2]);
        expect(watched.last).to.deep.include({
          value: kind === 'patch' ? { n: marker, pad: PAD } : { text: marker },
          checksum: result.checksum,
        });
        expect(corrupt).to.have.lengthOf(1);
        expect(corrupt[0]).to.deep.include({ id: 'x', version: 2, where: 'frame', expected: result.checksum });
        expect(corrupt[0]?.found)
          .to.match(/^[0-9a-f]{8}$/)
          .and.not.equal(result.checksum);
        expect(resyncs).to.deep.equal([{ id: 'x', reason: 'checksum', from: 1, to: 2, full: false }]);
        expect((await near.stats()).checksumFailures).to.equal(1);
        expect((await near.get('x'))?.checksum).to.equal(result.checksum);
      });
    }

    it('whatever word of a frame’s header is damaged, the replica ends up right', async function () {
      this.timeout(60_000);
      const { proxy, near, writer } = await setUp({ heartbeat: '30ms' });
      await writer.set('x', { n: 0, pad: PAD });
      await untilReplica(near, 'x');
      for (let word = 0; word < 12; word += 1) {
        const { flipped } = proxy.faults;
        const end = proxy.flip((chunk) => {
          const start = frameStart(chunk);
          if (start < 0 || proxy.faults.flipped > flipped) return false;
          let at = start;
          for (let skipped = 0; skipped < word; skipped += 1) at = chunk.indexOf(' ', at) + 1;
          return at;
        }, 'down');
        const { version, checksum } = await writer.patch('x', [{ op: 'replace', path: '/n', value: word + 1 }], { ttl: '1h' });
        await waitFor(() => proxy.faults.flipped > flipped, { what: `word ${word} to be damaged` });
        end();
        const { expiresAt } = (await writer.get('x')) ?? {};
        await waitFor(
          async () => {
            const { hits } = (await near.stats()).replicas;
            const context = await near.get('x');
            const answered = (await near.stats()).replicas.hits > hits;
            return answered && context?.version === version && context.expiresAt === expiresAt && context;
          },
          { what: `version ${version} although word ${word} was damaged` },
        );
        expect(await near.get('x')).to.deep.include({ checksum, value: { n: word + 1, pad: PAD } });
      }
    });

    it('damage that takes the sense of all that follows is noticed, though bytes keep coming', async () => {
      const { proxy, near, writer } = await setUp({ heartbeat: '40ms', attemptTimeout: '400ms' });
      const downs = record(near, 'connection:down');
      await writer.set('x', { n: 0, pad: PAD });
      const watched = new Watched(near.watch('x', { fromVersion: 1 }));
      await untilReplica(near, 'x');
      // the type of the message's text, `$`, becomes that of a map, `%`, with hundreds of members to come
      const end = proxy.flip((chunk) => {
        const start = frameStart(chunk);
        return proxy.faults.flipped === 0 && start > 0 && chunk.lastIndexOf('$', start);
      }, 'down');
      let n = 0;
      await waitFor(
        async () => {
          n += 1;
          await writer.patch('x', [{ op: 'replace', path: '/n', value: n }]);
          return downs.some(({ connection }) => connection === 'subscriptions');
        },
        { what: 'the damage to be noticed', everyMs: 10 },
      );
      end();
      expect(proxy.faults.flipped).to.equal(1);
      await watched.version(n + 1);
      expect(watched.versions).to.deep.equal(Array.from({ length: n }, (_, index) => index + 2));
      await writer.patch('x', [{ op: 'replace', path: '/n', value: 'end' }]);
      await watched.version(n + 2);
    });

    describe('a frame that was made from another content of the same version', () => {
      /** What a failover leaves that has lost commits: the same version, with other content, in the context and in its log. */
      async function rewrite(redis: Redis, store: ContextStore, id: string, version: number, value: JsonValue): Promise<void> {
        const { context, log } = store.keysOf(id);
        const data = JSON.stringify(value);
        const [crc, sha, len, at] = [crc32Hex(data), sha1Hex(data), Buffer.byteLength(data), Date.now()];
        const seal = sealOf(id, { v: version, crc, sha, len, at, exp: null });
        const facts = { base: '-', crc, sha, length: String(len), at: String(at), exp: '-', operation: 'other', by: 'other' };
        const frame = Buffer.from(data);
        const sum = entrySum(id, { entryId: `${version}-0`, kind: 'full', encoding: '-', ...facts, frame });
        await redis
          .multi()
          .hset(context, { data, crc, sha, len, v: version, op: 'other', by: 'other', at, seal })
          .del(log)
          .xadd(log, `${version}-0`, 'kind', 'full', 'frame', data, 'base', '-', 'crc', crc, 'sha', sha, 'len', len, 'op', 'other', 'by', 'other', 'at', at, 'exp', '-', 'sum', sum) // biome-ignore format: pairs
          .exec();
      }

      for (const kind of ['patch', 'full'] as const) {
        it(`is not applied, though the version follows: ${kind}`, async () => {
          const { near, writer, redis } = await setUp();
          const corrupt = record(near, 'context:corrupt');
          const resyncs = record(near, 'context:resync');
          await writer.set('x', { n: 1, lost: false, pad: PAD });
          await writer.set('x', { n: 2, lost: true, pad: PAD });
          const watched = new Watched(near.watch('x', { fromVersion: 1 }));
          await untilReplica(near, 'x');
          await watched.version(2);

          await rewrite(redis, near, 'x', 2, { n: 'other', lost: false, pad: PAD });
          const next =
            kind === 'patch'
              ? await writer.patch('x', [{ op: 'add', path: '/new', value: true }])
              : await writer.set('x', { n: 'other', lost: false, new: true });
          const change = await watched.version(3);
          const value =
            kind === 'patch' ? { n: 'other', lost: false, pad: PAD, new: true } : { n: 'other', lost: false, new: true };
          expect(change).to.deep.include({ kind: 'reset', value, checksum: next.checksum });
          expect(watched.kinds).to.deep.equal(['full 2', 'reset 3']);
          expect(await near.get('x')).to.deep.include({ version: 3, value, checksum: next.checksum });
          expect(resyncs).to.deep.equal([{ id: 'x', reason: 'gap', from: 2, to: 3, full: true }]);
          // it was never tried: nothing failed a checksum
          expect(corrupt).to.deep.equal([]);
          expect((await near.stats()).checksumFailures).to.equal(0);
        });
      }

      it('and without a frame the heartbeat finds that the same version has another checksum', async () => {
        const { near, writer, redis } = await setUp({ heartbeat: '40ms' });
        await writer.set('x', { n: 1 });
        const watched = await watchFromNow(near, 'x');
        await untilReplica(near, 'x');
        await rewrite(redis, near, 'x', 1, { n: 'other' });
        await waitFor(async () => ((await near.get<{ n: unknown }>('x'))?.value.n ?? '') === 'other', {
          what: 'the other content',
        });
        await watched.count(1);
        expect(watched.last).to.deep.include({ kind: 'reset', version: 1, value: { n: 'other' } });
        expect((await near.get('x'))?.version).to.equal(1);
      });

      it('and a replica whose versions Redis has lost goes back to what Redis has', async () => {
        const { near, writer, redis } = await setUp({ heartbeat: '40ms' });
        for (let n = 1; n <= 5; n += 1) await writer.set('x', { n });
        const watched = await watchFromNow(near, 'x');
        await untilReplica(near, 'x');
        await rewrite(redis, near, 'x', 3, { n: 3 });
        await watched.version(3);
        expect((await near.get('x'))?.version).to.equal(3);
        expect(watched.kinds).to.deep.equal(['reset 3']);
        await writer.set('x', { n: 4 });
        await watched.version(4);
        expect((await near.get('x'))?.value).to.deep.equal({ n: 4 });
      });

      it('nor does an update build on it: it runs again on what is there', async () => {
        const { near, writer, redis } = await setUp();
        await writer.set('x', { n: 1, pad: PAD });
        await untilReplica(near, 'x');
        await rewrite(redis, near, 'x', 1, { n: 100, pad: PAD });
        const { value, version } = await near.update<{ n: number }>('x', (draft) => {
          draft.n += 1;
        });
        expect({ value, version }).to.deep.equal({ value: { n: 101, pad: PAD }, version: 2 });
      });
    });
  });

  describe('while the subscription is down', () => {
    /** Ends the subscription connection of a store and keeps it from coming back. */
    async function cutSubscriptions(proxy: TcpProxy, store: ContextStore, redis: Redis): Promise<void> {
      proxy.refuse(true);
      const clients = String(await redis.client('LIST')).split('\n');
      const line = clients.find((client) => client.includes(`:${store.instanceId}:subscriptions `));
      await redis.client('KILL', 'ID', Number(/\bid=(\d+)/.exec(line ?? '')?.[1]));
      await waitFor(async () => (await store.stats()).connection.subscriptions === 'down', {
        what: 'the subscriptions to be down',
      });
    }

    it('replicas do not answer; Redis is asked, and after the return they answer again, compared', async () => {
      const { proxy, near, writer, redis } = await setUp();
      const resyncs = record(near, 'context:resync');
      for (const id of ['x', 'y']) {
        await writer.set(id, 1);
        await untilReplica(near, id);
      }
      await cutSubscriptions(proxy, near, redis);
      expect((await near.stats()).connection).to.deep.equal({ commands: 'up', subscriptions: 'down' });
      await writer.set('x', 2);
      const { hits } = (await near.stats()).replicas;
      for (let read = 0; read < 5; read += 1) expect(await near.get('x')).to.include({ value: 2, stale: false });
      expect((await near.stats()).replicas).to.include({ hits, live: 0 });
      proxy.refuse(false);
      await waitFor(async () => (await near.stats()).replicas.live === 2, { what: 'the replicas to be live' });
      expect(resyncs).to.deep.equal([{ id: 'x', reason: 'reconnect', from: 1, to: 2, full: false }]);
      proxy.resetCounters();
      expect((await near.get('x'))?.value).to.equal(2);
      expect((await near.get('y'))?.value).to.equal(1);
      expect(proxy.bytesUp).to.equal(0);
    });

    it('with allowStale they do where Redis is away as well, marked so, and not past their expiry', async () => {
      const { proxy, near, writer } = await setUp();
      await writer.set('x', { a: 1 });
      await writer.set('brief', 1, { ttl: 300 });
      for (const id of ['x', 'brief']) await untilReplica(near, id);
      expect(await near.get('x', { allowStale: true })).to.include({ stale: false });
      proxy.refuse(true);
      proxy.cut();
      await waitFor(async () => (await near.get('x', { allowStale: true, timeout: 100 }))?.stale === true, {
        what: 'a stale answer',
      });
      await writer.set('x', { a: 2 });
      expect(await near.get('x', { allowStale: true, timeout: 100 })).to.deep.include({
        value: { a: 1 },
        version: 1,
        stale: true,
      });
      await refusal('CONNECTION', () => near.get('x', { timeout: 100 }));
      await refusal('CONNECTION', () => near.get('unknown', { timeout: 100, allowStale: true }));
      await waitFor(async () => (await writer.get('brief')) === null, { what: 'the other to expire' });
      await refusal('CONNECTION', () => near.get('brief', { timeout: 100, allowStale: true }));
      proxy.refuse(false);
      await waitFor(async () => (await near.get('x', { allowStale: true }))?.stale === false, { what: 'a fresh answer' });
      expect((await near.get('x'))?.value).to.deep.equal({ a: 2 });
    });

    it('with allowStale the answer does not wait for a connection that is known to be down', async () => {
      const { proxy, near, writer } = await setUp({ timeout: '1h', attemptTimeout: '200ms' });
      await writer.set('x', { a: 1 });
      await untilReplica(near, 'x');
      proxy.refuse(true);
      proxy.cut();
      const downs = record(near, 'connection:down');
      await waitFor(() => downs.some(({ connection }) => connection === 'commands'), { what: 'the connection to be down' });
      expect(await near.get('x', { allowStale: true })).to.deep.include({ value: { a: 1 }, stale: true });
    });
  });
});
