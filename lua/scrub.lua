#!lua flags=no-writes
-- scrub: verifies contexts at rest with their logs and checkpoints, a bounded piece a call: no document leaves Redis.
-- KEYS[*] hash    {tag}:c:<id>, the contexts
-- ARGV[1] number  bytes to hash at most; what cannot be hashed in parts is hashed whole
-- ARGV[2] string  where to go on in the first context, as the last call answered, or -
-- ARGV[3] number  1 where every context and log entry of the namespace carries a seal, so that a missing one is damage
-- ARGV[4] string  the guard over KEYS and ARGV[1] to ARGV[3] (lua/include/guard.lua)
-- Returns: SCRUBBED next(the key to go on with, 0 none) place(in that) checked(contexts finished) bytes(hashed) quarantined(of the checked)
--   id what id what ...: each damage found | GARBLED: not what was sent
-- Publishes: nothing.
-- Atomic because: checksums, bytes and log must be of one moment. A context that changed between two calls is begun anew. Log and
--   checkpoints are made from the context's key, in its hash slot.
-- @include guard
-- @include clock
-- @include checkpoint
-- @include seal
-- @include entry
-- @include document
-- @include placeholder
local budget, place, sealed = tonumber(ARGV[1]), ARGV[2], ARGV[3] == '1'
-- what a context and an entry cost beside their bytes, in bytes hashed in that time
local PER_CONTEXT, PER_ENTRY = 8192, 1024
local sent = {}
for i = 1, #KEYS do
  sent[i] = KEYS[i]
end
sent[#sent + 1], sent[#sent + 2], sent[#sent + 3] = ARGV[1], ARGV[2], ARGV[3]
if not arrived(ARGV[4], unpack(sent)) then
  return answered({ 'GARBLED' })
end
local now = clock_ms()
local spent, bytes, checked, quarantined = 0, 0, 0, 0
local answer = { 'SCRUBBED', 0, '-', 0, 0, 0 }

local function spend(count)
  bytes, spent = bytes + count, spent + count
  return spent < budget
end

local function fields(key)
  local names = { 'v', 'crc', 'sha', 'len', 'at', 'exp', 'seal', 'chunks', 'q', 'zsum' }
  local found, f = redis.call('HMGET', key, unpack(names)), {}
  for i = 1, #names do
    f[names[i]] = found[i]
  end
  return f
end

local function wrong_seal(id, f)
  if f.seal then
    return f.seal ~= seal_of(id, f.v, f.crc, f.sha, f.len, f.at, f.exp) and 'seal' or nil
  end
  return sealed and 'no seal' or nil
end

local function check_entry(id, entry)
  local e = entry_fields(entry)
  spend(#(e.frame or ''))
  spent = spent + PER_ENTRY
  local what = entry_damage(id, entry, e, sealed)
  return what and ('log ' .. entry[1] .. ' ' .. what) or nil
end

local function check_log(key, id, f, from)
  if from == '-' then
    local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
    if not last then
      return 'no log'
    end
    local e = {}
    for i = 1, #last[2], 2 do
      e[last[2][i]] = last[2][i + 1]
    end
    -- a version can have further entries, <version>-1 and so on: those of its repair
    if string.match(last[1], '^(%d+)-') ~= f.v or e.crc ~= f.crc or e.sha ~= f.sha then
      return 'log ends at ' .. last[1]
    end
  end
  while true do
    local entries = redis.call('XRANGE', key, from, '+', 'COUNT', 8)
    for i = 1, #entries do
      local what = check_entry(id, entries[i])
      if what then
        return what
      end
      from = '(' .. entries[i][1]
      if spent >= budget then
        return nil, from
      end
    end
    if #entries < 8 then
      return nil
    end
  end
end

local function check_copy(key, id, name)
  local f = fields(key)
  if not f.v and not f.sha and redis.call('EXISTS', key) == 0 then
    return nil
  end
  local z = redis.call('HGET', key, 'z')
  if not z or not f.zsum then
    return 'checkpoint ' .. name .. ' incomplete'
  end
  spend(#z)
  if redis.sha1hex(z) ~= f.zsum then
    return 'checkpoint ' .. name .. ' sha1'
  end
  if f.seal ~= seal_of(id, f.v, f.crc, f.sha, f.len, f.at, f.exp) then
    return 'checkpoint ' .. name .. ' seal'
  end
  return nil
end

-- Answers the place to go on at, or nil where the context is done.
local function check_context(key, started)
  local id = string.match(key, '}:c:(.*)$')
  local f = fields(key)
  local function found(what)
    if what then
      answer[#answer + 1] = id
      answer[#answer + 1] = what
    end
  end
  if not f.v and not f.sha and (redis.call('EXISTS', key) == 0 or only_intent(key)) then
    return nil
  end
  if f.q then
    quarantined = quarantined + 1
    return nil
  end
  -- hashed: a damaged checksum can hold any byte, and this one travels as text
  local mark, part, at = redis.sha1hex(tostring(f.v) .. ' ' .. tostring(f.sha)), nil, nil
  if string.sub(started, 1, #mark) == mark then
    part, at = string.match(string.sub(started, #mark + 1), '^ (%a) (%S+)$')
  end
  if not part then
    part, at = 'd', '1'
    spent = spent + PER_CONTEXT
    local what = wrong_seal(id, f)
    found(what)
    -- what has expired in truth is the sweep's; what says so under a wrong seal is looked at all the same
    if not what and f.exp and tonumber(f.exp) and tonumber(f.exp) <= now then
      return nil
    end
  end
  if part == 'd' then
    local what, go_on = check_document(key, f, tonumber(at), spend)
    found(what)
    if go_on then
      return mark .. ' d ' .. go_on
    end
    part, at = 'l', '-'
  end
  if part == 'l' then
    if spent >= budget then
      return mark .. ' l ' .. at
    end
    local what, go_on = check_log(string.gsub(key, '}:c:', '}:l:', 1), id, f, at)
    found(what)
    if go_on then
      return mark .. ' l ' .. go_on
    end
    part = 'k'
  end
  local newest, older = checkpoint_keys(key)
  if part == 'k' then
    if spent >= budget then
      return mark .. ' k -'
    end
    found(check_copy(newest, id, 'k'))
  end
  if spent >= budget and part ~= 'j' then
    return mark .. ' j -'
  end
  found(check_copy(older, id, 'j'))
  return nil
end

for i = 1, #KEYS do
  local go_on
  if i == 1 or spent < budget then
    go_on = check_context(KEYS[i], i == 1 and place or '-')
  else
    go_on = '-'
  end
  if go_on then
    answer[2], answer[3] = i, go_on
    break
  end
  checked = checked + 1
end
answer[4], answer[5], answer[6] = checked, bytes, quarantined
return answered(answer)
