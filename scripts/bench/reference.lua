#!lua
-- reference: the least that a verified push needs. Version check, SHA-1, HSET, PUBLISH of the same bytes.
-- KEYS[1] the hash; ARGV: the document, the version it is based on, its SHA-1, the channel. Returns the new version, or a word.
local stored = tonumber(redis.call('HGET', KEYS[1], 'v') or 0)
if stored ~= tonumber(ARGV[2]) then
  return 'CONFLICT'
end
if redis.sha1hex(ARGV[1]) ~= ARGV[3] then
  return 'CHECKSUM'
end
redis.call('HSET', KEYS[1], 'data', ARGV[1], 'v', stored + 1, 'sha', ARGV[3])
redis.call('PUBLISH', ARGV[4], ARGV[1])
return stored + 1
