#!lua
-- preserve: gives a snapshot that was written in pieces its name: it is there whole from now on, or not at all.
-- KEYS[1] hash    {tag}:s:<op>, all its pieces
-- KEYS[2] hash    {tag}:p:<name>, the snapshot
-- KEYS[3] zset    {tag}:snap, names of snapshots by expiry (ms)
-- ARGV[1] string  header, words: op fields(how many it must have) ttl(ms)|none replace(1: another of this name is let go of | 0)
-- ARGV[2] string  name
-- ARGV[3] string  the guard over KEYS and ARGV[1] to ARGV[2] (lua/include/guard.lua)
-- Returns: PRESERVED exp(ms, 0 none) | EXISTS: another of this name is there | INCOMPLETE fields: others than were written; nothing was done
--   | GARBLED: not what was sent
-- Publishes: nothing.
-- Atomic because: a reader must never see a part of it, nor the name without its expiry.
-- @include guard
-- @include clock
local pieces, snapshot, index = KEYS[1], KEYS[2], KEYS[3]
local op, fields, ttl, replace = string.match(ARGV[1], '^(%S+) (%d+) (%S+) (%d)$')
local name = ARGV[2]
if not arrived(ARGV[3], pieces, snapshot, index, ARGV[1], name) then
  return answered({ 'GARBLED' })
end
local now = clock_ms()
-- a call whose answer was lost had done it
if redis.call('HGET', snapshot, 'op') == op then
  local left = redis.call('PTTL', snapshot)
  return answered({ 'PRESERVED', left < 0 and 0 or now + left })
end
local found = redis.call('HLEN', pieces)
if found ~= tonumber(fields) or redis.call('HGET', pieces, 'op') ~= op then
  return answered({ 'INCOMPLETE', found })
end
if replace == '0' and redis.call('EXISTS', snapshot) == 1 then
  return answered({ 'EXISTS' })
end
-- the first write, so that who may not do it has not lost what was there
redis.call('RENAME', pieces, snapshot)
local exp = ttl == 'none' and 0 or expiry_of(now, ttl)
if exp == 0 then
  redis.call('PERSIST', snapshot)
else
  redis.call('PEXPIREAT', snapshot, exp)
end
redis.call('ZREMRANGEBYSCORE', index, '-inf', '(' .. now)
redis.call('ZADD', index, exp == 0 and '+inf' or exp, name)
return answered({ 'PRESERVED', exp })
