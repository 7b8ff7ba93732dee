import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { Project } from '../start/project.js';
import { redisImage } from './redisContainer.js';

describe('scripts/start without a redis-server', function () {
  this.timeout(120_000);
  let project: Project;
  let env: Record<string, string>;

  before(async () => {
    env = {
      LUKHAS_REDIS_IMAGE: await redisImage(),
      ...(process.env.DOCKER_HOST ? { DOCKER_HOST: process.env.DOCKER_HOST } : {}),
    };
  });
  beforeEach(() => {
    project = new Project();
    project.withhold('redis-server');
    project.provide('docker');
  });
  afterEach(async () => {
    const name = containerName();
    if (name) execFileSync('docker', ['rm', '--force', name], { stdio: 'ignore' });
    await project.remove();
  });

  function containerName(): string | undefined {
    const file = join(project.data, 'redis.container');
    return existsSync(file) ? readFileSync(file, 'utf8').trim() : undefined;
  }

  const running = (name: string): string =>
    execFileSync('docker', ['ps', '--quiet', '--filter', `name=^${name}$`], { encoding: 'utf8' });

  it('runs on a container, keeps the data, shares it, and stops it in the end', async () => {
    const first = project.start(env);
    const { port } = await first.ready();
    const name = containerName() ?? '';
    expect(first.err).to.contain('starting').and.contain('with Docker');
    expect(running(name)).to.not.equal('');

    const second = project.start(env);
    expect(await second.ready()).to.deep.include({ port });
    second.signal('SIGINT');
    expect((await second.ended).err).to.contain('Redis stays');
    first.signal('SIGINT');
    expect((await first.ended).code).to.equal(130);
    expect(running(name)).to.equal('');

    // Both starts counted, both interruptions.
    expect((await project.start({ ...env, DEMO_MS: '300' }).ended).out).to.contain(':3\\r\\n$1\\r\\n2');
  });

  it('says in one sentence that the image cannot be had', async () => {
    const end = await project.start({ ...env, LUKHAS_REDIS_IMAGE: 'localhost:1/no/such-image' }).ended;
    expect(end.code).to.equal(1);
    expect(end.err.trim().split('\n').at(-1)).to.match(
      /^Docker could not start localhost:1\/no\/such-image .* run this again\.$/,
    );
  });
});
