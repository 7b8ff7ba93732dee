import type { Redis } from 'ioredis';

/** Server time of a command while `run` runs: us a call, as `INFO commandstats` counts it. Nobody else may call it meanwhile. */
export async function usecPerCall(redis: Redis, command: string, run: () => Promise<void>): Promise<number> {
  await redis.config('RESETSTAT');
  await run();
  const found = new RegExp(`cmdstat_${command}:calls=(\\d+),usec=(\\d+)`).exec(await redis.info('commandstats'));
  if (found === null) throw new Error(`the server has counted no call of ${command}`);
  return Number(found[2]) / Number(found[1]);
}
