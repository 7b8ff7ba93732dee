#!lua flags=allow-oom
-- probe: tries every command and the channel that the scripts need, on keys of its own, before a commit needs them half way.
-- KEYS[1] hash    {tag}:probe:h
-- KEYS[2] stream  {tag}:probe:s
-- KEYS[3] zset    {tag}:probe:z
-- KEYS[4] hash    {tag}:probe:o
-- ARGV[1] string  channel to publish an empty message on
-- ARGV[2] string  the publish command
-- ARGV[3] string  the guard over KEYS and ARGV[1] to ARGV[2] (lua/include/guard.lua)
-- Returns: OK now(ms) | DENIED command error: the first command that was refused | GARBLED: not what was sent
-- Publishes: `lc1 probe` on the probe channel.
-- Atomic because: nobody should see its keys.
-- @include guard
-- @include clock
local hash, stream, zset, old = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
if not arrived(ARGV[3], hash, stream, zset, old, ARGV[1], ARGV[2]) then
  return answered({ 'GARBLED' })
end
local steps = {
  -- what a probe without the right to DEL has left would be in the way
  { 'DEL', hash }, { 'DEL', stream }, { 'DEL', zset }, { 'DEL', old },
  { 'HSET', hash, 'n', 1 }, { 'HSETNX', hash, 'n', 1 }, { 'HMGET', hash, 'n' }, { 'HGET', hash, 'n' }, { 'HINCRBY', hash, 'n', 1 }, { 'HDEL', hash, 'x' },
  { 'HGETALL', hash }, { 'HLEN', hash }, { 'RENAME', hash, old }, { 'RENAME', old, hash }, { 'UNLINK', old },
  { 'EXISTS', hash }, { 'PEXPIREAT', hash, 4102444800000 }, { 'PEXPIRE', hash, 60000 }, { 'PTTL', hash }, { 'PERSIST', hash },
  { 'XADD', stream, 'MAXLEN', 1, '1-0', 'n', 1 }, { 'XRANGE', stream, '-', '+' }, { 'XREVRANGE', stream, '+', '-', 'COUNT', 1 },
  { 'XLEN', stream }, { 'XDEL', stream, '0-1' }, { 'XINFO', 'STREAM', stream }, { 'XTRIM', stream, 'MAXLEN', 1 },
  { 'ZADD', zset, 1, 'n' }, { 'ZSCORE', zset, 'n' }, { 'ZMSCORE', zset, 'n' }, { 'ZRANGE', zset, 0, 0, 'WITHSCORES' },
  { 'ZRANGEBYSCORE', zset, '-inf', 1, 'LIMIT', 0, 1 }, { 'ZSCAN', zset, 0 }, { 'ZREM', zset, 'x' }, { 'ZREMRANGEBYSCORE', zset, '-inf', 0 }, { 'ZCARD', zset },
  { 'MEMORY', 'USAGE', hash, 'SAMPLES', 0 }, { ARGV[2], ARGV[1], 'lc1 probe' }, { 'DEL', hash }, { 'DEL', stream }, { 'DEL', zset }, { 'DEL', old },
}
local denied
for i = 1, #steps do
  local reply = redis.pcall(unpack(steps[i]))
  if type(reply) == 'table' and reply.err and not denied then
    denied = { 'DENIED', steps[i][1], reply.err }
  end
end
return answered(denied or { 'OK', clock_ms() })
