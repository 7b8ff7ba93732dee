/** Where and with what a run was made. */
import { readFileSync } from 'node:fs';
import { cpus, totalmem, type } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';

const ROOT = join(import.meta.dirname, '..', '..', '..');

const versionOf = (name: string): string =>
  (JSON.parse(readFileSync(join(ROOT, 'node_modules', name, 'package.json'), 'utf8')) as { version: string }).version;

export interface Machine {
  readonly date: string;
  readonly processor: string;
  readonly cores: number;
  readonly memoryGib: number;
  readonly system: string;
  readonly node: string;
  readonly redis: string;
  readonly ioredis: string;
  readonly lruCache: string;
}

export async function describeMachine(url: string): Promise<Machine> {
  const redis = new Redis(url);
  try {
    const version = /redis_version:(\S+)/.exec(await redis.info('server'))?.[1] ?? '?';
    const processors = cpus();
    return {
      date: new Date().toISOString().slice(0, 10),
      processor: processors[0]?.model.trim() ?? '?',
      cores: processors.length,
      memoryGib: Math.round(totalmem() / 2 ** 30),
      system: type(),
      node: process.versions.node,
      redis: version,
      ioredis: versionOf('ioredis'),
      lruCache: versionOf('lru-cache'),
    };
  } finally {
    await redis.quit();
  }
}

export const machineSentence = (machine: Machine, rounds: number): string =>
  `Measured ${machine.date} on ${machine.cores} cores (${machine.processor}, ${machine.memoryGib} GiB, ${machine.system}) with Node ` +
  `${machine.node}, Redis ${machine.redis} on the same machine, ioredis ${machine.ioredis}, lru-cache ${machine.lruCache}; medians of ${rounds} ` +
  'rounds, in brackets the least and the most of them.';
