#!lua flags=allow-oom
-- nodeextend: on a lock node: more time for one that holds a resource there; never less than it has.
-- KEYS[1] hash    {lc:<ns>}:node, by the run of this server the time (ms) from which on it votes
-- KEYS[2] zset    {lc:<ns>}:held:<id>, `<mode>:<value>` of those that hold it, by when that ends (ms)
-- ARGV[1] string  value
-- ARGV[2] ms      time to live
-- ARGV[3] string  mode
-- ARGV[4] string  run: the server's run_id, as the connection has it
-- ARGV[5] string  the guard over KEYS and ARGV[1] to ARGV[4] (lua/include/guard.lua)
-- Returns: VOTED until(ms) | GONE: it does not hold it here (any more) | GARBLED: not what was sent
-- Publishes: nothing.
-- Atomic because: one whose time has ended must not get it back.
-- @include guard
-- @include clock
local marker, held = KEYS[1], KEYS[2]
local value, ttl, mode, run = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if not arrived(ARGV[5], marker, held, value, ttl, mode, run) then
  return answered({ 'GARBLED' })
end
local now = clock_ms()
local ends = tonumber(redis.call('ZSCORE', held, mode .. ':' .. value) or nil)
if not ends or ends <= now then
  return answered({ 'GONE' })
end
ends = math.max(ends, now + tonumber(ttl))
redis.call('ZADD', held, ends, mode .. ':' .. value)
redis.call('PEXPIREAT', held, ends, 'GT')
return answered({ 'VOTED', ends })
