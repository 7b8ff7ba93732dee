import { expect } from 'chai';
import fc from 'fast-check';
import { ContextError } from '../../src/core/errors.js';
import { certainUntil } from '../../src/locks/LockHandle.js';

describe('the deadline of a lock', () => {
  it('lies before the time to live is over on a clock that runs 1 % fast, and not absurdly long before', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 1e9, noNaN: true }), fc.integer({ min: 100, max: 86_400_000 }), (sentAt, ttlMs) => {
        const left = certainUntil(sentAt, ttlMs) - sentAt;
        // what the fast clock takes for the whole time to live
        expect(left).to.be.below(ttlMs / 1.01);
        // an extension every third of it must fit, twice
        expect(left).to.be.above((2 / 3) * ttlMs);
      }),
    );
  });

  it('leaves timers some time to be late', () => {
    expect(certainUntil(0, 100)).to.equal(100 - 3 - 5);
    expect(certainUntil(0, 1_000)).to.equal(1_000 - 12 - 50);
    expect(certainUntil(0, 60_000)).to.equal(60_000 - 602 - 500);
  });
});

describe('errors of locks', () => {
  it('say who holds it and which nodes did not vote, in JSON as well', () => {
    const holder = { instance: 'host-1', mode: 'write', token: 7, ageMs: 3 } as const;
    const error = new ContextError('LOCK_TIMEOUT', 'held', { id: 'x', holder, place: 2, waiters: 3, nodes: { 'a:1': 'down' } });
    expect(error.toJSON()).to.deep.equal({
      code: 'LOCK_TIMEOUT',
      message: 'held',
      id: 'x',
      holder,
      place: 2,
      waiters: 3,
      nodes: { 'a:1': 'down' },
    });
    expect([error.retryable, error.httpStatus, error.exitCode]).to.deep.equal([true, 423, 3]);
    expect([new ContextError('LOCK_QUORUM', '').httpStatus, new ContextError('LOCK_QUORUM', '').exitCode]).to.deep.equal([
      503, 5,
    ]);
    expect(new ContextError('LOCK_LOST', '').retryable).to.equal(false);
  });
});
