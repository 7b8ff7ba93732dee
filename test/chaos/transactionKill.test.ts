import { expect } from 'chai';
import type { Redis } from 'ioredis';
import { ContextStore, type StoreOptions } from '../../src/index.js';
import { Keys } from '../../src/redis/keys.js';
import { exactAccounts } from '../helpers/accounts.js';
import { uniqueNamespace } from '../helpers/namespace.js';
import { type NodeProcess, spawnNode } from '../helpers/processes.js';
import { RedisServer } from '../helpers/RedisServer.js';
import { type ScriptCall, SteppingProxy, type StopRules } from '../helpers/SteppingProxy.js';
import { redisTime, untilRedisTime } from '../helpers/stores.js';
import { waitFor } from '../helpers/waitFor.js';
import { type Group, type Planned, stateOf } from './transactionGroup.js';
import type { Outcome, Readings, TransactionCommand } from './transactionProcess.js';

const PROCESS = new URL('./transactionProcess.ts', import.meta.url);
const SHARDS = 8;
const KILLS = 20;
/** Long enough for all coordinators of a step to come to it on a machine that is busy. */
const RECOVER_MS = 1_500;
/** Who is there after the death: readers (and they were before), writers, only a sweep, only reconcile. */
const WHO = ['reads', 'writes', 'sweep', 'reconcile'] as const;

interface Death extends Group {
  readonly who: (typeof WHO)[number];
  readonly proxy: SteppingProxy;
  readonly parts: number;
}

interface Step {
  readonly name: string;
  readonly rules: StopRules;
  /** Besides that the call was stopped: what Redis has by then. */
  readonly reached?: (death: Death) => Promise<boolean>;
  readonly after: 'before' | 'after';
}

const call =
  (script: ScriptCall['script'], nth: number) =>
  (found: ScriptCall): boolean =>
    found.script === script && found.nth === nth;

describe('SIGKILL of the coordinator of a transaction', function () {
  this.timeout(120_000);
  let server: RedisServer;
  let redis: Redis;
  let readers: NodeProcess;
  const closing: (() => Promise<unknown>)[] = [];

  before(async () => {
    server = await RedisServer.start();
    redis = server.client();
    readers = await spawnNode(PROCESS);
    // from then on a script is one call
    const store = await open(uniqueNamespace('warm'));
    for (const ids of [['a'], ['a', 'b', 'c', 'd', 'e']])
      for (const write of [true, false])
        await store.transaction((tx) => {
          for (const id of ids) write ? tx.set(id, { n: 0 }) : tx.delete(id);
        });
    await store.transaction((tx) => tx.getMany(['a', 'b']));
  });
  after(async () => {
    await readers.kill();
    await server.stop();
  });
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close();
  });

  const optionsOf = (namespace: string, url = server.url): StoreOptions => ({
    redis: url,
    namespace,
    shards: SHARDS,
    heartbeat: '1h',
    attemptTimeout: '8s',
    timeout: '20s',
    transactions: { recoverAfter: RECOVER_MS },
    workers: 'off',
    logger: false,
  });
  async function open(namespace: string, url?: string): Promise<ContextStore> {
    const store = await ContextStore.connect(optionsOf(namespace, url));
    closing.push(() => store.close());
    return store;
  }
  const keysOf = ({ namespace }: Group): Keys => new Keys(namespace, SHARDS);
  const tell = <T = void>(process: NodeProcess, command: TransactionCommand): Promise<T> =>
    process.request<T>(command, { limitMs: 40_000 });

  /** Three to five contexts in at least two shards, some of which are there. */
  async function group(number: number): Promise<Group & { readonly parts: number }> {
    const namespace = uniqueNamespace('kill');
    const keys = new Keys(namespace, SHARDS);
    const kinds = ['set', 'patch', 'create', 'delete', 'set'] as const;
    const size = 3 + (number % 3);
    for (let serial = 0; ; serial += 1) {
      const planned = Array.from({ length: size }, (_, index): Planned => {
        const kind = kinds[(number + index) % kinds.length] ?? 'set';
        return { id: `${kind}-${serial}-${index}`, kind };
      });
      const parts = new Set(planned.map(({ id }) => keys.shardOf(id).shard)).size;
      if (parts < 2) continue;
      const store = await open(namespace);
      await Promise.all(planned.filter(({ kind }) => kind !== 'create').map(({ id }) => store.set(id, { n: 0 })));
      return { namespace, planned, parts };
    }
  }

  async function deaths(rules: StopRules): Promise<Death[]> {
    return Promise.all(
      Array.from({ length: KILLS }, async (_, number) => {
        const proxy = await SteppingProxy.start(server.port);
        closing.push(() => proxy.close());
        proxy.stopAt(rules);
        return { ...(await group(number)), proxy, who: WHO[number % WHO.length] ?? 'reads' };
      }),
    );
  }

  /** The records of a transaction as Redis has them; each with its key. */
  async function records(group: Group): Promise<Record<string, string>[]> {
    const found = await Promise.all(
      keysOf(group).shards.map(async ({ tag }) => {
        const names = await redis.keys(`${tag.replace(/[{}]/g, '\\$&')}:t:*`);
        return Promise.all(names.map(async (name) => ({ name, ...(await redis.hgetall(name)) })));
      }),
    );
    return found.flat();
  }
  const count = async (group: Group, field: string): Promise<number> =>
    (await records(group)).filter((record) => field in record).length;
  const committed = async (group: Group): Promise<boolean> =>
    (await records(group)).some(({ name, state }) => name?.endsWith('.0') === true && state === 'committed');

  const STEPS: readonly Step[] = [
    { name: 'before the first phase', rules: { hold: call('prepare', 1) }, after: 'before' },
    {
      name: 'after the first phase in one shard',
      rules: { hold: call('prepare', 2) },
      reached: async (death) => (await count(death, 'members')) === 1,
      after: 'before',
    },
    {
      name: 'after the first phase in all shards but that of the decision',
      rules: { lose: call('prepare', 1), mute: call('prepare', 1) },
      reached: async (death) => (await count(death, 'members')) === death.parts - 1,
      after: 'before',
    },
    {
      name: 'after the first phase in all shards',
      rules: { mute: call('prepare', 1) },
      reached: async (death) => (await count(death, 'members')) === death.parts,
      after: 'before',
    },
    { name: 'before the decision', rules: { hold: call('decide', 1) }, after: 'before' },
    { name: 'after the decision, before its reply', rules: { mute: call('decide', 1) }, reached: committed, after: 'after' },
    { name: 'after the decision', rules: { hold: call('finish', 1) }, reached: committed, after: 'after' },
    {
      name: 'after the second phase in one shard',
      rules: { hold: call('finish', 2) },
      reached: async (death) => (await count(death, 'done')) >= 1,
      after: 'after',
    },
    {
      name: 'after the second phase in all shards but that of the decision',
      rules: { lose: call('finish', 1), mute: call('finish', 1) },
      reached: async (death) => (await count(death, 'done')) >= death.parts - 1,
      after: 'after',
    },
    {
      name: 'after the second phase in all shards',
      rules: { mute: call('finish', 1) },
      reached: async (death) => (await count(death, 'done')) === death.parts,
      after: 'after',
    },
    {
      name: 'before it is forgotten',
      rules: { hold: ({ script, text }) => script === 'finish' && / forget \d+\r\n/.test(text) },
      after: 'after',
    },
  ];

  /** Contexts with an intent, and parts that are listed as open. */
  async function leftOf(group: Group): Promise<string[]> {
    const keys = keysOf(group);
    const held = await Promise.all(
      group.planned.map(async ({ id }) =>
        (await redis.hexists(keys.of(id).context, 'intent')) === 1 ? [`intent in ${id}`] : [],
      ),
    );
    const listed = await Promise.all(keys.shards.map(({ txn }) => redis.zrange(txn, '0', '-1')));
    return [...held.flat(), ...listed.flat()];
  }
  const intentsOf = async (group: Group): Promise<string[]> => (await leftOf(group)).filter((what) => what.startsWith('intent'));

  /** As it lies in Redis. */
  async function statesIn(group: Group): Promise<string[]> {
    const keys = keysOf(group);
    return Promise.all(
      group.planned.map(async (one) => {
        const data = await redis.hget(keys.of(one.id).context, 'data');
        return stateOf(one, data === null ? null : JSON.parse(data));
      }),
    );
  }

  /** What goes on after the death, until nothing of the transaction is left. */
  async function recover(death: Death, store: ContextStore): Promise<void> {
    const { who, planned } = death;
    const limitMs = RECOVER_MS + 15_000;
    const clean = (round: () => Promise<unknown>): Promise<unknown> =>
      waitFor(
        async () => {
          await round();
          return (await leftOf(death)).length === 0;
        },
        { what: `${who} to leave nothing of the transaction in ${death.namespace}`, limitMs, everyMs: 100 },
      );
    const sweep = async (): Promise<unknown> => store.maintenance.sweep();
    switch (who) {
      case 'reads':
        // whoever reads ends what stands in the contexts; that the transaction is over, a sweep notes
        await waitFor(async () => (await intentsOf(death)).length === 0, { what: 'readers to end it', limitMs, everyMs: 20 });
        return void (await clean(sweep));
      case 'writes': {
        const seen: ('before' | 'after')[] = [];
        for (const one of planned.toReversed()) {
          if (one.kind === 'create' || one.kind === 'delete') {
            const touched = await store.touch(one.id, '1h');
            seen.push((touched === null) === (one.kind === 'create') ? 'before' : 'after');
          } else {
            await store.update<{ n: number; w?: number }>(one.id, (draft) => {
              seen.push(stateOf(one, { n: draft.n }));
              draft.w = 1;
            });
          }
        }
        expect(new Set(seen), `what writers met in ${death.namespace}: ${seen.join(' ')}`).to.have.property('size', 1);
        expect(await intentsOf(death)).to.deep.equal([]);
        return void (await clean(sweep));
      }
      case 'sweep':
        return void (await clean(sweep));
      case 'reconcile':
        return void (await clean(async () => {
          for await (const _ of store.maintenance.reconcile());
        }));
    }
  }

  for (const step of STEPS) {
    it(`${step.name}, ${KILLS} times: all or nothing, and nothing is left of it`, async () => {
      const all = await deaths(step.rules);
      const read = all.filter(({ who }) => who === 'reads');
      await tell(readers, { do: 'open', stores: read.map(({ namespace }) => optionsOf(namespace)) });
      await tell(readers, { do: 'read', groups: read });
      const victim = await spawnNode(PROCESS);
      closing.push(() => victim.kill());
      await tell(victim, { do: 'open', stores: all.map(({ namespace, proxy }) => optionsOf(namespace, proxy.url)) });
      await tell(victim, { do: 'begin', groups: all });
      for (const death of all) {
        await waitFor(async () => death.proxy.stopped && ((await step.reached?.(death)) ?? true), {
          what: `${death.namespace} to be ${step.name}`,
          everyMs: 20,
        });
      }
      expect(await victim.kill()).to.include({ signal: 'SIGKILL' });
      await Promise.all(all.map(({ proxy }) => proxy.close()));

      await Promise.all(all.map(async (death) => recover(death, await open(death.namespace))));
      const { reads, problems } = await tell<Readings>(readers, {
        do: 'stop',
        namespaces: read.map(({ namespace }) => namespace),
      });
      expect(problems).to.deep.equal([]);
      expect(reads).to.be.above(read.length);
      for (const death of all) {
        expect(new Set(await statesIn(death)), `${death.namespace}, ${death.who}`).to.deep.equal(new Set([step.after]));
        for (const record of await records(death)) {
          expect(Boolean(record.state ?? record.done), `a record that is not settled: ${JSON.stringify(record)}`).to.equal(true);
          expect(await redis.pttl(record.name ?? ''), `expiry of ${record.name}`).to.be.above(0);
        }
        await exactAccounts(redis, death.namespace, SHARDS);
      }
      await tell(readers, { do: 'close' });
    });
  }

  for (const settled of [true, false]) {
    const how = settled ? 'and somebody has ended it meanwhile' : 'and nobody has met it';
    it(`stopped past its deadline before the decision ${how}: it is done once all the same, by another run`, async () => {
      const proxy = await SteppingProxy.start(server.port);
      closing.push(() => proxy.close());
      const plan = await group(1);
      const { namespace, planned, parts } = plan;
      const coordinator = await spawnNode(PROCESS);
      closing.push(() => coordinator.kill());
      await tell(coordinator, { do: 'open', stores: [optionsOf(namespace, proxy.url)] });
      proxy.stopAt({ mute: call('prepare', 1) });
      await tell(coordinator, { do: 'begin', groups: [plan] });
      await waitFor(async () => (await count(plan, 'members')) === parts, { what: 'the first phase' });
      coordinator.signal('SIGSTOP');
      await untilRedisTime(redis, (await redisTime(redis)) + RECOVER_MS + 1);
      const other = await open(namespace);
      if (settled) {
        const found = await other.getMany(
          planned.map(({ id }) => id),
          { fresh: true },
        );
        expect(planned.map((one, index) => stateOf(one, found[index]?.value))).to.deep.equal(planned.map(() => 'before'));
        expect(await intentsOf(plan)).to.deep.equal([]);
      }
      proxy.resume();
      coordinator.signal('SIGCONT');
      const outcome = await tell<Outcome>(coordinator, { do: 'outcome', namespace });
      expect(outcome).to.deep.equal({ runs: 2, error: null });
      const after = await Promise.all(planned.map(({ id }) => other.get(id, { fresh: true })));
      expect(after.map((context) => context?.value ?? null)).to.deep.equal(
        planned.map(({ kind }) => (kind === 'delete' ? null : { n: 1 })),
      );
      expect(after.map((context) => context?.version ?? null)).to.deep.equal(
        planned.map(({ kind }) => (kind === 'delete' ? null : kind === 'create' ? 1 : 2)),
      );
      await waitFor(async () => (await leftOf(plan)).length === 0, { what: 'nothing to be left' });
      await exactAccounts(redis, namespace, SHARDS);
    });
  }
});
