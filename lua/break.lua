#!lua flags=allow-oom
-- break: takes a context from all that hold it: what they write with their tokens is refused from now on.
-- KEYS[1] hash    {tag}:w:<id>, the lock book
-- KEYS[2] hash    {tag}:c:<id>, the context, for what is prepared on it
-- ARGV[1] string  the publish command
-- ARGV[2] string  the guard over KEYS and ARGV[1] (lua/include/guard.lua)
-- Returns: BROKEN intent: of a transaction that is not settled, or - holders(n), then mode token since(ms) until(ms) instance of each
--   | GARBLED: not what was sent
-- Publishes: on {tag}:wake:<instance> the owner of each waiter whose turn it is now.
-- Atomic because: nobody may be granted it between the holders that are named and those that are gone.
-- @include guard
-- @include clock
-- @include lockbook
local key, context, publish = KEYS[1], KEYS[2], ARGV[1]
if not arrived(ARGV[2], key, context, publish) then
  return answered({ 'GARBLED' })
end
local now = clock_ms()
local book = read_book(key, now)
local answer = { 'BROKEN', redis.call('HGET', context, 'intent') or '-', #book.holders }
for i = 1, #book.holders do
  local holder = book.holders[i]
  redis.call('HDEL', key, holder.field)
  for _, word in ipairs({ holder.mode, string.format('%.0f', holder.number), holder.since, holder.till, holder.instance }) do
    answer[#answer + 1] = word
  end
end
if book.ended or #book.holders > 0 then
  book.holders = {}
  keep_book(book, now)
  wake_next(book, publish, '')
end
return answered(answer)
