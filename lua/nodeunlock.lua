#!lua flags=allow-oom
-- nodeunlock: on a lock node: takes back what a value holds of a resource there.
-- KEYS[1] hash    {lc:<ns>}:node, by the run of this server the time (ms) from which on it votes
-- KEYS[2] zset    {lc:<ns>}:held:<id>, `<mode>:<value>` of those that hold it, by when that ends (ms)
-- ARGV[1] string  value
-- ARGV[2] string  mode
-- ARGV[3] string  run: the server's run_id, as the connection has it
-- ARGV[4] string  the guard over KEYS and ARGV[1] to ARGV[3] (lua/include/guard.lua)
-- Returns: VOTED held(1 | 0: it did not hold it) | GARBLED: not what was sent
-- Publishes: nothing.
-- Atomic because: it is one command; the guard needs the script.
-- @include guard
local marker, held = KEYS[1], KEYS[2]
local value, mode, run = ARGV[1], ARGV[2], ARGV[3]
if not arrived(ARGV[4], marker, held, value, mode, run) then
  return answered({ 'GARBLED' })
end
return answered({ 'VOTED', redis.call('ZREM', held, mode .. ':' .. value) })
