-- deleting: one deletion in steps, as `writing` has them for a commit. Needs clock, seal, stored, intent, entry, log, retry, frame, checkpoint,
--   remove, fence and refusals. A request is made of the keys and arguments that lua/delete.lua declares.
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
    local refused = refused_early(w, stored, now)
    if not refused and w.if_version ~= '-' and w.damaged then
      refused = { 'DAMAGED' }
    end
    refused = refused or refused_by_version(w, stored, w.live, w.live and w.version or 0)
    if refused then
      return refused
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
