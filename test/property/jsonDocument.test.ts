import { expect } from 'chai';
import fc from 'fast-check';
import { findSplice } from '../../src/core/blockMatch.js';
import { crc32Hex } from '../../src/core/checksum.js';
import { DocumentText } from '../../src/core/DocumentText.js';
import { isContextError } from '../../src/core/errors.js';
import { type Derived, JsonDocument } from '../../src/core/JsonDocument.js';
import {
  isContainer,
  isObject,
  type JsonArray,
  type JsonObject,
  type JsonValue,
  MAX_DEPTH,
  normalize,
} from '../../src/core/json.js';
import { type Piece, type Splice, SpliceBuilder } from '../../src/core/splice.js';
import { composeSplices } from '../../src/core/spliceCompose.js';
import { applySplice, readSplice, writeSplice } from '../../src/core/spliceFormat.js';
import { deriveSplice } from '../../src/core/textDerive.js';
import { nextState } from '../../src/replica/nextState.js';
import type { ReplicaState } from '../../src/replica/state.js';
import { runOnDraft } from '../../src/store/draft.js';
import {
  editDraft,
  edited,
  isDeepFrozen,
  plainIndex,
  randomDocument,
  randomKey,
  randomValue,
  strangeText,
} from '../helpers/jsonEdits.js';
import { type Rng, seededRng } from '../helpers/random.js';
import { insertedBytes } from '../helpers/splices.js';

const utf8 = (value: JsonValue): Buffer => Buffer.from(JSON.stringify(value));

/** A splice as it travels: written, and read again. */
function travelled(splice: Splice): Splice {
  const { bytes } = writeSplice(splice);
  const read = readSplice(bytes);
  expect(writeSplice(read).bytes.equals(bytes), 'written again').to.equal(true);
  return read;
}

/** Two splices as one; null where that would have more pieces than a reader takes: then the document is read. */
function together(first: Splice, second: Splice): Splice | null {
  try {
    return travelled(composeSplices(first, second));
  } catch (error) {
    if (isContextError(error) && error.message.includes('pieces')) return null;
    throw error;
  }
}

/** Everything that is true of a document, whatever led to it; its text is that of `JSON.stringify` where `canonical`. */
function checkDocument(document: JsonDocument, value: JsonValue, bytes: Buffer): void {
  expect(document.text.bytes().equals(bytes), 'text').to.equal(true);
  expect(document.text.crc).to.equal(crc32Hex(bytes));
  // not as strings: what chai says of long ones takes minutes
  expect(JSON.stringify(document.value) === JSON.stringify(value), 'value').to.equal(true);
  expect(isDeepFrozen(document.value), 'frozen').to.equal(true);
  const { kept, fresh } = document.index;
  expect(JSON.stringify(plainIndex(kept)) === JSON.stringify(plainIndex(fresh)), 'index').to.equal(true);
}

function checkDerived(before: JsonDocument, bytes: Buffer, next: JsonValue, { document, splice, rewrite }: Derived): Buffer {
  const expected = utf8(next);
  expect(document.value === next, 'the value itself').to.equal(true);
  expect(rewrite.text).to.equal(document.text);
  expect(applySplice(bytes, splice).equals(expected), 'what the splice makes').to.equal(true);
  expect(applySplice(bytes, travelled(splice)).equals(expected), 'what its bytes make').to.equal(true);
  checkDocument(document, next, expected);
  // the one it came from is as it was
  expect(before.text.bytes().equals(bytes), 'the old text').to.equal(true);
  return expected;
}

/** `advance` and `JSON.parse` agree, in what they make as in what they refuse. */
function checkAdvance(document: JsonDocument, splice: Splice): JsonDocument | null {
  const bytes = applySplice(document.text.bytes(), splice);
  let expected: JsonValue;
  try {
    expected = JSON.parse(bytes.toString()) as JsonValue;
  } catch {
    expect(() => document.advance(splice, crc32Hex(bytes))).to.throw(SyntaxError);
    return null;
  }
  const derived = document.advance(splice, crc32Hex(bytes));
  expect(derived.rewrite.text).to.equal(derived.document.text);
  checkDocument(derived.document, expected, bytes);
  return derived.document;
}

async function next(rng: Rng, value: JsonValue): Promise<JsonValue> {
  if (!isContainer(value) || rng.chance(0.5)) return edited(rng, value);
  return runOnDraft(value, (draft) => editDraft(rng, value, draft as JsonValue[]), MAX_DEPTH);
}

/** The same splice, cut otherwise: copies become inserts, and inserts copies of the same bytes from elsewhere. */
function disguised(rng: Rng, base: Buffer, splice: Splice): Splice {
  const builder = new SpliceBuilder(splice.baseLength);
  const elsewhere = (bytes: Buffer): void => {
    const places: number[] = [];
    for (let at = base.indexOf(bytes); bytes.length > 0 && at >= 0 && places.length < 20; at = base.indexOf(bytes, at + 1))
      places.push(at);
    if (places.length > 0 && rng.chance(0.7)) builder.copy(rng.pick(places), bytes.length);
    else builder.insert(bytes);
  };
  for (const piece of splice.pieces as readonly Piece[]) {
    const bytes = piece.bytes ?? base.subarray(piece.from, piece.from + piece.length);
    const cuts = [0, bytes.length, ...Array.from({ length: rng.int(0, 3) }, () => rng.int(0, Math.min(40, bytes.length)))];
    if (rng.chance(0.5)) cuts.push(Math.max(0, bytes.length - rng.int(0, 40)));
    cuts.sort((x, y) => x - y);
    for (let n = 1; n < cuts.length; n += 1) {
      const [from, to] = [cuts[n - 1] as number, cuts[n] as number];
      if (piece.bytes === undefined && (to - from > 200 || rng.chance(0.5))) builder.copy(piece.from + from, to - from);
      else elsewhere(bytes.subarray(from, to));
    }
  }
  return builder.build();
}

const TOKEN = /"(?:[^"\\]|\\.)*"|[[\]{},:]|[^[\]{},:"]+/g;
const FRAGMENTS = [
  '"c":3},{',
  '},{',
  '],[',
  ',',
  '1',
  '2,3',
  '"x":1,',
  ',"__proto__":{}',
  '"7":1,',
  ',"0":2',
  '"a":1,"7":1,',
  '[',
  ']',
  '{}',
  '"',
  '\\',
  '\\u00',
  'é',
  ' ',
  '"a":{},',
  '1e',
  '-0',
];

/** Takes whole tokens or single bytes of a text out, puts them elsewhere or others in: where it likes, across everything. */
function scattered(rng: Rng, bytes: Buffer): Splice {
  const places = [0];
  for (const [token] of bytes.toString('latin1').matchAll(TOKEN)) places.push((places.at(-1) as number) + token.length);
  const first = rng.int(0, places.length - 1);
  const place = (near: number): number =>
    rng.chance(0.85) ? (places[Math.min(places.length - 1, Math.max(0, near))] as number) : rng.int(0, bytes.length);
  const span = rng.pick([0, 0, 1, 1, 2, 3, 4, 8, 20]);
  const [from, to] = [place(first), place(first + span)].sort((x, y) => x - y) as [number, number];
  const builder = new SpliceBuilder(bytes.length);
  const copy = (a: number, b: number): void => builder.copy(a, b - a);
  const kind = rng.pick(['delete', 'fragment', 'twice', 'swap', 'byte']);
  copy(0, from);
  if (kind === 'fragment') builder.insert(Buffer.from(rng.pick(FRAGMENTS)));
  else if (kind === 'byte') builder.insert(Buffer.from([rng.pick([0x22, 0x2c, 0x31, 0x5c, 0x80, 0xc3, 0xff, 0xf0])]));
  else if (kind === 'twice') {
    copy(from, to);
    if (rng.chance(0.7)) builder.insert(Buffer.from(','));
    copy(from, to);
  } else if (kind === 'swap') {
    const after = Math.max(to, place(first + span + rng.int(1, 12)));
    copy(to, after);
    if (rng.chance(0.4)) builder.insert(Buffer.from(','));
    copy(from, to);
    copy(after, bytes.length);
    return builder.build();
  }
  copy(rng.chance(0.5) || kind === 'delete' || kind === 'byte' ? to : from, bytes.length);
  return builder.build();
}

const parses = (bytes: Buffer): boolean => {
  try {
    JSON.parse(bytes.toString());
    return true;
  } catch {
    return false;
  }
};

/**
 * Whether a change was told by identity: where that would insert much, the pieces may have been found in the bytes. They go across elements then, and
 * what they go across is parsed.
 */
function byIdentity(document: JsonDocument, value: JsonValue): boolean {
  const { splice } = deriveSplice(document.text, document.value, document.index.kept, value);
  return insertedBytes(splice).length <= Math.max(256, splice.baseLength >> 6);
}

/** Fails where a container that stays in its place in one pair of values is another one in the second pair. */
function expectShared(a: JsonValue, b: JsonValue, c: JsonValue, d: JsonValue): void {
  if (!isContainer(a) || !isContainer(b)) return;
  if (a === b) expect(d === c, 'what has not changed').to.equal(true);
  else if (isObject(a) && isObject(b)) {
    for (const key of Object.keys(a)) {
      if (!Object.hasOwn(b, key)) continue;
      const [x, y, z, w] = [a, b, c, d].map((value) => (value as JsonObject)[key] as JsonValue);
      expectShared(x as JsonValue, y as JsonValue, z as JsonValue, w as JsonValue);
    }
  } else if (Array.isArray(a) && Array.isArray(b) && a.length === b.length) {
    // where elements change places, a number or a text as well, their neighbours may be parsed again
    const moved = b.some((element, index) => element !== a[index] && a.includes(element));
    for (let n = 0; n < a.length && !moved; n += 1) {
      const [x, y, z, w] = [a, b, c, d].map((value) => (value as JsonArray)[n] as JsonValue);
      expectShared(x as JsonValue, y as JsonValue, z as JsonValue, w as JsonValue);
    }
  }
}

/** Documents with containers of hundreds to thousands of children, on both sides of where an object becomes a dictionary. */
function wideDocument(rng: Rng): JsonObject {
  const count = rng.pick([100, 127, 128, 129, 140, 400, 1_500, 4_000]);
  const keys = (index: number): string => (rng.chance(0.01) ? randomKey(rng) : `key ${index}`);
  const children: Record<string, () => JsonValue> = {
    rows: () => Array.from({ length: count }, (_, id) => ({ id, name: `row ${id}`, price: id / 4 })),
    texts: () => Array.from({ length: count }, (_, id) => `text ${id} é`.repeat(rng.int(0, 4))),
    numbers: () => Array.from({ length: 5 * count }, () => rng.pick([rng.int(0, 9), rng.int(0, 1e6), rng.next()])),
    lists: () => Array.from({ length: 4 }, () => Array.from({ length: count }, (_, id) => [id])),
    state: () => Object.fromEntries(Array.from({ length: count }, (_, id) => [keys(id), { status: 'ok', id }])),
    counters: () => Object.fromEntries(Array.from({ length: count }, (_, id) => [keys(id), id])),
    byId: () =>
      Object.fromEntries(Array.from({ length: count }, (_, id) => [rng.chance(0.5) ? String(3 * id) : `id ${id}`, { id }])),
  };
  const chosen = Object.keys(children).filter(() => rng.chance(0.4));
  return normalize(
    Object.fromEntries((chosen.length === 0 ? ['state'] : chosen).map((name) => [name, children[name]?.() ?? null])),
  ) as JsonObject;
}

/** The document with edits all over one of its containers; what they do not touch is the same. */
function wideEdited(rng: Rng, document: JsonObject): JsonObject {
  const name = rng.pick(Object.keys(document));
  const container = document[name] as JsonArray | JsonObject;
  const places = rng.pick([1, 1, 1, 2, 5, 40, 300]);
  const child = (value: JsonValue | undefined): JsonValue => {
    if (isObject(value) && rng.chance(0.7)) return { ...value, status: `changed ${rng.int(0, 99)}` };
    if (typeof value === 'number' && rng.chance(0.7)) return value + rng.int(1, 1_000);
    return rng.chance(0.05) ? randomValue(rng, rng.pick([30, 300, 3_000])) : rng.pick(['new', 7, { id: 'new' }]);
  };
  let next: JsonValue;
  // what is set alone leaves every key and every length as it is
  const kinds = rng.chance(0.5) ? (['set'] as const) : (['set', 'insert', 'remove', 'move', 'many'] as const);
  if (Array.isArray(container)) {
    const list: JsonValue[] = [...container];
    for (let left = places; left > 0; left -= 1) {
      const at = rng.chance(0.1) ? list.length : rng.int(0, Math.max(0, list.length - 1));
      const kind = rng.pick(kinds);
      if (kind === 'set' && at < list.length) list[at] = child(list[at]);
      else if (kind === 'insert' || kind === 'set') list.splice(at, 0, child(undefined));
      else if (kind === 'remove') list.splice(at, rng.pick([1, 1, 3, 200]));
      else if (kind === 'move') list.splice(rng.int(0, list.length), 0, ...list.splice(at, rng.pick([1, 30])));
      else if (left > 20) list.splice(at, 0, child(undefined));
      else list.splice(at, rng.int(0, 50), ...Array.from({ length: rng.pick([3, 200, 1_100]) }, () => child(undefined)));
    }
    next = rng.chance(0.02) ? list.reverse() : list;
  } else {
    const entries = Object.entries(container as JsonObject);
    const key = (): string =>
      rng.chance(0.2) ? randomKey(rng) : rng.chance(0.3) ? String(rng.int(0, 20_000)) : `new ${rng.int(0, 999)}`;
    for (let left = places; left > 0; left -= 1) {
      const at = rng.int(0, Math.max(0, entries.length - 1));
      const kind = entries.length === 0 ? 'insert' : rng.pick(kinds);
      const entry = entries[at] as [string, JsonValue];
      if (kind === 'set') entries[at] = [entry[0], child(entry[1])];
      else if (kind === 'insert') entries.splice(rng.chance(0.5) ? entries.length : at, 0, [key(), child(undefined)]);
      else if (kind === 'remove') entries.splice(at, rng.pick([1, 1, 3, 200]));
      else if (kind === 'move') entries.splice(rng.int(0, entries.length), 0, ...entries.splice(at, rng.pick([1, 30])));
      else entries[at] = [key(), entry[1]];
    }
    next = Object.fromEntries(entries);
  }
  return normalize({ ...document, [name]: next }, { base: document, maxDepth: MAX_DEPTH }) as JsonObject;
}

describe('JsonDocument, with wide containers and all that the store runs', function () {
  this.timeout(120_000);

  it('goes by the bytes of splices through nextState to the same values, texts and indexes', () => {
    const seen = { chunked: 0, whole: 0, scattered: 0, keys: 0, moved: 0 };
    fc.assert(
      fc.property(fc.nat(), (seed) => {
        const rng = seededRng(seed);
        let writer = JsonDocument.of(wideDocument(rng));
        let bytes = utf8(writer.value);
        const stored = JsonDocument.parse(DocumentText.of(bytes));
        const facts = { version: 1, at: 0, expiresAt: null };
        let state: ReplicaState = { ...facts, crc: crc32Hex(bytes), bytes: bytes.length, value: stored.value, document: stored };
        for (let n = 0; n < 5; n += 1) {
          const before = writer.value as JsonObject;
          const value = wideEdited(rng, before);
          const derived = writer.derive(value);
          const expected = checkDerived(writer, bytes, value, derived);
          const payload = writeSplice(derived.splice).bytes;
          const crc = crc32Hex(expected);
          const stepped = nextState(state, {
            ...{ kind: 'splice', payload, version: state.version + 1, at: 0, expiresAt: null },
            ...{ baseCrc: state.crc, crc, length: expected.length },
          });
          if (typeof stepped === 'string' || 'expected' in stepped) expect.fail(JSON.stringify(stepped));
          const { document } = stepped.state;
          checkDocument(document as JsonDocument, value, expected);
          expect(stepped.state.value).to.equal(document?.value);
          if (byIdentity(writer, value)) expectShared(before, value, state.value as JsonValue, stepped.state.value as JsonValue);
          // the state before it is as it was
          expect(JSON.stringify(state.value) === JSON.stringify(before), 'the value before').to.equal(true);
          if (rng.chance(0.2)) checkAdvance(writer, disguised(rng, bytes, derived.splice));
          // the index that came of advancing is gone on from by deriving, too
          if (rng.chance(0.3)) {
            const other = wideEdited(rng, document?.value as JsonObject);
            checkDerived(document as JsonDocument, expected, other, (document as JsonDocument).derive(other));
          }
          seen[(document as JsonDocument).text.chunked ? 'chunked' : 'whole'] += 1;
          if (derived.splice.pieces.length > 128) seen.scattered += 1;
          for (const name of Object.keys(value)) {
            const [a, b] = [before[name], value[name]];
            if (isObject(a) && isObject(b) && a !== b && Object.keys(a).join() !== Object.keys(b).join()) seen.keys += 1;
            if (Array.isArray(a) && Array.isArray(b) && a.length !== b.length) seen.moved += 1;
          }
          [writer, bytes, state] = [derived.document, expected, stepped.state];
        }
      }),
      { numRuns: 70, endOnFailure: true },
    );
    // it was about all of that
    for (const [what, times] of Object.entries(seen)) expect(times, what).to.be.above(10);
  });
});

describe('JsonDocument, for any edits one after the other', function () {
  this.timeout(60_000);

  it('derives splices that lead from text to text, and advances by them to the same', async () => {
    let indexed = 0;
    await fc.assert(
      fc.asyncProperty(fc.nat(), async (seed) => {
        const rng = seededRng(seed);
        let writer = JsonDocument.of(randomDocument(rng));
        let bytes = utf8(writer.value);
        let reader = JsonDocument.parse(DocumentText.of(bytes));
        let late = reader;
        let missed: Splice | null = null;
        for (let n = 0; n < 8; n += 1) {
          const value = await next(rng, writer.value);
          const derived = writer.derive(value);
          const expected = checkDerived(writer, bytes, value, derived);
          const splice = travelled(derived.splice);
          const read = reader.advance(splice, crc32Hex(expected)).document;
          checkDocument(read, value, expected);
          if (byIdentity(writer, value)) expectShared(writer.value, value, reader.value, read.value);
          missed = missed === null ? splice : together(missed, splice);
          if (missed === null) late = read;
          else if (rng.chance(0.3)) {
            late = late.advance(missed, crc32Hex(expected)).document;
            checkDocument(late, value, expected);
            missed = null;
          }
          if (derived.document.index.kept !== undefined) indexed += 1;
          [writer, reader, bytes] = [derived.document, read, expected];
        }
      }),
      { numRuns: 250, endOnFailure: true },
    );
    expect(indexed, 'documents that had an index').to.be.above(500);
  });

  it('advances by splices that were found in the bytes alone, however they are cut', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(), async (seed) => {
        const rng = seededRng(seed);
        let document = JsonDocument.of(randomDocument(rng));
        for (let n = 0; n < 6; n += 1) {
          const value = await next(rng, document.value);
          const bytes = document.text.bytes();
          const splice = findSplice(bytes, utf8(value));
          const cut = disguised(rng, bytes, rng.chance(0.5) ? splice : document.derive(value).splice);
          expect(checkAdvance(document, cut)).to.not.equal(null);
          document = checkAdvance(document, splice) as JsonDocument;
        }
      }),
      { numRuns: 200, endOnFailure: true },
    );
  });

  it('reads what JSON.parse reads after any splice, and refuses what that refuses', async () => {
    let [valid, refused] = [0, 0];
    await fc.assert(
      fc.asyncProperty(fc.nat(), async (seed) => {
        const rng = seededRng(seed);
        let document = JsonDocument.of(normalize(randomValue(rng, rng.pick([1_200, 2_000, 4_000]))));
        for (let n = 0; n < 12; n += 1) {
          const bytes = document.text.bytes();
          if (bytes.length > 12_000) return;
          let splice = scattered(rng, bytes);
          // most of them leave no JSON: enough of those that do are wanted
          for (let tries = 0; tries < 12 && n % 4 !== 0 && !parses(applySplice(bytes, splice)); tries += 1)
            splice = scattered(rng, bytes);
          const advanced = checkAdvance(document, splice);
          checkAdvance(document, disguised(rng, bytes, splice));
          if (advanced === null) refused += 1;
          else {
            valid += 1;
            document = advanced;
          }
          const { value } = document;
          if (rng.chance(0.2)) {
            const changed = await next(rng, value).catch(() => value);
            const derived = document.derive(changed);
            checkDerived(document, document.text.bytes(), changed, derived);
            document = derived.document;
          }
        }
      }),
      { numRuns: 400, endOnFailure: true },
    );
    expect(valid, 'splices that made JSON').to.be.above(1_000);
    expect(refused, 'splices that made none').to.be.above(300);
  });

  it('takes texts that JSON.stringify would not write, and goes on from them exactly', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(), async (seed) => {
        const rng = seededRng(seed);
        let { value } = JsonDocument.of(randomDocument(rng));
        if (utf8(value).length > 20_000) value = normalize(randomValue(rng, 2_000));
        const strange = (): Buffer => Buffer.from(strangeText(rng, value, rng.pick([0, 0.01, 0.3])));
        let document = JsonDocument.parse(DocumentText.of(strange()));
        for (let n = 0; n < 5; n += 1) {
          value = await next(rng, document.value);
          if (rng.chance(0.5)) {
            const derived = document.derive(value);
            checkDerived(document, document.text.bytes(), value, derived);
            document = derived.document;
          } else {
            const splice = findSplice(document.text.bytes(), strange());
            document = checkAdvance(document, splice) as JsonDocument;
            expect(document).to.not.equal(null);
          }
        }
      }),
      { numRuns: 200, endOnFailure: true },
    );
  });
});
