import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { SCRIPT_NAMES, type ScriptName, script } from '../../src/redis/scripts.js';
import { track } from './cleanup.js';
import { RespSplitter } from './RespSplitter.js';

const HOST = '127.0.0.1';

/** A script that goes through the proxy. */
export interface ScriptCall {
  readonly script: ScriptName;
  /** 1 for the first call of this script since `stopAt`. */
  readonly nth: number;
  readonly text: string;
}

export interface StopRules {
  /** This call and all that follows it on its connection do not reach Redis. */
  readonly hold?: (call: ScriptCall) => boolean;
  /** This call reaches Redis, but neither its reply nor any later one comes back. */
  readonly mute?: (call: ScriptCall) => boolean;
  /** This call does not reach Redis, but what follows it does, as if they went to different servers; only for what is muted. */
  readonly lose?: (call: ScriptCall) => boolean;
}

/** One command connection, cut into calls. */
class Lane {
  held = false;
  muted = false;
  readonly client: Socket;
  readonly upstream: Socket;
  readonly #splitter = new RespSplitter();
  readonly #kept: { readonly up: Buffer[]; readonly down: Buffer[] } = { up: [], down: [] };
  #rest = Buffer.alloc(0);

  constructor(client: Socket, upstream: Socket) {
    this.client = client;
    this.upstream = upstream;
  }

  /** The commands that are complete with this chunk. */
  commands(chunk: Buffer): Buffer[] {
    const start = this.#splitter.offset - this.#rest.length;
    const ends = this.#splitter.feed(chunk).map((end) => end - start);
    const bytes = Buffer.concat([this.#rest, chunk]);
    this.#rest = bytes.subarray(ends.at(-1) ?? 0);
    return ends.map((end, index) => bytes.subarray(ends[index - 1] ?? 0, end));
  }

  up(command: Buffer): void {
    if (this.held) this.#kept.up.push(command);
    else if (this.upstream.writable) this.upstream.write(command);
  }

  down(chunk: Buffer): void {
    if (this.muted) this.#kept.down.push(chunk);
    else if (this.client.writable) this.client.write(chunk);
  }

  resume(): void {
    this.held = false;
    this.muted = false;
    for (const command of this.#kept.up.splice(0)) this.up(command);
    for (const chunk of this.#kept.down.splice(0)) this.down(chunk);
  }
}

/** A proxy that stops a process exactly between two of its script calls, or between a call and its reply, until the process is killed or `resume`d. */
export class SteppingProxy {
  readonly url: string;
  /** A call was held, or muted. */
  stopped = false;
  readonly #server: Server;
  readonly #lanes = new Set<Lane>();
  readonly #seen = new Map<ScriptName, number>();
  readonly #untrack: () => void;
  #rules: StopRules = {};

  private constructor(server: Server, targetPort: number) {
    this.#server = server;
    this.url = `redis://${HOST}:${(server.address() as AddressInfo).port}`;
    server.on('connection', (client) => this.#accept(client, targetPort));
    this.#untrack = track({ end: () => this.close(), endNow: () => {} });
  }

  static async start(targetPort: number): Promise<SteppingProxy> {
    const server = createServer({ noDelay: true });
    server.listen(0, HOST);
    await once(server, 'listening');
    return new SteppingProxy(server, targetPort);
  }

  stopAt(rules: StopRules): void {
    this.#rules = rules;
    this.#seen.clear();
    this.stopped = false;
  }

  /** What was kept goes on, and nothing is stopped any more. */
  resume(): void {
    this.#rules = {};
    for (const lane of this.#lanes) lane.resume();
  }

  /** Nothing that was held reaches Redis any more. */
  async close(): Promise<void> {
    this.#untrack();
    if (!this.#server.listening) return;
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const { client, upstream } of this.#lanes) {
      client.destroy();
      upstream.destroy();
    }
    await closed;
  }

  #accept(client: Socket, targetPort: number): void {
    const lane = new Lane(client, connect({ port: targetPort, host: HOST, noDelay: true }));
    const { upstream } = lane;
    this.#lanes.add(lane);
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      from.on('error', () => {});
      from.on('close', () => {
        this.#lanes.delete(lane);
        to.destroy();
      });
    }
    client.on('data', (chunk) => {
      for (const command of lane.commands(chunk)) {
        if (!this.#loses(lane, command)) lane.up(command);
      }
    });
    upstream.on('data', (chunk) => lane.down(chunk));
  }

  #loses(lane: Lane, command: Buffer): boolean {
    const text = command.toString('latin1');
    const name = text.includes('evalsha') ? SCRIPT_NAMES.find((one) => text.includes(script(one).sha)) : undefined;
    if (name === undefined || lane.held) return false;
    const nth = (this.#seen.get(name) ?? 0) + 1;
    this.#seen.set(name, nth);
    const call = { script: name, nth, text };
    lane.held = this.#rules.hold?.(call) === true;
    lane.muted ||= this.#rules.mute?.(call) === true;
    this.stopped ||= lane.held || lane.muted;
    return this.#rules.lose?.(call) === true;
  }
}
