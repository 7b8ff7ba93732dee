import { createHash } from 'node:crypto';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { expect } from 'chai';
import fc from 'fast-check';
import type { Encoding } from '../../src/core/compression.js';
import { type FrameHeader, FrameReader, frameHeader2, MAX_FRAME_BYTES, MAX_PARTS } from '../../src/core/frame.js';
import { decode, headers2, refusal } from '../helpers/frames.js';

const HEADER_2: FrameHeader = {
  protocol: 2,
  kind: 'splice',
  encoding: '-',
  parts: 0,
  version: 7,
  crc: '0000beef',
  length: 42,
  baseVersion: 6,
  baseCrc: 'cafe0000',
  at: 1_700_000_000_000,
  expiresAt: 1_700_000_060_000,
  operation: 'op.1',
  by: 'host-1',
};
/** A frame of protocol 1. */
const OTHER = `lc1 patch 7 0000beef ${'0'.repeat(40)} 42 6 cafe0000 1700000000000 - op.1 host-1\n[]`;
const TEXT_2 = 'lc2 splice - 0 7 0000beef 42 6 cafe0000 1700000000000 1700000060000 op.1 host-1 2f67539c\n';

const message2 = (header: Partial<FrameHeader>, payload: string | Buffer = ''): Buffer =>
  Buffer.concat([Buffer.from(frameHeader2({ ...HEADER_2, ...header })), Buffer.from(payload)]);
/** With a check that fits, whatever the words are. */
const checked = (words: readonly string[]): Buffer => {
  const line = `${words.join(' ')} `;
  return Buffer.from(`${line}${createHash('sha1').update(line).digest('hex').slice(0, 8)}\n`);
};

const encoded = (encoding: Encoding, plain: Buffer): Buffer =>
  encoding === '-' ? plain : encoding === 'gz' ? gzipSync(plain) : brotliCompressSync(plain);

describe('a frame of protocol 2', () => {
  const GOOD_2 = TEXT_2.split(' ').slice(0, -1);
  const PLACES_2 = {
    kind: 1,
    encoding: 2,
    parts: 3,
    version: 4,
    crc: 5,
    length: 6,
    baseVersion: 7,
    baseCrc: 8,
    at: 9,
    expiry: 10,
  };
  const withWord2 = (index: number, word: string): Buffer => checked(GOOD_2.map((old, at) => (at === index ? word : old)));

  it('is one line of words, and its payload is what follows', () => {
    expect(frameHeader2(HEADER_2)).to.equal(TEXT_2);
    expect(decode(Buffer.from(`${TEXT_2}pay\nload`))).to.deep.equal({ ...HEADER_2, payload: Buffer.from('pay\nload') });
  });

  it('gives back every field, however it is compressed and however many parts it comes in', () => {
    fc.assert(
      fc.property(
        headers2,
        fc.uint8Array({ maxLength: 300 }),
        fc.array(fc.double({ min: 0, max: 1, noNaN: true })),
        (given, bytes, cuts) => {
          const plain = ['splice', 'patch', 'full'].includes(given.kind) ? Buffer.from(bytes) : Buffer.alloc(0);
          const header = { ...given, length: plain.length };
          const wire = encoded(header.encoding, plain);
          const places = [0, ...cuts.map((cut) => Math.floor(cut * wire.length)).sort((a, b) => a - b), wire.length];
          const parts = given.parts === 0 ? [] : places.slice(1).map((place, index) => wire.subarray(places[index], place));
          fc.pre(!parts.some((part) => part.toString('latin1').startsWith('lc')));
          const sent = { ...header, parts: parts.length };
          const reader = new FrameReader();
          const messages = [
            parts.length === 0 ? Buffer.concat([Buffer.from(frameHeader2(sent)), wire]) : message2(sent),
            ...parts,
          ];
          const read = messages.map((message) => reader.read(message));
          expect(read.slice(0, -1).every((frame) => frame === null)).to.equal(true);
          expect(read.at(-1)).to.deep.equal({ ...sent, payload: plain });
        },
      ),
    );
  });

  it('has empty checksums and no expiry where the header has a dash', () => {
    expect(decode(message2({ kind: 'deleted', crc: '', length: 0, expiresAt: null }))).to.include({ crc: '', expiresAt: null });
    expect(decode(message2({ kind: 'full', baseCrc: '', length: 2 }, '{}'))).to.include({ baseCrc: '' });
  });

  it('with a single damaged bit in its header is refused', () => {
    const header = Buffer.from(frameHeader2(HEADER_2));
    for (let bit = 0; bit < header.length * 8; bit += 1) {
      const damaged = Buffer.from(header);
      damaged.writeUInt8(damaged.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
      refusal(damaged);
    }
  });

  it('is told by a newer protocol that this instance must be upgraded', () => {
    for (const protocol of ['lc3', 'lc10']) {
      const error = refusal(checked([protocol, ...GOOD_2.slice(1)]));
      expect(error.message).to.match(/newer instance writes in this namespace.*upgrade it/);
      expect(error.details).to.deep.include({ found: protocol });
    }
  });

  describe('is refused', () => {
    const zeros = gzipSync(Buffer.alloc(MAX_FRAME_BYTES + 1));
    const hostile: readonly (readonly [name: string, message: Buffer, says: string])[] = [
      ['with a word too few', checked(GOOD_2.slice(0, -1)), '13 words, not 14'],
      ['with a word too many', checked([...GOOD_2, 'more']), '15 words, not 14'],
      ['with another check', Buffer.from(TEXT_2.replace('2f67539c', '00000000')), 'check'],
      ['of a kind of protocol 1 alone', withWord2(PLACES_2.kind, 'follows'), '"follows"'],
      ['of a kind that every object has', withWord2(PLACES_2.kind, 'constructor'), '"constructor"'],
      ['of an unknown encoding', withWord2(PLACES_2.encoding, 'zstd'), '"zstd"'],
      ['with a length of 2^53', withWord2(PLACES_2.length, String(2 ** 53)), 'length'],
      ['with a document above 16 MiB', withWord2(PLACES_2.length, String(MAX_FRAME_BYTES + 1)), 'length'],
      ['with more parts than are allowed', withWord2(PLACES_2.parts, String(MAX_PARTS + 1)), 'number of parts'],
      ['without a checksum', withWord2(PLACES_2.crc, '-'), 'no checksum'],
      ['a splice without a base', withWord2(PLACES_2.baseCrc, '-'), 'needs a base'],
      ['a removal with a payload', message2({ kind: 'deleted', length: 0 }, 'x'), 'no payload'],
      ['a removal in parts', message2({ kind: 'deleted', length: 0, parts: 1 }), 'no payload'],
      ['a removal that is compressed', message2({ kind: 'touch', length: 0, encoding: 'gz' }), 'no payload'],
      ['with parts and a payload after the header', message2({ parts: 1 }, 'x'), 'announced as parts'],
      ['a document shorter than it says', message2({ kind: 'full', length: 3 }, '{}'), '2 bytes, not 3'],
      ['a document longer than it says', message2({ kind: 'full', length: 1 }, '{}'), 'more than 1'],
      ['a compressed document longer than it says', message2({ kind: 'full', encoding: 'gz', length: 9 }, zeros), 'more than 9'],
      ['a splice that unpacks to more than 16 MiB', message2({ encoding: 'gz' }, zeros), `more than ${MAX_FRAME_BYTES}`],
      ['with damaged gzip data', message2({ encoding: 'gz' }, 'no gzip'), 'gzip data is damaged'],
      ['with damaged brotli data', message2({ encoding: 'br' }, 'no brotli'), 'brotli data is damaged'],
      ['with gzip data that ends too early', message2({ encoding: 'gz' }, gzipSync('{"a":1}').subarray(0, -9)), 'damaged'],
      [
        'with brotli data that ends too early',
        message2({ encoding: 'br' }, brotliCompressSync('{"a":1}').subarray(0, -2)),
        'damaged',
      ],
    ];
    for (const [name, message, says] of hostile) {
      it(name, () => expect(refusal(message).message).to.include(says));
    }
    for (const name of ['parts', 'version', 'length', 'baseVersion', 'at'] as const) {
      it(`with a ${name} that is no whole number`, () => {
        for (const wrong of ['', '-', '-1', '1.5', 'NaN', '9007199254740992', '1e3', '0x10', '+1'])
          refusal(withWord2(PLACES_2[name], wrong));
      });
    }
  });

  describe('in parts', () => {
    const header = message2({ kind: 'full', parts: 3, length: 7 });
    const parts = ['{"a', '":', '1}'].map((part) => Buffer.from(part));

    it('is complete with the last of them, and what comes next has a header of its own', () => {
      const reader = new FrameReader();
      expect([header, parts[0] ?? header, parts[1] ?? header].map((message) => reader.read(message))).to.deep.equal([
        null,
        null,
        null,
      ]);
      expect(reader.read(parts[2] ?? header)?.payload.toString()).to.equal('{"a":1}');
      refusal(Buffer.from('{}'), reader);
    });

    it('is given up where another header comes in the place of a part, which counts', () => {
      for (const other of [Buffer.from(OTHER), message2({})]) {
        const reader = new FrameReader();
        reader.read(header);
        for (const part of parts.slice(0, 2)) reader.read(part);
        expect(reader.read(other)).to.include({ version: 7 });
        for (const part of parts) refusal(part, reader);
      }
    });

    it('may have parts of text that begins like a header', () => {
      const reader = new FrameReader();
      reader.read(message2({ kind: 'full', parts: 2, length: 9 }));
      reader.read(Buffer.from('"'));
      expect(reader.read(Buffer.from('lc2 doc"'))?.payload.toString()).to.equal('"lc2 doc"');
    });

    it('is refused as soon as they are longer than 16 MiB together', () => {
      const reader = new FrameReader();
      reader.read(message2({ kind: 'full', parts: MAX_PARTS, length: MAX_FRAME_BYTES }));
      const half = Buffer.alloc(MAX_FRAME_BYTES / 2, ' ');
      expect(reader.read(half)).to.equal(null);
      expect(reader.read(half)).to.equal(null);
      expect(refusal(Buffer.from(' '), reader).message).to.include('parts are longer');
      refusal(half, reader);
    });
  });
});
