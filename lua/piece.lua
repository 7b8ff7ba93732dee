#!lua
-- piece: puts fields of a snapshot that is being written under a key of its own, which goes by itself where nobody goes on with it.
-- KEYS[1] hash    {tag}:s:<op>, what is written so far
-- ARGV[1] string  how long it waits for what follows (ms)
-- ARGV[2..] string  fields and their bytes, in turns; the last is the guard over KEYS and all of them (lua/include/guard.lua)
-- Returns: KEPT fields: how many there are now | GARBLED: not what was sent
-- Publishes: nothing.
-- Atomic because: what is never finished must have an expiry from its first field on.
-- @include guard
local key = KEYS[1]
if not arrived(ARGV[#ARGV], key, unpack(ARGV, 1, #ARGV - 1)) then
  return answered({ 'GARBLED' })
end
redis.call('HSET', key, unpack(ARGV, 2, #ARGV - 1))
redis.call('PEXPIRE', key, ARGV[1])
return answered({ 'KEPT', redis.call('HLEN', key) })
