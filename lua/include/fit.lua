-- fit: the expiry that instances which predict (docs/PREDICTIVE_TTL.md) need together. `needs` is what the context's field `need` holds:
--   words `instance ms`, until when each needs the context, the latest first; those that have passed stay while there is room, because they say
--   that this instance has a voice. Gives the new words, and the new expiry (ms): later where one needs it later; earlier only where the
--   instance saw the present one (`expected`), no more connections listen than instances have a voice, and then not before what any needs.
local FIT_MOST = 16
local function fit(needs, by, mine, exp, expected, now, listeners)
  local entries = { { by, mine } }
  for instance, till in string.gmatch(needs, '(%S+) (%d+)') do
    if instance ~= by then
      entries[#entries + 1] = { instance, tonumber(till) }
    end
  end
  table.sort(entries, function(a, b) return a[2] > b[2] end)
  local heard = #entries <= FIT_MOST or entries[FIT_MOST + 1][2] <= now
  local words = {}
  for i = 1, math.min(#entries, FIT_MOST) do
    words[i] = entries[i][1] .. ' ' .. string.format('%.0f', entries[i][2])
  end
  local latest = entries[1][2]
  if latest > exp or (exp == tonumber(expected) and heard and listeners <= #entries) then
    exp = latest
  end
  return table.concat(words, ' '), exp
end

-- How many connections listen to a context; infinitely many where the user may not ask.
local function listeners_of(publish, channel)
  local command = publish == 'SPUBLISH' and 'SHARDNUMSUB' or 'NUMSUB'
  local reply = redis.pcall('PUBSUB', command, channel)
  return not reply.err and tonumber(reply[2]) or math.huge
end
