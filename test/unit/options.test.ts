import { hostname } from 'node:os';
import { expect } from 'chai';
import { ContextError } from '../../src/core/errors.js';
import { resolveOptions, type StoreOptions } from '../../src/store/options.js';

const MB = 1024 * 1024;
const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

function refusal(options: unknown): ContextError {
  try {
    resolveOptions(options as StoreOptions);
  } catch (error) {
    expect(error).to.be.instanceOf(ContextError);
    expect((error as ContextError).code).to.equal('INVALID_OPTION');
    return error as ContextError;
  }
  throw new Error(`was taken: ${JSON.stringify(options)}`);
}

describe('the options of a store', () => {
  it('all have defaults, as their documentation says', () => {
    const { instanceId, ...rest } = resolveOptions({});
    expect(rest).to.deep.equal({
      redis: 'redis://127.0.0.1:6379',
      namespace: 'default',
      shards: undefined,
      timeoutMs: 5_000,
      connectTimeoutMs: 5_000,
      attemptTimeoutMs: 1_000,
      heartbeatMs: 1_000,
      copyValues: false,
      delta: 'on',
      localBytes: 128 * MB,
      logKeep: 64,
      logBytes: 64 * 1024,
      recoverAfterMs: 5_000,
      tombstoneMs: 86_400_000,
      contextBytes: MB,
      depth: 256,
      idBytes: 512,
      workers: 'inline',
      queues: { sweepEveryMs: 1_000, scrubEveryMs: 86_400_000, scrubRate: 8 * MB, reconcileEveryMs: 300_000 },
      locks: { nodes: [], ttlMs: 10_000, waitMs: 10_000, maxTtlMs: 60_000 },
      predict: null,
      evictionPolicy: 'refuse',
      logger: undefined,
    });
    expect(instanceId).to.match(/^[\x21-\x7e]{1,64}$/);
    expect(instanceId).to.include(`-${process.pid}-`);
    expect(instanceId.startsWith(hostname().slice(0, 3))).to.equal(true);
  });

  it('name every instance differently', () => {
    const names = new Set(Array.from({ length: 50 }, () => resolveOptions({}).instanceId));
    expect(names.size).to.equal(50);
  });

  it('are read with their units', () => {
    const target = { host: 'localhost', port: 1 };
    const { instanceId, redis, logger, ...rest } = resolveOptions({
      redis: target,
      namespace: 'agents',
      transactions: { recoverAfter: '2s' },
      shards: 16,
      instanceId: 'one',
      timeout: '2s',
      connectTimeout: 700,
      attemptTimeout: '250ms',
      heartbeat: '1m',
      values: 'copy',
      delta: 'shadow',
      memory: { local: '1gb' },
      log: { keep: 512, bytes: '1mb', tombstone: '7d' },
      limits: { contextBytes: '8mb', depth: 1_000, idBytes: 1 },
      workers: 'external',
      queues: { sweepEvery: '250ms', scrubEvery: '7d', scrubRate: '64mb', reconcileEvery: '1h' },
      locks: { nodes: ['redis://a', target, 'redis://c'], ttl: '1s', wait: 0, maxTtl: '1h' },
      evictionPolicy: 'warn',
      logger: quiet,
    });
    expect(instanceId).to.equal('one');
    expect(redis).to.equal(target);
    expect(logger).to.equal(quiet);
    expect(rest).to.deep.equal({
      namespace: 'agents',
      shards: 16,
      timeoutMs: 2_000,
      connectTimeoutMs: 700,
      attemptTimeoutMs: 250,
      heartbeatMs: 60_000,
      copyValues: true,
      delta: 'shadow',
      localBytes: 1024 * MB,
      logKeep: 512,
      logBytes: MB,
      recoverAfterMs: 2_000,
      tombstoneMs: 604_800_000,
      contextBytes: 8 * MB,
      depth: 1_000,
      idBytes: 1,
      workers: 'external',
      queues: { sweepEveryMs: 250, scrubEveryMs: 604_800_000, scrubRate: 64 * MB, reconcileEveryMs: 3_600_000 },
      locks: { nodes: ['redis://a', target, 'redis://c'], ttlMs: 1_000, waitMs: 0, maxTtlMs: 3_600_000 },
      evictionPolicy: 'warn',
      predict: null,
    });
  });

  it('keep what a group does not name', () => {
    expect(resolveOptions({ log: { keep: 1 }, limits: { depth: 1 }, memory: {} })).to.include({
      logKeep: 1,
      logBytes: 64 * 1024,
      tombstoneMs: 86_400_000,
      depth: 1,
      contextBytes: MB,
      localBytes: 128 * MB,
    });
  });

  it('may switch replicas and the logger off', () => {
    expect(resolveOptions({ memory: { local: 0 }, logger: false })).to.include({ localBytes: 0, logger: false });
  });

  it('say how expiries are predicted, with defaults for all but the bounds', () => {
    expect(resolveOptions({ ttl: {} }).predict).to.equal(null);
    expect(resolveOptions({ ttl: { predict: false } }).predict).to.equal(null);
    const bounds = { min: '5m', max: '2d' };
    expect(resolveOptions({ ttl: { predict: bounds } }).predict).to.deep.equal({
      minMs: 300_000,
      maxMs: 172_800_000,
      keep: 0.95,
      halfLifeMs: 604_800_000,
      observations: 20,
    });
    const all = { ...bounds, keep: 0.5, halfLife: '1h', observations: 1 };
    expect(resolveOptions({ ttl: { predict: all } }).predict).to.include({ keep: 0.5, halfLifeMs: 3_600_000, observations: 1 });
  });

  describe('are refused', () => {
    const wrong: readonly (readonly [options: unknown, names: string])[] = [
      [{ namspace: 'a' }, 'namspace'],
      [{ memory: { limit: '64mb' } }, 'memory'],
      [{ log: { keeps: 3 } }, 'log'],
      [{ limits: { bytes: 3 } }, 'limits'],
      [{ redis: 6379 }, 'redis'],
      [{ redis: null }, 'redis'],
      [{ namespace: 'a b' }, 'namespace'],
      [{ namespace: '' }, 'namespace'],
      [{ namespace: 7 }, 'namespace'],
      [{ shards: 0 }, 'shards'],
      [{ shards: 1_025 }, 'shards'],
      [{ shards: 1.5 }, 'shards'],
      [{ shards: '16' }, 'shards'],
      [{ instanceId: '' }, 'instanceId'],
      [{ instanceId: 'two words' }, 'instanceId'],
      [{ instanceId: 'line\nend' }, 'instanceId'],
      [{ instanceId: 'é' }, 'instanceId'],
      [{ instanceId: 'x'.repeat(65) }, 'instanceId'],
      [{ timeout: 0 }, 'timeout'],
      [{ timeout: -1 }, 'timeout'],
      [{ timeout: 'soon' }, 'timeout'],
      [{ timeout: 2 ** 31 }, 'timeout'],
      [{ timeout: Number.NaN }, 'timeout'],
      [{ timeout: null }, 'timeout'],
      [{ connectTimeout: 0 }, 'connectTimeout'],
      [{ attemptTimeout: 9 }, 'attemptTimeout'],
      [{ heartbeat: '9ms' }, 'heartbeat'],
      [{ values: 'shared' }, 'values'],
      [{ ttl: { predict: true } }, 'ttl.predict'],
      [{ ttl: { predict: {} } }, 'ttl.predict'],
      [{ ttl: { predict: { min: '1m' } } }, 'ttl.predict'],
      [{ ttl: { predict: { min: '999ms', max: '1h' } } }, 'ttl.predict.min'],
      [{ ttl: { predict: { min: '1h', max: '1m' } } }, 'ttl.predict.max'],
      [{ ttl: { predict: { min: '1m', max: '1h', keep: 1 } } }, 'ttl.predict'],
      [{ ttl: { predict: { min: '1m', max: '1h', keep: 0.4 } } }, 'ttl.predict'],
      [{ ttl: { predict: { min: '1m', max: '1h', halfLife: 0 } } }, 'ttl.predict.halfLife'],
      [{ ttl: { predict: { min: '1m', max: '1h', observations: 0 } } }, 'ttl.predict'],
      [{ ttl: { predict: { min: '1m', max: '1h', factor: 2 } } }, 'ttl.predict'],
      [{ memory: { local: -1 } }, 'memory.local'],
      [{ memory: { local: '1 parsec' } }, 'memory.local'],
      [{ memory: 128 }, 'memory'],
      [{ log: { keep: 0 } }, 'log.keep'],
      [{ log: { keep: 513 } }, 'log.keep'],
      [{ log: { keep: 1.5 } }, 'log.keep'],
      [{ log: { bytes: '2gb' } }, 'log.bytes'],
      [{ log: { tombstone: '999ms' } }, 'log.tombstone'],
      [{ limits: { contextBytes: 0 } }, 'limits.contextBytes'],
      [{ limits: { contextBytes: 8 * MB + 1 } }, 'limits.contextBytes'],
      [{ limits: { depth: 0 } }, 'limits.depth'],
      [{ limits: { depth: 1_001 } }, 'limits.depth'],
      [{ limits: { idBytes: 0 } }, 'limits.idBytes'],
      [{ limits: { idBytes: 513 } }, 'limits.idBytes'],
      [{ workers: 'on' }, 'workers'],
      [{ queues: { sweep: '1s' } }, 'queues'],
      [{ queues: { sweepEvery: '99ms' } }, 'queues.sweepEvery'],
      [{ queues: { scrubEvery: 0 } }, 'queues.scrubEvery'],
      [{ queues: { scrubRate: '1kb' } }, 'queues.scrubRate'],
      [{ queues: { reconcileEvery: 'often' } }, 'queues.reconcileEvery'],
      [{ locks: { node: [] } }, 'locks'],
      [{ locks: { nodes: 'redis://a' } }, 'locks.nodes'],
      [{ locks: { nodes: ['redis://a', 'redis://b'] } }, 'locks.nodes'],
      [{ locks: { nodes: ['http://a'] } }, 'redis'],
      [{ locks: { ttl: 99 } }, 'locks.ttl'],
      [{ locks: { ttl: '2m' } }, 'locks.ttl'],
      [{ locks: { maxTtl: '2d' } }, 'locks.maxTtl'],
      [{ locks: { wait: 'long' } }, 'locks.wait'],
      [{ evictionPolicy: 'ignore' }, 'evictionPolicy'],
      [{ logger: true }, 'logger'],
      [{ logger: { info: () => {} } }, 'logger'],
      [null, 'options'],
      ['redis://localhost', 'options'],
    ];
    for (const [options, names] of wrong) {
      const shown = JSON.stringify(options) ?? String(options);
      it(shown.length > 60 ? `${shown.slice(0, 60)}…` : shown, () => expect(refusal(options).message).to.include(names));
    }

    it('with the limits and the value seen', () => {
      const error = refusal({ limits: { contextBytes: '9mb' } });
      expect(error.details).to.include({ limit: 'limits.contextBytes', found: 9 * MB });
      expect(error.message)
        .to.include(String(9 * MB))
        .and.to.include(String(8 * MB));
    });

    it('all at once', () => {
      const { message } = refusal({ shards: 0, values: 'x', unknown: 1 });
      for (const name of ['shards', 'values', 'unknown']) expect(message).to.include(name);
    });
  });
});
