import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

const HOST = '127.0.0.1';

/** Bytes of one connection that are on their way, and that nobody waits for any more. */
export class Held {
  readonly #upstream: Socket;
  readonly #chunks: Buffer[];
  #reply = '';

  constructor(upstream: Socket, first: Buffer) {
    this.#upstream = upstream;
    this.#chunks = [first];
    upstream.on('data', (chunk) => {
      this.#reply += chunk.toString('latin1');
    });
  }

  add(chunk: Buffer): void {
    this.#chunks.push(chunk);
  }

  /** They arrive now. Gives back what Redis answers, although nobody gets it: all of it, because the end of the stream follows. */
  async release(): Promise<string> {
    const ended = once(this.#upstream, 'end');
    this.#upstream.end(Buffer.concat(this.#chunks));
    await ended;
    return this.#reply;
  }
}

/**
 * A proxy that can hold a command back for as long as a test likes, also after the client has given up its connection: what a network or
 * a server that stands still can do, in an order of the test's choice.
 */
export class HoldingProxy {
  readonly url: string;
  /** Writes of the context of the last `hold` that were seen since then, the held one included. */
  seen = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #context: string | null = null;
  #mode: 'silent' | 'cut' = 'silent';
  #caught: ((held: Held) => void) | null = null;

  private constructor(server: Server, targetPort: number) {
    this.#server = server;
    this.url = `redis://${HOST}:${(server.address() as AddressInfo).port}`;
    server.on('connection', (client) => this.#accept(client, targetPort));
  }

  static async start(targetPort: number): Promise<HoldingProxy> {
    const server = createServer({ allowHalfOpen: true, noDelay: true });
    server.listen(0, HOST);
    await once(server, 'listening');
    return new HoldingProxy(server, targetPort);
  }

  /**
   * Holds the next script that writes a context, with all that follows it on its connection. The client then hears nothing (`silent`),
   * or has its connection reset (`cut`); connections that it makes after that are not touched.
   */
  hold(id: string, mode: 'silent' | 'cut'): Promise<Held> {
    this.#context = `:c:${id}\r\n`;
    this.#mode = mode;
    this.seen = 0;
    return new Promise((resolve) => {
      this.#caught = resolve;
    });
  }

  async close(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #accept(client: Socket, targetPort: number): void {
    const upstream = connect({ port: targetPort, host: HOST, noDelay: true, allowHalfOpen: true });
    let held: Held | null = null;
    for (const socket of [client, upstream]) {
      this.#sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => this.#sockets.delete(socket));
    }
    client.on('data', (chunk) => {
      const matches = this.#context !== null && chunk.includes(this.#context) && chunk.includes('evalsha\r\n');
      if (matches) this.seen += 1;
      if (held !== null) held.add(chunk);
      else if (matches && this.#caught !== null) {
        held = new Held(upstream, chunk);
        this.#caught(held);
        this.#caught = null;
        if (this.#mode === 'cut') client.resetAndDestroy();
      } else upstream.write(chunk);
    });
    upstream.on('data', (chunk) => {
      if (held === null && client.writable) client.write(chunk);
    });
    client.on('end', () => {
      // the server never hears that the client of a held command has gone; the client does, as from a host that is still there
      if (held === null) upstream.end();
      else client.end();
    });
    client.on('close', () => {
      if (held === null) upstream.destroy();
    });
    upstream.on('end', () => client.end());
    upstream.on('close', () => client.destroy());
  }
}
