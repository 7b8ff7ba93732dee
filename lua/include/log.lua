-- log: the fields of an entry of a context's delta log, and where the log ends.
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

-- The last entry of a log, whether that is a tombstone, and its kind. Nil, false and nil where there is no log.
local function log_end(log)
  local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
  local kind = last and entry_field(last, 'kind')
  return last, kind == 'deleted' or kind == 'expired', kind
end

-- Version and place of the last id that a log has given, whether its entry is still there or was dropped: no smaller one can be added.
local function log_last_id(log)
  if redis.call('EXISTS', log) == 0 then
    return 0, 0
  end
  local info = redis.call('XINFO', 'STREAM', log)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      local version, place = string.match(info[i + 1], '^(%d+)-(%d+)$')
      return tonumber(version), tonumber(place)
    end
  end
end

local function log_last_version(log)
  return (log_last_id(log))
end

-- The id of one more entry of a version that the log has already: beside it, not after it.
local function next_entry(log, version)
  local had, place = log_last_id(log)
  return version .. '-' .. (had == tonumber(version) and place + 1 or 1)
end
