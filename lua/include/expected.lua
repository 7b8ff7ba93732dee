-- expected: what a transaction has only read. Needs clock, seal, stored and intent. Reads, never writes.
-- Whether a context is still at the version that was read of it, and nobody is about to change it; nil, or what is refused.
local function expect_check(w, now)
  local stored = stored_fields(w.keys.context)
  local held = intent_of(stored)
  if held then
    return held
  end
  local version = is_live(stored, now) and tonumber(stored.v) or 0
  if version ~= w.version or (w.crc ~= '-' and version > 0 and w.crc ~= stored.crc) then
    return { 'CONFLICT', version, version > 0 and stored.crc or '-' }
  end
  return nil
end
