import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { Redis, type RedisOptions } from 'ioredis';
import { track } from './cleanup.js';
import { freePort } from './ports.js';
import { waitFor } from './waitFor.js';

export interface RedisServerOptions {
  /** Further arguments of the command line; they win over `config`. */
  readonly args?: readonly string[];
  /** Append-only file with `appendfsync always`, so that what was acknowledged survives a SIGKILL. @defaultValue false */
  readonly appendOnly?: boolean;
  /** Data directory; one that is given is never removed. @defaultValue a temporary one */
  readonly dir?: string;
  /** Password of the default user. */
  readonly password?: string;
  /**
   * Users as in `ACL SETUSER`, e.g. `'alice on >secret ~* &* +@all'`. The server then has one more user, `harness`, with all
   * rights, that `cli` and `client` log in as: the default user may be cut down or off.
   */
  readonly acl?: readonly string[];
  /** Lines of redis.conf, the values as written there; they win over what the harness sets. */
  readonly config?: Readonly<Record<string, string>>;
}

/** What ioredis takes, but for the option that changes the type of the client. */
export type ClientOptions = Omit<RedisOptions, 'replyMapping'>;

interface Login {
  readonly user: string;
  readonly password: string;
}

const HOST = '127.0.0.1';
const START_LIMIT_MS = 10_000;
/** How long a restart waits for its port. */
const PORT_LIMIT_MS = 2_000;
const STOP_LIMIT_MS = 5_000;
const LOG_CHARACTERS = 64 * 1024;

class PortTaken extends Error {}

/** A real `redis-server` of its own on a loopback port, from the PATH or from `LUKHAS_REDIS_SERVER`. Nothing is persisted unless asked. */
export class RedisServer {
  readonly port: number;
  readonly dir: string;
  readonly #options: RedisServerOptions;
  readonly #login: Login | undefined;
  readonly #clients = new Set<Redis>();
  #process: ChildProcess | undefined;
  #log = '';
  #untrack: () => void = () => {};

  private constructor(port: number, options: RedisServerOptions) {
    this.port = port;
    this.#options = options;
    this.dir = options.dir ?? mkdtempSync(join(tmpdir(), 'lukhas-redis-'));
    if (options.acl) this.#login = { user: 'harness', password: randomBytes(8).toString('hex') };
    else if (options.password !== undefined) this.#login = { user: 'default', password: options.password };
  }

  /** Starts a server and resolves once it has answered PONG. `choosePort` is asked again where its port turns out to be taken. */
  static async start(options: RedisServerOptions = {}, choosePort: () => Promise<number> = freePort): Promise<RedisServer> {
    for (let attempt = 1; ; attempt++) {
      const server = new RedisServer(await choosePort(), options);
      try {
        await server.#launch();
        return server;
      } catch (error) {
        server.#forget();
        // Between our look at the port and the server's bind somebody else can take it.
        if (!(error instanceof PortTaken) || attempt === 10) throw error;
      }
    }
  }

  /** For clients; with the default user's password where there is one. */
  get url(): string {
    const { password } = this.#options;
    return password === undefined ? `redis://${HOST}:${this.port}` : this.urlFor('default', password);
  }

  /** For a client that logs in as `user`. */
  urlFor(user: string, password: string): string {
    return `redis://${encodeURIComponent(user)}:${encodeURIComponent(password)}@${HOST}:${this.port}`;
  }

  /** Process id of the server; throws where it is down. It changes with a restart. */
  get pid(): number {
    if (this.#process?.pid === undefined) throw new Error(`the redis-server on port ${this.port} is not running`);
    return this.#process.pid;
  }

  get running(): boolean {
    return this.#process !== undefined;
  }

  /** The end of what the server printed, over all its lives. */
  get log(): string {
    return this.#log;
  }

  /**
   * Graceful end (SIGTERM). Closes the clients and removes the temporary directory; with `keepData` both stay, for a `restart`
   * that finds its data. A server that does not end within 5 s is killed, and that is an error.
   */
  async stop(options: { keepData?: boolean } = {}): Promise<void> {
    if (!options.keepData) {
      for (const client of this.#clients) client.disconnect();
      this.#clients.clear();
    }
    try {
      await this.#end('SIGTERM');
    } finally {
      if (!options.keepData) this.#forget();
    }
  }

  /** SIGKILL, as a crash; data and clients stay. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** SIGSTOP: connections stay open, nothing is answered. Resolves once it has taken hold. */
  async pause(): Promise<void> {
    process.kill(this.pid, 'SIGSTOP');
    await waitFor(() => isStopped(this.pid), { what: `redis-server ${this.pid} to be stopped` });
  }

  /** SIGCONT: what was sent meanwhile is answered now. */
  resume(): void {
    process.kill(this.pid, 'SIGCONT');
  }

  /** Starts again on the same port and directory, after `kill` or `stop({ keepData: true })`; one that runs is stopped first. */
  async restart(): Promise<void> {
    await this.stop({ keepData: true });
    if (!this.#options.dir) mkdirSync(this.dir, { recursive: true });
    const deadline = performance.now() + PORT_LIMIT_MS;
    for (;;) {
      try {
        return await this.#launch();
      } catch (error) {
        // Somebody may be trying whether our port is free; a process that keeps it is an error.
        if (!(error instanceof PortTaken) || performance.now() > deadline) throw error;
      }
    }
  }

  /** Runs redis-cli with `args` and gives back what it printed, without the last line's end; rejects where Redis answers an error. */
  async cli(...args: string[]): Promise<string> {
    const login = this.#login ? ['--user', this.#login.user] : [];
    const { stdout } = await promisify(execFile)(cliPath(), ['-h', HOST, '-p', String(this.port), '-e', ...login, ...args], {
      env: { ...process.env, ...(this.#login ? { REDISCLI_AUTH: this.#login.password } : {}) },
      maxBuffer: 256 * 1024 * 1024,
    });
    return stdout.replace(/\n$/, '');
  }

  /** A plain ioredis client with all rights, closed by `stop`. It reconnects every 50 ms at most, and its errors are swallowed. */
  client(options: ClientOptions = {}): Redis {
    const settings: ClientOptions = {
      host: HOST,
      port: this.port,
      retryStrategy: (attempt) => Math.min(attempt * 10, 50),
      ...options,
    };
    if (this.#login) Object.assign(settings, { username: this.#login.user, password: this.#login.password }, options);
    const client = new Redis(settings);
    client.on('error', () => {});
    this.#clients.add(client);
    return client;
  }

  async #launch(): Promise<void> {
    const command = serverPath();
    const child = spawn(command, ['-', ...(this.#options.args ?? [])], { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#process = child;
    let printed = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        printed = (printed + text).slice(-LOG_CHARACTERS);
        this.#log = (this.#log + text).slice(-LOG_CHARACTERS);
      });
    }
    let failure: Error | undefined;
    child.once('error', (error) => {
      failure = error;
    });
    child.once('close', () => {
      if (this.#process === child) this.#process = undefined;
    });
    child.stdin.on('error', () => {}); // it died before it read its configuration; its exit tells
    child.stdin.end(this.#configuration());
    this.#untrack();
    this.#untrack = track({ end: () => this.stop(), endNow: () => this.#endNow() });
    const answered = await waitFor(
      async () => {
        if (failure || this.#process !== child) return 'ended';
        return (await this.#answersAs(child.pid)) && 'ready';
      },
      { what: `redis-server on port ${this.port} to answer PONG`, limitMs: START_LIMIT_MS },
    ).catch(async (error: unknown) => {
      await this.#end('SIGKILL');
      throw new Error(`${String(error)}\n${printed}`, { cause: error });
    });
    if (answered === 'ready') return;
    this.#process = undefined;
    if ((failure as NodeJS.ErrnoException | undefined)?.code === 'ENOENT') {
      throw new Error(`${command} was not found: install redis-server, or name it in LUKHAS_REDIS_SERVER`, { cause: failure });
    }
    if (/already in use|Failed listening/i.test(printed)) throw new PortTaken(`port ${this.port} is taken`);
    throw new Error(`redis-server did not start: ${failure?.message ?? `exit code ${child.exitCode}`}\n${printed}`);
  }

  #configuration(): string {
    const { appendOnly = false, password, acl = [], config = {} } = this.#options;
    const lines: Record<string, string> = {
      bind: HOST,
      port: String(this.port),
      dir: quote(this.dir),
      save: '""',
      appendonly: appendOnly ? 'yes' : 'no',
      appendfsync: 'always',
      'maxmemory-policy': 'noeviction',
      ...(password === undefined ? {} : { requirepass: quote(password) }),
      ...config,
    };
    const users = [...acl, ...(acl.length > 0 && this.#login ? [`harness on >${this.#login.password} ~* &* +@all`] : [])];
    return [...Object.entries(lines).map(([name, value]) => `${name} ${value}`), ...users.map((user) => `user ${user}`), ''].join(
      '\n',
    );
  }

  /** True if a server answers PONG on the port, and it is the process `pid`: another's server may have got the port before ours. */
  async #answersAs(pid: number | undefined): Promise<boolean> {
    const login = this.#login ? [['AUTH', this.#login.user, this.#login.password]] : [];
    const socket = connect(this.port, HOST).setEncoding('utf8').setTimeout(1000);
    let answer = '';
    socket.on('data', (text: string) => {
      answer += text;
    });
    socket.once('timeout', () => socket.destroy());
    const closed = once(socket, 'close');
    socket.end([...login, ['PING'], ['INFO', 'server']].map(encode).join(''));
    await closed;
    return answer.includes('+PONG\r\n') && answer.includes(`\r\nprocess_id:${pid}\r\n`);
  }

  async #end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const child = this.#process;
    if (!child) return;
    const closed = once(child, 'close');
    child.kill(signal);
    if (signal === 'SIGTERM') child.kill('SIGCONT'); // a paused one ends as well
    let late = false;
    const limit = setTimeout(() => {
      late = true;
      child.kill('SIGKILL');
    }, STOP_LIMIT_MS);
    await closed;
    clearTimeout(limit);
    this.#process = undefined;
    if (late)
      throw new Error(`redis-server on port ${this.port} did not end within ${STOP_LIMIT_MS} ms and was killed\n${this.#log}`);
  }

  #endNow(): void {
    this.#process?.kill('SIGKILL');
    this.#forget();
  }

  #forget(): void {
    this.#untrack();
    if (!this.#options.dir) rmSync(this.dir, { recursive: true, force: true, maxRetries: 3 });
  }
}

let shared: Promise<{ readonly url: string }> | undefined;

/**
 * The server that suites share, each test in a namespace of its own: the one named by `LUKHAS_TEST_REDIS_URL`, or one for this
 * process, started by the first call and ended with the run. Do not pause, stop or reconfigure it.
 */
export function sharedServer(): Promise<{ readonly url: string }> {
  const given = process.env.LUKHAS_TEST_REDIS_URL;
  shared ??= given ? Promise.resolve({ url: given }) : RedisServer.start();
  return shared;
}

function serverPath(): string {
  return process.env.LUKHAS_REDIS_SERVER || 'redis-server';
}

/** The redis-cli beside the server that is used, where there is one. */
function cliPath(): string {
  const beside = join(dirname(serverPath()), 'redis-cli');
  return serverPath().includes('/') && existsSync(beside) ? beside : 'redis-cli';
}

/** Linux tells the state; elsewhere the signal is taken to act at once. */
function isStopped(pid: number): boolean {
  const file = `/proc/${pid}/stat`;
  return !existsSync(file) || /\) T /.test(readFileSync(file, 'latin1'));
}

const quote = (text: string): string => `"${text.replace(/["\\]/g, '\\$&')}"`;

const encode = (command: readonly string[]): string =>
  `*${command.length}\r\n${command.map((part) => `$${Buffer.byteLength(part)}\r\n${part}\r\n`).join('')}`;
