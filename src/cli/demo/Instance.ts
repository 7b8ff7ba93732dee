import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { extname } from 'node:path';
import { ContextError, ERROR_CODES, type ErrorCode } from '../../core/errors.js';
import { CliError } from '../CliError.js';
import type { Answers, FromInstance, Request, Seen } from './messages.js';

const CLOSE_LIMIT_MS = 5_000;

interface Call {
  resolve(answer: unknown): void;
  reject(error: Error): void;
}

/** The parent's end of one instance, a process of its own. */
export class Instance {
  readonly name: string;
  readonly #child: ChildProcess;
  readonly #calls = new Map<number, Call>();
  readonly #failed: (error: Error) => void;
  #lastCall = 0;
  #closing = false;

  /** `failed` is called when the process dies, or stops watching, without having been told to. */
  constructor(name: string, seen: (changes: readonly Seen[]) => void, failed: (error: Error) => void) {
    this.name = name;
    this.#failed = failed;
    // Beside this file, compiled or not; under tsx the child inherits its loader.
    const program = new URL(`./instanceProcess${extname(import.meta.filename)}`, import.meta.url);
    this.#child = fork(program, [], { serialization: 'advanced', stdio: ['ignore', 2, 'inherit', 'ipc'] });
    this.#child.on('error', (error) => this.#end(error));
    this.#child.on('exit', (code, signal) => {
      const how = signal === null ? `with exit code ${code}` : `by ${signal}`;
      this.#end(
        new CliError(
          'INSTANCE_DIED',
          `the process of ${name} (pid ${this.#child.pid}) ended ${how} in the middle of the demo`,
          1,
        ),
      );
    });
    this.#child.on('message', (message: FromInstance) => {
      if (message.kind === 'seen') seen(message.changes);
      else if (message.kind === 'watchFailed') this.#end(revive(message.error, name));
      else this.#settle(message);
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Rejects with the instance's own error, or where the process has died. */
  ask<K extends Request['kind']>(request: Extract<Request, { kind: K }>): Promise<Answers[K]> {
    return new Promise((resolve, reject) => {
      const call = ++this.#lastCall;
      this.#calls.set(call, { resolve: resolve as (answer: unknown) => void, reject });
      this.#child.send({ ...request, call }, (error) => {
        if (error) this.#calls.get(call)?.reject(error);
      });
    });
  }

  /** Closes the instance's store and waits for its process to end; one that does not end in 5 s is killed. */
  async close(): Promise<void> {
    this.#closing = true;
    const { pid, exitCode, signalCode } = this.#child;
    if (pid === undefined || exitCode !== null || signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    const limit = setTimeout(() => this.#child.kill('SIGKILL'), CLOSE_LIMIT_MS);
    this.ask({ kind: 'close' }).catch(() => this.#child.kill('SIGKILL'));
    await ended;
    clearTimeout(limit);
  }

  #settle(message: Extract<FromInstance, { call: number }>): void {
    const call = this.#calls.get(message.call);
    this.#calls.delete(message.call);
    if (message.kind === 'answer') call?.resolve(message.answer);
    else call?.reject(revive(message.error, this.name));
  }

  #end(error: Error): void {
    for (const call of this.#calls.values()) call.reject(error);
    this.#calls.clear();
    if (!this.#closing) this.#failed(error);
  }
}

/** An instance's error, with the code it had there. */
function revive({ code, message, ...details }: Record<string, unknown>, name: string): Error {
  const sentence = `in ${name}: ${String(message)}`;
  if (typeof code === 'string' && code in ERROR_CODES) return new ContextError(code as ErrorCode, sentence, details);
  return new CliError('UNEXPECTED', sentence, 1);
}
