-- lockbook: who holds a context, and who waits for it, as fields of its hash {tag}:w:<id>. All times are ms by Redis's clock.
--   `h:<token>` is a holder and `q:<ticket>` a waiter, each `mode until since instance owner`: the mode w alone, or r beside other readers;
--   for a waiter `until` is the end of its lease; the owner is a word that only this attempt to lock has. Tickets and tokens rise.
--   `fence` is the last token that was given out. The hash goes by itself a while after the last of it has ended.
local BOOK_KEEP_MS = 60000
-- So many waiters look after their turn by themselves. Those behind them have a longer lease, which they need to renew less often: every call
-- reads the whole book, and hundreds that did so every second would keep the server busy.
local FRONT = 32
local LONGEST_LEASES = 4

-- The lease of the waiter at a place, of what those in front have.
local function lease_at(place, lease)
  return math.floor(lease * math.min(math.max(place / FRONT, 1), LONGEST_LEASES))
end

-- The book without what has ended, which is taken out of the hash as well; `ended` says whether there was any.
local function read_book(key, now)
  local fields = redis.call('HGETALL', key)
  local book = { key = key, holders = {}, waiters = {}, fence = 0, ended = false }
  local ended = {}
  local entries, numbers = { h = {}, q = {} }, { h = {}, q = {} }
  for i = 1, #fields, 2 do
    local kind, number = string.match(fields[i], '^([hq]):(%d+)$')
    local mode, till, since, instance, owner = string.match(fields[i + 1], '^([rw]) (%d+) (%d+) (%S+) (%S+)$')
    if fields[i] == 'fence' then
      book.fence = tonumber(fields[i + 1]) or 0
    elseif not kind or not mode or tonumber(till) <= now then
      ended[#ended + 1] = fields[i]
    else
      number = tonumber(number)
      numbers[kind][#numbers[kind] + 1] = number
      entries[kind][number] = { field = fields[i], number = number, mode = mode, till = tonumber(till), since = tonumber(since),
        instance = instance, owner = owner }
    end
  end
  for kind, list in pairs({ h = book.holders, q = book.waiters }) do
    -- numbers by themselves: many times as fast as entries with a function that compares them
    table.sort(numbers[kind])
    for place, number in ipairs(numbers[kind]) do
      list[place] = entries[kind][number]
    end
  end
  if #ended > 0 then
    book.ended = true
    redis.call('HDEL', key, unpack(ended))
  end
  return book
end

-- Writes one holder or waiter.
local function put_entry(book, entry)
  redis.call('HSET', book.key, entry.field, string.format('%s %.0f %.0f %s %s', entry.mode, entry.till, entry.since, entry.instance, entry.owner))
end

-- The entry of an owner in a list, and its place; nil where it has none.
local function entry_of(list, owner)
  for i = 1, #list do
    if list[i].owner == owner then
      return list[i], i
    end
  end
  return nil
end

-- Whether one in this mode can hold it beside those that do.
local function fits(book, mode)
  return #book.holders == 0 or (mode == 'r' and book.holders[1].mode == 'r')
end

-- Sets when the hash goes by itself.
local function keep_book(book, now)
  local latest = now
  for _, list in ipairs({ book.holders, book.waiters }) do
    for i = 1, #list do
      latest = math.max(latest, list[i].till)
    end
  end
  redis.call('PEXPIREAT', book.key, string.format('%.0f', latest + BOOK_KEEP_MS))
end

-- Tells those waiters whose turn it is: the first, and where it reads, the readers right after it. `owner` knows already.
local function wake_next(book, publish, owner)
  local tag = string.sub(book.key, 1, string.find(book.key, '}:w:', 1, true))
  for i = 1, #book.waiters do
    local waiter = book.waiters[i]
    if not fits(book, waiter.mode) or (waiter.mode == 'w' and i > 1) then
      return
    end
    if waiter.owner ~= owner then
      redis.call(publish, tag .. ':wake:' .. waiter.instance, waiter.owner)
    end
    if waiter.mode == 'w' then
      return
    end
  end
end
