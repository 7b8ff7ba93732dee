#!lua flags=allow-oom
-- totals: holds a shard's totals against the sum of its accounts, and mends what differs.
-- KEYS[1] zset    {tag}:size, id by accounted bytes
-- KEYS[2] hash    {tag}:mem, the shard's accounts
-- KEYS[3..] hash  checkpoints and quarantined contexts, all there are
-- ARGV[1] string  words: bytes contexts checkpoints quarantined quarantine(bytes), as the hash showed them before these keys were looked for
-- ARGV[2] string  words: bytes contexts, summed up outside where the shard has more than are summed here, or -
-- ARGV[3] number  contexts that are summed here at most
-- ARGV[4] number  how many of KEYS[3..] are checkpoints, which come first; -1: they were too many to be given
-- ARGV[5] string  the guard over KEYS and ARGV[1] to ARGV[4] (lua/include/guard.lua)
-- Returns: TOTALS mended(how many totals were wrong) unsettled(how many could not be judged: accounts changed meanwhile)
--   | GARBLED: not what was sent
-- Publishes: nothing.
-- Atomic because: a sum means something only while nothing changes. Where it was formed over several calls it counts only if the totals are
--   what they were before.
-- @include guard
local size_index, mem = KEYS[1], KEYS[2]
local sent = {}
for i = 1, #KEYS do
  sent[i] = KEYS[i]
end
sent[#sent + 1], sent[#sent + 2], sent[#sent + 3], sent[#sent + 4] = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if not arrived(ARGV[5], unpack(sent)) then
  return answered({ 'GARBLED' })
end
local names = { 'bytes', 'contexts', 'checkpoints', 'quarantined', 'quarantine' }
local stored = redis.call('HMGET', mem, unpack(names))
local before = { string.match(ARGV[1], '^(%S+) (%S+) (%S+) (%S+) (%S+)$') }
local mended, unsettled = 0, 0

local function mend(at, is)
  if tonumber(stored[at] or 0) ~= is then
    redis.call('HSET', mem, names[at], string.format('%d', is))
    mended = mended + 1
  end
end
local function settled(at)
  if (stored[at] or '-') == before[at] then
    return true
  end
  unsettled = unsettled + 1
  return false
end

if redis.call('ZCARD', size_index) <= tonumber(ARGV[3]) then
  local list, sum = redis.call('ZRANGE', size_index, 0, -1, 'WITHSCORES'), 0
  for i = 2, #list, 2 do
    sum = sum + tonumber(list[i])
  end
  mend(1, sum)
  mend(2, #list / 2)
elseif ARGV[2] == '-' or stored[1] ~= before[1] or stored[2] ~= before[2] then
  unsettled = unsettled + 2
else
  local bytes, contexts = string.match(ARGV[2], '^(%S+) (%S+)$')
  mend(1, tonumber(bytes))
  mend(2, tonumber(contexts))
end

local copies = tonumber(ARGV[4])
if copies < 0 then
  unsettled = unsettled + 3
else
  if settled(3) then
    local bytes = 0
    for i = 3, 2 + copies do
      bytes = bytes + (redis.call('MEMORY', 'USAGE', KEYS[i], 'SAMPLES', 0) or 0)
    end
    mend(3, bytes)
  end
  if settled(4) and settled(5) then
    local there, bytes = 0, 0
    for i = 3 + copies, #KEYS do
      there = there + redis.call('EXISTS', KEYS[i])
      bytes = bytes + (redis.call('MEMORY', 'USAGE', KEYS[i], 'SAMPLES', 0) or 0)
    end
    mend(4, there)
    mend(5, bytes)
  end
end
return answered({ 'TOTALS', mended, unsettled })
