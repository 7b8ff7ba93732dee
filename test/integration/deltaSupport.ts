/**
 * What the tests of delta encoding share: documents that are stored in chunks, what Redis has read by hand, and a subscriber that follows a
 * channel as a client in another language would (test/helpers/referenceClient.ts), so that the bytes are held against an implementation of
 * their own.
 */
import { expect } from 'chai';
import type { Redis } from 'ioredis';
import type { ContextStore, JsonValue } from '../../src/index.js';
import { ReferenceClient, readFrame, shaHex } from '../helpers/referenceClient.js';
import type { TestStores } from '../helpers/stores.js';
import type { TcpProxy } from '../helpers/TcpProxy.js';
import { waitFor } from '../helpers/waitFor.js';

export interface Turn {
  text: string;
}
export interface Talk {
  n: number;
  turns: Turn[];
}

/** Text that does not compress to nothing, the same for the same number. */
export function prose(number: number, length: number): string {
  let text = '';
  for (let n = number * 7_919 + 1; text.length < length; n = (n * 48_271) % 2_147_483_647) text += `${n.toString(36)} `;
  return text.slice(0, length);
}

/** A document of about so many bytes: a number, and turns of 500 characters. */
export function talk(bytes: number): Talk {
  const turns = Array.from({ length: Math.max(1, Math.round(bytes / 511)) }, (_, index) => ({ text: prose(index, 500) }));
  return { n: 0, turns };
}

export const bytesOf = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

export interface StoredForm {
  readonly form: 'whole' | 'chunked';
  readonly version: number;
  readonly bytes: Buffer;
  /** Names of the chunks in the order of the document; empty where there are none. */
  readonly chunks: readonly string[];
  readonly lengths: readonly number[];
}

/** What Redis has, read as docs/DELTA_PROTOCOL.md says and with every checksum compared; null where there is nothing. */
export async function storedForm(redis: Redis, store: ContextStore, id: string): Promise<StoredForm | null> {
  const fields = await redis.hgetallBuffer(store.keysOf(id).context);
  if (Object.keys(fields).length === 0) return null;
  const word = (name: string): string => fields[name]?.toString() ?? `no ${name}`;
  const manifest = fields.chunks?.toString();
  const names: string[] = [];
  const pieces: Buffer[] = [];
  for (const line of manifest?.split('\n').slice(0, -1) ?? []) {
    const [name = '', length, sha] = line.split(' ');
    const piece = fields[name] ?? Buffer.alloc(0);
    expect(`${name} ${piece.length} ${shaHex(piece)}`).to.equal(`${name} ${length} ${sha}`);
    names.push(name);
    pieces.push(piece);
  }
  expect(fields.data === undefined, 'one form or the other').to.equal(manifest !== undefined);
  const stray = Object.keys(fields).filter((name) => /^d\d+$/.test(name) && !names.includes(name));
  expect(stray, 'chunks that nobody lists').to.deep.equal([]);
  const bytes = fields.data ?? Buffer.concat(pieces);
  expect(word('sha')).to.equal(shaHex(manifest === undefined ? bytes : Buffer.from(manifest)));
  const client = new ReferenceClient();
  client.load(1, bytes);
  expect([word('crc'), word('len')]).to.deep.equal([client.crc, String(bytes.length)]);
  return {
    form: manifest === undefined ? 'whole' : 'chunked',
    version: Number(word('v')),
    bytes,
    chunks: names,
    lengths: pieces.map(({ length }) => length),
  };
}

/** A subscriber of another make: it loads the document, and follows the channel from there. */
export class Follower {
  readonly client = new ReferenceClient();
  /** Everything that came on the channel. */
  readonly messages: Buffer[] = [];

  static async start(stores: TestStores, store: ContextStore, id: string): Promise<Follower> {
    const [redis, subscriber] = [await stores.redis(), await stores.redis()];
    const follower = new Follower();
    subscriber.on('messageBuffer', (_channel: Buffer, message: Buffer) => {
      follower.messages.push(message);
      follower.client.message(message);
    });
    await subscriber.subscribe(store.keysOf(id).channel);
    const stored = await storedForm(redis, store, id);
    const [last] = await redis.xrevrange(store.keysOf(id).log, '+', '-', 'COUNT', 1);
    follower.client.load(stored?.version ?? Number.parseInt(last?.[0] ?? '0', 10), stored?.bytes ?? null);
    return follower;
  }

  /** Kinds of the frames so far, each with the encoding of its payload where it has one. */
  get kinds(): string[] {
    return this.messages
      .filter((message) => /^lc\d+ /.test(message.toString('latin1', 0, 8)))
      .map((message) => {
        const { kind, encoding } = readFrame(message);
        return encoding === '-' ? kind : `${kind} ${encoding}`;
      });
  }

  get protocols(): number[] {
    return this.messages
      .filter((message) => /^lc\d+ /.test(message.toString('latin1', 0, 8)))
      .map((message) => readFrame(message).protocol);
  }

  get bytes(): number {
    return this.messages.reduce((sum, { length }) => sum + length, 0);
  }

  /** Waits for a version, which must have come by frames alone. */
  async version(version: number): Promise<Buffer | null> {
    await waitFor(() => this.client.version >= version || this.client.trouble !== '', { what: `a frame to version ${version}` });
    expect({ version: this.client.version, trouble: this.client.trouble }).to.deep.equal({ version, trouble: '' });
    return this.client.document;
  }
}

/** What everybody must have: Redis, a read of another instance, the frames' follower, and what `verify` says. */
export async function expectEverywhere(
  value: JsonValue | object,
  version: number,
  at: { redis: Redis; id: string; stores: readonly ContextStore[]; follower?: Follower },
): Promise<StoredForm> {
  const { redis, id, stores, follower } = at;
  const bytes = bytesOf(value);
  const [first] = stores;
  if (first === undefined) throw new Error('there must be a store');
  const stored = await storedForm(redis, first, id);
  if (stored === null) throw new Error(`${id} is not there`);
  expect(stored.version).to.equal(version);
  expect(stored.bytes.equals(bytes), `the bytes of version ${version} in Redis`).to.equal(true);
  for (const store of stores) {
    const read = await store.get(id, { fresh: true });
    expect(read?.version).to.equal(version);
    expect(bytesOf(read?.value).equals(bytes), `what is read of version ${version}`).to.equal(true);
    expect((await store.rawBytes(id))?.equals(bytes)).to.equal(true);
  }
  expect((await first.verify(id))?.checks.filter(({ ok }) => !ok)).to.deep.equal([]);
  const followed = await follower?.version(version);
  if (follower !== undefined) expect(followed?.equals(bytes), `version ${version} by frames`).to.equal(true);
  return stored;
}

/** Waits until a replica has this version, and gives its bytes, made from its value. */
export async function replicaAt(store: ContextStore, id: string, version: number): Promise<Buffer> {
  const { hits } = (await store.stats()).replicas;
  const context = await waitFor(
    async () => {
      const read = await store.get(id);
      return read?.version === version && read;
    },
    { what: `version ${version} in ${store.instanceId}` },
  );
  expect((await store.stats()).replicas.hits, 'it was answered from memory').to.be.greaterThan(hits);
  return bytesOf(context.value);
}

/** Loses what frames bring to whoever is behind the proxy, until the returned function is called. */
export const loseFrames = (proxy: TcpProxy): (() => void) =>
  proxy.drop({ direction: 'down', when: (chunk) => chunk.includes('lc2 ') });
