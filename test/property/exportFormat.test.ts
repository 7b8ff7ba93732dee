/** The lines of an export: what is written comes back to the byte, and no flipped bit goes unnoticed. */
import { expect } from 'chai';
import fc from 'fast-check';
import { crc32Hex, sha1Hex } from '../../src/core/checksum.js';
import { type ExportedContext, type ExportRecord, readRecord, writeRecord } from '../../src/core/exportFormat.js';
import { isContextError } from '../../src/index.js';

const count = fc.nat({ max: Number.MAX_SAFE_INTEGER });
/** Ids that look like what stands around a document. */
const id = fc.oneof(
  fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 }),
  fc.constantFrom('","data":{', ',"base64":"', '\\",', '}'),
);
const document = fc.oneof(
  fc.json({ stringUnit: 'binary' }).map((text) => Buffer.from(text)),
  fc
    .constantFrom('1.0', '12345678901234567890', '-0', '{"b":1,"a":1,"b":2}', '"\\u00e9é"', '[\n1\n]', '[1,\r2]')
    .map((text) => Buffer.from(text)),
  fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
);

const context: fc.Arbitrary<ExportedContext> = fc
  .record({ id, version: count, at: count, expiresAt: fc.option(count), data: document })
  .map((facts) => ({ kind: 'context', crc: crc32Hex(facts.data), sha: sha1Hex(facts.data), ...facts }));

const record: fc.Arbitrary<ExportRecord> = fc.oneof(
  context,
  fc.record({
    kind: fc.constant('header' as const),
    namespace: id,
    shards: count,
    prefix: fc.string(),
    at: count,
    run: fc.string(),
  }),
  fc.record({
    ...{ kind: fc.constant('mark' as const), shard: count, cursor: fc.string(), run: fc.string() },
    ...{ contexts: count, bytes: count, damaged: count },
  }),
  fc.record({ kind: fc.constant('end' as const), contexts: count, bytes: count, damaged: count, sha256: fc.string() }),
);

describe('the lines of an export', () => {
  it('give back what was written, to the byte, and are one line each', () => {
    fc.assert(
      fc.property(record, (given) => {
        const line = writeRecord(given);
        expect(line.indexOf('\n')).to.equal(line.length - 1);
        expect(readRecord(line.subarray(0, -1), 1)).to.deep.equal(given);
      }),
      { numRuns: 2_000 },
    );
  });

  it('are JSON in which a JSON document is itself', () => {
    fc.assert(
      fc.property(context, fc.json(), (given, text) => {
        const data = Buffer.from(text);
        const line = writeRecord({ ...given, data, crc: crc32Hex(data), sha: sha1Hex(data) });
        expect(JSON.parse(line.toString())).to.deep.include({ id: given.id, bytes: data.length, data: JSON.parse(text) });
        expect(line.includes(data)).to.equal(true);
      }),
    );
  });

  it('are refused with their number where a bit is flipped, or bytes are gone', () => {
    fc.assert(
      fc.property(record, fc.nat(), fc.boolean(), (given, place, cut) => {
        const line = Buffer.from(writeRecord(given).subarray(0, -1));
        const bit = place % (line.length * 8);
        if (!cut) line[bit >> 3] = (line[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        const damaged = cut ? line.subarray(0, bit >> 3) : line;
        expect(() => readRecord(damaged, 7))
          .to.throw(/^line 7 is damaged: /)
          .and.satisfy((error: unknown) => isContextError(error) && error.code === 'CORRUPT');
      }),
      { numRuns: 5_000 },
    );
  });

  it('are refused where the sum is right, but the document is not that of the checksums', () => {
    const data = Buffer.from('{"a":1}');
    const sound: ExportedContext = {
      kind: 'context',
      id: 'x',
      version: 1,
      crc: crc32Hex(data),
      sha: sha1Hex(data),
      at: 1,
      expiresAt: null,
      data,
    };
    const refuses = (changed: Partial<ExportedContext>, what: RegExp): void => {
      expect(() => readRecord(writeRecord({ ...sound, ...changed }).subarray(0, -1), 3)).to.throw(what);
    };
    refuses({ crc: '00000000' }, /^line 3 is damaged: x: the CRC-32 of its document is [0-9a-f]{8}, not 00000000/);
    refuses({ sha: sha1Hex('') }, /^line 3 is damaged: x: the SHA-1 of its document/);
    refuses({ version: -1 }, /^line 3 is damaged: its sum is right/);
  });
});
