#!lua flags=no-writes
-- read: one context as Redis's own clock sees it; asked only where the expiry is so near that the client cannot judge it.
-- KEYS[1] hash    {tag}:c:<id>, the context
-- Returns: FOUND data v crc len at exp | ABSENT now(ms)
-- Publishes: nothing.
-- Atomic because: the bytes must be those that the expiry was compared for.
-- @include clock
local stored = redis.call('HMGET', KEYS[1], 'data', 'v', 'crc', 'len', 'at', 'exp')
local now = clock_ms()
if not stored[2] or (stored[6] and tonumber(stored[6]) <= now) then
  return { 'ABSENT', now }
end
return { 'FOUND', stored[1], stored[2], stored[3], stored[4], stored[5], stored[6] }
