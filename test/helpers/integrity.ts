/** What stands around the bytes of a context, computed by `src/core/seal.ts`, and the scripts that keep, mend and move what is damaged. */
import { expect } from 'chai';
import { crc32Hex, sha1Hex } from '../../src/core/checksum.js';
import { entrySum, sealOf } from '../../src/core/seal.js';
import { GRACE_MS, type LogEntry, type LuaNamespace, operation, type Reply, TOMBSTONE_MS } from './lua.js';
import { type Chunk, isWhole, joined, sent, shaOf } from './plans.js';

type Fields = Readonly<Record<string, string>>;

/** In the order of a context's fingerprint. */
export const FINGERPRINTED = [
  'v',
  'crc',
  'sha',
  'len',
  'at',
  'exp',
  'seal',
  'q',
  'op',
  'fence',
  'intent',
  'kf',
  'chunks',
] as const;

export interface CheckpointOptions {
  /** What the client says of it, where that shall be other than what the context is at. */
  readonly facts?: Partial<Record<'v' | 'crc' | 'sha' | 'len' | 'at' | 'exp' | 'enc' | 'zsum', string>>;
  readonly sealed?: 0 | 1;
}

export interface RepairOptions {
  /** The fingerprint that the damage was found with; else that of what is stored. */
  readonly print?: string;
  readonly version?: number;
  readonly at?: number;
  readonly exp?: number | null;
  readonly op?: string;
  readonly by?: string;
  readonly source?: string;
  /** Who repairs, where that is not who wrote it. */
  readonly repairer?: string;
  readonly protocol?: 1 | 2;
  readonly claims?: { readonly crc?: string; readonly sha?: string; readonly length?: number };
  readonly prelude?: string;
}

export interface QuarantineOptions {
  readonly print?: string;
  readonly version?: number;
  readonly why?: string;
  readonly by?: string;
}

/** The seal that these fields should have. */
export const sealFor = (id: string, fields: Fields): string => {
  const { v = '', crc = '', sha = '', len = '', at = '', exp = null } = fields;
  return sealOf(id, { v, crc, sha, len, at, exp });
};

/** The checksum that an entry of the log should have. */
export const sumFor = (id: string, entry: LogEntry): string => {
  const {
    entry: entryId,
    kind = '',
    enc = '-',
    base = '',
    crc = '',
    sha = '',
    len = '',
    at = '',
    exp = '',
    op = '',
    by = '',
  } = entry;
  const words = { entryId, kind, encoding: enc, base, crc, sha, length: len, at, exp, operation: op, by };
  return entrySum(id, { ...words, frame: Buffer.from(entry.frame ?? '', 'latin1') });
};

export const copyKeys = (
  lua: LuaNamespace,
  id: string,
): { readonly newest: string; readonly older: string; readonly moved: string } => {
  const [newest, older] = lua.keys.checkpointsOf(id) as [string, string];
  return { newest, older, moved: lua.keys.quarantineOf(id) };
};

/** Checks that a context, where there is one, and every entry of its log carry what they should. */
export async function expectSealed(lua: LuaNamespace, id: string): Promise<void> {
  const fields = await lua.fields(id);
  if (Object.keys(fields).length > 0) expect(fields.seal, `seal of ${id}`).to.equal(sealFor(id, fields));
  for (const entry of await lua.log(id))
    expect(entry.sum, `sum of ${id} ${entry.entry} ${entry.kind}`).to.equal(sumFor(id, entry));
}

/** Stands for what is stored of a context. */
export async function fingerprint(lua: LuaNamespace, id: string): Promise<string> {
  const found = await lua.redis.hmget(lua.of(id).context, ...FINGERPRINTED);
  return sha1Hex(found.map((value) => value ?? '').join('\n'));
}

/** Keeps a copy of a context as it is now, or of another version. @param z - the copy, as a client has compressed it */
export async function checkpoint(
  lua: LuaNamespace,
  id: string,
  z: Buffer | string,
  options: CheckpointOptions = {},
): Promise<Reply> {
  const { context, log, size, mem } = lua.of(id);
  const { newest, older } = copyKeys(lua, id);
  const { v, crc, sha, len, at, exp, enc, zsum } = {
    ...{ v: '1', crc: '-', sha: '-', len: '0', at: '0', exp: '-', enc: 'br', zsum: sha1Hex(z) },
    ...(await lua.fields(id)),
    ...options.facts,
  };
  const header = `${v} ${crc} ${sha} ${len} ${at} ${exp} ${enc} ${zsum} ${TOMBSTONE_MS} ${options.sealed ?? 1}`;
  return lua.run('checkpoint', [context, log, size, mem, newest, older], [header, z, id], '', [header, id]);
}

/** Puts a document in the place of what is stored. @param document - its bytes, or its chunks */
export async function repair(
  lua: LuaNamespace,
  id: string,
  document: string | Buffer | readonly Chunk[],
  options: RepairOptions = {},
): Promise<Reply> {
  const { context, log, exp: expiries, use, size, mem, old, channel } = lua.of(id);
  const { print = await fingerprint(lua, id), version = 1, at = 1_795_449_849_000, exp = null, claims = {} } = options;
  const { op = operation(), by = 'mender', source = 'log', protocol = 2 } = options;
  const chunks =
    typeof document === 'string' || Buffer.isBuffer(document) ? [{ name: 'data', bytes: Buffer.from(document) }] : document;
  const bytes = joined(chunks);
  const { crc = crc32Hex(bytes), sha = shaOf(chunks), length = bytes.length } = claims;
  const facts = `${print} ${version} ${crc} ${sha} ${length} ${at} ${exp ?? '-'}`;
  const header = `${facts} ${op} ${by} ${TOMBSTONE_MS} ${GRACE_MS} PUBLISH ${protocol} ${source} ${options.repairer ?? by}`;
  // chunks are sent from the fifth argument on
  const plan = isWhole(chunks)
    ? ''
    : (sent(chunks).options.plan.text ?? '').replace(/ #(\d+):/g, (_, n) => ` #${Number(n) - 2}:`);
  const guarded = [header, plan, id, channel];
  const keys = [context, log, expiries, use, size, mem, old];
  return lua.run('repair', keys, [...guarded, ...chunks.map((chunk) => chunk.bytes)], options.prelude, guarded);
}

/** Moves what is stored aside, or lets go of what was moved. */
export async function quarantine(
  lua: LuaNamespace,
  id: string,
  mode: 'put' | 'drop',
  options: QuarantineOptions = {},
): Promise<Reply> {
  const { context, log, exp, use, size, mem } = lua.of(id);
  const {
    print = mode === 'drop' ? '-' : await fingerprint(lua, id),
    version = 1,
    why = 'document seal',
    by = 'mover',
  } = options;
  const keys = [context, log, exp, use, size, mem, copyKeys(lua, id).moved];
  return lua.run('quarantine', keys, [`${mode} ${print} ${version} ${by}`, why, id]);
}

/** Lets go of log entries and checkpoints. */
export function drop(lua: LuaNamespace, id: string, copies: string, entries: readonly string[] = []): Promise<Reply> {
  const { context, log, size, mem } = lua.of(id);
  const { newest, older } = copyKeys(lua, id);
  const words = ['k', 'j'].map((name) => (copies.includes(name) ? name : '-')).join(' ');
  return lua.run('drop', [context, log, size, mem, newest, older], [words, entries.join(' '), id]);
}
