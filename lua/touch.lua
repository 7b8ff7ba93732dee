#!lua
-- touch: gives a live context another expiry, without a new version; as a fit, the one that the instances that predict need together.
-- KEYS[1] hash    {tag}:c:<id>, the context
-- KEYS[2] stream  {tag}:l:<id>, its delta log
-- KEYS[3] zset    {tag}:exp, id by expiry (ms)
-- KEYS[4] zset    {tag}:use, id by last use (ms)
-- KEYS[5] zset    {tag}:size, id by accounted bytes
-- KEYS[6] hash    {tag}:mem, the shard's accounts
-- ARGV[1] string  header, words: op by ttl(ms)|none till(ms) fence [expected(ms)|-|hold], the sixth for a fit: `by` needs the context for `ttl`;
--                 it may expire earlier than it would where its expiry is `expected`; for a `hold` it needs what was written
-- ARGV[2] string  settings, words: tombstone(ms) grace(ms) publishCommand protocol sealed(1|0)
-- ARGV[3] string  id
-- ARGV[4] string  channel
-- ARGV[5] string  the guard over KEYS and ARGV[1] to ARGV[4] (lua/include/guard.lua)
-- Returns: TOUCHED version exp(ms, 0 none) | KEPT version exp(ms, 0 none): a fit that leaves the expiry | ABSENT | LATE now(ms): this attempt came after its time
--   | FENCED fence: the lock under which it was sent is lost | LOCKED txn deadline(ms) part home: by the intent of a transaction, but for a fit, which is
--   advice | DAMAGED: the stored fields do not have their seal | GARBLED: not what was sent
-- Publishes: one `touch` frame on the channel, so that replicas know the new expiry at once.
-- Atomic because: the field, the index, the accounts and the native expiry behind it must say the same.
-- @include guard
-- @include clock
-- @include seal
-- @include stored
-- @include intent
-- @include fence
-- @include frame
-- @include checkpoint
-- @include settle
-- @include fit
local context, log, exp_index, use_index, size_index, mem = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local op, by, ttl, till, fence, expected = string.match(ARGV[1], '^(%S+) (%S+) (%S+) (%S+) (%d+) ?(%S*)$')
local tombstone, grace, publish, protocol, sealed = string.match(ARGV[2], '^(%S+) (%S+) (%S+) (%S+) (%S+)$')
local id, channel = ARGV[3], ARGV[4]
if not arrived(ARGV[5], context, log, exp_index, use_index, size_index, mem, ARGV[1], ARGV[2], id, channel) then
  return answered({ 'GARBLED' })
end

local now = clock_ms()
if now > tonumber(till) then
  return answered({ 'LATE', now })
end
local stored = stored_fields(context)
if fields_damaged(id, stored, sealed == '1') or stored.q then
  return answered({ 'DAMAGED' })
end
-- what it decides may be done already, although it is not applied yet
local held = expected == '' and intent_of(stored)
if held then
  return answered(held)
end
local newer = fenced_by(context, fence, stored.fence, now)
if newer then
  return answered({ 'FENCED', newer })
end
local version, exp = tonumber(stored.v), tonumber(stored.exp)
if not version or (exp and exp <= now) then
  return answered({ 'ABSENT' })
end

local checkpoint, older = checkpoint_keys(context)
local before = redis.call('MEMORY', 'USAGE', context, 'SAMPLES', 0)
local new_exp = ttl ~= 'none' and expiry_of(now, ttl) or nil
local first_fit = false
if expected ~= '' then
  if not exp then
    return answered({ 'KEPT', version, 0 })
  end
  local need = redis.call('HGET', context, 'need')
  local mine = expected ~= 'hold' and new_exp or nil
  first_fit = not need
  need, new_exp = fit(need or '', by, mine, exp, expected, now, listeners_of(publish, channel))
  redis.call('HSET', context, 'need', need)
end
if expected ~= '' and new_exp == exp then
  -- its expiry is as it should be
elseif ttl == 'none' then
  exp = nil
  redis.call('HDEL', context, 'exp')
  redis.call('ZREM', exp_index, id)
  redis.call('PERSIST', context)
  redis.call('PERSIST', log)
  redis.call('PERSIST', checkpoint)
  redis.call('PERSIST', older)
else
  exp = new_exp
  redis.call('HSET', context, 'exp', exp)
  redis.call('ZADD', exp_index, exp, id)
  redis.call('PEXPIREAT', context, exp + tonumber(grace))
  redis.call('PEXPIREAT', log, exp + tonumber(tombstone))
  redis.call('PEXPIREAT', checkpoint, exp + tonumber(tombstone))
  redis.call('PEXPIREAT', older, exp + tonumber(tombstone))
end
if stored.seal then
  redis.call('HSET', context, 'seal', seal_of(id, version, stored.crc, stored.sha, stored.len, stored.at, exp))
end
if (ttl == 'none') ~= (stored.exp == false) or first_fit then
  settle(context, #(stored.chunks or ''))
end
local grown = redis.call('MEMORY', 'USAGE', context, 'SAMPLES', 0) - before
local accounted = redis.call('ZSCORE', size_index, id)
if accounted and grown ~= 0 then
  redis.call('ZADD', size_index, accounted + grown, id)
  redis.call('HINCRBY', mem, 'bytes', grown)
end
redis.call('ZADD', use_index, now, id)
if expected ~= '' and exp == tonumber(stored.exp) then
  return answered({ 'KEPT', version, exp })
end
redis.call(publish, channel, frame_header({ protocol = protocol, kind = 'touch', encoding = '-', parts = 0, version = version, crc = stored.crc or '-',
  sha = '-', length = 0, base = version, base_crc = stored.crc or '-', at = now, exp = exp or '-', op = op, by = by }))
return answered({ 'TOUCHED', version, exp or 0 })
