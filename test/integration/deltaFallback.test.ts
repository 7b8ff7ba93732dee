/** Where a writer's base is not what Redis has: it is noticed before anything is written, the least that helps is sent, and nothing is lost. */
import { expect } from 'chai';
import type { Redis } from 'ioredis';
import type { ContextStore } from '../../src/index.js';
import { seededRng } from '../helpers/random.js';
import { record, untilReplica, useStores } from '../helpers/stores.js';
import { waitFor } from '../helpers/waitFor.js';
import {
  bytesOf,
  expectEverywhere,
  Follower,
  loseFrames,
  prose,
  replicaAt,
  storedForm,
  type Talk,
  talk,
} from './deltaSupport.js';

describe('a splice that does not fit what Redis has', () => {
  const stores = useStores();

  /** A large document that `writer` and `reader` have in memory, and a subscriber of another make. */
  async function setUp(bytes = 100_000) {
    const [writer, reader] = await stores.pair();
    const redis = await stores.redis();
    const value = talk(bytes);
    await writer.set('x', value);
    await untilReplica(writer, 'x');
    await untilReplica(reader, 'x');
    const follower = await Follower.start(stores, writer, 'x');
    return { writer, reader, redis, value, follower, context: writer.keysOf('x').context };
  }

  const mismatches = async (store: ContextStore): Promise<number> => (await store.stats()).delta.baseMismatches;

  /** The name of the chunk at a place in the document's order. */
  async function chunkAt(redis: Redis, store: ContextStore, place: number): Promise<string> {
    const { chunks } = (await storedForm(redis, store, 'x')) ?? { chunks: [] };
    return chunks.at(place) ?? '';
  }

  describe('because it is damaged', () => {
    type Damage = (redis: Redis, context: string, chunk: string) => Promise<unknown>;
    const damages: readonly (readonly [name: string, told: (chunk: string) => string, damage: Damage])[] = [
      [
        'one byte of the chunk that is changed',
        (chunk) => chunk,
        async (redis, context, chunk) => {
          const bytes = (await redis.hgetBuffer(context, chunk)) ?? Buffer.alloc(1);
          bytes.writeUInt8(bytes.readUInt8(4_000) ^ 1, 4_000);
          await redis.hset(context, chunk, bytes);
        },
      ],
      ['the chunk that is changed is gone', (chunk) => chunk, (redis, context, chunk) => redis.hdel(context, chunk)],
      ['the chunk that is changed is empty', (chunk) => chunk, (redis, context, chunk) => redis.hset(context, chunk, '')],
      [
        'a line of the list of chunks',
        () => 'chunks',
        async (redis, context) => {
          const list = (await redis.hget(context, 'chunks')) ?? '';
          await redis.hset(context, 'chunks', list.replace(/ [0-9a-f]/, ' x'));
        },
      ],
      ['the length', () => 'bytes', (redis, context) => redis.hset(context, 'len', 5)],
    ];
    for (const [name, told, damage] of damages) {
      it(`${name}: the writer tells it, and heals it with the whole document`, async () => {
        const { writer, reader, redis, value, follower, context } = await setUp();
        const corrupt = record(writer, 'context:corrupt');
        const chunk = await chunkAt(redis, writer, 0);
        await damage(redis, context, chunk);
        expect((await writer.verify('x'))?.ok).to.equal(false);
        await writer.patch('x', [{ op: 'replace', path: '/n', value: 2 }]);
        await expectEverywhere({ ...value, n: 2 }, 2, { redis, id: 'x', stores: [writer, reader], follower });
        expect(corrupt).to.have.lengthOf(1);
        expect(corrupt[0]).to.deep.include({ id: 'x', version: 1, where: 'commit' });
        expect(`${corrupt[0]?.expected} ${corrupt[0]?.found}`).to.contain(told(chunk));
        const { delta, checksumFailures } = await writer.stats();
        // a field shows by its seal, before anything is tried
        const field = told(chunk) === 'bytes';
        expect([delta.baseMismatches, checksumFailures]).to.deep.equal(field ? [0, 0] : [1, 1]);
        // nobody who follows had to read it, and the next one is a splice again
        await writer.patch('x', [{ op: 'replace', path: '/n', value: 3 }]);
        await expectEverywhere({ ...value, n: 3 }, 3, { redis, id: 'x', stores: [reader], follower });
        expect((await replicaAt(reader, 'x', 3)).equals(bytesOf({ ...value, n: 3 }))).to.equal(true);
        // a field is repaired before, which followers are told of as well
        expect(follower.kinds).to.deep.equal(told(chunk) === 'bytes' ? ['touch', 'splice', 'splice'] : ['splice', 'splice']);
        expect([await mismatches(writer), (await reader.stats()).resyncs]).to.deep.equal([told(chunk) === 'bytes' ? 0 : 1, 0]);
      });
    }

    it('a small document as well', async () => {
      const { writer, reader, redis, value, follower, context } = await setUp(4_000);
      const corrupt = record(writer, 'context:corrupt');
      const data = (await redis.hgetBuffer(context, 'data')) ?? Buffer.alloc(1);
      data.writeUInt8(data.readUInt8(2_000) ^ 1, 2_000);
      await redis.hset(context, 'data', data);
      await writer.patch('x', [{ op: 'replace', path: '/n', value: 2 }]);
      await expectEverywhere({ ...value, n: 2 }, 2, { redis, id: 'x', stores: [writer, reader], follower });
      expect(corrupt.map(({ where, found }) => [where, found.includes('data')])).to.deep.equal([['commit', true]]);
      expect(await mismatches(writer)).to.equal(1);
    });

    for (const [who, name] of [
      ['fresh', 'who reads it first'],
      ['writer', 'who has it in memory, and asks Redis'],
    ] as const) {
      it(`in a chunk that the change does not touch: ${name} is told, and gets what it should be`, async () => {
        const { writer, redis, value, follower, context } = await setUp();
        const chunk = await chunkAt(redis, writer, -2);
        await redis.hset(context, chunk, prose(1, (await redis.hstrlen(context, chunk)) || 1));
        await writer.patch('x', [{ op: 'replace', path: '/n', value: 2 }]);
        await follower.version(2);
        const store = who === 'fresh' ? await stores.open() : writer;
        const [corrupt, repaired] = [record(store, 'context:corrupt'), record(store, 'context:repaired')];
        expect((await store.get('x', { fresh: true }))?.value).to.deep.equal({ ...value, n: 2 });
        expect(corrupt.map(({ where }) => where)).to.deep.equal(['read']);
        expect(repaired.map(({ id, version }) => [id, version])).to.deep.equal([['x', 2]]);
        expect(repaired[0]?.offset).to.be.within(1, bytesOf(value).length);
        await expectEverywhere({ ...value, n: 2 }, 2, { redis, id: 'x', stores: [store, writer], follower });
        // it may be in other chunks now: what comes next is a splice all the same
        await writer.patch('x', [{ op: 'replace', path: '/n', value: 3 }]);
        await expectEverywhere({ ...value, n: 3 }, 3, { redis, id: 'x', stores: [store, writer], follower });
      });
    }
  });

  describe('because it is cut into other chunks', () => {
    it('only the layout is asked for, and the splice is sent again', async () => {
      const proxy = await stores.proxy();
      const [writer, off] = [await stores.open({ redis: proxy.url }), await stores.open({ delta: 'off' })];
      const redis = await stores.redis();
      const value = talk(100_000);
      await writer.set('x', value);
      await untilReplica(writer, 'x');
      // its chunks become uneven
      value.turns.splice(40, 0, ...talk(3_000).turns);
      await writer.update<Talk>('x', (draft) => {
        draft.turns = value.turns;
      });
      const uneven = await storedForm(redis, writer, 'x');
      const follower = await Follower.start(stores, writer, 'x');
      // the same document but for one number, cut evenly
      value.n = 3;
      await off.patch('x', [{ op: 'replace', path: '/n', value: 3 }]);
      await replicaAt(writer, 'x', 3);
      const even = await storedForm(redis, writer, 'x');
      expect(even?.lengths).to.not.deep.equal(uneven?.lengths);
      expect(follower.kinds).to.deep.equal(['patch']);

      proxy.resetCounters();
      value.n = 4;
      await writer.update<Talk>('x', (draft) => {
        draft.n = 4;
      });
      expect(await mismatches(writer)).to.equal(1);
      expect(proxy.bytesUp).to.be.lessThan(3_000);
      const layout = even?.chunks.length ?? 0;
      expect(proxy.bytesDown).to.be.lessThan(3_000 + 60 * layout);
      const stored = await expectEverywhere(value, 4, { redis, id: 'x', stores: [off, writer], follower });
      expect(stored.chunks).to.have.lengthOf(layout);
      expect(follower.kinds).to.deep.equal(['patch', 'splice']);
      // from then on it knows how it is cut
      proxy.resetCounters();
      value.n = 5;
      await writer.update<Talk>('x', (draft) => {
        draft.n = 5;
      });
      expect(await mismatches(writer)).to.equal(1);
      expect(proxy.bytesUp).to.be.lessThan(1_500);
      await expectEverywhere(value, 5, { redis, id: 'x', stores: [writer], follower });
      expect((await writer.stats()).resyncs).to.equal(0);
    });
  });

  describe('because another instance has written meanwhile, and its frame was lost', () => {
    for (const bytes of [2_000, 100_000]) {
      it(`set without ifVersion replaces what is there by its value, at ${bytes} bytes`, async () => {
        const proxy = await stores.proxy();
        const [near, writer] = [await stores.open({ redis: proxy.url }), await stores.open()];
        const redis = await stores.redis();
        const value = talk(bytes);
        await writer.set('x', value);
        await untilReplica(near, 'x');
        const follower = await Follower.start(stores, writer, 'x');
        const end = loseFrames(proxy);
        await writer.update<Talk>('x', (draft) => {
          draft.n = 2;
          (draft as Talk & { theirs: string }).theirs = prose(7, 700);
        });
        await waitFor(() => proxy.faults.dropped > 0, { what: 'the frame to be lost' });
        expect((await near.get('x'))?.version).to.equal(1);
        end();
        const mine = { ...value, n: 33, turns: value.turns.with(1, { text: 'mine' }) };
        proxy.resetCounters();
        expect((await near.set('x', mine)).version).to.equal(3);
        expect(await mismatches(near)).to.equal(1);
        await expectEverywhere(mine, 3, { redis, id: 'x', stores: [writer, near], follower });
        expect((await near.history('x')).map(({ version }) => version)).to.deep.equal([3, 2, 1]);
        expect((await replicaAt(near, 'x', 3)).equals(bytesOf(mine))).to.equal(true);
        // version 2 was never this instance's base: what it lacked came as a splice
        if (bytes > 32_768) expect(proxy.bytesUp).to.be.lessThan(bytes / 2);
      });
    }

    it('an update keeps both changes', async () => {
      const proxy = await stores.proxy();
      const [near, writer] = [await stores.open({ redis: proxy.url }), await stores.open()];
      const redis = await stores.redis();
      const value = talk(100_000);
      await writer.set('x', value);
      await untilReplica(near, 'x');
      const follower = await Follower.start(stores, writer, 'x');
      const end = loseFrames(proxy);
      await writer.patch('x', [{ op: 'replace', path: '/turns/50/text', value: 'theirs' }]);
      await waitFor(() => proxy.faults.dropped > 0, { what: 'the frame to be lost' });
      end();
      await near.update<Talk>('x', (draft) => {
        draft.n += 1;
      });
      const both = { n: 1, turns: value.turns.with(50, { text: 'theirs' }) };
      await expectEverywhere(both, 3, { redis, id: 'x', stores: [writer, near], follower });
    });

    it('and what that left cannot be read, nor the log replayed: set writes its value all the same', async () => {
      const proxy = await stores.proxy();
      const [near, writer] = [await stores.open({ redis: proxy.url }), await stores.open()];
      const redis = await stores.redis();
      const value = talk(100_000);
      await writer.set('x', value);
      await untilReplica(near, 'x');
      const end = loseFrames(proxy);
      await writer.patch('x', [{ op: 'replace', path: '/n', value: 2 }]);
      await waitFor(() => proxy.faults.dropped > 0, { what: 'the frame to be lost' });
      end();
      const chunk = await chunkAt(redis, writer, -1);
      await redis.hdel(writer.keysOf('x').context, chunk);
      await redis.xdel(writer.keysOf('x').log, '2-0');
      await redis.xadd(writer.keysOf('x').log, '2-1', 'kind', 'expired');
      await redis.xdel(writer.keysOf('x').log, '2-1');
      expect((await near.set('x', { ...value, n: 3 })).version).to.equal(3);
      expect((await (await stores.open()).get('x'))?.value).to.deep.equal({ ...value, n: 3 });
    });
  });

  for (const bytes of [3_000, 60_000]) {
    it(`does not happen between stores that write in turn, 100 commits at ${bytes} bytes`, async () => {
      const both = await stores.pair();
      const redis = await stores.redis();
      const rng = seededRng(bytes);
      const value = talk(bytes);
      const [first] = both;
      await first.set('x', value);
      for (const store of both) await untilReplica(store, 'x');
      const follower = await Follower.start(stores, first, 'x');
      for (let version = 2; version <= 101; version += 1) {
        const [writer, other] = version % 2 === 0 ? both : [both[1], both[0]];
        const place = rng.int(0, Math.max(0, value.turns.length - 1));
        const kind = rng.pick(['grow', 'shrink', 'change', 'move', 'insert', 'cut'] as const);
        const edit = (talk: Talk): void => {
          talk.n = version;
          const turn = talk.turns[place];
          if (turn === undefined || kind === 'insert') talk.turns.splice(place, 0, { text: prose(version, 2_000) });
          else if (kind === 'grow') turn.text += prose(version, 900);
          else if (kind === 'shrink') turn.text = turn.text.slice(0, 10);
          else if (kind === 'change') turn.text = `${version}${turn.text}`;
          else if (kind === 'cut') talk.turns.splice(place, 3);
          else talk.turns.push(...talk.turns.splice(place, 2));
        };
        edit(value);
        await writer.update<Talk>('x', edit);
        await replicaAt(other, 'x', version);
      }
      const stored = await expectEverywhere(value, 101, { redis, id: 'x', stores: both, follower });
      for (const store of both) {
        expect((await replicaAt(store, 'x', 101)).equals(stored.bytes)).to.equal(true);
        const { delta, resyncs, checksumFailures, conflicts } = await store.stats();
        expect({ mismatches: delta.baseMismatches, resyncs, checksumFailures, conflicts }).to.deep.equal({
          mismatches: 0,
          resyncs: 0,
          checksumFailures: 0,
          conflicts: 0,
        });
        expect(delta.spliced).to.be.greaterThan(30);
      }
    });
  }
});
