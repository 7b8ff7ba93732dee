-- remove: takes a context out of Redis: hash, indexes and accounts together, checkpoints and all, with a tombstone in its log. Needs clock, log,
--   checkpoint, seal and frame. A log that ends with a tombstone already is left as it is. The tombstone stays for `keep` ms, so that versions go
--   on from it when the context is created again. What was quarantined of it stays.
local LARGE = 65536
local FILL = {}
for i = 1, 65 do
  FILL[2 * i - 1], FILL[2 * i] = 'f' .. i, ''
end

local function remove_context(keys, id, version, kind, at, op, by, keep, protocol)
  local _, ended = log_end(keys.log)
  -- an expiry takes away the version it names; a deletion is one of its own
  local entry = kind == 'expired' and next_entry(keys.log, version) or version .. '-0'
  if kind ~= 'expired' or not ended then
    local fields = { 'kind', kind, 'frame', '', 'base', '-', 'crc', '-', 'sha', '-', 'len', 0, 'op', op, 'by', by, 'at', at, 'exp', '-' }
    if protocol == '2' then
      fields[#fields + 1] = 'sum'
      fields[#fields + 1] = entry_sum(id, entry, kind, '-', '-', '-', '-', 0, at, '-', op, by, '')
    end
    redis.pcall('XADD', keys.log, entry, unpack(fields))
  end
  redis.call('PEXPIRE', keys.log, keep)
  local aside = checkpoint_bytes(keys.context)
  -- Redis lets go of a hash behind the script only where it has more than 64 fields, as a document in many chunks does: of the megabytes of a
  -- checkpoint, which are one field, it would take a millisecond here
  local newest, older = checkpoint_keys(keys.context)
  if aside > LARGE then
    for _, key in ipairs({ newest, older }) do
      if redis.call('EXISTS', key) == 1 then
        redis.call('HSET', key, unpack(FILL))
      end
    end
  end
  redis.call('UNLINK', keys.context, newest, older)
  redis.call('ZREM', keys.exp, id)
  redis.call('ZREM', keys.use, id)
  local accounted = redis.call('ZSCORE', keys.size, id)
  if accounted then
    redis.call('ZREM', keys.size, id)
    redis.call('HINCRBY', keys.mem, 'bytes', -tonumber(accounted))
    redis.call('HINCRBY', keys.mem, 'contexts', -1)
  end
  if aside > 0 then
    redis.call('HINCRBY', keys.mem, 'checkpoints', -aside)
  end
end

-- What subscribers get for it; the frame has no payload.
local function removal_frame(protocol, kind, version, base, base_crc, at, op, by)
  return frame_header({ protocol = protocol, kind = kind, encoding = '-', parts = 0, version = version, crc = '-', sha = '-', length = 0,
    base = base, base_crc = base_crc, at = at, exp = '-', op = op, by = by })
end
