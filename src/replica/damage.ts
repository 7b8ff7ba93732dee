/** What is wrong with a context or a checkpoint as it was read: its own checksums against its bytes, and its seal against its id and facts. */

import { sha1Hex } from '../core/checksum.js';
import { decompress, type Encoding } from '../core/compression.js';
import { DocumentText } from '../core/DocumentText.js';
import { JsonDocument } from '../core/JsonDocument.js';
import { sealOf } from '../core/seal.js';
import { crcOf, type StoredContext, storedContext } from '../redis/storedContext.js';
import type { ReplicaState } from './state.js';

/** Largest document that a checkpoint is unpacked to, bytes. */
const MOST_BYTES = 16 * 1024 * 1024;

export interface Damage {
  readonly what: 'version' | 'length' | 'checksum' | 'seal';
  readonly expected: string;
  readonly found: string;
}

/** @param sealed - a missing seal is damage; a wrong one always is */
export function damageOf(id: string, stored: StoredContext, sealed: boolean): Damage | null {
  if (!Number.isSafeInteger(stored.version) || stored.version < 1)
    return { what: 'version', expected: 'a version', found: String(stored.version) };
  if (stored.found !== stored.length)
    return { what: 'length', expected: `${stored.length} bytes`, found: `${stored.found} bytes` };
  const found = crcOf(stored);
  if (found !== stored.crc) return { what: 'checksum', expected: stored.crc, found };
  return sealDamage(id, stored, sealed);
}

/** Whether the facts are those that were sealed for this id. */
export function sealDamage(id: string, { seal, facts }: Pick<StoredContext, 'seal' | 'facts'>, sealed: boolean): Damage | null {
  if (seal === '' && !sealed) return null;
  const expected = sealOf(id, facts);
  return seal === expected
    ? null
    : { what: 'seal', expected: `seal ${expected}`, found: seal === '' ? 'no seal' : `seal ${seal}` };
}

/** The state that a checkpoint holds, or null where it is damaged. */
export function checkpointState(id: string, fields: Readonly<Record<string, Buffer>>): ReplicaState | null {
  const { z, zsum, enc } = fields;
  const stored = storedContext(fields);
  if (stored === null || z === undefined || zsum?.toString() !== sha1Hex(z) || sealDamage(id, stored, true) !== null) return null;
  try {
    const text = DocumentText.of(decompress((enc?.toString() ?? '-') as Encoding, z, MOST_BYTES));
    if (text.length !== stored.length || text.crc !== stored.crc) return null;
    const document = JsonDocument.parse(text);
    const { version, crc, length: bytes, at, expiresAt } = stored;
    return { version, crc, value: document.value, bytes, at, expiresAt, document };
  } catch {
    return null;
  }
}
