import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { crc32Hex, sha1Hex } from '../../src/core/checksum.js';
import { checkpoint, damageDocument, quarantine, repair, sealFor } from '../helpers/integrity.js';
import { LuaNamespace } from '../helpers/lua.js';
import { cut, edited, manifestOf, sent, stored } from '../helpers/plans.js';
import { RedisServer } from '../helpers/RedisServer.js';

const SCRIPT = fileURLToPath(new URL('../../lua/inspect.lua', import.meta.url));

/** As a person runs it: `redis-cli --eval lua/inspect.lua '<key>'`. */
describe('lua/inspect.lua', () => {
  let server: RedisServer;
  let lua: LuaNamespace;
  before(async () => {
    server = await RedisServer.start();
  });
  after(() => server.stop());
  beforeEach(async () => {
    lua = await LuaNamespace.open(server.url);
  });
  afterEach(() => lua.close());

  /** Its lines; they are the same without a terminal, and nothing is written. */
  async function inspect(key: string): Promise<string[]> {
    const before = await lua.snapshot();
    const printed = await server.cli('--eval', SCRIPT, key);
    expect(await lua.snapshot()).to.deep.equal(before);
    return printed.trimEnd().split('\n');
  }
  const last = async (id: string): Promise<string | undefined> => (await inspect(lua.of(id).context)).at(-1);

  describe('a good context', () => {
    it('is shown with its checksums, computed anew, its memory and its log', async () => {
      const document = '{"text":"é"}';
      await lua.commit('user-42', '"first"');
      const [, , at, , , exp] = await lua.commit('user-42', document, { ttl: 60_000, op: 'op-2', by: 'instance-1' });
      const { context, log } = lua.of('user-42');
      const lines = await inspect(context);

      const left = Number(/in (\d+) ms/.exec(lines[11] ?? '')?.[1]);
      const seal = sealFor('user-42', await lua.fields('user-42'));
      expect(left).to.be.within(1, 60_000);
      expect(lines).to.deep.equal([
        'id        user-42',
        'version   2',
        'length    13 stored, 13 found',
        'form      one field',
        `sha1      ${sha1Hex(document)} stored`,
        `          ${sha1Hex(document)} computed`,
        `crc32     ${crc32Hex(document)} stored`,
        `          ${crc32Hex(document)}`,
        `seal      ${seal} stored`,
        `          ${seal} computed`,
        `committed ${at} by instance-1, operation op-2`,
        `expires   ${exp} (in ${left} ms)`,
        `memory    ${await lua.memory(context)} bytes, log ${await lua.memory(log)} bytes`,
        'log       2 entries',
        `          last 2-0 full, crc ${crc32Hex(document)}`,
        'OK',
      ]);
    });

    it('that does not expire says so', async () => {
      await lua.commit('a', '1');
      expect(await inspect(lua.of('a').context)).to.include('expires   never');
    });

    it('of any bytes is OK', async () => {
      const everyByte = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
      for (const document of [everyByte, Buffer.alloc(4096, everyByte), Buffer.alloc(4097, everyByte), Buffer.from('0')]) {
        await lua.commit('a', document);
        expect(await last('a')).to.equal('OK');
      }
    });

    it('above 4096 bytes leaves its CRC-32 to the system', async () => {
      await lua.commit('a', 'x'.repeat(4096));
      expect((await inspect(lua.of('a').context))[7]).to.equal(`          ${crc32Hex('x'.repeat(4096))}`);
      await lua.commit('a', 'x'.repeat(4097));
      expect((await inspect(lua.of('a').context))[7]).to.match(/not computed above 4096 bytes/);
    });

    it('whose last change was a patch is OK', async () => {
      const document = JSON.stringify('x'.repeat(100));
      await lua.commit('a', document);
      await lua.commit('a', `${document} `, { patch: { text: '[]', baseVersion: 1, baseCrc: crc32Hex(document) } });
      const lines = await inspect(lua.of('a').context);
      expect(lines.slice(-2)).to.deep.equal([`          last 2-0 patch, crc ${crc32Hex(`${document} `)}`, 'OK']);
    });

    it('may have any id', async () => {
      for (const id of ['a b', '{x}', 'c:d', '%d']) {
        await lua.commit(id, '1');
        expect((await inspect(lua.of(id).context))[0]).to.equal(`id        ${id}`);
      }
    });
  });

  describe('a damaged context', () => {
    const document = '{"balance":100}';
    beforeEach(async () => {
      await lua.commit('a', '1');
      await lua.commit('a', document);
    });
    const damages: [string, Record<string, string>, string][] = [
      ['other bytes', { data: '{"balance":900}' }, 'sha1, crc32'],
      ['bytes missing', { data: '{"balance":10}' }, 'length, sha1, crc32'],
      ['another length', { len: '14' }, 'length, seal'],
      ['another SHA-1', { sha: sha1Hex('1') }, 'sha1, seal, log'],
      ['another CRC-32', { crc: crc32Hex('1') }, 'crc32, seal, log'],
      ['another version', { v: '3' }, 'seal, log'],
      ['another time of its commit', { at: '1795449849000' }, 'seal'],
      ['an expiry that it did not have', { exp: '9795449849000' }, 'seal'],
      ['an expiry that is no time', { exp: 'never' }, 'seal'],
      ['another seal', { seal: sha1Hex('1') }, 'seal'],
    ];
    for (const [name, fields, wrong] of damages) {
      it(`by ${name}`, async () => {
        await lua.redis.hset(lua.of('a').context, fields);
        expect(await last('a')).to.equal(`CORRUPT: ${wrong}`);
      });
    }

    it('by the bytes, checksums and seal of another', async () => {
      await lua.commit('b', '1');
      await lua.commit('b', document);
      await lua.redis.copy(lua.of('b').context, lua.of('a').context, 'REPLACE');
      expect(await last('a')).to.equal('CORRUPT: seal');
    });

    it('by an older version that was put back', async () => {
      await lua.redis.copy(lua.of('a').context, lua.of('b').context);
      await lua.commit('a', '{"balance":50}');
      await lua.redis.rename(lua.of('b').context, lua.of('a').context);
      expect(await last('a')).to.equal('CORRUPT: log');
    });

    it('by the loss of its seal, not where there was none', async () => {
      await lua.redis.hdel(lua.of('a').context, 'seal');
      const lines = await inspect(lua.of('a').context);
      expect(lines[8]).to.equal('seal      none stored');
      expect(lines.at(-1)).to.equal('CORRUPT: no seal');
      await lua.commit('old', document, { protocol: 1 });
      expect((await inspect(lua.of('old').context))[8]).to.equal('seal      none stored');
      expect(await last('old')).to.equal('OK');
    });

    it('by a last entry of its log that has another checksum', async () => {
      const fields = await lua.redis.xrange(lua.of('a').log, '2-0', '2-0');
      const words = fields[0]?.[1] ?? [];
      await lua.redis.del(lua.of('a').log);
      await lua.redis.xadd(lua.of('a').log, '2-0', ...words);
      expect(await last('a')).to.equal('OK');
      for (const name of ['kind', 'base', 'len', 'at', 'exp', 'op', 'by', 'sum']) {
        await lua.redis.del(lua.of('a').log);
        const damaged = words.map((word, at) => (words[at - 1] === name && at % 2 === 1 ? `${word}x` : word));
        await lua.redis.xadd(lua.of('a').log, '2-0', ...damaged);
        expect(await last('a'), name).to.equal('CORRUPT: log entry');
      }
    });

    it('by the loss of its document', async () => {
      await lua.redis.hdel(lua.of('a').context, 'data');
      expect(await last('a')).to.equal('CORRUPT: no data field, length, sha1, crc32');
    });

    it('shows what was stored and what was found', async () => {
      await lua.redis.hset(lua.of('a').context, 'data', '{}');
      const lines = await inspect(lua.of('a').context);
      expect(lines.slice(2, 8)).to.deep.equal([
        'length    15 stored, 2 found',
        'form      one field',
        `sha1      ${sha1Hex(document)} stored`,
        `          ${sha1Hex('{}')} computed`,
        `crc32     ${crc32Hex(document)} stored`,
        `          ${crc32Hex('{}')}`,
      ]);
    });

    it('above 4096 bytes', async () => {
      await lua.commit('a', 'x'.repeat(5000));
      await lua.redis.hset(lua.of('a').context, 'data', `y${'x'.repeat(4999)}`);
      expect(await last('a')).to.equal('CORRUPT: sha1');
    });
  });

  describe('a context in chunks', () => {
    const document = JSON.stringify({ text: 'é'.repeat(100), n: 1 });
    const chunks = cut(document, 50);
    beforeEach(async () => {
      const planned = sent(chunks);
      await lua.commit('a', planned.document, planned.options);
    });

    it('is shown with its list of chunks as SHA-1 and its document as CRC-32', async () => {
      const lines = await inspect(lua.of('a').context);
      const sha = sha1Hex(manifestOf(chunks));
      expect(lines.slice(2, 8)).to.deep.equal([
        'length    217 stored, 217 found',
        'form      5 chunks',
        `sha1      ${sha} stored`,
        `          ${sha} computed`,
        `crc32     ${crc32Hex(document)} stored`,
        `          ${crc32Hex(document)}`,
      ]);
      expect(lines.at(-1)).to.equal('OK');
    });

    it('is OK after changes in place, in either form', async () => {
      for (const form of ['chunked', 'whole', 'chunked'] as const) {
        const before = await stored(lua, 'a');
        const planned = edited(before, [{ at: 10, remove: 5, insert: Buffer.from('x'.repeat(80)) }], 60, form);
        await lua.commit('a', planned.document, planned.options);
        const lines = await inspect(lua.of('a').context);
        expect(lines[3]).to.equal(form === 'whole' ? 'form      one field' : `form      ${planned.chunks.length} chunks`);
        expect(lines.at(-1)).to.equal('OK');
      }
    });

    const damages: [string, (key: string) => Promise<unknown>, string][] = [
      ['other bytes in a chunk', (key) => lua.redis.hset(key, 'd3', 'x'.repeat(50)), 'chunk d3, crc32'],
      ['bytes missing in a chunk', (key) => lua.redis.hset(key, 'd3', 'x'), 'chunk d3, length, crc32'],
      ['the loss of two chunks', (key) => lua.redis.hdel(key, 'd0', 'd4'), 'chunk d0, chunk d4, length, crc32'],
      ['another order in the list', (key) => lua.redis.hset(key, 'chunks', manifestOf([...chunks].reverse())), 'sha1, crc32'],
      ['a list that is cut', (key) => lua.redis.hset(key, 'chunks', manifestOf(chunks.slice(0, 4))), 'length, sha1, crc32'],
      ['the loss of its list', (key) => lua.redis.hdel(key, 'chunks'), 'no data field, length, sha1, crc32'],
    ];
    for (const [name, damage, wrong] of damages) {
      it(`is damaged by ${name}`, async () => {
        await damage(lua.of('a').context);
        expect(await last('a')).to.equal(`CORRUPT: ${wrong}`);
      });
    }
  });

  it('is OK after a checkpoint and after a repair', async () => {
    await lua.commit('a', '1');
    await lua.commit('a', '2');
    await checkpoint(lua, 'a', 'packed');
    expect(await last('a')).to.equal('OK');
    await lua.redis.hset(lua.of('a').context, 'data', '3');
    const { at } = await lua.fields('a');
    expect((await repair(lua, 'a', '2', { version: 2, at: Number(at) }))[0]).to.equal('REPAIRED');
    const lines = await inspect(lua.of('a').context);
    expect(lines.slice(-2)).to.deep.equal([`          last 2-1 repaired, crc ${crc32Hex('2')}`, 'OK']);
  });

  it('says of one in quarantine why it is there, and where its bytes are', async () => {
    await lua.commit('a', '1');
    await damageDocument(lua, 'a');
    await quarantine(lua, 'a', 'put', { why: 'document sha: expected 1, found 2', by: 'mover' });
    const { at } = await lua.fields('a');
    expect(await inspect(lua.of('a').context)).to.deep.equal([
      'id        a',
      'version   1',
      `moved     ${at} by mover, to ${lua.keys.quarantineOf('a')}`,
      'QUARANTINED: document sha: expected 1, found 2',
    ]);
  });

  describe('what is not there', () => {
    it('was never there', async () => {
      expect(await inspect(lua.of('a').context)).to.deep.equal(['absent']);
    });

    it('was deleted', async () => {
      await lua.commit('a', '1');
      await lua.delete('a');
      expect(await inspect(lua.of('a').context)).to.deep.equal(['absent; its log ends at 2-0 (deleted)']);
    });

    it('was swept away', async () => {
      await lua.commit('a', '1', { ttl: 60_000 });
      await lua.makeExpired('a');
      await lua.expire();
      expect(await inspect(lua.of('a').context)).to.deep.equal(['absent; its log ends at 1-1 (expired)']);
    });
  });

  it('says of one that has expired that nobody reads it any more', async () => {
    await lua.commit('a', '1', { ttl: 60_000 });
    const exp = await lua.makeExpired('a', 5000);
    const lines = await inspect(lua.of('a').context);
    expect(lines[11]).to.match(new RegExp(`^expires   ${exp} \\(in -\\d+ ms\\)$`));
    expect(lines.slice(-2)).to.deep.equal(['expired: absent to every reader', 'OK']);
  });

  it('says what a key must look like', async () => {
    await lua.commit('a', '1');
    for (const key of ['a', lua.of('a').log, lua.shard.mem, `lc:x:0:c:a`])
      expect(await inspect(key)).to.deep.equal(['not a context key: it looks like {lc:<namespace>:<shard>}:c:<id>']);
  });
});
