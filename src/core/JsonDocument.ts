/** A JSON value and its bytes. */
import { DocumentText, type Rewrite } from './DocumentText.js';
import { ContextError } from './errors.js';
import { findSplice } from './blockMatch.js';
import { type JsonValue, parseFrozen } from './json.js';
import type { Splice } from './splice.js';

export class JsonDocument {
  readonly value: JsonValue;
  #text: DocumentText | undefined;

  private constructor(value: JsonValue, text: DocumentText | undefined) {
    this.value = value;
    this.#text = text;
  }

  static parse(text: DocumentText): JsonDocument {
    return new JsonDocument(parseFrozen(text.bytes().toString()), text);
  }
  static of(value: JsonValue): JsonDocument {
    return new JsonDocument(value, undefined);
  }
  static pair(value: JsonValue, text: DocumentText): JsonDocument {
    return new JsonDocument(value, text);
  }
  get text(): DocumentText {
    this.#text ??= DocumentText.of(Buffer.from(JSON.stringify(this.value)));
    return this.#text;
  }
  derive(value: JsonValue): { document: JsonDocument; splice: Splice; rewrite: Rewrite } {
    const splice = findSplice(this.text.bytes(), Buffer.from(JSON.stringify(value)));
    const rewrite = this.text.apply(splice);
    return { document: new JsonDocument(value, rewrite.text), splice, rewrite };
  }
  advance(splice: Splice, crc?: string): { document: JsonDocument; rewrite: Rewrite } {
    const rewrite = this.text.apply(splice);
    if (crc !== undefined && rewrite.text.crc !== crc)
      throw new ContextError('CORRUPT', 'the result of a splice does not have its checksum', { expected: crc, found: rewrite.text.crc });
    return { document: JsonDocument.parse(rewrite.text), rewrite };
  }
}
