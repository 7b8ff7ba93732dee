import { expect } from 'chai';
import fc from 'fast-check';
import { ContextError } from '../../src/core/errors.js';
import { checkId, checkNamespace, MAX_ID_BYTES } from '../../src/core/names.js';

function refusal(run: () => void): ContextError {
  try {
    run();
  } catch (error) {
    expect(error).to.be.instanceOf(ContextError);
    return error as ContextError;
  }
  throw new Error('it was accepted');
}

const control = fc.integer({ min: 0, max: 0x9f }).filter((code) => code < 0x20 || code >= 0x7f);

describe('the name of a context', () => {
  for (const id of [
    'a',
    ' ',
    'user 42',
    '/',
    '~',
    'a/b',
    '{tag}',
    '*?[x]',
    'Größe 東京 🙂',
    '__proto__',
    'x'.repeat(MAX_ID_BYTES),
  ]) {
    it(`may be ${JSON.stringify(id.slice(0, 20))}${id.length > 20 ? '…' : ''}`, () => checkId(id));
  }

  it('is counted in bytes of UTF-8', () => {
    checkId('é'.repeat(256));
    const error = refusal(() => checkId('é'.repeat(257)));
    expect(error.code).to.equal('INVALID_ID');
    expect(error.details).to.include({ limit: 'limits.idBytes', expected: 512, found: 514 });
    expect(error.message).to.include('514 bytes').and.to.include('at most 512');
  });

  it('keeps to a smaller limit where there is one', () => {
    checkId('12345678', 8);
    expect(refusal(() => checkId('123456789', 8)).details).to.include({ expected: 8, found: 9 });
    expect(refusal(() => checkId('🙂🙂🙂', 8)).details).to.include({ expected: 8, found: 12 });
    checkId('🙂🙂', 8);
  });

  it('is not empty', () => expect(refusal(() => checkId('')).message).to.include('at least one character'));

  it('is a string', () => {
    for (const [given, shown] of [
      [undefined, 'undefined'],
      [null, 'null'],
      [42, 'number'],
      [['a'], 'object'],
      [{ toString: () => 'a' }, 'object'],
    ] as const) {
      const error = refusal(() => checkId(given));
      expect(error.code).to.equal('INVALID_ID');
      expect(error.message).to.include(`not ${shown}`);
    }
  });

  it('holds no control character, wherever it stands', () => {
    fc.assert(
      fc.property(fc.string(), control, fc.string(), (before, code, after) => {
        const error = refusal(() => checkId(`${before}${String.fromCharCode(code)}${after}`));
        return error.code === 'INVALID_ID' && error.message.includes('control character');
      }),
    );
  });

  it('holds no half surrogate pair', () => {
    for (const id of ['\ud800', 'a\udc00b', '\udc00\ud800']) {
      expect(refusal(() => checkId(id)).message).to.include('surrogate');
    }
  });

  it('whatever text is taken, it can be a key: its bytes come back as the same text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', minLength: 1, maxLength: 600 }), (id) => {
        try {
          checkId(id);
        } catch (error) {
          return error instanceof ContextError && error.code === 'INVALID_ID';
        }
        const bytes = Buffer.from(id);
        return bytes.length <= MAX_ID_BYTES && bytes.toString() === id && !bytes.some((byte) => byte < 0x20);
      }),
    );
  });

  it('is shortened in the message where it is long', () => {
    expect(refusal(() => checkId('y'.repeat(5_000))).message).to.have.length.below(300);
  });
});

describe('the name of a namespace', () => {
  for (const name of ['a', '0', 'agents', 'A.b_c-9', 'x'.repeat(64)]) {
    it(`may be ${name.slice(0, 20)}`, () => checkNamespace(name));
  }
  for (const name of [
    '',
    '-a',
    '.a',
    '_a',
    'a b',
    'a:b',
    'a}b',
    '{a',
    'a*',
    'é',
    'x'.repeat(65),
    'a\n',
    5,
    null,
    undefined,
    ['a'],
  ]) {
    it(`is not ${JSON.stringify(name)?.slice(0, 20)}`, () => {
      expect(refusal(() => checkNamespace(name)).code).to.equal('INVALID_OPTION');
    });
  }
});
