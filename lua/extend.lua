#!lua flags=allow-oom
-- extend: gives a holder of a context more time; never less than it has.
-- KEYS[1] hash    {tag}:w:<id>, the lock book
-- ARGV[1] string  words: owner token ttl(ms) till(ms)
-- ARGV[2] string  the guard over KEYS and ARGV[1] (lua/include/guard.lua)
-- Returns: EXTENDED until(ms) now(ms) | LOST fence(the highest token known): it does not hold it any more | LATE now(ms): this attempt came
--   after its time | GARBLED: not what was sent
-- Publishes: nothing.
-- Atomic because: one whose time has ended must not get it back: somebody else may have been told already.
-- @include guard
-- @include clock
-- @include lockbook
local key = KEYS[1]
local owner, token, ttl, till = string.match(ARGV[1], '^(%S+) (%d+) (%d+) (%d+)$')
if not arrived(ARGV[2], key, ARGV[1]) then
  return answered({ 'GARBLED' })
end
local now = clock_ms()
if now > tonumber(till) then
  return answered({ 'LATE', now })
end
local found = redis.call('HMGET', key, 'h:' .. token, 'fence')
local mode, ends, since, instance, holder = string.match(found[1] or '', '^([rw]) (%d+) (%d+) (%S+) (%S+)$')
if not mode or holder ~= owner or tonumber(ends) <= now then
  return answered({ 'LOST', found[2] or '0' })
end
ends = math.max(tonumber(ends), now + tonumber(ttl))
put_entry({ key = key }, { field = 'h:' .. token, mode = mode, till = ends, since = since, instance = instance, owner = owner })
redis.call('PEXPIREAT', key, string.format('%.0f', ends + BOOK_KEEP_MS), 'GT')
return answered({ 'EXTENDED', ends, now })
