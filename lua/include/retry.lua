-- retry: what became of an earlier attempt of the same operation. Needs clock, log and entry; reads, never writes.
--   Attempts carry `till`, after which they are refused; so once `prev`, the last attempt's, has passed, it cannot be applied any more.
--   Answers a reply to give, or nil where the operation was certainly not applied and cannot be any more.
--   `stored` as stored_fields gives it, whose operation is another: it tells whose its own version was, whatever became of the entry.
local function earlier_attempt(id, log, op, now, prev, sent, stored)
  -- all that a log keeps at the most
  local entries = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 512)
  local last = log_last_version(log)
  local after = { version = (stored.op and tonumber(stored.v) == last) and last or last + 1, at = now }
  for i = 1, #entries do
    local version, at = entry_version(entries[i]), tonumber(entry_field(entries[i], 'at')) or 0
    -- a damaged entry cannot tell whose it is
    if after.at >= sent and entry_damage(id, entries[i], entry_fields(entries[i]), false) then
      return { 'UNCERTAIN', after.version }
    end
    if entry_field(entries[i], 'op') == op then
      return { 'APPLIED', version, at, entry_field(entries[i], 'crc') or '-' }
    end
    -- an entry that was damaged and let go of may have been this operation's
    if after.version > version + 1 and after.at >= sent then
      return { 'UNCERTAIN', version }
    end
    after = { version = version, at = at }
  end
  local oldest = entries[#entries]
  if not oldest and after.version > 1 then
    return { 'UNCERTAIN', last }
  end
  -- 1-0 is where a log begins; 1-1 is the expiry of a version whose own entry was trimmed
  if oldest and oldest[1] ~= '1-0' and (tonumber(entry_field(oldest, 'at')) or 0) >= sent then
    return { 'UNCERTAIN', entry_version(oldest) }
  end
  if now <= prev then
    return { 'PENDING', prev - now + 1 }
  end
  return nil
end
