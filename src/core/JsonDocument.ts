/**
 * A JSON value and its text, kept together from version to version, so that a change costs what it changes in either direction: a new value
 * gives the splice of the text (`derive`), a splice gives the new value (`advance`). Both go by an index of the text that is made when it is
 * needed first and then follows every change.
 */
import { findSplice } from './blockMatch.js';
import { crc32Hex } from './checksum.js';
import { DocumentText, type Rewrite } from './DocumentText.js';
import { ContextError } from './errors.js';
import { type JsonValue, parseFrozen } from './json.js';
import { insertedBytes, type Splice } from './splice.js';
import { MAX_PIECES } from './spliceFormat.js';
import { type IndexNode, indexOf } from './TextIndex.js';
import { advanceValue, editsOf, sharing } from './textAdvance.js';
import { deriveSplice } from './textDerive.js';

/** A document, and how it came from the one before. */
export interface Derived {
  readonly document: JsonDocument;
  readonly splice: Splice;
  readonly rewrite: Rewrite;
}

/** What is known of the text's index: nothing yet, that the text is another than `JSON.stringify` makes, or its root. */
type Index = { readonly canonical: boolean; readonly root: IndexNode | undefined } | undefined;

/** A derived splice that inserts more than this, and than such a share (as a shift) of the document, is compared with one of the bytes. */
const LARGE_BYTES = 256;
const LARGE_SHARE = 6;

const utf8 = (value: JsonValue): Buffer => Buffer.from(JSON.stringify(value));

export class JsonDocument {
  /** Deeply frozen. */
  readonly value: JsonValue;
  #text: DocumentText | undefined;
  #index: Index;

  private constructor(value: JsonValue, text: DocumentText | undefined, index: Index) {
    this.value = value;
    this.#text = text;
    this.#index = index;
  }

  /** @throws SyntaxError where the text is no JSON */
  static parse(text: DocumentText): JsonDocument {
    return new JsonDocument(parseFrozen(text.bytes().toString()), text, undefined);
  }

  /** The document of a frozen value; its text is made when it is needed. */
  static of(value: JsonValue): JsonDocument {
    return new JsonDocument(value, undefined, undefined);
  }

  /** A frozen value with the text that it was parsed from. */
  static pair(value: JsonValue, text: DocumentText): JsonDocument {
    return new JsonDocument(value, text, undefined);
  }

  get text(): DocumentText {
    this.#text ??= DocumentText.of(utf8(this.value));
    return this.#text;
  }

  /**
   * The document of another value, frozen as this one's, which shares with it what has not changed. Its text is exactly that of
   * `JSON.stringify(value)`. Takes time for what changed, and for the width of the containers on the way there.
   */
  derive(value: JsonValue): Derived {
    const { canonical, root } = this.#indexed();
    if (canonical && root !== undefined) {
      const { splice: derived, indexed } = deriveSplice(this.text, this.value, root, value);
      const index = { canonical: true, root: indexed.node };
      const inserted = insertedBytes(derived);
      if (derived.pieces.length <= MAX_PIECES && inserted <= Math.max(LARGE_BYTES, this.text.length >> LARGE_SHARE)) {
        const rewrite = this.text.apply(derived);
        return { document: new JsonDocument(value, rewrite.text, index), splice: derived, rewrite };
      }
      // identity did not tell what stayed, as where a whole new value was set: then the bytes do
      const found = findSplice(this.text.bytes(), utf8(value));
      const splice = derived.pieces.length > MAX_PIECES || insertedBytes(found) < inserted ? found : derived;
      const rewrite = this.text.apply(splice);
      return { document: new JsonDocument(value, rewrite.text, index), splice, rewrite };
    }
    const splice = findSplice(this.text.bytes(), utf8(value));
    const rewrite = this.text.apply(splice);
    return { document: new JsonDocument(value, rewrite.text, undefined), splice, rewrite };
  }

  /**
   * The document that a splice makes. The checksum is compared before anything is parsed.
   *
   * @param crc - CRC-32 that the new text must have, 8 hex digits
   * @throws ContextError `BASE_MISMATCH` where the splice is for another length, `CORRUPT` where the checksum is another. SyntaxError where the text is no JSON.
   */
  advance(splice: Splice, crc?: string): Derived {
    const rewrite = this.text.apply(splice);
    const { text } = rewrite;
    if (crc !== undefined && text.crc !== crc) {
      throw new ContextError('CORRUPT', `a splice makes a document with checksum ${text.crc}, not ${crc}`, {
        expected: crc,
        found: text.crc,
      });
    }
    const { canonical, root } = this.#indexed();
    const advanced = canonical && root !== undefined ? advanceValue(this.value, root, editsOf(splice), text) : null;
    if (advanced !== null) {
      const { value, indexed } = advanced;
      return { document: new JsonDocument(value, text, { canonical: true, root: indexed.node }), splice, rewrite };
    }
    const value = sharing(this.value, parseFrozen(text.bytes().toString()));
    return { document: new JsonDocument(value, text, undefined), splice, rewrite };
  }

  /** For tests: the index as it has become by derivation, against the one that the value has. */
  get index(): { readonly kept: IndexNode | undefined; readonly fresh: IndexNode | undefined } {
    return { kept: this.#indexed().root, fresh: indexOf(this.value).node };
  }

  #indexed(): NonNullable<Index> {
    this.#index ??= this.#makeIndex();
    return this.#index;
  }

  #makeIndex(): NonNullable<Index> {
    try {
      const { bytes, node } = indexOf(this.value);
      const canonical = this.#text === undefined || (bytes === this.text.length && crc32Hex(utf8(this.value)) === this.text.crc);
      return { canonical, root: node };
    } catch (error) {
      // nested deeper than the stack: it is parsed and searched as a whole
      if (error instanceof RangeError) return { canonical: false, root: undefined };
      throw error;
    }
  }
}
