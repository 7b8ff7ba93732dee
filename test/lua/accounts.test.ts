import { expect } from 'chai';
import fc from 'fast-check';
import { crc32Hex } from '../../src/core/checksum.js';
import { READ_FIELDS } from '../../src/redis/storedContext.js';
import {
  checkpoint,
  copyKeys,
  damageCopies,
  damageDocument,
  damageEntries,
  drop,
  gone,
  look,
  quarantine,
  repair,
} from '../helpers/integrity.js';
import { type CommitOptions, LuaNamespace, type Reply } from '../helpers/lua.js';
import { cut, edited, type Planned, sent, stored, verified } from '../helpers/plans.js';

const IDS = ['a', 'b', 'c'] as const;
// one of them has a longer life than the others
const id = fc.constantFrom('a' as const, 'a' as const, 'a' as const, ...IDS);
/** Below and above the bounds at which Redis keeps a hash another way, and where an allocator's classes are far apart. */
const bytes = fc.oneof(fc.integer({ min: 1, max: 80 }), fc.integer({ min: 81, max: 5000 }), fc.constant(20_000));
const log = fc.constantFrom({}, { logKeep: 2, keyframe: 3 }, { logBytes: 6000 }, { keyframe: 1 });
/** Lengths of chunks: few fields and many. */
const size = fc.constantFrom(7, 100, 900, 8000);
const ttl = fc.constantFrom('keep', 'none', 60_000, 1);
const fence = fc.constantFrom(0, 0, 1, 2);
const protocol = fc.constantFrom(2 as const, 2 as const, 2 as const, 1 as const);

const step = fc.oneof(
  fc.record({
    do: fc.constant('set' as const),
    id,
    bytes,
    log,
    fence,
    patch: fc.boolean(),
    ttl,
    protocol,
  }),
  fc.record({ do: fc.constant('chunks' as const), id, bytes, size, log, fence, ttl, protocol }),
  fc.record({
    do: fc.constant('edit' as const),
    id,
    place: fc.double({ min: 0, max: 1, noNaN: true }),
    remove: fc.oneof(fc.integer({ min: 0, max: 30 }), fc.integer({ min: 0, max: 20_000 })),
    insert: fc.oneof(fc.integer({ min: 1, max: 30 }), fc.constantFrom(0, 3000)),
    size,
    form: fc.constantFrom('whole' as const, 'chunked' as const, 'chunked' as const),
    log,
    fence,
    ttl,
    protocol,
  }),
  fc.record({ do: fc.constant('checkpoint' as const), id, bytes: fc.oneof(bytes, fc.constant(0)) }),
  // one in so many chunks, or whole; over what is there, or is gone
  fc.record({
    do: fc.constant('repair' as const),
    id,
    bytes,
    chunks: fc.constantFrom(0, 0, 1, 5, 17, 300),
    lost: fc.boolean(),
    // whether the end of its log is damaged, too
    tail: fc.boolean(),
    ttl: fc.constantFrom('none', 60_000, 1),
    protocol,
  }),
  fc.record({
    do: fc.constant('quarantine' as const),
    id,
    why: fc.constantFrom(1, 64, 65, 300),
    state: fc.constantFrom('damaged' as const, 'damaged' as const, 'lost' as const, 'sound' as const),
    ttl: fc.constantFrom('none', 60_000, 1),
  }),
  fc.record({ do: fc.constant('release' as const), id }),
  fc.record({
    do: fc.constant('drop' as const),
    id,
    copies: fc.constantFrom('', 'k', 'j', 'kj'),
    entry: fc.boolean(),
    damaged: fc.boolean(),
  }),
  fc.record({ do: fc.constant('gone' as const), id }),
  fc.record({ do: fc.constant('delete' as const), id }),
  fc.record({ do: fc.constant('touch' as const), id, ttl: fc.constantFrom('none', 60_000, 1) }),
  fc.record({ do: fc.constant('expire' as const), limit: fc.constantFrom(1, 100) }),
  fc.record({ do: fc.constant('refused' as const), id }),
  // what a read does: a hash table that is growing moves on with every look
  fc.record({ do: fc.constant('read' as const), id }),
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

describe('the accounts of the Lua scripts', function () {
  this.timeout(120_000);

  async function run(lua: LuaNamespace, todo: Step): Promise<Reply> {
    switch (todo.do) {
      case 'set': {
        const [v, crc] = await lua.redis.hmget(lua.of(todo.id).context, 'v', 'crc');
        const patch = todo.patch && v && crc ? { patch: { text: '[1]', baseVersion: Number(v), baseCrc: crc } } : {};
        const ttl = todo.ttl as number | 'keep' | 'none';
        return lua.commit(todo.id, 'x'.repeat(todo.bytes), {
          ...{ ...todo.log, ...patch, ttl },
          ...{ fence: todo.fence, protocol: todo.protocol },
        });
      }
      case 'chunks': {
        const { document, options } = sent(cut('x'.repeat(todo.bytes), Math.max(todo.size, Math.ceil(todo.bytes / 500))));
        return lua.commit(todo.id, document, {
          ...options,
          ...todo.log,
          ttl: todo.ttl as number | 'keep' | 'none',
          fence: todo.fence,
          protocol: todo.protocol,
        });
      }
      case 'edit':
        return edit(lua, todo);
      case 'checkpoint':
        return checkpoint(lua, todo.id, 'z'.repeat(todo.bytes), { sealed: 0 });
      case 'repair':
        return mend(lua, todo);
      case 'quarantine':
        return moveAside(lua, todo);
      case 'release':
        return quarantine(lua, todo.id, 'drop');
      case 'drop':
        return letGo(lua, todo);
      case 'gone':
        return haunt(lua, todo.id);
      case 'delete':
        return lua.delete(todo.id);
      case 'touch':
        return lua.touch(todo.id, todo.ttl as number | 'none');
      case 'expire':
        return lua.expire(todo.limit);
      case 'refused':
        return lua.commit(todo.id, '1', { ifVersion: 9999 });
      case 'read': {
        await look(lua, todo.id);
        const { newest, older, moved } = copyKeys(lua, todo.id);
        for (const key of [lua.of(todo.id).context, newest, older, moved])
          await lua.redis.hmget(key, ...READ_FIELDS, ...Array.from({ length: 600 }, (_, n) => `d${n}`));
        return [];
      }
    }
  }

  /** The last version that the log has given, whatever became of its entry. */
  async function lastVersion(lua: LuaNamespace, name: string): Promise<number> {
    const { log: stream } = lua.of(name);
    if ((await lua.redis.exists(stream)) === 0) return 1;
    const info = (await lua.redis.xinfo('STREAM', stream)) as unknown[];
    return Math.max(1, Number.parseInt(String(info[info.indexOf('last-generated-id') + 1]), 10));
  }

  /** Whether the log ends with a version that nothing has ended. */
  async function goesOn(lua: LuaNamespace, name: string): Promise<boolean> {
    const kind = (await lua.log(name)).at(-1)?.kind;
    return kind !== undefined && kind !== 'deleted' && kind !== 'expired';
  }

  async function moveAside(lua: LuaNamespace, todo: Extract<Step, { do: 'quarantine' }>): Promise<Reply> {
    const { context } = lua.of(todo.id);
    const { v, q, seal } = await lua.redis.hgetall(context);
    const open = await goesOn(lua, todo.id);
    if (v !== undefined && q === undefined && todo.state === 'damaged') await lua.redis.hset(context, 'crc', 'damaged');
    const lost = todo.state === 'lost' && open;
    if (lost) await lua.redis.del(context);
    const reply = await quarantine(lua, todo.id, 'put', {
      version: await lastVersion(lua, todo.id),
      why: 'w'.repeat(todo.why),
      exp: todo.ttl === 'none' ? null : (await lua.now()) + Number(todo.ttl),
    });
    const moved = (): string => {
      if (lost || (v === undefined && open)) return 'QUARANTINED';
      if (v === undefined || q !== undefined) return 'CHANGED';
      return todo.state === 'damaged' || seal === undefined ? 'QUARANTINED' : 'SOUND';
    };
    expect(reply[0]).to.equal(moved());
    return reply;
  }

  async function letGo(lua: LuaNamespace, todo: Extract<Step, { do: 'drop' }>): Promise<Reply> {
    const last = (await lua.log(todo.id)).at(-1);
    const there = todo.entry && last !== undefined;
    if (todo.damaged) {
      await damageCopies(lua, todo.id, todo.copies);
      if (there) await damageEntries(lua, todo.id, [last.entry], 'crc');
    }
    const { newest, older } = copyKeys(lua, todo.id);
    const copies = await lua.redis.exists(
      ...[...todo.copies].map((name) => (name === 'k' ? newest : older)),
      lua.of(todo.id).old,
    );
    const reply = await drop(lua, todo.id, todo.copies, [last?.entry ?? '1-0'].slice(todo.entry ? 0 : 1), 0);
    // an entry without a sum is not damaged where not every entry has one
    const goes = todo.damaged && there && last.sum !== undefined;
    expect(reply).to.deep.equal(['DROPPED', goes ? 1 : 0, todo.damaged ? copies : 0]);
    return reply;
  }

  /** Deletes it, and takes it away once more where it is back. */
  async function haunt(lua: LuaNamespace, name: string): Promise<Reply> {
    const { context } = lua.of(name);
    const fields = new Map(Object.entries(await lua.redis.hgetallBuffer(context)));
    const deleted = await lua.delete(name);
    if (deleted[0] !== 'DELETED') return deleted;
    await lua.redis.hset(context, fields);
    expect(await gone(lua, name)).to.deep.equal(['REMOVED', deleted[1]]);
    return deleted;
  }

  /** Puts a document in the place of a damaged one, or of one that was lost. */
  async function mend(lua: LuaNamespace, todo: Extract<Step, { do: 'repair' }>): Promise<Reply> {
    const { context } = lua.of(todo.id);
    if (todo.lost) await lua.redis.del(context);
    else if ((await lua.redis.exists(context)) === 1) await lua.redis.hset(context, 'crc', 'damaged');
    const text = Buffer.alloc(todo.bytes, 'r');
    const document = todo.chunks === 0 ? text : cut(text, Math.ceil(todo.bytes / Math.min(todo.chunks, todo.bytes)));
    const last = (await lua.log(todo.id)).at(-1);
    const tail = todo.tail && last !== undefined ? [last.entry] : [];
    await damageEntries(lua, todo.id, tail);
    const exp = todo.ttl === 'none' ? null : (await lua.now()) + Number(todo.ttl);
    const reply = await repair(lua, todo.id, document, {
      version: await lastVersion(lua, todo.id),
      tail,
      exp,
      protocol: todo.protocol,
    });
    expect(reply[0]).to.equal('REPAIRED');
    expect((await stored(lua, todo.id)).document.equals(text)).to.equal(true);
    for (const { entry } of await lua.log(todo.id)) expect(tail).to.not.include(entry);
    return reply;
  }

  /** Changes a live context by a plan, to the other form of storage where that is asked for. */
  async function edit(lua: LuaNamespace, todo: Extract<Step, { do: 'edit' }>): Promise<Reply> {
    if (await lua.redis.hexists(lua.of(todo.id).context, 'q')) return [];
    const before = await verified(lua, todo.id);
    if (before === null) return [];
    const { length } = before.document;
    const at = Math.floor(todo.place * length);
    const remove = Math.min(todo.remove, length - at);
    const form = length - remove + todo.insert === 0 ? 'whole' : todo.form;
    const plan = edited(
      before,
      [{ at, remove, insert: Buffer.alloc(todo.insert, 'y') }],
      Math.max(todo.size, Math.ceil(length / 500)),
      form,
    );
    const { ttl, fence, protocol } = todo;
    const reply = await lua.commit(todo.id, plan.document, {
      ...plan.options,
      ...todo.log,
      ttl: ttl as number | 'keep' | 'none',
      fence,
      protocol,
    });
    expect(reply[0]).to.be.oneOf(['COMMITTED', 'FENCED', 'BASE_MISMATCH']);
    if (reply[0] === 'COMMITTED') expect((await stored(lua, todo.id)).document.equals(plan.document)).to.equal(true);
    return reply;
  }

  async function again(lua: LuaNamespace, { document, options }: Planned, more: CommitOptions): Promise<void> {
    expect((await lua.commit('a', document, { ...options, ...more }))[0]).to.equal('COMMITTED');
  }

  /** Lets a time to live of 1 ms pass. */
  const settle = async (lua: LuaNamespace, todo: Step): Promise<void> => {
    if ('ttl' in todo && todo.ttl === 1) await lua.passed((await lua.now()) + 1);
  };

  async function check(lua: LuaNamespace, after: string): Promise<void> {
    const { size, use, exp } = lua.shard;
    const [
      sizes,
      uses,
      expiries,
      { bytes: accounted = 0, contexts = 0, checkpoints = 0, quarantine: aside = 0, quarantined = 0 },
    ] = await Promise.all([lua.scores(size), lua.ids(use), lua.ids(exp), lua.accounts()]);
    const scored = new Map(Object.entries(sizes));
    const there: string[] = [];
    const expiring: string[] = [];
    const kept: string[] = [];
    const put: string[] = [];
    for (const name of IDS) {
      const { context, log: entries } = lua.of(name);
      const { newest, older, moved } = copyKeys(lua, name);
      const copies = [newest, older];
      kept.push(...copies);
      put.push(moved);
      const [exists, field] = await Promise.all([lua.redis.exists(context), lua.redis.hget(context, 'exp')]);
      if (exists === 0) {
        expect(await lua.redis.exists(...copies), `copies of ${name} after ${after}`).to.equal(0);
        continue;
      }
      there.push(name);
      if (field !== null) expiring.push(name);
      expect(scored.get(name), `bytes of ${name} after ${after}`).to.equal(await lua.memory(context, entries, ...copies));
    }
    expect([...scored.keys()].sort(), `index of sizes after ${after}`).to.deep.equal(there);
    expect(uses.sort(), `index of uses after ${after}`).to.deep.equal(there);
    expect(expiries.sort(), `index of expiries after ${after}`).to.deep.equal(expiring);
    expect(checkpoints, `checkpoints after ${after}`).to.equal(await lua.memory(...kept));
    expect(aside, `quarantine after ${after}`).to.equal(await lua.memory(...put));
    expect(quarantined, `quarantined after ${after}`).to.equal(await lua.redis.exists(...put));
    expect(contexts, `contexts after ${after}`).to.equal(there.length);
    expect(accounted, `bytes after ${after}`).to.equal([...scored.values()].reduce((sum, each) => sum + each, 0));
  }

  it('equal the sizes in the index and the real memory of all contexts and their logs, after any sequence', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 30 }), async (steps) => {
        const lua = await LuaNamespace.open();
        try {
          for (const [index, todo] of steps.entries()) {
            await run(lua, todo);
            await settle(lua, todo);
            await check(lua, `step ${index} (${JSON.stringify(todo)})`);
          }
        } finally {
          lua.close();
        }
      }),
      { numRuns: 120 },
    );
  });

  it('stay right where one more field makes the table of a context in chunks larger, or one less smaller', async () => {
    const lua = await LuaNamespace.open();
    const { context } = lua.of('a');
    const readAll = (): Promise<unknown> => lua.redis.hmget(context, ...Array.from({ length: 200 }, (_, n) => `d${n}`));
    const text = (n: number): Buffer => Buffer.alloc(n * 70, 'x');
    try {
      for (let n = 1; n <= 60; n += 1) {
        const planned = sent(cut(text(n), 70));
        const one = [{ at: 0, remove: 1, insert: Buffer.from('y') }];
        const changes: [string, () => Promise<unknown>][] = [
          ['chunks', () => lua.commit('a', planned.document, { ...planned.options, ttl: 'none' })],
          ['an expiry by touch', () => lua.touch('a', 60_000)],
          ['no expiry by touch', () => lua.touch('a', 'none')],
          ['an expiry by commit', async () => again(lua, edited(await stored(lua, 'a'), one, 70, 'chunked'), { ttl: 60_000 })],
          ['no expiry by commit', async () => again(lua, edited(await stored(lua, 'a'), one, 70, 'chunked'), { ttl: 'none' })],
          ['a fence', async () => again(lua, edited(await stored(lua, 'a'), one, 70, 'chunked'), { fence: 5 })],
          ['chunks without a seal', () => lua.commit('a', planned.document, { ...planned.options, ttl: 'none', protocol: 1 })],
          ['their first seal', async () => again(lua, edited(await stored(lua, 'a'), one, 70, 'chunked'), {})],
          ['no seal', async () => again(lua, edited(await stored(lua, 'a'), one, 70, 'chunked'), { protocol: 1 })],
          ['a seal', async () => again(lua, edited(await stored(lua, 'a'), one, 70, 'chunked'), {})],
          ['a checkpoint', () => checkpoint(lua, 'a', text(n))],
          ['a whole document', async () => again(lua, edited(await stored(lua, 'a'), one, 70, 'whole'), {})],
          ['chunks again', async () => again(lua, edited(await stored(lua, 'a'), one, 70, 'chunked'), {})],
        ];
        for (const [name, change] of changes) {
          await change();
          await readAll();
          await check(lua, `${name} (${n} chunks)`);
        }
        await lua.delete('a');
      }
    } finally {
      lua.close();
    }
  });

  it('stay right where a field goes from a table that held many chunks once', async () => {
    const lua = await LuaNamespace.open();
    const one = [{ at: 0, remove: 1, insert: Buffer.from('y') }];
    try {
      for (const n of [40, 60, 100, 250, 500, 1000]) {
        const planned = sent(cut(Buffer.alloc(n * 40, 'x'), 40));
        for (const [name, more] of [
          ['no expiry', { ttl: 'none' }],
          ['no seal', { protocol: 1 }],
          ['neither', { ttl: 'none', protocol: 1 }],
        ] as const) {
          await lua.commit('a', planned.document, { ...planned.options, ttl: 60_000, fence: 1 });
          await again(lua, edited(await stored(lua, 'a'), one, 40, 'whole'), {});
          await check(lua, `${n} chunks made whole`);
          await again(lua, edited(await stored(lua, 'a'), one, 40, 'whole'), more);
          await check(lua, `${name} after ${n} chunks`);
          await lua.redis.hmget(lua.of('a').context, ...Array.from({ length: 200 }, (_, field) => `d${field}`));
          await check(lua, `${name} after ${n} chunks, and reads`);
          await lua.delete('a');
        }
      }
    } finally {
      lua.close();
    }
  });

  it('stay right through every kind of change of one context', async () => {
    const lua = await LuaNamespace.open();
    try {
      const patch = { text: '[1]', baseVersion: 1, baseCrc: crc32Hex('x'.repeat(500)) };
      const changes: [string, () => Promise<unknown>][] = [
        ['a first commit', () => lua.commit('a', 'x'.repeat(500))],
        ['a read', () => lua.redis.hmget(lua.of('a').context, 'data', 'v', 'crc', 'len', 'at', 'exp')],
        ['a patch', () => lua.commit('a', 'y'.repeat(500), { patch })],
        ['a smaller document', () => lua.commit('a', '1')],
        ['an expiry', () => lua.touch('a', 60_000)],
        ['no expiry', () => lua.touch('a', 'none')],
        ['a fencing token', () => lua.commit('a', 'z'.repeat(100), { fence: 5, ttl: 60_000 })],
        ['a cut log', () => lua.commit('a', 'z'.repeat(4000), { logBytes: 5000 })],
        ['a checkpoint', () => checkpoint(lua, 'a', 'z'.repeat(300))],
        ['another version', () => lua.commit('a', 'z'.repeat(200))],
        ['another checkpoint', () => checkpoint(lua, 'a', 'z'.repeat(100))],
        ['a repair', () => repair(lua, 'a', 'z'.repeat(200), { version: 7 })],
        ['a repair in chunks', () => repair(lua, 'a', cut('z'.repeat(2000), 20), { version: 7 })],
        ['damage', () => damageDocument(lua, 'a')],
        ['quarantine', () => quarantine(lua, 'a', 'put', { version: 7, why: 'w'.repeat(100) })],
        ['a write over it', () => lua.commit('a', 'z'.repeat(200))],
        ['damage again', () => damageDocument(lua, 'a')],
        ['quarantine again', () => quarantine(lua, 'a', 'put', { version: 8, why: 'w' })],
        ['letting go of it', () => quarantine(lua, 'a', 'drop')],
        ['a repair of what is in quarantine', () => repair(lua, 'a', 'z'.repeat(200), { version: 8 })],
        ['what is lost, and a stub of it', () => lose(() => quarantine(lua, 'a', 'put', { version: 8, why: 'w' }))],
        ['a repair of it', () => repair(lua, 'a', 'z'.repeat(200), { version: 8 })],
        ['what is lost, and a repair of it', () => lose(() => repair(lua, 'a', cut('z'.repeat(200), 20), { version: 8 }))],
        ['damage of chunks', () => damageDocument(lua, 'a')],
        ['quarantine until then', async () => quarantine(lua, 'a', 'put', { version: 8, exp: (await lua.now()) + 60_000 })],
        ['a delete', () => lua.delete('a')],
        ['a new beginning', () => lua.commit('a', 'x'.repeat(500), { ttl: 60_000, fence: 6 })],
      ];
      const { context } = lua.of('a');
      const lose = async (then: () => Promise<unknown>): Promise<void> => {
        await lua.redis.del(context);
        await then();
      };
      for (const [name, change] of changes) {
        await change();
        await check(lua, name);
      }
      expect(await lua.accounts()).to.deep.include({ contexts: 1 });
    } finally {
      lua.close();
    }
  });
});
