#!lua flags=allow-oom
-- repair: puts a verified document in the place of a damaged one, at its version, where nothing else has happened to it meanwhile.
-- KEYS[1] hash    {tag}:c:<id>, the context
-- KEYS[2] stream  {tag}:l:<id>, its delta log
-- KEYS[3] zset    {tag}:exp, id by expiry (ms)
-- KEYS[4] zset    {tag}:use, id by last use (ms)
-- KEYS[5] zset    {tag}:size, id by accounted bytes
-- KEYS[6] hash    {tag}:mem, the shard's accounts
-- KEYS[7] hash    {tag}:o:<id>, where what was damaged waits until the document was read back; never there afterwards
-- ARGV[1] string  header, words: fingerprint version crc sha1 length(bytes) at(ms) exp(ms)|- op by tombstone(ms) grace(ms) publishCommand protocol source repairer
--                 sealed(1|0)
-- ARGV[2] string  plan of all chunks (lua/include/plan.lua), or empty: the document is one field, ARGV[6]
-- ARGV[3] string  id
-- ARGV[4] string  channel
-- ARGV[5] string  ids of entries at the end of the log that are damaged, words, or empty: they go, where they are
-- ARGV[6..] string  the document, or its chunks; the last is the guard over KEYS and ARGV[1] to ARGV[5] (lua/include/guard.lua)
-- Returns: REPAIRED version accounted(bytes) | CHANGED: the stored fields are others than those that were found damaged, or the log is further
--   | CHECKSUM sha1 length: of the document as it arrived | WRITE_CORRUPT version: what was there is back | GARBLED: not what was sent
-- Publishes: one `touch` frame, so that replicas which have another document at this version look.
-- Atomic because: it must not take the place of what somebody has written since, and document, log, indexes and accounts must agree.
-- @include guard
-- @include clock
-- @include seal
-- @include stored
-- @include fingerprint
-- @include log
-- @include entry
-- @include frame
-- @include checkpoint
-- @include plan
-- @include account
-- @include settle
local context, log, exp_index, use_index, size_index, mem, old = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local print, v, crc, sha, len, at, exp, op, by, tombstone, grace, publish, protocol, source, repairer, sealed = string.match(ARGV[1],
  '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
local plan, id, channel = ARGV[2], ARGV[3], ARGV[4]
if not arrived(ARGV[#ARGV], context, log, exp_index, use_index, size_index, mem, old, ARGV[1], plan, id, channel, ARGV[5]) then
  return answered({ 'GARBLED' })
end
local stored = stored_fields(context)
-- no version that the log has ever given is taken back, whatever became of its entry
if fingerprint(stored) ~= print or log_last_version(log) > tonumber(v) then
  return answered({ 'CHANGED' })
end
local writes, manifest, found, length
if plan == '' then
  writes, found, length = { 'data', ARGV[6] }, redis.sha1hex(ARGV[6]), #ARGV[6]
else
  local built, why = run_plan(ARGV, context, plan, nil)
  if not built then
    return answered({ 'CHECKSUM', why, 0 })
  end
  writes, manifest, found, length = built.writes, built.manifest, built.sha, built.grown
end
if found ~= sha or length ~= tonumber(len) then
  return answered({ 'CHECKSUM', found, length })
end

local existed = redis.call('EXISTS', context) == 1
local need = redis.call('HGET', context, 'need')
if existed then
  redis.call('RENAME', context, old)
end
redis.call('HSET', context, unpack(writes))
for i = 1, #writes, 2 do
  if redis.call('HGET', context, writes[i]) ~= writes[i + 1] then
    redis.call('DEL', context)
    if existed then
      redis.call('RENAME', old, context)
    end
    return answered({ 'WRITE_CORRUPT', tonumber(v) })
  end
end
redis.call('UNLINK', old)
local now = clock_ms()
local kf = math.min(tonumber(stored.kf) or 0, tonumber(v))
redis.call('HSET', context, 'v', v, 'crc', crc, 'sha', sha, 'len', len, 'at', at, 'by', by, 'op', op, 'kf', kf)
if protocol == '2' then
  redis.call('HSET', context, 'seal', seal_of(id, v, crc, sha, len, at, exp))
end
if manifest then
  redis.call('HSET', context, 'chunks', manifest)
end
for _, name in ipairs({ 'fence', 'intent' }) do
  if stored[name] then
    redis.call('HSET', context, name, stored[name])
  end
end
if need then
  redis.call('HSET', context, 'need', need)
end
for entry_id in string.gmatch(ARGV[5], '%S+') do
  local damaged = redis.call('XRANGE', log, entry_id, entry_id)[1]
  if damaged and entry_damage(id, damaged, entry_fields(damaged), sealed == '1') then
    redis.call('XDEL', log, entry_id)
  end
end
local entry = next_entry(log, v)
local fields = { 'kind', 'repaired', 'frame', source, 'base', crc, 'crc', crc, 'sha', sha, 'len', len, 'op', '-', 'by', repairer, 'at', now, 'exp', exp }
if protocol == '2' then
  fields[#fields + 1] = 'sum'
  fields[#fields + 1] = entry_sum(id, entry, 'repaired', '-', crc, crc, sha, len, now, exp, '-', repairer, source)
end
redis.pcall('XADD', log, entry, unpack(fields))
local newest, older = checkpoint_keys(context)
if exp ~= '-' then
  redis.call('HSET', context, 'exp', exp)
  redis.call('ZADD', exp_index, exp, id)
  redis.call('PEXPIREAT', context, tonumber(exp) + grace)
  for _, key in ipairs({ log, newest, older }) do
    redis.call('PEXPIREAT', key, tonumber(exp) + tombstone)
  end
else
  redis.call('ZREM', exp_index, id)
  for _, key in ipairs({ log, newest, older }) do
    redis.call('PERSIST', key)
  end
end
redis.call('ZADD', use_index, 'NX', now, id)
settle(context, #(manifest or ''))
local used = account(id, context, log, size_index, mem, checkpoint_bytes(context))
redis.call(publish, channel, frame_header({ protocol = protocol, kind = 'touch', encoding = '-', parts = 0, version = v, crc = crc, sha = '-',
  length = 0, base = v, base_crc = crc, at = now, exp = exp, op = '-', by = repairer }))
return answered({ 'REPAIRED', tonumber(v), used })
