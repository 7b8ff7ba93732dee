import { expect } from 'chai';
import { TcpProxy } from '../helpers/TcpProxy.js';
import { Rig } from './Rig.js';

describe('frames with flipped bits under load', function () {
  this.timeout(90_000);
  let rig: Rig;
  let proxy: TcpProxy;
  before(async () => {
    rig = await Rig.start();
    proxy = await TcpProxy.start(rig.server.port);
  });
  after(async () => {
    await proxy.close();
    await rig.end();
  });

  it('are noticed: no reader gets what was never committed, and all replicas equal Redis in the end', async () => {
    const instances = await rig.instances(3, { redis: proxy.url });
    const subscriptions = new Set<number>();
    // a connection says its name before anything else
    proxy.drop({
      direction: 'up',
      when: (chunk, index) => {
        if (chunk.includes(':subscriptions')) subscriptions.add(index);
        return false;
      },
    });
    proxy.cut();
    await rig.watch(instances);
    await rig.warm(instances);
    const heal = proxy.flip((_, index) => subscriptions.has(index) && rig.rng.chance(0.15));
    await rig.load(instances, { pauseMs: 6 });
    await rig.pause(5_000);
    heal();
    await rig.stop(instances);
    expect(proxy.faults.flipped).to.be.above(50);
    const stats = await Promise.all(instances.map((instance) => rig.stats(instance)));
    expect(stats.reduce((sum, { checksumFailures }) => sum + checksumFailures, 0)).to.be.above(0);
    await rig.finish(instances, { watching: instances });
  });
});
