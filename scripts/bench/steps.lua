#!lua
-- steps: what a commit does, in small: the reference, and the steps that lua/commit.lua adds to it, switched on one after the other, for a
-- live context that does not expire. Only its times are of use; what it leaves behind is never read.
-- KEYS: context, log, use, size, mem, old; ARGV: document, version it is based on, SHA-1, channel, id, header of 20 words.
local steps = STEPS
local context, log, use_index, size_index, mem, old = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local data, base, sha, channel, id = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local bytes = #data
local stored, now, op, by, crc
-- 1: header, clock, operation id and the fields beside the bytes
if steps >= 1 then
  local words = { string.match(ARGV[6], '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)'
    .. ' (%S+) (%S+) (%S+) (%S+)$') }
  op, by, crc = words[1], words[2], words[8]
  local t = redis.call('TIME')
  now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
  stored = redis.call('HMGET', context, 'v', 'crc', 'exp', 'op', 'at', 'fence', 'intent', 'kf')
  if stored[4] == op then
    return 'APPLIED'
  end
else
  stored = { redis.call('HGET', context, 'v') }
end
local version = tonumber(stored[1] or 0)
if version ~= base then
  return 'CONFLICT'
end
if redis.sha1hex(data) ~= sha then
  return 'CHECKSUM'
end
local live = version > 0
-- 2: the old bytes are kept until the new ones were read back
local aside = steps >= 2 and live and bytes > 4096
local before
if aside then
  redis.call('RENAME', context, old)
elseif steps >= 2 and live then
  before = redis.call('HGET', context, 'data')
end
if steps >= 2 then
  redis.call('HSET', context, 'data', data)
  if redis.call('HGET', context, 'data') ~= data then
    return 'WRITE_CORRUPT'
  end
end
-- 3: the delta log
if steps >= 3 then
  redis.call('XADD', log, 'MAXLEN', '~', 96, (version + 1) .. '-0', 'kind', 'full', 'frame', 8 * bytes <= 65536 and data or '',
    'base', stored[2] or '-', 'crc', crc, 'sha', sha, 'len', bytes, 'op', op, 'by', by, 'at', now, 'exp', '-')
end
if steps >= 1 then
  if steps < 2 then
    redis.call('HSET', context, 'data', data)
  end
  redis.call('HSET', context, 'v', version + 1, 'crc', crc, 'sha', sha, 'len', bytes, 'at', now, 'by', by, 'op', op, 'kf', 0)
else
  redis.call('HSET', context, 'data', data, 'v', version + 1, 'sha', sha)
end
if aside then
  redis.call('UNLINK', old)
end
-- 4: accounts of real bytes
if steps >= 4 then
  local used = redis.call('MEMORY', 'USAGE', context, 'SAMPLES', 0) + redis.call('MEMORY', 'USAGE', log, 'SAMPLES', 0)
  local accounted = tonumber(redis.call('ZSCORE', size_index, id) or 0)
  if accounted ~= used then
    redis.call('ZADD', size_index, used, id)
    redis.call('HINCRBY', mem, 'bytes', used - accounted)
  end
end
-- 5: index by last use, to the second
if steps >= 5 and (not live or math.floor(now / 1000) ~= math.floor(tonumber(stored[5]) / 1000)) then
  redis.call('ZADD', use_index, now, id)
end
if steps >= 1 then
  local header = string.format('lc1 full %d %s %s %d %d %s %d - %s %s\n', version + 1, crc, sha, bytes, version, stored[2] or '-', now, op, by)
  if bytes > 4096 then
    redis.call('PUBLISH', channel, header)
    redis.call('PUBLISH', channel, data)
  else
    redis.call('PUBLISH', channel, header .. data)
  end
else
  redis.call('PUBLISH', channel, data)
end
return version + 1
