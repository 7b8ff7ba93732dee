/**
 * From a document and what it was before to the least that has to travel: how Redis comes by the new bytes, and what subscribers get. The
 * switch `delta` decides here, and only here, whether deltas are used, tried, or left alone.
 */
import { sha1Hex } from '../core/checksum.js';
import { compress, type Encoding } from '../core/compression.js';
import { DocumentText } from '../core/DocumentText.js';
import { diff } from '../core/diff.js';
import { JsonDocument } from '../core/JsonDocument.js';
import type { JsonValue } from '../core/json.js';
import type { Patch } from '../core/patch.js';
import type { Splice } from '../core/splice.js';
import { applySplice, readSplice, writeSplice } from '../core/spliceFormat.js';
import { fullPlan, storagePlan } from '../core/storagePlan.js';
import { type CommitRequest, DATA_ARGUMENT, FIRST_CHUNK_ARGUMENT, type Payload, type Storage } from '../redis/commitRequest.js';
import { documentOf, type ReplicaState } from '../replica/state.js';

/** What depends on the document alone; the rest of a {@link CommitRequest} is said by the caller. */
export type Encoded = Pick<CommitRequest, 'length' | 'crc' | 'sha1' | 'storage' | 'payload' | 'base'> & {
  /** The document itself, made when somebody needs it first. */
  readonly document: () => JsonDocument;
};

export interface DeltaCounters {
  /** Commits whose document was sent as a splice, and as a whole. */
  spliced: number;
  whole: number;
  /** Bytes of document that splices stood for, and of what was sent for them. */
  documentBytes: number;
  splicedBytes: number;
  /** In shadow: deltas that were tried, that did not give the document, and the bytes they would have taken. */
  shadowed: number;
  shadowMismatches: number;
  shadowBytes: number;
  /** Redis had other bytes than the splice was made for. */
  baseMismatches: number;
}

/** A plan has to save so many bytes: below that, sending the document costs Redis less than building it. */
const PLAN_SAVES = 256;
/** Smallest JSON Patch of one operation. */
const LEAST_PATCH = '[{"op":"remove","path":"/a"}]'.length;
/** Whole documents shorter than this are published as they are. */
const COMPRESS_FULL_FROM = 4_096;
/** A splice of more than this share of its document is hardly better than the document. */
const LARGE_SHARE = 0.25;
/** A frame that is no longer than this may always stand beside the document. */
const BESIDE = 32;

type Base = ReplicaState;

export class CommitEncoder {
  readonly counters: DeltaCounters = {
    spliced: 0,
    whole: 0,
    documentBytes: 0,
    splicedBytes: 0,
    shadowed: 0,
    shadowMismatches: 0,
    shadowBytes: 0,
    baseMismatches: 0,
  };
  readonly #delta: 'off' | 'shadow' | 'on';
  readonly #mismatch: (found: ShadowMismatch) => void;

  /** @param mismatch - is told of each delta in shadow that would not have given the document */
  constructor(delta: 'off' | 'shadow' | 'on', mismatch: (found: ShadowMismatch) => void = () => {}) {
    this.#delta = delta;
    this.#mismatch = mismatch;
  }

  /** Whether changes of a base are worth deriving: see {@link change}. */
  get derives(): boolean {
    return this.#delta !== 'off';
  }

  /** A document of which nothing is known to build on. */
  whole(text: DocumentText, document: () => JsonDocument, protocol: 1 | 2): Encoded {
    return { ...this.#stored(text, protocol), document, payload: WHOLE, base: null };
  }

  /**
   * A document that follows a base which has a value. `patch`: the JSON Patch between them, where it is at hand.
   *
   * @param whole - send Redis the bytes as they are, whatever could be saved: what it has is damaged, and subscribers are well
   */
  change(base: Base, next: Changed, protocol: 1 | 2, whole = false): Encoded {
    const trusted = protocol === 2 && next.splice !== null && documentOf(base).text.crc === base.crc;
    if (next.splice === null || (!trusted && this.#delta !== 'shadow')) return this.#patched(base, next, protocol);
    if (this.#delta === 'shadow') return this.#shadow(base, next, next.splice, protocol, trusted);
    const made = whole ? null : this.#spliced(base, next, next.splice);
    if (made === null) {
      const payload = whole ? this.#healing(next, next.splice) : WHOLE;
      return { ...this.#stored(next.document.text, protocol), document: () => next.document, payload, base: onto(base, null) };
    }
    const { encoded, sent } = made;
    if (!encoded.base?.sha1) this.counters.whole += 1;
    else {
      this.counters.spliced += 1;
      this.counters.documentBytes += encoded.length;
      this.counters.splicedBytes += sent;
    }
    return encoded;
  }

  /** The frame that travels beside a document which heals what is stored. */
  #healing(next: Changed, given: Splice): Payload {
    const splice = writeSplice(given);
    const payload = this.#smallest(next, splice.bytes);
    return payload.kind === 'splice' && payload.bytes === null ? { ...payload, bytes: splice.bytes } : payload;
  }

  /**
   * The least that brings the document to Redis and to subscribers, or null where that is the document itself. Beside a document that has to
   * be sent whole a frame is sent only where one subscriber saves more by it than it costs on the way to Redis; else a commit is never more
   * than {@link BESIDE} bytes above the document.
   */
  #spliced(base: Base, next: Changed, given: Splice): { readonly encoded: Encoded; readonly sent: number } | null {
    const { text } = next.document;
    const splice = writeSplice(given);
    const payload = this.#smallest(next, splice.bytes);
    const shared: Payload = { kind: 'splice', encoding: '-', bytes: null };
    const document = (): JsonDocument => next.document;
    const { length, crc } = text;
    // a frame that is smaller than the plain splice, and that splice itself where the frame must not travel beside it
    const choices = payload.bytes !== null && splice.bytes.length < length ? [payload, shared] : [payload];
    for (const choice of choices) {
      if (choice.kind === 'full' && choice.bytes === null) continue;
      const storage = this.#planned(base, next, splice, choice);
      if (storage === null) continue;
      const sent = sizeOf(storage) + sizeOfBytes(choice.bytes);
      if (sent > length + BESIDE) continue;
      const encoded = {
        length,
        crc,
        sha1: text.sha1,
        document,
        storage,
        payload: choice,
        base: onto(base, documentOf(base).text.sha1),
      };
      return { encoded, sent };
    }
    const bytes = payload.kind === 'splice' && payload.bytes === null ? splice.bytes : payload.bytes;
    const beside = sizeOfBytes(bytes);
    if (bytes === null || (beside > BESIDE && 2 * beside > length)) return null;
    const stored = storedWhole(text);
    return { encoded: { ...stored, document, payload: { ...payload, bytes }, base: onto(base, null) }, sent: length + beside };
  }

  /** The whole document to Redis, and a JSON Patch to subscribers where that is smaller. */
  #patched(base: Base, next: Changed, protocol: 1 | 2): Encoded {
    const stored = this.#stored(next.document.text, protocol);
    const patch = next.patch(stored.length - 1);
    const text = patch === null ? null : JSON.stringify(patch);
    const smaller = text !== null && text.length < stored.length;
    const payload: Payload = smaller ? { kind: 'patch', encoding: '-', bytes: text } : WHOLE;
    return { ...stored, document: () => next.document, payload, base: smaller ? onto(base, null) : null };
  }

  #stored(text: DocumentText, protocol: 1 | 2): Pick<Encoded, 'length' | 'crc' | 'sha1' | 'storage'> {
    this.counters.whole += 1;
    if (protocol === 2 || !text.chunked) return storedWhole(text);
    // who knows only protocol 1 knows one form
    const data = text.bytes();
    return { length: text.length, crc: text.crc, sha1: sha1Hex(data), storage: { form: 'whole', data } };
  }

  /** The smallest of splice, JSON Patch and whole document, the first and the last compressed where it pays. */
  #smallest(next: Changed, splice: Buffer): Payload {
    const { length } = next.document.text;
    let best: Payload = { kind: 'splice', encoding: '-', bytes: null };
    let size = splice.length;
    const consider = (kind: Payload['kind'], encoding: Encoding, bytes: string | Buffer): void => {
      const length = sizeOfBytes(bytes);
      if (length >= size) return;
      best = { kind, encoding, bytes };
      size = length;
    };
    const packed = compress(splice);
    if (packed.encoding !== '-') consider('splice', packed.encoding, packed.bytes);
    if (size > LEAST_PATCH) {
      const patch = next.patch(size - 1);
      if (patch !== null) consider('patch', '-', JSON.stringify(patch));
    }
    if (size > length * LARGE_SHARE && length >= COMPRESS_FULL_FROM) {
      const whole = compress(next.document.text.bytes());
      if (whole.encoding !== '-') consider('full', whole.encoding, whole.bytes);
    }
    return size < length ? best : WHOLE;
  }

  #planned(
    base: Base,
    next: Changed,
    splice: { readonly bytes: Buffer; readonly literals: number },
    payload: Payload,
  ): (Storage & { readonly form: 'plan' }) | null {
    if (next.rewrite === null) return null;
    // the inserted bytes are those of the frame, where that travels as it is
    const shared = payload.kind === 'splice' && payload.bytes === null;
    const data = shared ? splice.bytes : splice.bytes.subarray(splice.literals);
    const given = { inserted: DATA_ARGUMENT, offset: shared ? splice.literals : 0, firstChunk: FIRST_CHUNK_ARGUMENT };
    const storage = { form: 'plan' as const, data, ...storagePlan(documentOf(base).text, next.rewrite, given) };
    const { length } = next.document.text;
    // building a document that is hardly longer than its plan costs Redis more than taking it; but a frame must not come on top of it
    const saves = sizeOfBytes(payload.bytes ?? data) > BESIDE ? 1 : PLAN_SAVES;
    return sizeOf(storage) + saves <= length ? storage : null;
  }

  /**
   * Sends the whole document, made of the value alone, and tries beside it what `on` would have sent: the text that was derived, the
   * splice in its binary form, and its size.
   */
  #shadow(base: Base, next: Changed, splice: Splice, protocol: 1 | 2, trusted: boolean): Encoded {
    const bytes = next.serialized();
    const text = DocumentText.of(bytes);
    const document = JsonDocument.pair(next.value, text);
    this.counters.shadowed += 1;
    this.counters.documentBytes += bytes.length;
    const wrong = trusted ? this.#wrong(base, next, splice, bytes) : null;
    if (wrong !== null) {
      this.counters.shadowMismatches += 1;
      this.#mismatch({ baseVersion: base.version, baseChecksum: base.crc, bytes: bytes.length, found: wrong });
    }
    return { ...this.whole(text, () => document, protocol), base: onto(base, null) };
  }

  /** What does not lead to these bytes, or null. */
  #wrong(base: Base, next: Changed, splice: Splice, bytes: Buffer): string | null {
    try {
      if (!next.document.text.bytes().equals(bytes)) return 'the text that was derived is another';
      const made = this.#spliced(base, next, splice);
      this.counters.shadowBytes += made === null ? bytes.length : made.sent;
      const applied = applySplice(documentOf(base).text.bytes(), readSplice(writeSplice(splice).bytes));
      return applied.equals(bytes) ? null : 'the splice leads elsewhere';
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }
}

/** What a splice in shadow was tried on, and why it would not have done. */
export interface ShadowMismatch {
  readonly baseVersion: number;
  readonly baseChecksum: string;
  readonly bytes: number;
  readonly found: string;
}

const sizeOfBytes = (bytes: string | Buffer | null): number =>
  bytes === null ? 0 : typeof bytes === 'string' ? Buffer.byteLength(bytes) : bytes.length;

/** A document in the form that it is stored in, all of it sent. */
function storedWhole(text: DocumentText): Pick<Encoded, 'length' | 'crc' | 'sha1' | 'storage'> {
  const { length, crc, sha1 } = text;
  if (!text.chunked) return { length, crc, sha1, storage: { form: 'whole', data: text.bytes() } };
  const chunks = text.chunks.map(({ bytes }) => bytes);
  return { length, crc, sha1, storage: { form: 'plan', plan: fullPlan(text, FIRST_CHUNK_ARGUMENT), data: EMPTY, chunks } };
}

const sizeOf = ({ plan, data, chunks }: Storage & { readonly form: 'plan' }): number =>
  plan.length + data.length + chunks.reduce((sum, { length }) => sum + length, 0);

/** A document, and what leads to it from its base. */
export interface Changed {
  readonly value: JsonValue;
  readonly document: JsonDocument;
  /** Null where it was not derived. */
  readonly splice: Splice | null;
  readonly rewrite: Parameters<typeof storagePlan>[1] | null;
  /** The JSON Patch, or null where it would be longer than `limit` bytes. */
  readonly patch: (limit: number) => Patch | null;
  /** The bytes of the document, made from its value alone. */
  readonly serialized: () => Buffer;
}

/** How a value follows a base. @param patch - the patch that made it, where there is one */
export function changed(
  base: Base,
  value: JsonValue,
  derives: boolean,
  document: () => JsonDocument,
  patch: Patch | null,
): Changed {
  const before = base.value as JsonValue;
  const between = (limit: number): Patch | null => patch ?? diff(before, value, { maxBytes: limit });
  const serialized = (): Buffer => Buffer.from(JSON.stringify(value));
  if (!derives) return { value, document: document(), splice: null, rewrite: null, patch: between, serialized };
  const derived = documentOf(base).derive(value);
  return { ...derived, value, patch: between, serialized };
}

const EMPTY = Buffer.alloc(0);
const WHOLE: Payload = { kind: 'full', encoding: '-', bytes: null };

const onto = (base: Base, sha1: string | null): NonNullable<CommitRequest['base']> => ({
  version: base.version,
  crc: base.crc,
  sha1,
});
