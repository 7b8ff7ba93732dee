import { expect } from 'chai';
import { Rig } from './Rig.js';

const EVERY_MS = 200;
const KILLS = 20;

describe('CLIENT KILL TYPE pubsub every 200 ms under load', function () {
  this.timeout(90_000);
  let rig: Rig;
  before(async () => {
    rig = await Rig.start();
  });
  after(() => rig.end());

  it('leaves all replicas equal to Redis and no change untold, although no heartbeat helps', async () => {
    const instances = await rig.instances(3, { heartbeat: '1h' });
    await rig.watch(instances);
    await rig.warm(instances);
    await rig.load(instances, { pauseMs: 6 });
    let killed = 0;
    for (let kill = 0; kill < KILLS; kill += 1) {
      await rig.pause(EVERY_MS);
      killed += Number(await rig.redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub'));
    }
    expect(killed).to.be.above(KILLS);
    await rig.stop(instances);
    await rig.finish(instances, { watching: instances });
    for (const instance of instances) expect((await rig.stats(instance)).resyncs).to.be.above(0);
  });
});
