import { expect } from 'chai';
import fc from 'fast-check';
import { normalize } from '../../src/core/json.js';
import { JsonHashes } from '../../src/core/jsonHash.js';
import { JsonSizes, textBytes } from '../../src/core/jsonSize.js';

const bytes = (value: unknown): number => Buffer.byteLength(JSON.stringify(value));

describe('sizes', () => {
  it('of text count every escape and every byte of UTF-8', () => {
    for (let code = 0; code < 0x300; code++) {
      const text = String.fromCharCode(code);
      expect(textBytes(text), `character ${code}`).to.equal(bytes(text) - 2);
    }
    for (const text of ['', 'plain', '\u2028', '日本', '😀', 'a\\', '"']) expect(textBytes(text)).to.equal(bytes(text) - 2);
  });

  it('are those of the JSON text, or above the limit', () => {
    fc.assert(
      fc.property(
        fc.jsonValue({ stringUnit: 'binary' }).map(JSON.stringify),
        fc.array(fc.nat({ max: 80 }), { maxLength: 5 }),
        (text, limits) => {
          const value = normalize(JSON.parse(text));
          const sizes = new JsonSizes();
          const size = bytes(value);
          for (const limit of limits) {
            const measured = sizes.measure(value, limit);
            if (size <= limit) expect(measured).to.equal(size);
            else expect(measured).to.be.above(limit).and.to.be.at.most(size);
          }
          expect(sizes.measure(value)).to.equal(size);
        },
      ),
    );
  });
});

describe('hashes', () => {
  const hash = (text: string): number => new JsonHashes().of(normalize(JSON.parse(text)));

  it('are equal where the text is', () => {
    expect(hash('{"a":[1,"x",null]}')).to.equal(hash('{"a": [1.0, "\\u0078", null]}'));
  });

  it('tell apart what is different', () => {
    const texts = [
      '1',
      '"1"',
      '[]',
      '{}',
      'null',
      '"null"',
      '[1]',
      '[1,1]',
      '[[1]]',
      '[1,2]',
      '[2,1]',
      '{"a":1}',
      '{"a":2}',
      '{"b":1}',
      '{"a":1,"b":2}',
      '{"b":2,"a":1}',
      '["a",1]',
    ];
    expect(new Set(texts.map(hash)).size).to.equal(texts.length);
  });
});
