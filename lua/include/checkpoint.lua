-- checkpoint: compressed copies of a context as it was at an earlier version, from which the log can be replayed: the newest, and the one before.
--   Their keys are made from the context's, in its hash slot.
local function checkpoint_keys(context)
  local at = string.find(context, '}:c:', 1, true)
  local tag, id = string.sub(context, 1, at + 1), string.sub(context, at + 3)
  return tag .. 'k' .. id, tag .. 'j' .. id
end

-- Real bytes of both.
local function checkpoint_bytes(context)
  local newest, older = checkpoint_keys(context)
  -- small contexts have none
  if redis.call('EXISTS', newest, older) == 0 then
    return 0
  end
  return (redis.call('MEMORY', 'USAGE', newest, 'SAMPLES', 0) or 0) + (redis.call('MEMORY', 'USAGE', older, 'SAMPLES', 0) or 0)
end
