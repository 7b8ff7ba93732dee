import { randomBytes } from 'node:crypto';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { expect } from 'chai';
import fc from 'fast-check';
import { compress, decompress, type Encoding } from '../../src/core/compression.js';
import { ContextError } from '../../src/core/errors.js';
import { makeConversation } from '../helpers/random.js';

const document = (bytes: number): Buffer => Buffer.from(JSON.stringify(makeConversation(bytes, bytes)));

function refusal(encoding: Encoding, bytes: Buffer, maxBytes: number): ContextError {
  try {
    decompress(encoding, bytes, maxBytes);
  } catch (error) {
    expect(error).to.be.instanceOf(ContextError);
    expect((error as ContextError).code).to.equal('BAD_FRAME');
    return error as ContextError;
  }
  throw new Error('it was taken');
}

describe('compression', () => {
  it('makes documents of every size up to 2 MiB less than half as long, and gives their bytes back', () => {
    for (const bytes of [1_000, 5_000, 32_768, 32_769, 100_000, 524_288, 524_289, 2_097_152]) {
      const plain = document(bytes);
      const { encoding, bytes: packed } = compress(plain);
      expect(encoding, String(bytes)).to.equal('br');
      expect(packed.length, String(bytes)).to.be.below(bytes * 0.5);
      expect(decompress(encoding, packed, bytes).equals(plain), String(bytes)).to.equal(true);
    }
  });

  it('leaves what is short, what is very long and what does not become smaller as it is', () => {
    const cases: Record<string, Buffer> = {
      nothing: Buffer.alloc(0),
      '149 bytes': Buffer.alloc(149, 'a'),
      'more than 2 MiB': Buffer.alloc(2_097_153, 'a'),
      'random bytes': randomBytes(10_000),
      'random bytes with a few that repeat': Buffer.concat([randomBytes(10_000), Buffer.alloc(800, 'a')]),
    };
    for (const [name, plain] of Object.entries(cases)) {
      const packed = compress(plain);
      expect(packed.encoding, name).to.equal('-');
      expect(packed.bytes, name).to.equal(plain);
      expect(decompress('-', packed.bytes, plain.length), name).to.equal(plain);
    }
    expect(compress(Buffer.alloc(150, 'a')).encoding).to.equal('br');
  });

  it('never makes anything longer, and always gives it back', () => {
    const pieces = fc.array(fc.oneof(fc.uint8Array({ maxLength: 200 }), fc.constant(Buffer.alloc(300, '{"a":1},'))), {
      maxLength: 12,
    });
    fc.assert(
      fc.property(pieces, (parts) => {
        const plain = Buffer.concat(parts);
        const { encoding, bytes } = compress(plain);
        expect(bytes.length).to.be.at.most(encoding === '-' ? plain.length : plain.length - 24);
        expect(decompress(encoding, bytes, plain.length).equals(plain)).to.equal(true);
      }),
    );
  });

  describe('is undone', () => {
    const plain = document(3_000);
    const forms: readonly (readonly [Encoding, Buffer])[] = [
      ['-', plain],
      ['gz', gzipSync(plain)],
      ['br', brotliCompressSync(plain)],
    ];
    for (const [encoding, bytes] of forms) {
      it(`for "${encoding}", up to the length that is allowed and not a byte beyond`, () => {
        expect(decompress(encoding, bytes, 3_000).equals(plain)).to.equal(true);
        expect(refusal(encoding, bytes, 2_999).message).to.include('more than 2999');
        expect(refusal(encoding, bytes, 0).message).to.include('more than 0');
      });
    }
    for (const [encoding, bytes] of forms.slice(1)) {
      it(`for "${encoding}" only where it is whole`, () => {
        for (const length of [0, 1, 10, bytes.length >> 1, bytes.length - 1])
          expect(refusal(encoding, bytes.subarray(0, length), 3_000).message).to.include('damaged');
        refusal(encoding, Buffer.from('{"a":1}'), 3_000);
      });
    }

    it('for nothing, compressed', () => {
      expect(decompress('gz', gzipSync(''), 0)).to.have.length(0);
      expect(decompress('br', brotliCompressSync(''), 0)).to.have.length(0);
    });

    it('within the memory that is allowed, whatever a few bytes unpack to', () => {
      const bomb = gzipSync(Buffer.alloc(256 * 1024 * 1024), { level: 1 });
      const before = process.memoryUsage().arrayBuffers;
      let most = before;
      for (let round = 0; round < 3; round += 1) {
        refusal('gz', bomb, 1024 * 1024);
        most = Math.max(most, process.memoryUsage().arrayBuffers);
      }
      expect(most - before).to.be.below(32 * 1024 * 1024);
    });
  });
});
