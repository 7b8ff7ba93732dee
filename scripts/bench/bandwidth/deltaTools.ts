/**
 * xdelta3 and zstd, which deltas are compared with. They come from the system's packages, by the same script that installs what else the
 * project needs of them; where that cannot be, the run says so and goes on without.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const LIBRARY = join(import.meta.dirname, '..', '..', 'lib');
const TOOLS = ['xdelta3', 'zstd'] as const;
type Tool = (typeof TOOLS)[number];

const INSTALL = `
. "$1/common.sh"; . "$1/packages.sh"; shift
say "$* not found: installing with apt-get …"
have apt-get && can_be_root && apt_install "$@" >/dev/null 2>&1`;

const has = (tool: Tool): boolean => spawnSync(tool, ['-V'], { stdio: 'ignore' }).error === undefined;

/** Arguments that make `delta` of `base` and `target`, and that make `back` of `base` and `delta`; files of the working directory. */
const COMMANDS = {
  /** As it comes; its secondary compression is LZMA, where it was built with that. */
  xdelta3: [['xdelta3', '-e', '-f', '-s', 'base', 'target', 'delta'], 'xdelta3 -d -f -s base delta back'.split(' ')],
  /** Without secondary compression, which costs more than it gives where deltas are short. */
  xdelta3Plain: ['xdelta3 -e -f -9 -S none -s base target delta'.split(' '), 'xdelta3 -d -f -s base delta back'.split(' ')],
  zstd: [
    'zstd -19 -q -f --patch-from=base target -o delta'.split(' '),
    'zstd -d -q -f --patch-from=base delta -o back'.split(' '),
  ],
} as const;
export type DeltaTool = keyof typeof COMMANDS;
export const DELTA_TOOLS = Object.keys(COMMANDS) as readonly DeltaTool[];

export class DeltaTools {
  readonly #folder = mkdtempSync(join(tmpdir(), 'lukhas-bandwidth-'));
  readonly available: readonly DeltaTool[];

  private constructor(tools: readonly Tool[]) {
    this.available = DELTA_TOOLS.filter((name) => tools.some((tool) => name.startsWith(tool)));
  }

  static open(): DeltaTools {
    const missing = TOOLS.filter((tool) => !has(tool));
    if (missing.length > 0)
      spawnSync('bash', ['-c', INSTALL, 'bash', LIBRARY, ...missing], { stdio: ['ignore', 'ignore', 'inherit'] });
    const still = TOOLS.filter((tool) => !has(tool));
    if (still.length > 0) process.stderr.write(`${still.join(' and ')} not installed: no comparison with that\n`);
    return new DeltaTools(TOOLS.filter((tool) => !still.includes(tool)));
  }

  /** Bytes of the delta that it makes, which must give the target again. */
  deltaBytes(tool: DeltaTool, base: Buffer, target: Buffer): number {
    writeFileSync(join(this.#folder, 'base'), base);
    writeFileSync(join(this.#folder, 'target'), target);
    for (const command of COMMANDS[tool]) {
      const [program, ...args] = command as readonly [string, ...string[]];
      const { status, stderr, error } = spawnSync(program, args, { cwd: this.#folder, encoding: 'utf8' });
      if (status !== 0) throw new Error(`${command.join(' ')}: ${error?.message ?? stderr}`);
    }
    if (!readFileSync(join(this.#folder, 'back')).equals(target)) throw new Error(`${tool} does not give the document again`);
    return statSync(join(this.#folder, 'delta')).size;
  }

  close(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
