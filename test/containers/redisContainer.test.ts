import { expect } from 'chai';
import { Redis } from 'ioredis';
import type { StartedTestContainer } from 'testcontainers';
import { freePort } from '../helpers/ports.js';
import { startRedisContainer, urlOf } from './redisContainer.js';

describe('a Redis in a container', function () {
  this.timeout(120_000);
  let container: StartedTestContainer | undefined;
  let client: Redis | undefined;

  before(async () => {
    // A fixed port: Docker gives a container another one at a restart.
    container = await startRedisContainer({ port: await freePort(), config: ['--appendonly', 'yes', '--appendfsync', 'always'] });
    client = new Redis(urlOf(container), { retryStrategy: () => 50, maxRetriesPerRequest: null });
    client.on('error', () => {});
  });
  after(async () => {
    client?.disconnect();
    await container?.stop();
  });

  it('answers, is new enough, and keeps what was written over a restart', async () => {
    if (!client || !container) throw new Error('there is no container');
    expect(await client.ping()).to.equal('PONG');
    const [, major] = /^redis_version:(\d+)\./m.exec(await client.info('server')) ?? [];
    expect(Number(major)).to.be.at.least(7);
    const runId = /^run_id:(\w+)/m.exec(await client.info('server'))?.[1];

    await client.set('kept', 'through the restart');
    await container.restart();
    expect(await client.get('kept')).to.equal('through the restart');
    expect(/^run_id:(\w+)/m.exec(await client.info('server'))?.[1]).to.not.equal(runId);
  });
});
