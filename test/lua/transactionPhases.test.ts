import { expect } from 'chai';
import fc from 'fast-check';
import { exactAccounts } from '../helpers/accounts.js';
import { LuaNamespace } from '../helpers/lua.js';
import { cut, sent } from '../helpers/plans.js';
import { commit, decide, finish, prepare, remove, type TxMember, type TxPart } from '../helpers/transactions.js';

/** What may be sent or happen, in any order and again and again, as messages come that were held up on their way. */
type Step =
  | { readonly kind: 'prepare'; readonly part: 0 | 1 }
  | { readonly kind: 'decide'; readonly want: 'commit' | 'abort' | 'ask' }
  | { readonly kind: 'finish'; readonly part: 0 | 1; readonly met: number }
  | { readonly kind: 'forget' }
  | { readonly kind: 'tick' };

const STEPS: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('prepare' as const), part: fc.constantFrom(0 as const, 1 as const) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('decide' as const),
      want: fc.constantFrom(...(['commit', 'commit', 'commit', 'commit', 'abort', 'ask', 'ask'] as const)),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('finish' as const),
      part: fc.constantFrom(0 as const, 1 as const),
      met: fc.nat({ max: 9 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('forget' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('tick' as const) }) },
);

/** How most transactions begin. */
const BOTH: readonly Step[] = [
  { kind: 'prepare', part: 0 },
  { kind: 'prepare', part: 1 },
];
const RUNS = 120;
const LIFE_MS = 1000;
const CHUNKED = JSON.stringify('chunked '.repeat(3000));
const KINDS = ['small', 'chunked', 'deleted', 'created', 'absent'] as const;

interface Part {
  readonly names: TxPart;
  readonly ids: readonly string[];
  readonly members: readonly TxMember[];
  prepared: boolean;
  /** Applied. */
  applied: boolean;
}

/** A transaction with a part in each of two shards, of which little is known but what was answered. */
class Run {
  readonly lua: LuaNamespace;
  readonly parts: readonly [Part, Part];
  readonly #times: readonly number[];
  #tick = 0;
  decision: 'COMMITTED' | 'ABORTED' | null = null;
  #before = new Map<string, unknown>();
  #accounts = '';

  constructor(lua: LuaNamespace, start: number) {
    this.lua = lua;
    // few times, so that there are few scripts
    this.#times = [start, start + LIFE_MS, start + LIFE_MS + 1];
    const part = (number: 0 | 1): Part => {
      const shard = lua.keys.shards[number] ?? lua.shard;
      const ids = KINDS.map((kind) => this.#idIn(number, kind));
      const [small = '', chunked = '', deleted = '', created = '', absent = ''] = ids;
      const members = [
        commit(small, '"after"', { ifVersion: 1 }),
        commit(chunked, sent(cut(CHUNKED.toUpperCase(), 8000)).document, sent(cut(CHUNKED.toUpperCase(), 8000)).options),
        remove(deleted, { ifVersion: 1 }),
        commit(created, '"created"', { ifVersion: 0 }),
        remove(absent),
      ];
      const names = { txn: 'txn', part: number, shard, parts: [0, 1], deadline: start + LIFE_MS };
      return { names, ids, members, prepared: false, applied: false };
    };
    this.parts = [part(0), part(1)];
  }

  #idIn(shard: number, kind: string): string {
    for (let n = 0; ; n += 1) if (this.lua.keys.shardOf(`${kind}${n}`).shard === shard) return `${kind}${n}`;
  }

  #now<T>(call: () => Promise<T>): Promise<T> {
    return this.lua.when(this.#times[this.#tick] ?? 0, call);
  }

  async begin(): Promise<void> {
    for (const { ids } of this.parts) {
      const [small = '', chunked = '', deleted = ''] = ids;
      await this.lua.commit(small, '"before"', { ttl: 3_600_000 });
      const { document, options } = sent(cut(CHUNKED, 8000));
      await this.lua.commit(chunked, document, options);
      await this.lua.commit(deleted, '"deleted"');
    }
    for (const { ids } of this.parts) for (const id of ids) this.#before.set(id, await this.#content(id));
    this.#accounts = await this.#indexes();
    await this.lua.published();
  }

  async step(step: Step): Promise<void> {
    const { lua } = this;
    switch (step.kind) {
      case 'tick':
        this.#tick = Math.min(this.#tick + 1, this.#times.length - 1);
        return;
      case 'prepare': {
        const part = this.parts[step.part];
        const [status] = await this.#now(() => prepare(lua, part.names, part.members));
        expect(status).to.be.oneOf(this.decision === 'COMMITTED' ? ['PREPARED'] : ['PREPARED', 'ABORTED']);
        part.prepared ||= status === 'PREPARED';
        return;
      }
      case 'decide': {
        // who has begun it commits it only once all is prepared
        if (step.want === 'commit' && !this.parts.every(({ prepared }) => prepared)) return;
        const [status] = await this.#now(() => decide(lua, this.parts[0].names, step.want, this.parts[0].names.shard));
        if (this.decision !== null) expect(status).to.equal(this.decision);
        else if (status !== 'UNDECIDED') this.decision = status as 'COMMITTED' | 'ABORTED';
        if (step.want !== 'ask' || this.#tick === 2) expect(status).to.not.equal('UNDECIDED');
        if (step.want === 'commit' && this.#tick === 2 && this.decision === null) expect(status).to.equal('ABORTED');
        return;
      }
      case 'finish': {
        if (this.decision === null) return;
        const part = this.parts[step.part];
        const outcome = this.decision === 'COMMITTED' ? 'commit' : 'abort';
        const reply = await this.#now(() => finish(lua, part.names, outcome, part.ids[step.met] ?? ''));
        if (outcome === 'commit') {
          expect([reply[0], reply[2]]).to.deep.equal(['FINISHED', part.applied ? 1 : 0]);
          part.applied = true;
        } else expect(reply[0]).to.be.oneOf(['ABORTED', 'NOTHING', 'DROPPED']);
        return;
      }
      case 'forget':
        if (this.parts.every(({ applied }) => applied)) await this.#now(() => finish(lua, this.parts[0].names, 'forget'));
    }
  }

  /** Nothing of it shows unless it was committed and applied, and then all of the part, once. */
  async check(): Promise<void> {
    for (const part of this.parts) {
      const found = await Promise.all(part.ids.map((id) => this.#content(id)));
      if (!part.applied) {
        part.ids.forEach((id, at) => {
          expect(found[at], id).to.deep.equal(this.#before.get(id));
        });
        continue;
      }
      const versions = await Promise.all(
        part.ids.map(async (id) => [
          (await this.lua.fields(id)).v,
          (await this.lua.log(id)).at(-1)?.kind,
          (await this.lua.log(id)).length,
        ]),
      );
      expect(versions).to.deep.equal([
        ['2', 'full', 2],
        ['2', 'full', 2],
        [undefined, 'deleted', 2],
        ['1', 'full', 1],
        [undefined, undefined, 0],
      ]);
    }
    if (this.decision === null) expect(await this.#indexes()).to.equal(this.#accounts);
  }

  /** As whoever sweeps ends it; afterwards whatever comes late changes nothing. */
  async end(): Promise<void> {
    const { lua, parts } = this;
    this.#tick = 2;
    await this.step({ kind: 'decide', want: 'ask' });
    expect(this.decision).to.not.equal(null);
    for (const part of [0, 1] as const) await this.step({ kind: 'finish', part, met: 9 });
    await this.#now(() => finish(lua, parts[0].names, 'forget', '', ''));
    await this.#settled();
    const late: Step[] = ([0, 1] as const).flatMap((part): Step[] => [
      { kind: 'prepare', part },
      { kind: 'finish', part, met: 9 },
      { kind: 'prepare', part },
    ]);
    for (const step of [
      ...late,
      { kind: 'decide', want: 'commit' },
      { kind: 'decide', want: 'abort' },
      { kind: 'forget' },
    ] as Step[])
      await this.step(step);
    await this.#settled();
    const frames = await lua.published();
    expect(frames.map(({ channel }) => channel).sort()).to.deep.equal(
      this.decision === 'ABORTED'
        ? []
        : parts
            .flatMap(({ ids }) =>
              ids.slice(0, 4).map((id, at) => Array.from({ length: at === 1 ? 1 + CHUNKS : 1 }, () => lua.of(id).channel)),
            )
            .flat()
            .sort(),
    );
  }

  async #settled(): Promise<void> {
    await this.check();
    for (const { ids, names } of this.parts) {
      for (const id of ids) expect((await this.lua.fields(id)).intent, id).to.equal(undefined);
      expect(await this.lua.redis.exists((names.shard ?? this.lua.shard).txn)).to.equal(0);
    }
    const gone = this.decision === 'COMMITTED' ? 'deleted' : 'created';
    expect(await exactAccounts(this.lua.redis, this.lua.keys.namespace, 2)).to.deep.equal(
      this.parts
        .flatMap(({ ids }) => ids.slice(0, 4))
        .filter((id) => !id.startsWith(gone))
        .sort(),
    );
  }

  /** All that readers see of a context. */
  async #content(id: string): Promise<unknown> {
    const { intent: _, ...fields } = await this.lua.redis.hgetall(this.lua.of(id).context);
    return [fields, await this.lua.log(id)];
  }

  async #indexes(): Promise<string> {
    const { redis, keys } = this.lua;
    const found = keys.shards.flatMap(({ exp, use, size, mem }) => [
      ...[exp, use, size].map((index) => redis.zrange(index, '0', '-1', 'WITHSCORES')),
      redis.hgetall(mem),
    ]);
    return JSON.stringify(await Promise.all<unknown>(found));
  }
}

/** Messages that follow the header of the chunked document. */
const CHUNKS = Math.ceil(CHUNKED.length / 8000);

describe('the phases of a transaction over two shards', function () {
  this.timeout(120_000);

  it('make all of it or nothing, once, whatever the order in which their messages come, and however often', async () => {
    const start = 1_795_449_849_000;
    const seen = { COMMITTED: 0, ABORTED: 0 };
    await fc.assert(
      fc.asyncProperty(fc.boolean(), fc.array(STEPS, { maxLength: 16, size: 'max' }), async (prepared, more) => {
        const steps = [...(prepared ? BOTH : []), ...more];
        const lua = await LuaNamespace.open(undefined, 2);
        try {
          const run = new Run(lua, start);
          await run.begin();
          for (const step of steps) {
            await run.step(step);
            await run.check();
          }
          await run.end();
          if (run.decision !== null) seen[run.decision] += 1;
        } finally {
          lua.close();
        }
      }),
      { numRuns: RUNS },
    );
    // about a third is the one
    expect(seen.COMMITTED, 'runs that were committed').to.be.greaterThan(0);
    expect(seen.ABORTED, 'runs that were aborted').to.be.greaterThan(0);
  });
});
