import { expect } from 'chai';
import { crc32Hex } from '../../src/core/checksum.js';
import { JsonDocument } from '../../src/core/JsonDocument.js';
import { type JsonValue, normalize } from '../../src/core/json.js';
import { type Splice, SpliceBuilder } from '../../src/core/splice.js';
import { composeSplices } from '../../src/core/spliceCompose.js';
import { readSplice, writeSplice } from '../../src/core/spliceFormat.js';
import { seededRng } from '../helpers/random.js';

// Work is counted, not timed: what is copied, moved and looked at. Matching of bytes (findSplice) works in loops that nothing
// can be counted of from outside; its times for n and 4n stand in the benchmark.

interface Work {
  /** Bytes that `Buffer.concat` copied. */
  copied: number;
  /** Elements that `splice` had to move. */
  moved: number;
  /** Elements of the new array that were looked at. */
  read: number;
}

/** What was done meanwhile. */
function workOf(run: (work: Work) => unknown): Work {
  const work = { copied: 0, moved: 0, read: 0 };
  const { concat } = Buffer;
  const { splice } = Array.prototype;
  Buffer.concat = (list, length) => {
    const made = concat.call(Buffer, list, length) as Buffer<ArrayBuffer>;
    work.copied += made.length + list.length;
    return made;
  };
  // biome-ignore lint/suspicious/noExplicitAny: as Array has it
  Array.prototype.splice = function (this: any[], start: number, ...rest: any[]) {
    work.moved += Math.max(0, this.length - start);
    return splice.call(this, start, ...(rest as [number]));
  };
  try {
    run(work);
  } finally {
    Buffer.concat = concat;
    Array.prototype.splice = splice;
  }
  return work;
}

/** The array, each reading of which counts. */
const watched = (list: readonly JsonValue[], work: Work): JsonValue[] =>
  new Proxy(list as JsonValue[], {
    get: (array, key, receiver) => {
      work.read += 1;
      return Reflect.get(array, key, receiver);
    },
  });

const N = 5_000;

/** Four times as much to do is no more than about four times the work. */
function expectLinear(run: (n: number) => (work: Work) => unknown): void {
  const [small, large] = [N, 4 * N].map((n) => workOf(run(n))) as [Work, Work];
  for (const what of ['copied', 'moved', 'read'] as const)
    expect(large[what], `${what}: ${small[what]} for n`).to.be.at.most(5 * small[what] + 500_000);
}

const rows = (count: number, from = 0): JsonValue[] =>
  Array.from({ length: count }, (_, id) => ({ id: id + from, name: `row ${id}` }));
const members = (count: number, name = 'key'): Record<string, JsonValue> =>
  Object.fromEntries(Array.from({ length: count }, (_, id) => [`${name} ${id}`, { id }]));

/** A document whose index is there already. */
function indexed(value: JsonValue): JsonDocument {
  const document = JsonDocument.of(normalize(value));
  document.derive(document.value);
  return document;
}

describe('Work on a change is in proportion to the change and the width of what it is in', function () {
  this.timeout(60_000);

  const derivations: Readonly<
    Record<string, (n: number) => readonly [JsonValue[], (before: readonly JsonValue[]) => JsonValue[]]>
  > = {
    'n elements appended': (n) => [rows(500), (before) => [...before, ...rows(n, 500)]],
    'n elements put in front': (n) => [rows(500), (before) => [...rows(n, 500), ...before]],
    'n elements put between all others': (n) => [rows(n), (before) => before.flatMap((row, id) => [row, { new: id }])],
    'every second of n removed': (n) => [rows(n), (before) => before.filter((_, id) => id % 2 === 0)],
    'every second of n changed': (n) => [
      rows(n),
      (before) => before.map((row, id) => (id % 2 === 0 ? row : { id, name: 'changed' })),
    ],
    'n elements reversed': (n) => [rows(n), (before) => before.toReversed()],
    'n elements in another order': (n) => {
      const rng = seededRng(n);
      return [rows(n), (before) => before.toSorted(() => rng.next() - 0.5)];
    },
    'n numbers reversed': (n) => [Array.from({ length: n }, (_, id) => 7 * id), (before) => before.toReversed()],
    'n equal elements': (n) => [Array.from({ length: n }, () => 'the same long text again'), (before) => [...before, ...before]],
  };
  for (const [what, change] of Object.entries(derivations)) {
    it(`derive: ${what}`, () => {
      expectLinear((n) => {
        const [first, change_] = change(n);
        const document = indexed(first);
        const next = normalize(change_(document.value as JsonValue[]), { base: document.value }) as JsonValue[];
        return (work) => document.derive(watched(next, work));
      });
    });
  }

  it('derive: n new keys', () => {
    expectLinear((n) => {
      const document = indexed(members(500));
      const next = normalize({ ...(document.value as object), ...members(n, 'new') }, { base: document.value });
      return () => document.derive(next);
    });
  });

  it('derive: n keys in another order', () => {
    expectLinear((n) => {
      const document = indexed(members(n));
      const entries = Object.entries(document.value as object).reverse();
      const next = normalize(Object.fromEntries(entries), { base: document.value });
      return () => document.derive(next);
    });
  });

  /** A splice that changes every third of n elements in the text: others are put in before it, or it is another one. */
  function scattered(document: JsonDocument, insert: string): Splice {
    const { text } = document;
    const bytes = text.bytes();
    const builder = new SpliceBuilder(bytes.length);
    let at = 0;
    for (let from = bytes.indexOf('{"id"', 30); from >= 0; from = bytes.indexOf('{"id"', from + 60)) {
      builder.copy(at, from - at);
      builder.insert(Buffer.from(insert));
      at = from;
    }
    builder.copy(at, bytes.length - at);
    return builder.build();
  }

  for (const [what, wrap, insert] of [
    ['elements put in', (n: number) => rows(n), '{"new":1},'],
    ['elements of several kinds put in', (n: number) => [{ list: rows(n) }], '[],2,'],
  ] as const) {
    it(`advance: n / 3 ${what}, all over`, () => {
      expectLinear((n) => {
        const document = indexed(wrap(n));
        const splice = scattered(document, insert);
        expect(splice.pieces.length).to.be.above(n / 4);
        return () => {
          const { document: next } = document.advance(splice);
          expect(next.text.length).to.equal(splice.targetLength);
          // it was done by parts: a document that was parsed as a whole has no index yet
          expect(crc32Hex(Buffer.from(JSON.stringify(next.value)))).to.equal(next.text.crc);
        };
      });
    });
  }

  it('readSplice and apply: n copies and inserts, back and forth', () => {
    expectLinear((n) => {
      const document = indexed(rows(n));
      const { length } = document.text;
      const builder = new SpliceBuilder(length);
      for (let piece = 0; piece < n; piece += 1) {
        builder.copy((piece * 7_919) % (length - 20), 1 + (piece % 19));
        builder.insert(Buffer.from('x'));
      }
      const { bytes } = writeSplice(builder.build());
      return () => document.text.apply(readSplice(bytes));
    });
  });

  it('readSplice: n inserts that follow each other', () => {
    expectLinear((n) => {
      const instructions = Buffer.alloc(n, 3);
      const head: number[] = [];
      for (const number of [0, n, n]) {
        let left = number;
        for (; left >= 128; left >>= 7) head.push((left & 127) | 128);
        head.push(left);
      }
      const bytes = Buffer.concat([Buffer.from([1, ...head]), instructions, Buffer.alloc(n, 'x')]);
      return () => expect(readSplice(bytes).pieces).to.have.length(1);
    });
  });

  it('composeSplices: n pieces by n pieces', () => {
    expectLinear((n) => {
      const splice = (length: number): Splice => {
        const builder = new SpliceBuilder(length);
        for (let at = 0; at < length; at += 10) {
          builder.insert(Buffer.from('y'));
          builder.copy(at, 9);
        }
        return builder.build();
      };
      const first = splice(10 * n);
      const second = splice(first.targetLength);
      return () => composeSplices(first, second);
    });
  });

  it('derive: what it makes has no more pieces than a reader takes, however many elements change places', () => {
    const document = indexed(Array.from({ length: 150_000 }, (_, id) => 3 * id));
    const next = normalize((document.value as JsonValue[]).toReversed());
    const { splice } = document.derive(next);
    expect(splice.pieces.length).to.be.at.most(65_536);
    expect(readSplice(writeSplice(splice).bytes).targetLength).to.equal(splice.targetLength);
  });
});
