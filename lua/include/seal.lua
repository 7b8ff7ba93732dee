-- seal: what binds the checksums of a context to its id, version and times, and those of a log entry to its place.
local function seal_of(id, v, crc, sha, len, at, exp)
  return redis.sha1hex(tostring(v) .. ' ' .. tostring(crc) .. ' ' .. tostring(sha) .. ' ' .. tostring(len) .. ' ' .. tostring(at) .. ' '
    .. tostring(exp or '-') .. ' ' .. id)
end

local function entry_sum(id, entry_id, kind, enc, base, crc, sha, len, at, exp, op, by, body)
  return string.sub(redis.sha1hex(entry_id .. ' ' .. tostring(kind) .. ' ' .. tostring(enc or '-') .. ' ' .. tostring(base) .. ' ' .. tostring(crc)
    .. ' ' .. tostring(sha) .. ' ' .. tostring(len) .. ' ' .. tostring(at) .. ' ' .. tostring(exp or '-') .. ' ' .. tostring(op) .. ' '
    .. tostring(by) .. ' ' .. id .. '\n' .. body), 1, 16)
end
