import { expect } from 'chai';
import fc from 'fast-check';
import { decompress } from '../../src/core/compression.js';
import { JsonDocument } from '../../src/core/JsonDocument.js';
import { deepFreeze, type JsonValue, normalize } from '../../src/core/json.js';
import { SpliceBuilder } from '../../src/core/splice.js';
import { MAX_PIECES } from '../../src/core/spliceFormat.js';
import { nextState } from '../../src/replica/nextState.js';
import type { ReplicaState } from '../../src/replica/state.js';
import { CommitEncoder, changed, type Encoded, type ShadowMismatch } from '../../src/store/CommitEncoder.js';
import { seededRng } from '../helpers/random.js';

const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, index) => from + index);
const utf8 = (value: JsonValue): Buffer => Buffer.from(JSON.stringify(value));
const frozen = (value: unknown): JsonValue => deepFreeze(JSON.parse(JSON.stringify(value)) as JsonValue);

function stateOf(value: JsonValue, version = 1): ReplicaState {
  const document = JsonDocument.of(value);
  const { length, crc } = document.text;
  return { version, crc, value, bytes: length, at: 0, expiresAt: null, document };
}

/** What is sent to Redis beside the words that every commit has. */
function uploaded({ storage, payload }: Encoded): number {
  const bytes = payload.bytes === null ? 0 : Buffer.byteLength(payload.bytes);
  if (storage.form === 'whole') return Buffer.byteLength(storage.data) + bytes;
  return storage.plan.length + storage.data.length + storage.chunks.reduce((sum, { length }) => sum + length, 0) + bytes;
}

function encode(base: ReplicaState, value: JsonValue, encoder = new CommitEncoder('on')): Encoded {
  const next = changed(base, value, true, () => JsonDocument.of(value), null);
  return encoder.change(base, next, 2);
}

/** What a subscriber makes of the frame. */
function followed(base: ReplicaState, value: JsonValue, { payload, storage, crc, length }: Encoded): unknown {
  const data = storage.form === 'whole' ? Buffer.from(storage.data) : storage.data;
  const sent = payload.bytes === null ? (payload.kind === 'full' ? utf8(value) : data) : Buffer.from(payload.bytes);
  const source = { kind: payload.kind, version: base.version + 1, crc, baseCrc: base.crc, length, at: 1, expiresAt: null };
  const next = nextState(base, { ...source, payload: decompress(payload.encoding, sent, 16 * 1024 * 1024) });
  return typeof next === 'object' && 'state' in next ? next.state.value : next;
}

describe('CommitEncoder', () => {
  it('never sends a splice that readers refuse, however many places have changed', () => {
    const list = range(1, 120_000);
    const base = stateOf(frozen({ n: 0, list }));
    const value = normalize({ n: 1, list: list.map((n) => (n % 2 === 0 ? n + 1 : n)) }, { base: base.value as JsonValue });
    const encoded = encode(base, value);
    expect(followed(base, value, encoded)).to.deep.equal(value);
    const { splice } = (base.document as JsonDocument).derive(value);
    expect(splice.pieces.length).to.be.at.most(MAX_PIECES);
    const reversed = normalize({ n: 1, list: [...list].reverse() }, { base: base.value as JsonValue });
    expect(followed(base, reversed, encode(base, reversed))).to.deep.equal(reversed);
  });

  it('joins the bytes of many new children once', () => {
    const base = stateOf(frozen({ n: 0, list: [1] }));
    const list = [1, ...range(2, 40_000)];
    const value = normalize({ n: 0, list }, { base: base.value as JsonValue });
    const { concat } = Buffer;
    let copied = 0;
    Buffer.concat = (parts, length) => {
      const joined = concat(parts, length);
      copied += joined.length;
      return joined;
    };
    try {
      (base.document as JsonDocument).derive(value);
    } finally {
      Buffer.concat = concat;
    }
    // into the splice, into the text, into its chunks
    expect(copied).to.be.lessThan(8 * utf8(value).length);
  });

  it('finds by their bytes what was moved in a value that shares nothing with the one before', () => {
    const rng = seededRng(3);
    const turns = range(1, 200).map((n) => ({
      id: n,
      text: range(1, 20)
        .map(() => rng.int(0, 1e9).toString(36))
        .join(' '),
    }));
    const base = stateOf(frozen({ turns }));
    const value = normalize({ turns: [{ id: 0, text: 'first' }, ...turns] }, { base: base.value as JsonValue });
    const encoded = encode(base, value);
    expect(uploaded(encoded)).to.be.lessThan(1_000);
    expect(followed(base, value, encoded)).to.deep.equal(value);
  });

  it('sends scattered edits by the chunks they are in, not all of a document', () => {
    const list = range(1, 60_000).map((n) => n + 1_000_000);
    const base = stateOf(frozen({ list }));
    const edited = list.map((n, index) => (index % 600 === 0 ? n + 1 : n));
    const value = normalize({ list: edited }, { base: base.value as JsonValue });
    const encoded = encode(base, value);
    expect(encoded.length).to.be.greaterThan(400_000);
    expect(uploaded(encoded)).to.be.lessThan(20_000);
  });

  it('never sends more than the document and 32 bytes, but for a frame that saves one subscriber more than it costs', () => {
    const text = fc.string({ maxLength: 60, unit: 'grapheme' });
    const value = fc.record({
      a: text,
      list: fc.array(fc.oneof(text, fc.integer(), fc.constant(null)), { maxLength: 80 }),
      b: text,
    });
    const noise = fc.record({ size: fc.nat({ max: 40_000 }), seed: fc.nat() }).map(({ size, seed }) => {
      const rng = seededRng(seed);
      return { n: seed, noise: Array.from({ length: size / 8 }, () => rng.int(0, 2 ** 40).toString(36)).join('') };
    });
    let spliced = 0;
    fc.assert(
      fc.property(fc.oneof(value, noise), fc.oneof(value, noise), (before, after) => {
        const base = stateOf(frozen(before));
        const next = normalize(after, { base: base.value as JsonValue });
        const encoded = encode(base, next);
        // of a document in chunks their list as well
        const list = encoded.storage.form === 'plan' ? 72 * encoded.storage.chunks.length : 0;
        const frame = encoded.payload.bytes === null ? 0 : Buffer.byteLength(encoded.payload.bytes);
        const pays = 2 * frame <= encoded.length;
        expect(uploaded(encoded)).to.be.at.most(encoded.length + (encoded.base?.sha1 || !pays ? 32 : Math.max(32, frame)) + list);
        expect(followed(base, next, encoded)).to.deep.equal(next);
        if (encoded.payload.kind === 'splice') spliced += 1;
      }),
      { numRuns: 500 },
    );
    expect(spliced).to.be.greaterThan(0);
  });

  describe('in shadow', () => {
    const base = stateOf(frozen({ n: 1, text: 'x'.repeat(2_000) }));
    const value = normalize({ n: 2, text: 'x'.repeat(2_000) }, { base: base.value as JsonValue });
    const told: ShadowMismatch[] = [];
    beforeEach(() => {
      told.length = 0;
    });

    it('sends the whole document, and counts what would have been sent', () => {
      const encoder = new CommitEncoder('shadow', (found) => told.push(found));
      const encoded = encode(base, value, encoder);
      expect(encoded.storage).to.deep.equal({ form: 'whole', data: utf8(value) });
      expect(encoded.payload).to.deep.equal({ kind: 'full', encoding: '-', bytes: null });
      expect(encoder.counters).to.include({
        shadowed: 1,
        shadowMismatches: 0,
        spliced: 0,
        whole: 1,
        documentBytes: encoded.length,
      });
      expect(encoder.counters.shadowBytes).to.be.within(1, 200);
      expect(told).to.deep.equal([]);
    });

    it('tells of a derivation that is wrong, and sends the document as it is', () => {
      const encoder = new CommitEncoder('shadow', (found) => told.push(found));
      const right = changed(base, value, true, () => JsonDocument.of(value), null);
      const other = changed(base, frozen({ n: 3, text: 'x'.repeat(2_000) }), true, () => JsonDocument.of(value), null);
      const encoded = encoder.change(
        base,
        { ...right, document: other.document, splice: other.splice, rewrite: other.rewrite },
        2,
      );
      expect(encoded.storage).to.deep.equal({ form: 'whole', data: utf8(value) });
      expect(encoded.document().value).to.deep.equal(value);
      expect(encoder.counters.shadowMismatches).to.equal(1);
      expect(told[0]).to.deep.include({ baseVersion: 1, baseChecksum: base.crc, bytes: encoded.length });
    });

    it('tells of a splice that is wrong although the text is not', () => {
      const encoder = new CommitEncoder('shadow', (found) => told.push(found));
      const right = changed(base, value, true, () => JsonDocument.of(value), null);
      const builder = new SpliceBuilder(base.bytes);
      builder.copy(0, base.bytes);
      encoder.change(base, { ...right, splice: builder.build() }, 2);
      expect(told.map(({ found }) => found)).to.deep.equal(['the splice leads elsewhere']);
    });
  });
});
