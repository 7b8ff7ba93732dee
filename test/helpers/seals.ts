/** Seals and sums as docs/INTEGRITY.md defines them, computed here by other means than the scripts do. */
import { gzipSync } from 'node:zlib';
import { crc32Hex, sha1Hex } from '../../src/core/checksum.js';
import type { LuaNamespace } from './lua.js';

type Fields = Readonly<Record<string, string | number | undefined>>;

export const sealOf = (id: string, { v, crc, sha, len, at, exp }: Fields): string =>
  sha1Hex(`${v} ${crc} ${sha} ${len} ${at} ${exp ?? '-'} ${id}`);

export function sumOf(id: string, entry: string, fields: ReadonlyMap<string, Buffer>): string {
  const word = (name: string): string => fields.get(name)?.toString() ?? '-';
  const names = ['kind', 'enc', 'base', 'crc', 'sha', 'len', 'at', 'exp', 'op', 'by'];
  const whole = word('kind') === 'full' && word('enc') === '-';
  const body = whole ? Buffer.alloc(0) : (fields.get('frame') ?? Buffer.alloc(0));
  const head = `${entry} ${names.map(word).join(' ')} ${id}\n`;
  return sha1Hex(Buffer.concat([Buffer.from(head), body])).slice(0, 16);
}

/** Gives a context its seal, and every entry of its log a sum, where they have none. */
export async function seal(lua: LuaNamespace, id: string): Promise<void> {
  const { context, log } = lua.of(id);
  await lua.redis.hset(context, 'seal', sealOf(id, await lua.redis.hgetall(context)));
  const entries = await lua.redis.xrangeBuffer(log, '-', '+');
  const expiry = await lua.nativeExpiry(log);
  await lua.redis.del(log);
  for (const [entry, list] of entries) {
    const fields = new Map(list.flatMap((name, at) => (at % 2 === 0 ? [[name.toString(), list[at + 1] as Buffer]] : [])));
    if (!fields.has('sum')) fields.set('sum', Buffer.from(sumOf(id, entry.toString(), fields)));
    await lua.redis.xadd(log, entry.toString(), ...[...fields].flat());
  }
  if (expiry > 0) await lua.redis.pexpireat(log, expiry);
}

/** Writes a checkpoint of a document as it is kept from now on: compressed, sealed. */
export async function checkpoint(lua: LuaNamespace, id: string, name: 'k' | 'j', document: string, version = 1): Promise<string> {
  const key = `${lua.shard.tag}:${name}:${id}`;
  const z = gzipSync(document);
  const fields = {
    v: version,
    crc: crc32Hex(document),
    sha: sha1Hex(document),
    len: Buffer.byteLength(document),
    at: 1,
    exp: '-',
  };
  await lua.redis.hset(key, { ...fields, enc: 'gz', z, zsum: sha1Hex(z), seal: sealOf(id, fields) });
  return key;
}

/** Flips one bit of a field. */
export async function flip(lua: LuaNamespace, key: string, field: string, bit = 0): Promise<void> {
  const bytes = await lua.redis.hgetBuffer(key, field);
  if (bytes === null) throw new Error(`${key} has no ${field}`);
  const at = (bit >> 3) % bytes.length;
  bytes[at] = (bytes[at] ?? 0) ^ (1 << (bit & 7));
  await lua.redis.hset(key, field, bytes);
}
