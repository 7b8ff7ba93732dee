#!lua
-- transact: several contexts of one shard, written together or not at all, where all that was read of them and others is as it was.
-- KEYS[1] zset    {tag}:exp, id by expiry (ms)
-- KEYS[2] zset    {tag}:use, id by last use (ms)
-- KEYS[3] zset    {tag}:size, id by accounted bytes
-- KEYS[4] hash    {tag}:mem, the shard's accounts
-- KEYS[5..] hash  of each member three: {tag}:c:<id>, its log {tag}:l:<id> (a stream), and {tag}:o:<id>, never there afterwards
-- ARGV[1] string  the list of members (lua/include/members.lua)
-- ARGV[2..] string  the arguments of each, as lua/commit.lua and lua/delete.lua declare them but for the guard; the last is the guard
--                 (lua/include/guard.lua) over KEYS, ARGV[1] and what those two have theirs over
-- Returns: DONE at(ms) and of each that was written: version kind(full|patch|splice|deleted|none) frame(bytes) exp(ms, 0 none) due(1|0)
--   | APPLIED at(ms) and of each version: this transaction was applied before; 0 where that is not known any more | REFUSED member why
--   | why is one of CONFLICT version crc, FENCED fence, LOCKED txn deadline(ms) part home,
--   BASE_MISMATCH version crc chunk, DAMAGED or WRITE_CORRUPT version; inside, steps answer COMMITTED, DELETED and ABSENT
--   | CHECKSUM sha1 length | LATE now(ms) | PENDING wait(ms) | UNCERTAIN version: as in commit.lua | GARBLED: not what was sent
-- Publishes: of each member what lua/commit.lua and lua/delete.lua publish.
-- Atomic because: it is the transaction.
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
local members = read_members(ARGV[1], ARGV, 1, function(i)
  local at = 2 + 3 * i
  return { context = KEYS[at], log = KEYS[at + 1], old = KEYS[at + 2], exp = KEYS[1], use = KEYS[2], size = KEYS[3], mem = KEYS[4] }
end)
if not arrived(ARGV[#ARGV], unpack(guarded_of(KEYS, members, { ARGV[1] }))) then
  return answered({ 'GARBLED' })
end
local now = clock_ms()

-- The versions that an earlier attempt has made: as one of its members has it, it has made them all.
local function applied(known)
  local answer = { 'APPLIED', known[3] or now }
  for _, m in ipairs(members) do
    if m.kind ~= 'expect' then
      local stored = stored_fields(m.w.keys.context)
      local found = stored.op == m.w.op and { 'APPLIED', tonumber(stored.v) }
        or earlier_attempt(m.w.id, m.w.keys.log, m.w.op, now, now - 1, now + 1, stored)
      answer[#answer + 1] = found and found[1] == 'APPLIED' and found[2] or 0
    end
  end
  return answer
end

local at, refused = check_members(members, now)
if refused then
  local status = refused[1]
  if status == 'APPLIED' then
    return answered(applied(refused))
  elseif status == 'LATE' or status == 'PENDING' or status == 'UNCERTAIN' or status == 'CHECKSUM' then
    return answered(refused)
  end
  return answered({ 'REFUSED', at, unpack(refused) })
end
local failed, words = write_members(members, now)
if failed then
  return answered({ 'REFUSED', failed, unpack(words) })
end
return answered({ 'DONE', now, unpack(words) })
