#!lua flags=allow-oom
-- drop: lets go of damaged log entries and checkpoints of a context, in its accounts too. What they said is said anew. Sound ones stay.
-- KEYS[1] hash    {tag}:c:<id>, the context
-- KEYS[2] stream  {tag}:l:<id>, its delta log
-- KEYS[3] zset    {tag}:size, id by accounted bytes
-- KEYS[4] hash    {tag}:mem, the shard's accounts
-- KEYS[5] hash    {tag}:k:<id>, the newest checkpoint
-- KEYS[6] hash    {tag}:j:<id>, the one before
-- ARGV[1] string  checkpoints to drop, words: k|- j|- sealed(1|0)
-- ARGV[2] string  ids of log entries to drop, words, or empty
-- ARGV[3] string  id
-- ARGV[4] string  the guard over KEYS and ARGV[1] to ARGV[3] (lua/include/guard.lua)
-- Returns: DROPPED entries checkpoints: how many of each were there | GARBLED: not what was sent
-- Publishes: nothing.
-- Atomic because: the accounts must lose the bytes with what had them, and the context must say that its log cannot be replayed from there.
-- @include guard
-- @include seal
-- @include entry
-- @include checkpoint
-- @include account
-- @include placeholder
local context, log, size_index, mem, newest, older = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local k, j, sealed = string.match(ARGV[1], '^(%S+) (%S+) (%S+)$')
local id = ARGV[3]
if not arrived(ARGV[4], context, log, size_index, mem, newest, older, ARGV[1], ARGV[2], id) then
  return answered({ 'GARBLED' })
end
-- A copy is damaged by its own checksums; of one that was read damaged on its way nothing is wrong here.
local function copy_damaged(key)
  local f = redis.call('HMGET', key, 'v', 'crc', 'sha', 'len', 'at', 'exp', 'seal', 'z', 'zsum')
  return not f[8] or redis.sha1hex(f[8]) ~= f[9] or f[7] ~= seal_of(id, f[1], f[2], f[3], f[4], f[5], f[6])
end
local before = checkpoint_bytes(context)
local entries, copies = 0, 0
for entry_id in string.gmatch(ARGV[2], '%S+') do
  local entry = redis.call('XRANGE', log, entry_id, entry_id)[1]
  if entry and entry_damage(id, entry, entry_fields(entry), sealed == '1') then
    entries = entries + redis.call('XDEL', log, entry_id)
  end
end
if k ~= '-' and copy_damaged(newest) then
  copies = copies + redis.call('UNLINK', newest)
end
if j ~= '-' and copy_damaged(older) then
  copies = copies + redis.call('UNLINK', older)
end
if entries + copies > 0 and redis.call('HGET', context, 'kf') then
  -- the next commit asks for a checkpoint
  redis.call('HSET', context, 'kf', 0)
end
if (redis.call('EXISTS', context) == 1 and not only_intent(context)) or redis.call('ZSCORE', size_index, id) then
  account(id, context, log, size_index, mem, before)
elseif copies > 0 then
  redis.call('HINCRBY', mem, 'checkpoints', checkpoint_bytes(context) - before)
end
return answered({ 'DROPPED', entries, copies })
