/**
 * Bits flipped anywhere in the TCP streams between several stores and Redis, both ways, under load. `LUKHAS_FLIP_SECONDS` says how long
 * (10), `LUKHAS_FLIP_DIRECTION` which way (`up`, `down`, `both`).
 */
import { expect } from 'chai';
import { ContextStore } from '../../src/index.js';
import type { Direction } from '../helpers/TcpProxy.js';
import { TcpProxy } from '../helpers/TcpProxy.js';

import { Rig } from './Rig.js';

const SECONDS = Number(process.env.LUKHAS_FLIP_SECONDS ?? 10);
const DIRECTION = (process.env.LUKHAS_FLIP_DIRECTION ?? 'both') as Direction | 'both';

describe('streams with flipped bits under load', function () {
  this.timeout(SECONDS * 1_000 + 90_000);
  let rig: Rig;
  let proxies: TcpProxy[] = [];
  before(async () => {
    rig = await Rig.start({ store: { attemptTimeout: '250ms' } });
    // a way of its own for each: what one store suffers, the others do not
    proxies = await Promise.all([0, 1, 2].map(() => TcpProxy.start(rig.server.port, { seed: rig.rng.int(1, 2 ** 30) })));
  });
  after(async () => {
    await Promise.all(proxies.map((proxy) => proxy.close()));
    await rig.end();
  });

  it('no damaged document is stored or returned, no process ends, and all go on afterwards', async () => {
    const instances = (await Promise.all(proxies.map((proxy) => rig.instances(1, { redis: proxy.url })))).flat();
    await rig.watch(instances);
    await rig.warm(instances);
    // about one bit in 40 chunks: often enough to hit every kind of place, seldom enough for work to be done in between
    const heal = proxies.map((proxy) => proxy.flip(0.025, DIRECTION));
    await rig.load(instances, { pauseMs: 6, damage: true });
    await rig.pause(SECONDS * 1_000);
    for (const end of heal) end();
    const tallies = await rig.stop(instances);
    const flipped = proxies.reduce((sum, proxy) => sum + proxy.faults.flipped, 0);
    const acknowledged = tallies.reduce((sum, tally) => sum + tally.acknowledged, 0);
    const accepted = proxies.reduce((sum, proxy) => sum + proxy.accepted, 0);
    console.log(`      ${flipped} bits flipped, ${acknowledged} writes acknowledged, ${accepted} connections`);
    expect(flipped).to.be.above(SECONDS * 10);
    expect(acknowledged).to.be.above(SECONDS * 20);
    // nothing stored is damaged, by the store's own judgement over a way without damage, and by other means
    const judge = await ContextStore.connect({ ...rig.store, redis: rig.server.url });
    try {
      for (const id of rig.ids) {
        // one that was deleted last is not there, and its log says so
        const [last] = await judge.history(id, { limit: 1 });
        const report = await judge.verify(id);
        const sound = report === null ? last?.kind === 'deleted' || last?.kind === 'expired' : report.ok;
        expect(sound, `${id}: ${JSON.stringify(report ?? last)}`).to.equal(true);
      }
      // what was sound was not taken for damaged
      expect(await judge.quarantined()).to.deep.equal([]);
    } finally {
      await judge.close();
    }
    await rig.finish(instances, { watching: instances });
  });
});
