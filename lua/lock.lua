#!lua
-- lock: gives a context to an owner, first come first served, or a place among those that wait for it. Asked again it renews what the owner has.
-- KEYS[1] hash    {tag}:w:<id>, the lock book
-- KEYS[2] hash    {tag}:c:<id>, the context, for the last token that wrote it
-- KEYS[3] hash    {tag}:mem, whose `fence` is the last token of the shard
-- ARGV[1] string  words: owner instance mode(w|r) ttl(ms) lease(ms, of the first waiters; 0: it does not wait) till(ms) floor(highest token the caller has seen of the shard)
-- ARGV[2] string  settings, words: publishCommand most(holders and waiters of one context)
-- ARGV[3] string  the guard over KEYS and ARGV[1] to ARGV[2] (lua/include/guard.lua)
-- Returns: GRANTED token until(ms) now(ms) intent: of a transaction that is not settled, or - | WAITING place waiters again(ms until it is to ask again) now(ms) holders mode token
--   since(ms) instance: of the first holder, or of the first waiter where nobody holds it (token 0) | HELD, the same of one that does not wait
--   | FULL entries | LATE now(ms): this attempt came after its time | GARBLED: not what was sent
-- Publishes: on {tag}:wake:<instance> the owner of each other waiter whose turn it is, where somebody's time has ended.
-- Atomic because: who holds it, whose turn it is and the next token must be of one moment; every refusal stands before the first write.
-- @include guard
-- @include clock
-- @include lockbook
local key, context, mem = KEYS[1], KEYS[2], KEYS[3]
local owner, instance, mode, ttl, lease, till, floor = string.match(ARGV[1], '^(%S+) (%S+) ([rw]) (%d+) (%d+) (%d+) (%d+)$')
local publish, most = string.match(ARGV[2], '^(%S+) (%d+)$')
if not arrived(ARGV[3], key, context, mem, ARGV[1], ARGV[2]) then
  return answered({ 'GARBLED' })
end
local now = clock_ms()
if now > tonumber(till) then
  return answered({ 'LATE', now })
end

-- Higher than any that was given out before, as far as anybody here knows: by the shard, for this context, to the caller. A failover may have
-- lost the last of these; the clock has gone on meanwhile.
local function next_token(book)
  local known = redis.call('HGET', mem, 'fence')
  local written = redis.call('HGET', context, 'fence')
  local last = math.max(tonumber(known or nil) or 0, tonumber(written or nil) or 0, book.fence, tonumber(floor))
  local t = redis.call('TIME')
  return math.max(last + 1, tonumber(t[1]) * 1000000 + tonumber(t[2]))
end

local book = read_book(key, now)
local held = entry_of(book.holders, owner)
local waiting, place = entry_of(book.waiters, owner)
local entries = #book.holders + #book.waiters
local turn = true
for i = 1, (place or #book.waiters + 1) - 1 do
  -- readers before a reader take their turn together with it
  turn = turn and mode == 'r' and book.waiters[i].mode == 'r'
end

if not held and turn and fits(book, mode) and (waiting or entries < tonumber(most)) then
  local token = next_token(book)
  held = { field = string.format('h:%.0f', token), number = token, mode = mode, since = now, instance = instance, owner = owner, till = 0 }
  book.holders[#book.holders + 1] = held
  if waiting then
    redis.call('HDEL', key, waiting.field)
    table.remove(book.waiters, place)
  end
  local text = string.format('%.0f', token)
  redis.call('HSET', mem, 'fence', text)
  redis.call('HSET', key, 'fence', text)
end
if held then
  held.till = math.max(held.till, now + tonumber(ttl))
  put_entry(book, held)
elseif lease ~= '0' and (waiting or entries < tonumber(most)) then
  if not waiting then
    local last = book.waiters[#book.waiters]
    local ticket = last and last.number + 1 or 1
    place = #book.waiters + 1
    waiting = { field = 'q:' .. ticket, number = ticket, mode = mode, since = now, instance = instance, owner = owner }
    book.waiters[place] = waiting
  end
  waiting.till = now + lease_at(place, tonumber(lease))
  put_entry(book, waiting)
end
keep_book(book, now)
if book.ended then
  wake_next(book, publish, owner)
end
if held then
  return answered({ 'GRANTED', string.format('%.0f', held.number), held.till, now, redis.call('HGET', context, 'intent') or '-' })
end
if not waiting and entries >= tonumber(most) then
  return answered({ 'FULL', entries })
end

-- what stands in the way: those that hold it, else the leases of earlier waiters
local blocking = fits(book, mode) and { unpack(book.waiters, 1, (place or #book.waiters + 1) - 1) } or book.holders
local again = blocking[1].till
for i = 2, #blocking do
  again = math.min(again, blocking[i].till)
end
if waiting then
  -- a third of its lease; those in front ask as well when it can change by itself
  local renewal = now + math.floor(lease_at(place, tonumber(lease)) / 3)
  again = place <= FRONT and math.min(again, renewal) or renewal
end
local first = book.holders[1] or book.waiters[1]
return answered({ waiting and 'WAITING' or 'HELD', place or #book.waiters + 1, #book.waiters, again - now, now, #book.holders, first.mode,
  book.holders[1] and string.format('%.0f', first.number) or '0', first.since, first.instance })
