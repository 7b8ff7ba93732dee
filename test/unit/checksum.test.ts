import * as zlib from 'node:zlib';
import { expect } from 'chai';
import fc from 'fast-check';
import { crc32, crc32Hex, portableCrc32, sha1Hex } from '../../src/core/checksum.js';

/** The check value of CRC-32/ISO-HDLC, and others that `crc32(1)` gives. */
const CRCS: readonly (readonly [text: string, hex: string])[] = [
  ['', '00000000'],
  ['123456789', 'cbf43926'],
  ['a', 'e8b7be43'],
  ['The quick brown fox jumps over the lazy dog', '414fa339'],
];
/** FIPS 180-4. */
const SHAS: readonly (readonly [text: string, hex: string])[] = [
  ['', 'da39a3ee5e6b4b0d3255bfef95601890afd80709'],
  ['abc', 'a9993e364706816aba3e25717850c26c9cd0d89d'],
];

describe('checksums', () => {
  for (const [text, hex] of CRCS) {
    it(`CRC-32 of ${JSON.stringify(text)} is ${hex}`, () => {
      expect(crc32Hex(text)).to.equal(hex);
      expect(portableCrc32(text)).to.equal(Number.parseInt(hex, 16));
      expect(portableCrc32(Buffer.from(text))).to.equal(Number.parseInt(hex, 16));
    });
  }

  for (const [text, hex] of SHAS) {
    it(`SHA-1 of ${JSON.stringify(text)} is ${hex}`, () => {
      expect(sha1Hex(text)).to.equal(hex);
      expect(sha1Hex(Buffer.from(text))).to.equal(hex);
    });
  }

  it('the portable CRC-32 equals the native one, for any bytes and any text', () => {
    const native = (zlib as { crc32?: (data: string | Uint8Array) => number }).crc32 ?? crc32;
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 10_000 }), (bytes) => {
        expect(portableCrc32(bytes)).to.equal(native(bytes));
        expect(portableCrc32(Buffer.from(bytes))).to.equal(crc32(bytes));
      }),
    );
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 300 }), (text) => {
        expect(portableCrc32(text)).to.equal(native(text));
        expect(crc32(text)).to.equal(crc32(Buffer.from(text)));
      }),
    );
  });

  it('is never negative, and always eight digits', () => {
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        expect(portableCrc32(bytes)).to.be.within(0, 0xffff_ffff);
        expect(crc32Hex(bytes)).to.match(/^[0-9a-f]{8}$/);
        expect(Number.parseInt(crc32Hex(bytes), 16)).to.equal(crc32(bytes));
      }),
    );
  });

  it('keeps leading zeros', () => {
    // the first number whose decimal text has a checksum below 2^20
    const low = Array.from({ length: 100_000 }, (_, number) => String(number)).find((text) => crc32(text) < 0x10_0000);
    expect(crc32Hex(low ?? '')).to.match(/^000[0-9a-f]{5}$/);
  });

  it('a single flipped bit changes both', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1 }), fc.nat(), fc.nat(7), (bytes, at, bit) => {
        const damaged = Uint8Array.from(bytes);
        const index = at % bytes.length;
        damaged[index] = (damaged[index] ?? 0) ^ (1 << bit);
        return crc32Hex(damaged) !== crc32Hex(bytes) && sha1Hex(damaged) !== sha1Hex(bytes);
      }),
    );
  });
});
