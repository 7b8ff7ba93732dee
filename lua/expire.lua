#!lua flags=allow-oom
-- expire: takes a bounded number of expired contexts out of a shard, each with a tombstone and an `expired` frame.
-- KEYS[1] zset    {tag}:exp, id by expiry (ms)
-- KEYS[2] zset    {tag}:use, id by last use (ms)
-- KEYS[3] zset    {tag}:size, id by accounted bytes
-- KEYS[4] hash    {tag}:mem, the shard's accounts
-- ARGV[1] string  {tag}, from which the keys of each context are made
-- ARGV[2] number  contexts at most
-- ARGV[3] string  settings, words: tombstone(ms) publishCommand by protocol sealed(1|0)
-- ARGV[4] string  the guard over KEYS and ARGV[1] to ARGV[3] (lua/include/guard.lua)
-- Returns: EXPIRED more(ids still due: 1 or 0) next(ms, the earliest expiry left, 0 none) damaged(how many) id ... then id version id version ...
--   | GARBLED: not what was sent. Damaged ones, whose expiry cannot be believed, stay; they are looked at again in a minute.
-- Publishes: one `expired` frame a context, with its last version.
-- Atomic because: a context that was given a new expiry a moment ago must not be removed, and what is removed must go from every
--   index together. The keys of contexts are made from the tag here: the ids are only known inside, and all share its hash slot.
-- @include guard
-- @include clock
-- @include seal
-- @include stored
-- @include log
-- @include frame
-- @include checkpoint
-- @include remove
local exp_index = KEYS[1]
local tag, limit = ARGV[1], tonumber(ARGV[2])
local tombstone, publish, by, protocol, sealed = string.match(ARGV[3], '^(%S+) (%S+) (%S+) (%S+) (%S+)$')
local AGAIN_MS = 60000
if not arrived(ARGV[4], exp_index, KEYS[2], KEYS[3], KEYS[4], tag, ARGV[2], ARGV[3]) then
  return answered({ 'GARBLED' })
end
local now = clock_ms()
local due = redis.call('ZRANGEBYSCORE', exp_index, '-inf', now, 'LIMIT', 0, limit)
local damaged, gone = {}, {}
for i = 1, #due do
  local id = due[i]
  local keys = { context = tag .. ':c:' .. id, log = tag .. ':l:' .. id, exp = exp_index, use = KEYS[2], size = KEYS[3], mem = KEYS[4] }
  local stored = stored_fields(keys.context)
  local exp = tonumber(stored.exp)
  if fields_damaged(id, stored, sealed == '1') then
    redis.call('ZADD', exp_index, now + AGAIN_MS, id)
    damaged[#damaged + 1] = id
  elseif stored.v and not (exp and exp <= now) then
    -- the index is behind the context, which is what counts
    if exp then
      redis.call('ZADD', exp_index, exp, id)
    else
      redis.call('ZREM', exp_index, id)
    end
  else
    local version = math.max(tonumber(stored.v) or 0, log_last_version(keys.log))
    remove_context(keys, id, version, 'expired', now, '-', by, tombstone, protocol)
    redis.call(publish, tag .. ':ch:' .. id, removal_frame(protocol, 'expired', version, version, stored.crc or '-', now, '-', by))
    gone[#gone + 1] = id
    gone[#gone + 1] = version
  end
end
local earliest = redis.call('ZRANGE', exp_index, 0, 0, 'WITHSCORES')
local answer = { 'EXPIRED', #due == limit and 1 or 0, tonumber(earliest[2] or 0), #damaged }
for i = 1, #damaged do
  answer[#answer + 1] = damaged[i]
end
for i = 1, #gone do
  answer[#answer + 1] = gone[i]
end
return answered(answer)
