/**
 * The two checksums of a document. CRC-32 (IEEE 802.3, reflected, as in zlib and `crc32(1)`) is what clients verify, SHA-1
 * (FIPS 180-4) what Redis verifies: it is native there, where CRC-32 in Lua would be fifty times slower.
 */
import * as crypto from 'node:crypto';
import * as zlib from 'node:zlib';
import CRC32 from 'crc-32';

type Crc32 = (data: string | Uint8Array, before?: number) => number;
const nativeCrc32 = (zlib as { crc32?: Crc32 }).crc32;

/** CRC-32 by the portable implementation; what Node below 20.15 uses. */
export function portableCrc32(data: string | Uint8Array, before = 0): number {
  return CRC32.buf(typeof data === 'string' ? new TextEncoder().encode(data) : data, before | 0) >>> 0;
}

/** CRC-32 of bytes, or of a string's UTF-8 bytes, as an unsigned 32-bit number; `before` is that of what stands before them. */
export const crc32: Crc32 = nativeCrc32 ?? portableCrc32;

/** A CRC-32 as it is stored and sent: 8 lower-case hex digits. */
export function crc32Hex(data: string | Uint8Array): string {
  return crc32(data).toString(16).padStart(8, '0');
}

type Hash = (algorithm: string, data: string | Uint8Array) => string;
/** Node 20.12 and newer: a third of the time for short texts. */
const oneShot = (crypto as { hash?: Hash }).hash;

/** SHA-1 of bytes, or of a string's UTF-8 bytes: 40 lower-case hex digits. */
export const sha1Hex: (data: string | Uint8Array) => string =
  oneShot === undefined ? (data) => crypto.createHash('sha1').update(data).digest('hex') : (data) => oneShot('sha1', data);
