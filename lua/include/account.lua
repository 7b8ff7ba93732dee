-- account: what the shard's accounts say of one context. Needs checkpoint.
--   A context that was not counted before is one more.
local function account_bytes(id, used, size_index, mem)
  local accounted = tonumber(redis.call('ZSCORE', size_index, id) or 0)
  if accounted ~= used then
    redis.call('ZADD', size_index, used, id)
    redis.call('HINCRBY', mem, 'bytes', used - accounted)
    if accounted == 0 then
      redis.call('HINCRBY', mem, 'contexts', 1)
    end
  end
end

-- Counts the real bytes of one context, its log and its checkpoints into the shard's accounts. Answers the bytes.
local function account(id, context, log, size_index, mem, aside_before)
  local aside = checkpoint_bytes(context)
  local used = (redis.call('MEMORY', 'USAGE', context, 'SAMPLES', 0) or 0) + (redis.call('MEMORY', 'USAGE', log, 'SAMPLES', 0) or 0) + aside
  account_bytes(id, used, size_index, mem)
  if aside ~= aside_before then
    redis.call('HINCRBY', mem, 'checkpoints', aside - aside_before)
  end
  return used
end
