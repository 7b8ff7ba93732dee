import { expect } from 'chai';
import fc from 'fast-check';
import { ContextError } from '../../src/core/errors.js';
import { type FrameKind, FrameReader, frameHeader2, type ReceivedFrame } from '../../src/core/frame.js';
import { decode, headers2, hex8, refusal, whole, word } from '../helpers/frames.js';

const SHA = '0123456789abcdef0123456789abcdef01234567';
const GOOD = ['lc1', 'patch', '7', '0000beef', SHA, '42', '6', 'cafe0000', '1700000000000', '1700000060000', 'op.1', 'host-1'];
const PLACES = { kind: 1, version: 2, crc: 3, length: 5, baseVersion: 6, baseCrc: 7, at: 8, expiry: 9 };

const encode = (words: readonly string[], payload: string | Buffer = ''): Buffer =>
  Buffer.concat([Buffer.from(`${words.join(' ')}\n`, 'latin1'), Buffer.from(payload)]);
const withWord = (index: number, word: string): Buffer => encode(GOOD.map((old, at) => (at === index ? word : old)));

const frames: fc.Arbitrary<ReceivedFrame> = fc.record({
  protocol: fc.constant(1 as const),
  encoding: fc.constant('-' as const),
  parts: fc.constant(0),
  kind: fc.constantFrom<FrameKind>('patch', 'full', 'deleted', 'expired', 'touch'),
  version: whole,
  crc: fc.oneof(hex8, fc.constant('')),
  baseVersion: whole,
  baseCrc: fc.oneof(hex8, fc.constant('')),
  length: whole,
  at: whole,
  expiresAt: fc.oneof(whole, fc.constant(null)),
  operation: word,
  by: word,
  payload: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
});

const text = (frame: ReceivedFrame): Buffer =>
  encode(
    [
      'lc1',
      frame.kind,
      String(frame.version),
      frame.crc || '-',
      SHA,
      String(frame.length),
      String(frame.baseVersion),
      frame.baseCrc || '-',
      String(frame.at),
      frame.expiresAt === null ? '-' : String(frame.expiresAt),
      frame.operation,
      frame.by,
    ],
    frame.payload,
  );

describe('a frame of protocol 1', () => {
  it('is read word by word, and its payload is what follows the first line', () => {
    expect(decode(encode(GOOD, '[{"op":"add"}]\n\nmore'))).to.deep.equal({
      protocol: 1,
      kind: 'patch',
      encoding: '-',
      parts: 0,
      version: 7,
      crc: '0000beef',
      baseVersion: 6,
      baseCrc: 'cafe0000',
      length: 42,
      at: 1_700_000_000_000,
      expiresAt: 1_700_000_060_000,
      operation: 'op.1',
      by: 'host-1',
      payload: Buffer.from('[{"op":"add"}]\n\nmore'),
    });
  });

  it('gives back every field of any frame, whatever bytes its payload has', () => {
    fc.assert(
      fc.property(frames, (frame) => {
        expect(decode(text(frame))).to.deep.equal(frame);
      }),
    );
  });

  it('has empty checksums and no expiry where the header has a dash', () => {
    const frame = decode(encode(['lc1', 'deleted', '8', '-', '-', '0', '7', '-', '1', '-', '-', 'x']));
    expect(frame).to.include({ crc: '', baseCrc: '', expiresAt: null, operation: '-' });
    expect(frame?.payload).to.have.length(0);
  });

  describe('is refused', () => {
    const hostile: readonly (readonly [name: string, message: Buffer, says: string])[] = [
      ['empty', Buffer.alloc(0), 'no header line'],
      ['without a line end', Buffer.from(GOOD.join(' ')), 'no header line'],
      ['with a header line that never ends', Buffer.concat([Buffer.alloc(1 << 20, 'a'), Buffer.from('\n')]), 'no header line'],
      ['of nothing but a line end', Buffer.from('\n'), 'protocol'],
      ['of another protocol', withWord(0, 'http'), '"http"'],
      ['of a newer protocol', withWord(0, 'lc3'), 'a newer instance writes in this namespace'],
      ['of the protocol after its own', withWord(0, 'lc2'), '12 words, not 14'],
      ['of a kind that came later', withWord(PLACES.kind, 'splice'), '"splice"'],
      ['the probe of the rights check', Buffer.from('lc1 probe\n'), '2 words'],
      ['with a word too few', encode(GOOD.slice(0, -1)), '11 words'],
      ['with a word too many', encode([...GOOD, 'more']), '13 words'],
      ['with two spaces in a row', withWord(PLACES.version, '7 '), '13 words'],
      ['of an unknown kind', withWord(PLACES.kind, 'Patch'), '"Patch"'],
      ['of a kind that every object has', withWord(PLACES.kind, 'constructor'), '"constructor"'],
      ['without a kind', withWord(PLACES.kind, ''), 'kind'],
    ];
    for (const [name, message, says] of hostile) {
      it(name, () => expect(refusal(message).message).to.include(says));
    }

    const numbers = ['', '-', '-1', '1.5', 'NaN', 'Infinity', '9007199254740992', '1e3', '0x10', '+1', '7\r', '\u00a07', '٧'];
    for (const name of ['version', 'length', 'baseVersion', 'at'] as const) {
      it(`with a ${name} that is no whole number`, () => {
        for (const wrong of numbers) refusal(withWord(PLACES[name], wrong));
      });
    }
    it('with an expiry that is neither a whole number nor a dash', () => {
      for (const wrong of numbers.filter((number) => number !== '-')) refusal(withWord(PLACES.expiry, wrong));
    });
    for (const name of ['crc', 'baseCrc'] as const) {
      it(`with a ${name} that is not eight lower-case hex digits`, () => {
        for (const wrong of ['', 'cafe', 'CAFE0000', 'cafe00001', 'cafe000g', '--', '0xcafe00'])
          refusal(withWord(PLACES[name], wrong));
      });
    }
  });

  describe('whose document follows as the next message', () => {
    const header = withWord(PLACES.kind, 'follows');
    const document = Buffer.from('{"a":"\\n"}');

    it('is complete with it, and is a full one', () => {
      const reader = new FrameReader();
      expect(reader.read(header)).to.equal(null);
      const frame = reader.read(document);
      expect(frame).to.deep.equal({ ...decode(withWord(PLACES.kind, 'full')), parts: 1, payload: document });
      expect(frame?.kind).to.equal('full');
    });

    it('is over with it: what comes next has a header of its own', () => {
      const reader = new FrameReader();
      reader.read(header);
      reader.read(document);
      expect(reader.read(encode(GOOD, '[]'))).to.include({ kind: 'patch' });
      refusal(document, reader);
    });

    it('is given up where another header comes in its place, which counts', () => {
      const reader = new FrameReader();
      reader.read(header);
      expect(reader.read(encode(GOOD, '[]'))).to.include({ kind: 'patch', version: 7 });
      reader.read(header);
      expect(reader.read(header)).to.equal(null);
      expect(reader.read(document)?.payload).to.equal(document);
    });

    it('is refused where the header was lost, or has a fault', () => {
      refusal(document);
      const reader = new FrameReader();
      refusal(encode(GOOD.map((old, at) => (at === PLACES.kind ? 'follows' : at === PLACES.version ? '1e3' : old))), reader);
      refusal(document, reader);
    });

    it('may be any bytes that do not look like a header: its checksum tells', () => {
      const reader = new FrameReader();
      reader.read(header);
      const bytes = Buffer.from([0, 255, 10, 13]);
      expect(reader.read(bytes)?.payload).to.equal(bytes);
    });
  });

  it('whatever bytes come, in whatever order, it is a frame or BAD_FRAME, and never another error', () => {
    const follows = frames.map((frame) => Buffer.from(text(frame).toString('latin1').replace(frame.kind, 'follows'), 'latin1'));
    const whole = fc.oneof(
      frames.map(text),
      follows,
      headers2.map(frameHeader2).map((header) => Buffer.from(header)),
    );
    const damaged = fc.tuple(whole, fc.array(fc.tuple(fc.nat(), fc.nat(7)), { maxLength: 4 })).map(([message, flips]) => {
      const bytes = Buffer.from(message);
      for (const [at, bit] of flips) bytes.writeUInt8(bytes.readUInt8(at % bytes.length) ^ (1 << bit), at % bytes.length);
      return bytes;
    });
    const anything = fc.uint8Array({ maxLength: 2_000 }).map((bytes) => Buffer.from(bytes));
    fc.assert(
      fc.property(fc.array(fc.oneof(damaged, anything), { minLength: 1, maxLength: 5 }), (messages) => {
        const reader = new FrameReader();
        return messages.every((message) => {
          let frame: ReceivedFrame | null;
          try {
            frame = reader.read(message);
          } catch (error) {
            return error instanceof ContextError && error.code === 'BAD_FRAME';
          }
          if (frame === null) return true;
          const numbers = [frame.version, frame.length, frame.baseVersion, frame.at, frame.expiresAt ?? 0];
          return numbers.every((number) => Number.isSafeInteger(number) && number >= 0) && Buffer.isBuffer(frame.payload);
        });
      }),
      { numRuns: 1_000 },
    );
  });
});
