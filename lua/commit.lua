#!lua
-- commit: writes one context: verified, versioned, logged, accounted and published by one script, or not at all.
-- KEYS[1] hash    {tag}:c:<id>, the context
-- KEYS[2] stream  {tag}:l:<id>, its delta log
-- KEYS[3] zset    {tag}:exp, id by expiry (ms)
-- KEYS[4] zset    {tag}:use, id by last use (ms)
-- KEYS[5] zset    {tag}:size, id by accounted bytes
-- KEYS[6] hash    {tag}:mem, the shard's accounts
-- KEYS[7] hash    {tag}:o:<id>, where a large context's old bytes wait until the new ones were read back; never there afterwards
-- ARGV[1] string  the document, exact bytes
-- ARGV[2] string  JSON Patch from the base named in the header to the document, or empty
-- ARGV[3] string  header, words: op by ifVersion|- ifCrc|- patchBaseVersion patchBaseCrc sha1 crc length(bytes)
--                 ttl(ms)|keep|none till(ms) previousTill(ms) firstSent(ms) fence
--                 logKeep(entries) logBytes(bytes) keyframe(versions) tombstone(ms) grace(ms) publishCommand
-- ARGV[4] string  id
-- ARGV[5] string  channel
-- Returns: COMMITTED version at(ms) kind frame(bytes) exp(ms, 0 none) accounted(bytes) | APPLIED version at(ms) crc: this operation did it
--   before | CONFLICT version crc: the current ones | FENCED fence | LOCKED txn deadline(ms) | CHECKSUM sha1 length: as they arrived
--   | WRITE_CORRUPT version: the old bytes are back | LATE now(ms): this attempt came after its time | PENDING wait(ms): an
--   earlier attempt may still arrive | UNCERTAIN version: the log no longer reaches back to the first attempt
-- Publishes: one frame on the channel (a document above 4 KB as a second message that follows its header); before it an `expired` frame
--   where an expired context was still there.
-- Atomic because: version check, bytes, log, indexes, accounts and frame must agree whatever else runs; a script's error does not
--   undo its writes, so every refusal stands before the first of them.
-- @include clock
-- @include log
-- @include retry
-- @include remove
local context, log, exp_index, use_index, size_index, mem, old = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local data, patch, id, channel = ARGV[1], ARGV[2], ARGV[4], ARGV[5]
local op, by, if_version, if_crc, patch_base, patch_crc, sha, crc, length, ttl, till, prev, sent, fence, log_keep, log_bytes, keyframe,
  tombstone, grace, publish = string.match(ARGV[3], '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)'
  .. ' (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')

-- 1. what is there
local now = clock_ms()
local stored = redis.call('HMGET', context, 'v', 'crc', 'exp', 'op', 'at', 'fence', 'intent', 'kf')
local stored_version, stored_exp = tonumber(stored[1]), tonumber(stored[3])
local live = stored_version ~= nil and not (stored_exp and stored_exp <= now)
local version = live and stored_version or 0

-- 2. applied already?
if stored[4] == op then
  return { 'APPLIED', stored_version, tonumber(stored[5]), stored[2] }
end
if prev ~= '0' then
  local answer = earlier_attempt(log, op, now, tonumber(prev), tonumber(sent))
  if answer then
    return answer
  end
end
if now > tonumber(till) then
  return { 'LATE', now }
end

-- 3. refused by version, fence or intent?
if if_version ~= '-' and (tonumber(if_version) ~= version or (if_crc ~= '-' and if_crc ~= stored[2])) then
  return { 'CONFLICT', version, live and stored[2] or '-' }
end
if stored[6] and fence ~= '0' and tonumber(fence) < tonumber(stored[6]) then
  return { 'FENCED', stored[6] }
end
if stored[7] then
  local txn, deadline = string.match(stored[7], '^(%S+) (%d+)$')
  if txn and tonumber(deadline) > now then
    return { 'LOCKED', txn, tonumber(deadline) }
  end
end

-- 4. and 5. the new bytes, as sent, must be what the client hashed
local bytes = #data
local found = redis.sha1hex(data)
if found ~= sha or bytes ~= tonumber(length) then
  return { 'CHECKSUM', found, bytes }
end

-- 6. memory limits take their place here: the accounts below are what they will be measured against

-- 7. what is to be written; the first writes follow
local exp = stored_exp
if ttl == 'none' then
  exp = nil
elseif ttl ~= 'keep' then
  exp = now + tonumber(ttl)
elseif not live then
  exp = nil
end
if stored_version and not live then
  local keys = { context = context, log = log, exp = exp_index, use = use_index, size = size_index, mem = mem }
  remove_context(keys, id, stored_version .. '-1', 'expired', now, '-', by, tombstone)
  redis.call(publish, channel, removal_frame('expired', stored_version, stored_version, stored[2] or '-', now, '-', by))
end
local next_version = (stored_version or log_last_version(log)) + 1
local base_crc = live and stored[2] or '-'
local kind, payload = 'full', data
if live and #patch > 0 and #patch < bytes and tonumber(patch_base) == version and patch_crc == stored[2] then
  kind, payload = 'patch', patch
end
-- The log gets what is published, but a whole document now and then so that patches can be replayed from it, and no other whole
-- document that would fill it: of those it keeps the entry, without the bytes.
local logged_kind, logged = kind, payload
local key_version = tonumber(stored[8] or 0)
if kind == 'patch' then
  if key_version == 0 or next_version - key_version >= tonumber(keyframe) then
    logged_kind, logged, key_version = 'full', data, next_version
  end
elseif 8 * bytes <= tonumber(log_bytes) then
  key_version = next_version
else
  logged, key_version = '', 0
end
local kept = log_keep + keyframe
-- Should Redis give back other bytes than it was given, the old ones must still be there: large ones are kept aside by name, which costs
-- the same whatever their length; small ones by value, which costs less.
local aside = live and bytes > 4096
local before
if aside then
  redis.call('RENAME', context, old)
elseif live then
  before = redis.call('HGET', context, 'data')
end
local function restore()
  if before then
    redis.call('HSET', context, 'data', before)
  else
    redis.call('DEL', context)
  end
  if aside then
    redis.call('RENAME', old, context)
  end
end
redis.call('HSET', context, 'data', data)
if redis.call('HGET', context, 'data') ~= data then
  restore()
  return { 'WRITE_CORRUPT', version }
end
-- the log comes after the bytes: an entry that is taken back leaves its id used, and the next commit could not have it
local function log_entry()
  return redis.pcall('XADD', log, 'MAXLEN', '~', kept, next_version .. '-0', 'kind', logged_kind, 'frame', logged,
    'base', base_crc, 'crc', crc, 'sha', sha, 'len', bytes, 'op', op, 'by', by, 'at', now, 'exp', exp or '-')
end
local logged_at = log_entry()
if type(logged_at) == 'table' and logged_at.err then
  -- the log is ahead of the context: versions go on from the log
  local reached, last = pcall(log_last_version, log)
  if reached then
    next_version = last + 1
    kind, payload, logged_kind, logged, key_version = 'full', data, 'full', data, next_version
    logged_at = log_entry()
  end
  if type(logged_at) == 'table' and logged_at.err then
    restore()
    return logged_at
  end
end
redis.call('HSET', context, 'v', next_version, 'crc', crc, 'sha', sha, 'len', bytes, 'at', now, 'by', by, 'op', op, 'kf', key_version)
if aside then
  redis.call('UNLINK', old)
end
if fence ~= '0' then
  redis.call('HSET', context, 'fence', fence)
elseif aside and stored[6] then
  redis.call('HSET', context, 'fence', stored[6])
end

-- 8. indexes, accounts, subscribers
local changed = exp ~= stored_exp or not live
if exp and (changed or aside) then
  redis.call('HSET', context, 'exp', exp)
  redis.call('PEXPIREAT', context, exp + grace)
end
if exp and changed then
  redis.call('ZADD', exp_index, exp, id)
  redis.call('PEXPIREAT', log, exp + tombstone)
elseif changed then
  redis.call('HDEL', context, 'exp')
  redis.call('ZREM', exp_index, id)
  redis.call('PERSIST', context)
  redis.call('PERSIST', log)
end
if aside or not live then
  -- a hash table that has just grown keeps two tables and moves a bucket with each look: bytes that the next reads would make wrong
  redis.call('HMGET', context, 'v', 'crc', 'sha', 'len', 'at', 'by', 'op', 'kf')
end
-- two whole documents that patches build on, and as much again
local log_limit = math.max(tonumber(log_bytes), 3 * bytes)
local log_used = redis.call('MEMORY', 'USAGE', log, 'SAMPLES', 0)
while log_used > log_limit and kept > 1 do
  kept = math.max(1, math.floor(math.min(kept, redis.call('XLEN', log)) / 2))
  redis.call('XTRIM', log, 'MAXLEN', kept)
  log_used = redis.call('MEMORY', 'USAGE', log, 'SAMPLES', 0)
  if key_version <= next_version - kept then
    redis.call('HSET', context, 'kf', 0)
  end
end
local used = redis.call('MEMORY', 'USAGE', context, 'SAMPLES', 0) + log_used
local accounted = tonumber(redis.call('ZSCORE', size_index, id) or 0)
if accounted ~= used then
  redis.call('ZADD', size_index, used, id)
  redis.call('HINCRBY', mem, 'bytes', used - accounted)
  if accounted == 0 then
    redis.call('HINCRBY', mem, 'contexts', 1)
  end
end
-- to the second: of several commits within one, the first counts
if not live or math.floor(now / 1000) ~= math.floor((tonumber(stored[5]) or 0) / 1000) then
  redis.call('ZADD', use_index, now, id)
end
local announced = (kind == 'full' and bytes > 4096) and 'follows' or kind
local header = string.format('lc1 %s %d %s %s %d %d %s %d %s %s %s\n', announced, next_version, crc, sha, bytes, next_version - 1, base_crc,
  now, exp or '-', op, by)
if announced == 'follows' then
  -- joining a large document to its header would copy it, and cost Redis more than hashing it
  redis.call(publish, channel, header)
  redis.call(publish, channel, data)
else
  redis.call(publish, channel, header .. payload)
end
return { 'COMMITTED', next_version, now, kind, #payload, exp or 0, used }
