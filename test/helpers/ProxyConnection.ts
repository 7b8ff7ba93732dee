import type { Socket } from 'node:net';
import { type LaneFaults, ProxyLane } from './ProxyLane.js';
import { RespSplitter } from './RespSplitter.js';

/** What the proxy decides for a connection. */
export interface ConnectionPolicy {
  readonly up: LaneFaults;
  readonly down: LaneFaults;
  /** Called with each chunk of the client before it is handed on; true: this is the last one, and no reply shall return. */
  losesReply(chunk: Buffer): boolean;
}

/** A client's connection and the one to the server that stands for it. Either end and either reset is passed on to the other side. */
export class ProxyConnection {
  readonly #client: Socket;
  readonly #upstream: Socket;
  readonly #up: ProxyLane;
  readonly #down: ProxyLane;
  /** Settles when both sockets are closed. */
  readonly closed: Promise<void>;
  /** Finds the ends of commands in what the client sends. */
  readonly commands = new RespSplitter();
  #losing = false;

  constructor(client: Socket, upstream: Socket, policy: ConnectionPolicy) {
    this.#client = client;
    this.#upstream = upstream;
    this.#up = new ProxyLane(client, upstream, policy.up);
    this.#down = new ProxyLane(upstream, client, policy.down);
    this.closed = Promise.all(
      [client, upstream].map((socket) => new Promise<void>((resolve) => socket.once('close', () => resolve()))),
    ).then(() => {});
    client.on('data', (chunk) => {
      if (this.#losing) return;
      const last = policy.losesReply(chunk);
      this.#up.push(chunk);
      if (last) this.#loseReply();
    });
    upstream.on('data', (chunk) => {
      if (!this.#losing) this.#down.push(chunk);
    });
    client.on('end', () => {
      if (!this.#losing) this.#up.end();
    });
    upstream.on('end', () => this.#down.end());
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      socket.on('error', () => {}); // 'close' follows
      socket.on('close', () => this.#oneClosed(other));
    }
  }

  /** True while the client's side is there. */
  get open(): boolean {
    return !this.#client.destroyed;
  }

  /** Hands on what a change of the faults has freed. */
  pump(): void {
    this.#up.pump();
    this.#down.pump();
  }

  /** Resets both sides. */
  reset(): void {
    for (const socket of [this.#client, this.#upstream]) resetNow(socket);
  }

  /** The server shall read everything, so its side ends in order: a reset could throw away what it has not read yet. */
  #loseReply(): void {
    this.#losing = true;
    resetNow(this.#client);
    this.#up.end();
    this.#upstream.resume();
  }

  #oneClosed(other: Socket): void {
    const inOrder = this.#up.ended && this.#down.ended;
    if (!inOrder && !this.#losing) resetNow(other);
  }
}

/** A reset fails while the socket is being shut down, and the socket would stay open for ever then. */
function resetNow(socket: Socket): void {
  if (socket.destroyed) return;
  if (socket.writableEnded) socket.destroy();
  else socket.resetAndDestroy();
}
