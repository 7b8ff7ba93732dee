import { expect } from 'chai';
import { waitFor } from '../helpers/waitFor.js';
import { type Instance, Rig } from './Rig.js';

describe('restarts of Redis in the middle of a load', function () {
  this.timeout(90_000);
  let rig: Rig;
  beforeEach(async () => {
    rig = await Rig.start();
  });
  afterEach(() => rig.end());

  async function survive(end: () => Promise<void>): Promise<void> {
    const instances = await rig.instances(3);
    await rig.watch(instances);
    await rig.warm(instances);
    await rig.load(instances);
    for (let round = 0; round < 2; round += 1) {
      await more(instances);
      await rig.pause(rig.rng.int(0, 300));
      await end();
      await rig.pause(rig.rng.int(0, 200));
      await rig.server.restart();
    }
    await more(instances);
    const tallies = await rig.stop(instances);
    // each write has ten seconds, and Redis was never gone for that long
    for (const { unknown, refused } of tallies) {
      expect(unknown).to.equal(0);
      expect(refused).to.not.have.any.keys('TIMEOUT', 'CONNECTION');
    }
    await rig.finish(instances, { watching: instances, exact: false });
  }

  /** Every instance has its writes acknowledged again. */
  async function more(instances: readonly Instance[]): Promise<void> {
    const before = await Promise.all(instances.map((one) => rig.stats(one)));
    await waitFor(
      async () => {
        const now = await Promise.all(instances.map((one) => rig.stats(one)));
        return now.every(({ commits }, index) => commits > (before[index]?.commits ?? 0) + 20);
      },
      { what: 'writes of every instance', limitMs: 15_000, everyMs: 50 },
    );
  }

  it('by SIGKILL: what was acknowledged is there, stores recover, and watchers miss nothing', () =>
    survive(() => rig.server.kill()));

  it('in order: what was acknowledged is there, stores recover, and watchers miss nothing', () =>
    survive(() => rig.server.stop({ keepData: true })));
});
