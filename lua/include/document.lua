-- document: compares the bytes of a stored document with its checksum, part by part. Reads, never writes.
--   `f` has sha, len and chunks as they are stored; `from` is the first chunk to look at, counted from 1; `spend(bytes)` counts what was hashed,
--   and answers false where the next chunk has to wait. Answers what is wrong or nil, and the chunk to go on with or nil.
local function check_document(key, f, from, spend)
  local data = from == 1 and redis.call('HGET', key, 'data')
  if not f.chunks and not data then
    return 'no document'
  end
  if data then
    spend(#data)
    if tostring(#data) ~= f.len then
      return 'length'
    end
    return redis.sha1hex(data) ~= f.sha and 'sha1' or nil
  end
  if from == 1 then
    spend(#f.chunks)
    if redis.sha1hex(f.chunks) ~= f.sha then
      return 'list of chunks'
    end
  end
  local at, sum, rest = 0, 0, string.gsub(f.chunks, '(d%d+) (%d+) (%x+)\n', '')
  if rest ~= '' then
    return 'list of chunks'
  end
  for name, length, sha in string.gmatch(f.chunks, '(d%d+) (%d+) (%x+)\n') do
    at, sum = at + 1, sum + tonumber(length)
    if at >= from then
      local chunk = redis.call('HGET', key, name)
      if not chunk or tostring(#chunk) ~= length or redis.sha1hex(chunk) ~= sha then
        return 'chunk ' .. name
      end
      if not spend(#chunk) then
        return nil, at + 1
      end
    end
  end
  return tostring(sum) ~= f.len and 'length' or nil
end
