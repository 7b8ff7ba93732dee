-- guard: whether keys and arguments are those that were sent, and a word at the end of an answer by which the caller knows the same of it.
--   RESP has no checksum: a flipped bit in a key would write one context's document under another's name. The guard is `<salt>:<sum>`, the sum
--   the first 16 digits of the SHA-1 over the salt, all keys and the arguments named, line by line. Arguments that have a checksum of their own
--   (documents, chunks) are left out. The salt is another one for each call, so that an answer is only taken by the call that it is for.
local guard_salt = ''

local function arrived(guard, ...)
  local salt, sum = string.match(guard or '', '^([^:]*):(.*)$')
  guard_salt = salt or ''
  return string.sub(redis.sha1hex(guard_salt .. '\n' .. table.concat({ ... }, '\n')), 1, 16) == sum
end

-- The answer with its check over all that is in it so far.
local function answered(answer)
  answer[#answer + 1] = string.sub(redis.sha1hex(guard_salt .. ' ' .. table.concat(answer, ' ')), 1, 8)
  return answer
end
