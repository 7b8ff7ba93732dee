import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { track } from './cleanup.js';
import { ProxyConnection } from './ProxyConnection.js';
import type { LaneFaults } from './ProxyLane.js';
import { ReplyTrap } from './ReplyTrap.js';
import { seededRng } from './random.js';

/** `up`: from the client to the server; `down`: from the server to the client. */
export type Direction = 'up' | 'down';

/** Says whether a rule holds for a chunk. `connectionIndex`: 0 for the first connection the proxy took, and so on. */
export type ChunkTest = (chunk: Buffer, connectionIndex: number, direction: Direction) => boolean;

/** A bit of a chunk. */
export interface Place {
  readonly byte: number;
  /** 0 is the lowest. */
  readonly bit: number;
}

/**
 * As `ChunkTest`; a number is the byte in the chunk whose lowest bit is flipped (negative: none), a place is that bit, `true` leaves it to
 * chance which bit.
 */
export type FlipTest = (chunk: Buffer, connectionIndex: number, direction: Direction) => boolean | number | Place;

type Rule = (chunk: Buffer, connectionIndex: number, direction: Direction) => Buffer | undefined;

const HOST = '127.0.0.1';

/**
 * A TCP proxy to a local port that can do to a connection what networks do: cut it, hang, delay, lose and damage bytes. One chunk
 * is what the operating system gave in one read: with one command at a time it is one command or reply, up to 64 KB.
 */
export class TcpProxy {
  readonly port: number;
  /** Without credentials: `redis://127.0.0.1:<port>`. */
  readonly url: string;
  /** Chunks that `drop` swallowed and bits that `flip` turned, so that a test can tell its fault happened. */
  readonly faults = { dropped: 0, flipped: 0 };
  readonly #server: Server;
  readonly #targetPort: number;
  readonly #connections = new Set<ProxyConnection>();
  readonly #bytes: Record<Direction, number> = { up: 0, down: 0 };
  readonly #paused: Record<Direction, boolean> = { up: false, down: false };
  readonly #rules = new Set<Rule>();
  readonly #traps = new Set<ReplyTrap>();
  readonly #rng;
  readonly #untrack: () => void;
  #delayMs = 0;
  #refusing = false;
  #accepted = 0;

  private constructor(server: Server, targetPort: number, seed: number) {
    this.#server = server;
    this.#targetPort = targetPort;
    this.#rng = seededRng(seed);
    this.port = (server.address() as AddressInfo).port;
    this.url = `redis://${HOST}:${this.port}`;
    server.on('connection', (client) => this.#accept(client));
    this.#untrack = track({ end: () => this.close(), endNow: () => {} });
  }

  /** Listens on a free port of the loopback address. `seed` decides which chunks and bits `flip` takes. */
  static async start(targetPort: number, options: { seed?: number } = {}): Promise<TcpProxy> {
    const server = createServer({ allowHalfOpen: true, noDelay: true });
    server.listen(0, HOST);
    await once(server, 'listening');
    return new TcpProxy(server, targetPort, options.seed ?? 1);
  }

  /** Connections that are open now. */
  get connections(): number {
    let open = 0;
    for (const connection of this.#connections) if (connection.open) open++;
    return open;
  }

  /** Connections taken since the start; the next one has this as its index. */
  get accepted(): number {
    return this.#accepted;
  }

  /** Bytes handed on to the server since the start or `resetCounters`; what was dropped does not count. */
  get bytesUp(): number {
    return this.#bytes.up;
  }

  /** Bytes handed on to clients since the start or `resetCounters`. */
  get bytesDown(): number {
    return this.#bytes.down;
  }

  resetCounters(): void {
    this.#bytes.up = 0;
    this.#bytes.down = 0;
    this.faults.dropped = 0;
    this.faults.flipped = 0;
  }

  /** Resets all connections that are open now, on both sides. New ones are taken. */
  cut(): void {
    for (const connection of this.#connections) connection.reset();
  }

  /** While on, a new connection is reset as soon as it is made; those that are open stay. */
  refuse(on: boolean): void {
    this.#refusing = on;
  }

  /** Bytes of this direction are held back, ends of streams included; connections stay open and new ones are taken. */
  pause(direction: Direction | 'both' = 'both'): void {
    this.#setPaused(direction, true);
  }

  /** What was held goes on, in order. */
  resume(direction: Direction | 'both' = 'both'): void {
    this.#setPaused(direction, false);
  }

  /** From now on every chunk takes this much longer, each way; 0 ends it. */
  delay(ms: number): void {
    this.#delayMs = ms;
  }

  /** Swallows the chunks for which `when` holds, e.g. the reply of a command. The returned function ends the rule. */
  drop(rule: { readonly direction: Direction; readonly when: ChunkTest }): () => void {
    return this.#rule((chunk, index, direction) => {
      if (direction !== rule.direction || !rule.when(chunk, index, direction)) return chunk;
      this.faults.dropped++;
      return undefined;
    });
  }

  /**
   * Flips one bit in a chunk: with this probability, or where `when` says so (it sees every chunk of the direction). The returned
   * function ends the rule.
   */
  flip(when: number | FlipTest, direction: Direction | 'both' = 'down'): () => void {
    return this.#rule((chunk, index, chunkDirection) => {
      if (direction !== 'both' && direction !== chunkDirection) return chunk;
      const at = typeof when === 'number' ? this.#rng.chance(when) : when(chunk, index, chunkDirection);
      if (at === false || (typeof at === 'number' && at < 0)) return chunk;
      const damaged = Buffer.from(chunk);
      const byte = typeof at === 'object' ? at.byte : at === true ? this.#rng.int(0, chunk.length - 1) : at;
      const bit = typeof at === 'object' ? at.bit : at === true ? this.#rng.int(0, 7) : 0;
      damaged.writeUInt8(damaged.readUInt8(byte) ^ (1 << bit), byte);
      this.faults.flipped++;
      return damaged;
    });
  }

  /**
   * The lost reply: the next command from a client whose bytes hold `pattern` is handed on to the server whole, and then its
   * client's connection is reset, before its reply can return. Resolves once the server has taken the command in and closed its
   * side; rejects if the proxy is closed before. Strings are matched as UTF-8, case included (ioredis sends command names in lower
   * case).
   */
  cutAfterNextUpstreamMatch(pattern: string | Buffer): Promise<void> {
    const trap = new ReplyTrap(pattern);
    this.#traps.add(trap);
    return trap.sprung;
  }

  /** Resets everything and stops listening. */
  async close(): Promise<void> {
    this.#untrack();
    if (!this.#server.listening) return;
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.cut();
    for (const trap of this.#traps) trap.abandon();
    await Promise.all([closed, ...[...this.#connections].map((connection) => connection.closed)]);
  }

  #accept(client: Socket): void {
    if (this.#refusing) {
      client.on('error', () => {}).resetAndDestroy();
      return;
    }
    const index = this.#accepted++;
    const upstream = connect({ port: this.#targetPort, host: HOST, allowHalfOpen: true, noDelay: true });
    const connection: ProxyConnection = new ProxyConnection(client, upstream, {
      up: this.#laneFaults(index, 'up'),
      down: this.#laneFaults(index, 'down'),
      losesReply: (chunk) => this.#springTraps(connection, chunk),
    });
    this.#connections.add(connection);
    void connection.closed.then(() => this.#connections.delete(connection));
  }

  #laneFaults(index: number, direction: Direction): LaneFaults {
    return {
      paused: () => this.#paused[direction],
      delayMs: () => this.#delayMs,
      alter: (chunk) => {
        let altered: Buffer | undefined = chunk;
        for (const rule of this.#rules) altered = altered && rule(altered, index, direction);
        return altered;
      },
      passed: (bytes) => {
        this.#bytes[direction] += bytes;
      },
    };
  }

  #springTraps(connection: ProxyConnection, chunk: Buffer): boolean {
    const start = connection.commands.offset;
    const ends = connection.commands.feed(chunk);
    let sprung = false;
    for (const trap of this.#traps) {
      if (!trap.springs(connection, chunk, start, ends)) continue;
      this.#traps.delete(trap);
      sprung = true;
    }
    return sprung;
  }

  #setPaused(direction: Direction | 'both', paused: boolean): void {
    if (direction !== 'down') this.#paused.up = paused;
    if (direction !== 'up') this.#paused.down = paused;
    for (const connection of this.#connections) connection.pump();
  }

  #rule(rule: Rule): () => void {
    this.#rules.add(rule);
    return () => {
      this.#rules.delete(rule);
    };
  }
}
