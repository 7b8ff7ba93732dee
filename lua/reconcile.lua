#!lua flags=allow-oom
-- reconcile: holds indexes, accounts and leftovers of some contexts against what is there, and mends what differs.
-- KEYS[1] zset    {tag}:exp, id by expiry (ms)
-- KEYS[2] zset    {tag}:use, id by last use (ms)
-- KEYS[3] zset    {tag}:size, id by accounted bytes
-- KEYS[4] hash    {tag}:mem, the shard's accounts
-- ARGV[1] string  {tag}, from which the keys of each context are made
-- ARGV[2] string  settings, words: tombstone(ms) grace(ms) publishCommand by protocol sealed(1|0)
-- ARGV[3..] string  ids, and last the guard over KEYS and all before it (lua/include/guard.lua)
-- Returns: RECONCILED indexed dropped expiries sizes tombstones leftovers intents expired: how often each was mended; then
--   lost(n) id ...: contexts that vanished without having expired; damaged(n) id ...: those whose seal is wrong, of which only the
--   accounts were touched | GARBLED: not what was sent
-- Publishes: one `expired` frame, with its last version, for each context that Redis removed natively before a sweep did.
-- Atomic because: what is compared and what is mended must be of one moment. The keys of contexts are made from the tag here, in its
--   hash slot: a leftover is known by its id alone.
-- @include guard
-- @include clock
-- @include seal
-- @include log
-- @include frame
-- @include checkpoint
-- @include remove
-- @include settle
local exp_index, use_index, size_index, mem = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local tag = ARGV[1]
local tombstone, grace, publish, by, protocol, sealed = string.match(ARGV[2], '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
local sent = { exp_index, use_index, size_index, mem }
for i = 1, #ARGV - 1 do
  sent[#sent + 1] = ARGV[i]
end
if not arrived(ARGV[#ARGV], unpack(sent)) then
  return answered({ 'GARBLED' })
end
local now = clock_ms()
local indexed, dropped, expiries, sizes, tombstones, leftovers, intents, expired = 0, 0, 0, 0, 0, 0, 0, 0
local lost, damaged = {}, {}

local function usage(keys)
  local sum = 0
  for i = 1, #keys do
    sum = sum + (redis.call('MEMORY', 'USAGE', keys[i], 'SAMPLES', 0) or 0)
  end
  return sum
end

local function account(id, used)
  local scored = redis.call('ZSCORE', size_index, id)
  local accounted = tonumber(scored or 0)
  if scored and accounted == used then
    return false
  end
  redis.call('ZADD', size_index, used, id)
  redis.call('HINCRBY', mem, 'bytes', string.format('%d', used - accounted))
  if not scored then
    redis.call('HINCRBY', mem, 'contexts', 1)
  end
  return true
end

-- Takes it out of every index and account; answers how many it was in.
local function drop(id)
  local removed = redis.call('ZREM', exp_index, id) + redis.call('ZREM', use_index, id)
  local accounted = redis.call('ZSCORE', size_index, id)
  if accounted then
    redis.call('ZREM', size_index, id)
    redis.call('HINCRBY', mem, 'bytes', string.format('%d', -tonumber(accounted)))
    redis.call('HINCRBY', mem, 'contexts', -1)
    removed = removed + 1
  end
  return removed
end

local function present(id, keys, f)
  local exp, due = tonumber(f.exp or nil), redis.call('ZSCORE', exp_index, id)
  local trusted = f.q or (f.seal and f.seal == seal_of(id, f.v, f.crc, f.sha, f.len, f.at, f.exp)) or (not f.seal and sealed == '0')
  if not trusted then
    damaged[#damaged + 1] = id
  elseif not f.q then
    if exp and tonumber(due or 0) ~= exp then
      redis.call('ZADD', exp_index, exp, id)
      expiries = expiries + 1
    elseif not exp and due then
      redis.call('ZREM', exp_index, id)
      expiries = expiries + 1
    end
    -- what Redis would remove by itself follows the field too; one that expired is the sweep's
    if not exp then
      expiries = expiries + redis.call('PERSIST', keys.context) + redis.call('PERSIST', keys.log)
    elseif exp > now then
      expiries = expiries + redis.call('PEXPIREAT', keys.context, exp + tonumber(grace), 'NX')
    end
  end
  if not redis.call('ZSCORE', use_index, id) then
    redis.call('ZADD', use_index, tonumber(f.at or nil) or now, id)
    indexed = indexed + 1
  end
  local own = { keys.context, keys.log, keys.newest, keys.older }
  local used = usage(own)
  if tonumber(redis.call('ZSCORE', size_index, id) or 0) ~= used then
    -- a table that is still growing shows bytes that the next look would change
    settle(keys.context, #(f.chunks or ''))
    used = usage(own)
  end
  if account(id, used) then
    sizes = sizes + 1
  end
end

-- An intent that nobody can end any more: its record is gone, or it is malformed. True where a transaction is still about to create the context.
local function settle_intent(keys, f)
  if not f.intent then
    return false
  end
  local txn, deadline, part = string.match(f.intent, '^(%S+) (%d+) (%d+) %d+$')
  if not txn or (tonumber(deadline) <= now and redis.call('EXISTS', tag .. ':t:' .. txn .. '.' .. part) == 0) then
    redis.call('HDEL', keys.context, 'intent')
    intents = intents + 1
    return false
  end
  return not f.v
end

local function absent(id, keys)
  local due = tonumber(redis.call('ZSCORE', exp_index, id) or nil)
  local last, ended, kind = log_end(keys.log)
  if due and due <= now then
    -- Redis's own expiry, a net behind the sweep, has caught it
    local version = last and entry_version(last) or 0
    if not ended then
      remove_context(keys, id, version, 'expired', now, '-', by, tombstone, protocol)
      redis.call(publish, tag .. ':ch:' .. id, removal_frame(protocol, 'expired', version, version, last and entry_field(last, 'crc') or '-',
        now, '-', by))
      expired = expired + 1
      return
    end
  end
  local removed = drop(id)
  dropped = dropped + (removed > 0 and 1 or 0)
  if removed > 0 and kind and not ended then
    lost[#lost + 1] = id
  end
  if last then
    tombstones = tombstones + redis.call('PEXPIRE', keys.log, tombstone, 'NX')
    if not ended then
      -- from these a lost one can still be put together
      redis.call('PEXPIRE', keys.newest, tombstone, 'NX')
      redis.call('PEXPIRE', keys.older, tombstone, 'NX')
      return
    end
  end
  leftovers = leftovers + redis.call('DEL', keys.newest, keys.older)
end

for i = 3, #ARGV - 1 do
  local id = ARGV[i]
  local keys = { context = tag .. ':c:' .. id, log = tag .. ':l:' .. id, exp = exp_index, use = use_index,
    size = size_index, mem = mem }
  keys.newest, keys.older = checkpoint_keys(keys.context)
  local names = { 'v', 'crc', 'sha', 'len', 'at', 'exp', 'seal', 'intent', 'q', 'chunks' }
  local found, f = redis.call('HMGET', keys.context, unpack(names)), {}
  for n = 1, #names do
    f[names[n]] = found[n]
  end
  -- it is there for the duration of one script only
  leftovers = leftovers + redis.call('DEL', tag .. ':o:' .. id)
  if settle_intent(keys, f) then
    -- it is accounted once it is there
  elseif redis.call('EXISTS', keys.context) == 1 then
    present(id, keys, f)
  else
    absent(id, keys)
  end
end

local answer = { 'RECONCILED', indexed, dropped, expiries, sizes, tombstones, leftovers, intents, expired, #lost }
for i = 1, #lost do
  answer[#answer + 1] = lost[i]
end
answer[#answer + 1] = #damaged
for i = 1, #damaged do
  answer[#answer + 1] = damaged[i]
end
return answered(answer)
