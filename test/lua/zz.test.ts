import { expect } from 'chai';
import { LuaNamespace } from '../helpers/lua.js';
const DAMAGE = `
local real, wrote = redis, false
local redis = setmetatable({ call = function(...)
  local command, _, field = ...
  local reply = real.call(...)
  if command == 'HSET' and field == 'data' then wrote = true end
  if command == 'HGET' and field == 'data' and wrote then return reply .. 'x' end
  return reply
end }, { __index = real })`;
describe('x', () => {
  let ns: LuaNamespace;
  before(async () => { ns = await LuaNamespace.open(); });
  after(() => ns.close());
  it('a', async () => {
    console.log(await ns.commit('a', '{"a":1}'), await ns.fields('a'), await ns.log('a'), await ns.accounts(), await ns.published());
    console.log(await ns.commit('a', '{"a":2}', { prelude: DAMAGE }));
    console.dir(await ns.snapshot(), { depth: 9 });
    console.log(await ns.commit('a', '{"a":3}').catch((e) => e));
    for (const n of [10, 100, 5000, 100000]) {
      const doc = JSON.stringify('x'.repeat(n));
      const id = `r${n}`;
      for (let i = 0; i < 3; i++) {
        console.log(n, await ns.commit(id, doc, { ttl: i === 1 ? 10000 : 'keep' }), await ns.memory(ns.of(id).context, ns.of(id).log));
        for (let j = 0; j < 5; j++) await ns.redis.hmget(ns.of(id).context, 'v', 'crc', 'sha', 'len', 'at', 'exp');
        console.log(n, await ns.memory(ns.of(id).context, ns.of(id).log));
      }
      console.log(await ns.touch(id, 'none'), await ns.memory(ns.of(id).context, ns.of(id).log));
    }
  });
});
