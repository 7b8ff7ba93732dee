-- fit: the expiry that instances which predict (docs/PREDICTIVE_TTL.md) need together. `needs` is what the context's field `need` holds:
--   words `written set`, the expiry that was given (ms) and the one that predictions made of it, then `instance ms` for each, until when it needs
--   the context, the latest first; those that have passed stay while there is room, because they say that this instance has a voice. `mine` is
--   until when `by` needs it, nil for as long as was given. Gives the new words, and the new expiry (ms): later where one needs it later; earlier
--   only where the instance saw the present one (`expected`), no more connections listen than instances have a voice, and then not before
--   what any needs.
local FIT_MOST = 16
local function fit(needs, by, mine, exp, expected, now, listeners)
  local written, set, said = string.match(needs, '^(%d+) (%d+)(.*)$')
  -- an expiry that is not the one that was made here was given since
  written = tonumber(set) == exp and tonumber(written) or exp
  local entries = { { by, mine or math.max(written, exp) } }
  for instance, till in string.gmatch(said or '', '(%S+) (%d+)') do
    if instance ~= by then
      entries[#entries + 1] = { instance, tonumber(till) }
    end
  end
  table.sort(entries, function(a, b) return a[2] > b[2] end)
  local heard = #entries <= FIT_MOST or entries[FIT_MOST + 1][2] <= now
  local latest = entries[1][2]
  if latest > exp or (exp == tonumber(expected) and heard and listeners <= #entries) then
    exp = latest
  end
  local words = { string.format('%.0f %.0f', written, exp) }
  for i = 1, math.min(#entries, FIT_MOST) do
    words[i + 1] = entries[i][1] .. ' ' .. string.format('%.0f', entries[i][2])
  end
  return table.concat(words, ' '), exp
end

-- How many connections listen to a context; infinitely many where the user may not ask.
local function listeners_of(publish, channel)
  local command = publish == 'SPUBLISH' and 'SHARDNUMSUB' or 'NUMSUB'
  local reply = redis.pcall('PUBSUB', command, channel)
  return not reply.err and tonumber(reply[2]) or math.huge
end
