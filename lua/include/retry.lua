-- retry: what became of an earlier attempt of the same operation. Needs clock and log; reads, never writes.
--   Attempts carry `till`, after which they are refused; so once `prev`, the last attempt's, has passed, it cannot be applied any more.
--   Answers a reply to give, or nil where the operation was certainly not applied and cannot be any more.
local function earlier_attempt(log, op, now, prev, sent)
  local entries = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 256)
  for i = 1, #entries do
    if entry_field(entries[i], 'op') == op then
      return { 'APPLIED', entry_version(entries[i]), tonumber(entry_field(entries[i], 'at')), entry_field(entries[i], 'crc') }
    end
  end
  local oldest = entries[#entries]
  -- 1-0 is where a log begins; 1-1 is the expiry of a version whose own entry was trimmed
  if oldest and oldest[1] ~= '1-0' and tonumber(entry_field(oldest, 'at')) >= sent then
    return { 'UNCERTAIN', entry_version(oldest) }
  end
  if now <= prev then
    return { 'PENDING', prev - now + 1 }
  end
  return nil
end
