-- checkpoint: compressed copies of a context as it was at an earlier version, from which the log can be replayed: the newest, and the one before;
--   and what was quarantined of it. Their keys are made from the context's, in its hash slot.
local function checkpoint_keys(context)
  local newest = string.gsub(context, '}:c:', '}:k:', 1)
  local older = string.gsub(context, '}:c:', '}:j:', 1)
  return newest, older
end

-- Real bytes of both.
local function checkpoint_bytes(context)
  local newest, older = checkpoint_keys(context)
  return (redis.call('MEMORY', 'USAGE', newest, 'SAMPLES', 0) or 0) + (redis.call('MEMORY', 'USAGE', older, 'SAMPLES', 0) or 0)
end

local function quarantine_key(context)
  return (string.gsub(context, '}:c:', '}:q:', 1))
end
