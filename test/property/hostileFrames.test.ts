import { expect } from 'chai';
import { crc32Hex } from '../../src/core/checksum.js';
import { DocumentText } from '../../src/core/DocumentText.js';
import { FrameReader, frameHeader2, type ReceivedFrame } from '../../src/core/frame.js';
import { JsonDocument } from '../../src/core/JsonDocument.js';
import { parseFrozen } from '../../src/core/json.js';
import { SpliceBuilder } from '../../src/core/splice.js';
import { applySplice, writeSplice } from '../../src/core/spliceFormat.js';
import { Replica } from '../../src/replica/Replica.js';
import { type HostileOutcome, readHostileFrame, target } from '../helpers/hostileFrames.js';
import { seededRng } from '../helpers/random.js';

/** A frame that puts something in the place of a text that is there once. */
function replacing(
  bytes: Buffer,
  what: string,
  by: string,
  version: number,
): { readonly frame: ReceivedFrame; readonly after: Buffer } {
  const at = bytes.indexOf(what);
  const builder = new SpliceBuilder(bytes.length);
  builder.copy(0, at);
  builder.insert(Buffer.from(by));
  builder.copy(at + what.length, bytes.length - at - what.length);
  const splice = builder.build();
  const after = applySplice(bytes, splice);
  const header = frameHeader2({
    ...{ kind: 'splice', encoding: '-', parts: 0, version: version + 1, at: 0, expiresAt: null, operation: '-', by: 'mallory' },
    ...{ crc: crc32Hex(after), length: after.length, baseVersion: version, baseCrc: crc32Hex(bytes) },
  });
  const frame = new FrameReader().read(Buffer.concat([Buffer.from(header), writeSplice(splice).bytes]));
  return { frame: frame as ReceivedFrame, after };
}

/** Documents, and frames that each is sent one after the other. */
const DOCUMENTS = 60;
const FRAMES = 8;

describe('Replica, for frames that a hostile writer makes', function () {
  this.timeout(120_000);

  it('applies them, or says that they are corrupt, and goes on', () => {
    const outcomes = new Map<HostileOutcome, number>();
    for (let seed = 1; seed <= DOCUMENTS; seed += 1) {
      const rng = seededRng(seed);
      const hostile = target(rng);
      for (let frame = 1; frame <= FRAMES; frame += 1) {
        try {
          const { outcome } = readHostileFrame(rng, hostile);
          outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
        } catch (error) {
          throw new Error(`frame ${frame} of seed ${seed}: ${String(error)}`, { cause: error });
        }
        // what does not grow in a frame does not grow in ten
        expect(hostile.replica.state.bytes).to.be.at.most(16 * 1024 * 1024);
      }
    }
    // it was about all of that
    for (const outcome of ['applied', 'corrupt'] as const) expect(outcomes.get(outcome) ?? 0, outcome).to.be.above(60);
    expect(outcomes.get('refused') ?? 0, 'refused').to.be.above(0);
  });

  it('takes no more depth bit by bit than at once', () => {
    const pad = 'x'.repeat(2_000);
    let bytes = Buffer.from(`{"pad":"${pad}","deep":"here"}`);
    const document = JsonDocument.parse(DocumentText.of(bytes));
    const facts = { version: 1, at: 0, expiresAt: null };
    const state = { ...facts, crc: document.text.crc, value: document.value, bytes: bytes.length, document };
    const replica = new Replica('hostile', state);
    const outcomes = [1, 2, 3, 4].map((version) => {
      const deeper = `${'['.repeat(300)}"here"${']'.repeat(300)}`;
      const { frame, after } = replacing(bytes, '"here"', deeper, version);
      bytes = Buffer.from(after);
      return replica.apply(frame);
    });
    // 901 levels, and 1,201, of the 1,000 that there may be
    expect(outcomes).to.deep.equal(['applied', 'applied', 'applied', 'corrupt']);
    expect(() => parseFrozen(bytes.toString())).to.throw(SyntaxError);
  });
});
