-- fingerprint: stands for the fields of a context as `stored_fields` gives them, so that a repair can tell whether they are still what it was made for.
local function fingerprint(f)
  local values = {}
  for i, name in ipairs({ 'v', 'crc', 'sha', 'len', 'at', 'exp', 'seal', 'q', 'op', 'fence', 'intent', 'chunks' }) do
    values[i] = f[name] or ''
  end
  return redis.sha1hex(table.concat(values, '\n'))
end
