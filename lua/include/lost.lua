-- lost: whether a context that has no hash should have one: its log ends with a version of it that nothing has ended. Needs log.
--   A hash that Redis removed by itself, after its expiry, leaves that in the index; a touch does not show in the log. Where the index has no
--   expiry the log must have none either, else somebody has let go of it already.
local function is_lost(log, due, now)
  local last, ended = log_end(log)
  if not last or ended then
    return false
  end
  if due then
    return due > now
  end
  return redis.call('PTTL', log) == -1
end
