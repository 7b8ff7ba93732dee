#!lua
-- commit: writes one context: verified, versioned, logged, accounted and published by one script, or not at all.
-- KEYS[1] hash    {tag}:c:<id>, the context
-- KEYS[2] stream  {tag}:l:<id>, its delta log
-- KEYS[3] zset    {tag}:exp, id by expiry (ms)
-- KEYS[4] zset    {tag}:use, id by last use (ms)
-- KEYS[5] zset    {tag}:size, id by accounted bytes
-- KEYS[6] hash    {tag}:mem, the shard's accounts
-- KEYS[7] hash    {tag}:o:<id>, where a large context's old bytes wait until the new ones were read back; never there afterwards
-- ARGV[1] string  the document, exact bytes; with a plan what the plan takes inserted bytes from, or empty
-- ARGV[2] string  payload of the frame from the base named in the header to the document; empty: ARGV[1] is that
-- ARGV[3] string  header, words: op by ifVersion|- ifCrc|- baseVersion baseCrc|- baseSha|- sha1 crc length(bytes)
--                 ttl(ms)|keep|none till(ms) previousTill(ms) firstSent(ms) fence kind(full|patch|splice) encoding(-|gz|br)
--                 logKeep(entries) logBytes(bytes) keyframe(versions) tombstone(ms) grace(ms) publishCommand protocol(1|2) sealed(1|0)
-- ARGV[4] string  id
-- ARGV[5] string  channel
-- ARGV[6] string  plan, how the chunks are made (lua/include/plan.lua), or empty: the document is one field, from ARGV[1]
-- ARGV[7..] string  chunks, where the plan names them; the last is the guard (lua/include/guard.lua) over KEYS, the frame's payload and ARGV[3] to ARGV[6]
-- Returns: COMMITTED version at(ms) kind frame(bytes) exp(ms, 0 none) accounted(bytes) due(1: a checkpoint is wanted | 0) | APPLIED version at(ms) crc: this operation did it
--   before | CONFLICT version crc: the current ones | FENCED fence | LOCKED txn deadline(ms) | CHECKSUM sha1 length: as they arrived
--   | BASE_MISMATCH version crc chunk: a plan that builds on other bytes than are stored; chunk names the stored one that is damaged
--   (chunks or len: their list or its length is), or - | DAMAGED: the stored fields do not have their seal, or all of it is lost | GARBLED: not what was sent
--   | WRITE_CORRUPT version: the old bytes are back | LATE now(ms): this attempt came after its time | PENDING wait(ms): an
--   earlier attempt may still arrive | UNCERTAIN version: the log no longer reaches back to the first attempt
-- Publishes: one frame on the channel (a document above 4 KB as further messages that follow its header); before it an `expired` frame
--   where an expired context was still there.
-- Atomic because: version check, bytes, log, indexes, accounts and frame must agree whatever else runs; a script's error does not
--   undo its writes, so every refusal stands before the first of them.
-- @include guard
-- @include clock
-- @include seal
-- @include stored
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
local context, log, exp_index, use_index, size_index, mem, old = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local data, payload, id, channel, plan = ARGV[1], ARGV[2], ARGV[4], ARGV[5], ARGV[6]
local op, by, if_version, if_crc, base_version, base_crc, base_sha, sha, crc, length, ttl, till, prev, sent, fence, kind, encoding, log_keep,
  log_bytes, keyframe, tombstone, grace, publish, protocol, sealed = string.match(ARGV[3], '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)'
  .. ' (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
local INLINE = 4096

-- what is not a document and is published as it came has no other checksum
local framed = (payload == '' and kind ~= 'full') and data or payload
if not arrived(ARGV[#ARGV], context, log, exp_index, use_index, size_index, mem, old, framed, ARGV[3], id, channel, plan) then
  return answered({ 'GARBLED' })
end

-- 1. what is there, and whether it is what was written
local now = clock_ms()
local stored = stored_fields(context)
if fields_damaged(id, stored, sealed == '1')
  or (not stored.v and is_lost(log, tonumber(redis.call('ZSCORE', exp_index, id) or nil), now)) then
  return answered({ 'DAMAGED' })
end
local stored_version, stored_exp = tonumber(stored.v), tonumber(stored.exp)
local live = stored_version ~= nil and not (stored_exp and stored_exp <= now)
local version = live and stored_version or 0

-- 2. applied already?
if stored.op == op then
  return answered({ 'APPLIED', stored_version, tonumber(stored.at), stored.crc })
end
if prev ~= '0' then
  local answer = earlier_attempt(id, log, op, now, tonumber(prev), tonumber(sent), stored)
  if answer then
    return answered(answer)
  end
end
if now > tonumber(till) then
  return answered({ 'LATE', now })
end

-- 3. refused by version, fence or intent?
if if_version ~= '-' and (tonumber(if_version) ~= version or (if_crc ~= '-' and if_crc ~= stored.crc)) then
  return answered({ 'CONFLICT', version, live and stored.crc or '-' })
end
local newer = fenced_by(context, fence, stored.fence, now)
if newer then
  return answered({ 'FENCED', newer })
end
if stored.intent then
  local txn, deadline = string.match(stored.intent, '^(%S+) (%d+)$')
  if txn and tonumber(deadline) > now then
    return answered({ 'LOCKED', txn, tonumber(deadline) })
  end
end

-- 4. and 5. the new bytes, as sent or built from the stored ones, must be what the client hashed
local bytes = tonumber(length)
local in_place = base_sha ~= '-'
if in_place and (not live or base_sha ~= stored.sha or tonumber(base_version) ~= version or base_crc ~= stored.crc) then
  return answered({ 'BASE_MISMATCH', version, live and stored.crc or '-', '-' })
end
local manifest = in_place and (stored.chunks or '') or nil
local built
if plan == '' then
  local found = redis.sha1hex(data)
  if found ~= sha or bytes ~= #data then
    return answered({ 'CHECKSUM', found, #data })
  end
else
  local why, sources
  built, why, sources = run_plan(context, plan, manifest)
  -- chunks that the plan does not name stay as they are
  local found = built and built.grown + ((in_place and stored.chunks and not built.whole) and tonumber(stored.len) or 0) or 0
  if not built or built.sha ~= sha or found ~= bytes then
    -- what does not fit is what is stored, or what arrived
    local damaged = in_place and damaged_part(sources, manifest, base_sha, stored.len)
    if damaged then
      return answered({ 'BASE_MISMATCH', version, stored.crc, damaged })
    end
    return answered({ 'CHECKSUM', why or built.sha, found })
  end
  if built.whole then
    data = built.whole
  end
end
local chunked = built ~= nil and built.manifest ~= nil

-- 6. memory limits take their place here: the accounts below are what they will be measured against

-- 7. what is to be written; the first writes follow
local exp = stored_exp
if ttl == 'none' then
  exp = nil
elseif ttl ~= 'keep' then
  exp = expiry_of(now, ttl)
elseif not live then
  exp = nil
end
if stored_version and not live then
  local keys = { context = context, log = log, exp = exp_index, use = use_index, size = size_index, mem = mem }
  remove_context(keys, id, stored_version, 'expired', now, '-', by, tombstone, protocol)
  redis.call(publish, channel, removal_frame(protocol, 'expired', stored_version, stored_version, stored.crc or '-', now, '-', by))
end
local next_version = (stored_version or log_last_version(log)) + 1
local before_crc = live and stored.crc or '-'
if kind ~= 'full' and payload == '' then
  payload = ARGV[1]
end
if kind ~= 'full' and not (live and #payload < bytes and tonumber(base_version) == version and base_crc == stored.crc) then
  kind, payload, encoding = 'full', '', '-'
end
local whole = kind == 'full' and payload == ''
if whole then
  encoding = '-'
  payload = chunked and '' or data
end
-- The log gets what is published, but a whole document now and then so that deltas can be replayed from it, and no other whole document that
-- would fill it: of those it keeps the entry, without the bytes. A document in chunks is never in it: a client keeps a checkpoint beside it.
local logged_kind, logged, logged_encoding = kind, payload, encoding
local key_version = tonumber(stored.kf) or 0
if not live or key_version < 1 or key_version > version then
  key_version = 0
end
local due = key_version == 0 or next_version - key_version >= tonumber(keyframe)
if kind ~= 'full' then
  if due and not chunked then
    logged_kind, logged, logged_encoding, key_version = 'full', data, '-', next_version
  end
elseif not (chunked and (whole or encoding == '-')) and 8 * #payload <= tonumber(log_bytes) then
  key_version = next_version
else
  logged, logged_encoding, key_version = '', '-', 0
end
local kept = log_keep + keyframe
-- Should Redis give back other bytes than it was given, the old ones must still be there: large ones are kept aside by name, which costs
-- the same whatever their length; small ones and single chunks by value, which costs less.
local aside = live and not in_place and (bytes > INLINE or chunked or stored.chunks ~= false)
local before = {}
if aside then
  redis.call('RENAME', context, old)
elseif live then
  local names = built and built.names or { 'data' }
  for i = 1, #names do
    before[i] = { names[i], built and built.sources[names[i]] or redis.call('HGET', context, names[i]) }
  end
end
local function has_new_fields(values)
  for i = 1, #values do
    if not values[i][2] then
      return true
    end
  end
  return false
end
local function restore()
  for i = 1, #before do
    if before[i][2] then
      redis.call('HSET', context, before[i][1], before[i][2])
    else
      redis.call('HDEL', context, before[i][1])
    end
  end
  if not live or aside then
    redis.call('DEL', context)
  end
  if aside then
    redis.call('RENAME', old, context)
  end
end
local writes = built and built.writes or { 'data', data }
if #writes > 0 then
  redis.call('HSET', context, unpack(writes))
end
local written = {}
for i = 1, #writes, 2 do
  written[writes[i]] = writes[i + 1]
  if redis.call('HGET', context, writes[i]) ~= writes[i + 1] then
    restore()
    return answered({ 'WRITE_CORRUPT', version })
  end
end
-- the log comes after the bytes: an entry that is taken back leaves its id used, and the next commit could not have it
local function log_entry()
  local entry = next_version .. '-0'
  local fields = { 'kind', logged_kind, 'frame', logged, 'base', before_crc, 'crc', crc, 'sha', sha, 'len', bytes, 'op', op, 'by', by, 'at', now,
    'exp', exp or '-' }
  if protocol == '2' then
    -- a whole document as it is has its own checksum in the entry
    local body = (logged_kind == 'full' and logged_encoding == '-') and '' or logged
    fields[#fields + 1] = 'sum'
    fields[#fields + 1] = entry_sum(id, entry, logged_kind, logged_encoding, before_crc, crc, sha, bytes, now, exp, op, by, body)
  end
  if logged_encoding ~= '-' then
    fields[#fields + 1] = 'enc'
    fields[#fields + 1] = logged_encoding
  end
  return redis.pcall('XADD', log, 'MAXLEN', '~', kept, entry, unpack(fields))
end
local logged_at = log_entry()
if type(logged_at) == 'table' and logged_at.err then
  if in_place then
    -- its version is not the one after the base's: what is published then is the whole document, which is not here
    restore()
    return answered({ 'BASE_MISMATCH', version, stored.crc, '-' })
  end
  -- the log is ahead of the context: versions go on from the log
  local reached, last = pcall(log_last_version, log)
  if reached then
    next_version = last + 1
    kind, whole, encoding = 'full', true, '-'
    payload = chunked and '' or data
    logged_kind, logged, logged_encoding, key_version = 'full', payload, '-', chunked and 0 or next_version
    logged_at = log_entry()
  end
  if type(logged_at) == 'table' and logged_at.err then
    restore()
    return logged_at
  end
end
if protocol == '2' then
  redis.call('HSET', context, 'v', next_version, 'crc', crc, 'sha', sha, 'len', bytes, 'at', now, 'by', by, 'op', op, 'kf', key_version,
    'seal', seal_of(id, next_version, crc, sha, bytes, now, exp))
else
  redis.call('HSET', context, 'v', next_version, 'crc', crc, 'sha', sha, 'len', bytes, 'at', now, 'by', by, 'op', op, 'kf', key_version)
  if stored.seal and not aside then
    redis.call('HDEL', context, 'seal')
  end
end
if stored.q and not aside then
  redis.call('HDEL', context, 'q')
end
if chunked then
  redis.call('HSET', context, 'chunks', built.manifest)
elseif in_place and stored.chunks then
  redis.call('HDEL', context, 'chunks')
end
if built and #built.removed > 0 then
  redis.call('HDEL', context, unpack(built.removed))
end
if aside then
  -- what instances that predict have said of it (lua/include/fit.lua) is not the document's
  local need = redis.call('HGET', old, 'need')
  if need then
    redis.call('HSET', context, 'need', need)
  end
  redis.call('UNLINK', old)
end
if fence ~= '0' then
  redis.call('HSET', context, 'fence', fence)
elseif aside and stored.fence then
  redis.call('HSET', context, 'fence', stored.fence)
end

-- 8. indexes, accounts, subscribers
local changed = exp ~= stored_exp or not live
if exp and (changed or aside) then
  redis.call('HSET', context, 'exp', exp)
  redis.call('PEXPIREAT', context, exp + grace)
end
if exp and changed then
  redis.call('ZADD', exp_index, exp, id)
  redis.call('PEXPIREAT', log, exp + tombstone)
elseif changed then
  redis.call('HDEL', context, 'exp')
  redis.call('ZREM', exp_index, id)
  redis.call('PERSIST', context)
  redis.call('PERSIST', log)
end
local reshaped = aside or not live or has_new_fields(before) or (built and #built.removed > 0) or (exp == nil) ~= (stored_exp == nil)
  or (fence ~= '0' and not stored.fence) or (protocol == '2') ~= (stored.seal ~= false)
-- a table that was larger once may shrink with any field that goes; a new one without chunks has little to move
if reshaped and (chunked or stored.chunks or stored.q or not (aside or not live)) then
  settle(context, math.max(chunked and #built.manifest or 0, stored.chunks and #stored.chunks or 0))
elseif aside or not live then
  redis.call('HMGET', context, 'v', 'crc', 'sha', 'len', 'at', 'by', 'op', 'kf')
end
local kept_aside = 0
if not live then
  -- copies of a context that was lost may still be there
  local left = checkpoint_bytes(context)
  if left > 0 then
    redis.call('DEL', checkpoint_keys(context))
    redis.call('HINCRBY', mem, 'checkpoints', -left)
  end
else
  kept_aside = checkpoint_bytes(context)
  if kept_aside > 0 and changed then
    local newest, older = checkpoint_keys(context)
    for _, key in ipairs({ newest, older }) do
      if exp then
        redis.call('PEXPIREAT', key, exp + tombstone)
      else
        redis.call('PERSIST', key)
      end
    end
  end
end
-- two whole documents that deltas build on, and as much again; of a chunked one they stand beside the log
local log_limit = chunked and tonumber(log_bytes) or math.max(tonumber(log_bytes), 3 * bytes)
local log_used = redis.call('MEMORY', 'USAGE', log, 'SAMPLES', 0)
while log_used > log_limit and kept > 1 do
  kept = math.max(1, math.floor(math.min(kept, redis.call('XLEN', log)) / 2))
  redis.call('XTRIM', log, 'MAXLEN', kept)
  log_used = redis.call('MEMORY', 'USAGE', log, 'SAMPLES', 0)
  if key_version ~= 0 and key_version <= next_version - kept then
    key_version = 0
    redis.call('HSET', context, 'kf', 0)
  end
end
due = key_version == 0 or next_version - key_version >= tonumber(keyframe)
local used = redis.call('MEMORY', 'USAGE', context, 'SAMPLES', 0) + log_used + kept_aside
account_bytes(id, used, size_index, mem)
-- to the second: of several commits within one, the first counts
if not live or math.floor(now / 1000) ~= math.floor((tonumber(stored.at) or 0) / 1000) then
  redis.call('ZADD', use_index, now, id)
end
local parts, texts = 0, {}
if whole and chunked then
  for name in string.gmatch(built.manifest, '(%S+) %d+ %x+\n') do
    -- one that is missing makes a document without its checksum, which subscribers refuse
    texts[#texts + 1] = written[name] or redis.call('HGET', context, name) or ''
  end
  parts = #texts
elseif #payload > INLINE and (protocol == '2' or kind == 'full') then
  parts = 1
end
local header = frame_header({ protocol = protocol, kind = kind, encoding = encoding, parts = parts, version = next_version, crc = crc, sha = sha,
  length = bytes, base = next_version - 1, base_crc = before_crc, at = now, exp = exp or '-', op = op, by = by })
if parts == 0 then
  redis.call(publish, channel, header .. payload)
else
  -- joining a large payload to its header would copy it, and cost Redis more than hashing it
  redis.call(publish, channel, header)
  if whole and chunked then
    for i = 1, #texts do
      redis.call(publish, channel, texts[i])
    end
  else
    redis.call(publish, channel, payload)
  end
end
return answered({ 'COMMITTED', next_version, now, kind, whole and bytes or #payload, exp or 0, used, due and 1 or 0 })
