#!lua flags=allow-oom
-- forget: lets go of a snapshot.
-- KEYS[1] hash    {tag}:p:<name>, the snapshot
-- KEYS[2] zset    {tag}:snap, names of snapshots by expiry (ms)
-- ARGV[1] string  name
-- ARGV[2] string  the guard over KEYS and ARGV[1] (lua/include/guard.lua)
-- Returns: FORGOTTEN | ABSENT: there is none of this name | GARBLED: not what was sent
-- Publishes: nothing.
-- Atomic because: the name must go with the snapshot.
-- @include guard
if not arrived(ARGV[2], KEYS[1], KEYS[2], ARGV[1]) then
  return answered({ 'GARBLED' })
end
redis.call('ZREM', KEYS[2], ARGV[1])
return answered({ redis.call('UNLINK', KEYS[1]) == 1 and 'FORGOTTEN' or 'ABSENT' })
