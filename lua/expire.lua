#!lua flags=allow-oom
-- expire: takes a bounded number of expired contexts out of a shard, each with a tombstone and an `expired` frame.
-- KEYS[1] zset    {tag}:exp, id by expiry (ms)
-- KEYS[2] zset    {tag}:use, id by last use (ms)
-- KEYS[3] zset    {tag}:size, id by accounted bytes
-- KEYS[4] hash    {tag}:mem, the shard's accounts
-- ARGV[1] string  {tag}, from which the keys of each context are made
-- ARGV[2] number  contexts at most
-- ARGV[3] string  settings, words: tombstone(ms) publishCommand by protocol
-- Returns: EXPIRED more(ids still due: 1 or 0) next(ms, the earliest expiry left, 0 none) id version id version ...
-- Publishes: one `expired` frame a context, with its last version.
-- Atomic because: a context that was given a new expiry a moment ago must not be removed, and what is removed must go from every
--   index together. The keys of contexts are made from the tag here: the ids are only known inside, and all share its hash slot.
-- @include clock
-- @include log
-- @include frame
-- @include checkpoint
-- @include remove
local exp_index = KEYS[1]
local tag, limit = ARGV[1], tonumber(ARGV[2])
local tombstone, publish, by, protocol = string.match(ARGV[3], '^(%S+) (%S+) (%S+) (%S+)$')
local now = clock_ms()
local due = redis.call('ZRANGEBYSCORE', exp_index, '-inf', now, 'LIMIT', 0, limit)
local answer = { 'EXPIRED', #due == limit and 1 or 0, 0 }
for i = 1, #due do
  local id = due[i]
  local keys = { context = tag .. ':c:' .. id, log = tag .. ':l:' .. id, exp = exp_index, use = KEYS[2], size = KEYS[3], mem = KEYS[4] }
  local stored = redis.call('HMGET', keys.context, 'v', 'crc', 'exp')
  local exp = tonumber(stored[3])
  if stored[1] and not (exp and exp <= now) then
    -- the index is behind the context, which is what counts
    if exp then
      redis.call('ZADD', exp_index, exp, id)
    else
      redis.call('ZREM', exp_index, id)
    end
  else
    local version = math.max(tonumber(stored[1]) or 0, log_last_version(keys.log))
    remove_context(keys, id, version .. '-1', 'expired', now, '-', by, tombstone)
    redis.call(publish, tag .. ':ch:' .. id, removal_frame(protocol, 'expired', version, version, stored[2] or '-', now, '-', by))
    answer[#answer + 1] = id
    answer[#answer + 1] = version
  end
end
local earliest = redis.call('ZRANGE', exp_index, 0, 0, 'WITHSCORES')
answer[3] = tonumber(earliest[2] or 0)
return answer
