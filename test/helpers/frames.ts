/** What the tests of both protocols' frames share. */
import { expect } from 'chai';
import fc from 'fast-check';
import { ContextError } from '../../src/core/errors.js';
import { type FrameHeader, type FrameKind, FrameReader, type ReceivedFrame } from '../../src/core/frame.js';

export const decode = (message: Buffer): ReceivedFrame | null => new FrameReader().read(message);

/** The error of a message that must not be taken for a frame. */
export function refusal(message: Buffer, reader = new FrameReader()): ContextError {
  try {
    reader.read(message);
  } catch (error) {
    expect(error).to.be.instanceOf(ContextError);
    expect((error as ContextError).code).to.equal('BAD_FRAME');
    return error as ContextError;
  }
  throw new Error(`was taken for a frame: ${JSON.stringify(message.toString('latin1'))}`);
}

export const hex8 = fc.nat({ max: 0xffff_ffff }).map((number) => number.toString(16).padStart(8, '0'));
export const word = fc.stringMatching(/^[\x21-\x7e]{1,64}$/);
export const whole = fc.maxSafeNat();

/** Headers of protocol 2 that are in order. */
export const headers2: fc.Arbitrary<FrameHeader> = fc
  .record({
    protocol: fc.constant(2 as const),
    kind: fc.constantFrom<FrameKind>('splice', 'patch', 'full', 'deleted', 'expired', 'touch'),
    encoding: fc.constantFrom('-' as const, 'gz' as const, 'br' as const),
    parts: fc.nat({ max: 3 }),
    version: whole,
    crc: hex8,
    length: fc.nat({ max: 300 }),
    baseVersion: whole,
    baseCrc: hex8,
    at: whole,
    expiresAt: fc.oneof(whole, fc.constant(null)),
    operation: word,
    by: word,
  })
  .map((header) =>
    ['splice', 'patch', 'full'].includes(header.kind) ? header : { ...header, encoding: '-' as const, parts: 0, length: 0 },
  );
