#!lua
-- sweep: the least that an active expiry needs. Ids that are due from a zset, DEL of each, ZREM; no log, no accounts, nothing is told.
-- KEYS[1] the zset; ARGV: prefix of the keys, ids at most. Returns how many.
local now = redis.call('TIME')
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now[1] * 1000, 'LIMIT', 0, ARGV[2])
for i = 1, #due do
  redis.call('DEL', ARGV[1] .. due[i])
end
if #due > 0 then
  redis.call('ZREM', KEYS[1], unpack(due))
end
return #due
