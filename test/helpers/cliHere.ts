/**
 * Command lines without a process of their own, which takes most of their time: for tables of answers and exit codes. One at a time, and nothing on
 * stdin. That a process ends, what signals do to it, and its pipes are for `runCli`.
 */
import { execute } from '../../src/cli/execute.js';
import type { CliOptions, CliResult } from './runCli.js';

let running = false;

export async function cliHere(
  args: readonly string[],
  { url, namespace }: Pick<CliOptions, 'url' | 'namespace'>,
): Promise<CliResult> {
  if (running) throw new Error('another command line runs in this process: await it first');
  running = true;
  const { exitCode, env } = process;
  const restore = [capture(process.stdout), capture(process.stderr)] as const;
  process.env = { ...env, REDIS_URL: url, ...(namespace === undefined ? {} : { LUKHAS_NAMESPACE: namespace }) };
  process.exitCode = 0;
  try {
    await execute(args, new AbortController().signal);
  } finally {
    running = false;
    process.env = env;
    restore.forEach(({ end }) => void end());
  }
  const code = Number(process.exitCode ?? 0);
  process.exitCode = exitCode;
  const [stdout, stderr] = restore.map(({ text }) => text());
  return { code, stdout: stdout ?? '', stderr: stderr ?? '' };
}

/** What is written to a stream, which is no terminal meanwhile. */
function capture(stream: NodeJS.WriteStream): { readonly text: () => string; readonly end: () => void } {
  const { write, isTTY } = stream;
  let text = '';
  stream.write = ((chunk: string | Uint8Array) => {
    text += typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString();
    return true;
  }) as typeof stream.write;
  stream.isTTY = false;
  return {
    text: () => text,
    end: () => {
      stream.write = write;
      stream.isTTY = isTTY;
    },
  };
}
