import { expect } from 'chai';
import { type Instance, Rig } from './Rig.js';

describe('a Redis that stands still for longer than an attempt', function () {
  this.timeout(90_000);
  let rig: Rig;
  let instances: Instance[];
  before(async () => {
    rig = await Rig.start({ contexts: 4 });
    instances = await rig.instances(3);
    await rig.watch(instances);
  });
  after(() => rig.end());

  const counter = async (): Promise<number> => {
    const datas = await Promise.all(rig.ids.map((id) => rig.redis.hget(`{lc:${rig.namespace}:0}:c:${id}`, 'data')));
    return datas.reduce((sum, data) => sum + (data === null ? 0 : (JSON.parse(data) as { n: number }).n), 0);
  };

  async function count(timeoutMs: number, stops: readonly number[]): Promise<{ acknowledged: number; unknown: number }> {
    await rig.load(instances, { kind: 'counting', loops: 6, pauseMs: 4, timeoutMs });
    for (const stop of stops) {
      await rig.pause(rig.rng.int(200, 400));
      await rig.server.pause();
      await rig.pause(stop);
      rig.server.resume();
    }
    await rig.pause(500);
    const tallies = await rig.stop(instances);
    return {
      acknowledged: tallies.reduce((sum, tally) => sum + tally.acknowledged, 0),
      unknown: tallies.reduce((sum, tally) => sum + tally.unknown, 0),
    };
  }

  it('applies nothing twice, though what the old connections brought and what was tried again both reach it', async () => {
    const { acknowledged, unknown } = await count(20_000, [700, 550, 1_000, 600, 500]);
    expect(unknown).to.equal(0);
    expect(acknowledged).to.be.above(50);
    expect(await counter()).to.equal(acknowledged);
  });

  it('says of writes that ran out of time that they may have been applied, and no more than those were', async () => {
    const before = await counter();
    const { acknowledged, unknown } = await count(500, [1_200, 1_200]);
    const added = (await counter()) - before;
    expect(unknown).to.be.above(0);
    expect(added).to.be.within(acknowledged, acknowledged + unknown);
    await rig.finish(instances, { watching: instances });
  });
});
