-- placeholder: a hash with nothing but an intent: a transaction is about to create the context, which is not there yet. Reads, never writes.
local function only_intent(key)
  return redis.call('HLEN', key) == 1 and redis.call('HGET', key, 'intent') ~= false
end
