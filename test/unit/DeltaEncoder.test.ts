import { expect } from 'chai';
import { DeltaDecoder } from '../../src/core/DeltaDecoder.js';
import { DeltaEncoder } from '../../src/core/DeltaEncoder.js';
import { ContextError } from '../../src/core/errors.js';

const MIB = 1024 * 1024;
const encoder = new DeltaEncoder();
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

function refusal(act: () => unknown): ContextError {
  try {
    act();
  } catch (error) {
    expect(error).to.be.instanceOf(ContextError);
    return error as ContextError;
  }
  throw new Error('it was taken');
}

describe('DeltaEncoder and DeltaDecoder', () => {
  const base = Buffer.from('{"turns":3,"text":"hello"}');
  const target = Buffer.from('{"turns":4,"text":"hello"}');

  it('make the bytes that the protocol describes, and undo them', () => {
    const delta = encoder.encode(base, target);
    expect(delta.toString('hex')).to.equal('011a1a0312000334');
    expect(new DeltaDecoder().decode(base, delta).toString()).to.equal(target.toString());
  });

  it('leave alone what they are given, and share no memory with it', () => {
    const [before, after] = [Buffer.from(base), Buffer.from(target)];
    const delta = encoder.encode(before, after);
    after.fill(0);
    const decoded = new DeltaDecoder().decode(before, delta);
    before.fill(0);
    delta.fill(0);
    expect(decoded.toString()).to.equal(target.toString());
  });

  it('take empty documents', () => {
    const empty = Buffer.alloc(0);
    expect(encoder.encode(empty, empty).toString('hex')).to.equal('01000000');
    expect(new DeltaDecoder().decode(empty, encoder.encode(empty, base)).toString()).to.equal(base.toString());
    expect(new DeltaDecoder().decode(base, encoder.encode(base, empty))).to.have.length(0);
  });

  it('take 16 MiB and no more', () => {
    const most = Buffer.alloc(16 * MIB, 'x');
    const one = Buffer.alloc(1, 'x');
    expect(new DeltaDecoder().decode(one, encoder.encode(one, most)).equals(most)).to.equal(true);
    const more = encoder.encode(most, Buffer.concat([most, one]));
    expect(refusal(() => new DeltaDecoder().decode(most, more)).code).to.equal('BAD_FRAME');
  });

  it('refuse a target that is longer than they may make', () => {
    const delta = encoder.encode(base, target);
    expect(new DeltaDecoder({ maxTargetBytes: 26 }).decode(base, delta)).to.have.length(26);
    const { code, details } = refusal(() => new DeltaDecoder({ maxTargetBytes: 25 }).decode(base, delta));
    expect(code).to.equal('BAD_FRAME');
    expect(details).to.deep.equal({ expected: 25, found: 26 });
    expect(new DeltaDecoder({ maxTargetBytes: 0 }).decode(base, encoder.encode(base, Buffer.alloc(0)))).to.have.length(0);
  });

  it('refuse limits that are none', () => {
    for (const maxTargetBytes of [-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 16 * MIB + 1, 2 ** 53])
      expect(refusal(() => new DeltaDecoder({ maxTargetBytes })).code, String(maxTargetBytes)).to.equal('INVALID_OPTION');
  });

  it('refuse a base of another length', () => {
    const { code, details } = refusal(() => new DeltaDecoder().decode(base.subarray(1), encoder.encode(base, target)));
    expect(code).to.equal('BASE_MISMATCH');
    expect(details).to.deep.equal({ expected: 26, found: 25 });
  });

  it('refuse what few bytes claim of much memory, without taking it', () => {
    const HOSTILE = [
      '01 1a 80 80 80 80 80 80 80 10 00', // a target of 2^53 bytes
      '01 1a ff ff ff ff 0f 00', // of 2^32 - 1
      '01 1a 80 80 80 08 00', // of 16 MiB, of which nothing is there
      '01 1a 80 80 80 08 04 81 80 80 10', // of 16 MiB in an insert that is not there
      '01 1a 1a ff ff ff ff 0f 12 00', // 2^32 - 1 bytes of instructions
      '01 1a 1b 02 36 00', // a copy past the end
      '01 80 80 80 80 10 1a 07 02 fe ff ff ff 0f 34', // a copy from far away in a base that is not there
    ];
    const before = process.memoryUsage().arrayBuffers;
    for (const bytes of HOSTILE) {
      const { code } = refusal(() => new DeltaDecoder().decode(base, hex(bytes)));
      expect(['BAD_FRAME', 'BASE_MISMATCH'], bytes).to.include(code);
    }
    expect(process.memoryUsage().arrayBuffers - before).to.be.below(MIB);
  });
});
