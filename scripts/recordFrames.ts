/**
 * Records what an instance of this version sends and logs, as a corpus that later versions are tested with: `test/fixtures/frames/`.
 * A fixed series of operations runs against a server of its own; only time stamps and operation ids differ from one recording to the next.
 *
 * `npx tsx scripts/recordFrames.ts test/fixtures/frames/protocol-1.json 1`
 */
import { writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import type { Redis } from 'ioredis';
import { ContextStore } from '../src/index.js';
import { uniqueNamespace } from '../test/helpers/namespace.js';
import { RedisServer } from '../test/helpers/RedisServer.js';
import { type Conversation, editConversation, makeConversation, type Rng, seededRng } from '../test/helpers/random.js';
import { waitFor } from '../test/helpers/waitFor.js';

/** One operation: what came over the channel, and what the context is afterwards. */
interface Step {
  readonly what: string;
  /** The channel's messages in their order, base64. */
  readonly messages: readonly string[];
  /** The document, gzip in base64; null where there is none. */
  readonly document: string | null;
  readonly version: number;
  readonly crc: string;
  readonly expiresAt: number | null;
}

const SEED = 20_240_601;
const ID = 'corpus';
const HEADER_WORD = 8;

class Recorder {
  readonly steps: Step[] = [];
  readonly store: ContextStore;
  readonly #client: Redis;
  readonly #subscriber: Redis;
  readonly #fence: string;
  #messages: Buffer[] = [];
  #fences = 0;
  #version = 0;

  constructor(store: ContextStore, client: Redis, subscriber: Redis) {
    this.store = store;
    this.#client = client;
    this.#subscriber = subscriber;
    this.#fence = `fence-${store.namespace}`;
  }

  async subscribe(): Promise<void> {
    this.#subscriber.on('messageBuffer', (channel: Buffer, message: Buffer) => {
      if (channel.toString() === this.#fence) this.#fences += 1;
      else this.#messages.push(message);
    });
    await this.#subscriber.subscribe(this.store.keysOf(ID).channel, this.#fence);
  }

  async step(what: string, run: () => Promise<unknown>): Promise<void> {
    await run();
    // messages come in the order in which they were published: the fence is the last of this step
    const fences = this.#fences + 1;
    await this.#client.publish(this.#fence, '');
    await waitFor(() => this.#fences === fences, { what: `the messages of "${what}"` });
    const context = await this.store.get(ID, { fresh: true });
    const messages = this.#messages.splice(0);
    for (const message of messages) {
      // the header's version word: deletions have no other place that tells it
      const words = message.subarray(0, 1024).toString('latin1').split('\n', 1)[0]?.split(' ') ?? [];
      if (/^lc\d+$/.test(words[0] ?? '') && words.length >= HEADER_WORD)
        this.#version = Number(words[0] === 'lc1' ? words[2] : words[4]);
    }
    this.steps.push({
      what,
      messages: messages.map((message) => message.toString('base64')),
      document: context === null ? null : gzipSync(JSON.stringify(context.value), { level: 9 }).toString('base64'),
      version: context?.version ?? this.#version,
      crc: context?.checksum ?? '',
      expiresAt: context?.expiresAt ?? null,
    });
  }

  /** Edits the document as it is. */
  edit(what: string, rng: Rng, kind: Parameters<typeof editConversation>[2]): Promise<void> {
    return this.step(what, () =>
      this.store.update<Conversation>(ID, (draft) =>
        editConversation(JSON.parse(JSON.stringify(draft)) as Conversation, rng, kind),
      ),
    );
  }

  set(what: string, value: unknown, ttl?: string): Promise<void> {
    return this.step(what, () => this.store.set(ID, value, ttl === undefined ? {} : { ttl }));
  }

  /** Waits until the context is over by Redis's own clock. */
  async expired(): Promise<void> {
    await waitFor(async () => (await this.store.get(ID, { fresh: true })) === null, { what: 'the expiry' });
  }
}

const reversed = (value: Conversation): unknown => Object.fromEntries(Object.entries(value).reverse());

async function series(recorder: Recorder, rng: Rng, protocol: number, sweep: () => Promise<void>): Promise<void> {
  const { store } = recorder;
  await recorder.set('create', makeConversation(SEED, 1_200));
  for (const kind of ['append', 'field', 'text'] as const) await recorder.edit(`update, small: ${kind}`, rng, kind);
  await recorder.set('another whole, small', makeConversation(SEED + 1, 1_000));
  await recorder.step('text that is not ASCII', () =>
    store.update<Conversation>(ID, (draft) => {
      draft.title = 'Größe 東京 данные 🙂 é e\u0301 \u2028 \u0000 "\\"';
    }),
  );
  await recorder.step('key order only', async () => {
    const now = await store.get<Conversation>(ID);
    if (now !== null) await store.set(ID, reversed(now.value));
  });
  await recorder.step('touch', () => store.touch(ID, '1h'));
  await recorder.edit('update of one that expires', rng, 'field');
  await recorder.step('touch: no expiry', () => store.touch(ID, 'none'));
  for (const [name, value] of Object.entries({
    'empty object': {},
    null: null,
    'empty string': '',
    number: -0.5,
    array: [[], {}],
  }))
    await recorder.set(`another whole: ${name}`, value);
  await recorder.set('another whole, more than 4 KB', makeConversation(SEED + 2, 6_000));
  for (const kind of ['append', 'head', 'delete', 'subtree', 'field'] as const)
    await recorder.edit(`update, more than 4 KB: ${kind}`, rng, kind);
  await recorder.set('another whole, more than 4 KB, again', makeConversation(SEED + 3, 5_000));
  await recorder.step('delete', () => store.delete(ID));
  await recorder.set('create again', makeConversation(SEED + 4, 1_100), '1h');
  await recorder.edit('update after it', rng, 'field');
  await recorder.step('touch: about to expire', () => store.touch(ID, '250ms'));
  await recorder.expired();
  await recorder.set('write over an expired one', makeConversation(SEED + 5, 1_000));
  await recorder.set('one that expires', makeConversation(SEED + 5, 1_050), '250ms');
  await recorder.expired();
  await recorder.step('expiry', sweep);
  await recorder.set('create after an expiry, more than 4 KB', makeConversation(SEED + 6, 4_500));
  await recorder.edit('update, the last', rng, 'append');
  if (protocol >= 2) await largeSeries(recorder, rng);
}

type Large = Conversation & { archive?: string[] };

/** Above what fits into one field, most of it lines of which the recording does not grow much. */
const archive = (): string[] =>
  Array.from({ length: 560 }, (_, line) => `line ${line}: nothing has happened, and nobody has asked for it`);

/** What protocol 1 has no forms for: documents in chunks, large splices, moved blocks. */
async function largeSeries(recorder: Recorder, rng: Rng): Promise<void> {
  const { store } = recorder;
  const update = (what: string, change: (draft: Large) => void): Promise<void> =>
    recorder.step(what, () => store.update<Large>(ID, change));
  await recorder.step('delete, again', () => store.delete(ID));
  await recorder.set('create, in chunks', { ...makeConversation(SEED + 7, 5_000), archive: archive() });
  for (const kind of ['append', 'head', 'delete', 'text', 'subtree', 'field'] as const)
    await recorder.edit(`update, in chunks: ${kind}`, rng, kind);
  await update('moved blocks, in chunks', (draft) => {
    draft.turns.push(...draft.turns.splice(0, draft.turns.length >> 1));
  });
  await update('much that does not compress, in chunks', (draft) => {
    draft.title = Array.from({ length: 900 }, () => rng.int(0, 0xffff_ffff).toString(36)).join('');
  });
  await recorder.step('key order only, in chunks', async () => {
    const now = await store.get<Conversation>(ID);
    if (now !== null) await store.set(ID, reversed(now.value));
  });
  await update('back into one field', (draft) => {
    delete draft.archive;
    draft.title = 'short again';
  });
  await recorder.edit('update, in one field', rng, 'append');
  await update('into chunks by a splice', (draft) => {
    draft.archive = archive();
  });
  await recorder.set('another whole, out of chunks', makeConversation(SEED + 8, 1_000));
  await recorder.step('delete, the last', () => store.delete(ID));
}

async function record(file: string, protocol: number): Promise<void> {
  const server = await RedisServer.start();
  const options = { redis: server.url, namespace: uniqueNamespace('frames'), workers: 'off', logger: false } as const;
  const store = await ContextStore.connect({ ...options, heartbeat: '1h', instanceId: 'recorder' });
  try {
    const client = server.client();
    const recorder = new Recorder(store, client, server.client());
    await recorder.subscribe();
    await series(recorder, seededRng(SEED), protocol, async () => {
      // its heartbeat is what looks for expired contexts
      const sweeper = await ContextStore.connect({ ...options, heartbeat: '10ms', instanceId: 'sweeper' });
      await waitFor(async () => (await client.exists(store.keysOf(ID).context)) === 0, { what: 'the sweep' });
      await sweeper.close();
    });
    const log = (await client.xrangeBuffer(store.keysOf(ID).log, '-', '+')).map(([id, fields]) => ({
      id: id.toString(),
      fields: Object.fromEntries(
        fields.flatMap((name, at) =>
          at % 2 === 0 ? [[name.toString(), (fields[at + 1] ?? Buffer.alloc(0)).toString('base64')]] : [],
        ),
      ),
    }));
    const corpus = { protocol, seed: SEED, id: ID, channel: store.keysOf(ID).channel, steps: recorder.steps, log };
    writeFileSync(file, `${JSON.stringify(corpus, null, 1)}\n`);
    console.log(`${recorder.steps.length} steps and ${log.length} log entries in ${file}`);
  } finally {
    await store.close();
    await server.stop();
  }
}

const [file, protocol] = process.argv.slice(2);
if (file === undefined || !/^[1-9]$/.test(protocol ?? '')) {
  console.error('usage: npx tsx scripts/recordFrames.ts <file> <protocol: 1 or 2>');
  process.exitCode = 2;
} else {
  record(file, Number(protocol)).catch((error: unknown) => {
    console.error(error);
    process.exitCode = 1;
  });
}
