#!lua flags=allow-oom
-- drop: lets go of damaged log entries and checkpoints of a context, in its accounts too. What they said is said anew.
-- KEYS[1] hash    {tag}:c:<id>, the context
-- KEYS[2] stream  {tag}:l:<id>, its delta log
-- KEYS[3] zset    {tag}:size, id by accounted bytes
-- KEYS[4] hash    {tag}:mem, the shard's accounts
-- KEYS[5] hash    {tag}:k:<id>, the newest checkpoint
-- KEYS[6] hash    {tag}:j:<id>, the one before
-- ARGV[1] string  checkpoints to drop, words: k|- j|-
-- ARGV[2] string  ids of log entries to drop, words, or empty
-- ARGV[3] string  id
-- ARGV[4] string  the guard over KEYS and ARGV[1] to ARGV[3] (lua/include/guard.lua)
-- Returns: DROPPED entries checkpoints: how many of each were there | GARBLED: not what was sent
-- Publishes: nothing.
-- Atomic because: the accounts must lose the bytes with what had them, and the context must say that its log cannot be replayed from there.
-- @include guard
-- @include checkpoint
-- @include account
local context, log, size_index, mem, newest, older = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local k, j = string.match(ARGV[1], '^(%S+) (%S+)$')
local id = ARGV[3]
if not arrived(ARGV[4], context, log, size_index, mem, newest, older, ARGV[1], ARGV[2], id) then
  return answered({ 'GARBLED' })
end
local before = checkpoint_bytes(context)
local entries, copies = 0, 0
for entry in string.gmatch(ARGV[2], '%S+') do
  entries = entries + redis.call('XDEL', log, entry)
end
if k ~= '-' then
  copies = copies + redis.call('DEL', newest)
end
if j ~= '-' then
  copies = copies + redis.call('DEL', older)
end
if entries + copies > 0 and redis.call('HGET', context, 'kf') then
  -- the next commit asks for a checkpoint
  redis.call('HSET', context, 'kf', 0)
end
if redis.call('EXISTS', context) == 1 or redis.call('ZSCORE', size_index, id) then
  account(id, context, log, size_index, mem, before)
elseif copies > 0 then
  redis.call('HINCRBY', mem, 'checkpoints', checkpoint_bytes(context) - before)
end
return answered({ 'DROPPED', entries, copies })
