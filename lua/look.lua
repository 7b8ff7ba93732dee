#!lua flags=no-writes
-- look: all that is stored of a context, of one moment, under one check: what is said to be damaged must not have been damaged on its way.
-- KEYS[1] hash    {tag}:c:<id>, the context
-- KEYS[2] stream  {tag}:l:<id>, its delta log
-- KEYS[3] hash    {tag}:k:<id>, the newest checkpoint
-- KEYS[4] hash    {tag}:j:<id>, the one before
-- KEYS[5] hash    {tag}:q:<id>, the quarantined
-- KEYS[6] zset    {tag}:exp, id by expiry (ms)
-- ARGV[1] string  id
-- ARGV[2] string  the guard over KEYS and ARGV[1] (lua/include/guard.lua)
-- Returns: STORED now(ms) due(ms by the index, or empty) lost(1|0) then four times, for context, checkpoints and quarantined: fields(n) name value ...
--   then entries(n) and of each: id fields(n) name value ... | GARBLED: not what was sent
-- Publishes: nothing.
-- Atomic because: document, log and copies are held against each other.
-- @include guard
-- @include clock
-- @include log
-- @include lost
local context, log, newest, older, aside, exp_index = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local id = ARGV[1]
if not arrived(ARGV[2], context, log, newest, older, aside, exp_index, id) then
  return answered({ 'GARBLED' })
end
local now = clock_ms()
local due = redis.call('ZSCORE', exp_index, id)
local lost = redis.call('EXISTS', context) == 0 and is_lost(log, tonumber(due or nil), now)
local answer = { 'STORED', now, due and string.format('%.0f', due) or '', lost and 1 or 0 }
local function add(list)
  answer[#answer + 1] = #list / 2
  for i = 1, #list do
    answer[#answer + 1] = list[i]
  end
end
for _, key in ipairs({ context, newest, older, aside }) do
  add(redis.call('HGETALL', key))
end
local entries = redis.call('XRANGE', log, '-', '+')
answer[#answer + 1] = #entries
for i = 1, #entries do
  answer[#answer + 1] = entries[i][1]
  add(entries[i][2])
end
return answered(answer)
