#!lua flags=allow-oom
-- expire: takes expired contexts out of a shard, each with a tombstone and an `expired` frame: as many as its time allows, 2 ms by Redis's clock.
-- KEYS[1] zset    {tag}:exp, id by expiry (ms)
-- KEYS[2] zset    {tag}:use, id by last use (ms)
-- KEYS[3] zset    {tag}:size, id by accounted bytes
-- KEYS[4] hash    {tag}:mem, the shard's accounts
-- KEYS[5] zset    {tag}:skip, ids of damaged contexts by the time when they are looked at again (ms)
-- ARGV[1] string  {tag}, from which the keys of each context are made
-- ARGV[2] string  words: contexts at most, and the rank in KEYS[1] to begin at: 0, or where the call before ended
-- ARGV[3] string  settings, words: tombstone(ms) publishCommand by protocol sealed(1|0)
-- ARGV[4] string  the guard over KEYS and ARGV[1] to ARGV[3] (lua/include/guard.lua)
-- Returns: EXPIRED more(others are due: 1 or 0) next(ms, the earliest expiry that was not passed over, 0 none) rank(to go on at)
--   damaged(how many) id ... then id version late(ms since it expired) id version late ... | GARBLED: not what was sent.
--   Damaged ones, whose expiry cannot be believed, stay as they are, their place in KEYS[1] too, which a repair needs. They are passed over,
--   and told once a minute.
-- Publishes: one `expired` frame a context, with its last version.
-- Atomic because: a context that was given a new expiry a moment ago must not be removed, and what is removed must go from every
--   index together. The keys of contexts are made from the tag here: the ids are only known inside, and all share its hash slot.
-- @include guard
-- @include clock
-- @include seal
-- @include stored
-- @include log
-- @include frame
-- @include checkpoint
-- @include remove
local exp_index, use_index, size_index, mem, skip = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local tag = ARGV[1]
local tombstone, publish, by, protocol, sealed = string.match(ARGV[3], '^(%S+) (%S+) (%S+) (%S+) (%S+)$')
local AGAIN_MS, BUDGET_US, PAGE = 60000, 2000, 50
if not arrived(ARGV[4], exp_index, use_index, size_index, mem, skip, tag, ARGV[2], ARGV[3]) then
  return answered({ 'GARBLED' })
end
local limit, rank = string.match(ARGV[2], '^(%d+) (%d+)$')
limit, rank = tonumber(limit), tonumber(rank)

local function clock_us()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000000 + tonumber(t[2])
end

local begun = clock_us()
local now = math.floor(begun / 1000)
local damaged, gone, looked, more = {}, {}, 0, 0

-- Those of a list that are not to be looked at yet.
local marked = redis.call('EXISTS', skip) == 1
if marked then
  local over = redis.call('ZRANGEBYSCORE', skip, '-inf', now, 'LIMIT', 0, PAGE)
  if #over > 0 then
    redis.call('ZREM', skip, unpack(over))
  end
end
local function skipped(ids)
  local found = {}
  local marks = marked and redis.call('ZMSCORE', skip, unpack(ids)) or {}
  for i = 1, #ids do
    found[i] = marks[i] and tonumber(marks[i]) > now or false
  end
  return found
end

-- Takes one out; whether it stays where it is in the index.
local function take(id, due)
  local keys = { context = tag .. ':c:' .. id, log = tag .. ':l:' .. id, exp = exp_index, use = use_index, size = size_index, mem = mem }
  local stored = stored_fields(keys.context)
  local exp = tonumber(stored.exp)
  if fields_damaged(id, stored, sealed == '1') then
    redis.call('ZADD', skip, now + AGAIN_MS, id)
    damaged[#damaged + 1] = id
    return true
  end
  if stored.intent and (not stored.v or (exp and exp <= now)) then
    -- what a transaction will make of it is not known yet
    return true
  end
  if stored.v and not (exp and exp <= now) then
    -- the index is behind the context, which is what counts
    if exp then
      redis.call('ZADD', exp_index, exp, id)
    else
      redis.call('ZREM', exp_index, id)
    end
    return false
  end
  local version = math.max(tonumber(stored.v) or 0, log_last_version(keys.log))
  remove_context(keys, id, version, 'expired', now, '-', by, tombstone, protocol)
  redis.call(publish, tag .. ':ch:' .. id, removal_frame(protocol, 'expired', version, version, stored.crc or '-', now, '-', by))
  gone[#gone + 1] = id
  gone[#gone + 1] = version
  gone[#gone + 1] = math.max(0, now - (exp or due))
  return false
end

repeat
  local page = redis.call('ZRANGE', exp_index, rank, rank + PAGE - 1, 'WITHSCORES')
  local ids, due = {}, {}
  for i = 1, #page, 2 do
    if tonumber(page[i + 1]) > now then
      break
    end
    ids[#ids + 1], due[#due + 1] = page[i], tonumber(page[i + 1])
  end
  local passed = #ids > 0 and skipped(ids) or {}
  for i = 1, #ids do
    -- one at least in each call, or it would never end
    if looked == limit or (looked > 0 and clock_us() - begun >= BUDGET_US) then
      more = 1
      break
    end
    if passed[i] then
      rank = rank + 1
    else
      looked = looked + 1
      if take(ids[i], due[i]) then
        rank = rank + 1
      end
    end
  end
  if more == 0 and #ids == PAGE and clock_us() - begun >= BUDGET_US then
    more = 1
  end
until more == 1 or #ids < PAGE

if #damaged > 0 then
  -- once nothing is damaged any more the whole of it goes by itself
  redis.call('PEXPIRE', skip, 2 * AGAIN_MS)
end
local earliest = redis.call('ZRANGE', exp_index, rank, rank, 'WITHSCORES')
local answer = { 'EXPIRED', more, tonumber(earliest[2] or 0), rank, #damaged }
for i = 1, #damaged do
  answer[#answer + 1] = damaged[i]
end
for i = 1, #gone do
  answer[#answer + 1] = gone[i]
end
return answered(answer)
