-- refusals: what commits and deletions are refused with alike. Needs retry and intent. Reads, never writes.
-- What became of an earlier attempt; that this one comes after its time; or the transaction that holds the context, which may change its version yet.
local function refused_early(w, stored, now)
  if w.prev ~= '0' then
    local answer = earlier_attempt(w.id, w.keys.log, w.op, now, tonumber(w.prev), tonumber(w.sent), stored)
    if answer then
      return answer
    end
  end
  if now > tonumber(w.till) then
    return { 'LATE', now }
  end
  return intent_of(stored)
end

local function refused_by_version(w, stored, live, version)
  if w.if_version ~= '-' and (tonumber(w.if_version) ~= version or (w.if_crc ~= '-' and w.if_crc ~= stored.crc)) then
    return { 'CONFLICT', version, live and stored.crc or '-' }
  end
end
