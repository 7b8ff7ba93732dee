#!lua flags=allow-oom
-- unlock: lets an owner go, whether it holds the context or waits for it.
-- KEYS[1] hash    {tag}:w:<id>, the lock book
-- ARGV[1] string  owner
-- ARGV[2] string  the publish command
-- ARGV[3] string  the guard over KEYS and ARGV[1] to ARGV[2] (lua/include/guard.lua)
-- Returns: RELEASED token | LEFT ticket: it was waiting | ABSENT: it was neither (any more) | GARBLED: not what was sent
-- Publishes: on {tag}:wake:<instance> the owner of each waiter whose turn it is now.
-- Atomic because: whose turn it is follows from who is left.
-- @include guard
-- @include clock
-- @include lockbook
local key, owner, publish = KEYS[1], ARGV[1], ARGV[2]
if not arrived(ARGV[3], key, owner, publish) then
  return answered({ 'GARBLED' })
end
local now = clock_ms()
local book = read_book(key, now)
local answer = { 'ABSENT' }
for list, status in pairs({ holders = 'RELEASED', waiters = 'LEFT' }) do
  local entry, place = entry_of(book[list], owner)
  if entry then
    redis.call('HDEL', key, entry.field)
    table.remove(book[list], place)
    answer = { status, string.format('%.0f', entry.number) }
  end
end
if book.ended or answer[1] ~= 'ABSENT' then
  keep_book(book, now)
  wake_next(book, publish, owner)
end
return answered(answer)
