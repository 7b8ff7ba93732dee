-- inspect: what a person wants to know of one context, line by line: redis-cli --eval lua/inspect.lua '{lc:<ns>:<shard>}:c:<id>'
-- KEYS[1] hash    {tag}:c:<id>, the context
-- Returns: lines of text; the last says OK or what is wrong
-- Publishes: nothing.
-- Atomic because: bytes, checksums and log must be of one moment.
local key = KEYS[1]
local tag, id = string.match(key, '^({[^}]*}):c:(.*)$')
if not tag then
  return { 'not a context key: it looks like {lc:<namespace>:<shard>}:c:<id>' }
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local fields = redis.call('HGETALL', key)
local log = tag .. ':l:' .. id
local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
if #fields == 0 then
  if last then
    return { 'absent; its log ends at ' .. last[1] .. ' (' .. last[2][2] .. ')' }
  end
  return { 'absent' }
end
local c = {}
for i = 1, #fields, 2 do
  c[fields[i]] = fields[i + 1]
end
if #fields == 2 and c.intent then
  return { 'absent; a transaction is about to create it: ' .. c.intent }
end
if c.q then
  return {
    'id        ' .. id,
    'version   ' .. tostring(c.v),
    'moved     ' .. tostring(c.at) .. ' by ' .. tostring(c.by) .. ', to ' .. tag .. ':q:' .. id,
    'QUARANTINED: ' .. c.q,
  }
end
local wrong = {}
local data = c.data or ''
local form = 'one field'
-- the SHA-1 of a document in chunks is that of the list of its chunks, each with its own
local sha = redis.sha1hex(c.chunks or data)
if c.chunks and not c.data then
  local names = {}
  for name, length, sum in string.gmatch(c.chunks, '(d%d+) (%d+) (%x+)\n') do
    local chunk = c[name] or ''
    names[#names + 1] = chunk
    if tostring(#chunk) ~= length or redis.sha1hex(chunk) ~= sum then wrong[#wrong + 1] = 'chunk ' .. name end
  end
  data = table.concat(names)
  form = #names .. ' chunks'
elseif not c.data then
  wrong[#wrong + 1] = 'no data field'
end
if tostring(#data) ~= c.len then wrong[#wrong + 1] = 'length' end
if sha ~= c.sha then wrong[#wrong + 1] = 'sha1' end
local crc = 'not computed above 4096 bytes in Redis: pipe the data through crc32'
if #data <= 4096 then
  local sum = bit.bnot(0)
  for i = 1, #data do
    sum = bit.bxor(sum, string.byte(data, i))
    for _ = 1, 8 do
      sum = bit.bxor(bit.rshift(sum, 1), bit.band(0xEDB88320, -bit.band(sum, 1)))
    end
  end
  crc = bit.tohex(bit.bnot(sum))
  if crc ~= c.crc then wrong[#wrong + 1] = 'crc32' end
end
-- what binds the checksums to id, version and times; a namespace of format 1 has none
local seal = redis.sha1hex(table.concat({ tostring(c.v), tostring(c.crc), tostring(c.sha), tostring(c.len), tostring(c.at), c.exp or '-', id }, ' '))
if c.seal and seal ~= c.seal then wrong[#wrong + 1] = 'seal' end
local lines = {
  'id        ' .. id,
  'version   ' .. tostring(c.v),
  'length    ' .. tostring(c.len) .. ' stored, ' .. #data .. ' found',
  'form      ' .. form,
  'sha1      ' .. tostring(c.sha) .. ' stored',
  '          ' .. sha .. ' computed',
  'crc32     ' .. tostring(c.crc) .. ' stored',
  '          ' .. crc,
  'seal      ' .. (c.seal and (c.seal .. ' stored') or 'none stored'),
  '          ' .. seal .. ' computed',
  'committed ' .. tostring(c.at) .. ' by ' .. tostring(c.by) .. ', operation ' .. tostring(c.op),
  'expires   ' .. (c.exp and (c.exp .. ' (in ' .. string.format('%d', (tonumber(c.exp) or now) - now) .. ' ms)') or 'never'),
  'memory    ' .. tostring(redis.call('MEMORY', 'USAGE', key, 'SAMPLES', 0)) .. ' bytes, log '
    .. tostring(redis.call('MEMORY', 'USAGE', log, 'SAMPLES', 0) or 0) .. ' bytes',
  'log       ' .. redis.call('XLEN', log) .. ' entries',
}
if last then
  local entry = {}
  for i = 1, #last[2], 2 do
    entry[last[2][i]] = last[2][i + 1]
  end
  lines[#lines + 1] = '          last ' .. last[1] .. ' ' .. tostring(entry.kind) .. ', crc ' .. tostring(entry.crc)
  -- a repair has an entry of its own beside that of the version it repaired
  local version = string.match(last[1], '^(%d+)-')
  if version ~= tostring(c.v) or entry.crc ~= c.crc or entry.sha ~= c.sha then wrong[#wrong + 1] = 'log' end
  if entry.sum then
    local body = (entry.kind == 'full' and not entry.enc) and '' or tostring(entry.frame)
    local sum = redis.sha1hex(table.concat({ last[1], tostring(entry.kind), entry.enc or '-', tostring(entry.base), tostring(entry.crc),
      tostring(entry.sha), tostring(entry.len), tostring(entry.at), tostring(entry.exp), tostring(entry.op), tostring(entry.by), id }, ' ') .. '\n' .. body)
    if string.sub(sum, 1, 16) ~= entry.sum then wrong[#wrong + 1] = 'log entry' end
    -- who writes one writes the other
    if not c.seal then wrong[#wrong + 1] = 'no seal' end
  end
end
if c.exp and (tonumber(c.exp) or math.huge) <= now then lines[#lines + 1] = 'expired: absent to every reader' end
lines[#lines + 1] = #wrong == 0 and 'OK' or ('CORRUPT: ' .. table.concat(wrong, ', '))
return lines
