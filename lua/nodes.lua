#!lua flags=allow-oom
-- nodes: what the data server remembers of a namespace's lock nodes, so that one that has lost its memory is not taken for a new one.
-- KEYS[1] hash    {lc:<ns>}:nodes, `since` when they were used first (ms), `maxTtl` the longest time to live of any instance (ms), `names`
-- ARGV[1] ms      longest time to live of a lock that this instance may take
-- ARGV[2] string  names of its nodes, for people
-- ARGV[3] string  the guard over KEYS and ARGV[1] to ARGV[2] (lua/include/guard.lua)
-- Returns: NODES first(1: nobody has used nodes before | 0) maxTtl(ms) | GARBLED: not what was sent
-- Publishes: nothing.
-- Atomic because: only one may ever be told that it is the first.
-- @include guard
-- @include clock
local key, longest, names = KEYS[1], ARGV[1], ARGV[2]
if not arrived(ARGV[3], key, longest, names) then
  return answered({ 'GARBLED' })
end
local first = redis.call('HSETNX', key, 'since', clock_ms())
local known = tonumber(redis.call('HGET', key, 'maxTtl') or nil) or 0
local most = math.max(known, tonumber(longest))
if most > known then
  redis.call('HSET', key, 'maxTtl', most)
end
redis.call('HSETNX', key, 'names', names)
return answered({ 'NODES', first, most })
