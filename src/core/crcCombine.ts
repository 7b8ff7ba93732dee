/**
 * CRC-32 of two parts joined, from those of the parts: what zlib's `crc32_combine` does. Appending `n` bytes multiplies the checksum so
 * far, a polynomial over GF(2), by x^(8n) modulo the CRC's; the rest is an exclusive or (Mark Adler, zlib, crc32.c).
 */

/** CRC-32 (IEEE 802.3), bits reflected. */
const POLYNOMIAL = 0xedb88320;
/** The polynomial 1. */
const ONE = 0x80000000;

/** Product of two polynomials modulo the CRC's. */
function multiply(a: number, b: number): number {
  let product = 0;
  let factor = b;
  for (let bit = ONE; bit !== 0; bit >>>= 1) {
    if ((a & bit) !== 0) {
      product ^= factor;
      if ((a & (bit - 1)) === 0) break;
    }
    factor = (factor & 1) === 0 ? factor >>> 1 : (factor >>> 1) ^ POLYNOMIAL;
  }
  return product >>> 0;
}

/** x^(2^k) for each k. */
const POWERS: readonly number[] = (() => {
  const powers = [0x40000000];
  for (let k = 1; k < 64; k += 1) powers.push(multiply(powers[k - 1] as number, powers[k - 1] as number));
  return powers;
})();

/** The operator that appending `length` bytes is: x^(8 * length). Takes O(log length); worth keeping for a length that comes again. */
export function shiftOf(length: number): number {
  let shift = ONE;
  let left = length;
  for (let k = 3; left > 0; k += 1) {
    if (left % 2 === 1) shift = multiply(POWERS[k] as number, shift);
    left = Math.floor(left / 2);
  }
  return shift;
}

/** CRC-32 of two parts joined. @param shiftOfSecond - {@link shiftOf} the length of the second */
export const combineCrc = (first: number, second: number, shiftOfSecond: number): number =>
  (multiply(shiftOfSecond, first) ^ second) >>> 0;
