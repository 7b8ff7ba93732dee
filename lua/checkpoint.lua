#!lua
-- checkpoint: keeps a compressed copy of a context at a version that its log still has, so that the document can be rebuilt from there.
-- KEYS[1] hash    {tag}:c:<id>, the context
-- KEYS[2] stream  {tag}:l:<id>, its delta log
-- KEYS[3] zset    {tag}:size, id by accounted bytes
-- KEYS[4] hash    {tag}:mem, the shard's accounts
-- KEYS[5] hash    {tag}:k:<id>, the newest checkpoint
-- KEYS[6] hash    {tag}:j:<id>, the one before
-- ARGV[1] string  header, words: version crc sha1 length(bytes) at(ms) exp(ms)|- encoding(-|gz|br) sha1OfTheCopy tombstone(ms) sealed(1|0)
-- ARGV[2] string  the document, compressed
-- ARGV[3] string  id
-- ARGV[4] string  the guard over KEYS, ARGV[1] and ARGV[3] (lua/include/guard.lua)
-- Returns: KEPT bytes(real ones, of both) | STALE: the log does not lead from it to the present, or a newer one is there
--   | DAMAGED: the stored fields do not have their seal | CHECKSUM sha1 length: of the copy as it arrived | GARBLED: not what was sent
-- Publishes: nothing.
-- Atomic because: the copy must be of a version that the log has, and in the accounts of its context from the first moment.
-- @include guard
-- @include clock
-- @include seal
-- @include stored
-- @include log
-- @include checkpoint
-- @include account
-- @include settle
local context, log, size_index, mem, newest, older = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local v, crc, sha, len, at, exp, enc, zsum, tombstone, sealed = string.match(ARGV[1],
  '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
local z, id = ARGV[2], ARGV[3]
if not arrived(ARGV[4], context, log, size_index, mem, newest, older, ARGV[1], id) then
  return answered({ 'GARBLED' })
end
local found = redis.sha1hex(z)
if found ~= zsum then
  return answered({ 'CHECKSUM', found, #z })
end
local stored = stored_fields(context)
if fields_damaged(id, stored, sealed == '1') then
  return answered({ 'DAMAGED' })
end
local version = tonumber(stored.v)
if not version or stored.q or version < tonumber(v) or (stored.exp and tonumber(stored.exp) <= clock_ms()) then
  return answered({ 'STALE' })
end
-- the version's own entry, or one that tells of its repair
local known = false
for _, entry in ipairs(redis.call('XRANGE', log, v, v)) do
  known = known or (entry_field(entry, 'crc') == crc and entry_field(entry, 'sha') == sha)
end
if not known then
  return answered({ 'STALE' })
end
local first = tonumber(redis.call('HGET', newest, 'v') or 0) or 0
if first >= tonumber(v) then
  return answered({ 'STALE' })
end
local before = checkpoint_bytes(context)
if first > 0 then
  redis.call('RENAME', newest, older)
end
redis.call('HSET', newest, 'v', v, 'crc', crc, 'sha', sha, 'len', len, 'at', at, 'enc', enc, 'z', z, 'zsum', zsum,
  'seal', seal_of(id, v, crc, sha, len, at, exp))
if exp ~= '-' then
  redis.call('HSET', newest, 'exp', exp)
end
if stored.exp then
  redis.call('PEXPIREAT', newest, tonumber(stored.exp) + tombstone)
  redis.call('PEXPIREAT', older, tonumber(stored.exp) + tombstone)
end
if (tonumber(stored.kf) or 0) < tonumber(v) then
  redis.call('HSET', context, 'kf', v)
end
settle(newest, 0)
account(id, context, log, size_index, mem, before)
return answered({ 'KEPT', checkpoint_bytes(context) })
