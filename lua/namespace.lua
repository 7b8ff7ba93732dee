#!lua flags=allow-oom
-- namespace: opens a namespace, and makes it where it does not exist, all of it at once.
-- KEYS[1] hash    {lc:<ns>}:ns, what was fixed when it was made
-- ARGV[1] number  shards of one that is made
-- ARGV[2] number  format of one that is made
-- ARGV[3] string  the guard over KEYS and ARGV[1] to ARGV[2] (lua/include/guard.lua)
-- Returns: NAMESPACE shards format sealed(1 where every context and log entry carries a seal, else 0) | GARBLED: not what was sent
-- Publishes: nothing.
-- Atomic because: a namespace that was made half would be open for what is not in it.
-- @include guard
if not arrived(ARGV[3], KEYS[1], ARGV[1], ARGV[2]) then
  return answered({ 'GARBLED' })
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'shards', ARGV[1], 'format', ARGV[2], 'sealed', 1)
end
local found = redis.call('HMGET', KEYS[1], 'shards', 'format', 'sealed')
return answered({ 'NAMESPACE', found[1] or '', found[2] or '', found[3] == '1' and 1 or 0 })
