#!lua flags=allow-oom
-- delete: removes one context with its indexes and accounts, leaves a tombstone in its log, and publishes it.
-- KEYS[1] hash    {tag}:c:<id>, the context
-- KEYS[2] stream  {tag}:l:<id>, its delta log
-- KEYS[3] zset    {tag}:exp, id by expiry (ms)
-- KEYS[4] zset    {tag}:use, id by last use (ms)
-- KEYS[5] zset    {tag}:size, id by accounted bytes
-- KEYS[6] hash    {tag}:mem, the shard's accounts
-- ARGV[1] string  header, words: op by ifVersion|- ifCrc|- till(ms) previousTill(ms) firstSent(ms) fence
-- ARGV[2] string  settings, words: tombstone(ms) publishCommand protocol
-- ARGV[3] string  id
-- ARGV[4] string  channel
-- Returns: DELETED version at(ms) | ABSENT | APPLIED version at(ms) crc: this operation did it before | CONFLICT version crc
--   | FENCED fence | LOCKED txn deadline(ms) | LATE now(ms) | PENDING wait(ms) | UNCERTAIN version: as in commit.lua
-- Publishes: one `deleted` frame on the channel.
-- Atomic because: context, log, indexes and accounts must go together, and every refusal stands before the first write.
-- @include clock
-- @include log
-- @include retry
-- @include frame
-- @include checkpoint
-- @include remove
local context, log = KEYS[1], KEYS[2]
local keys = { context = context, log = log, exp = KEYS[3], use = KEYS[4], size = KEYS[5], mem = KEYS[6] }
local op, by, if_version, if_crc, till, prev, sent, fence = string.match(ARGV[1],
  '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
local tombstone, publish, protocol = string.match(ARGV[2], '^(%S+) (%S+) (%S+)$')
local id, channel = ARGV[3], ARGV[4]

local now = clock_ms()
local stored = redis.call('HMGET', context, 'v', 'crc', 'exp', 'fence', 'intent')
local version, exp = tonumber(stored[1]), tonumber(stored[3])
local live = version ~= nil and not (exp and exp <= now)
if prev ~= '0' then
  local answer = earlier_attempt(log, op, now, tonumber(prev), tonumber(sent))
  if answer then
    return answer
  end
end
if now > tonumber(till) then
  return { 'LATE', now }
end
if if_version ~= '-' and (tonumber(if_version) ~= (live and version or 0) or (if_crc ~= '-' and if_crc ~= stored[2])) then
  return { 'CONFLICT', live and version or 0, live and stored[2] or '-' }
end
if not live then
  return { 'ABSENT' }
end
if stored[4] and tonumber(fence) < tonumber(stored[4]) and fence ~= '0' then
  return { 'FENCED', stored[4] }
end
if stored[5] then
  local txn, deadline = string.match(stored[5], '^(%S+) (%d+)$')
  if txn and tonumber(deadline) > now then
    return { 'LOCKED', txn, tonumber(deadline) }
  end
end

local removed = math.max(version, log_last_version(log)) + 1
remove_context(keys, id, removed .. '-0', 'deleted', now, op, by, tombstone)
redis.call(publish, channel, removal_frame(protocol, 'deleted', removed, version, stored[2] or '-', now, op, by))
return { 'DELETED', removed, now }
