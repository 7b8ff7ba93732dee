/** Long queues for one context, and waiters that hear nothing at their end. */
import { expect } from 'chai';
import { isContextError, type Lock } from '../../src/index.js';
import { refusal, useStores } from '../helpers/stores.js';
import { waitFor } from '../helpers/waitFor.js';

describe('a queue for a lock', () => {
  const stores = useStores();

  it('of hundreds: each gets it, or is told who holds it', async () => {
    const open = await stores.openMany(3);
    const [first] = open as [(typeof open)[0]];
    const held = (await first.tryLock('x')) as Lock;
    const ends: string[] = [];
    const all = Array.from({ length: 300 }, (_, index) =>
      (open[index % 3] ?? first)
        .lock('x', () => 'given', { wait: index % 2 === 0 ? '3s' : '15s' })
        .catch((error: unknown) => (isContextError(error) ? error.code : String(error)))
        .then((end) => ends.push(end)),
    );
    await waitFor(() => ends.length >= 150, { what: 'those to give up that wait for 3 s' });
    await held.release();
    await Promise.all(all);
    expect(ends.filter((end) => end === 'LOCK_TIMEOUT')).to.have.length(150);
    expect(ends.filter((end) => end === 'given')).to.have.length(150);
    expect(await first.locks()).to.deep.equal([]);
  }).timeout(30_000);

  it('a renewal that the end of the wait overtakes does not hide who holds it', async () => {
    const proxy = await stores.proxy();
    const store = await stores.open();
    const other = await stores.open({ redis: proxy.url, timeout: 500, attemptTimeout: 2_000 });
    const lock = (await store.tryLock('x')) as Lock;
    const refused = refusal('LOCK_TIMEOUT', () => other.lock('x', () => {}, { wait: 1_500 }));
    await waitFor(async () => (await store.locks())[0]?.waiters.length === 1, { what: 'a waiter' });
    proxy.pause();
    const error = await refused;
    proxy.resume();
    expect(error.details).to.deep.include({ id: 'x', place: 1, waiters: 1 });
    expect(error.details.holder).to.deep.include({ instance: store.instanceId, token: lock.fencingToken });
    expect(error.details.holder?.ageMs).to.be.at.least(1_500);
  });
});
