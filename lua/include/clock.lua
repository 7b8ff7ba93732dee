-- clock: Redis's own time in whole milliseconds; the only clock that decides anything.
local function clock_ms()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end
