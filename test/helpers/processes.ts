import { type ChildProcess, fork } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { createRequire } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { Answer, Request } from './child.js';
import { track } from './cleanup.js';

export interface SpawnOptions {
  readonly args?: readonly string[];
  /** Added to this process's environment. */
  readonly env?: Readonly<Record<string, string>>;
}

export interface ExitState {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** As a URL, so that it is found whatever the working directory is. */
const TSX = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
const OUTPUT_CHARACTERS = 64 * 1024;
const REQUEST_LIMIT_MS = 15_000;

/**
 * Starts a TypeScript file, a path or a `file:` URL, as a Node process of its own, and resolves once it has called `serve` from
 * `child.ts`. Messages are whatever structured clone can carry. The process ends with this one, at the latest.
 */
export async function spawnNode(script: string | URL, options: SpawnOptions = {}): Promise<NodeProcess> {
  const path = script instanceof URL || script.startsWith('file:') ? fileURLToPath(script) : script;
  const child = fork(path, options.args ?? [], {
    execArgv: ['--import', TSX],
    env: { ...process.env, ...options.env },
    serialization: 'advanced',
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  const running = new NodeProcess(child, path);
  try {
    await running.ready();
  } catch (error) {
    await running.kill();
    throw error;
  }
  return running;
}

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

export class NodeProcess {
  /** Settles once the process has ended and all it sent has arrived; never rejects. */
  readonly exited: Promise<ExitState>;
  readonly #child: ChildProcess;
  readonly #path: string;
  readonly #waiting = new Map<number, Waiting>();
  readonly #events = new EventEmitter();
  #requests = 0;
  #ended: ExitState | undefined;
  #stdout = '';
  #stderr = '';

  /** Use `spawnNode`. */
  constructor(child: ChildProcess, path: string) {
    this.#child = child;
    this.#path = path;
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#stdout = (this.#stdout + text).slice(-OUTPUT_CHARACTERS);
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-OUTPUT_CHARACTERS);
    });
    child.on('message', (message) => this.#receive(message as Answer));
    child.on('error', (error) => {
      this.#stderr += `\n${error.message}`;
    });
    this.exited = this.#untilExit();
    const untrack = track({ end: async () => void (await this.kill()), endNow: () => void child.kill('SIGKILL') });
    void this.exited.then(untrack);
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** The end of what it printed. */
  get stdout(): string {
    return this.#stdout;
  }

  get stderr(): string {
    return this.#stderr;
  }

  /** Resolves once the script serves. */
  async ready(): Promise<void> {
    await this.#ask({});
  }

  /**
   * The script's answer to `message`. Rejects with the error that the script threw (message, stack and `code` are the script's),
   * or with what the process printed to stderr if it ended or did not answer within `limitMs` (15,000).
   */
  async request<T = unknown>(message: unknown, options: { limitMs?: number } = {}): Promise<T> {
    return (await this.#ask({ message }, options.limitMs)) as T;
  }

  /** Has `listener` called with each event the script emits; the returned function takes it away. */
  onEvent(listener: (event: unknown) => void): () => void {
    this.#events.on('event', listener);
    return () => {
      this.#events.off('event', listener);
    };
  }

  /** Sends a signal that need not end the process, e.g. SIGSTOP or SIGCONT. */
  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Ends the process and waits until it is gone. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<ExitState> {
    if (!this.#ended) this.#child.kill(signal);
    return this.exited;
  }

  async #ask(content: { message?: unknown }, limitMs = REQUEST_LIMIT_MS): Promise<unknown> {
    if (this.#ended) throw this.#failure(`had ended before the request`);
    const request = ++this.#requests;
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise((resolve, reject) => {
        this.#waiting.set(request, { resolve, reject });
        timer = setTimeout(() => reject(this.#failure(`did not answer within ${limitMs} ms`)), limitMs);
        const sent: Request = { request, ...content };
        this.#child.send(sent, (error) => {
          // one that ends is told by its exit, with its output
          if (error && this.#child.connected) reject(error);
        });
      });
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(request);
    }
  }

  #receive(message: Answer): void {
    if ('event' in message) {
      this.#events.emit('event', message.event);
      return;
    }
    const waiting = this.#waiting.get(message.answer);
    if (!waiting) return;
    if ('value' in message) {
      waiting.resolve(message.value);
    } else {
      const { message: text, stack, code } = message.error;
      const error = new Error(text);
      error.stack = stack;
      waiting.reject(code === undefined ? error : Object.assign(error, { code }));
    }
  }

  async #untilExit(): Promise<ExitState> {
    const child = this.#child;
    const disconnected = new Promise((resolve) => child.once('disconnect', resolve));
    // not `once`, which would reject on 'error'
    const state = await new Promise<ExitState>((resolve) => child.once('close', (code, signal) => resolve({ code, signal })));
    if (child.connected) await disconnected;
    this.#ended = state;
    for (const { reject } of this.#waiting.values()) reject(this.#failure('ended before it answered'));
    return state;
  }

  #failure(what: string): Error {
    const { code, signal } = this.#ended ?? {};
    const end = this.#ended ? ` (${signal ? `signal ${signal}` : `exit code ${code}`})` : '';
    return new Error(`${this.#path} ${what}${end}; its stderr:\n${this.#stderr || '(empty)'}`);
  }
}
