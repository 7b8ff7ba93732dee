#!lua flags=allow-oom
-- finish: the second phase of a transaction over several shards, in one of them: applies what was prepared, or takes the intents back. It may be
--   called by anybody who knows the decision, and as often as they like.
-- KEYS[1] zset    {tag}:exp, id by expiry (ms)
-- KEYS[2] zset    {tag}:use, id by last use (ms)
-- KEYS[3] zset    {tag}:size, id by accounted bytes
-- KEYS[4] hash    {tag}:mem, the shard's accounts
-- KEYS[5] hash    {tag}:t:<txn>.<part>, the record
-- KEYS[6] zset    {tag}:txn, records that are not settled by deadline (ms)
-- ARGV[1] string  {tag}, from which the keys of each context are made
-- ARGV[2] string  words: txn part outcome(commit|abort|forget|drop) keep(ms); forget: every part is finished, so the record of part 0 may
--                 go; drop: what was decided cannot be read any more, and the context that was met is written anew; without one, the record goes once
--                 no context has its intent
-- ARGV[3] string  id of a context that has the intent, or empty
-- ARGV[4] string  the guard over KEYS and ARGV[1] to ARGV[3] (lua/include/guard.lua)
-- Returns: FINISHED at(ms) again(1: it was before | 0) and of each member: id version kind frame(bytes) exp(ms, 0 none) due(1|0), as in lua/transact.lua
--   | ABORTED intents: how many were taken back | NOTHING: there is no such record | DROPPED: nor is there what the intent was for; it was taken back
--   | REFUSED id why: it cannot be applied as it is | why is one of DAMAGED, CHECKSUM sha1 length, BASE_MISMATCH version crc chunk or
--   WRITE_CORRUPT version; what was decided is not refused with CONFLICT, FENCED, LOCKED, LATE, PENDING or UNCERTAIN; inside, steps answer COMMITTED,
--   DELETED, ABSENT and APPLIED | UNREADABLE: the record is damaged
--   | GARBLED: not what was sent
-- Publishes: of each member what lua/commit.lua and lua/delete.lua publish.
-- Atomic because: all of a shard changes at once. The keys of contexts are made from the tag here: the ids stand in the record, and share its hash slot.
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
local record, open_index, tag, met = KEYS[5], KEYS[6], ARGV[1], ARGV[3]
if not arrived(ARGV[4], KEYS[1], KEYS[2], KEYS[3], KEYS[4], record, open_index, tag, ARGV[2], met) then
  return answered({ 'GARBLED' })
end
local KNOWN_MS = 86400000
local txn, part, outcome, keep = string.match(ARGV[2], '^(%S+) (%d+) (%a+) (%d+)$')
local name, now = txn .. '.' .. part, clock_ms()
local mine = '^' .. string.gsub(txn, '%W', '%%%0') .. ' %d+ ' .. part .. ' '

local function keys_of(_, id)
  return { context = tag .. ':c:' .. id, log = tag .. ':l:' .. id, old = tag .. ':o:' .. id, exp = KEYS[1], use = KEYS[2], size = KEYS[3], mem = KEYS[4] }
end

local function take_back(id)
  local keys = keys_of(0, id)
  local intent = redis.call('HGET', keys.context, 'intent')
  if not intent or not string.find(intent, mine) then
    return 0
  end
  redis.call('HDEL', keys.context, 'intent')
  if redis.call('EXISTS', keys.context) == 1 then
    settle(keys.context, #(redis.call('HGET', keys.context, 'chunks') or ''))
    account(id, keys.context, keys.log, keys.size, keys.mem, checkpoint_bytes(keys.context))
  end
  return 1
end

local function forget()
  redis.call('ZREM', open_index, name)
  redis.call('PEXPIRE', record, keep)
end

if outcome == 'forget' then
  forget()
  return answered({ 'NOTHING' })
end
local found, r = redis.call('HGETALL', record), {}
for i = 1, #found, 2 do
  r[found[i]] = found[i + 1]
end
if r.done then
  if met ~= '' then
    take_back(met)
  end
  local answer = { 'FINISHED', tonumber(r.at), 1 }
  for word in string.gmatch(r.done, '%S+') do
    answer[#answer + 1] = word
  end
  return answered(answer)
end
if not r.members then
  if met ~= '' and take_back(met) == 1 then
    return answered({ 'DROPPED' })
  end
  return answered({ 'NOTHING' })
end
local args, count = {}, 0
while r['a' .. (count + 1)] do
  count = count + 1
  args[count] = r['a' .. count]
end
local members = read_members(r.members, args, 0, keys_of)

if outcome == 'drop' then
  if met ~= '' then
    return answered({ take_back(met) == 1 and 'DROPPED' or 'NOTHING' })
  end
  -- where it is not known which contexts they are, it is kept for who meets one, a day long
  local known = string.sub(r.sum or '', -16) == string.sub(members_sum(members, r.members), -16)
  if not known and now < (tonumber(r.deadline or nil) or now) + KNOWN_MS then
    return answered({ 'UNREADABLE' })
  end
  for _, m in ipairs(members) do
    local intent = redis.call('HGET', keys_of(0, m.w.id).context, 'intent')
    if intent and string.find(intent, mine) then
      return answered({ 'UNREADABLE' })
    end
  end
  redis.call('DEL', record)
  redis.call('ZREM', open_index, name)
  return answered({ 'NOTHING' })
end

if outcome == 'abort' and r.state ~= 'committed' then
  local intents = 0
  for _, m in ipairs(members) do
    intents = intents + take_back(m.w.id)
  end
  redis.call('ZREM', open_index, name)
  if part == '0' then
    redis.call('DEL', record)
    redis.call('HSET', record, 'txn', txn, 'state', 'aborted', 'decided', r.decided or now, 'parts', r.parts)
    redis.call('PEXPIRE', record, keep)
  else
    redis.call('DEL', record)
  end
  return answered({ 'ABORTED', intents })
end

if not tonumber(r.at or nil) or r.sum ~= members_sum(members, r.members) then
  return answered({ 'UNREADABLE' })
end
local at, refused = check_members(members, now, tonumber(r.at))
if refused and refused[1] == 'CHECKSUM' then
  return answered({ 'UNREADABLE' })
end
if refused then
  return answered({ 'REFUSED', members[at].w.id, unpack(refused) })
end
local failed, words = write_members(members, now)
if failed then
  return answered({ 'REFUSED', members[failed].w.id, unpack(words) })
end
local answer, done, n = { 'FINISHED', now, 0 }, {}, 0
for _, m in ipairs(members) do
  if m.kind ~= 'expect' then
    if m.absent or m.applied then
      take_back(m.w.id)
    end
    done[#done + 1] = m.w.id
    for i = n + 1, n + 5 do
      done[#done + 1] = tostring(words[i])
    end
    n = n + 5
  end
end
for i = 1, #done do
  answer[#answer + 1] = done[i]
end
redis.call('DEL', record)
redis.call('HSET', record, 'txn', txn, 'at', now, 'done', table.concat(done, ' '))
if part == '0' then
  -- others may still have to ask
  redis.call('HSET', record, 'state', 'committed', 'decided', r.decided or now, 'parts', r.parts, 'deadline', r.deadline)
else
  forget()
end
return answered(answer)
