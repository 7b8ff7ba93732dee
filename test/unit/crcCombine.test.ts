import { expect } from 'chai';
import fc from 'fast-check';
import { crc32 } from '../../src/core/checksum.js';
import { combineCrc, shiftOf } from '../../src/core/crcCombine.js';

/** x^n modulo the polynomial of CRC-32, bits reflected, one step at a time by squaring a BigInt: another way to the same. */
function powerOfX(n: bigint): number {
  const modulus = 0x104c11db7n;
  const reduce = (value: bigint): bigint => {
    let left = value;
    for (let bit = 64n; bit >= 32n; bit -= 1n) if ((left >> bit) & 1n) left ^= modulus << (bit - 32n);
    return left;
  };
  const product = (a: bigint, b: bigint): bigint => {
    let sum = 0n;
    for (let bit = 0n; bit < 32n; bit += 1n) if ((b >> bit) & 1n) sum ^= a << bit;
    return reduce(sum);
  };
  let result = 1n;
  let square = 2n;
  for (let left = n; left > 0n; left >>= 1n) {
    if (left & 1n) result = product(result, square);
    square = product(square, square);
  }
  let reflected = 0;
  for (let bit = 0n; bit < 32n; bit += 1n) if ((result >> bit) & 1n) reflected |= 1 << (31 - Number(bit));
  return reflected >>> 0;
}

describe('combineCrc', () => {
  it('gives the checksum of the joined bytes', () => {
    const bytes = fc.uint8Array({ maxLength: 300 });
    fc.assert(
      fc.property(bytes, bytes, bytes, (a, b, c) => {
        const whole = crc32(Buffer.concat([a, b]));
        const combined = combineCrc(crc32(a), crc32(b), shiftOf(b.length));
        expect(combined).to.equal(whole);
        // it is a checksum like any other: the next part goes on from it
        expect(combineCrc(combined, crc32(c), shiftOf(c.length))).to.equal(crc32(Buffer.concat([a, b, c])));
      }),
      { numRuns: 1000 },
    );
  });

  for (const [first, second] of [
    [0, 0],
    [0, 1],
    [1, 0],
    [1, 1],
    [5_000_000, 1],
    [1, 5_000_000],
    [65_535, 65_536],
  ] as const) {
    it(`joins ${first} and ${second} bytes`, () => {
      const bytes = Buffer.alloc(first + second, 'the quick brown fox, ');
      const [a, b] = [bytes.subarray(0, first), bytes.subarray(first)];
      expect(combineCrc(crc32(a), crc32(b), shiftOf(second))).to.equal(crc32(bytes));
    });
  }
});

describe('shiftOf', () => {
  it('is x to the bits of the length, however long', () => {
    const length = fc.oneof(
      fc.integer({ min: 0, max: 70_000 }),
      fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }),
      fc.nat({ max: 53 }).map((power) => Math.min(2 ** power, Number.MAX_SAFE_INTEGER)),
      fc.constantFrom(2 ** 32 - 1, 2 ** 32, 2 ** 32 + 1, 2 ** 29 - 1, 2 ** 29, 2 ** 53 - 1),
    );
    fc.assert(
      fc.property(length, (bytes) => {
        expect(shiftOf(bytes)).to.equal(powerOfX(8n * BigInt(bytes)));
      }),
      { numRuns: 500 },
    );
  });

  it('changes nothing for no bytes', () => {
    expect(shiftOf(0)).to.equal(0x80000000);
    expect(combineCrc(0x12345678, 0, shiftOf(0))).to.equal(0x12345678);
  });
});
