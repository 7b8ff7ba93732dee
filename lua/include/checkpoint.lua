-- checkpoint: copies of a chunked context as it was at an earlier version, from which the log can be replayed: the newest, and the one before.
--   Their keys are made from the context's, in its hash slot; only chunked contexts have them.
local function checkpoint_keys(context)
  local newest = string.gsub(context, '}:c:', '}:k:', 1)
  local older = string.gsub(context, '}:c:', '}:j:', 1)
  return newest, older
end
