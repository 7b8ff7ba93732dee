/**
 * Instances ask each other for documents that Redis has lost: whoever has a copy that it once verified says so, and one of them sends it.
 *
 * `lcp1 <check> <word> <request> <from> <to> <version> <crc> <length> <id>` on the namespace's channel, or on that of one instance:
 * - `want` (to `*`): who has this context?
 * - `have` (to who asked): I do, at this version with this checksum.
 * - `send` (to who has it): send me that. What follows is a frame of protocol 2 (docs/DELTA_PROTOCOL.md), a whole document.
 *
 * Nothing that comes this way is believed because of who sent it: the document must have the checksum of a version that the log, or the
 * context's own seal, names.
 */
import { randomBytes } from 'node:crypto';
import { crc32Hex, sha1Hex } from '../core/checksum.js';
import { compress } from '../core/compression.js';
import { isContextError } from '../core/errors.js';
import { FrameReader, frameHeader2 } from '../core/frame.js';
import type { ContextCommands } from '../redis/ContextCommands.js';
import type { IntegrityCommands } from '../redis/IntegrityCommands.js';
import type { Subscriptions } from '../redis/Subscriptions.js';
import { documentOf, type ReplicaState } from '../replica/state.js';

/** How long is waited for somebody to have it, and for the document to come, ms. */
const HAVE_MS = 250;
const SEND_MS = 2_000;
/** Whoever has it answers within this time, so that not all answer at once, ms. */
const SPREAD_MS = 10;

interface Words {
  readonly word: 'want' | 'have' | 'send';
  readonly request: string;
  readonly from: string;
  readonly to: string;
  readonly version: number;
  readonly crc: string;
  readonly length: number;
  readonly id: string;
}

/** A document that another instance has. */
export interface PeerDocument {
  readonly version: number;
  readonly crc: string;
  readonly bytes: Buffer;
  readonly at: number;
  readonly expiresAt: number | null;
  readonly from: string;
}

type Asked = (words: Words) => void;

const checkOf = (text: string): string => sha1Hex(text).slice(0, 8);

function written({ word, request, from, to, version, crc, length, id }: Words): string {
  const text = `${word} ${request} ${from} ${to} ${version} ${crc || '-'} ${length} ${id}`;
  return `lcp1 ${checkOf(text)} ${text}`;
}

function read(message: Buffer): Words | null {
  const found = /^lcp1 ([0-9a-f]{8}) ((want|have|send) (\S+) (\S+) (\S+) (\d+) (\S+) (\d+) (.*))$/s.exec(message.toString());
  if (found === null) return null;
  const [, check, text = '', word, request = '', from = '', to = '', version, crc = '', length, id = ''] = found;
  if (check !== checkOf(text)) return null;
  return {
    word: word as Words['word'],
    request,
    from,
    to,
    version: Number(version),
    crc: crc === '-' ? '' : crc,
    length: Number(length),
    id,
  };
}

export class Peers {
  readonly #commands: ContextCommands;
  readonly #copies: IntegrityCommands;
  #subscriptions: Subscriptions | null = null;
  /** The state that this process has of a context, however old. */
  readonly #held: (id: string) => ReplicaState | undefined;
  readonly #asked = new Map<string, Asked>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #closed = false;

  constructor(commands: ContextCommands, copies: IntegrityCommands, held: (id: string) => ReplicaState | undefined) {
    this.#commands = commands;
    this.#copies = copies;
    this.#held = held;
  }

  /** Listens for questions. */
  async open(subscriptions: Subscriptions): Promise<void> {
    const { keys } = this.#commands;
    this.#subscriptions = subscriptions;
    await Promise.all([
      subscriptions.subscribe(keys.peers, (message) => this.#hear(message)),
      subscriptions.subscribe(keys.peer(this.#me), (message) => this.#hear(message)),
    ]);
  }

  close(): void {
    this.#closed = true;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    this.#asked.clear();
  }

  /**
   * The document of a context from another instance, or from this one.
   *
   * @param wanted - the version and checksum it must have; null: the newest that anybody has
   */
  async find(id: string, wanted: { readonly version: number; readonly crc: string } | null): Promise<PeerDocument | null> {
    const own = this.#held(id);
    if (own?.value !== undefined && (wanted === null || matches(own, wanted))) {
      const { version, crc, at, expiresAt } = own;
      return { version, crc, bytes: documentOf(own).text.bytes(), at, expiresAt, from: this.#me };
    }
    const subscriptions = this.#subscriptions;
    if (subscriptions === null) return null;
    const offers = await this.#offers(id, wanted);
    for (const offer of offers) {
      const document = await this.#fetch(subscriptions, offer);
      if (document !== null) return document;
    }
    return null;
  }

  get #me(): string {
    return this.#commands.settings.instanceId;
  }

  /** Who has it, the newest first. */
  async #offers(id: string, wanted: { readonly version: number; readonly crc: string } | null): Promise<Words[]> {
    const request = randomBytes(6).toString('base64url');
    const offers: Words[] = [];
    const { promise, done } = until(HAVE_MS);
    this.#asked.set(request, (words) => {
      if (wanted !== null && !matches(words, wanted)) return;
      offers.push(words);
      if (wanted !== null) done();
    });
    try {
      await this.#say(this.#commands.keys.peers, {
        word: 'want',
        request,
        to: '*',
        id,
        ...(wanted ?? { version: 0, crc: '' }),
        length: 0,
      });
      await promise;
    } finally {
      this.#asked.delete(request);
    }
    return offers.sort((a, b) => b.version - a.version);
  }

  async #fetch(subscriptions: Subscriptions, offer: Words): Promise<PeerDocument | null> {
    const { id, version, crc, from } = offer;
    const request = randomBytes(6).toString('base64url');
    const channel = `${this.#commands.keys.peer(this.#me)}:${request}`;
    const { promise, done } = until(SEND_MS);
    const reader = new FrameReader();
    let document: PeerDocument | null = null;
    const receive = (message: Buffer): void => {
      try {
        const frame = reader.read(message);
        if (frame === null) return;
        if (frame.kind === 'full' && frame.version === version && frame.crc === crc && crc32Hex(frame.payload) === crc)
          document = { version, crc, bytes: frame.payload, at: frame.at, expiresAt: frame.expiresAt, from };
      } catch (error) {
        if (!isContextError(error)) throw error;
      }
      done();
    };
    try {
      await subscriptions.subscribe(channel, receive);
      await this.#say(this.#commands.keys.peer(from), { word: 'send', request, to: from, id, version, crc, length: 0 });
      await promise;
    } catch (error) {
      if (!isContextError(error)) throw error;
    } finally {
      subscriptions.unsubscribe(channel);
    }
    return document;
  }

  #hear(message: Buffer): void {
    const words = read(message);
    if (words === null || words.from === this.#me || (words.to !== '*' && words.to !== this.#me)) return;
    if (words.word === 'have') this.#asked.get(words.request)?.(words);
    else if (words.word === 'want') this.#offer(words);
    else this.#send(words);
  }

  #offer({ request, from, id, version, crc }: Words): void {
    const held = this.#held(id);
    if (held?.value === undefined || (crc !== '' && !matches(held, { version, crc }))) return;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      const { version, crc, bytes: length } = held;
      this.#say(this.#commands.keys.peer(from), { word: 'have', request, to: from, id, version, crc, length }).catch(() => {});
    }, Math.random() * SPREAD_MS);
    this.#timers.add(timer);
  }

  #send({ request, from, id, version, crc }: Words): void {
    const held = this.#held(id);
    if (held?.value === undefined || !matches(held, { version, crc })) return;
    const { encoding, bytes } = compress(documentOf(held).text.bytes());
    const header = frameHeader2({
      kind: 'full',
      encoding,
      parts: 0,
      version,
      crc,
      length: held.bytes,
      baseVersion: 0,
      baseCrc: '',
      at: held.at,
      expiresAt: held.expiresAt,
      operation: '-',
      by: this.#me,
    });
    const channel = `${this.#commands.keys.peer(from)}:${request}`;
    this.#copies.publish(channel, Buffer.concat([Buffer.from(header), bytes]), this.#deadline()).catch(() => {});
  }

  async #say(channel: string, words: Omit<Words, 'from'>): Promise<void> {
    if (this.#closed) return;
    await this.#copies.publish(channel, written({ ...words, from: this.#me }), this.#deadline());
  }

  #deadline() {
    const { connection } = this.#commands;
    return connection.deadline(connection.attemptTimeoutMs);
  }
}

const matches = (
  held: { readonly version: number; readonly crc: string },
  wanted: { readonly version: number; readonly crc: string },
): boolean => held.version === wanted.version && held.crc === wanted.crc;

/** A promise that is settled by `done`, or by itself after some time. */
function until(ms: number): { readonly promise: Promise<void>; done(): void } {
  let settle = (): void => {};
  const promise = new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, ms);
    settle = () => {
      clearTimeout(timer);
      resolve();
    };
  });
  return { promise, done: () => settle() };
}
