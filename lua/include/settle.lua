-- settle: a hash table that has just grown or shrunk keeps two tables and moves a bucket with each look: bytes that the next reads would make
--   wrong. So it is looked at until it is done; `listed` is the length of the longest manifest it has had, bytes, a line of which takes 46.
local function settle(context, listed)
  local looks = {}
  for i = 1, math.min(7000, 32 + math.ceil(listed / 16)) do
    looks[i] = '-'
  end
  redis.call('HMGET', context, unpack(looks))
end
