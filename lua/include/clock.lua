-- clock: Redis's own time in whole milliseconds; the only clock that decides anything.
local function clock_ms()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

-- When something expires that lives for `ttl` ms. Lua writes numbers of up to 14 digits as they are, and longer ones otherwise: until 5138.
local function expiry_of(now, ttl)
  return math.min(now + tonumber(ttl), 99999999999999)
end
