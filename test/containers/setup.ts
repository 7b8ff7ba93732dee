/**
 * Loaded by mocha before the tests (`--require`): one Redis in a container stands for the server that the integration tests share
 * (see `sharedServer` in test/helpers/RedisServer.ts).
 */
import { sep } from 'node:path';
import { Redis } from 'ioredis';
import type { RootHookObject } from 'mocha';
import type { StartedTestContainer } from 'testcontainers';
import { redisImage, startRedisContainer, urlOf } from './redisContainer.js';

let container: StartedTestContainer | undefined;
let integrationTests = 0;

export async function mochaGlobalSetup(): Promise<void> {
  container = await startRedisContainer();
  process.env.LUKHAS_TEST_REDIS_URL = urlOf(container);
  console.log(`  the integration tests share ${await redisImage()} at ${urlOf(container)}`);
}

export async function mochaGlobalTeardown(): Promise<void> {
  await container?.stop();
}

export const mochaHooks: RootHookObject = {
  beforeEach(this: Mocha.Context) {
    if (this.currentTest?.file?.includes(`${sep}integration${sep}`)) integrationTests++;
  },
  /** Tests that passed on another server would prove nothing here; with --grep there may be none that uses one. */
  async afterAll() {
    if (!container || integrationTests === 0 || process.argv.includes('--grep')) return;
    const client = new Redis(urlOf(container));
    const [, connections] = /total_connections_received:(\d+)/.exec(await client.info('stats')) ?? [];
    client.disconnect();
    // One of them is the client that asks.
    if (Number(connections) < 2) throw new Error(`${integrationTests} integration tests ran, and none used the container`);
  },
};
