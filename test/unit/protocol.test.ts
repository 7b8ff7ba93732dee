/**
 * The delta protocol as it is written down and as it was recorded, by this code and by a second client that knows only the page: the
 * examples of docs/DELTA_PROTOCOL.md, and every corpus of test/fixtures/frames, undamaged and with single bits flipped.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { expect } from 'chai';
import { crc32Hex, sha1Hex } from '../../src/core/checksum.js';
import { ContextError } from '../../src/core/errors.js';
import { FrameReader, frameHeader2 } from '../../src/core/frame.js';
import { type JsonValue, parseFrozen } from '../../src/core/json.js';
import { applyPatch as applyPatchOfSource, type Patch } from '../../src/core/patch.js';
import { logEntry } from '../../src/redis/logEntries.js';
import { replay } from '../../src/replica/logReplay.js';
import { Replica } from '../../src/replica/Replica.js';
import { absent, type ReplicaState } from '../../src/replica/state.js';
import { type Example, field, fromHex, readExamples } from '../helpers/protocolExamples.js';
import { type Rng, seededRng } from '../helpers/random.js';
import { applyPatch, applySplice, crcHex, type Outcome, ReferenceClient, shaHex } from '../helpers/referenceClient.js';

const PAGE = 'docs/DELTA_PROTOCOL.md';
const FRAMES = 'test/fixtures/frames';

/** What both clients are to a test. */
interface Client {
  readonly version: number;
  readonly document: string | null;
  readonly expiresAt: number | null;
  message(message: Buffer): Outcome;
  entry(id: string, fields: ReadonlyMap<string, Buffer>): Outcome;
}

interface Held {
  readonly version: number;
  readonly document: string | null;
}

function stateOf({ version, document }: Held): ReplicaState {
  if (document === null) return absent(version);
  const bytes = Buffer.from(document);
  const value = parseFrozen(document);
  return { version, crc: crc32Hex(bytes), value, bytes: bytes.length, at: 0, expiresAt: null };
}

/** This code, as far as a subscriber uses it. */
class SourceClient implements Client {
  readonly #replica: Replica;
  readonly #reader = new FrameReader();
  #broken = false;

  constructor(held: Held) {
    this.#replica = new Replica('corpus', stateOf(held));
  }
  get version(): number {
    return this.#replica.version;
  }
  get document(): string | null {
    return this.#replica.state.value === undefined ? null : JSON.stringify(this.#replica.state.value);
  }
  get expiresAt(): number | null {
    return this.#replica.state.expiresAt;
  }
  message(message: Buffer): Outcome {
    let frame: ReturnType<FrameReader['read']>;
    try {
      frame = this.#reader.read(message);
    } catch (error) {
      expect(error).to.be.instanceOf(ContextError).with.property('code', 'BAD_FRAME');
      this.#broken = true;
      return 'sync';
    }
    if (frame === null) return 'more';
    if (this.#broken) return 'sync';
    const outcome = this.#replica.apply(frame);
    if (outcome === 'applied' || outcome === 'ignored') return outcome;
    this.#broken = true;
    return 'sync';
  }
  entry(id: string, fields: ReadonlyMap<string, Buffer>): Outcome {
    const flat = [...fields].flatMap(([name, value]) => [Buffer.from(name), value]);
    const [next] = replay(this.#replica.state, [logEntry('x', [Buffer.from(id), flat], false)]).steps;
    if (next === undefined) return 'sync';
    this.#replica.move(next.state, next.step);
    return 'applied';
  }
}

/** The other one, as the same. */
class OtherClient implements Client {
  readonly #client = new ReferenceClient();

  constructor(held: Held) {
    this.#client.load(held.version, held.document === null ? null : Buffer.from(held.document));
  }
  get version(): number {
    return this.#client.version;
  }
  get document(): string | null {
    return this.#client.document?.toString() ?? null;
  }
  get expiresAt(): number | null {
    return this.#client.expiresAt;
  }
  message(message: Buffer): Outcome {
    return this.#client.message(message);
  }
  entry(id: string, fields: ReadonlyMap<string, Buffer>): Outcome {
    return this.#client.entry(id, fields);
  }
}

const CLIENTS: Readonly<Record<string, (held: Held) => Client>> = {
  'this code': (held) => new SourceClient(held),
  'a client made from the page': (held) => new OtherClient(held),
};
const NOTHING: Held = { version: 0, document: null };

/** Flipped once, bit by bit. */
function flipped(bytes: Buffer, bit: number): Buffer {
  const damaged = Buffer.from(bytes);
  damaged.writeUInt8(damaged.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
  return damaged;
}

describe(PAGE, () => {
  const examples = readExamples(PAGE);
  const each = (kind: string, least: number, check: (example: Example) => void): void => {
    const found = examples.filter((example) => example.kind === kind);
    it(`has ${least} or more examples of a ${kind}`, () => expect(found.length).to.be.at.least(least));
    for (const example of found) it(`${kind}, line ${example.line}, is true`, () => check(example));
  };
  const needed = (example: Example, name: string): string => {
    const value = field(example, name);
    if (value === undefined) throw new Error(`an example of a ${example.kind} has no ${name}`);
    return value;
  };
  it('has no examples of another kind', () => {
    const kinds = ['checksum', 'frame', 'answer', 'splice', 'refused splice', 'patch', 'refused frame', 'chunks'];
    expect(new Set(examples.map(({ kind }) => kind))).to.have.all.keys(kinds);
  });

  each('checksum', 2, (example) => {
    const text = needed(example, 'text');
    for (const crc of [crc32Hex(text), crcHex(Buffer.from(text))]) expect(crc).to.equal(needed(example, 'crc'));
    for (const sha of [sha1Hex(text), shaHex(Buffer.from(text))]) expect(sha).to.equal(needed(example, 'sha'));
  });

  each('frame', 12, (example) => {
    const hex = field(example, 'payload hex');
    const payload = hex === undefined ? Buffer.from(field(example, 'payload') ?? '') : fromHex(hex);
    const header = needed(example, 'header');
    const parts = example.fields.filter(([name]) => name === 'part').map(([, text]) => Buffer.from(text));
    const messages = [Buffer.concat([Buffer.from(`${header}\n`), payload]), ...parts];
    const [base, target] = [field(example, 'base') ?? null, field(example, 'target') ?? null];
    const reader = new FrameReader();
    const frame = messages.map((message) => reader.read(message)).at(-1);
    if (frame === null || frame === undefined) throw new Error('it is not complete');
    if (frame.protocol === 2) expect(frameHeader2(frame)).to.equal(`${header}\n`);
    else if (header.split(' ')[4] !== '-') expect(header.split(' ')[4]).to.equal(sha1Hex(target ?? ''));
    for (const [name, make] of Object.entries(CLIENTS)) {
      const client = make({ version: frame.baseVersion, document: base });
      const outcomes = messages.map((message) => client.message(message));
      expect(outcomes.at(-1), name).to.equal(frame.kind === 'touch' ? 'ignored' : 'applied');
      expect(client, name).to.include({ document: target, version: frame.version, expiresAt: frame.expiresAt });
    }
  });

  each('answer', 7, (example) => {
    const hex = field(example, 'payload hex');
    const payload = hex === undefined ? Buffer.from(field(example, 'payload') ?? '') : fromHex(hex);
    const message = Buffer.concat([Buffer.from(`${needed(example, 'header')}\n`), payload]);
    const [base, target] = [field(example, 'base') ?? null, field(example, 'target') ?? null];
    const frame = new FrameReader().read(message);
    if (frame === null) throw new Error('it is not complete');
    const client = new ReferenceClient();
    const load = (version: number, document: string | null): void =>
      client.load(version, document === null ? null : Buffer.from(document));
    load(frame.baseVersion, base);
    expect(client.answer(message)).to.equal('applied');
    expect([client.version, client.document?.toString() ?? null]).to.deep.equal([frame.version, target]);
    // the answer to somebody else's question does nothing but make it ask again
    load(frame.baseVersion, '"other"');
    expect(client.answer(message)).to.equal(frame.version > frame.baseVersion || frame.kind === 'expired' ? 'sync' : 'ignored');
    expect(client.document?.toString()).to.equal('"other"');
    if (frame.version > frame.baseVersion || frame.kind === 'expired') return;
    // on a channel nobody starts over
    for (const [name, make] of Object.entries(CLIENTS)) {
      const copy = make({ version: frame.baseVersion, document: base });
      expect(copy.message(message), name).to.be.oneOf(['ignored', 'sync']);
      expect(copy, name).to.include({ version: frame.baseVersion, document: base });
    }
    if (payload.length === 0) return;
    load(frame.baseVersion, base);
    expect(client.answer(Buffer.concat([message.subarray(0, -1), Buffer.from(']')]))).to.equal('sync');
    expect(client.document?.toString() ?? null).to.equal(base);
  });

  it('takes a binary part that looks like a header for one, and does no more than a full read for it', () => {
    const target = 't'.repeat(300);
    const splice = Buffer.from('lc2 \n not a header');
    const announced = frameHeader2({
      ...{ kind: 'splice', encoding: '-', parts: 3, version: 2, crc: crc32Hex(target), length: target.length },
      ...{ baseVersion: 1, baseCrc: crc32Hex('1'), at: 0, expiresAt: null, operation: '-', by: 'test' },
    });
    for (const [name, make] of Object.entries(CLIENTS)) {
      const client = make({ version: 1, document: '1' });
      const outcomes = [Buffer.from(announced), Buffer.from('01', 'hex'), splice, splice].map((one) => client.message(one));
      expect(outcomes, name).to.deep.equal(['more', 'more', 'sync', 'sync']);
      expect(client.document, name).to.equal('1');
    }
  });

  /** A frame of nothing but this splice, which is right about everything else. */
  const spliceFrame = (base: string, target: string, splice: Buffer): Buffer =>
    Buffer.concat([
      Buffer.from(
        frameHeader2({
          ...{ kind: 'splice', encoding: '-', parts: 0, version: 2, crc: crc32Hex(target), length: Buffer.byteLength(target) },
          ...{ baseVersion: 1, baseCrc: crc32Hex(base), at: 0, expiresAt: null, operation: '-', by: 'test' },
        }),
      ),
      splice,
    ]);

  each('splice', 4, (example) => {
    const [base, target, splice] = [needed(example, 'base'), needed(example, 'target'), fromHex(needed(example, 'hex'))];
    expect(applySplice(Buffer.from(base), splice).toString()).to.equal(target);
    for (const [name, make] of Object.entries(CLIENTS)) {
      const client = make({ version: 1, document: base });
      expect(client.message(spliceFrame(base, target, splice)), name).to.equal('applied');
      expect(client.document, name).to.equal(target);
    }
  });

  each('refused splice', 1, (example) => {
    const base = needed(example, 'base');
    // what comes out where somebody looks away
    const target = needed(example, 'target');
    const splices = example.fields.slice(2);
    expect(splices).to.have.length.above(10);
    for (const [why, hex] of splices) {
      for (const [name, make] of Object.entries(CLIENTS)) {
        const client = make({ version: 1, document: base });
        expect(client.message(spliceFrame(base, target, fromHex(hex))), `${why}, ${name}`).to.equal('sync');
        expect(client.document, `${why}, ${name}`).to.equal(base);
      }
    }
  });

  each('patch', 1, (example) => {
    const [base, patch, target] = [needed(example, 'base'), needed(example, 'patch'), needed(example, 'target')];
    expect(applyPatch(Buffer.from(base), Buffer.from(patch)).toString()).to.equal(target);
    expect(JSON.stringify(applyPatchOfSource(JSON.parse(base) as JsonValue, JSON.parse(patch) as Patch))).to.equal(target);
  });

  each('refused frame', 1, (example) => {
    const payload = '{"turns":3,"text":"hello"}';
    for (const [why, header] of example.fields) {
      for (const [name, make] of Object.entries(CLIENTS)) {
        const client = make(NOTHING);
        expect(client.message(Buffer.from(`${header}\n${payload}`)), `${why}, ${name}`).to.equal('sync');
        expect(client.document, `${why}, ${name}`).to.equal(null);
      }
    }
  });

  each('chunks', 1, (example) => {
    const chunks = `${needed(example, 'chunks')}\n`;
    const document = needed(example, 'document');
    expect(sha1Hex(chunks)).to.equal(needed(example, 'sha'));
    expect(crc32Hex(document)).to.equal(needed(example, 'crc'));
    const pieces = chunks.split('\n').slice(0, -1);
    const texts = pieces.map((line) => {
      const [name = '', length, sha] = line.split(' ');
      const text = needed(example, name);
      expect({ length: String(Buffer.byteLength(text)), sha: sha1Hex(text) }).to.deep.equal({ length, sha });
      return text;
    });
    expect(texts.join('')).to.equal(document);
  });
});

interface Step extends Held {
  readonly what: string;
  readonly messages: readonly Buffer[];
  readonly crc: string;
  readonly expiresAt: number | null;
}
interface Corpus {
  readonly protocol: number;
  readonly steps: readonly Step[];
  readonly log: readonly { readonly id: string; readonly fields: ReadonlyMap<string, Buffer> }[];
}

interface CorpusFile {
  readonly protocol: number;
  readonly steps: readonly (Omit<Step, 'messages'> & { readonly messages: readonly string[] })[];
  readonly log: readonly { readonly id: string; readonly fields: Readonly<Record<string, string>> }[];
}

function readCorpus(file: string): Corpus {
  const { protocol, steps, log } = JSON.parse(readFileSync(join(FRAMES, file), 'utf8')) as CorpusFile;
  const bytes = (text: string): Buffer => Buffer.from(text, 'base64');
  return {
    protocol,
    steps: steps.map((step) => ({
      ...step,
      messages: step.messages.map(bytes),
      document: step.document === null ? null : gunzipSync(bytes(step.document)).toString(),
    })),
    log: log.map(({ id, fields }) => ({
      id,
      fields: new Map(Object.entries(fields).map(([name, text]) => [name, bytes(text)])),
    })),
  };
}

const FLIPS = 1_500;
const SWAPS = 400;

for (const file of readdirSync(FRAMES).filter((name) => name.endsWith('.json'))) {
  describe(`${FRAMES}/${file}`, () => {
    const { protocol, steps, log } = readCorpus(file);

    it('is a recording of its protocol, with every kind of frame', () => {
      const words = steps.flatMap(({ messages }) => messages.map((message) => message.toString('latin1', 0, 40).split(' ')));
      const kinds = new Set(words.filter(([name]) => name === `lc${protocol}`).map(([, kind]) => kind));
      expect([...kinds]).to.include.members([
        ...(protocol === 1 ? ['follows'] : ['splice']),
        'full',
        'deleted',
        'expired',
        'touch',
      ]);
      expect(words.some(([name]) => /^lc\d/.test(name ?? '') && name !== `lc${protocol}`)).to.equal(false);
      expect(steps.length).to.be.at.least(30);
      for (const { document, crc } of steps) if (document !== null) expect(crc32Hex(document)).to.equal(crc);
    });

    for (const [name, make] of Object.entries(CLIENTS)) {
      it(`gives ${name} every version, exact to the byte`, () => {
        const client = make(NOTHING);
        for (const { what, messages, version, document, expiresAt } of steps) {
          for (const message of messages) expect(client.message(message), what).to.be.oneOf(['applied', 'ignored', 'more']);
          expect(client.document, what).to.equal(document);
          expect(client, what).to.include({ version, expiresAt: document === null ? null : expiresAt });
        }
      });

      it(`gives ${name} every version from the log, as far as it goes`, () => {
        const states = new Map(steps.map((step) => [step.version, step]));
        let replayed = 0;
        let client: Client | null = null;
        for (const { id, fields } of log) {
          const version = Number(id.split('-')[0]);
          // where the log has left a document out, it is read
          if (client === null || client.entry(id, fields) === 'sync') {
            const step = states.get(version);
            if (client !== null) expect(fields.get('frame'), id).to.have.length(0);
            client = step === undefined || id.endsWith('-1') ? null : make(step);
            continue;
          }
          replayed += 1;
          const before = steps.findLast((step) => step.version === version && (step.document === null) === id.endsWith('-1'));
          // an expired context that was written over at once was never seen without its document
          if (before !== undefined && fields.get('kind')?.toString() !== 'expired')
            expect(client.document, id).to.equal(before.document);
          expect(client.version, id).to.equal(version);
        }
        expect(replayed).to.be.above(log.length * 0.7);
      });

      /** Two steps with something wrong about the first: whether the client noticed. What it did not notice has done no harm. */
      const survives = (at: number, messages: readonly Buffer[], remark: string): boolean => {
        const [before, step, after] = steps.slice(at - 1, at + 2) as [Step, Step, Step];
        const client = make(before);
        const right = new Map<number, (string | null)[]>();
        // expiry leaves the version as it is
        for (const { version, document } of [before, step, after]) right.set(version, [...(right.get(version) ?? []), document]);
        let noticed = false;
        for (const message of messages) {
          if (client.message(message) === 'sync') noticed = true;
          const { version, document } = client;
          if (document !== null || right.has(version)) expect([null, ...(right.get(version) ?? [])], remark).to.include(document);
        }
        if (noticed) return true;
        expect(client.document, remark).to.equal(after.document);
        // the header of protocol 1 has no check
        if (protocol === 2) expect(client.expiresAt, remark).to.equal(after.document === null ? null : after.expiresAt);
        return false;
      };
      /** A step whose next one tells what was lost before it. */
      const anyStep = (rng: Rng): number => {
        const at = rng.int(1, steps.length - 2);
        return steps[at + 1]?.what.startsWith('touch') ? anyStep(rng) : at;
      };

      it(`never gives ${name} a wrong document, whichever bit of a frame is flipped`, () => {
        const rng = seededRng(protocol);
        let noticed = 0;
        for (let round = 0; round < FLIPS; round += 1) {
          const at = anyStep(rng);
          const [step, after] = steps.slice(at, at + 2) as [Step, Step];
          const hit = rng.int(0, step.messages.length - 1);
          const bytes = (step.messages[hit] as Buffer).length;
          // every other one in the header: there is less of it
          const bit = rng.int(0, 8 * (round % 2 === 0 ? bytes : Math.min(bytes, 120)) - 1);
          const messages = step.messages.map((message, index) => (index === hit ? flipped(message, bit) : message));
          const remark = `seed ${protocol}, round ${round}: "${step.what}", message ${hit}, bit ${bit}`;
          if (survives(at, [...messages, ...after.messages], remark)) noticed += 1;
        }
        expect(noticed).to.be.above(FLIPS / 2);
      });

      it(`never gives ${name} a wrong document when messages are lost, doubled or swapped`, () => {
        const rng = seededRng(protocol);
        let noticed = 0;
        for (let round = 0; round < SWAPS; round += 1) {
          const at = anyStep(rng);
          const [step, after] = steps.slice(at, at + 2) as [Step, Step];
          const messages = [...step.messages, ...after.messages];
          const hit = rng.int(0, step.messages.length - 1);
          const [message, next] = messages.slice(hit) as [Buffer, Buffer];
          const how = rng.pick(['lost', 'doubled', 'swapped'] as const);
          messages.splice(hit, 2, ...{ lost: [next], doubled: [message, message, next], swapped: [next, message] }[how]);
          if (survives(at, messages, `seed ${protocol}, round ${round}: "${step.what}", message ${hit} ${how}`)) noticed += 1;
        }
        expect(noticed).to.be.above(SWAPS / 3);
      });

      it(`gives ${name} nothing that builds on another document of the same version`, () => {
        for (const [index, step] of steps.entries()) {
          const before = steps[index - 1];
          if (before?.document == null || step.what.startsWith('touch')) continue;
          const other = '{"after":"a failover that lost commits"}';
          const client = make({ version: before.version, document: other });
          expect(client.message(step.messages[0] as Buffer), step.what).to.be.oneOf(['sync', 'more']);
          if (step.messages.length > 1) for (const message of step.messages.slice(1)) client.message(message);
          expect(client.document, step.what).to.equal(other);
        }
      });
    }
  });
}
