-- entry: what is wrong with an entry of a delta log by its own checksums, or nil. Needs seal. Reads, never writes.
--   `sealed` where an entry without a sum is damaged.
local function entry_fields(entry)
  local e = {}
  for i = 1, #entry[2], 2 do
    e[entry[2][i]] = entry[2][i + 1]
  end
  return e
end

local function entry_damage(id, entry, e, sealed)
  local frame = e.frame or ''
  local whole = e.kind == 'full' and (e.enc or '-') == '-'
  if e.sum then
    local sum = entry_sum(id, entry[1], e.kind or '?', e.enc, e.base or '?', e.crc or '?', e.sha or '?', e.len or '?', e.at or '?', e.exp,
      e.op or '?', e.by or '?', whole and '' or frame)
    if e.sum ~= sum then
      return 'sum'
    end
  elseif sealed then
    return 'without a sum'
  end
  if whole and frame ~= '' and (redis.sha1hex(frame) ~= e.sha or tostring(#frame) ~= e.len) then
    return 'sha1'
  end
  return nil
end
