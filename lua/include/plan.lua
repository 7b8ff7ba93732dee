-- plan: new chunks of a document from the stored ones and from arguments, by string operations, each verified by its SHA-1. Reads, never writes.
--   A plan is lines (src/core/storagePlan.ts writes them):
--     @ <from> <length>                   the lines that follow stand in the manifest instead of these bytes of the old one
--     <name> <length> <sha1> <piece> ...  a chunk to write; piece <source>:<from>:<length>, source a stored chunk, or #<n> for the n-th argument
--     = <name> <length> <sha1>            a stored chunk that stays, listed at this place
--     - <name>                            a stored chunk that goes; those that the new manifest lacks go anyway, and no other may
--   Answers what to write, or nil and why not: `malformed`, or the name of the first chunk whose result is not what it should be; and the stored
--   chunks that the plan takes bytes from.
-- Lua takes fewer than 8,000 values for one command, and a chunk to write is two of them
local PLAN_LINES, PLAN_BYTES, MANIFEST_BYTES = 3500, 16777216, 196608

local function is_chunk_name(name)
  return name == 'data' or string.match(name, '^d%d+$') ~= nil
end

-- The bytes of the chunks in these lines; their names are put into `gone`.
local function take_out(lines, gone)
  local sum = 0
  for name, length in string.gmatch(lines, '([^ \n]+) (%d+) %x+\n') do
    gone[name] = true
    sum = sum + tonumber(length)
  end
  return sum
end

local function ends_line(text, at)
  return at == 0 or string.byte(text, at) == 10
end

-- `args` are those that `#<n>` names. `manifest` is nil where the plan does not build on the stored document, '' where that is whole.
local function run_plan(args, context, plan, manifest)
  local in_place = manifest ~= nil
  manifest = manifest or ''
  local lines, wanted, sources = {}, {}, {}
  for line in string.gmatch(plan, '[^\n]+') do
    lines[#lines + 1] = line
    if #lines > PLAN_LINES then
      return nil, 'malformed', sources
    end
    for name in string.gmatch(line, ' (d%w+):%d+:%d+') do
      if sources[name] == nil then
        sources[name] = false
        wanted[#wanted + 1] = name
      end
    end
  end
  if #wanted > PLAN_LINES then
    return nil, 'malformed', sources
  elseif #wanted > 0 then
    local found = redis.call('HMGET', context, unpack(wanted))
    for i = 1, #wanted do
      sources[wanted[i]] = found[i]
    end
  end
  local built = { names = {}, writes = {}, removed = {}, sources = sources, whole = nil, grown = 0 }
  local parts, at, total, wrong, gone, kept, named = {}, 0, 0, nil, {}, {}, {}
  for i = 1, #lines do
    local line = lines[i]
    local mark = string.sub(line, 1, 2)
    if mark == '@ ' then
      local from, length = string.match(line, '^@ (%d+) (%d+)$')
      from, length = tonumber(from), tonumber(length)
      if not from or from < at or from + length > #manifest or not ends_line(manifest, from) or not ends_line(manifest, from + length) then
        return nil, 'malformed', sources
      end
      parts[#parts + 1] = string.sub(manifest, at + 1, from)
      at = from + length
      built.grown = built.grown - take_out(string.sub(manifest, from + 1, at), gone)
    elseif mark == '- ' then
      local name = string.sub(line, 3)
      if not is_chunk_name(name) then
        return nil, 'malformed', sources
      end
      named[#named + 1] = name
    elseif mark == '= ' then
      local name, length = string.match(line, '^= (d%d+) (%d+) %x+$')
      -- as it was listed: its bytes are not looked at
      if not name or not string.find('\n' .. manifest, '\n' .. string.sub(line, 3) .. '\n', 1, true) then
        return nil, 'malformed', sources
      end
      kept[name] = true
      parts[#parts + 1] = string.sub(line, 3) .. '\n'
      built.grown = built.grown + tonumber(length)
    else
      local name, length, sha, rest = string.match(line, '^(d%w+) (%d+) (%x+)(.*)$')
      if not name or not is_chunk_name(name) then
        return nil, 'malformed', sources
      end
      local pieces, read = {}, 0
      for source, from, count in string.gmatch(rest, ' (#?%w+):(%d+):(%d+)') do
        local text
        if string.sub(source, 1, 1) == '#' then
          text = args[tonumber(string.sub(source, 2)) or 0]
          if not text then
            return nil, 'malformed', sources
          end
        else
          text = sources[source]
        end
        from, count = tonumber(from), tonumber(count)
        total = total + count
        if total > PLAN_BYTES then
          return nil, 'malformed', sources
        end
        -- a stored chunk that is gone or shorter than it was
        if not text or from + count > #text then
          wrong = wrong or name
          text, from, count = '', 0, 0
        end
        pieces[#pieces + 1] = (from == 0 and count == #text) and text or string.sub(text, from + 1, from + count)
        read = read + 1
      end
      local bytes = read == 1 and pieces[1] or table.concat(pieces)
      if #bytes ~= tonumber(length) or redis.sha1hex(bytes) ~= sha then
        wrong = wrong or name
      end
      kept[name] = true
      built.names[#built.names + 1] = name
      built.writes[#built.writes + 1] = name
      built.writes[#built.writes + 1] = bytes
      if name == 'data' then
        built.whole, built.sha = bytes, sha
      else
        parts[#parts + 1] = name .. ' ' .. length .. ' ' .. sha .. '\n'
      end
      built.grown = built.grown + #bytes
    end
  end
  if wrong then
    return nil, wrong, sources
  end
  if built.whole then
    if #built.names > 1 or #parts > 0 then
      return nil, 'malformed', sources
    end
    take_out(manifest, gone)
  else
    parts[#parts + 1] = string.sub(manifest, at + 1)
    built.manifest = table.concat(parts)
    if #built.manifest > MANIFEST_BYTES then
      return nil, 'malformed', sources
    end
    built.sha = redis.sha1hex(built.manifest)
    gone.data = in_place and manifest == '' or nil
  end
  for name in pairs(gone) do
    if not kept[name] then
      built.removed[#built.removed + 1] = name
    end
  end
  for i = 1, #named do
    if not gone[named[i]] or kept[named[i]] then
      return nil, 'malformed', sources
    end
  end
  return built, nil, sources
end

-- What is damaged of a stored document: `chunks` its manifest, `len` its length, or one of these stored chunks; nil where all is what it should be.
local function damaged_part(sources, manifest, sha, length)
  if manifest ~= '' and redis.sha1hex(manifest) ~= sha then
    return 'chunks'
  end
  for name, bytes in pairs(sources) do
    local expected = string.match('\n' .. manifest, '\n' .. name .. ' %d+ (%x+)\n')
    if name == 'data' and manifest == '' then
      expected = sha
    end
    -- what was never there is not missing
    if expected and (not bytes or redis.sha1hex(bytes) ~= expected) then
      return name
    end
  end
  if manifest ~= '' and take_out(manifest, {}) ~= tonumber(length) then
    return 'len'
  end
  return nil
end
