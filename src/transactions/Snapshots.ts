/**
 * Named snapshots of a set of contexts, as they are kept (docs/BACKUP.md): compressed, each document and the whole with checksums, under a key in the
 * shard of the name, and with a time to live of their own. How the set comes to be of one moment, and is written back together, is not known here.
 */
import { randomBytes } from 'node:crypto';
import { crc32Hex, sha1Hex } from '../core/checksum.js';
import { compressApart, decompress, type Encoding } from '../core/compression.js';
import { ContextError, isContextError } from '../core/errors.js';
import type { Argument, Deadline } from '../redis/RedisConnection.js';
import type { SnapshotCommands } from '../redis/SnapshotCommands.js';
import { MOST_BYTES, MOST_CONTEXTS } from './Transaction.js';

/** A context as it was; `document` null where it did not exist. */
export interface SnapshotMember {
  readonly id: string;
  readonly document: {
    readonly version: number;
    readonly expiresAt: number | null;
    readonly bytes: Buffer;
  } | null;
}

/** What is known of a snapshot without its documents. */
export interface SnapshotFacts {
  readonly name: string;
  /** When it was made, ms since the epoch by Redis's clock, and the instance that did. */
  readonly at: number;
  readonly by: string;
  /** Contexts in it, those included that did not exist. */
  readonly contexts: number;
  /** Bytes of their documents. */
  readonly bytes: number;
}

export interface Snapshot extends SnapshotFacts {
  /** It is of all contexts whose ids begin with this; null: of those that were named. */
  readonly prefix: string | null;
  readonly members: readonly SnapshotMember[];
}

const FORMAT = '1';
const HEAD = ['name', 'at', 'by', 'count', 'bytes'] as const;
const META = ['format', 'op', ...HEAD, 'scope', 'contexts', 'sha'] as const;
/** What its contexts are, in the field `scope`: those that were named, or all with the prefix that follows. */
const NAMED = 'ids';
const PREFIXED = 'prefix ';
/** Compressed bytes in one field, and in one call at most. */
const PART = 256 * 1024;
const CALL_BYTES = 512 * 1024;
/** Documents compressed at a time. */
const AT_ONCE = 8;
/** How often it is read anew that is replaced meanwhile, or was damaged on its way. */
const READS = 3;
const SHOWN = 40;

/** A line of the list of contexts, by its words. */
interface Line {
  readonly id: string;
  readonly version: number;
  readonly crc: string;
  readonly sha: string;
  readonly bytes: number;
  readonly expiresAt: number | null;
  readonly encoding: Encoding;
  /** SHA-1 and length of the compressed bytes. */
  readonly zsum: string;
  readonly zbytes: number;
}

export class Snapshots {
  readonly #commands: SnapshotCommands;

  constructor(commands: SnapshotCommands) {
    this.#commands = commands;
  }

  /**
   * Keeps a snapshot: it is there whole, or not at all.
   *
   * @throws ContextError `CONFLICT` where there is one of this name, and it is not to be replaced; `LIMIT_EXCEEDED`
   */
  async write(
    name: string,
    members: readonly SnapshotMember[],
    how: { readonly prefix: string | null; readonly ttlMs: number | null; readonly replace: boolean },
    deadline: () => Deadline,
  ): Promise<SnapshotFacts & { readonly expiresAt: number | null }> {
    const bytes = checkSize(members);
    const op = randomBytes(12).toString('hex');
    const facts = { name, at: this.#commands.now, by: this.#commands.instanceId, contexts: members.length, bytes };
    const pieces = new Pieces((fields) => this.#commands.piece(name, op, fields, deadline()));
    let lines = '';
    for (let at = 0; at < members.length; at += AT_ONCE) {
      const packed = await Promise.all(members.slice(at, at + AT_ONCE).map(pack));
      for (const { id, line, z } of packed) {
        lines += line;
        for (const [part, field] of partsOf(z.length).entries())
          await pieces.add(`${field}:${id}`, z.subarray(part * PART, (part + 1) * PART));
      }
    }
    const head = {
      format: FORMAT,
      op,
      name,
      at: String(facts.at),
      by: facts.by,
      count: String(members.length),
      bytes: String(bytes),
      scope: how.prefix === null ? NAMED : `${PREFIXED}${how.prefix}`,
    };
    for (const [field, value] of Object.entries({ ...head, contexts: lines, sha: shaOf({ ...head, contexts: lines }) }))
      await pieces.add(field, value);
    await pieces.flush();
    const done = await this.#commands.preserve(name, op, { ...how, fields: pieces.count }, deadline());
    if (done.status === 'preserved') return { ...facts, expiresAt: done.expiresAt };
    if (done.status === 'exists')
      throw new ContextError('CONFLICT', `there is a snapshot ${shown(name)} already: replace it, or give another name`);
    throw new ContextError('TIMEOUT', `the snapshot ${shown(name)} took too long to be written, and was let go of: try again`);
  }

  /**
   * All of a snapshot, verified; null where there is none.
   *
   * @throws ContextError `CORRUPT` with what differs: no part of it is given out
   */
  async read(name: string, deadline: () => Deadline): Promise<Snapshot | null> {
    for (let reads = 1; ; reads += 1) {
      try {
        const found = await this.#read(name, deadline);
        if (found !== null || reads > 1) return found;
      } catch (error) {
        if (!isContextError(error) || error.code !== 'CORRUPT' || reads === READS) throw error;
      }
    }
  }

  async #read(name: string, deadline: () => Deadline): Promise<Snapshot | null> {
    const found = await this.#commands.fields(name, META, deadline());
    if (found.every((field) => field === null)) return null;
    const meta = Object.fromEntries(META.map((field, index) => [field, found[index]?.toString() ?? ''])) as Meta;
    if (meta.format !== FORMAT && meta.sha === shaOf(meta))
      throw new ContextError(
        'INVALID_ARGUMENT',
        `the snapshot ${shown(name)} is of format ${meta.format}, which is not known here`,
      );
    if (meta.name !== name) throw damaged(name, 'its name', name, meta.name);
    if (meta.sha !== shaOf(meta)) throw damaged(name, 'the SHA-1 of what it lists', meta.sha, shaOf(meta));
    const lines = meta.contexts.split('\n').slice(0, -1).map(parseLine);
    const packed = await this.#packed(name, meta.op, lines, deadline);
    const members = lines.map((line, index) => unpack(name, line, packed[index] ?? Buffer.alloc(0)));
    const prefix = meta.scope.startsWith(PREFIXED) ? meta.scope.slice(PREFIXED.length) : null;
    return { ...factsOf(meta), prefix, members };
  }

  /** The compressed documents, in the order of the lines. */
  async #packed(name: string, op: string, lines: readonly Line[], deadline: () => Deadline): Promise<Buffer[]> {
    const wanted = lines.flatMap((line, index) =>
      partsOf(line.zbytes).map((field, part) => ({
        index,
        field: `${field}:${line.id}`,
        length: Math.min(PART, line.zbytes - part * PART),
      })),
    );
    const parts: Buffer[][] = lines.map(() => []);
    for (let from = 0; from < wanted.length; ) {
      let [to, length] = [from, 0];
      while (to < wanted.length && (to === from || length + (wanted[to]?.length ?? 0) <= CALL_BYTES)) {
        length += wanted[to]?.length ?? 0;
        to += 1;
      }
      const call = wanted.slice(from, to);
      const [owner, ...fields] = await this.#commands.fields(name, ['op', ...call.map(({ field }) => field)], deadline());
      // another of this name has taken its place
      if (owner?.toString() !== op) throw damaged(name, 'who wrote it', op, owner?.toString() ?? 'nobody');
      for (const [at, { index }] of call.entries()) parts[index]?.push(fields[at] ?? Buffer.alloc(0));
      from = to;
    }
    return parts.map((list) => Buffer.concat(list));
  }

  /** What there is, by name. */
  async list(deadline: () => Deadline): Promise<(SnapshotFacts & { readonly expiresAt: number | null })[]> {
    const listed = new Map<string, SnapshotFacts & { readonly expiresAt: number | null }>();
    for (const shard of this.#commands.shards) {
      let cursor = '0';
      do {
        const page = await this.#commands.page(shard, cursor, deadline());
        const heads = await this.#commands.heads(
          page.found.map(({ name }) => name),
          HEAD,
          deadline(),
        );
        for (const [index, { name, expiresAt }] of page.found.entries()) {
          const [, at, by, count, bytes] = heads[index] ?? [];
          // it has expired, and its name goes when the next one is written
          if (!at) continue;
          listed.set(name, { name, at: Number(at), by: by ?? '', contexts: Number(count), bytes: Number(bytes), expiresAt });
        }
        cursor = page.cursor;
      } while (cursor !== '0');
    }
    return [...listed.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Whether there was one. */
  drop(name: string, deadline: () => Deadline): Promise<boolean> {
    return this.#commands.forget(name, deadline());
  }
}

/** Fields on their way: put together until they are worth a call. */
class Pieces {
  /** Fields so far. */
  count = 0;
  readonly #send: (fields: readonly (readonly [string, Argument])[]) => Promise<void>;
  #held: [string, Argument][] = [];
  #bytes = 0;

  constructor(send: (fields: readonly (readonly [string, Argument])[]) => Promise<void>) {
    this.#send = send;
  }

  async add(field: string, bytes: Buffer | string): Promise<void> {
    if (this.#bytes + bytes.length > CALL_BYTES) await this.flush();
    this.#held.push([field, bytes]);
    this.#bytes += bytes.length;
    this.count += 1;
  }

  async flush(): Promise<void> {
    if (this.#held.length > 0) await this.#send(this.#held);
    [this.#held, this.#bytes] = [[], 0];
  }
}

type Meta = Readonly<Record<(typeof META)[number], string>>;

const factsOf = ({ name, at, by, count, bytes }: Meta): SnapshotFacts => ({
  name,
  at: Number(at),
  by,
  contexts: Number(count),
  bytes: Number(bytes),
});

/** Over all but the compressed bytes, whose SHA-1s are in the list. */
const shaOf = ({ format, name, at, by, count, bytes, scope, contexts }: Omit<Meta, 'op' | 'sha'>): string =>
  sha1Hex(`${format} ${at} ${count} ${bytes} ${by}\n${name}\n${scope}\n${contexts}`);

/** `<version> <crc> <sha> <bytes> <expiresAt|-> <encoding> <zsum> <zbytes> <id>`; version 0 and `-` where it did not exist. */
async function pack({
  id,
  document,
}: SnapshotMember): Promise<{ readonly id: string; readonly line: string; readonly z: Buffer }> {
  if (document === null) return { id, line: `0 - - 0 - - - 0 ${id}\n`, z: Buffer.alloc(0) };
  const { version, expiresAt, bytes } = document;
  const { encoding, bytes: z } = await compressApart(bytes);
  const facts = [version, crc32Hex(bytes), sha1Hex(bytes), bytes.length, expiresAt ?? '-', encoding, sha1Hex(z), z.length];
  return { id, line: `${facts.join(' ')} ${id}\n`, z };
}

/** An id may hold blanks, and what Unicode calls line ends, but no line feed. */
const LINE = /^(\d+) (\S+) (\S+) (\d+) (\S+) (\S+) (\S+) (\d+) (.*)$/s;

function parseLine(line: string): Line {
  const [, version, crc = '', sha = '', bytes, expiresAt, encoding, zsum = '', zbytes, id = ''] = LINE.exec(line) ?? [];
  return {
    ...{ id, version: Number(version), crc, sha, bytes: Number(bytes), zsum, zbytes: Number(zbytes) },
    expiresAt: expiresAt === '-' ? null : Number(expiresAt),
    encoding: encoding as Encoding,
  };
}

/** Names of the fields that so many bytes lie in, but for the id. */
const partsOf = (bytes: number): string[] => Array.from({ length: Math.ceil(bytes / PART) }, (_, part) => `z${part}`);

function unpack(name: string, line: Line, z: Buffer): SnapshotMember {
  const { id, version, expiresAt } = line;
  if (version === 0) return { id, document: null };
  const zsum = sha1Hex(z);
  if (zsum !== line.zsum) throw damaged(name, `the SHA-1 of the compressed document of ${id}`, line.zsum, zsum);
  const bytes = decompress(line.encoding, z, line.bytes);
  const found = [crc32Hex(bytes), sha1Hex(bytes)];
  if (found[0] !== line.crc) throw damaged(name, `the CRC-32 of the document of ${id}`, line.crc, String(found[0]));
  if (found[1] !== line.sha) throw damaged(name, `the SHA-1 of the document of ${id}`, line.sha, String(found[1]));
  return { id, document: { version, expiresAt, bytes } };
}

function checkSize(members: readonly SnapshotMember[]): number {
  if (members.length > MOST_CONTEXTS) throw tooMany(members.length);
  const bytes = members.reduce((sum, { document }) => sum + (document?.bytes.length ?? 0), 0);
  if (bytes > MOST_BYTES) throw tooLarge(bytes);
  return bytes;
}

export const tooMany = (found: number): ContextError =>
  new ContextError(
    'LIMIT_EXCEEDED',
    `a snapshot has at most ${MOST_CONTEXTS} contexts, not ${found}: make several, or export them`,
    { limit: 'snapshot.contexts', expected: MOST_CONTEXTS, found },
  );

export const tooLarge = (found: number): ContextError =>
  new ContextError(
    'LIMIT_EXCEEDED',
    `the documents of the snapshot have ${found} bytes; at most ${MOST_BYTES} are allowed: make several, or export them`,
    { limit: 'snapshot.bytes', expected: MOST_BYTES, found },
  );

const damaged = (name: string, what: string, expected: string, found: string): ContextError =>
  new ContextError(
    'CORRUPT',
    `the snapshot ${shown(name)} is damaged: ${what} is ${found}, not ${expected}; nothing was restored`,
    {
      expected,
      found,
    },
  );

const shown = (name: string): string => JSON.stringify(name.length > SHOWN ? `${name.slice(0, SHOWN)}…` : name);
