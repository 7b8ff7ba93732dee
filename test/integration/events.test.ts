/** Events: each with what it promises, to whoever listens, and never a disturbance of the store. */
import { expect } from 'chai';
import { isContextError, type StoreEventName } from '../../src/index.js';
import { RecordingLogger, record, redisTime, refusal, untilReplica, useStores, Watched } from '../helpers/stores.js';
import { waitFor } from '../helpers/waitFor.js';

describe('events', () => {
  const stores = useStores();

  it('context:committed for every commit of this instance, with its sizes', async () => {
    const [store, other] = await stores.pair();
    const redis = await stores.redis();
    const committed = record(store, 'context:committed');
    const before = await redisTime(redis);
    const pad = 'p'.repeat(100);
    const set = await store.set('x', { n: 0, pad });
    await other.set('y', 1);
    const updated = await store.update<{ n: number }>('x', (draft) => {
      draft.n = 1;
    });
    await store.touch('x', '1h');
    await store.update('x', () => {});
    await store.delete('x');
    await store.delete('x');
    const bytes = `{"n":0,"pad":"${pad}"}`.length;
    expect(committed.map(({ at: _, ...rest }) => rest)).to.deep.equal([
      { id: 'x', version: 1, checksum: set.checksum, bytes, frameBytes: bytes, kind: 'full' },
      {
        id: 'x',
        version: 2,
        checksum: updated.checksum,
        bytes,
        // form, two lengths, length of the instructions, copy, insert, and the byte itself
        frameBytes: [1, 116, 116, 3, 10, 0, 3, 0x31].length,
        kind: 'splice',
      },
      { id: 'x', version: 3, checksum: '', bytes: 0, frameBytes: 0, kind: 'deleted' },
    ]);
    for (const { at } of committed) expect(at).to.be.within(before, await redisTime(redis));
  });

  for (const [delta, kinds] of [
    ['on', ['full', 'splice']],
    ['off', ['full', 'patch']],
    ['shadow', ['full']],
  ] as const) {
    it(`no frame is larger than the document, and none is a delta that is no smaller (delta: ${delta})`, async () => {
      const store = await stores.open({ delta });
      const committed = record(store, 'context:committed');
      await store.set('x', {});
      for (let n = 0; n < 40; n += 1) {
        await store.update<Record<string, number>>('x', (draft) => {
          draft[`k${n % 10}`] = n;
          if (n % 9 === 8) for (const key of Object.keys(draft)) draft[key] = -n;
        });
      }
      expect(committed).to.have.lengthOf(41);
      for (const { kind, bytes, frameBytes } of committed) {
        if (kind === 'full') expect(frameBytes).to.equal(bytes);
        else expect(frameBytes).to.be.lessThan(bytes);
      }
      expect(new Set(committed.map(({ kind }) => kind))).to.deep.equal(new Set(kinds));
    });
  }

  it('context:conflict for every conflict, with what was expected and found', async () => {
    const [store, other] = await stores.pair();
    const conflicts = record(store, 'context:conflict');
    await other.set('x', 1);
    await other.set('x', 2);
    await refusal('CONFLICT', () => store.set('x', 3, { ifVersion: 1 }));
    await refusal('CONFLICT', () => store.set('x', 3, { ifVersion: 0 }));
    await refusal('CONFLICT', () => store.delete('none', { ifVersion: 4 }));
    expect(conflicts).to.deep.equal([
      { id: 'x', expected: 1, found: 2, attempt: 1 },
      { id: 'x', expected: 0, found: 2, attempt: 1 },
      { id: 'none', expected: 4, found: 0, attempt: 1 },
    ]);
  });

  it('context:resync with its reason, and a line in the log', async () => {
    const proxy = await stores.proxy();
    const logger = new RecordingLogger();
    const near = await stores.open({ redis: proxy.url, logger });
    const writer = await stores.open();
    const resyncs = record(near, 'context:resync');
    await writer.set('x', 1);
    const watched = new Watched(near.watch('x', { fromVersion: 1 }));
    await untilReplica(near, 'x');
    const end = proxy.drop({ direction: 'down', when: (chunk) => chunk.includes('lc2 ') });
    await writer.set('x', 2);
    await waitFor(() => proxy.faults.dropped > 0, { what: 'the frame to be lost' });
    // a reply that was sent after the frame
    await near.has('other');
    end();
    await writer.set('x', 3);
    await watched.version(3);
    const told = { id: 'x', reason: 'gap', from: 1, to: 3, full: false };
    await waitFor(() => resyncs.length > 0, { what: 'the event' });
    expect(resyncs).to.deep.equal([told]);
    expect(logger.at('info').map(({ fields }) => fields)).to.deep.include({ ...told, namespace: stores.namespace });
  });

  it('connection:down and connection:up for each connection, with the reason, and lines in the log', async () => {
    const proxy = await stores.proxy();
    const logger = new RecordingLogger();
    const store = await stores.open({ redis: proxy.url, logger });
    const [downs, ups] = [record(store, 'connection:down'), record(store, 'connection:up')];
    proxy.cut();
    await waitFor(() => ups.length === 2 && downs.length === 2, { what: 'both to have gone and come back' });
    for (const events of [downs, ups]) {
      expect(events.map(({ connection }) => connection).sort()).to.deep.equal(['commands', 'subscriptions']);
    }
    for (const { reason } of downs) expect(reason).to.be.a('string').with.length.greaterThan(3);
    expect(logger.at('warn').map(({ fields }) => fields.connection)).to.have.members(['commands', 'subscriptions']);
    expect(logger.at('info').filter(({ fields }) => 'connection' in fields).length).to.be.at.least(2);
    await store.close();
    expect(downs).to.have.lengthOf(2);
  });

  it('a listener can be taken away, and one that throws disturbs nobody', async () => {
    const logger = new RecordingLogger();
    const store = await stores.open({ logger });
    const seen: string[] = [];
    const off = store.on('context:committed', ({ version }) => {
      seen.push(`first ${version}`);
    });
    store.on('context:committed', () => {
      throw new Error('the listener’s own');
    });
    store.on('context:committed', ({ version }) => {
      seen.push(`last ${version}`);
      off();
    });
    await store.set('x', 1);
    await store.set('x', 2);
    off();
    expect(seen).to.deep.equal(['first 1', 'last 1', 'last 2']);
    expect(logger.at('error').map(({ fields }) => fields)).to.deep.equal([
      { event: 'context:committed', error: 'the listener’s own' },
      { event: 'context:committed', error: 'the listener’s own' },
    ]);
  });

  it('nothing is told of what did not happen', async () => {
    const store = await stores.open();
    const told: unknown[] = [];
    const names: StoreEventName[] = [
      'context:committed',
      'context:conflict',
      'context:expired',
      'context:corrupt',
      'context:resync',
      'connection:up',
      'connection:down',
    ];
    for (const name of names) store.on(name, (event) => told.push({ name, event }));
    await store.get('x');
    await store.has('x');
    await store.list();
    for (const call of [() => store.set('x', undefined), () => store.update('x', () => 1), () => store.patch('x', [])]) {
      await Promise.resolve()
        .then(call)
        .catch((error: unknown) => expect(isContextError(error)).to.equal(true));
    }
    await store.close();
    expect(told).to.deep.equal([]);
  });
});
