-- fence: whether a fencing token (Kleppmann, "How to do distributed locking", 2016) still lets its holder write. Reads, never writes.
--   It does as long as the lock book of the context, whose key is made from the context's in its hash slot, has this very holder in mode w
--   with time left by Redis's clock, and nothing was written with a higher token. So a holder that was stopped past its time, replaced or
--   broken is refused from that moment on, whether or not the next one has written yet. Token 0 is no lock.
--   Gives nil where it does, else the highest token known, as text: Lua writes numbers of more than 14 digits otherwise.
local function fenced_by(context, token, written, now)
  if token == '0' then
    return nil
  end
  local at = string.find(context, '}:c:', 1, true)
  local book = string.sub(context, 1, at) .. ':w:' .. string.sub(context, at + 4)
  local found = redis.call('HMGET', book, 'h:' .. token, 'fence')
  local mode, till = string.match(found[1] or '', '^(%a) (%d+) ')
  local newest = tonumber(written or nil) or 0
  if mode == 'w' and tonumber(till) > now and newest <= tonumber(token) then
    return nil
  end
  return string.format('%.0f', math.max(newest, tonumber(found[2] or nil) or 0))
end
