/** The only place that spells a key. Every key of a shard begins with its hash tag, so that one script sees them all. */
import { crc32 } from '../core/checksum.js';

export interface ShardKeys {
  readonly shard: number;
  readonly tag: string;
  readonly exp: string;
  readonly use: string;
  readonly size: string;
  readonly mem: string;
  /** Damaged contexts that a sweep passes over, by the time when it looks at them again. */
  readonly skip: string;
  /** Transactions over several shards that are not settled here, by the deadline of their intents. */
  readonly txn: string;
  /** Names of snapshots, by their expiry. */
  readonly snap: string;
}

export interface ContextKeys extends ShardKeys {
  readonly context: string;
  readonly log: string;
  readonly channel: string;
  /** Where a script keeps old bytes aside for its own duration. */
  readonly old: string;
}

/** The names of a namespace's keys. */
export class Keys {
  readonly namespace: string;
  readonly shards: readonly ShardKeys[];

  constructor(namespace: string, shards: number) {
    this.namespace = namespace;
    this.shards = Array.from({ length: shards }, (_, shard) => shardKeys(namespace, shard));
  }

  /** CRC-32 of the id modulo the shard count. */
  shardOf(id: string): ShardKeys {
    const { shards } = this;
    const shard = shards[shards.length === 1 ? 0 : crc32(id) % shards.length];
    if (shard === undefined) throw new RangeError('a namespace has at least one shard');
    return shard;
  }

  of(id: string): ContextKeys {
    const shard = this.shardOf(id);
    return {
      ...shard,
      context: contextKey(shard, id),
      log: `${shard.tag}:l:${id}`,
      channel: `${shard.tag}:ch:${id}`,
      old: `${shard.tag}:o:${id}`,
    };
  }

  /** Compressed copies of a context as it was, the newer one first; named in `lua/include/checkpoint.lua` as well. */
  checkpointsOf(id: string): readonly [string, string] {
    const { tag } = this.shardOf(id);
    return [`${tag}:k:${id}`, `${tag}:j:${id}`];
  }

  /** What was moved aside because it is damaged; named in `lua/include/checkpoint.lua` as well. */
  quarantineOf(id: string): string {
    return `${this.shardOf(id).tag}:q:${id}`;
  }

  /** The pattern of all quarantined contexts of a shard, and the id in such a key. */
  quarantined(shard: ShardKeys): { readonly pattern: string; idOf(key: string): string } {
    const prefix = `${shard.tag}:q:`;
    return { pattern: `${prefix.replace(/[\\*?[\]^-]/g, '\\$&')}*`, idOf: (key) => key.slice(prefix.length) };
  }

  /** What a transaction over several shards keeps in one of them; the record of part 0 has its decision. */
  transactionOf(shard: ShardKeys, txn: string, part: number): string {
    return `${shard.tag}:t:${txn}.${part}`;
  }

  /** A snapshot, where operation `op` writes its pieces until it is whole, and the names of those of its shard. */
  snapshotOf(name: string, op: string): { readonly snapshot: string; readonly pieces: string; readonly index: string } {
    const { tag, snap } = this.shardOf(name);
    return { snapshot: `${tag}:p:${name}`, pieces: `${tag}:s:${op}`, index: snap };
  }

  /** Who holds a context and who waits for it; `lua/include/fence.lua` makes it of the context's key. */
  lockBookOf(id: string): string {
    return `${this.shardOf(id).tag}:w:${id}`;
  }

  /** What a lock on a context is given by; only these, since a lock may be taken thousands of times a second. */
  lockKeysOf(id: string): { readonly shard: number; readonly book: string; readonly context: string; readonly mem: string } {
    const shard = this.shardOf(id);
    return { shard: shard.shard, book: `${shard.tag}:w:${id}`, context: contextKey(shard, id), mem: shard.mem };
  }

  /** The pattern of the lock books of all shards, and the id in such a key; null where it is another one that matches. */
  lockBooks(): { readonly pattern: string; idOf(key: string): string | null } {
    const idOf = (key: string): string | null => {
      const { kind, id } = parseContextKey(this.namespace, key) ?? {};
      return kind === 'w' && id !== undefined && this.lockBookOf(id) === key ? id : null;
    };
    return { pattern: `{lc:${escaped(this.namespace)}:*}:w:*`, idOf };
  }

  /** Where an instance is told that one of its waiters has its turn; named in `lua/include/lockbook.lua` as well. */
  wake(shard: ShardKeys, instanceId: string): string {
    return `${shard.tag}:wake:${instanceId}`;
  }

  /** Where instances ask each other for a document, and where one of them is answered. */
  get peers(): string {
    return `{lc:${this.namespace}}:peers`;
  }
  peer(instanceId: string): string {
    return `{lc:${this.namespace}}:peer:${instanceId}`;
  }
}

export const contextKey = (shard: ShardKeys, id: string): string => `${shard.tag}:c:${id}`;

function shardKeys(namespace: string, shard: number): ShardKeys {
  const tag = `{lc:${namespace}:${shard}}`;
  return {
    shard,
    tag,
    exp: `${tag}:exp`,
    use: `${tag}:use`,
    size: `${tag}:size`,
    mem: `${tag}:mem`,
    skip: `${tag}:skip`,
    txn: `${tag}:txn`,
    snap: `${tag}:snap`,
  };
}

/** Hash with what was fixed when the namespace was created. */
export const namespaceKey = (namespace: string): string => `{lc:${namespace}}:ns`;

/** What the data server remembers of a namespace's lock nodes. */
export const lockNodesKey = (namespace: string): string => `{lc:${namespace}}:nodes`;

/** On a lock node: since when it votes, and who holds a resource there. */
export const nodeKeys = (namespace: string, id: string): readonly [marker: string, held: string] => [
  nodeMarkerKey(namespace),
  `{lc:${namespace}}:held:${id}`,
];
export const nodeMarkerKey = (namespace: string): string => `{lc:${namespace}}:node`;

/** Keys and channel that the rights check uses; it leaves nothing behind. */
export function probeKeys(namespace: string): { readonly keys: readonly string[]; readonly channel: string } {
  const { tag } = shardKeys(namespace, 0);
  return { keys: [`${tag}:probe:h`, `${tag}:probe:s`, `${tag}:probe:z`, `${tag}:probe:o`], channel: `${tag}:ch:probe` };
}

/** The pattern of all keys and channels of a namespace, as an ACL rule writes it. */
export const accessPattern = (namespace: string): string => `{lc:${namespace}*`;

const escaped = (text: string): string => text.replace(/[\\*?[\]^-]/g, '\\$&');

/** The pattern of the keys of all shards, as `SCAN` takes it. */
export const shardKeysPattern = (namespace: string): string => `{lc:${escaped(namespace)}:*`;

/** Which shard, kind (`c`, `l`, `k`, `j`, `q`, `o`, `w`, …) and id a key is of; null where it is not one of a context. */
export function parseContextKey(namespace: string, key: string): { shard: number; kind: string; id: string } | null {
  const start = `{lc:${namespace}:`;
  if (!key.startsWith(start)) return null;
  const [, shard, kind = '', id = ''] = /^(\d+)\}:([a-z]):(.*)$/s.exec(key.slice(start.length)) ?? [];
  return shard === undefined ? null : { shard: Number(shard), kind, id };
}

/** What BullMQ puts before its keys: in the namespace's own rights, and in one hash slot. */
export const queuePrefix = (namespace: string): string => `{lc:${namespace}}:bull`;
