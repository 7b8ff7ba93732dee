import type { ContextStore } from '../../store/ContextStore.js';
import type { Instance } from './Instance.js';
import type { DemoContext } from './workload.js';

/** Something that is not as it must be at the end; `where` is an instance or `redis`. */
export interface Difference {
  readonly where: string;
  readonly id: string;
  readonly what: 'bytes' | 'watched bytes' | 'version' | 'watched version' | 'checksum' | 'missing' | 'integrity';
  readonly expected: string;
  readonly found: string;
}

export interface ComparedContext {
  readonly id: string;
  readonly source: DemoContext['source'];
  readonly version: number;
  readonly bytes: number;
  readonly checksum: string | null;
  /** True where Redis and every instance hold the same bytes, version and checksum. */
  readonly equal: boolean;
  readonly differences: readonly Difference[];
}

/**
 * Compares a context in every instance with Redis, byte for byte. Redis's side is the raw bytes of the key, its checksums as
 * `verify` computes them anew, and the number of the last revision: nothing that a replica could have touched.
 */
export async function compareContext(
  store: ContextStore,
  instances: readonly Instance[],
  { id, source, length }: DemoContext,
): Promise<ComparedContext> {
  const [raw, verified] = await Promise.all([store.rawBytes(id), store.verify(id)]);
  const checksum = verified?.checks.find(({ name }) => name === 'crc32')?.stored ?? null;
  const differences: Difference[] = [];
  const differs = (where: string, what: Difference['what'], expected: string | number, found: string | number): void => {
    if (expected !== found) differences.push({ where, id, what, expected: String(expected), found: String(found) });
  };
  if (!raw || !verified) {
    differs('redis', 'missing', `version ${length}`, 'nothing');
    return { id, source, version: 0, bytes: 0, checksum, equal: false, differences };
  }
  differs('redis', 'version', length, verified.version);
  for (const check of verified.checks) {
    if (!check.ok) differs('redis', 'integrity', `${check.name} ${check.stored}`, `${check.name} ${check.computed}`);
  }
  const bytesDiffer = (where: string, what: 'bytes' | 'watched bytes', text: string): void => {
    const bytes = Buffer.from(text);
    if (!bytes.equals(raw)) differs(where, what, `${raw.length} bytes`, `${bytes.length} bytes, ${firstDifference(raw, bytes)}`);
  };
  await Promise.all(
    instances.map(async (instance) => {
      const { name } = instance;
      const { read, refusal, watched } = await instance.ask({ kind: 'read', id });
      if (refusal !== null) differs(name, 'integrity', `version ${verified.version}`, `a read refused with ${refusal}`);
      else if (!read) differs(name, 'missing', `version ${verified.version}`, 'nothing');
      else {
        bytesDiffer(name, 'bytes', read.text);
        differs(name, 'version', verified.version, read.version);
        differs(name, 'checksum', checksum ?? 'none', read.checksum);
      }
      if (watched) {
        bytesDiffer(name, 'watched bytes', watched.text);
        differs(name, 'watched version', verified.version, watched.version);
      } else differs(name, 'missing', `version ${verified.version}`, 'no change seen');
    }),
  );
  return { id, source, version: verified.version, bytes: raw.length, checksum, equal: differences.length === 0, differences };
}

function firstDifference(expected: Buffer, found: Buffer): string {
  const at = expected.findIndex((byte, index) => byte !== found[index]);
  return `different from byte ${at === -1 ? expected.length : at} on`;
}
