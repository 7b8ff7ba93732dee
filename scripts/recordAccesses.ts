/**
 * Records when the contexts of real demo runs are used, as a trace for `npm run simulate:ttl`. Several demos of different pace begin one after the
 * other on a Redis of their own; what `MONITOR` shows of reads and commits is written down: `ms context r|w bytes`, a line an access.
 *
 * `npx tsx scripts/recordAccesses.ts test/fixtures/access/demo.txt`
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { endAll } from '../test/helpers/cleanup.js';
import { RedisServer } from '../test/helpers/RedisServer.js';

/** Each with the time at which it begins, ms. */
const DEMOS: readonly { readonly afterMs: number; readonly flags: readonly string[] }[] = [
  { afterMs: 0, flags: ['--seed', 'slow', '--rate', '6', '--conversations', '4', '--turns', '130', '--revisions', '0'] },
  { afterMs: 2_000, flags: ['--seed', 'files', '--rate', '4', '--conversations', '2', '--turns', '20', '--revisions', '40'] },
  { afterMs: 15_000, flags: ['--seed', 'many', '--rate', '12', '--conversations', '30', '--turns', '10', '--revisions', '0'] },
  { afterMs: 50_000, flags: ['--seed', 'burst', '--rate', '30', '--conversations', '10', '--turns', '25', '--revisions', '0'] },
];
const CONTEXT_KEY = /^\{lc:demo-([^:]*)-[^:-]*:\d+\}:c:(.*)$/;

interface Access {
  readonly at: number;
  readonly context: string;
  readonly kind: 'r' | 'w';
  readonly bytes: number;
}

async function record(): Promise<Access[]> {
  const server = await RedisServer.start();
  const client = server.client();
  const monitor = await client.monitor();
  const accesses: Access[] = [];
  const bytes = new Map<string, number>();
  monitor.on('monitor', (time: string, [command = '', key = '', ...args]: string[], source: string) => {
    const [, seed, id] = CONTEXT_KEY.exec(key) ?? [];
    if (seed === undefined) return;
    const context = `${seed}/${id}`;
    const name = command.toLowerCase();
    const length = args.indexOf('len');
    const written = source === 'lua' && name === 'hset' && args[0] === 'v' && length >= 0;
    const read = source !== 'lua' && (name === 'hmget' || name === 'hgetall');
    if (written) bytes.set(context, Number(args[length + 1]));
    const known = bytes.get(context);
    if ((written || read) && known !== undefined)
      accesses.push({ at: Number(time) * 1000, context, kind: written ? 'w' : 'r', bytes: known });
  });
  const program = fileURLToPath(new URL('../src/cli/main.ts', import.meta.url));
  await Promise.all(
    DEMOS.map(async ({ afterMs, flags }) => {
      await sleep(afterMs);
      const args = ['--import', 'tsx', program, 'demo', '--json', '--instances', '2', '--redis', server.url, ...flags];
      const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit'] });
      const [code] = (await once(child, 'exit')) as [number | null];
      if (code !== 0) throw new Error(`the demo ${flags.join(' ')} ended with ${code}`);
    }),
  );
  monitor.disconnect();
  return accesses;
}

async function main(): Promise<void> {
  const [path] = process.argv.slice(2);
  if (path === undefined) throw new Error('usage: npx tsx scripts/recordAccesses.ts <file>');
  try {
    const accesses = await record();
    const begin = accesses[0]?.at ?? 0;
    const lines = accesses.map(({ at, context, kind, bytes }) => `${Math.round(at - begin)} ${context} ${kind} ${bytes}`);
    writeFileSync(path, `${lines.join('\n')}\n`);
    console.log(`${accesses.length} accesses to ${new Set(accesses.map(({ context }) => context)).size} contexts`);
  } finally {
    await endAll();
  }
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
