import { expect } from 'chai';
import fc from 'fast-check';
import { fuzzLuaPlans } from '../../scripts/fuzz/luaPlan.js';
import { sharedServer } from '../helpers/RedisServer.js';

/** A short run of what the fuzz does for minutes; a failure says the seed and the plan. */
describe('lua/commit.lua with damaged plans', function () {
  this.timeout(120_000);

  it('answers with a status it declares, and stores what it had or what was announced', async () => {
    const { url } = await sharedServer();
    const answers = new Set<string>();
    await fc.assert(
      fc.asyncProperty(fc.nat(), async (seed) => {
        let left = 150;
        const outcome = await fuzzLuaPlans({ url, seed, until: () => left-- === 0 });
        expect(outcome.runs).to.equal(150);
        for (const answer of Object.keys(outcome.answers)) answers.add(answer);
      }),
      { numRuns: 20, endOnFailure: true },
    );
    // none of the three ways was left out
    expect([...answers].sort()).to.deep.equal(['BASE_MISMATCH', 'CHECKSUM', 'COMMITTED']);
  });
});
