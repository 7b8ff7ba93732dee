-- stored: whether the fields of a stored context say what they said when they were written. Needs seal. Reads, never writes.
--   `f` has v, crc, sha, len, at, exp and seal as they are stored, and q; `sealed` where every context of the namespace carries a seal.
local function fields_damaged(id, f, sealed)
  if f.q then
    return false
  end
  if f.seal then
    return f.seal ~= seal_of(id, f.v, f.crc, f.sha, f.len, f.at, f.exp)
  end
  if not f.v then
    -- what is left of a context that has lost its version
    return (f.crc or f.sha or f.len or f.at or f.op or f.chunks) and true or false
  end
  return sealed
end

local STORED = { 'v', 'crc', 'sha', 'len', 'at', 'exp', 'seal', 'q', 'op', 'fence', 'intent', 'kf', 'chunks' }

local function stored_fields(key)
  local found, f = redis.call('HMGET', key, unpack(STORED)), {}
  for i = 1, #STORED do
    f[STORED[i]] = found[i]
  end
  return f
end

-- Stands for these fields, so that a repair can tell whether they are still what it was made for.
local function fingerprint(f)
  local values = {}
  for i = 1, #STORED do
    values[i] = f[STORED[i]] or ''
  end
  return redis.sha1hex(table.concat(values, '\n'))
end
