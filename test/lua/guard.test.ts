import { readdirSync } from 'node:fs';
import { expect } from 'chai';
import { crc32Hex, sha1Hex } from '../../src/core/checksum.js';
import { answerCheck, guardOf } from '../../src/core/seal.js';
import { lockNodesKey, namespaceKey, nodeKeys, nodeMarkerKey, probeKeys } from '../../src/redis/keys.js';
import { scriptSource } from '../../src/redis/scripts.js';
import { checkpoint, damageDocument, damageEntries, drop, gone, lookKeys, quarantine, repair } from '../helpers/integrity.js';
import { breakLock, extend, lock, nodeVote, unlock } from '../helpers/locks.js';
import { FAR_MS, LuaNamespace } from '../helpers/lua.js';
import { cut, edited, sent, stored } from '../helpers/plans.js';
import { commit, decide, expected, finish, prepare, remove, transact, validate } from '../helpers/transactions.js';
import { patchFrom } from './commitFrame.js';

interface Request {
  readonly name: string;
  readonly keys: readonly string[];
  readonly args: readonly (string | number | Buffer)[];
}

/** One call of a script that would be carried out. */
interface Case {
  readonly script: string;
  readonly what: string;
  readonly call: (lua: LuaNamespace) => Promise<unknown>;
  /** Arguments that have a checksum of their own, by their place. */
  readonly documents?: readonly number[];
}

const TEXT = JSON.stringify('x'.repeat(100));
const LUA = new URL('../../lua/', import.meta.url);
const GUARDED = readdirSync(LUA)
  .filter((file) => file.endsWith('.lua'))
  .map((file) => file.replace('.lua', ''))
  .filter((name) => scriptSource(name).includes('local function arrived('));

/**
 * Calls on context `a`, version 1, which is `TEXT`; `b` has expired, `c` is in quarantine, `d` is damaged with its log, the hash of `e` is
 * gone, and `f` is there although its log says that it was deleted. `g` is held by transaction `held`, which is not decided.
 */
const HELD = { txn: 'held', deadline: 9_000_000_000_000 };
const OTHER = { txn: 'other', deadline: 9_000_000_000_000 };
const CASES: readonly Case[] = [
  { script: 'commit', what: 'of a whole document', call: (lua) => lua.commit('a', '"new"'), documents: [0] },
  {
    script: 'commit',
    what: 'with every word of its header',
    call: (lua) => lua.commit('a', '"new"', { ifVersion: 1, ifCrc: crc32Hex(TEXT), fence: 7, ttl: 5000, sealed: 1 }),
    documents: [0],
  },
  {
    script: 'commit',
    what: 'with a patch',
    call: (lua) => lua.commit('a', TEXT.replace('x', 'y'), { patch: patchFrom(1, TEXT, '[1]') }),
    documents: [0],
  },
  {
    script: 'commit',
    what: 'with a packed document',
    call: (lua) =>
      lua.commit('a', '"new"', { kind: 'full', encoding: 'gz', patch: { text: 'packed', baseVersion: 0, baseCrc: '-' } }),
    documents: [0],
  },
  {
    script: 'commit',
    what: 'in chunks',
    call: (lua) => {
      const { document, options } = sent(cut('one two three', 5));
      return lua.commit('a', document, options);
    },
    documents: [0, 6, 7, 8],
  },
  {
    script: 'commit',
    what: 'by a plan whose bytes are its frame',
    call: async (lua) => {
      const { document, options } = edited(
        await stored(lua, 'a'),
        [{ at: 9, remove: 1, insert: Buffer.from('new') }],
        50,
        'whole',
      );
      return lua.commit('a', document, options);
    },
  },
  {
    script: 'commit',
    what: 'by a plan with another frame',
    call: async (lua) => {
      const before = await stored(lua, 'a');
      const { document, options } = edited(before, [{ at: 9, remove: 1, insert: Buffer.from('new') }], 50, 'whole');
      return lua.commit('a', document, { ...options, patch: patchFrom(1, TEXT, 'splice') });
    },
    documents: [0],
  },
  { script: 'delete', what: 'of any version', call: (lua) => lua.delete('a') },
  { script: 'delete', what: 'of one version', call: (lua) => lua.delete('a', { ifVersion: 1, ifCrc: crc32Hex(TEXT), fence: 7 }) },
  { script: 'touch', what: 'with an expiry', call: (lua) => lua.touch('a', 5000) },
  { script: 'touch', what: 'without one', call: (lua) => lua.touch('a', 'none', { sealed: 1 }) },
  { script: 'expire', what: 'of what is due', call: (lua) => lua.expire(10, 1) },
  { script: 'versions', what: 'of two', call: (lua) => lua.versions('a', 'b') },
  { script: 'versions', what: 'of none', call: (lua) => lua.versions() },
  {
    script: 'catchup',
    what: 'from the beginning',
    call: (lua) => lua.run('catchup', [lua.of('a').context, lua.of('a').log], [0, 10, 'all']),
  },
  { script: 'checkpoint', what: 'of a copy', call: (lua) => checkpoint(lua, 'a', 'packed'), documents: [1] },
  { script: 'repair', what: 'by a document', call: (lua) => repair(lua, 'a', '"good"'), documents: [5] },
  { script: 'repair', what: 'by chunks', call: (lua) => repair(lua, 'a', cut('one two', 5)), documents: [5, 6] },
  {
    script: 'repair',
    what: 'that lets go of the end of the log',
    call: (lua) => repair(lua, 'd', '"good"', { tail: ['1-0', '1-1'], exp: 9_000_000_000_000 }),
    documents: [5],
  },
  { script: 'quarantine', what: 'that takes', call: (lua) => quarantine(lua, 'd', 'put') },
  { script: 'quarantine', what: 'that takes until then', call: (lua) => quarantine(lua, 'd', 'put', { exp: 9_000_000_000_000 }) },
  { script: 'quarantine', what: 'of one that is gone', call: (lua) => quarantine(lua, 'e', 'put', { exp: 9_000_000_000_000 }) },
  { script: 'quarantine', what: 'that lets go', call: (lua) => quarantine(lua, 'c', 'drop') },
  { script: 'drop', what: 'of copies and entries', call: (lua) => drop(lua, 'd', 'k', ['1-0']) },
  { script: 'gone', what: 'of one that was deleted', call: (lua) => gone(lua, 'f') },
  { script: 'look', what: 'at all of it', call: (lua) => lua.run('look', lookKeys(lua, 'a'), ['a']) },
  { script: 'look', what: 'at one that is gone', call: (lua) => lua.run('look', lookKeys(lua, 'e'), ['e']) },
  {
    script: 'namespace',
    what: 'that is made',
    call: (lua) => lua.run('namespace', [namespaceKey(lua.keys.namespace)], [3, 2]),
  },
  { script: 'versions', what: 'of one that is gone', call: (lua) => lua.versions('a', 'e', 'b') },
  {
    script: 'scrub',
    what: 'of two',
    call: (lua) => lua.run('scrub', [lua.of('a').context, lua.of('c').context], [100_000, '-', 1]),
  },
  {
    script: 'reconcile',
    what: 'of two',
    call: (lua) => {
      const { exp, use, size, mem, tag } = lua.shard;
      return lua.run('reconcile', [exp, use, size, mem], [tag, '60000 60000 PUBLISH tester 2 1', 'a', 'b']);
    },
  },
  {
    script: 'totals',
    what: 'of what is in quarantine',
    call: (lua) => {
      const { size, mem, tag } = lua.shard;
      return lua.run('totals', [size, mem, `${tag}:q:c`], ['0 0 0 0 0', '-', 1_000, 0]);
    },
  },
  {
    script: 'piece',
    what: 'of two fields',
    call: (lua) => lua.run('piece', [lua.keys.snapshotOf('s', 'op').pieces], [60_000, 'op', 'op', 'z0:a', 'bytes']),
  },
  {
    script: 'preserve',
    what: 'of a snapshot',
    call: (lua) => {
      const { pieces, snapshot, index } = lua.keys.snapshotOf('s', 'op');
      return lua.run('preserve', [pieces, snapshot, index], ['op 2 1000 0', 's']);
    },
  },
  {
    script: 'forget',
    what: 'of a snapshot',
    call: (lua) => {
      const { snapshot, index } = lua.keys.snapshotOf('kept', 'op');
      return lua.run('forget', [snapshot, index], ['kept']);
    },
  },
  {
    script: 'transact',
    what: 'of every kind of member',
    call: (lua) => {
      const { document, options } = sent(cut('chunks', 5));
      return transact(lua, [
        commit('a', '"new"', { ifVersion: 1 }),
        remove('c'),
        expected('b', 0),
        commit('h', document, options),
      ]);
    },
    documents: [1, 14, 20, 21],
  },
  {
    script: 'transact',
    what: 'that reads alone',
    call: (lua) => transact(lua, [expected('a', 1, crc32Hex(TEXT)), expected('h', 0)]),
  },
  {
    script: 'prepare',
    what: 'of every kind of member',
    call: (lua) => prepare(lua, OTHER, [commit('a', '"new"'), remove('h'), expected('b', 0)]),
    documents: [2],
  },
  { script: 'decide', what: 'that asks', call: (lua) => decide(lua, HELD, 'ask') },
  { script: 'decide', what: 'that commits', call: (lua) => decide(lua, HELD, 'commit') },
  { script: 'decide', what: 'that aborts', call: (lua) => decide(lua, HELD, 'abort') },
  { script: 'finish', what: 'that applies', call: (lua) => finish(lua, HELD, 'commit') },
  { script: 'finish', what: 'that takes back what was met', call: (lua) => finish(lua, HELD, 'abort', 'g') },
  { script: 'finish', what: 'that forgets', call: (lua) => finish(lua, HELD, 'forget') },
  { script: 'validate', what: 'of two', call: (lua) => validate(lua, ['a', 1, crc32Hex(TEXT)], ['h', 0]) },
  {
    script: 'probe',
    what: 'of all commands',
    call: (lua) => {
      const { keys, channel } = probeKeys(lua.keys.namespace);
      return lua.run('probe', keys, [channel, 'PUBLISH']);
    },
  },
  { script: 'lock', what: 'of one that is free', call: (lua) => lock(lua, 'a', 'one') },
  { script: 'extend', what: 'of one that is held', call: (lua) => extend(lua, 'b', 'holder', 7, 5_000) },
  { script: 'unlock', what: 'of one that is held', call: (lua) => unlock(lua, 'b', 'holder') },
  { script: 'break', what: 'of one that is held', call: (lua) => breakLock(lua, 'b') },
  {
    script: 'nodes',
    what: 'that are used first',
    call: (lua) => lua.run('nodes', [lockNodesKey(lua.keys.namespace)], [60_000, 'h:1']),
  },
  { script: 'nodelock', what: 'of one that is free', call: (lua) => nodeVote(lua, 'nodelock', 'value', [5_000]) },
  { script: 'nodeextend', what: 'of one that is held', call: (lua) => nodeVote(lua, 'nodeextend', 'holder', [5_000], 'b') },
  { script: 'nodeunlock', what: 'of one that is held', call: (lua) => nodeVote(lua, 'nodeunlock', 'holder', [], 'b') },
  {
    script: 'nodemark',
    what: 'of a new run',
    call: (lua) => lua.run('nodemark', [nodeMarkerKey(lua.keys.namespace)], ['run2', 5_000]),
  },
];

describe('the guard of the Lua scripts', function () {
  this.timeout(60_000);
  let lua: LuaNamespace;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
    await lua.commit('a', TEXT, { ttl: 60_000 });
    await lua.commit('b', '1', { ttl: 60_000 });
    await lua.makeExpired('b');
    for (const id of ['c', 'd', 'e', 'f']) await lua.commit(id, '1');
    for (const id of ['c', 'd']) await damageDocument(lua, id);
    await quarantine(lua, 'c', 'put');
    await damageEntries(lua, 'd', ['1-0']);
    await lua.redis.del(lua.of('e').context);
    await lua.redis.hset(lua.keys.snapshotOf('s', 'op').pieces, 'op', 'op', 'a', '1');
    await lua.redis.hset(lua.keys.snapshotOf('kept', '').snapshot, 'op', 'before');
    await lua.redis.xadd(lua.of('f').log, '2-0', 'kind', 'deleted');
    await lua.redis.hset(lua.keys.lockBookOf('b'), 'h:7', `w ${FAR_MS} 1 tester holder`);
    await lua.redis.hset(nodeMarkerKey(lua.keys.namespace), 'run', 1);
    await lua.redis.zadd(nodeKeys(lua.keys.namespace, 'b')[1], FAR_MS, 'w:holder');
    await lua.commit('g', '1');
    expect((await prepare(lua, HELD, [commit('g', '2')]))[0]).to.equal('PREPARED');
  });
  afterEach(() => lua.close());

  /** What a call would send. */
  async function requestOf(call: Case['call']): Promise<Request> {
    const real = lua.runRaw.bind(lua);
    const seen: Request[] = [];
    lua.runRaw = async (name, keys, args) => {
      seen.push({ name, keys, args: args.map((arg) => (Buffer.isBuffer(arg) ? arg : String(arg))) });
      throw new Error('not sent');
    };
    const outcome = await call(lua).catch((error: unknown) => String(error));
    lua.runRaw = real;
    expect(outcome).to.equal('Error: not sent');
    return seen[0] as Request;
  }

  /** Sends it as it is; the answer's check must be the one for this salt over all that is before it. */
  async function send({ name, keys, args }: Request, salt: string): Promise<(string | number)[]> {
    const reply = (await lua.runRaw(name, keys, args)) as (Buffer | number)[];
    const words = reply.map((word) => (Buffer.isBuffer(word) ? word.toString() : word));
    const at = name === 'catchup' && words[0] === 'LOG' ? 5 : words.length - 1;
    expect(words[at], `the check of ${words[0]}`).to.equal(answerCheck(salt, words.slice(0, at)));
    return words;
  }
  const saltOf = (guard: string): string => /^([^:]*):/.exec(guard)?.[1] ?? '';

  /** Places of the bytes that are altered: all of a short text, some of a longer one. */
  const placesOf = (length: number): number[] =>
    length <= 24
      ? Array.from({ length }, (_, at) => at)
      : [0, 1, 7, length >> 2, length >> 1, length - 8, length - 2, length - 1];
  const altered = (text: string | number | Buffer, at: number, by: number): Buffer => {
    const bytes = Buffer.from(Buffer.isBuffer(text) ? text : String(text));
    bytes[at] = (bytes[at] ?? 0) ^ by;
    return bytes;
  };
  const lengthOf = (text: string | number | Buffer): number => Buffer.byteLength(Buffer.isBuffer(text) ? text : String(text));
  const put = <T>(list: readonly T[], place: number, value: T): T[] => list.map((each, at) => (at === place ? value : each));

  it('every script that writes has one, and every one that has is tried here', () => {
    expect([...new Set(CASES.map(({ script }) => script))].sort()).to.deep.equal([...GUARDED].sort());
    const without = readdirSync(LUA).filter((file) => file.endsWith('.lua') && !GUARDED.includes(file.replace('.lua', '')));
    expect(without).to.deep.equal(['inspect.lua']);
  });

  for (const { script, what, call, documents = [] } of CASES) {
    describe(`${script} ${what}`, () => {
      it('is carried out as it was sent', async () => {
        const request = await requestOf(call);
        const [status] = await send(request, saltOf(String(request.args.at(-1))));
        expect(status).to.be.oneOf([
          ...[
            'COMMITTED',
            'SCRUBBED',
            'RECONCILED',
            'TOTALS',
            'DELETED',
            'TOUCHED',
            'EXPIRED',
            'VERSIONS',
            'LOG',
            'KEPT',
            'REPAIRED',
            'QUARANTINED',
            'PRESERVED',
            'FORGOTTEN',
            'DROPPED',
            'REMOVED',
            'STORED',
            'NAMESPACE',
            'OK',
            'GRANTED',
            'EXTENDED',
            'RELEASED',
            'BROKEN',
            'NODES',
            'VOTED',
            'MARKED',
            'DONE',
            'PREPARED',
            'UNDECIDED',
            'ABORTED',
            'FINISHED',
            'NOTHING',
            'VALID',
          ],
        ]);
      });

      it('is GARBLED by one byte in any key or argument, and nothing is written', async () => {
        const { name, keys, args } = await requestOf(call);
        const last = args.length - 1;
        const salt = saltOf(String(args[last]));
        const before = await lua.snapshot();
        await lua.published();
        for (const [place, key] of keys.entries()) {
          for (const at of placesOf(lengthOf(key))) {
            const other = put(keys, place, altered(key, at, 1).toString('latin1'));
            expect((await send({ name, keys: other, args }, salt))[0], `key ${place}, byte ${at}`).to.equal('GARBLED');
          }
        }
        for (const [place, arg] of args.entries()) {
          for (const at of placesOf(lengthOf(arg))) {
            const bytes = altered(arg, at, place === last ? 1 : 1 << (at % 8));
            const known = place === last ? saltOf(bytes.toString('latin1')) : salt;
            const [status] = await send({ name, keys, args: put(args, place, bytes) }, known);
            const expected = documents.includes(place) ? 'CHECKSUM' : 'GARBLED';
            expect(status, `argument ${place}, byte ${at}: ${String(bytes).slice(0, 200)}`).to.equal(expected);
          }
        }
        for (const [place, arg] of args.slice(0, -1).entries()) {
          // more bytes of a document than its plan takes do no harm
          if (!documents.includes(place)) {
            const longer = Buffer.concat([Buffer.from(Buffer.isBuffer(arg) ? arg : String(arg)), Buffer.from('x')]);
            expect((await send({ name, keys, args: put(args, place, longer) }, salt))[0], `${place}, one byte more`).to.equal(
              'GARBLED',
            );
          }
          const fewer = args.filter((_, at) => at !== place);
          const [status] = (await lua.runRaw(name, keys, fewer)) as Buffer[];
          expect(String(status), `without argument ${place}`).to.be.oneOf(['GARBLED', 'CHECKSUM']);
        }
        expect(await lua.snapshot()).to.deep.equal(before);
        expect(await lua.published()).to.deep.equal([]);
      });

      it('is GARBLED where keys or arguments were exchanged, lost, or the guard is none', async () => {
        const { name, keys, args } = await requestOf(call);
        const salt = saltOf(String(args.at(-1)));
        const before = await lua.snapshot();
        await lua.published();
        for (let at = 0; at + 1 < keys.length; at += 1) {
          const other = put(put(keys, at, keys[at + 1] as string), at + 1, keys[at] as string);
          expect((await send({ name, keys: other, args }, salt))[0], `keys ${at} and ${at + 1}`).to.equal('GARBLED');
        }
        for (const guard of ['', ':', 'x', '-', 'a:b', guardOf('salt', ['other']), String(args.at(-1)).replace(':', ';')]) {
          const other = put(args, args.length - 1, guard);
          expect((await send({ name, keys, args: other }, saltOf(guard)))[0], `guard ${guard}`).to.equal('GARBLED');
        }
        const none = (await lua.runRaw(name, keys, args.slice(0, -1))) as Buffer[];
        expect(String(none[0])).to.equal('GARBLED');
        expect(await lua.snapshot()).to.deep.equal(before);
        expect(await lua.published()).to.deep.equal([]);
      });
    });
  }

  it('the check of an answer is another one for each call, and for each word of it', async () => {
    const [one, other] = [guardOf('one', [lua.of('a').context]), guardOf('other', [lua.of('a').context])];
    const ask = async (guard: string): Promise<(string | number)[]> =>
      (await lua.when(1_795_449_849_000, () =>
        lua.runSource(scriptSource('versions'), [lua.of('a').context], [guard]),
      )) as string[];
    const first = await ask(one);
    const second = await ask(other);
    expect(first.slice(2, -1)).to.deep.equal(second.slice(2, -1));
    expect(first.at(-1)).to.equal(answerCheck('one', first.slice(0, -1)));
    expect(second.at(-1)).to.equal(answerCheck('other', second.slice(0, -1)));
    expect(first.at(-1)).to.not.equal(answerCheck('other', first.slice(0, -1)));
    for (let at = 0; at + 1 < first.length; at += 1) {
      const words = put(first.slice(0, -1), at, `${first[at]}0`);
      expect(answerCheck('one', words), `word ${at}`).to.not.equal(first.at(-1));
    }
  });

  it('of catchup, the entries after it have checksums of their own', async () => {
    const { context, log } = lua.of('a');
    const args = [0, 10, 'all'];
    const reply = (await lua.runRaw('catchup', [context, log], [...args, guardOf('salt', [context, log, ...args])])) as (
      | Buffer
      | number
    )[];
    const words = reply.slice(0, 5).map((word) => (Buffer.isBuffer(word) ? word.toString() : word));
    expect(String(reply[5])).to.equal(answerCheck('salt', words));
    expect(reply).to.have.length(7);
    expect((await lua.log('a'))[0]?.sum).to.match(/^[0-9a-f]{16}$/);
  });

  it('is the one of src/core/seal.ts for any bytes', async () => {
    const id = 'ü \0\n\r"{}:';
    const call = (await requestOf(() => lua.commit(id, '1', { by: 'ü' }))) as Request;
    expect((await send(call, saltOf(String(call.args.at(-1)))))[0]).to.equal('COMMITTED');
    const parts = [Buffer.from([0, 255, 10]), 'x', 7];
    const text = Buffer.concat([Buffer.from('s\n'), Buffer.from([0, 255, 10]), Buffer.from('\nx\n7')]);
    expect(guardOf('s', parts)).to.equal(`s:${sha1Hex(text).slice(0, 16)}`);
  });
});
