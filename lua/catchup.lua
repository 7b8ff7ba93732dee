#!lua flags=no-writes
-- catchup: what a context is at, and what its log has after a version, in one round trip; where that would be more than the document, that it is.
-- KEYS[1] hash    {tag}:c:<id>, the context
-- KEYS[2] stream  {tag}:l:<id>, its delta log
-- ARGV[1] number  the version known
-- ARGV[2] number  entries at most
-- ARGV[3] string  all: entries whatever their bytes | smaller: none where their frames together are longer than the document
-- ARGV[4] string  the guard over KEYS and ARGV[1] to ARGV[3] (lua/include/guard.lua)
-- Returns: LOG now(ms) v crc exp check entry ...: empty strings for v, crc and exp where absent or expired; an entry is id and fields
--   | WHOLE now(ms) v crc exp check: the document is smaller than what leads to it | GARBLED: not what was sent
-- Publishes: nothing.
-- Atomic because: the log must hold at least what the version says.
-- @include guard
-- @include clock
if not arrived(ARGV[4], KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]) then
  return answered({ 'GARBLED' })
end
local now = clock_ms()
local stored = redis.call('HMGET', KEYS[1], 'v', 'crc', 'exp', 'len')
local gone = not stored[1] or (stored[3] and tonumber(stored[3]) <= now)
local answer = answered({ 'LOG', now, gone and '' or stored[1], gone and '' or stored[2] or '-', not gone and stored[3] or '' })
local entries = redis.call('XRANGE', KEYS[2], ARGV[1] == '0' and '-' or '(' .. ARGV[1] .. '-0', '+', 'COUNT', ARGV[2])
local most = (ARGV[3] == 'smaller' and not gone) and tonumber(stored[4]) or math.huge
local sum = 0
for i = 1, #entries do
  local fields = entries[i][2]
  for j = 1, #fields, 2 do
    if fields[j] == 'frame' then
      sum = sum + #fields[j + 1]
    end
  end
  if sum > most then
    return answered({ 'WHOLE', now, stored[1], stored[2] or '-', stored[3] or '' })
  end
  answer[#answer + 1] = entries[i]
end
return answer
