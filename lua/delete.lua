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
--   | FENCED fence | LOCKED txn deadline(ms) part home | LATE now(ms) | PENDING wait(ms) | UNCERTAIN version: as in commit.lua
--   | DAMAGED: a version is asked for, and the stored one does not have its seal | GARBLED: not what was sent
-- Publishes: one `deleted` frame on the channel.
-- Atomic because: context, log, indexes and accounts must go together, and every refusal stands before the first write.
-- @include guard
-- @include clock
-- @include seal
-- @include stored
-- @include intent
-- @include entry
-- @include log
-- @include retry
-- @include frame
-- @include checkpoint
-- @include remove
-- @include fence
-- @include refusals
-- @include deleting
local keys = { context = KEYS[1], log = KEYS[2], exp = KEYS[3], use = KEYS[4], size = KEYS[5], mem = KEYS[6] }
if not arrived(ARGV[5], KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], ARGV[1], ARGV[2], ARGV[3], ARGV[4]) then
  return answered({ 'GARBLED' })
end
local now = clock_ms()
local w = delete_request(keys, ARGV)
return answered(delete_check(w, now) or delete_finish(w, now))
