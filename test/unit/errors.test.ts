import { expect } from 'chai';
import { ContextError, ERROR_CODES, type ErrorCode, isContextError } from '../../src/core/errors.js';

const CODES = Object.keys(ERROR_CODES) as ErrorCode[];

describe('the table of errors', () => {
  for (const code of CODES) {
    it(`says of ${code} whether a retry helps, its HTTP status and its exit code`, () => {
      const { retryable, httpStatus, exitCode } = ERROR_CODES[code];
      expect(retryable).to.be.a('boolean');
      expect(httpStatus).to.be.within(400, 599);
      expect(exitCode).to.be.within(1, 6);
      const error = new ContextError(code, 'what happened; what to do');
      expect(error).to.include({ code, retryable, httpStatus, exitCode });
    });
  }

  it('names codes as constants', () => {
    for (const code of CODES) expect(code).to.match(/^[A-Z][A-Z_]+[A-Z]$/);
  });

  it('refuses the caller with 4xx and exit code 2', () => {
    for (const code of CODES.filter((name) => name.startsWith('INVALID_') || name === 'LIMIT_EXCEEDED')) {
      expect(ERROR_CODES[code]).to.include({ retryable: false, exitCode: 2 });
      expect(ERROR_CODES[code].httpStatus).to.be.within(400, 499);
    }
  });

  it('never tells that trying again helps where the outcome is not known', () => {
    expect(ERROR_CODES.OUTCOME_UNKNOWN.retryable).to.equal(false);
  });
});

describe('an error', () => {
  it('is an Error with name, code, details and cause', () => {
    const cause = new Error('socket hang up');
    const error = new ContextError('CONNECTION', 'lost', { id: 'a', cause });
    expect(error).to.be.instanceOf(Error);
    expect(error).to.include({ name: 'ContextError', code: 'CONNECTION', message: 'lost', cause });
    expect(String(error)).to.equal('ContextError: lost');
    expect(error.details.id).to.equal('a');
    expect(error.stack).to.include('errors.test');
  });

  it('has no cause and no details where none were given', () => {
    const error = new ContextError('NOT_FOUND', 'gone');
    expect('cause' in error).to.equal(false);
    expect(error.details).to.deep.equal({});
  });

  it('becomes JSON without its stack, with the message of its cause', () => {
    const error = new ContextError('CONFLICT', 'late', { id: 'a', version: 3, cause: new Error('why') });
    expect(JSON.parse(JSON.stringify(error))).to.deep.equal({
      code: 'CONFLICT',
      message: 'late',
      id: 'a',
      version: 3,
      cause: 'why',
    });
    expect(JSON.parse(JSON.stringify(new ContextError('CONFLICT', 'late', { cause: { secret: 1 } })))).to.deep.equal({
      code: 'CONFLICT',
      message: 'late',
    });
  });

  it('is known as one, also where a second copy of the package made it', async () => {
    const copy = (await import(`${new URL('../../src/core/errors.ts', import.meta.url).href}?copy`)) as {
      ContextError: typeof ContextError;
    };
    const foreign = new copy.ContextError('CONFLICT', 'of a copy');
    expect(foreign).not.to.be.instanceOf(ContextError);
    expect(isContextError(foreign)).to.equal(true);
    expect(isContextError(new ContextError('CONFLICT', 'ours'))).to.equal(true);
  });

  it('is not taken for one where it only looks like one', () => {
    for (const value of [null, undefined, 'CONFLICT', new Error('x'), { name: 'ContextError', code: 'CONFLICT' }]) {
      expect(isContextError(value)).to.equal(false);
    }
  });

  it('does not show its mark to who walks its members', () => {
    const error = new ContextError('CONFLICT', 'late');
    expect(Object.keys(error)).to.deep.equal(['name', 'code', 'details']);
    expect(
      Object.getOwnPropertySymbols(error).filter((mark) => Object.prototype.propertyIsEnumerable.call(error, mark)),
    ).to.have.length(0);
  });
});
