import { expect } from 'chai';
import { sweepFor } from '../../queues/sweep.js';
import type { Maintenance, SweepRound } from '../../src/store/Maintenance.js';
import { RecordingLogger } from '../helpers/stores.js';

const ROUND: SweepRound = { removed: 0, damaged: [], nextAt: null, waitMs: null, more: false };
let namespaces = 0;

/** A namespace whose sweeps give these rounds, one after the other and the last again and again. */
function scripted(rounds: readonly Partial<SweepRound>[], repair: (id: string) => Promise<boolean> = async () => false) {
  const calls = { sweeps: 0, repaired: [] as string[] };
  const maintenance = {
    namespace: `unit-${++namespaces}`,
    sweep: async () => {
      const round = rounds[Math.min(calls.sweeps, rounds.length - 1)];
      calls.sweeps += 1;
      return { ...ROUND, ...round };
    },
    repair: (id: string) => {
      calls.repaired.push(id);
      return repair(id);
    },
  } as unknown as Maintenance;
  return { maintenance, calls, logger: new RecordingLogger(), signal: new AbortController().signal };
}

describe('a sweep job', () => {
  it('goes on without a rest while there is more, and adds up', async () => {
    const work = scripted([{ removed: 7, more: true }, { removed: 5, more: true }, { removed: 1 }]);
    const swept = await sweepFor(work, 30);
    expect(swept).to.deep.include({ removed: 13 + swept.rounds - 3, damaged: 0 });
    expect(work.calls.sweeps).to.equal(swept.rounds);
  });

  it('sweeps at least once, however little time it has', async () => {
    expect(await sweepFor(scripted([{ removed: 2 }]), 0)).to.deep.include({ rounds: 1, removed: 2 });
  });

  it('has what is damaged repaired, but not again and again what cannot be', async () => {
    const work = scripted([{ damaged: ['bad', 'good'] }, { damaged: ['bad'], waitMs: 1 }], async (id) => id === 'good');
    const swept = await sweepFor(work, 60);
    expect(work.calls.repaired).to.deep.equal(['bad', 'good']);
    expect(swept).to.deep.include({ damaged: 2, healed: 1 });
    expect(work.logger.at('error').map(({ fields }) => fields.id)).to.deep.equal(['bad']);
    expect(work.logger.at('warn').map(({ fields }) => fields.id)).to.deep.equal(['good']);
  });

  it('does not fail because a repair does', async () => {
    const work = scripted([{ damaged: ['bad'], removed: 1 }], async () => {
      throw new Error('no connection');
    });
    expect(await sweepFor(work, 0)).to.deep.include({ removed: 1, damaged: 1, healed: 0 });
    expect(work.logger.at('error')[0]?.fields).to.deep.include({ id: 'bad', error: 'no connection' });
  });

  it('does not spin on an expiry that has passed and stays', async () => {
    const work = scripted([{ waitMs: 0, nextAt: 1 }]);
    await sweepFor(work, 250);
    // a look each 100 ms, and a few where its time ends; one that spins looks thousands of times
    expect(work.calls.sweeps).to.be.at.most(10);
  });

  it('ends with the signal, after the round that runs', async () => {
    const stop = new AbortController();
    const work = { ...scripted([{ removed: 1, waitMs: 50 }]), signal: stop.signal };
    const running = sweepFor(work, 60_000);
    stop.abort();
    expect(await running).to.deep.include({ rounds: 1, removed: 1 });
  });
});
