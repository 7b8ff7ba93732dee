import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { GenericContainer, type StartedTestContainer, Wait } from 'testcontainers';

const run = promisify(execFile);
const LOCAL_IMAGE = 'lukhas-context/redis:local';
const PULL_LIMIT_MS = 120_000;

let chosen: Promise<string> | undefined;

/**
 * The image of `LUKHAS_REDIS_IMAGE`, or an official one that is there or can be pulled; without a registry one built from this
 * machine's redis-server.
 */
export function redisImage(): Promise<string> {
  chosen ??= chooseImage();
  return chosen;
}

async function chooseImage(): Promise<string> {
  const named = process.env.LUKHAS_REDIS_IMAGE;
  const official = named ? [named] : ['redis:7-alpine', 'valkey/valkey:8-alpine'];
  for (const image of official) {
    if (await succeeds(['image', 'inspect', image])) return image;
  }
  for (const image of official) {
    if (await succeeds(['pull', '--quiet', image])) return image;
  }
  if (named) throw new Error(`the image ${named} of LUKHAS_REDIS_IMAGE is not here and cannot be pulled`);
  await run(join(import.meta.dirname, '../../docker/build-redis-image.sh'), [LOCAL_IMAGE]);
  return LOCAL_IMAGE;
}

async function succeeds(args: readonly string[]): Promise<boolean> {
  try {
    await run('docker', args, { timeout: PULL_LIMIT_MS });
    return true;
  } catch {
    return false;
  }
}

/** A Redis in a container; whoever starts it stops it. `port` on the host is chosen by Docker unless given. */
export async function startRedisContainer(
  options: { readonly port?: number; readonly config?: readonly string[] } = {},
): Promise<StartedTestContainer> {
  const { port, config = [] } = options;
  return await new GenericContainer(await redisImage())
    .withCommand(['redis-server', '--protected-mode', 'no', '--maxmemory-policy', 'noeviction', ...config])
    // By which scripts/runTests.ts finds what a run left behind.
    .withLabels({ 'lukhas-context.run': process.env.LUKHAS_TEST_RUN ?? 'by-hand' })
    .withExposedPorts(port === undefined ? 6379 : { container: 6379, host: port })
    // Looking for a listening port needs a shell in the image.
    .withWaitStrategy(Wait.forLogMessage(/Ready to accept connections/))
    .withStartupTimeout(60_000)
    .start();
}

export function urlOf(container: StartedTestContainer): string {
  return `redis://${container.getHost()}:${container.getMappedPort(6379)}`;
}
