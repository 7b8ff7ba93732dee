/**
 * From a document and what it was before to the least that has to travel: how Redis comes by the new bytes, and what subscribers get. The
 * switch `delta` decides here, and only here, whether deltas are used, tried, or left alone.
 */
import { sha1Hex } from '../core/checksum.js';
import { compress, type Encoding } from '../core/compression.js';
import type { DocumentText } from '../core/DocumentText.js';
import { diff } from '../core/diff.js';
import type { JsonDocument } from '../core/JsonDocument.js';
import type { JsonValue } from '../core/json.js';
import type { Patch } from '../core/patch.js';
import type { Splice } from '../core/splice.js';
import { applySplice, readSplice, writeSplice } from '../core/spliceFormat.js';
import { fullPlan, storagePlan, withinPlanLimits } from '../core/storagePlan.js';
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

  constructor(delta: 'off' | 'shadow' | 'on') {
    this.#delta = delta;
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
   * @param whole - send the bytes as they are, whatever could be saved
   */
  change(base: Base, next: Changed, protocol: 1 | 2, whole = false): Encoded {
    const splices = protocol === 2 && this.#delta !== 'off' && next.splice !== null;
    const trusted = splices && documentOf(base).text.crc === base.crc;
    if (!trusted || this.#delta === 'shadow' || next.splice === null) {
      if (trusted && next.splice !== null) this.#shadow(base, next, next.splice);
      return this.#patched(base, next, protocol);
    }
    const { text } = next.document;
    const splice = writeSplice(next.splice);
    const payload = this.#smallest(next, splice.bytes);
    const storage = whole ? null : this.#planned(base, next, splice, payload);
    if (storage === null) {
      const bytes = payload.kind === 'splice' && payload.bytes === null ? splice.bytes : payload.bytes;
      return {
        ...this.#stored(text, protocol),
        document: () => next.document,
        payload: { ...payload, bytes },
        base: onto(base, null),
      };
    }
    this.counters.spliced += 1;
    this.counters.documentBytes += text.length;
    this.counters.splicedBytes += storage.plan.length + storage.data.length + (payload.bytes?.length ?? 0);
    return {
      length: text.length,
      crc: text.crc,
      sha1: text.sha1,
      document: () => next.document,
      storage,
      payload,
      base: onto(base, documentOf(base).text.sha1),
    };
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
    const { length, crc } = text;
    this.counters.whole += 1;
    if (protocol === 1 && text.chunked) {
      // who knows only protocol 1 knows one form
      const data = text.bytes();
      return { length, crc, sha1: sha1Hex(data), storage: { form: 'whole', data } };
    }
    if (!text.chunked) return { length, crc, sha1: text.sha1, storage: { form: 'whole', data: text.bytes() } };
    const chunks = text.chunks.map(({ bytes }) => bytes);
    return {
      length,
      crc,
      sha1: text.sha1,
      storage: { form: 'plan', plan: fullPlan(text, FIRST_CHUNK_ARGUMENT), data: EMPTY, chunks },
    };
  }

  /** The smallest of splice, JSON Patch and whole document, the first and the last compressed where it pays. */
  #smallest(next: Changed, splice: Buffer): Payload {
    const { length } = next.document.text;
    let best: Payload = { kind: 'splice', encoding: '-', bytes: null };
    let size = splice.length;
    const consider = (kind: Payload['kind'], encoding: Encoding, bytes: string | Buffer): void => {
      const bytesLength = typeof bytes === 'string' ? Buffer.byteLength(bytes) : bytes.length;
      if (bytesLength >= size) return;
      best = { kind, encoding, bytes };
      size = bytesLength;
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
    if (next.rewrite === null || !withinPlanLimits(next.rewrite)) return null;
    if (payload.kind === 'full' && payload.bytes === null) return null;
    // the inserted bytes are those of the frame, where that travels as it is
    const shared = payload.kind === 'splice' && payload.bytes === null;
    const data = shared ? splice.bytes : splice.bytes.subarray(splice.literals);
    const offset = shared ? splice.literals : 0;
    const plan = storagePlan(documentOf(base).text, next.rewrite, { argument: DATA_ARGUMENT, offset });
    const sent = plan.length + data.length;
    return sent + PLAN_SAVES <= next.document.text.length ? { form: 'plan', plan, data, chunks: [] } : null;
  }

  /** What `on` would have sent, tried on the bytes. */
  #shadow(base: Base, next: Changed, splice: Splice): void {
    const { text } = next.document;
    const { bytes } = writeSplice(splice);
    this.counters.shadowed += 1;
    this.counters.documentBytes += text.length;
    this.counters.shadowBytes += bytes.length;
    try {
      if (applySplice(documentOf(base).text.bytes(), readSplice(bytes)).equals(next.serialized())) return;
    } catch {
      // what does not apply does not give the document
    }
    this.counters.shadowMismatches += 1;
  }
}

/** A document, and what leads to it from its base. */
export interface Changed {
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
  if (!derives) return { document: document(), splice: null, rewrite: null, patch: between, serialized };
  const derived = documentOf(base).derive(value);
  return { ...derived, patch: between, serialized };
}

const EMPTY = Buffer.alloc(0);
const WHOLE: Payload = { kind: 'full', encoding: '-', bytes: null };

const onto = (base: Base, sha1: string | null): NonNullable<CommitRequest['base']> => ({
  version: base.version,
  crc: base.crc,
  sha1,
});
