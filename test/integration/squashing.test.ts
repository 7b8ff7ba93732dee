/** Several missed versions: how many steps a replica takes for them, and what that costs on the wire. (What `frameSince` saves is tested there.) */
import { expect } from 'chai';
import type { ContextStore } from '../../src/index.js';
import { record, untilReplica, useStores, watchFromNow } from '../helpers/stores.js';
import { waitFor } from '../helpers/waitFor.js';
import { bytesOf, expectEverywhere, Follower, loseFrames, prose, replicaAt, type Talk, talk } from './deltaSupport.js';

describe('squashing', () => {
  const stores = useStores();

  /** A replica behind a proxy, which misses what `change` commits; the frame after it shows that. */
  async function setUp(bytes: number) {
    const proxy = await stores.proxy();
    const [writer, near] = [await stores.open(), await stores.open({ redis: proxy.url })];
    const redis = await stores.redis();
    const value = talk(bytes);
    await writer.set('x', value);
    await untilReplica(writer, 'x');
    await untilReplica(near, 'x');
    const follower = await Follower.start(stores, writer, 'x');
    const edit = async (change: (talk: Talk) => void, by: ContextStore = writer): Promise<void> => {
      change(value);
      await by.update<Talk>('x', change);
    };
    const number = (n: number, by?: ContextStore): Promise<void> =>
      edit((talk) => {
        talk.n = n;
      }, by);
    const resyncs = record(near, 'context:resync');
    /** Gives the bytes that came down for the catch-up. */
    const miss = async (change: () => Promise<unknown>): Promise<number> => {
      const end = loseFrames(proxy);
      const { dropped } = proxy.faults;
      await change();
      const { version } = (await writer.get('x', { fresh: true })) ?? { version: 0 };
      await follower.version(version);
      await waitFor(() => proxy.faults.dropped > dropped, { what: 'frames to be lost' });
      // the last of them as well
      expect((await near.get('x'))?.version).to.equal(1);
      end();
      proxy.resetCounters();
      await number(version + 1);
      await waitFor(() => resyncs.length > 0, { what: 'the catch-up', everyMs: 1 });
      const down = proxy.bytesDown;
      expect((await replicaAt(near, 'x', version + 1)).equals(bytesOf(value)), 'exact to the byte').to.equal(true);
      await expectEverywhere(value, version + 1, { redis, id: 'x', stores: [near, writer], follower });
      return down;
    };
    const squash = async () => (await near.stats()).delta.squash;
    return { near, value, follower, edit, number, miss, squash, resyncs };
  }

  for (const bytes of [6_000, 100_000]) {
    it(`30 missed splices are one step, at ${bytes} bytes`, async () => {
      const { near, follower, edit, miss, squash, resyncs } = await setUp(bytes);
      await miss(async () => {
        for (let n = 2; n <= 31; n += 1) {
          await edit((talk) => {
            talk.n = n;
            (talk.turns[n % talk.turns.length] as { text: string }).text += ` ${n}`;
          });
        }
      });
      expect(follower.kinds).to.deep.equal(Array(31).fill('splice'));
      expect(await squash()).to.include({ caughtUp: 31, steps: 1 });
      expect(resyncs).to.deep.equal([{ id: 'x', reason: 'gap', from: 1, to: 32, full: false }]);
      expect((await near.stats()).checksumFailures).to.equal(0);
    });
  }

  it('a patch between is a step of its own, and so is each run of splices beside it', async () => {
    const { follower, number, miss, squash, resyncs } = await setUp(6_000);
    const off = await stores.open({ delta: 'off' });
    await miss(async () => {
      for (const n of [2, 3, 4]) await number(n);
      await number(5, off);
      for (const n of [6, 7]) await number(n);
    });
    const kinds = ['splice', 'splice', 'splice', 'patch', 'splice', 'splice', 'splice'];
    expect(follower.kinds).to.deep.equal(kinds);
    expect(await squash()).to.include({ caughtUp: kinds.length, steps: 3 });
    expect(resyncs.map(({ full }) => full)).to.deep.equal([false]);
  });

  it('a whole document between is a step of its own', async () => {
    const { value, follower, edit, number, miss, squash, resyncs } = await setUp(6_000);
    const stranger = await stores.open();
    await miss(async () => {
      for (const n of [2, 3]) await number(n);
      // who knows nothing of it writes it whole
      value.n = 4;
      value.turns = [{ text: prose(900, 1_000) }];
      await stranger.set('x', value);
      await number(5);
      // long again, so that what leads there is less than the document
      await edit((talk) => {
        talk.turns.push({ text: 'la '.repeat(2_000) });
      });
    });
    expect(follower.kinds.map((kind) => kind.split(' ')[0])).to.deep.equal([
      'splice',
      'splice',
      'full',
      'splice',
      'splice',
      'splice',
    ]);
    expect(await squash()).to.include({ caughtUp: 6, steps: 3 });
    expect(resyncs.map(({ full }) => full)).to.deep.equal([false]);
  });

  it('costs one document on the wire where the versions together are longer', async () => {
    const { value, follower, edit, miss, squash } = await setUp(12_000);
    const down = await miss(async () => {
      for (let n = 2; n <= 31; n += 1) {
        await edit((talk) => {
          talk.turns[3] = { text: prose(n, 4_000) };
        });
      }
    });
    const document = bytesOf(value).length;
    expect(follower.bytes).to.be.greaterThan(4 * document);
    expect(down).to.be.lessThan(2 * document);
    expect(down).to.be.lessThan(follower.bytes / 3);
    expect(await squash()).to.include({ caughtUp: 0, steps: 0 });
  });

  it('is not for who watches: each version is told, and none twice', async () => {
    const { near, number, miss, squash } = await setUp(6_000);
    const watched = await watchFromNow(near, 'x');
    await miss(async () => {
      for (let n = 2; n <= 11; n += 1) await number(n);
    });
    await watched.version(12);
    expect(watched.kinds).to.deep.equal(Array.from({ length: 11 }, (_, index) => `patch ${index + 2}`));
    expect(await squash()).to.include({ caughtUp: 11, steps: 11 });
  });
});
