import { expect } from 'chai';
import fc from 'fast-check';
import { ContextError } from '../../src/core/errors.js';
import { escapeToken, formatPointer, parsePointer } from '../../src/core/pointer.js';

describe('JSON pointers', () => {
  // RFC 6901, section 5
  const examples: readonly (readonly [pointer: string, tokens: readonly string[]])[] = [
    ['', []],
    ['/foo', ['foo']],
    ['/foo/0', ['foo', '0']],
    ['/', ['']],
    ['/a~1b', ['a/b']],
    ['/c%d', ['c%d']],
    ['/e^f', ['e^f']],
    ['/g|h', ['g|h']],
    ['/i\\j', ['i\\j']],
    ['/k"l', ['k"l']],
    ['/ ', [' ']],
    ['/m~0n', ['m~n']],
    ['/~01', ['~1']],
    ['//', ['', '']],
    ['/__proto__/constructor', ['__proto__', 'constructor']],
  ];

  for (const [pointer, tokens] of examples) {
    it(`reads and writes ${JSON.stringify(pointer)}`, () => {
      expect(parsePointer(pointer)).to.deep.equal(tokens);
      expect(formatPointer(tokens)).to.equal(pointer);
    });
  }

  it('writes indexes given as numbers', () => {
    expect(formatPointer(['a', 0, 12])).to.equal('/a/0/12');
  });

  it('reads back whatever tokens it wrote', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.string(), fc.constantFrom('~', '/', '~0', '~1', '~01', ''))), (tokens) => {
        expect(parsePointer(formatPointer(tokens))).to.deep.equal(tokens);
      }),
    );
  });

  it('escapes one token', () => {
    expect(escapeToken('~/~1')).to.equal('~0~1~01');
    expect(escapeToken('plain')).to.equal('plain');
  });

  for (const pointer of ['foo', 'a/b', ' /a', '#/a', '/~', '/a~2b', '/a/~', '/~0~']) {
    it(`refuses ${JSON.stringify(pointer)}`, () => {
      expect(() => parsePointer(pointer))
        .to.throw(ContextError, JSON.stringify(pointer))
        .with.property('code', 'INVALID_PATCH');
    });
  }
});
