#!lua flags=allow-oom
-- nodemark: on a lock node: says from when on this run of the server votes. A run that comes after another may have lost what that one had
--   promised, and waits until the longest of it is over (Redlock, "Performance, crash recovery and fsync").
-- KEYS[1] hash    {lc:<ns>}:node, by the run of this server the time (ms) from which on it votes
-- ARGV[1] string  run: the server's run_id, as the connection has it
-- ARGV[2] ms      how long it waits; 0: no lock was ever given by this namespace's nodes when this run had begun, so it votes at once
-- ARGV[3] string  the guard over KEYS and ARGV[1] to ARGV[2] (lua/include/guard.lua)
-- Returns: MARKED left(ms): it votes after that | GARBLED: not what was sent
-- Publishes: nothing.
-- Atomic because: of two that mark it at the same time the first decides.
-- @include guard
-- @include clock
local marker, run, wait = KEYS[1], ARGV[1], ARGV[2]
if not arrived(ARGV[3], marker, run, wait) then
  return answered({ 'GARBLED' })
end
local now = clock_ms()
for _, other in ipairs(redis.call('HKEYS', marker)) do
  if other ~= run then
    redis.call('HDEL', marker, other)
  end
end
if wait == '0' then
  redis.call('HSET', marker, run, now)
else
  redis.call('HSETNX', marker, run, now + tonumber(wait))
end
return answered({ 'MARKED', math.max(0, tonumber(redis.call('HGET', marker, run)) - now) })
