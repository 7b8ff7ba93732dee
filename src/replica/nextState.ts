/**
 * One version further: what a frame or a log entry makes of a state, and whether that is what the writer had. The result's checksum is
 * always compared before anybody sees the result; for a document in chunks that costs what has changed, since the checksums of all that
 * has not are known (`DocumentText`).
 */

import { DocumentText } from '../core/DocumentText.js';
import { isContextError } from '../core/errors.js';
import type { Frame } from '../core/frame.js';
import { JsonDocument } from '../core/JsonDocument.js';
import { type JsonValue, parseFrozen } from '../core/json.js';
import { applyPatch, type Patch } from '../core/patch.js';
import { readSplice } from '../core/spliceFormat.js';
import { absent, type ChangeStep, documentOf, type ReplicaState } from './state.js';

/** A step forward as a frame or a log entry describes it. */
export type StepSource = Pick<Frame, 'kind' | 'version' | 'crc' | 'baseCrc' | 'length' | 'at' | 'expiresAt' | 'payload'>;

/** One step, and the state it leads to. */
export interface Stepped {
  readonly state: ReplicaState;
  readonly step: ChangeStep;
}

/** The result does not have its checksum. */
export interface Mismatch {
  readonly expected: string;
  readonly found: string;
}

interface Made {
  readonly document: JsonDocument;
  readonly patch: Patch | null;
}

/**
 * Where a state goes by one frame or log entry that is one version further. `gap` where the base is another one; a {@link Mismatch} where
 * the result does not have its checksum.
 */
export function nextState(state: ReplicaState, source: StepSource): Stepped | 'gap' | Mismatch {
  const { kind, version, at, crc, expiresAt, length } = source;
  if (kind === 'deleted' || kind === 'expired') {
    // frames name their base, the log does not
    if (source.baseCrc !== '' && source.baseCrc !== state.crc) return 'gap';
    return {
      state: { ...absent(version), at },
      step: { kind, version, at, crc: '', value: undefined, bytes: 0, patch: null, base: state.value },
    };
  }
  if (source.baseCrc !== state.crc) return 'gap';
  const made = kind === 'patch' ? patched(state, source) : kind === 'splice' ? spliced(state, source) : whole(source);
  if (made === 'gap' || 'expected' in made) return made;
  const { document, patch } = made;
  const { value, text } = document;
  if (text.length !== length) return { expected: `${length} bytes`, found: `${text.length} bytes` };
  return {
    state: { version, crc, value, bytes: length, at, expiresAt, document },
    step: { kind: kind === 'full' ? 'full' : 'patch', version, at, crc, value, bytes: length, patch, base: state.value },
  };
}

function patched(state: ReplicaState, { payload, crc }: StepSource): Made | 'gap' | Mismatch {
  if (state.value === undefined) return 'gap';
  let patch: Patch;
  let value: JsonValue;
  try {
    patch = parseFrozen(payload.toString()) as unknown as Patch;
    value = applyPatch(state.value, patch);
  } catch {
    return { expected: crc, found: 'a patch that does not apply' };
  }
  try {
    const before = documentOf(state);
    const document = before.text.chunked ? before.derive(value).document : JsonDocument.of(value);
    return document.text.crc === crc ? { document, patch } : { expected: crc, found: document.text.crc };
  } catch (error) {
    return { expected: crc, found: reason(error) };
  }
}

function spliced(state: ReplicaState, { payload, crc, length }: StepSource): Made | 'gap' | Mismatch {
  if (state.value === undefined) return 'gap';
  try {
    const before = documentOf(state);
    // bytes that another writer put otherwise than they are made here: only the document itself can tell them
    if (before.text.crc !== state.crc) return 'gap';
    const splice = readSplice(payload);
    // said twice, so that a splice which makes far more than its frame says is not even tried
    if (splice.targetLength !== length) return { expected: `${length} bytes`, found: `a splice to ${splice.targetLength} bytes` };
    return { document: before.advance(splice, crc).document, patch: null };
  } catch (error) {
    return { expected: crc, found: reason(error) };
  }
}

/** Whatever a frame brings about, it is the frame that is refused: nothing in it may end the process that reads it. */
function reason(error: unknown): string {
  if (error instanceof SyntaxError) return 'its checksum, but no JSON';
  if (isContextError(error)) return error.code === 'CORRUPT' ? String(error.details.found) : error.message;
  return error instanceof Error ? error.message : String(error);
}

function whole({ payload, crc }: StepSource): Made | Mismatch {
  const text = DocumentText.of(payload);
  if (text.crc !== crc) return { expected: crc, found: text.crc };
  try {
    return { document: JsonDocument.parse(text), patch: null };
  } catch {
    return { expected: crc, found: 'its checksum, but no JSON' };
  }
}
