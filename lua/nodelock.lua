#!lua
-- nodelock: on a lock node: one vote of Redlock for a resource, alone or beside other readers.
-- KEYS[1] hash    {lc:<ns>}:node, by the run of this server the time (ms) from which on it votes (lua/nodemark.lua)
-- KEYS[2] zset    {lc:<ns>}:held:<id>, `<mode>:<value>` of those that hold it, by when that ends (ms)
-- ARGV[1] string  value, of this attempt alone
-- ARGV[2] ms      time to live
-- ARGV[3] string  mode: w alone, r beside other readers
-- ARGV[4] string  run: the server's run_id, as the connection has it
-- ARGV[5] string  the guard over KEYS and ARGV[1] to ARGV[4] (lua/include/guard.lua)
-- Returns: VOTED until(ms) | HELD left(ms): by others, for so long | NEW: nobody has said whether this run may vote | COLD left(ms): it may vote
--   after that | GARBLED: not what was sent
-- Publishes: nothing.
-- Atomic because: whether others hold it, and that this one does, must be of one moment.
-- @include guard
-- @include clock
local marker, held = KEYS[1], KEYS[2]
local value, ttl, mode, run = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if not arrived(ARGV[5], marker, held, value, ttl, mode, run) then
  return answered({ 'GARBLED' })
end
local now = clock_ms()
local ready = tonumber(redis.call('HGET', marker, run) or nil)
if not ready then
  return answered({ 'NEW' })
end
if ready > now then
  return answered({ 'COLD', ready - now })
end
redis.call('ZREMRANGEBYSCORE', held, '-inf', now)
local others = redis.call('ZRANGE', held, 0, -1, 'WITHSCORES')
local until_ms = 0
for i = 1, #others, 2 do
  if others[i] ~= mode .. ':' .. value then
    if mode == 'w' or string.sub(others[i], 1, 2) == 'w:' then
      until_ms = math.max(until_ms, tonumber(others[i + 1]))
    end
  end
end
if until_ms > 0 then
  return answered({ 'HELD', until_ms - now })
end
redis.call('ZADD', held, now + tonumber(ttl), mode .. ':' .. value)
local last = redis.call('ZRANGE', held, -1, -1, 'WITHSCORES')
redis.call('PEXPIREAT', held, last[2])
return answered({ 'VOTED', now + tonumber(ttl) })
