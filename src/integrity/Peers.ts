/**
 * Instances ask each other for documents that Redis has lost: whoever has a copy that it once verified says so, and one of them sends it.
 *
 * `lcp1 <check> <word> <request> <from> <to> <version> <crc> <length> <id>` on the namespace's channel, or on that of one instance:
 * - `want` (to `*`): who has this context?
 * - `have` (to who asked): I do, at this version with this checksum.
 * - `none` (to who asked): I do not, so do not wait for me.
 * - `send` (to who has it): send me that. What follows is a frame of protocol 2 (docs/DELTA_PROTOCOL.md), a whole document.
 *
 * Who asks knows from PUBLISH how many have got the question, and waits until all of them have answered, itself included: its own question
 * comes back to it.
 *
 * Nothing that comes this way is believed because of who sent it: the document must have the checksum of a version that the log, or the
 * context's own seal, names.
 */
import { randomBytes } from 'node:crypto';
import { crc32Hex, sha1Hex } from '../core/checksum.js';
import { compressApart } from '../core/compression.js';
import { isContextError } from '../core/errors.js';
import { FrameReader, frameHeader2 } from '../core/frame.js';
import type { ContextCommands } from '../redis/ContextCommands.js';
import type { Subscriptions } from '../redis/Subscriptions.js';
import { documentOf, type ReplicaState } from '../replica/state.js';

/** How long is waited at most for those that have not answered yet, and for the document to come, ms. */
const HAVE_MS = 1_000;
const SEND_MS = 2_000;
/** Whoever has it answers within this time, so that not all answer at once, ms. */
const SPREAD_MS = 10;
/** Documents that wait to be sent, one after the other; who asks for more than that has to ask somebody else. */
const MOST_SENDS = 16;

interface Words {
  readonly word: 'want' | 'have' | 'none' | 'send';
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
  const found = /^lcp1 ([0-9a-f]{8}) ((want|have|none|send) (\S+) (\S+) (\S+) (\d+) (\S+) (\d+) (.*))$/s.exec(message.toString());
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
  #subscriptions: Subscriptions | null = null;
  /** The state that this process has of a context, however old. */
  readonly #held: (id: string) => ReplicaState | undefined;
  readonly #asked = new Map<string, Asked>();
  readonly #timers = new Set<NodeJS.Timeout>();
  /** Ends what is waited for when this is closed. */
  readonly #waits = new Set<() => void>();
  #sends = 0;
  #sending: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(commands: ContextCommands, held: (id: string) => ReplicaState | undefined) {
    this.#commands = commands;
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
    for (const done of this.#waits) done();
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
    const { promise, done } = this.#until(HAVE_MS);
    // not known before all may have answered
    let listeners = Number.POSITIVE_INFINITY;
    const answered = new Set<string>();
    const settle = (): void => {
      if (answered.size >= listeners) done();
    };
    this.#asked.set(request, (words) => {
      answered.add(words.from);
      if (words.word === 'have' && (wanted === null || matches(words, wanted))) {
        offers.push(words);
        if (wanted !== null) return done();
      }
      settle();
    });
    try {
      listeners = await this.#say(this.#commands.keys.peers, {
        word: 'want',
        request,
        to: '*',
        id,
        ...(wanted ?? { version: 0, crc: '' }),
        length: 0,
      });
      settle();
      await promise;
    } finally {
      done();
      this.#asked.delete(request);
    }
    return offers.sort((a, b) => b.version - a.version);
  }

  async #fetch(subscriptions: Subscriptions, offer: Words): Promise<PeerDocument | null> {
    const { id, version, crc, from } = offer;
    const request = randomBytes(6).toString('base64url');
    const channel = `${this.#commands.keys.peer(this.#me)}:${request}`;
    const { promise, done } = this.#until(SEND_MS);
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
      done();
      subscriptions.unsubscribe(channel);
    }
    return document;
  }

  #hear(message: Buffer): void {
    const words = read(message);
    if (words === null || (words.to !== '*' && words.to !== this.#me)) return;
    // also the own question, which has come back
    if (words.word === 'have' || words.word === 'none' || words.from === this.#me) this.#asked.get(words.request)?.(words);
    else if (words.word === 'want') this.#offer(words);
    else this.#send(words);
  }

  #offer({ request, from, id, version, crc }: Words): void {
    const held = this.#held(id);
    const answer = (words: Pick<Words, 'word' | 'version' | 'crc' | 'length'>): void => {
      this.#say(this.#commands.keys.peer(from), { ...words, request, to: from, id }).catch(() => {});
    };
    if (held?.value === undefined || (crc !== '' && !matches(held, { version, crc }))) {
      answer({ word: 'none', version: 0, crc: '', length: 0 });
      return;
    }
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      const { version, crc, bytes: length } = held;
      answer({ word: 'have', version, crc, length });
    }, Math.random() * SPREAD_MS);
    this.#timers.add(timer);
  }

  /** One at a time: each takes a thread, and the memory of the document twice. */
  #send(words: Words): void {
    if (this.#sends >= MOST_SENDS) return;
    this.#sends += 1;
    this.#sending = this.#sending
      .then(() => this.#sendNow(words))
      // who asks waits for so long, and asks somebody else
      .catch(() => {})
      .finally(() => {
        this.#sends -= 1;
      });
  }

  async #sendNow({ request, from, id, version, crc }: Words): Promise<void> {
    const held = this.#closed ? undefined : this.#held(id);
    if (held?.value === undefined || !matches(held, { version, crc })) return;
    const { encoding, bytes } = await compressApart(documentOf(held).text.bytes());
    if (this.#closed) return;
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
    await this.#commands.publish(channel, Buffer.concat([Buffer.from(header), bytes]), this.#deadline());
  }

  /** How many have got it. */
  async #say(channel: string, words: Omit<Words, 'from'>): Promise<number> {
    if (this.#closed) return 0;
    return this.#commands.publish(channel, written({ ...words, from: this.#me }), this.#deadline());
  }

  /** A promise that is settled by `done`, by itself after some time, or when this is closed. */
  #until(ms: number): { readonly promise: Promise<void>; done(): void } {
    let settle = (): void => {};
    const promise = new Promise<void>((resolve) => {
      const timer = setTimeout(() => settle(), ms);
      settle = () => {
        clearTimeout(timer);
        this.#waits.delete(settle);
        resolve();
      };
      this.#waits.add(settle);
    });
    return { promise, done: () => settle() };
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
