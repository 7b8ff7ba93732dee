#!lua
-- prepare: the first phase of a transaction over several shards, in one of them: all is checked as for a commit, and kept in a record; each context
--   that is to be written gets the intent to change it. From then on it can be applied whatever happens to who began it, and nothing else changes these contexts.
-- KEYS[1] zset    {tag}:exp, id by expiry (ms)
-- KEYS[2] zset    {tag}:use, id by last use (ms)
-- KEYS[3] zset    {tag}:size, id by accounted bytes
-- KEYS[4] hash    {tag}:mem, the shard's accounts
-- KEYS[5] hash    {tag}:t:<txn>.<part>, the record
-- KEYS[6] zset    {tag}:txn, records that are not settled by deadline (ms)
-- KEYS[7..] hash  of each member three: {tag}:c:<id>, its log {tag}:l:<id> (a stream), and {tag}:o:<id>
-- ARGV[1] string  words: txn part home deadline(ms) by, then of each part its shard
-- ARGV[2] string  the list of members (lua/include/members.lua)
-- ARGV[3..] string  the arguments of each; the last is the guard, as in lua/transact.lua, over ARGV[1] as well
-- Returns: PREPARED at(ms): also where it was before | ABORTED: it was decided so, or its deadline has passed | REFUSED member why
--   | why is one of CONFLICT version crc, FENCED fence, LOCKED txn deadline(ms) part home,
--   BASE_MISMATCH version crc chunk, DAMAGED; inside, steps answer COMMITTED, DELETED and ABSENT
--   and WRITE_CORRUPT, APPLIED, PENDING and UNCERTAIN, which nothing of the first phase is
--   | CHECKSUM sha1 length | LATE now(ms) | GARBLED: not what was sent
-- Publishes: nothing.
-- Atomic because: what was checked must be what is held.
-- @include guard
-- @include clock
-- @include seal
-- @include stored
-- @include intent
-- @include entry
-- @include log
-- @include lost
-- @include retry
-- @include frame
-- @include checkpoint
-- @include account
-- @include remove
-- @include plan
-- @include settle
-- @include fence
-- @include refusals
-- @include writing
-- @include deleting
-- @include expected
-- @include members
local record, open_index = KEYS[5], KEYS[6]
-- long after anybody who is there has ended it
local HELD_MS = 86400000
local members = read_members(ARGV[2], ARGV, 2, function(i)
  local at = 4 + 3 * i
  return { context = KEYS[at], log = KEYS[at + 1], old = KEYS[at + 2], exp = KEYS[1], use = KEYS[2], size = KEYS[3], mem = KEYS[4] }
end)
if not arrived(ARGV[#ARGV], unpack(guarded_of(KEYS, members, { ARGV[1], ARGV[2] }))) then
  return answered({ 'GARBLED' })
end
local txn, part, home, deadline, by, parts = string.match(ARGV[1], '^(%S+) (%d+) (%d+) (%d+) (%S+) (.+)$')
local now = clock_ms()
local known = redis.call('HMGET', record, 'state', 'at', 'done')
if known[1] == 'aborted' then
  return answered({ 'ABORTED' })
elseif known[1] or known[2] or known[3] then
  return answered({ 'PREPARED', tonumber(known[2] or nil) or now })
elseif now > tonumber(deadline) then
  return answered({ 'ABORTED' })
end
local at, refused = check_members(members, now)
if refused then
  local status = refused[1]
  if status == 'LATE' or status == 'CHECKSUM' then
    return answered(refused)
  end
  return answered({ 'REFUSED', at, unpack(refused) })
end
local fields = { 'txn', txn, 'part', part, 'home', home, 'deadline', deadline, 'by', by, 'parts', parts, 'at', now, 'members', ARGV[2],
  'sum', members_sum(members, ARGV[2]) }
for i = 3, #ARGV - 1 do
  fields[#fields + 1] = 'a' .. (i - 2)
  fields[#fields + 1] = ARGV[i]
end
redis.call('HSET', record, unpack(fields))
redis.call('ZADD', open_index, deadline, txn .. '.' .. part)
for _, m in ipairs(members) do
  if m.kind ~= 'expect' then
    redis.call('HSET', m.w.keys.context, 'intent', txn .. ' ' .. deadline .. ' ' .. part .. ' ' .. home)
    -- Redis removes by itself what no sweep has: not with an intent that holds others off
    redis.call('PEXPIREAT', m.w.keys.context, tonumber(deadline) + HELD_MS, 'GT')
  end
end
return answered({ 'PREPARED', now })
