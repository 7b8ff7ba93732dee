#!lua flags=no-writes
-- versions: version, checksum and expiry of up to some hundred contexts of one shard, for the comparison of replicas.
-- KEYS[*] hash    {tag}:c:<id>, the contexts
-- ARGV[1] string  the guard over KEYS (lua/include/guard.lua)
-- Returns: VERSIONS now(ms) v crc exp v crc exp ...: empty strings where absent or expired; `lost` as crc where a context should be there | GARBLED: not what was sent
-- Publishes: nothing.
-- Atomic because: it need not be; one script saves a reply a context and judges every expiry by Redis's clock.
-- @include guard
-- @include clock
-- @include log
-- @include lost
if not arrived(ARGV[1], unpack(KEYS)) then
  return answered({ 'GARBLED' })
end
local now = clock_ms()
local answer = { 'VERSIONS', now }
for i = 1, #KEYS do
  local stored = redis.call('HMGET', KEYS[i], 'v', 'crc', 'exp')
  local gone = not stored[1] or (stored[3] and tonumber(stored[3]) <= now)
  local at = 3 * i
  local lost = false
  if not stored[1] then
    local tag, id = string.match(KEYS[i], '^(.-}):c:(.*)$')
    lost = tag and redis.call('EXISTS', KEYS[i]) == 0
      and is_lost(tag .. ':l:' .. id, tonumber(redis.call('ZSCORE', tag .. ':exp', id) or nil), now)
  end
  answer[at] = gone and '' or stored[1]
  answer[at + 1] = lost and 'lost' or gone and '' or stored[2] or '-'
  answer[at + 2] = not gone and stored[3] or ''
end
return answered(answer)
