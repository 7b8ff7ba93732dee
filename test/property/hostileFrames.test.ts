import { expect } from 'chai';
import { type HostileOutcome, readHostileFrame, target } from '../helpers/hostileFrames.js';
import { seededRng } from '../helpers/random.js';

/** Documents, and frames that each is sent one after the other. */
const DOCUMENTS = 60;
const FRAMES = 8;

describe('Replica, for frames that a hostile writer makes', function () {
  this.timeout(120_000);

  it('applies them, or says that they are corrupt, and goes on', () => {
    const outcomes = new Map<HostileOutcome, number>();
    for (let seed = 1; seed <= DOCUMENTS; seed += 1) {
      const rng = seededRng(seed);
      const hostile = target(rng);
      for (let frame = 1; frame <= FRAMES; frame += 1) {
        try {
          const outcome = readHostileFrame(rng, hostile);
          outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
        } catch (error) {
          throw new Error(`frame ${frame} of seed ${seed}: ${String(error)}`, { cause: error });
        }
        // what does not grow in a frame does not grow in ten
        expect(hostile.replica.state.bytes).to.be.at.most(16 * 1024 * 1024);
      }
    }
    // it was about all of that
    for (const outcome of ['applied', 'corrupt'] as const) expect(outcomes.get(outcome) ?? 0, outcome).to.be.above(60);
    expect(outcomes.get('refused') ?? 0, 'refused').to.be.above(0);
  });
});
