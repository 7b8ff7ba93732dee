import type { Socket } from 'node:net';

/** What the proxy does to the bytes of one direction, asked anew for each chunk. */
export interface LaneFaults {
  paused(): boolean;
  delayMs(): number;
  /** The chunk to hand on, changed or not; `undefined` swallows it. */
  alter(chunk: Buffer): Buffer | undefined;
  /** Called with the number of bytes handed on. */
  passed(bytes: number): void;
}

/** Past this many bytes held, the source is not read any more, and the sender's own buffers fill up as on a real network. */
const HELD_BYTES = 1024 * 1024;

/** One direction of one proxied connection: chunks go from `source` to `sink` in order, the end of the stream is the last. */
export class ProxyLane {
  readonly #source: Socket;
  readonly #sink: Socket;
  readonly #faults: LaneFaults;
  /** `chunk: null` stands for the end of the stream; `dueMs` is on the monotonic clock. */
  readonly #held: { readonly chunk: Buffer | null; readonly dueMs: number }[] = [];
  #heldBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #ended = false;

  constructor(source: Socket, sink: Socket, faults: LaneFaults) {
    this.#source = source;
    this.#sink = sink;
    this.#faults = faults;
    sink.on('drain', () => this.#balance());
    sink.once('close', () => clearTimeout(this.#timer));
  }

  /** True once the end of the stream was handed on. */
  get ended(): boolean {
    return this.#ended;
  }

  push(chunk: Buffer): void {
    const altered = this.#faults.alter(chunk);
    if (altered) this.#hold(altered);
  }

  end(): void {
    this.#hold(null);
  }

  /** Hands on what is due. */
  pump(): void {
    clearTimeout(this.#timer);
    while (!this.#faults.paused()) {
      const head = this.#held[0];
      if (!head) break;
      const wait = head.dueMs - performance.now();
      if (wait > 0) {
        this.#timer = setTimeout(() => this.pump(), wait);
        break;
      }
      this.#held.shift();
      this.#hand(head.chunk);
    }
    this.#balance();
  }

  #hold(chunk: Buffer | null): void {
    this.#held.push({ chunk, dueMs: performance.now() + this.#faults.delayMs() });
    this.#heldBytes += chunk?.length ?? 0;
    this.pump();
  }

  #hand(chunk: Buffer | null): void {
    this.#heldBytes -= chunk?.length ?? 0;
    if (chunk === null) {
      this.#ended = true;
      this.#sink.end();
    } else if (this.#sink.writable) {
      this.#sink.write(chunk);
      this.#faults.passed(chunk.length);
    }
  }

  #balance(): void {
    if (this.#heldBytes > HELD_BYTES || this.#sink.writableNeedDrain) this.#source.pause();
    else this.#source.resume();
  }
}
