#!lua flags=allow-oom
-- gone: takes away a context that is there although its log says that it was deleted or has expired, where it is still what was found.
-- KEYS[1] hash    {tag}:c:<id>, the context
-- KEYS[2] stream  {tag}:l:<id>, its delta log
-- KEYS[3] zset    {tag}:exp, id by expiry (ms)
-- KEYS[4] zset    {tag}:use, id by last use (ms)
-- KEYS[5] zset    {tag}:size, id by accounted bytes
-- KEYS[6] hash    {tag}:mem, the shard's accounts
-- ARGV[1] string  header, words: fingerprint tombstone(ms) protocol by
-- ARGV[2] string  id
-- ARGV[3] string  the guard over KEYS and ARGV[1] to ARGV[2] (lua/include/guard.lua)
-- Returns: REMOVED version: that of the log's end | CHANGED: the stored fields are others, there are none, or the log goes on | GARBLED: not what was sent
-- Publishes: nothing: whoever follows has been told.
-- Atomic because: what somebody has written since must stay.
-- @include guard
-- @include clock
-- @include seal
-- @include stored
-- @include placeholder
-- @include fingerprint
-- @include log
-- @include checkpoint
-- @include frame
-- @include remove
local context, log, mem = KEYS[1], KEYS[2], KEYS[6]
local print, tombstone, protocol, by = string.match(ARGV[1], '^(%S+) (%S+) (%S+) (%S+)$')
local id = ARGV[2]
if not arrived(ARGV[3], context, log, KEYS[3], KEYS[4], KEYS[5], mem, ARGV[1], id) then
  return answered({ 'GARBLED' })
end
local last, ended = log_end(log)
if not ended or redis.call('EXISTS', context) == 0 or only_intent(context) or fingerprint(stored_fields(context)) ~= print then
  return answered({ 'CHANGED' })
end
local keys = { context = context, log = log, exp = KEYS[3], use = KEYS[4], size = KEYS[5], mem = mem }
-- the log ends with a tombstone: it gets no other
remove_context(keys, id, entry_version(last), 'expired', clock_ms(), '-', by, tombstone, protocol)
return answered({ 'REMOVED', entry_version(last) })
