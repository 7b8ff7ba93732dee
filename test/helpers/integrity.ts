/** What stands around the bytes of a context, computed by `src/core/seal.ts`, and the scripts that keep, mend and move what is damaged. */
import { expect } from 'chai';
import { crc32Hex, sha1Hex } from '../../src/core/checksum.js';
import { answerCheck, entrySum, guardOf, sealOf } from '../../src/core/seal.js';
import { GRACE_MS, type LogEntry, type LuaNamespace, operation, type Reply, TOMBSTONE_MS } from './lua.js';
import { type Chunk, isWhole, joined, sent, shaOf } from './plans.js';
import { flip } from './seals.js';

type Fields = Readonly<Record<string, string>>;

/** In the order of a context's fingerprint. */
export const FINGERPRINTED = ['v', 'crc', 'sha', 'len', 'at', 'exp', 'seal', 'q', 'op', 'fence', 'intent', 'chunks'] as const;

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
  /** Ids of entries that shall go where they are damaged. */
  readonly tail?: readonly string[];
  /** Whether a missing sum is damage. */
  readonly sealed?: 0 | 1;
  readonly protocol?: 1 | 2;
  readonly claims?: { readonly crc?: string; readonly sha?: string; readonly length?: number };
  readonly prelude?: string;
}

export interface QuarantineOptions {
  readonly print?: string;
  readonly version?: number;
  readonly why?: string;
  readonly by?: string;
  /** When the context would have expired, ms. */
  readonly exp?: number | null;
  /** Whether a missing seal is damage. */
  readonly sealed?: 0 | 1;
}

/** What `look` answers, each value as latin1. */
export interface Looked {
  readonly now: number;
  readonly due: number | null;
  readonly lost: boolean;
  /** Of context, newest checkpoint, the one before, and the quarantined. */
  readonly hashes: readonly Readonly<Record<string, string>>[];
  readonly entries: readonly LogEntry[];
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

/** Tests of a script that answers CHANGED to a fingerprint of context `a` where any field of it is another since, or gone. */
export function refusesEachChangedField(lua: () => LuaNamespace, refused: (print: string) => Promise<Reply>): void {
  for (const field of FINGERPRINTED) {
    it(`where ${field} is another than that which was found`, async () => {
      const { redis } = lua();
      const { context } = lua().of('a');
      await redis.hset(context, { data: '?' });
      const print = await fingerprint(lua(), 'a');
      await redis.hset(context, { [field]: '7' });
      expect(await refused(print)).to.deep.equal(['CHANGED']);
      await redis.hdel(context, field);
      if (!['exp', 'q', 'fence', 'intent', 'chunks'].includes(field)) expect(await refused(print)).to.deep.equal(['CHANGED']);
    });
  }
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
  const { op = operation(), by = 'mender', source = 'log', protocol = 2, tail = [], sealed = 1 } = options;
  const chunks =
    typeof document === 'string' || Buffer.isBuffer(document) ? [{ name: 'data', bytes: Buffer.from(document) }] : document;
  const bytes = joined(chunks);
  const { crc = crc32Hex(bytes), sha = shaOf(chunks), length = bytes.length } = claims;
  const facts = `${print} ${version} ${crc} ${sha} ${length} ${at} ${exp ?? '-'}`;
  const header = `${facts} ${op} ${by} ${TOMBSTONE_MS} ${GRACE_MS} PUBLISH ${protocol} ${source} ${options.repairer ?? by} ${sealed}`;
  // chunks are sent from the sixth argument on
  const plan = isWhole(chunks)
    ? ''
    : (sent(chunks).options.plan.text ?? '').replace(/ #(\d+):/g, (_, n) => ` #${Number(n) - 1}:`);
  const guarded = [header, plan, id, channel, tail.join(' ')];
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
  const { print = mode === 'drop' ? '-' : await fingerprint(lua, id), version = 1, why = 'document seal' } = options;
  const { by = 'mover', exp: expires = null, sealed = 1 } = options;
  const keys = [context, log, exp, use, size, mem, copyKeys(lua, id).moved];
  const header = `${mode} ${print} ${version} ${by} ${expires ?? '-'} ${TOMBSTONE_MS} ${GRACE_MS} ${sealed}`;
  return lua.run('quarantine', keys, [header, why, id]);
}

/** Lets go of log entries and checkpoints where they are damaged. @param sealed - whether a missing sum is damage */
export function drop(
  lua: LuaNamespace,
  id: string,
  copies: string,
  entries: readonly string[] = [],
  sealed: 0 | 1 = 1,
): Promise<Reply> {
  const { context, log, size, mem } = lua.of(id);
  const { newest, older } = copyKeys(lua, id);
  const words = ['k', 'j'].map((name) => (copies.includes(name) ? name : '-')).join(' ');
  return lua.run('drop', [context, log, size, mem, newest, older], [`${words} ${sealed}`, entries.join(' '), id]);
}

/** Takes away what is there although its log says that it is not. @param print - the fingerprint that it was found with */
export async function gone(
  lua: LuaNamespace,
  id: string,
  { print, protocol = 2 }: { readonly print?: string; readonly protocol?: 1 | 2 } = {},
): Promise<Reply> {
  const { context, log, exp, use, size, mem } = lua.of(id);
  const header = `${print ?? (await fingerprint(lua, id))} ${TOMBSTONE_MS} ${protocol} remover`;
  return lua.run('gone', [context, log, exp, use, size, mem], [header, id]);
}

/** The names of what `look` looks at. */
export function lookKeys(lua: LuaNamespace, id: string): readonly string[] {
  const { context, log, exp } = lua.of(id);
  const { newest, older, moved } = copyKeys(lua, id);
  return [context, log, newest, older, moved, exp];
}

/** All that is stored of a context, the check over every byte of it. */
export async function look(lua: LuaNamespace, id: string): Promise<Looked> {
  const keys = lookKeys(lua, id);
  const salt = operation();
  const reply = (await lua.runRaw('look', keys, [id, guardOf(salt, [...keys, id])])) as (Buffer | number)[];
  const words = reply.map((word) => (Buffer.isBuffer(word) ? word : Buffer.from(String(word))));
  expect(words.pop()?.toString(), 'the check of a look').to.equal(answerCheck(salt, words));
  const next = (): string => (words.shift() as Buffer).toString('latin1');
  const fields = (): Record<string, string> => {
    const pairs = Array.from({ length: Number(next()) }, () => [next(), next()] as const);
    expect(new Set(pairs.map(([name]) => name)).size).to.equal(pairs.length);
    return Object.fromEntries(pairs);
  };
  expect(next()).to.equal('STORED');
  const [now, due, lost] = [Number(next()), next(), next()];
  expect(lost).to.be.oneOf(['0', '1']);
  const hashes = [fields(), fields(), fields(), fields()];
  const entries = Array.from({ length: Number(next()) }, () => ({ entry: next(), ...fields() }));
  expect(words, 'words after the last entry').to.deep.equal([]);
  return { now, due: due === '' ? null : Number(due), lost: lost === '1', hashes, entries };
}

/** Writes another value into a field of a log's entries, as a bit that flips in memory would; null takes the field away. */
export async function damageEntries(
  lua: LuaNamespace,
  id: string,
  damaged: readonly string[],
  field = 'crc',
  value: string | null = 'damaged',
): Promise<void> {
  if (damaged.length === 0) return;
  const { log } = lua.of(id);
  const info = (await lua.redis.xinfo('STREAM', log)) as unknown[];
  const last = String(info[info.indexOf('last-generated-id') + 1]);
  const entries = await lua.redis.xrangeBuffer(log, '-', '+');
  for (const entry of damaged) expect(entries.map(([at]) => at.toString())).to.include(entry);
  const expiry = await lua.nativeExpiry(log);
  await lua.redis.del(log);
  for (const [entry, list] of entries) {
    const fields = list.flatMap((name, at): [Buffer, Buffer | string][] => {
      if (at % 2 === 1) return [];
      if (!damaged.includes(entry.toString()) || name.toString() !== field) return [[name, list[at + 1] as Buffer]];
      return value === null ? [] : [[name, value]];
    });
    await lua.redis.xadd(log, entry.toString(), ...fields.flat());
  }
  await lua.redis.call('XSETID', log, last);
  if (expiry > 0) await lua.redis.pexpireat(log, expiry);
}

/** Flips a bit in checkpoints, where they are. @param copies - k, j or both */
export async function damageCopies(lua: LuaNamespace, id: string, copies: string): Promise<void> {
  const { newest, older } = copyKeys(lua, id);
  for (const [name, key] of [
    ['k', newest],
    ['j', older],
  ] as const)
    if (copies.includes(name) && (await lua.redis.exists(key)) === 1)
      await flip(lua, key, (await lua.redis.hstrlen(key, 'z')) > 0 ? 'z' : 'zsum');
}

/** Flips a bit of the document, whether it is one field or in chunks. */
export async function damageDocument(lua: LuaNamespace, id: string): Promise<void> {
  const { context } = lua.of(id);
  const field =
    (await lua.redis.hexists(context, 'data')) === 1
      ? 'data'
      : ((await lua.redis.hkeys(context)).find((name) => /^d\d+$/.test(name)) ?? 'data');
  await flip(lua, context, field);
}
