import { expect } from 'chai';
import { waitFor } from '../helpers/waitFor.js';
import { Rig } from './Rig.js';

/** Writers that are killed, in rounds. */
const ROUNDS = 2;
const VICTIMS = 4;

describe('SIGKILL of writers in the middle of their load', function () {
  this.timeout(90_000);
  let rig: Rig;
  before(async () => {
    rig = await Rig.start();
  });
  after(() => rig.end());

  it('loses no acknowledged write, leaves no commit half done, and the survivors hold what Redis has', async () => {
    const survivors = await rig.instances(2);
    await rig.watch(survivors);
    await rig.load(survivors.slice(0, 1), { loops: 2 });
    for (let round = 0; round < ROUNDS; round += 1) {
      const victims = await rig.instances(VICTIMS);
      await rig.load(victims, { pauseMs: 2 });
      for (const { process } of victims) {
        const before = rig.acks.length;
        await waitFor(() => rig.acks.length > before, { what: 'the load to run' });
        await rig.pause(rig.rng.int(0, 120));
        expect(await process.kill()).to.include({ signal: 'SIGKILL' });
      }
    }
    const [tally] = await rig.stop(survivors.slice(0, 1));
    expect(tally?.unknown).to.equal(0);
    expect(rig.acks.length).to.be.above(100);
    await rig.finish(survivors, { watching: survivors });
  });
});
