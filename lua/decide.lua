#!lua flags=allow-oom
-- decide: the one moment at which a transaction over several shards is done or not: its decision, written once into the record of part 0.
-- KEYS[1] hash    {tag}:t:<txn>.0, the record
-- ARGV[1] string  words: txn want(commit|abort|ask) deadline(ms) keep(ms)
-- ARGV[2] string  the guard over KEYS and ARGV[1] (lua/include/guard.lua)
-- Returns: COMMITTED at(ms) parts: the shard of each part, words | ABORTED at(ms) parts, or - where it was never prepared here
--   | UNDECIDED now(ms) parts: it is asked before its deadline | FORGOTTEN: what was prepared is to be committed, and there is no record of it:
--   others have decided and ended it, too long ago | GARBLED: not what was sent
-- Publishes: nothing.
-- Atomic because: of a coordinator and of those who end what it has left behind, only one may decide.
-- @include guard
-- @include clock
local record = KEYS[1]
if not arrived(ARGV[2], record, ARGV[1]) then
  return answered({ 'GARBLED' })
end
local txn, want, deadline, keep = string.match(ARGV[1], '^(%S+) (%a+) (%d+) (%d+)$')
local now = clock_ms()
local state, parts, until_ms, at = unpack(redis.call('HMGET', record, 'state', 'parts', 'deadline', 'decided'))
parts = parts or '-'
if state then
  return answered({ state == 'committed' and 'COMMITTED' or 'ABORTED', tonumber(at or nil) or 0, parts })
end
if want == 'commit' and parts == '-' then
  return answered({ 'FORGOTTEN' })
end
local over = now > tonumber(until_ms or deadline)
if want == 'ask' and not over then
  return answered({ 'UNDECIDED', now, parts })
end
-- who asks after the deadline takes it that whoever began it is gone: what was not decided is not to be
if want == 'commit' and not over then
  redis.call('HSET', record, 'state', 'committed', 'decided', now)
  return answered({ 'COMMITTED', now, parts })
end
redis.call('HSET', record, 'txn', txn, 'state', 'aborted', 'decided', now)
if parts == '-' then
  -- so that a first phase that comes late finds it
  redis.call('PEXPIRE', record, keep)
end
return answered({ 'ABORTED', now, parts })
