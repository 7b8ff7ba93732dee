import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { track } from '../helpers/cleanup.js';
import { waitFor } from '../helpers/waitFor.js';

const REPOSITORY = realpathSync(join(import.meta.dirname, '../..'));

/** What scripts/start and its parts call, beside Node and npm. */
const TOOLS =
  'bash env dirname basename cat mkdir rm ln readlink sleep sed find head tail grep cut mv id ps cksum uname touch sh kill tr wc'.split(
    ' ',
  );

/** In place of the real demo: counts its starts in Redis, says what it was given, and ends as it is told. */
const DEMO = `
import { spawn } from 'node:child_process';
import { connect } from 'node:net';
const url = new URL(process.env.REDIS_URL);
const socket = connect(Number(url.port), url.hostname);
socket.write('INCR starts\\r\\nGET interrupted\\r\\n');
socket.on('data', (data) => console.log(JSON.stringify({ args: process.argv.slice(2), port: Number(url.port), redis: String(data) })));
if (process.env.LEAVE_BEHIND) console.log('left behind ' + spawn('sleep', ['600'], { stdio: 'ignore' }).pid);
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    console.log('demo got ' + signal);
    if (process.env.DEAF) return;
    socket.write('INCR interrupted\\r\\n', () => setTimeout(() => process.exit(Number(process.env.DEMO_CODE ?? 0)), 50));
  });
}
if (process.env.DEMO_MS) setTimeout(() => process.exit(Number(process.env.DEMO_CODE ?? 0)), Number(process.env.DEMO_MS));
`;

/** A small project around this repository's scripts/start, whose "demo" is {@link DEMO}. Its path has a space in it. */
export class Project {
  readonly root = join(realpathSync(mkdtempSync(join(tmpdir(), 'lukhas-start-'))), 'a clone');
  readonly data = join(this.root, '.data');
  /** The only folder on the PATH of what `start` runs, filled by {@link provide}. */
  readonly bin = join(this.root, '..', 'bin');
  readonly #runs: Run[] = [];
  readonly #untrack = track({ end: () => this.remove(), endNow: () => this.#removeNow() });

  constructor() {
    mkdirSync(join(this.root, 'src/cli'), { recursive: true });
    mkdirSync(join(this.root, 'dep'));
    mkdirSync(this.bin);
    for (const part of ['scripts/start', 'scripts/lib'])
      cpSync(join(REPOSITORY, part), join(this.root, part), { recursive: true });
    this.write('dep/package.json', '{ "name": "dep", "version": "1.0.0" }');
    const dependencies = { dep: 'file:./dep' };
    this.write(
      'package.json',
      JSON.stringify({ name: 'fake', type: 'module', scripts: { build: 'node build.js' }, dependencies }),
    );
    const packages = { dep: { version: '1.0.0' }, 'node_modules/dep': { resolved: 'dep', link: true } };
    const lock = { name: 'fake', lockfileVersion: 3, requires: true };
    this.write('package-lock.json', JSON.stringify({ ...lock, packages: { '': { name: 'fake', dependencies }, ...packages } }));
    this.write('src/cli/main.js', DEMO);
    this.write(
      'build.js',
      `import { cpSync, rmSync } from 'node:fs';
rmSync('dist', { recursive: true, force: true });
cpSync('src', 'dist/src', { recursive: true });`,
    );
    mkdirSync(join(this.root, 'node_modules'));
    this.write('node_modules/.package-lock.json', JSON.stringify({ ...lock, packages }));
    this.provide('node', 'npm', 'redis-server', ...TOOLS);
  }

  write(path: string, text: string): void {
    writeFileSync(join(this.root, path), text);
  }

  /** Puts programs of this machine on the PATH. */
  provide(...names: readonly string[]): void {
    for (const name of names) {
      const found = (process.env.PATH ?? '')
        .split(delimiter)
        .map((folder) => join(folder, name))
        .find(existsSync);
      if (found) symlinkSync(realpathSync(found), join(this.bin, name));
    }
  }

  withhold(name: string): void {
    rmSync(join(this.bin, name), { force: true });
  }

  /** Puts a program of the test's own on the PATH. */
  fake(name: string, script: string): void {
    this.withhold(name);
    writeFileSync(join(this.bin, name), `#!${realpathSync('/bin/bash')}\n${script}\n`);
    chmodSync(join(this.bin, name), 0o755);
  }

  start(env: Record<string, string> = {}, ...args: readonly string[]): Run {
    const run = new Run(this, env, args);
    this.#runs.push(run);
    return run;
  }

  /** Process id of the private Redis, or `undefined`. */
  redisPid(): number | undefined {
    const file = join(this.data, 'redis.pid');
    if (!existsSync(file)) return undefined;
    const pid = Number(readFileSync(file, 'utf8'));
    return isAlive(pid) ? pid : undefined;
  }

  async remove(): Promise<void> {
    this.#untrack();
    for (const run of this.#runs) await run.kill();
    const pid = this.redisPid();
    if (pid !== undefined) {
      process.kill(pid, 'SIGKILL');
      await waitFor(() => !isAlive(pid), { what: `redis-server ${pid} to end` });
    }
    rmSync(join(this.root, '..'), { recursive: true, force: true });
  }

  #removeNow(): void {
    for (const run of this.#runs) run.process.kill('SIGKILL');
    const pid = this.redisPid();
    if (pid !== undefined) process.kill(pid, 'SIGKILL');
    rmSync(join(this.root, '..'), { recursive: true, force: true });
  }
}

/** One run of scripts/start. */
export class Run {
  readonly process: ChildProcess;
  readonly ended: Promise<{ readonly code: number | null; readonly out: string; readonly err: string }>;
  out = '';
  err = '';

  constructor(project: Project, env: Record<string, string>, args: readonly string[]) {
    this.process = spawn(join(project.bin, 'bash'), [join(project.root, 'scripts/start'), ...args], {
      cwd: tmpdir(),
      env: { PATH: project.bin, HOME: process.env.HOME ?? '/', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.process.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.out += text;
    });
    this.process.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.err += text;
    });
    this.ended = once(this.process, 'exit').then(async ([code]) => {
      await waitFor(() => this.process.stdout?.closed === true || this.process.stdout?.readableEnded === true, {
        what: 'the output to end',
      });
      return { code: code as number | null, out: this.out, err: this.err };
    });
  }

  /** Resolves with what the demo printed, once it runs. */
  async ready(): Promise<{ readonly args: readonly string[]; readonly port: number; readonly redis: string }> {
    await waitFor(() => /^\{.*\}$/m.test(this.out) || this.process.exitCode !== null, {
      what: 'the demo to run',
      limitMs: 15_000,
    });
    const line = /^\{.*\}$/m.exec(this.out)?.[0];
    if (line === undefined) throw new Error(`the demo did not run; start said:\n${this.err}`);
    return JSON.parse(line) as { args: string[]; port: number; redis: string };
  }

  signal(name: NodeJS.Signals): void {
    this.process.kill(name);
  }

  async kill(): Promise<void> {
    if (this.process.exitCode === null && this.process.signalCode === null) {
      this.process.kill('SIGKILL');
      await once(this.process, 'exit');
    }
  }
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    // One that ended and was not waited for is no longer running either.
    return !existsSync(`/proc/${pid}/stat`) || !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return false;
  }
}
