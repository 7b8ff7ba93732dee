-- deleting: one deletion in steps, as `writing` has them for a commit. Needs clock, seal, stored, intent, entry, log, retry, frame, checkpoint,
--   remove and fence. A request is made of the keys and arguments that lua/delete.lua declares.
local function delete_request(keys, args)
  local w = { keys = keys, header = args[1], settings = args[2], id = args[3], channel = args[4] }
  w.op, w.by, w.if_version, w.if_crc, w.till, w.prev, w.sent, w.fence = string.match(w.header,
    '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
  w.tombstone, w.publish, w.protocol, w.sealed = string.match(w.settings, '^(%S+) (%S+) (%S+) (%S+)$')
  return w
end

-- Nil, or what it is refused with; ABSENT is among that. `decided` as in commit_check.
local function delete_check(w, now, decided)
  local stored = stored_fields(w.keys.context)
  w.stored = stored
  w.damaged = fields_damaged(w.id, stored, w.sealed == '1')
  -- what is damaged is there, whatever its expiry says: to remove it needs nothing of it
  w.live = w.damaged or is_live(stored, decided or now)
  w.version = tonumber(stored.v or nil) or 0
  if not decided then
    if w.prev ~= '0' then
      local answer = earlier_attempt(w.id, w.keys.log, w.op, now, tonumber(w.prev), tonumber(w.sent), stored)
      if answer then
        return answer
      end
    end
    if now > tonumber(w.till) then
      return { 'LATE', now }
    end
    local held = intent_of(stored)
    if held then
      return held
    end
    if w.if_version ~= '-' and w.damaged then
      return { 'DAMAGED' }
    end
    local version = w.live and w.version or 0
    if w.if_version ~= '-' and (tonumber(w.if_version) ~= version or (w.if_crc ~= '-' and w.if_crc ~= stored.crc)) then
      return { 'CONFLICT', version, w.live and stored.crc or '-' }
    end
  end
  if not w.live then
    return { 'ABSENT' }
  end
  local newer = not decided and fenced_by(w.keys.context, w.fence, stored.fence, now)
  return newer and { 'FENCED', newer } or nil
end

local function delete_finish(w, now)
  -- of a damaged version the log knows better
  local removed = math.max(w.damaged and 0 or w.version, log_last_version(w.keys.log)) + 1
  remove_context(w.keys, w.id, removed, 'deleted', now, w.op, w.by, w.tombstone, w.protocol)
  redis.call(w.publish, w.channel, removal_frame(w.protocol, 'deleted', removed, removed - 1, w.damaged and '-' or w.stored.crc or '-', now, w.op, w.by))
  return { 'DELETED', removed, now }
end
