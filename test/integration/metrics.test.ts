/** What a store and its workers tell OpenTelemetry, and the events and log lines beside it. */
import { type MeterProvider, metrics } from '@opentelemetry/api';
import { expect } from 'chai';
import { reconcilePass } from '../../queues/reconcile.js';
import { type WorkDone, Workers } from '../../queues/Workers.js';
import type { ContextStore } from '../../src/index.js';
import { RecordingLogger, record, useStores } from '../helpers/stores.js';
import { waitFor } from '../helpers/waitFor.js';
import { prose } from './deltaSupport.js';

interface Measured {
  readonly name: string;
  readonly value: number;
  readonly attributes: Readonly<Record<string, unknown>>;
}

describe('metrics', function () {
  this.timeout(30_000);
  const stores = useStores();
  const measured: Measured[] = [];
  before(() => {
    const take = (name: string) => (value: number, attributes: object) => {
      measured.push({ name, value, attributes: { ...attributes } });
    };
    const meter = {
      createCounter: (name: string) => ({ add: take(name) }),
      createHistogram: (name: string) => ({ record: take(name) }),
    };
    metrics.setGlobalMeterProvider({ getMeter: () => meter } as unknown as MeterProvider);
  });
  after(() => metrics.disable());
  beforeEach(() => measured.splice(0));

  const of = (name: string): Measured[] =>
    measured.filter((one) => one.name === name && one.attributes.namespace === stores.namespace);
  const never = new AbortController().signal;
  const FAST = { sweepEvery: '200ms', scrubEvery: '1s', reconcileEvery: '1s' } as const;
  async function working<T>(store: ContextStore, body: (done: WorkDone[]) => Promise<T>): Promise<T> {
    const done: WorkDone[] = [];
    const workers = await Workers.start(store.maintenance, { logger: new RecordingLogger(), done: (one) => done.push(one) });
    try {
      return await body(done);
    } finally {
      await workers.close();
    }
  }

  it('say for each job how it ended and how long it took', async () => {
    const store = await stores.open({ workers: 'external', queues: FAST });
    const done = await working(store, async (jobs) => {
      await waitFor(() => new Set(jobs.map(({ queue }) => queue)).size === 3, { what: 'a job of each queue', limitMs: 15_000 });
      // a job that cannot be done, as Redis says it
      const redis = await stores.redis();
      await redis.del(`{lc:${stores.namespace}:0}:use`);
      await redis.set(`{lc:${stores.namespace}:0}:use`, 'no index');
      await waitFor(() => jobs.some(({ error }) => error !== undefined), { what: 'a job that fails', limitMs: 15_000 });
      return jobs;
    });
    const outcome = ({ error, interrupted }: WorkDone): string =>
      interrupted ? 'interrupted' : error === undefined ? 'done' : 'failed';
    const wanted = done.map((job) => `${job.queue} ${outcome(job)}`);
    const words = (found: Measured[]): string[] => found.map(({ attributes }) => `${attributes.queue} ${attributes.outcome}`);
    expect(words(of('lukhas_context_jobs'))).to.deep.equal(wanted);
    expect(words(of('lukhas_context_job_seconds'))).to.deep.equal(wanted);
    expect(of('lukhas_context_jobs').every(({ value }) => value === 1)).to.equal(true);
    expect(of('lukhas_context_job_seconds').map(({ value }) => value)).to.deep.equal(done.map(({ ms }) => ms / 1000));
  });

  it('say how late each context was swept, by a worker or by a heartbeat', async () => {
    const store = await stores.open({ workers: 'external' });
    await store.set('a', 1, { ttl: 1 });
    await store.set('b', 1, { ttl: 1 });
    await waitFor(async () => !(await store.has('b')), { what: 'both to be over' });
    expect((await store.maintenance.sweep()).removed).to.equal(2);
    const late = of('lukhas_context_sweep_lateness').map(({ value }) => value);
    expect(late).to.have.lengthOf(2);
    for (const ms of late) expect(ms).to.be.within(0, 20_000);
    const alone = await stores.open({ workers: 'off', heartbeat: '20ms' });
    await alone.set('c', 1, { ttl: 1 });
    await waitFor(() => of('lukhas_context_sweep_lateness').length === 3, { what: 'the heartbeat to sweep it' });
  });

  for (const where of ['sweep', 'scrub', 'reconcile'] as const)
    it(`say that damage was found by ${where}`, async () => {
      const others = { sweep: '1h', scrub: '1h', reconcile: '1h' };
      const every = { ...others, [where]: where === 'sweep' ? '200ms' : '1s' };
      const store = await stores.open({
        workers: 'external',
        queues: { sweepEvery: every.sweep, scrubEvery: every.scrub, reconcileEvery: every.reconcile },
      });
      const corrupt = record(store, 'context:corrupt');
      await store.set('a', { n: 1 }, { ttl: where === 'sweep' ? 1 : '1h' });
      const redis = await stores.redis();
      await redis.hset(store.keysOf('a').context, 'len', '999');
      const workers = await Workers.start(store.maintenance, { logger: new RecordingLogger(), queues: [where] });
      try {
        await waitFor(() => corrupt.length > 0, { what: 'the damage to be found', limitMs: 15_000 });
      } finally {
        await workers.close();
      }
      expect(new Set(corrupt.map((event) => event.where))).to.deep.equal(new Set([where]));
      expect(of('lukhas_context_corruptions').map(({ attributes }) => attributes.where)).to.include(where);
    });

  it('tell of a context that nobody has any more: event, log line, counters', async () => {
    const logger = new RecordingLogger();
    const store = await stores.open({ workers: 'external', shards: 2, logger });
    const lost = record(store, 'context:lost');
    await store.set('there', { n: 1 });
    await store.set('x', { text: prose(5, 30_000) });
    const redis = await stores.redis();
    const { context, log } = store.keysOf('x');
    await waitFor(async () => (await redis.exists(context.replace('}:c:', '}:k:'))) === 1, { what: 'its checkpoint' });
    await store.close();
    const other = await stores.open({ workers: 'external', logger });
    const told = record(other, 'context:lost');
    const kept = await redis.dump(log);
    expect(kept).to.not.equal(null);
    await redis.del(context, context.replace('}:c:', '}:k:'), context.replace('}:c:', '}:j:'));
    await redis.del(other.keysOf('there').context);
    const pass = () =>
      reconcilePass(other.maintenance, {
        signal: never,
        heal: async () => false,
        recover: (id) => other.maintenance.recover(id),
      });
    expect(await pass()).to.include({ lost: 1, recovered: 1 });
    const shard = Number(/:(\d+)\}/.exec(context)?.[1]);
    expect(told).to.deep.equal([{ id: 'x', namespace: stores.namespace, shard, instance: other.instanceId }]);
    expect(lost).to.deep.equal([]);
    expect(of('lukhas_context_lost')).to.have.lengthOf(1);
    expect((await other.stats()).integrity.lost).to.equal(1);
    const lines = logger.at('error').filter(({ message }) => message.startsWith('a context vanished'));
    expect(lines.map(({ fields }) => fields)).to.deep.equal([
      { id: 'x', namespace: stores.namespace, shard, instance: other.instanceId },
    ]);
    // once
    expect(await pass()).to.include({ lost: 0 });
    expect(told).to.have.lengthOf(1);
  });
});
