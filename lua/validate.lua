#!lua flags=no-writes
-- validate: whether contexts are still as a transaction has read them, and nobody else is about to change them.
-- KEYS[*] hash    {tag}:c:<id>, the contexts
-- ARGV[1] string  words, for each: version (0: none) crc|-
-- ARGV[2] string  the guard over KEYS and ARGV[1] (lua/include/guard.lua)
-- Returns: VALID | REFUSED member why | why is one of CONFLICT version crc or LOCKED txn deadline(ms) part home | GARBLED: not what was sent
-- Publishes: nothing.
-- Atomic because: all of them must be so at one moment.
-- @include guard
-- @include clock
-- @include seal
-- @include stored
-- @include intent
-- @include expected
local sent = { unpack(KEYS) }
sent[#sent + 1] = ARGV[1]
if not arrived(ARGV[2], unpack(sent)) then
  return answered({ 'GARBLED' })
end
local now, i = clock_ms(), 0
for version, crc in string.gmatch(ARGV[1], '(%d+) (%S+)') do
  i = i + 1
  local refused = expect_check({ keys = { context = KEYS[i] }, version = tonumber(version), crc = crc }, now)
  if refused then
    return answered({ 'REFUSED', i, unpack(refused) })
  end
end
return answered({ 'VALID' })
