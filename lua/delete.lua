#!lua flags=allow-oom
-- delete: removes one context with its indexes and accounts, leaves a tombstone in its log, and publishes it.
-- KEYS[1] hash    {tag}:c:<id>, the context
-- KEYS[2] stream  {tag}:l:<id>, its delta log
-- KEYS[3] zset    {tag}:exp, id by expiry (ms)
-- KEYS[4] zset    {tag}:use, id by last use (ms)
-- KEYS[5] zset    {tag}:size, id by accounted bytes
-- KEYS[6] hash    {tag}:mem, the shard's accounts
-- ARGV[1] string  header, words: op by ifVersion|- ifCrc|- till(ms) previousTill(ms) firstSent(ms) fence
-- ARGV[2] string  settings, words: tombstone(ms) publishCommand protocol sealed(1|0)
-- ARGV[3] string  id
-- ARGV[4] string  channel
-- ARGV[5] string  the guard over KEYS and ARGV[1] to ARGV[4] (lua/include/guard.lua)
-- Returns: DELETED version at(ms) | ABSENT | APPLIED version at(ms) crc: this operation did it before | CONFLICT version crc
--   | FENCED fence | LOCKED txn deadline(ms) | LATE now(ms) | PENDING wait(ms) | UNCERTAIN version: as in commit.lua
--   | DAMAGED: a version is asked for, and the stored one does not have its seal | GARBLED: not what was sent
-- Publishes: one `deleted` frame on the channel.
-- Atomic because: context, log, indexes and accounts must go together, and every refusal stands before the first write.
-- @include guard
-- @include clock
-- @include seal
-- @include stored
-- @include entry
-- @include log
-- @include retry
-- @include frame
-- @include checkpoint
-- @include remove
-- @include fence
local context, log = KEYS[1], KEYS[2]
local keys = { context = context, log = log, exp = KEYS[3], use = KEYS[4], size = KEYS[5], mem = KEYS[6] }
local op, by, if_version, if_crc, till, prev, sent, fence = string.match(ARGV[1],
  '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
local tombstone, publish, protocol, sealed = string.match(ARGV[2], '^(%S+) (%S+) (%S+) (%S+)$')
local id, channel = ARGV[3], ARGV[4]
if not arrived(ARGV[5], context, log, keys.exp, keys.use, keys.size, keys.mem, ARGV[1], ARGV[2], id, channel) then
  return answered({ 'GARBLED' })
end

local now = clock_ms()
local stored = stored_fields(context)
local damaged = fields_damaged(id, stored, sealed == '1')
local version, exp = tonumber(stored.v), tonumber(stored.exp)
-- what is damaged is there, whatever its expiry says: to remove it needs nothing of it
local live = damaged or (version ~= nil and not (exp and exp <= now))
version = version or 0
if prev ~= '0' then
  local answer = earlier_attempt(id, log, op, now, tonumber(prev), tonumber(sent), stored)
  if answer then
    return answered(answer)
  end
end
if now > tonumber(till) then
  return answered({ 'LATE', now })
end
if if_version ~= '-' and damaged then
  return answered({ 'DAMAGED' })
end
if if_version ~= '-' and (tonumber(if_version) ~= (live and version or 0) or (if_crc ~= '-' and if_crc ~= stored.crc)) then
  return answered({ 'CONFLICT', live and version or 0, live and stored.crc or '-' })
end
if not live then
  return answered({ 'ABSENT' })
end
local newer = fenced_by(context, fence, stored.fence, now)
if newer then
  return answered({ 'FENCED', newer })
end
if stored.intent then
  local txn, deadline = string.match(stored.intent, '^(%S+) (%d+)$')
  if txn and tonumber(deadline) > now then
    return answered({ 'LOCKED', txn, tonumber(deadline) })
  end
end

-- of a damaged version the log knows better
local removed = math.max(damaged and 0 or version, log_last_version(log)) + 1
remove_context(keys, id, removed, 'deleted', now, op, by, tombstone, protocol)
redis.call(publish, channel, removal_frame(protocol, 'deleted', removed, removed - 1, damaged and '-' or stored.crc or '-', now, op, by))
return answered({ 'DELETED', removed, now })
