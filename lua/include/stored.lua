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

local function stored_fields(key)
  local f = redis.call('HMGET', key, 'v', 'crc', 'sha', 'len', 'at', 'exp', 'seal', 'q', 'op', 'fence', 'intent', 'kf', 'chunks')
  return { v = f[1], crc = f[2], sha = f[3], len = f[4], at = f[5], exp = f[6], seal = f[7], q = f[8], op = f[9], fence = f[10], intent = f[11],
    kf = f[12], chunks = f[13] }
end

-- Whether it is there, at a time (ms).
local function is_live(stored, at)
  local exp = tonumber(stored.exp or nil)
  return stored.v ~= false and not (exp and exp <= at)
end
