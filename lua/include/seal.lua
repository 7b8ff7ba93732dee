-- seal: what binds the checksums of a context to its id, version and times, and those of a log entry to its place.
-- What is missing of a damaged context is a word that no field has.
local function seal_of(id, v, crc, sha, len, at, exp)
  return redis.sha1hex((v or '?') .. ' ' .. (crc or '?') .. ' ' .. (sha or '?') .. ' ' .. (len or '?') .. ' ' .. (at or '?') .. ' ' .. (exp or '-')
    .. ' ' .. id)
end

local function entry_sum(id, entry_id, kind, enc, base, crc, sha, len, at, exp, op, by, body)
  return string.sub(redis.sha1hex(entry_id .. ' ' .. kind .. ' ' .. (enc or '-') .. ' ' .. base .. ' ' .. crc .. ' ' .. sha .. ' ' .. len .. ' '
    .. at .. ' ' .. (exp or '-') .. ' ' .. op .. ' ' .. by .. ' ' .. id .. '\n' .. body), 1, 16)
end
