-- writing: one commit in steps, so that one script may take several together, each checked before any is written. Needs clock, seal, stored, intent,
--   entry, log, lost, retry, frame, checkpoint, account, remove, plan, settle, fence and refusals. A request `w` is made of the keys and arguments that lua/commit.lua declares.
local INLINE = 4096

local function commit_request(keys, args)
  local op, by, if_version, if_crc, base_version, base_crc, base_sha, sha, crc, length, ttl, till, prev, sent, fence, kind, encoding, log_keep, log_bytes,
    keyframe, tombstone, grace, publish, protocol, sealed = string.match(args[3], '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)'
    .. ' (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
  -- all that is ever in it is named here: a table that grows is laid out anew each time
  return { keys = keys, args = args, data = args[1], payload = args[2], id = args[4], channel = args[5], plan = args[6], op = op, by = by,
    if_version = if_version, if_crc = if_crc, base_version = base_version, base_crc = base_crc, base_sha = base_sha, sha = sha, crc = crc,
    length = length, ttl = ttl, till = till, prev = prev, sent = sent, fence = fence, kind = kind, encoding = encoding, log_keep = log_keep,
    log_bytes = log_bytes, keyframe = keyframe, tombstone = tombstone, grace = grace, publish = publish, protocol = protocol, sealed = sealed,
    -- what is not a document and is published as it came has no other checksum
    framed = (args[2] == '' and kind ~= 'full') and args[1] or args[2],
    stored = false, live = false, version = 0, in_place = false, built = false, bytes = 0, chunked = false, aside = false, before = false,
    written = false, restore = false }
end

-- Steps 1 to 5: nil, or what the commit is refused with; nothing is written. `decided` is set where it was checked before, and what it is part of
--   was decided: the time of that check (ms), at which its expiry is judged; what only delays or conditions it is not asked again then.
local function commit_check(w, now, decided)
  -- 1. what is there, and whether it is what was written
  local context, log, id, data = w.keys.context, w.keys.log, w.id, w.data
  local stored = stored_fields(context)
  w.stored = stored
  if fields_damaged(id, stored, w.sealed == '1')
    or (not stored.v and is_lost(log, tonumber(redis.call('ZSCORE', w.keys.exp, id) or nil), now)) then
    return { 'DAMAGED' }
  end
  local live = is_live(stored, decided or now)
  local version = live and tonumber(stored.v) or 0
  w.live, w.version = live, version

  -- 2. applied already?
  if stored.op == w.op then
    return { 'APPLIED', tonumber(stored.v), tonumber(stored.at), stored.crc }
  end
  if not decided then
    -- 3. refused by time, intent, version or fence?
    local refused = refused_early(w, stored, now) or refused_by_version(w, stored, live, version)
    if refused then
      return refused
    end
    local newer = fenced_by(context, w.fence, stored.fence, now)
    if newer then
      return { 'FENCED', newer }
    end
  end

  -- 4. and 5. the new bytes, as sent or built from the stored ones, must be what the client hashed
  local bytes = tonumber(w.length)
  local in_place = w.base_sha ~= '-'
  if in_place and (not live or w.base_sha ~= stored.sha or tonumber(w.base_version) ~= version or w.base_crc ~= stored.crc) then
    return { 'BASE_MISMATCH', version, live and stored.crc or '-', '-' }
  end
  local manifest = in_place and (stored.chunks or '') or nil
  local built = false
  if w.plan == '' then
    local found = redis.sha1hex(data)
    if found ~= w.sha or bytes ~= #data then
      return { 'CHECKSUM', found, #data }
    end
  else
    local why, sources
    built, why, sources = run_plan(w.args, context, w.plan, manifest)
    -- chunks that the plan does not name stay as they are
    local found = built and built.grown + ((in_place and stored.chunks and not built.whole) and tonumber(stored.len) or 0) or 0
    if not built or built.sha ~= w.sha or found ~= bytes then
      -- what does not fit is what is stored, or what arrived
      local damaged = in_place and damaged_part(sources, manifest, w.base_sha, stored.len)
      if damaged then
        return { 'BASE_MISMATCH', version, stored.crc, damaged }
      end
      return { 'CHECKSUM', why or built.sha, found }
    end
    if built.whole then
      w.data = built.whole
    end
  end
  w.in_place, w.built, w.bytes, w.chunked = in_place, built, bytes, built and built.manifest ~= nil or false

  -- 6. memory limits take their place here: the accounts below are what they will be measured against
  return nil
end

-- Step 7: the new bytes, read back; nil, or what it is refused with, everything being as it was. What is written has still to be finished: by
--   commit_finish, or by w.restore().
local function commit_bytes(w, now)
  local context, old, stored, built, live = w.keys.context, w.keys.old, w.stored, w.built, w.live
  if stored.v and not live then
    remove_context(w.keys, w.id, tonumber(stored.v), 'expired', now, '-', w.by, w.tombstone, w.protocol)
    redis.call(w.publish, w.channel, removal_frame(w.protocol, 'expired', stored.v, stored.v, stored.crc or '-', now, '-', w.by))
  end
  -- Should Redis give back other bytes than it was given, the old ones must still be there: large ones are kept aside by name, which costs
  -- the same whatever their length; small ones and single chunks by value, which costs less.
  local aside = live and not w.in_place and (w.bytes > INLINE or w.chunked or stored.chunks ~= false)
  local before = {}
  if aside then
    redis.call('RENAME', context, old)
  elseif live then
    local names = built and built.names or { 'data' }
    for i = 1, #names do
      before[i] = { names[i], built and built.sources[names[i]] or redis.call('HGET', context, names[i]) }
    end
  end
  w.aside, w.before = aside, before
  function w.restore()
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
    elseif not live and stored.intent then
      redis.call('HSET', context, 'intent', stored.intent)
    end
  end
  local writes = built and built.writes or { 'data', w.data }
  if #writes > 0 then
    redis.call('HSET', context, unpack(writes))
  end
  w.written = {}
  for i = 1, #writes, 2 do
    w.written[writes[i]] = writes[i + 1]
    if redis.call('HGET', context, writes[i]) ~= writes[i + 1] then
      w.restore()
      return { 'WRITE_CORRUPT', w.version }
    end
  end
  return nil
end

-- Step 8: log, fields, indexes, accounts and subscribers. Answers COMMITTED, or, the bytes being as they were, why the log cannot take it; that
--   cannot happen where the log is not ahead of the context.
local function commit_finish(w, now)
  local context, log, exp_index, use_index, size_index, mem, old = w.keys.context, w.keys.log, w.keys.exp, w.keys.use, w.keys.size, w.keys.mem, w.keys.old
  local id, crc, sha, bytes, op, by, protocol = w.id, w.crc, w.sha, w.bytes, w.op, w.by, w.protocol
  local stored, live, version, built, aside, chunked, in_place, data = w.stored, w.live, w.version, w.built, w.aside, w.chunked, w.in_place, w.data
  local kind, payload, encoding, log_bytes, fence = w.kind, w.payload, w.encoding, tonumber(w.log_bytes), w.fence
  local stored_exp = tonumber(stored.exp or nil)
  local exp = stored_exp
  if w.ttl == 'none' then
    exp = nil
  elseif w.ttl ~= 'keep' then
    exp = expiry_of(now, w.ttl)
  elseif not live then
    exp = nil
  end
  local next_version = (tonumber(stored.v or nil) or log_last_version(log)) + 1
  local before_crc = live and stored.crc or '-'
  if kind ~= 'full' and payload == '' then
    payload = w.args[1]
  end
  if kind ~= 'full' and not (live and #payload < bytes and tonumber(w.base_version) == version and w.base_crc == stored.crc) then
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
  local key_version = tonumber(stored.kf or nil) or 0
  if not live or key_version < 1 or key_version > version then
    key_version = 0
  end
  local due = key_version == 0 or next_version - key_version >= tonumber(w.keyframe)
  if kind ~= 'full' then
    if due and not chunked then
      logged_kind, logged, logged_encoding, key_version = 'full', data, '-', next_version
    end
  elseif not (chunked and (whole or encoding == '-')) and 8 * #payload <= log_bytes then
    key_version = next_version
  else
    logged, logged_encoding, key_version = '', '-', 0
  end
  local kept = w.log_keep + w.keyframe
  local function has_new_fields(values)
    for i = 1, #values do
      if not values[i][2] then
        return true
      end
    end
    return false
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
      w.restore()
      return { 'BASE_MISMATCH', version, stored.crc, '-' }
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
      w.restore()
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
  if stored.intent and not aside then
    redis.call('HDEL', context, 'intent')
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

  -- indexes, accounts, subscribers
  local changed = exp ~= stored_exp or not live
  if exp and (changed or aside or stored.intent) then
    redis.call('HSET', context, 'exp', exp)
    -- what was decided before it expired may be written after; what Redis is told to remove in the past is gone at once
    redis.call('PEXPIREAT', context, math.max(exp, now) + w.grace)
  end
  if exp and changed then
    redis.call('ZADD', exp_index, exp, id)
    redis.call('PEXPIREAT', log, exp + w.tombstone)
  elseif changed then
    redis.call('HDEL', context, 'exp')
    redis.call('ZREM', exp_index, id)
    redis.call('PERSIST', context)
    redis.call('PERSIST', log)
  end
  local reshaped = aside or not live or has_new_fields(w.before) or (built and #built.removed > 0) or (exp == nil) ~= (stored_exp == nil)
    or (fence ~= '0' and not stored.fence) or (protocol == '2') ~= (stored.seal ~= false) or stored.intent ~= false
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
          redis.call('PEXPIREAT', key, exp + w.tombstone)
        else
          redis.call('PERSIST', key)
        end
      end
    end
  end
  -- two whole documents that deltas build on, and as much again; of a chunked one they stand beside the log
  local log_limit = chunked and log_bytes or math.max(log_bytes, 3 * bytes)
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
  due = key_version == 0 or next_version - key_version >= tonumber(w.keyframe)
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
      texts[#texts + 1] = w.written[name] or redis.call('HGET', context, name) or ''
    end
    parts = #texts
  elseif #payload > INLINE and (protocol == '2' or kind == 'full') then
    parts = 1
  end
  local header = frame_header({ protocol = protocol, kind = kind, encoding = encoding, parts = parts, version = next_version, crc = crc, sha = sha,
    length = bytes, base = next_version - 1, base_crc = before_crc, at = now, exp = exp or '-', op = op, by = by })
  if parts == 0 then
    redis.call(w.publish, w.channel, header .. payload)
  else
    -- joining a large payload to its header would copy it, and cost Redis more than hashing it
    redis.call(w.publish, w.channel, header)
    if whole and chunked then
      for i = 1, #texts do
        redis.call(w.publish, w.channel, texts[i])
      end
    else
      redis.call(w.publish, w.channel, payload)
    end
  end
  return { 'COMMITTED', next_version, now, kind, whole and bytes or #payload, exp or 0, used, due and 1 or 0 }
end
