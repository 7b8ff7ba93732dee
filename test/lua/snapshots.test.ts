import { expect } from 'chai';
import { LuaNamespace, type Reply } from '../helpers/lua.js';

const TTL = 3_600_000;

describe('lua/piece.lua, lua/preserve.lua and lua/forget.lua', () => {
  let lua: LuaNamespace;
  let snapshot: string;
  let index: string;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
    ({ snapshot, index } = lua.keys.snapshotOf('kept', 'op'));
  });
  afterEach(() => lua.close());

  const piecesOf = (op: string): string => lua.keys.snapshotOf('kept', op).pieces;
  const piece = (op: string, ...fields: string[]): Promise<Reply> => lua.run('piece', [piecesOf(op)], [60_000, ...fields]);
  const preserve = (op: string, fields: number, ttl: number | 'none' = TTL, replace = 0): Promise<Reply> =>
    lua.run('preserve', [piecesOf(op), snapshot, index], [`${op} ${fields} ${ttl} ${replace}`, 'kept']);
  const forget = (): Promise<Reply> => lua.run('forget', [snapshot, index], ['kept']);

  it('keep pieces for a while, and give all of them their name at once', async () => {
    expect(await piece('one', 'op', 'one', 'a', '1')).to.deep.equal(['KEPT', 2]);
    expect(await lua.redis.pttl(piecesOf('one'))).to.be.within(1, 60_000);
    expect(await piece('one', 'b', '\u0000\n')).to.deep.equal(['KEPT', 3]);
    expect(await piece('one', 'b', '2')).to.deep.equal(['KEPT', 3]);
    expect(await lua.redis.exists(snapshot)).to.equal(0);
    const [status, exp] = await preserve('one', 3);
    expect(status).to.equal('PRESERVED');
    expect(await lua.redis.hgetall(snapshot)).to.deep.equal({ op: 'one', a: '1', b: '2' });
    expect(await lua.redis.exists(piecesOf('one'))).to.equal(0);
    expect(await lua.redis.pexpiretime(snapshot)).to.equal(exp);
    expect(await lua.redis.zrange(index, '0', '-1', 'WITHSCORES')).to.deep.equal(['kept', String(exp)]);
  });

  it('answer again what they answered where it was done already', async () => {
    await piece('one', 'op', 'one');
    const [, exp] = await preserve('one', 1);
    const [status, again] = await preserve('one', 1);
    expect(status).to.equal('PRESERVED');
    expect(again).to.be.closeTo(Number(exp), 2);
    await forget();
    expect(await preserve('one', 1)).to.deep.equal(['INCOMPLETE', 0]);
  });

  it('do nothing where a piece is missing or is of another', async () => {
    await piece('one', 'op', 'one', 'a', '1');
    expect(await preserve('one', 3)).to.deep.equal(['INCOMPLETE', 2]);
    await piece('two', 'op', 'three');
    expect(await preserve('two', 1)).to.deep.equal(['INCOMPLETE', 1]);
    expect(await lua.redis.exists(snapshot, index)).to.equal(0);
  });

  it('leave another of that name as it is, unless it is to be replaced, whole, its expiry too', async () => {
    await piece('one', 'op', 'one', 'a', '1');
    await preserve('one', 2);
    await piece('two', 'op', 'two');
    expect(await preserve('two', 1)).to.deep.equal(['EXISTS']);
    expect(await lua.redis.hget(snapshot, 'op')).to.equal('one');
    expect(await preserve('two', 1, 'none', 1)).to.deep.equal(['PRESERVED', 0]);
    expect(await lua.redis.hgetall(snapshot)).to.deep.equal({ op: 'two' });
    expect(await lua.redis.pttl(snapshot)).to.equal(-1);
    expect(await lua.redis.zscore(index, 'kept')).to.equal('inf');
  });

  it('take the names of those with them that have expired, and let go by name', async () => {
    await lua.redis.zadd(index, 1, 'over', 'inf', 'for ever', 9_999_999_999_999, 'later');
    await piece('one', 'op', 'one');
    await preserve('one', 1);
    expect(await lua.redis.zrange(index, '0', '-1')).to.have.members(['for ever', 'later', 'kept']);
    expect(await forget()).to.deep.equal(['FORGOTTEN']);
    expect(await forget()).to.deep.equal(['ABSENT']);
    expect(await lua.redis.zrange(index, '0', '-1')).to.have.members(['for ever', 'later']);
    expect(await lua.redis.exists(snapshot)).to.equal(0);
  });
});
