-- remove: takes a context out of Redis: hash, indexes and accounts together, checkpoints and all, with a tombstone in its log. Needs clock, checkpoint and frame.
--   An entry that the log refuses (it has it already) changes nothing. The tombstone stays for `keep` ms, so that versions go on from it when the context is created again.
local function remove_context(keys, id, entry, kind, at, op, by, keep)
  redis.pcall('XADD', keys.log, entry, 'kind', kind, 'frame', '', 'base', '-', 'crc', '-', 'sha', '-', 'len', 0,
    'op', op, 'by', by, 'at', at, 'exp', '-')
  redis.call('PEXPIRE', keys.log, keep)
  redis.call('DEL', keys.context, checkpoint_keys(keys.context))
  redis.call('ZREM', keys.exp, id)
  redis.call('ZREM', keys.use, id)
  local accounted = redis.call('ZSCORE', keys.size, id)
  if accounted then
    redis.call('ZREM', keys.size, id)
    redis.call('HINCRBY', keys.mem, 'bytes', -tonumber(accounted))
    redis.call('HINCRBY', keys.mem, 'contexts', -1)
  end
end

-- What subscribers get for it; the frame has no payload.
local function removal_frame(protocol, kind, version, base, base_crc, at, op, by)
  return frame_header({ protocol = protocol, kind = kind, encoding = '-', parts = 0, version = version, crc = '-', sha = '-', length = 0,
    base = base, base_crc = base_crc, at = at, exp = '-', op = op, by = by })
end
