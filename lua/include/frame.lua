-- frame: the header line of a frame, in either protocol (docs/DELTA_PROTOCOL.md). `f` names its words; `parts` is the number of messages
--   that the payload follows in, 0 where it follows the line itself. The check is over the words: what they announce is found wrong before it is believed.
local function frame_header(f)
  if f.protocol == '1' then
    return string.format('lc1 %s %d %s %s %d %d %s %d %s %s %s\n', f.parts > 0 and 'follows' or f.kind, f.version, f.crc, f.sha, f.length,
      f.base, f.base_crc, f.at, f.exp, f.op, f.by)
  end
  local words = string.format('lc2 %s %s %d %d %s %d %d %s %d %s %s %s ', f.kind, f.encoding, f.parts, f.version, f.crc, f.length, f.base,
    f.base_crc, f.at, f.exp, f.op, f.by)
  return words .. string.sub(redis.sha1hex(words), 1, 8) .. '\n'
end
