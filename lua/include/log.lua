-- log: the last entry and the last version of a context's delta log, and an entry's field by name.
local function entry_field(entry, name)
  local fields = entry[2]
  for i = 1, #fields, 2 do
    if fields[i] == name then
      return fields[i + 1]
    end
  end
  return nil
end

local function entry_version(entry)
  return tonumber(string.match(entry[1], '^(%d+)'))
end

local function log_last_version(log)
  local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)
  return last[1] and entry_version(last[1]) or 0
end

-- The id of one more entry of a version that the log has already: beside it, not after it.
local function next_entry(last, version)
  local had, place = string.match(last and last[1] or '', '^(%d+)-(%d+)$')
  return version .. '-' .. (tonumber(had) == tonumber(version) and tonumber(place) + 1 or 1)
end
