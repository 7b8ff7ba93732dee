import { expect } from 'chai';
import { LuaNamespace } from '../helpers/lua.js';
import { cut, sent } from '../helpers/plans.js';
import { checkpoint, flip, seal } from '../helpers/seals.js';

interface Scrubbed {
  readonly next: number;
  readonly place: string;
  readonly checked: number;
  readonly bytes: number;
  readonly quarantined: number;
  readonly damage: readonly string[];
}

describe('lua/scrub.lua', () => {
  let lua: LuaNamespace;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
  });
  afterEach(() => lua.close());

  /** One call; `refused` holds it to writing and publishing nothing. */
  async function scrub(ids: readonly string[], budget = 1e9, place = '-', sealed: 0 | 1 = 1): Promise<Scrubbed> {
    const keys = ids.map((id) => lua.of(id).context);
    const reply = await lua.refused(() => lua.run('scrub', keys, [budget, place, sealed]));
    const [status, next, at, checked, bytes, quarantined, ...rest] = reply;
    expect(status).to.equal('SCRUBBED');
    const damage = rest.flatMap((word, index) => (index % 2 === 0 ? [`${word}: ${rest[index + 1]}`] : []));
    return {
      next: Number(next),
      place: String(at),
      checked: Number(checked),
      bytes: Number(bytes),
      quarantined: Number(quarantined),
      damage,
    };
  }
  /** From the first call to the last, each of which goes on where the one before has stopped. */
  async function scrubAll(ids: readonly string[], budget: number): Promise<{ calls: number; checked: number; damage: string[] }> {
    let [left, place, calls, checked] = [ids, '-', 0, 0];
    const damage: string[] = [];
    for (;;) {
      const step = await scrub(left, budget, place);
      calls += 1;
      checked += step.checked;
      damage.push(...step.damage);
      if (step.next === 0) return { calls, checked, damage };
      left = left.slice(step.next - 1);
      place = step.place;
    }
  }
  const damageOf = async (id = 'a'): Promise<readonly string[]> => (await scrub([id])).damage;

  /** One context with two versions and a patch in its log. */
  async function whole(id = 'a'): Promise<void> {
    await lua.commit(id, '{"n":1}');
    const { crc } = await lua.fields(id);
    await lua.commit(id, '{"n":1234567890123456789}', {
      patch: { text: '[{"op":"replace"}]', baseVersion: 1, baseCrc: crc ?? '' },
      ttl: 60_000,
    });
    await seal(lua, id);
  }
  async function chunked(id = 'a', bytes = 2000): Promise<void> {
    const planned = sent(cut('x'.repeat(bytes), 100));
    await lua.commit(id, planned.document, planned.options);
    await seal(lua, id);
  }

  it('finds nothing in what is as it was written, and says what it looked at', async () => {
    await whole('a');
    await chunked('b');
    await checkpoint(lua, 'b', 'k', 'x'.repeat(1000));
    await checkpoint(lua, 'b', 'j', 'x'.repeat(900));
    const found = await scrub(['a', 'b', 'none']);
    expect(found).to.deep.include({ next: 0, place: '-', checked: 3, quarantined: 0, damage: [] });
    expect(found.bytes).to.be.greaterThan(2000);
    expect(await scrub([])).to.deep.include({ next: 0, checked: 0, damage: [] });
  });

  describe('finds a bit that flipped in', () => {
    for (const field of ['v', 'crc', 'sha', 'len', 'at', 'exp', 'seal'] as const) {
      it(`the field ${field}`, async () => {
        await whole();
        for (const bit of [0, 1, 9]) {
          await flip(lua, lua.of('a').context, field, bit);
          expect(await damageOf(), `bit ${bit}`).to.include('a: seal');
          await flip(lua, lua.of('a').context, field, bit);
        }
        expect(await damageOf()).to.deep.equal([]);
      });
    }

    it('the document, any of its bytes', async () => {
      await whole();
      for (let bit = 0; bit < 8 * 25; bit += 7) {
        await flip(lua, lua.of('a').context, 'data', bit);
        expect(await damageOf()).to.deep.equal(['a: sha1']);
        await flip(lua, lua.of('a').context, 'data', bit);
      }
    });

    it('a chunk, and in the list of chunks', async () => {
      await chunked();
      const { context } = lua.of('a');
      await flip(lua, context, 'd7', 33);
      expect(await damageOf()).to.deep.equal(['a: chunk d7']);
      await flip(lua, context, 'd7', 33);
      await flip(lua, context, 'chunks', 500);
      expect(await damageOf()).to.deep.equal(['a: list of chunks']);
    });

    it('a frame, a field or the sum of a log entry', async () => {
      await whole();
      const { log } = lua.of('a');
      const entries = await lua.redis.xrange(log, '-', '+');
      for (const [at, place] of [
        [0, '1-0'],
        [1, '2-0'],
      ] as const) {
        const names = (entries[at]?.[1] ?? []).filter((_, index) => index % 2 === 0);
        for (const name of names) {
          await lua.redis.del(log);
          for (const [index, [entry, fields]] of entries.entries()) {
            const damaged = fields.map((field, of) =>
              index === at && of % 2 === 1 && fields[of - 1] === name
                ? field.replace(/^./, (c) => String.fromCharCode(c.charCodeAt(0) ^ 1))
                : field,
            );
            await lua.redis.xadd(log, entry, ...damaged);
          }
          const found = (await damageOf()).join();
          // the last entry is compared with the context before its own sum is
          expect(found, `${name} of ${place}`).to.match(new RegExp(`^a: log (${place} (sum|sha1)|ends at ${place})$`));
        }
      }
    });

    it('a checkpoint: its bytes, its sum, its fields', async () => {
      await whole();
      for (const name of ['k', 'j'] as const) {
        const key = await checkpoint(lua, 'a', name, '{"n":1}');
        for (const [field, what] of [
          ['z', 'sha1'],
          ['zsum', 'sha1'],
          ['sha', 'seal'],
          ['crc', 'seal'],
          ['v', 'seal'],
          ['seal', 'seal'],
        ] as const) {
          await flip(lua, key, field, 1);
          expect(await damageOf(), field).to.deep.equal([`a: checkpoint ${name} ${what}`]);
          await flip(lua, key, field, 1);
        }
        await lua.redis.hdel(key, 'z');
        expect(await damageOf()).to.deep.equal([`a: checkpoint ${name} incomplete`]);
        await lua.redis.del(key);
      }
    });
  });

  it('finds what is missing or cut short', async () => {
    await whole('a');
    await chunked('b');
    const [a, b] = [lua.of('a'), lua.of('b')];
    await lua.redis.hset(a.context, 'data', '{"n":1');
    expect(await damageOf('a')).to.deep.equal(['a: length']);
    await lua.redis.hdel(a.context, 'data');
    expect(await damageOf('a')).to.deep.equal(['a: no document']);
    await lua.redis.hdel(b.context, 'd3');
    expect(await damageOf('b')).to.deep.equal(['b: chunk d3']);
    await whole('c');
    await lua.redis.del(lua.of('c').log);
    expect(await damageOf('c')).to.deep.equal(['c: no log']);
  });

  it('finds the bytes of another context in its place, fields and all', async () => {
    await lua.commit('a', '"first"');
    await lua.commit('b', '"other"');
    for (const id of ['a', 'b']) await seal(lua, id);
    await lua.redis.copy(lua.of('b').context, lua.of('a').context, 'REPLACE');
    expect(await damageOf()).to.include('a: seal');
  });

  it('finds an older version that was put back, seal and all', async () => {
    await whole();
    const { context } = lua.of('a');
    await lua.redis.copy(context, `${context}-before`);
    await lua.commit('a', '"newer"');
    await seal(lua, 'a');
    expect(await damageOf()).to.deep.equal([]);
    await lua.redis.copy(`${context}-before`, context, 'REPLACE');
    expect(await damageOf()).to.deep.equal(['a: log ends at 3-0']);
  });

  it('is not misled by a damaged checksum that looks like a pattern', async () => {
    await whole();
    await lua.redis.hset(lua.of('a').context, 'sha', '%');
    expect(await damageOf()).to.deep.equal(['a: seal', 'a: sha1', 'a: log ends at 2-0']);
    const { place } = await scrub(['a'], 1);
    expect(place).to.match(/^[0-9a-f]{40} l -$/);
    expect((await scrub(['a'], 1e9, place)).damage).to.deep.equal(['a: log ends at 2-0']);
  });

  it('takes a missing seal or sum for damage only where the namespace says that all have one', async () => {
    await lua.commit('a', '1');
    expect((await scrub(['a'], 1e9, '-', 0)).damage).to.deep.equal([]);
    const { context, log } = lua.of('a');
    const fields = (await lua.redis.xrange(log, '-', '+'))[0]?.[1] ?? [];
    const bare = fields.filter((_, at) => fields[at - (at % 2)] !== 'sum');
    await lua.redis.del(log);
    await lua.redis.xadd(log, '1-0', ...bare);
    await lua.redis.hdel(context, 'seal');
    expect((await scrub(['a'], 1e9, '-', 1)).damage).to.deep.equal(['a: no seal', 'a: log 1-0 without a sum']);
    expect((await scrub(['a'], 1e9, '-', 0)).damage).to.deep.equal([]);
    // a wrong one is damage anywhere
    await lua.redis.hset(context, 'seal', '0'.repeat(40));
    expect((await scrub(['a'], 1e9, '-', 0)).damage).to.deep.equal(['a: seal']);
  });

  it('leaves what has expired to the sweep, unless a wrong seal says so', async () => {
    await whole('a');
    await whole('b');
    await lua.makeExpired('a');
    await seal(lua, 'a');
    await lua.redis.hset(lua.of('b').context, 'exp', (await lua.now()) - 5);
    await lua.redis.hset(lua.of('a').context, 'data', 'x');
    expect(await damageOf('a')).to.deep.equal([]);
    expect(await damageOf('b')).to.deep.equal(['b: seal']);
  });

  it('counts what is quarantined and does not report it again', async () => {
    await whole();
    await lua.redis.hdel(lua.of('a').context, 'data', 'crc', 'sha', 'len', 'seal');
    await lua.redis.hset(lua.of('a').context, 'q', 'sha1');
    expect(await scrub(['a'])).to.deep.include({ checked: 1, quarantined: 1, damage: [] });
  });

  describe('in steps', () => {
    it('stops at the bytes it was given and goes on there: every piece once, whatever their size', async () => {
      const ids = ['a', 'b', 'c', 'd'];
      await whole('a');
      await chunked('b', 5000);
      await whole('c');
      await chunked('d', 3000);
      for (const name of ['k', 'j'] as const) await checkpoint(lua, 'b', name, 'y'.repeat(500));
      const once = await scrubAll(ids, 1e9);
      expect(once).to.deep.equal({ calls: 1, checked: 4, damage: [] });
      await flip(lua, lua.of('b').context, 'd49', 3);
      await flip(lua, `${lua.shard.tag}:j:b`, 'z', 3);
      await flip(lua, lua.of('d').context, 'd0', 3);
      const damage = ['b: chunk d49', 'b: checkpoint j sha1', 'd: chunk d0'];
      for (const budget of [1, 150, 1000, 9000, 20_000]) {
        const steps = await scrubAll(ids, budget);
        expect(steps, `${budget} bytes`).to.deep.include({ checked: 4, damage });
        expect(steps.calls, `${budget} bytes`).to.be.greaterThan(1);
      }
    });

    it('begins a context anew that has changed between two steps', async () => {
      await chunked('a', 3000);
      const first = await scrub(['a'], 1);
      expect(first).to.deep.include({ next: 1, checked: 0 });
      await lua.commit('a', '"now small"');
      await seal(lua, 'a');
      expect(await scrub(['a'], 1e9, first.place)).to.deep.include({ next: 0, checked: 1, damage: [] });
      await flip(lua, lua.of('a').context, 'data', 9);
      expect((await scrub(['a'], 1e9, first.place)).damage).to.deep.equal(['a: sha1']);
    });
  });
});
