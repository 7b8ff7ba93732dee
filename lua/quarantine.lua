#!lua flags=allow-oom
-- quarantine: moves a damaged document aside, so that nobody reads it and nothing is lost, or lets go of what was moved.
-- KEYS[1] hash    {tag}:c:<id>, the context
-- KEYS[2] stream  {tag}:l:<id>, its delta log
-- KEYS[3] zset    {tag}:exp, id by expiry (ms)
-- KEYS[4] zset    {tag}:use, id by last use (ms)
-- KEYS[5] zset    {tag}:size, id by accounted bytes
-- KEYS[6] hash    {tag}:mem, the shard's accounts
-- KEYS[7] hash    {tag}:q:<id>, the quarantined
-- ARGV[1] string  header, words: put|drop fingerprint|- version by exp(ms)|- tombstone(ms) grace(ms) sealed(1|0)
-- ARGV[2] string  why it was moved
-- ARGV[3] string  id
-- ARGV[4] string  the guard over KEYS and ARGV[1] to ARGV[3] (lua/include/guard.lua)
-- Returns: QUARANTINED version | DROPPED bytes | ABSENT: nothing was quarantined | CHANGED: the stored fields are others than those that were found
--   damaged, or there is nothing and the log says no other | SOUND: by its own checksums nothing is wrong with it | GARBLED: not what was sent
-- Publishes: nothing.
-- Atomic because: what somebody has written meanwhile must not be moved, and what is moved must leave its mark at the same moment.
-- @include guard
-- @include clock
-- @include seal
-- @include stored
-- @include placeholder
-- @include document
-- @include fingerprint
-- @include log
-- @include checkpoint
-- @include account
-- @include settle
local context, log, exp_index, use_index, size_index, mem, aside = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local mode, print, v, by, exp, tombstone, grace, sealed = string.match(ARGV[1], '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
local why, id = ARGV[2], ARGV[3]
if not arrived(ARGV[4], context, log, exp_index, use_index, size_index, mem, aside, ARGV[1], why, id) then
  return answered({ 'GARBLED' })
end
local before = redis.call('MEMORY', 'USAGE', aside, 'SAMPLES', 0) or 0
if mode == 'drop' then
  if before == 0 then
    return answered({ 'ABSENT' })
  end
  redis.call('DEL', aside)
  redis.call('HINCRBY', mem, 'quarantine', -before)
  redis.call('HINCRBY', mem, 'quarantined', -1)
  return answered({ 'DROPPED', before })
end
local stored = stored_fields(context)
local there = redis.call('EXISTS', context) == 1 and not only_intent(context)
if stored.q or fingerprint(stored) ~= print then
  return answered({ 'CHANGED' })
end
if not there then
  -- one that was never there, was deleted or has expired leaves nothing that a stub could stand for
  local last, ended = log_end(log)
  if not last or ended then
    return answered({ 'CHANGED' })
  end
end
-- all of it is hashed: who says that it is damaged may have been told so by a damaged reply
local function no_limit()
  return true
end
if there and not fields_damaged(id, stored, sealed == '1') and not check_document(context, stored, 1, no_limit) then
  return answered({ 'SOUND' })
end
local now = clock_ms()
local version = tonumber(v)
if there then
  redis.call('RENAME', context, aside)
  redis.call('HSET', aside, 'why', why, 'when', now, 'who', by)
  redis.call('PERSIST', aside)
  settle(aside, 46 * redis.call('HLEN', aside))
  redis.call('HINCRBY', mem, 'quarantine', redis.call('MEMORY', 'USAGE', aside, 'SAMPLES', 0) - before)
  if before == 0 then
    redis.call('HINCRBY', mem, 'quarantined', 1)
  end
end
redis.call('HSET', context, 'v', version, 'at', now, 'by', by, 'q', why)
-- who holds it must hold it still, and who had to give it up must not come back
for _, name in ipairs({ 'fence', 'intent' }) do
  if stored[name] then
    redis.call('HSET', context, name, stored[name])
  end
end
-- what the log and its copies lead to is the only good document there may be: it lives as long as the context would have
local newest, older = checkpoint_keys(context)
if exp ~= '-' then
  redis.call('HSET', context, 'exp', exp)
  redis.call('ZADD', exp_index, exp, id)
  redis.call('PEXPIREAT', context, tonumber(exp) + grace)
else
  redis.call('ZREM', exp_index, id)
end
for _, key in ipairs({ log, newest, older, aside }) do
  if exp ~= '-' then
    redis.call('PEXPIREAT', key, tonumber(exp) + tombstone)
  else
    redis.call('PERSIST', key)
  end
end
redis.call('ZADD', use_index, 'NX', now, id)
settle(context, 0)
account(id, context, log, size_index, mem, checkpoint_bytes(context))
return answered({ 'QUARANTINED', version })
